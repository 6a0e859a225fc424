//! What MCP servers send to clients, checked against the specification's schema: valid values pass byte for byte.
//!
//! Strict clients check a whole list, or a whole result, against that schema, so a single member of one item would
//! invalidate all of it. A `null` member is treated as absent and removed. Other invalid values are reported in a list;
//! in a result they pass as they came, since nothing else would be lost. Unknown members pass.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::schema_root;
use crate::base::json::{self, kind};
use crate::base::time::Timestamp;

/// The type of a value.
#[derive(Debug, Clone, Copy)]
enum ValueType {
    Text,
    Flag,
    /// From 0 to 1.
    Share,
    Number,
    /// A point in time. An invalid one is removed.
    Date,
    OneOf(&'static [&'static str]),
    /// Any object.
    Map,
    Object(&'static [Member]),
    List(&'static ValueType),
    /// An object with one of these values of `type`.
    Typed(&'static [(&'static str, &'static [Member])]),
    /// One of these, or a list of them.
    OneOrMany(&'static ValueType),
    /// A JSON Schema; that of arguments must describe an object.
    Schema {
        arguments: bool,
    },
}

#[derive(Debug, Clone, Copy)]
struct Member {
    name: &'static str,
    is: ValueType,
    required: bool,
}

const fn needs(name: &'static str, is: ValueType) -> Member {
    Member { name, is, required: true }
}

const fn may(name: &'static str, is: ValueType) -> Member {
    Member { name, is, required: false }
}

const TEXTS: ValueType = ValueType::List(&ValueType::Text);
const META: Member = may("_meta", ValueType::Map);
const TITLE: Member = may("title", ValueType::Text);
const DESCRIPTION: Member = may("description", ValueType::Text);
const MIME: Member = may("mimeType", ValueType::Text);
const THEME: ValueType = ValueType::OneOf(&["light", "dark"]);
const ICON: ValueType =
    ValueType::Object(&[needs("src", ValueType::Text), MIME, may("sizes", TEXTS), may("theme", THEME)]);
const ICONS: Member = may("icons", ValueType::List(&ICON));
const ROLE: ValueType = ValueType::OneOf(&["user", "assistant"]);
const ANNOTATIONS: Member = may(
    "annotations",
    ValueType::Object(&[
        may("audience", ValueType::List(&ROLE)),
        may("priority", ValueType::Share),
        may("lastModified", ValueType::Date),
    ]),
);
const HINTS: ValueType = ValueType::Object(&[
    TITLE,
    may("readOnlyHint", ValueType::Flag),
    may("destructiveHint", ValueType::Flag),
    may("idempotentHint", ValueType::Flag),
    may("openWorldHint", ValueType::Flag),
]);
const EXECUTION: ValueType =
    ValueType::Object(&[may("taskSupport", ValueType::OneOf(&["required", "optional", "forbidden"]))]);
const TOOL: &[Member] = &[
    needs("name", ValueType::Text),
    TITLE,
    DESCRIPTION,
    ICONS,
    needs("inputSchema", ValueType::Schema { arguments: true }),
    may("outputSchema", ValueType::Schema { arguments: false }),
    may("annotations", HINTS),
    may("execution", EXECUTION),
    META,
];
const URI: Member = needs("uri", ValueType::Text);
const RESOURCE: &[Member] = &[
    needs("name", ValueType::Text),
    URI,
    TITLE,
    DESCRIPTION,
    ICONS,
    MIME,
    may("size", ValueType::Number),
    ANNOTATIONS,
    META,
];
const TEMPLATE: &[Member] = &[
    needs("name", ValueType::Text),
    needs("uriTemplate", ValueType::Text),
    TITLE,
    DESCRIPTION,
    ICONS,
    MIME,
    ANNOTATIONS,
    META,
];
const ARGUMENT: ValueType =
    ValueType::Object(&[needs("name", ValueType::Text), TITLE, DESCRIPTION, may("required", ValueType::Flag)]);
const PROMPT: &[Member] =
    &[needs("name", ValueType::Text), TITLE, DESCRIPTION, ICONS, may("arguments", ValueType::List(&ARGUMENT)), META];

const CONTENTS: ValueType =
    ValueType::Object(&[URI, MIME, may("text", ValueType::Text), may("blob", ValueType::Text), META]);
const MEDIA: &[Member] = &[needs("data", ValueType::Text), needs("mimeType", ValueType::Text), ANNOTATIONS, META];
const TEXT: &[Member] = &[needs("text", ValueType::Text), ANNOTATIONS, META];
const EMBEDDED: &[Member] = &[needs("resource", CONTENTS), ANNOTATIONS, META];
const BLOCK: ValueType = ValueType::Typed(&[
    ("text", TEXT),
    ("image", MEDIA),
    ("audio", MEDIA),
    ("resource", EMBEDDED),
    ("resource_link", RESOURCE),
    ("tool_use", &[needs("name", ValueType::Text), needs("id", ValueType::Text), needs("input", ValueType::Map), META]),
    ("tool_result", &[needs("toolUseId", ValueType::Text), may("isError", ValueType::Flag), META]),
]);
const CALLED: &[Member] = &[may("content", ValueType::List(&BLOCK)), may("isError", ValueType::Flag), META];
const READ: &[Member] = &[needs("contents", ValueType::List(&CONTENTS)), META];
const SPOKEN: ValueType = ValueType::Object(&[needs("role", ROLE), needs("content", BLOCK)]);
const GOT: &[Member] = &[DESCRIPTION, needs("messages", ValueType::List(&SPOKEN)), META];
const VALUES: ValueType =
    ValueType::Object(&[needs("values", TEXTS), may("total", ValueType::Number), may("hasMore", ValueType::Flag)]);
const COMPLETED: &[Member] = &[needs("completion", VALUES), META];
const PAGE: &[Member] = &[may("nextCursor", ValueType::Text), META];

const PROGRESS: &[Member] =
    &[needs("progress", ValueType::Number), may("total", ValueType::Number), may("message", ValueType::Text), META];
const LOGGED: &[Member] = &[may("logger", ValueType::Text), META];
const HINTED: ValueType = ValueType::Object(&[may("name", ValueType::Text)]);
const PREFERENCES: ValueType = ValueType::Object(&[
    may("hints", ValueType::List(&HINTED)),
    may("costPriority", ValueType::Share),
    may("speedPriority", ValueType::Share),
    may("intelligencePriority", ValueType::Share),
]);
const SAMPLING_MESSAGE: ValueType =
    ValueType::Object(&[needs("role", ROLE), needs("content", ValueType::OneOrMany(&BLOCK)), META]);
const SAMPLING: &[Member] = &[
    needs("messages", ValueType::List(&SAMPLING_MESSAGE)),
    may("modelPreferences", PREFERENCES),
    may("systemPrompt", ValueType::Text),
    may("includeContext", ValueType::OneOf(&["none", "thisServer", "allServers"])),
    may("temperature", ValueType::Number),
    needs("maxTokens", ValueType::Number),
    may("stopSequences", TEXTS),
    may("metadata", ValueType::Map),
    may("tools", ValueType::List(&ValueType::Object(TOOL))),
    may("toolChoice", ValueType::Object(&[may("mode", ValueType::OneOf(&["auto", "required", "none"]))])),
    META,
];
const ELICITATION: &[Member] = &[
    may("mode", ValueType::OneOf(&["form", "url"])),
    needs("message", ValueType::Text),
    may("requestedSchema", ValueType::Schema { arguments: true }),
    may("url", ValueType::Text),
    may("elicitationId", ValueType::Text),
    META,
];
const DECLARED: ValueType =
    ValueType::Object(&[may("listChanged", ValueType::Flag), may("subscribe", ValueType::Flag)]);

/// Why a value is invalid: the member, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    at: String,
    wrong: String,
}

impl Misfit {
    pub(super) fn new(wrong: impl Into<String>) -> Self {
        Self { at: String::new(), wrong: wrong.into() }
    }

    pub(super) fn expected(what: &str, found: &RawValue) -> Self {
        Self::new(format!("is {}, not {what}", kind(found)))
    }

    pub(super) fn within(mut self, name: &str) -> Self {
        let name = if name.len() > 64 { "…" } else { name };
        let joined = if self.at.is_empty() || self.at.starts_with('[') { "" } else { "." };
        self.at = format!("{name}{joined}{}", self.at);
        self
    }
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.at.is_empty() {
            true => f.write_str(&self.wrong),
            false => write!(f, "its {} {}", self.at, self.wrong),
        }
    }
}

/// The value to pass on; `None` if it passes unchanged.
type FitResult = Result<Option<String>, Misfit>;

/// How values are checked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strictness {
    /// Invalid values are reported.
    Strict,
    /// Invalid values pass, without `null` members.
    Kind,
}

fn as_text(raw: &RawValue) -> Option<Cow<'_, str>> {
    #[derive(serde::Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str::<Text<'_>>(raw.get()).ok().map(|Text(text)| text)
}

fn check(fits: bool, expected: &str, found: &RawValue) -> FitResult {
    if fits { Ok(None) } else { Err(Misfit::expected(expected, found)) }
}

impl Strictness {
    fn at(self, raw: &RawValue, is: ValueType) -> FitResult {
        let normalized = match is {
            ValueType::Text => check(raw.get().starts_with('"'), "a string", raw),
            ValueType::Flag => check(matches!(raw.get(), "true" | "false"), "true or false", raw),
            ValueType::Number => {
                check(raw.get().starts_with(|c: char| c == '-' || c.is_ascii_digit()), "a number", raw)
            }
            ValueType::Share => {
                let share = serde_json::from_str::<f64>(raw.get()).is_ok_and(|share| (0.0..=1.0).contains(&share));
                if share { Ok(None) } else { Err(Misfit::new("is not a number from 0 to 1")) }
            }
            ValueType::Date => check(raw.get().starts_with('"'), "a string", raw),
            ValueType::OneOf(words) => match as_text(raw).is_some_and(|text| words.contains(&&*text)) {
                true => Ok(None),
                false => Err(Misfit::new(format!("is not one of {}", words.join(", ")))),
            },
            ValueType::Map => check(raw.get().starts_with('{'), "an object", raw),
            ValueType::Object(members) => self.members(raw, members),
            ValueType::List(of) => self.list(raw, *of),
            ValueType::OneOrMany(of) if raw.get().starts_with('[') => self.list(raw, *of),
            ValueType::OneOrMany(of) => self.at(raw, *of),
            ValueType::Typed(kinds) => self.typed(raw, kinds),
            ValueType::Schema { arguments } => schema_root::normalized(raw, arguments),
        };
        if self == Strictness::Kind { Ok(normalized.unwrap_or(None)) } else { normalized }
    }

    fn members(self, raw: &RawValue, known: &[Member]) -> FitResult {
        let Some(members) = json::members(raw.get()) else { return Err(Misfit::expected("an object", raw)) };
        let missing = known.iter().find(|member| {
            member.required && !members.iter().any(|(name, value)| name == member.name && value.get() != "null")
        });
        if let Some(member) = missing.filter(|_| self == Strictness::Strict) {
            return Err(Misfit::new(format!("has no {}", member.name)));
        }
        let mut kept: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::with_capacity(members.len());
        let mut changed = false;
        for (name, value) in members {
            let Some(member) = known.iter().find(|member| member.name == name) else {
                kept.push((name, value.get().into()));
                continue;
            };
            let unread = matches!(member.is, ValueType::Date) && as_text(value).is_some_and(|text| !is_date(&text));
            if unread || value.get() == "null" && !member.required {
                changed = true;
                continue;
            }
            if value.get() == "null" && matches!(member.is, ValueType::List(_)) {
                // Some languages write an empty list as `null`.
                changed = true;
                kept.push((name, "[]".into()));
                continue;
            }
            let normalized = self.at(value, member.is).map_err(|misfit| misfit.within(member.name))?;
            changed |= normalized.is_some();
            kept.push((name, normalized.map_or_else(|| value.get().into(), Cow::Owned)));
        }
        Ok(changed.then(|| json::object(&kept)))
    }

    fn list(self, raw: &RawValue, of: ValueType) -> FitResult {
        let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(raw.get()) else {
            return Err(Misfit::expected("an array", raw));
        };
        let normalized: Vec<Option<String>> = items
            .iter()
            .enumerate()
            .map(|(at, item)| self.at(item, of).map_err(|misfit| misfit.within(&format!("[{at}]"))))
            .collect::<Result<_, _>>()?;
        if normalized.iter().all(Option::is_none) {
            return Ok(None);
        }
        let texts: Vec<&str> = items
            .iter()
            .zip(&normalized)
            .map(|(item, normalized)| normalized.as_deref().unwrap_or(item.get()))
            .collect();
        Ok(Some(format!("[{}]", texts.join(","))))
    }

    fn typed(self, raw: &RawValue, kinds: &[(&str, &[Member])]) -> FitResult {
        let Some(members) = json::members(raw.get()) else { return Err(Misfit::expected("an object", raw)) };
        let kind = members.iter().find(|(name, _)| name == "type").and_then(|(_, value)| as_text(value));
        let known = kinds.iter().find(|(name, _)| kind.as_deref() == Some(*name));
        match known {
            Some((_, known)) => self.members(raw, known),
            None => Err(Misfit::new("has an unknown type")),
        }
    }
}

/// A date and time with an offset, as clients read them (RFC 3339; seconds may be missing).
fn is_date(text: &str) -> bool {
    let well = |text: &str| {
        let separated = text.as_bytes().get(10) == Some(&b'T');
        let leaps = text.as_bytes().get(17..19) == Some(b"60");
        separated && !leaps && !text.ends_with('z') && Timestamp::parse(text).is_some()
    };
    let without_seconds = || {
        let (date, offset) = text.split_at_checked(16)?;
        Some(well(&format!("{date}:00{offset}")))
    };
    well(text) || without_seconds().unwrap_or(false)
}

/// The kind of a listed object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListedKind {
    Tool,
    Resource,
    Template,
    Prompt,
}

impl ListedKind {
    /// By the member of a list's result that has its items.
    pub fn of(list: &str) -> Self {
        match list {
            "prompts" => Self::Prompt,
            "resourceTemplates" => Self::Template,
            "resources" => Self::Resource,
            _ => Self::Tool,
        }
    }

    fn members(self) -> &'static [Member] {
        match self {
            Self::Tool => TOOL,
            Self::Resource => RESOURCE,
            Self::Template => TEMPLATE,
            Self::Prompt => PROMPT,
        }
    }

    /// The definition as it can be listed, or why it cannot.
    pub fn normalized<'d>(self, definition: &'d RawValue) -> Result<Cow<'d, str>, Misfit> {
        let normalized = Strictness::Strict.at(definition, ValueType::Object(self.members()))?;
        Ok(normalized.map_or_else(|| Cow::Borrowed(definition.get()), Cow::Owned))
    }
}

/// Removes `null` members where the schema of `method` does not allow them: from a result, a notification, or a
/// request's parameters.
pub fn tidy<'r>(method: &str, said: &'r RawValue) -> Cow<'r, str> {
    // Most values have none, and are not parsed.
    if !said.get().contains("null") && !said.get().contains("lastModified") {
        return Cow::Borrowed(said.get());
    }
    let members = match method {
        "tools/call" => CALLED,
        "resources/read" => READ,
        "prompts/get" => GOT,
        "completion/complete" => COMPLETED,
        "notifications/progress" => PROGRESS,
        "notifications/message" => LOGGED,
        "sampling/createMessage" => SAMPLING,
        "elicitation/create" => ELICITATION,
        _ => PAGE,
    };
    match Strictness::Kind.at(said, ValueType::Object(members)) {
        Ok(Some(tidied)) => Cow::Owned(tidied),
        Ok(None) | Err(_) => Cow::Borrowed(said.get()),
    }
}

/// A server's declaration of a capability, in a form that clients can read.
pub fn declared(said: &RawValue) -> String {
    match Strictness::Strict.at(said, DECLARED) {
        Ok(normalized) => normalized.unwrap_or_else(|| said.get().into()),
        Err(_) => "{}".into(),
    }
}

#[cfg(test)]
mod tests;
