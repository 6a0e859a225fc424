//! What MCP servers send to clients, as the specification's schema has it: what fits passes byte for byte.
//!
//! Strict clients hold a whole list, or a whole result, against that schema, so that one member of one item would cost
//! all of them. A member that is `null` is the same as none, and is left out. What still does not fit is told, in a list,
//! and passes as it came in a result, where nothing else would be lost by it. Members that are not known pass.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::schema_root;
use crate::base::json::{self, kind};
use crate::base::time::Timestamp;

/// What a value must be.
#[derive(Debug, Clone, Copy)]
enum Is {
    Text,
    Flag,
    /// From 0 to 1.
    Share,
    Number,
    /// A point of time. One that cannot be read says nothing: it is left out.
    Date,
    OneOf(&'static [&'static str]),
    /// An object, whatever is in it.
    Map,
    Object(&'static [Member]),
    List(&'static Is),
    /// Something with the `type` of one of these.
    Typed(&'static [(&'static str, &'static [Member])]),
    /// One of these, or a list of them.
    OneOrMany(&'static Is),
    /// A JSON Schema; that of arguments is one of an object.
    Schema {
        arguments: bool,
    },
}

#[derive(Debug, Clone, Copy)]
struct Member {
    name: &'static str,
    is: Is,
    required: bool,
}

const fn needs(name: &'static str, is: Is) -> Member {
    Member { name, is, required: true }
}

const fn may(name: &'static str, is: Is) -> Member {
    Member { name, is, required: false }
}

const TEXTS: Is = Is::List(&Is::Text);
const META: Member = may("_meta", Is::Map);
const TITLE: Member = may("title", Is::Text);
const DESCRIPTION: Member = may("description", Is::Text);
const MIME: Member = may("mimeType", Is::Text);
const THEME: Is = Is::OneOf(&["light", "dark"]);
const ICON: Is = Is::Object(&[needs("src", Is::Text), MIME, may("sizes", TEXTS), may("theme", THEME)]);
const ICONS: Member = may("icons", Is::List(&ICON));
const ROLE: Is = Is::OneOf(&["user", "assistant"]);
const ANNOTATIONS: Member = may(
    "annotations",
    Is::Object(&[may("audience", Is::List(&ROLE)), may("priority", Is::Share), may("lastModified", Is::Date)]),
);
const HINTS: Is = Is::Object(&[
    TITLE,
    may("readOnlyHint", Is::Flag),
    may("destructiveHint", Is::Flag),
    may("idempotentHint", Is::Flag),
    may("openWorldHint", Is::Flag),
]);
const EXECUTION: Is = Is::Object(&[may("taskSupport", Is::OneOf(&["required", "optional", "forbidden"]))]);
const TOOL: &[Member] = &[
    needs("name", Is::Text),
    TITLE,
    DESCRIPTION,
    ICONS,
    needs("inputSchema", Is::Schema { arguments: true }),
    may("outputSchema", Is::Schema { arguments: false }),
    may("annotations", HINTS),
    may("execution", EXECUTION),
    META,
];
const URI: Member = needs("uri", Is::Text);
const RESOURCE: &[Member] =
    &[needs("name", Is::Text), URI, TITLE, DESCRIPTION, ICONS, MIME, may("size", Is::Number), ANNOTATIONS, META];
const TEMPLATE: &[Member] =
    &[needs("name", Is::Text), needs("uriTemplate", Is::Text), TITLE, DESCRIPTION, ICONS, MIME, ANNOTATIONS, META];
const ARGUMENT: Is = Is::Object(&[needs("name", Is::Text), TITLE, DESCRIPTION, may("required", Is::Flag)]);
const PROMPT: &[Member] =
    &[needs("name", Is::Text), TITLE, DESCRIPTION, ICONS, may("arguments", Is::List(&ARGUMENT)), META];

const CONTENTS: Is = Is::Object(&[URI, MIME, may("text", Is::Text), may("blob", Is::Text), META]);
const MEDIA: &[Member] = &[needs("data", Is::Text), needs("mimeType", Is::Text), ANNOTATIONS, META];
const TEXT: &[Member] = &[needs("text", Is::Text), ANNOTATIONS, META];
const EMBEDDED: &[Member] = &[needs("resource", CONTENTS), ANNOTATIONS, META];
const BLOCK: Is = Is::Typed(&[
    ("text", TEXT),
    ("image", MEDIA),
    ("audio", MEDIA),
    ("resource", EMBEDDED),
    ("resource_link", RESOURCE),
    ("tool_use", &[needs("name", Is::Text), needs("id", Is::Text), needs("input", Is::Map), META]),
    ("tool_result", &[needs("toolUseId", Is::Text), may("isError", Is::Flag), META]),
]);
const CALLED: &[Member] = &[may("content", Is::List(&BLOCK)), may("isError", Is::Flag), META];
const READ: &[Member] = &[needs("contents", Is::List(&CONTENTS)), META];
const SPOKEN: Is = Is::Object(&[needs("role", ROLE), needs("content", BLOCK)]);
const GOT: &[Member] = &[DESCRIPTION, needs("messages", Is::List(&SPOKEN)), META];
const VALUES: Is = Is::Object(&[needs("values", TEXTS), may("total", Is::Number), may("hasMore", Is::Flag)]);
const COMPLETED: &[Member] = &[needs("completion", VALUES), META];
const PAGE: &[Member] = &[may("nextCursor", Is::Text), META];

const PROGRESS: &[Member] = &[needs("progress", Is::Number), may("total", Is::Number), may("message", Is::Text), META];
const LOGGED: &[Member] = &[may("logger", Is::Text), META];
const HINTED: Is = Is::Object(&[may("name", Is::Text)]);
const PREFERENCES: Is = Is::Object(&[
    may("hints", Is::List(&HINTED)),
    may("costPriority", Is::Share),
    may("speedPriority", Is::Share),
    may("intelligencePriority", Is::Share),
]);
const SAID: Is = Is::Object(&[needs("role", ROLE), needs("content", Is::OneOrMany(&BLOCK)), META]);
const SAMPLING: &[Member] = &[
    needs("messages", Is::List(&SAID)),
    may("modelPreferences", PREFERENCES),
    may("systemPrompt", Is::Text),
    may("includeContext", Is::OneOf(&["none", "thisServer", "allServers"])),
    may("temperature", Is::Number),
    needs("maxTokens", Is::Number),
    may("stopSequences", TEXTS),
    may("metadata", Is::Map),
    may("tools", Is::List(&Is::Object(TOOL))),
    may("toolChoice", Is::Object(&[may("mode", Is::OneOf(&["auto", "required", "none"]))])),
    META,
];
const ELICITATION: &[Member] = &[
    may("mode", Is::OneOf(&["form", "url"])),
    needs("message", Is::Text),
    may("requestedSchema", Is::Schema { arguments: true }),
    may("url", Is::Text),
    may("elicitationId", Is::Text),
    META,
];
const DECLARED: Is = Is::Object(&[may("listChanged", Is::Flag), may("subscribe", Is::Flag)]);

/// Why something does not fit: which of its members, and what is wrong with it.
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

/// What a value is to pass as: nothing where it passes as it is.
type Fitted = Result<Option<String>, Misfit>;

/// How a value is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// What does not fit is told.
    Strict,
    /// What does not fit passes, without what is `null`.
    Kind,
}

fn as_text(raw: &RawValue) -> Option<Cow<'_, str>> {
    #[derive(serde::Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str::<Text<'_>>(raw.get()).ok().map(|Text(text)| text)
}

fn check(fits: bool, expected: &str, found: &RawValue) -> Fitted {
    if fits { Ok(None) } else { Err(Misfit::expected(expected, found)) }
}

impl Look {
    fn at(self, raw: &RawValue, is: Is) -> Fitted {
        let fitted = match is {
            Is::Text => check(raw.get().starts_with('"'), "a string", raw),
            Is::Flag => check(matches!(raw.get(), "true" | "false"), "true or false", raw),
            Is::Number => check(raw.get().starts_with(|c: char| c == '-' || c.is_ascii_digit()), "a number", raw),
            Is::Share => {
                let share = serde_json::from_str::<f64>(raw.get()).is_ok_and(|share| (0.0..=1.0).contains(&share));
                if share { Ok(None) } else { Err(Misfit::new("is not a number from 0 to 1")) }
            }
            Is::Date => check(raw.get().starts_with('"'), "a string", raw),
            Is::OneOf(words) => match as_text(raw).is_some_and(|text| words.contains(&&*text)) {
                true => Ok(None),
                false => Err(Misfit::new(format!("is not one of {}", words.join(", ")))),
            },
            Is::Map => check(raw.get().starts_with('{'), "an object", raw),
            Is::Object(members) => self.members(raw, members),
            Is::List(of) => self.list(raw, *of),
            Is::OneOrMany(of) if raw.get().starts_with('[') => self.list(raw, *of),
            Is::OneOrMany(of) => self.at(raw, *of),
            Is::Typed(kinds) => self.typed(raw, kinds),
            Is::Schema { arguments } => schema_root::fitted(raw, arguments),
        };
        if self == Look::Kind { Ok(fitted.unwrap_or(None)) } else { fitted }
    }

    fn members(self, raw: &RawValue, known: &[Member]) -> Fitted {
        let Some(members) = json::members(raw.get()) else { return Err(Misfit::expected("an object", raw)) };
        let missing = known.iter().find(|member| {
            member.required && !members.iter().any(|(name, value)| name == member.name && value.get() != "null")
        });
        if let Some(member) = missing.filter(|_| self == Look::Strict) {
            return Err(Misfit::new(format!("has no {}", member.name)));
        }
        let mut kept: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::with_capacity(members.len());
        let mut changed = false;
        for (name, value) in members {
            let Some(member) = known.iter().find(|member| member.name == name) else {
                kept.push((name, value.get().into()));
                continue;
            };
            let unread = matches!(member.is, Is::Date) && as_text(value).is_some_and(|text| !is_date(&text));
            if unread || value.get() == "null" && !member.required {
                changed = true;
                continue;
            }
            if value.get() == "null" && matches!(member.is, Is::List(_)) {
                // How some languages write a list without items.
                changed = true;
                kept.push((name, "[]".into()));
                continue;
            }
            let fitted = self.at(value, member.is).map_err(|misfit| misfit.within(member.name))?;
            changed |= fitted.is_some();
            kept.push((name, fitted.map_or_else(|| value.get().into(), Cow::Owned)));
        }
        Ok(changed.then(|| json::object(&kept)))
    }

    fn list(self, raw: &RawValue, of: Is) -> Fitted {
        let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(raw.get()) else {
            return Err(Misfit::expected("an array", raw));
        };
        let fitted: Vec<Option<String>> = items
            .iter()
            .enumerate()
            .map(|(at, item)| self.at(item, of).map_err(|misfit| misfit.within(&format!("[{at}]"))))
            .collect::<Result<_, _>>()?;
        if fitted.iter().all(Option::is_none) {
            return Ok(None);
        }
        let texts: Vec<&str> =
            items.iter().zip(&fitted).map(|(item, fitted)| fitted.as_deref().unwrap_or(item.get())).collect();
        Ok(Some(format!("[{}]", texts.join(","))))
    }

    fn typed(self, raw: &RawValue, kinds: &[(&str, &[Member])]) -> Fitted {
        let Some(members) = json::members(raw.get()) else { return Err(Misfit::expected("an object", raw)) };
        let kind = members.iter().find(|(name, _)| name == "type").and_then(|(_, value)| as_text(value));
        let known = kinds.iter().find(|(name, _)| kind.as_deref() == Some(*name));
        match known {
            Some((_, known)) => self.members(raw, known),
            None => Err(Misfit::new("has a type that is not known")),
        }
    }
}

/// A date and a time with an offset, as clients read them (RFC 3339; seconds may be missing).
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

/// Something a server lists, as its own kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    Tool,
    Resource,
    Template,
    Prompt,
}

impl Listed {
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
    pub fn fitted<'d>(self, definition: &'d RawValue) -> Result<Cow<'d, str>, Misfit> {
        let fitted = Look::Strict.at(definition, Is::Object(self.members()))?;
        Ok(fitted.map_or_else(|| Cow::Borrowed(definition.get()), Cow::Owned))
    }
}

/// Without the members that are `null` where the schema of `method` knows no `null`: of a result, of what a
/// notification says, or of what a request asks for.
pub fn tidy<'r>(method: &str, said: &'r RawValue) -> Cow<'r, str> {
    // Most has nothing of it, and is not taken apart.
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
    match Look::Kind.at(said, Is::Object(members)) {
        Ok(Some(tidied)) => Cow::Owned(tidied),
        Ok(None) | Err(_) => Cow::Borrowed(said.get()),
    }
}

/// What a server declares of one of its capabilities, as clients read it.
pub fn declared(said: &RawValue) -> String {
    match Look::Strict.at(said, DECLARED) {
        Ok(fitted) => fitted.unwrap_or_else(|| said.get().into()),
        Err(_) => "{}".into(),
    }
}

#[cfg(test)]
mod tests;
