//! Takes out of a body that is converted what a conversion only moves, and puts it back once the rest is converted. The
//! ends of long strings, which are pictures and documents, stay with the platform. Schemas keep the order of their
//! members, in which models write them.

use super::request_body::{Span, unescaped};
use super::scanner::{Scanner, Sink};

/// A longer string is taken out, in bytes.
const LONG: u64 = 64 * 1024;
/// How much of its beginning stays, in bytes: the type of a data URL is in it.
const KEPT: u64 = 512;
/// The members whose strings may be taken out: a conversion moves them, and never reads their ends.
const MEMBERS: [&str; 6] = ["url", "image_url", "data", "file_data", "text", "content"];

/// The members whose objects are schemas.
const SCHEMAS: [&str; 3] = ["parameters", "input_schema", "schema"];

/// What is taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    pub at: Span,
    /// It is a whole value, and no end of a string.
    pub is_schema: bool,
}

/// Finds what is taken out, in the order of the places.
#[derive(Debug, Default)]
pub struct LongStrings {
    scanner: Scanner,
    seen: Seen,
}

#[derive(Debug, Default)]
struct Seen {
    is_movable: bool,
    /// Inside the arguments of a tool: the depth at which they began. They are written as a text in the other format.
    arguments_at: Option<usize>,
    next_are_arguments: bool,
    next_is_schema: bool,
    /// Inside a schema: its depth, and where it began.
    schema_at: Option<(usize, u64)>,
    /// The string that is being read.
    open: Option<Open>,
    found: Vec<Taken>,
}

#[derive(Debug)]
struct Open {
    from: u64,
    /// Where it can be cut: between two plain characters.
    cut_at: Option<u64>,
    read: u64,
    /// Plain bytes since the last escape, or the last character beyond ASCII.
    plain: u64,
}

impl Sink for Seen {
    fn name(&mut self, depth: usize, name: &[u8]) {
        let name = unescaped(name);
        self.is_movable = MEMBERS.contains(&&*name);
        self.next_are_arguments = name == "input" && depth > 1;
        self.next_is_schema = SCHEMAS.contains(&&*name);
    }

    fn begin(&mut self, depth: usize, first: u8, at: u64) {
        if std::mem::take(&mut self.next_are_arguments) && self.arguments_at.is_none() {
            self.arguments_at = Some(depth);
        }
        let is_schema = std::mem::take(&mut self.next_is_schema) && first == b'{';
        if is_schema && self.arguments_at.is_none() && self.schema_at.is_none() {
            self.schema_at = Some((depth, at));
        }
        let is_inside = self.arguments_at.is_some() || self.schema_at.is_some();
        let is_movable = std::mem::take(&mut self.is_movable) && !is_inside;
        self.open = (first == b'"' && is_movable).then_some(Open { from: at, cut_at: None, read: 0, plain: 0 });
    }

    fn scalar(&mut self, _: usize, bytes: &[u8]) {
        let Some(open) = &mut self.open else { return };
        for byte in bytes {
            if open.cut_at.is_some() {
                break;
            }
            let is_plain = byte.is_ascii() && *byte != b'\\';
            open.plain = if is_plain { open.plain + 1 } else { 0 };
            open.read += 1;
            // An escape has at most twelve bytes.
            if open.read >= KEPT && open.plain > 16 {
                open.cut_at = Some(open.from + open.read);
            }
        }
    }

    fn end(&mut self, depth: usize, at: u64) {
        if self.arguments_at == Some(depth) {
            self.arguments_at = None;
        }
        if let Some((_, from)) = self.schema_at.filter(|(opened, _)| *opened == depth) {
            self.schema_at = None;
            self.found.push(Taken { at: Span { from, to: at }, is_schema: true });
        }
        if let Some(Open { from, cut_at: Some(cut_at), .. }) = self.open.take()
            && at - from > LONG
        {
            // Without the closing quote.
            self.found.push(Taken { at: Span { from: cut_at, to: at - 1 }, is_schema: false });
        }
    }
}

impl LongStrings {
    /// Takes a piece of a body that is known to be JSON.
    pub fn push(&mut self, piece: &[u8]) {
        // It was checked before.
        let _ = self.scanner.push(piece, &mut self.seen);
    }

    pub fn found(&self) -> &[Taken] {
        &self.seen.found
    }
}

/// What stands for a part that was taken out, as written inside a string of JSON. `nonce` is unknown to the author
/// of the body.
pub fn mark(nonce: u64, number: usize) -> String {
    format!("\\u0001{nonce:016x}:{number}\\u0001")
}

/// A part of a text with marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<'t> {
    Text(&'t str),
    /// What was taken out with this number.
    Taken(usize),
}

/// Splits a converted text at its marks. The quotes around the mark of a schema are left out.
pub fn parts<'t>(text: &'t str, nonce: u64, taken: &[Taken]) -> Vec<Part<'t>> {
    let begins = format!("\\u0001{nonce:016x}:");
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once(&begins) {
        let Some((number, behind)) = after.split_once("\\u0001") else { break };
        let number: usize = number.parse().unwrap_or(usize::MAX);
        let is_schema = taken.get(number).is_some_and(|taken| taken.is_schema);
        let unquoted = before.strip_suffix('"').zip(behind.strip_prefix('"')).filter(|_| is_schema);
        let (before, behind) = unquoted.unwrap_or((before, behind));
        parts.extend([Part::Text(before), Part::Taken(number)]);
        rest = behind;
    }
    parts.push(Part::Text(rest));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(u64, u64)> {
        let mut long = LongStrings::default();
        for piece in text.as_bytes().chunks(999) {
            long.push(piece);
        }
        long.found().iter().map(|taken| (taken.at.from, taken.at.to)).collect()
    }

    #[test]
    fn long_strings_are_cut_behind_their_beginnings() {
        let picture = format!("data:image/png;base64,{}", "A".repeat(100_000));
        let text = format!(r#"{{"messages":[{{"content":[{{"image_url":{{"url":"{picture}"}}}}]}}],"a":1}}"#);
        let begins = text.find("data:").unwrap() as u64 - 1;
        assert_eq!(found(&text), [(begins + KEPT, begins + 1 + picture.len() as u64)]);
        let short = text.replace(&picture, &"A".repeat(60_000));
        assert!(found(&short).is_empty());
    }

    #[test]
    fn a_string_is_not_cut_inside_an_escape_or_a_character() {
        let escapes = "\\u00e9".repeat(20_000);
        assert!(found(&format!(r#"{{"text":"{escapes}"}}"#)).is_empty());
        assert!(found(&format!(r#"{{"text":"{}"}}"#, "é".repeat(60_000))).is_empty());
        let later = format!(r#"{{"text":"{}{}"}}"#, "é".repeat(400), "a".repeat(90_000));
        let (from, _) = found(&later)[0];
        assert!(later.is_char_boundary(from as usize) && from > 800);
    }

    #[test]
    fn arguments_of_tools_and_other_members_stay() {
        let long = "a".repeat(100_000);
        assert!(found(&format!(r#"{{"messages":[{{"content":[{{"input":{{"text":"{long}"}}}}]}}]}}"#)).is_empty());
        assert!(found(&format!(r#"{{"arguments":"{long}"}}"#)).is_empty());
        assert_eq!(found(&format!(r#"{{"input":[{{"content":"{long}"}}]}}"#)).len(), 1);
    }

    #[test]
    fn a_text_is_split_at_its_marks() {
        let text = format!(r#"{{"a":"x{}","b":"{}"}}"#, mark(7, 0), mark(7, 12));
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        let again = serde_json::from_str::<serde_json::Value>(&text).unwrap().to_string();
        assert_eq!(
            parts(&again, 7, &[]),
            [Part::Text(r#"{"a":"x"#), Part::Taken(0), Part::Text(r#"","b":""#), Part::Taken(12), Part::Text(r#""}"#),]
        );
        assert_eq!(parts(&again, 8, &[]), [Part::Text(again.as_str())]);
    }

    #[test]
    fn schemas_are_taken_out_whole() {
        let schema = r#"{"type":"object","properties":{"z":{"type":"string"},"schema":{"schema":{}}}}"#;
        let text = format!(
            r#"{{"tools":[{{"input_schema":{schema},"name":"a"}},{{"parameters": {schema} }}],
            "messages":[{{"content":[{{"input":{{"schema":{schema}}}}}]}}],"schema":"none","parameters":null}}"#
        );
        let places: Vec<usize> = text.match_indices(schema).map(|(at, _)| at).collect();
        let whole = |at: usize| (at as u64, (at + schema.len()) as u64);
        assert_eq!(found(&text), [whole(places[0]), whole(places[1])]);
        let taken = [Taken { at: Span { from: 0, to: 1 }, is_schema: true }];
        let marked = format!(r#"{{"a":"{}"}}"#, mark(7, 0));
        assert_eq!(parts(&marked, 7, &taken), [Part::Text(r#"{"a":"#), Part::Taken(0), Part::Text("}")]);
    }
}
