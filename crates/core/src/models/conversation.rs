//! A digest of what a conversation begins with: its system prompt, its tools and the first message of its user. It
//! stays the same from turn to turn, so that all turns can go to the target whose cache has the beginning.

/// FNV-1a, 64 bits: the digest protects nothing, and must only be the same everywhere.
pub const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;
/// Only what lies before this byte counts.
const MAX_BYTES: u64 = 256 * 1024;
/// Claude Code's first block of the system prompt, which differs from call to call.
const BILLING: &[u8] = b"\"x-anthropic-billing-header";

pub fn hash(mut state: u64, bytes: &[u8]) -> u64 {
    for byte in bytes {
        state = (state ^ u64::from(*byte)).wrapping_mul(PRIME);
    }
    state
}

/// The parts that are digested, by the members that hold them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    System,
    Tools,
    Messages,
}

fn part(member: &str) -> Option<Part> {
    match member {
        "system" | "instructions" => Some(Part::System),
        "tools" | "functions" => Some(Part::Tools),
        "messages" | "input" => Some(Part::Messages),
        _ => None,
    }
}

/// An item of one of these lists: a block, a tool, a message.
#[derive(Debug, Clone, Copy)]
struct Item {
    digest: u64,
    is_user: bool,
    is_billing: bool,
}

impl Default for Item {
    fn default() -> Self {
        Self { digest: BASIS, is_user: false, is_billing: false }
    }
}

/// What a conversation begins with, as digests.
#[derive(Debug, Clone, Copy, Default)]
struct Beginning {
    system: Option<u64>,
    tools: Option<u64>,
    first: Option<u64>,
    has_user: bool,
}

impl Beginning {
    /// Adds an item, if it belongs to the beginning of the conversation.
    fn add(&mut self, part: Option<Part>, item: Item) {
        let into = match part {
            Some(Part::System) if !item.is_billing => &mut self.system,
            Some(Part::Tools) => &mut self.tools,
            Some(Part::Messages) if !self.has_user => {
                self.has_user = item.is_user;
                &mut self.first
            }
            Some(Part::System | Part::Messages) | None => return,
        };
        *into = Some(hash(into.unwrap_or(BASIS), &item.digest.to_le_bytes()));
    }

    fn digest(self) -> Option<u64> {
        let parts = [self.system, self.tools, self.first];
        parts
            .iter()
            .any(Option::is_some)
            .then(|| parts.iter().fold(BASIS, |digest, part| hash(digest, &part.unwrap_or_default().to_le_bytes())))
    }
}

#[derive(Debug, Default)]
pub struct Conversation {
    /// The member of the body that is being read.
    part: Option<Part>,
    item: Item,
    /// The digest of the item with the name that was read last. It counts if its value begins in time.
    named: Option<u64>,
    /// Where the next byte of the value that is being read is.
    at: u64,
    /// The beginning of the string that is being read, as far as it decides.
    start: Vec<u8>,
    /// The member of an item that is being read is its role.
    is_role: bool,
    /// Inside the value of `cache_control`, which moves from turn to turn: the depth at which it began.
    ignored_at: Option<usize>,
    ignores_next: bool,
    is_over: bool,
    beginning: Beginning,
}

impl Conversation {
    /// The digest of what was read so far; `None`: nothing of a conversation.
    pub fn digest(&self) -> Option<u64> {
        let mut beginning = self.beginning;
        if self.item.digest != BASIS {
            // It was not read to its end, at least not in time.
            let is_billing = self.item.is_billing || self.start == BILLING;
            beginning.add(self.part, Item { is_billing, ..self.item });
        }
        beginning.digest()
    }

    fn ignores(&self) -> bool {
        self.is_over || self.part.is_none() || self.ignored_at.is_some()
    }

    pub fn name(&mut self, depth: usize, name: &str) {
        if depth == 1 && !self.is_over {
            self.part = part(name);
            self.item = Item::default();
            return;
        }
        if self.ignores() {
            return;
        }
        self.ignores_next = name == "cache_control";
        self.is_role = depth == 3 && name == "role";
        self.named = (!self.ignores_next).then(|| hash(self.item.digest, name.as_bytes()));
    }

    /// The item ends.
    fn take_item(&mut self) {
        let item = std::mem::take(&mut self.item);
        self.beginning.add(self.part, item);
    }

    pub fn begin(&mut self, depth: usize, first: u8, at: u64) {
        self.is_over |= at >= MAX_BYTES;
        if self.is_over {
            return;
        }
        self.at = at;
        self.start.clear();
        if std::mem::take(&mut self.ignores_next) {
            self.ignored_at = Some(depth);
        }
        let named = self.named.take();
        if !self.ignores() {
            self.item.digest = hash(named.unwrap_or(self.item.digest), &[first]);
        }
    }

    pub fn scalar(&mut self, _: usize, bytes: &[u8]) {
        if self.ignores() {
            return;
        }
        let left = usize::try_from(MAX_BYTES.saturating_sub(self.at)).unwrap_or(usize::MAX);
        self.at += bytes.len() as u64;
        self.is_over = bytes.len() > left;
        let bytes = bytes.get(..left).unwrap_or(bytes);
        self.item.digest = hash(self.item.digest, bytes);
        if self.start.len() < BILLING.len() {
            let missing = BILLING.len() - self.start.len();
            self.start.extend_from_slice(bytes.get(..missing).unwrap_or(bytes));
        }
    }

    pub fn end(&mut self, depth: usize) {
        if self.ignored_at == Some(depth) {
            self.ignored_at = None;
            return;
        }
        if self.ignores() {
            return;
        }
        if self.start == BILLING {
            self.item.is_billing = true;
        }
        if std::mem::take(&mut self.is_role) {
            self.item.is_user = self.start == b"\"user\"";
        }
        self.start.clear();
        // An item of a list; or the whole, where it is no list.
        if depth == 2 {
            self.take_item();
        }
        if depth == 1 {
            if self.item.digest != BASIS {
                self.item.is_user = true;
                self.take_item();
            }
            self.part = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::request_body::BodyReader;
    use super::MAX_BYTES;

    fn digest(text: &str) -> Option<u64> {
        let mut reader = BodyReader::default();
        reader.push(text.as_bytes()).unwrap();
        reader.head().unwrap().conversation
    }

    #[test]
    fn turns_of_a_conversation_have_one_digest() {
        let first = digest(
            r#"{"model":"a","system":[{"type":"text","text":"x-anthropic-billing-header: 1"},
            {"type":"text","text":"Be kind.","cache_control":{"type":"ephemeral"}}],"tools":[{"name":"t"}],
            "messages":[{"role":"user","content":
                [{"type":"text","text":"Hi","cache_control":{"type":"ephemeral"}}]}]}"#,
        );
        let second = digest(
            r#"{"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]},{"role":"assistant",
            "content":"Hello"},{"role":"user","content":"More"}],"model":"b","tools":[{"name":"t"}],
            "system":[{"type":"text","text":"x-anthropic-billing-header: 2"},{"type":"text","text":"Be kind."}]}"#,
        );
        assert!(first.is_some());
        assert_eq!(first, second);
    }

    #[test]
    fn other_beginnings_have_other_digests() {
        let texts = [
            r#"{"messages":[{"role":"system","content":"a"},{"role":"user","content":"b"}]}"#,
            r#"{"messages":[{"role":"system","content":"c"},{"role":"user","content":"b"}]}"#,
            r#"{"messages":[{"role":"system","content":"a"},{"role":"user","content":"c"}]}"#,
            r#"{"messages":[{"role":"user","content":"a"},{"role":"user","content":"b"}]}"#,
            r#"{"messages":[{"role":"user","content":"b"}],"tools":[{"name":"t"}]}"#,
            r#"{"system":"a","messages":[{"role":"user","content":"b"}]}"#,
            r#"{"input":"b"}"#,
            r#"{"input":"b","instructions":"a"}"#,
        ];
        let digests: std::collections::HashSet<_> = texts.iter().map(|text| digest(text).unwrap()).collect();
        assert_eq!(digests.len(), texts.len());
        assert_eq!(digest(r#"{"model":"a","temperature":1}"#), None);
    }

    #[test]
    fn only_the_beginning_of_a_body_counts() {
        let with = |end: &str| {
            let long = "x".repeat(300_000);
            digest(&format!(r#"{{"messages":[{{"role":"user","content":"hi"}}],"a":"{long}","system":"{end}"}}"#))
        };
        assert_eq!(with("a"), with("b"));
        assert!(with("a").is_some());
    }

    #[test]
    fn a_text_counts_exactly_as_far_as_the_beginning_of_the_body() {
        let before = r#"{"messages":[{"role":"user","content":"#;
        let with = |at: u64, piece: usize| {
            let mut text = vec![b'x'; 300_000 - before.len()];
            text[0] = b'"';
            text[at as usize - before.len()] = b'y';
            let body = [before.as_bytes(), &text, br#""}]}"#].concat();
            let mut reader = BodyReader::default();
            body.chunks(piece).for_each(|piece| reader.push(piece).unwrap());
            reader.head().unwrap().conversation
        };
        let unchanged = with(MAX_BYTES + 10_000, 300_100);
        for piece in [1_000, 1 << 15, 262_143, 262_145] {
            assert_eq!(with(MAX_BYTES, piece), unchanged, "{piece}");
            assert_eq!(with(MAX_BYTES - 1, piece), with(MAX_BYTES - 1, 300_100), "{piece}");
            assert_ne!(with(MAX_BYTES - 1, piece), unchanged, "{piece}");
        }
    }

    #[test]
    fn a_body_that_was_read_beyond_the_beginning_has_its_final_digest() {
        let content = "y".repeat(1_000);
        let message = format!(r#"{{"role":"user","content":"{content}"}},"#);
        let body = format!(r#"{{"system":"be kind","messages":[{}1]}}"#, message.repeat(300));
        let mut reader = BodyReader::default();
        let (start, rest) = body.as_bytes().split_at(MAX_BYTES as usize);
        reader.push(start).unwrap();
        let digest = reader.head().unwrap().conversation;
        for piece in rest.chunks(7) {
            reader.push(piece).unwrap();
            assert_eq!(reader.head().unwrap().conversation, digest);
        }
    }
}
