//! The tools of an upstream as capabilities, and what becomes of them when it changes them.
//!
//! The first list that is read is taken as it is. From then on each definition is pinned by its digest: one that is new,
//! changed or gone is told, and where the service is registered so, held back until somebody accepts it. A list that
//! cannot be read changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::super::canonical;
use super::super::super::capability::{Capability, TaskSupport, valid_name};
use super::super::super::json::Object;
use super::super::super::schema::{self, Schema};
use super::super::super::time::Timestamp;
use super::super::mirror;
use super::discovery::Server;

/// Tools that one service may have, and the bytes of all their definitions.
pub const MOST_TOOLS: usize = 500;
const MOST_BYTES: usize = 1024 * 1024;

/// A tool, as it can be offered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Offered {
    pub capability: Capability,
    /// Of its whole definition.
    pub digest: String,
}

/// A tool that cannot be offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    pub name: String,
    pub reason: String,
}

/// What was read from an upstream.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Seen {
    pub protocol_version: String,
    pub server: Server,
    pub tools: Vec<Offered>,
    pub left_out: Vec<LeftOut>,
}

/// What is kept of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Catalogue {
    /// Nothing as long as it was never read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol_version: Option<String>,
    #[serde(default)]
    pub server: Server,
    /// When it last became another.
    #[serde(default)]
    pub changed_at: Timestamp,
    /// Why it could not be read the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The digest of each definition that was accepted, by name.
    #[serde(default)]
    pub pins: BTreeMap<String, String>,
    /// New and changed tools that nobody has accepted yet.
    #[serde(default)]
    pub held: Vec<Offered>,
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
}

/// The same as it is shown.
#[derive(Debug, Serialize)]
pub struct View<'a> {
    pub protocol_version: Option<&'a str>,
    pub server: Option<&'a RawValue>,
    pub changed_at: Option<String>,
    pub error: Option<&'a str>,
    pub digests: &'a BTreeMap<String, String>,
    pub held: &'a [Offered],
    pub left_out: &'a [LeftOut],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    Added,
    Changed,
    Removed,
}

/// What happened to one tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    pub tool: String,
    pub change: Change,
    pub digest: Option<String>,
    pub previous: Option<String>,
    /// Held back until it is accepted.
    pub held: bool,
}

/// Reads a page of `tools/list` into what was seen; gives the cursor of the next.
pub fn read_page(seen: &mut Seen, result: &RawValue, timeout_seconds: u64) -> Result<Option<String>, &'static str> {
    let no_list = "its answer to tools/list is no list of tools";
    let mut page = Object::new(result.get(), "#").map_err(|_| no_list)?;
    let tools = page.raw("tools").and_then(|raw| serde_json::from_str::<Vec<&RawValue>>(raw.get()).ok());
    for tool in tools.ok_or(no_list)? {
        let known: usize = seen.tools.iter().map(|tool| weight(&tool.capability)).sum();
        if seen.tools.len() + seen.left_out.len() >= MOST_TOOLS || known + tool.get().len() > MOST_BYTES {
            return Err("it has more tools than one service may have");
        }
        match offered(tool, timeout_seconds) {
            Ok(tool) if seen.tools.iter().any(|other| other.capability.name == tool.capability.name) => {
                seen.left_out.push(LeftOut { name: tool.capability.name, reason: "is listed twice".into() });
            }
            Ok(tool) => seen.tools.push(tool),
            Err(left_out) => seen.left_out.push(left_out),
        }
    }
    Ok(page.string("nextCursor", 1..=4096))
}

fn weight(capability: &Capability) -> usize {
    let schemas = [&capability.input_schema, &capability.output_schema, &capability.tool];
    capability.description.len() + schemas.into_iter().flatten().map(|raw| raw.get().len()).sum::<usize>()
}

fn offered(tool: &RawValue, timeout_seconds: u64) -> Result<Offered, LeftOut> {
    let left_out = |name: &str, reason: &str| LeftOut { name: name.chars().take(64).collect(), reason: reason.into() };
    let Ok(mut members) = serde_json::from_str::<BTreeMap<String, &RawValue>>(tool.get()) else {
        return Err(left_out("", "is no object"));
    };
    let text = |raw: Option<&RawValue>| raw.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    let name = text(members.remove("name")).unwrap_or_default();
    if !valid_name(&name) {
        return Err(left_out(
            &name,
            "has a name that no capability has: 1 to 64 letters, digits, _, - or ., beginning with a letter or digit",
        ));
    }
    let Some(digest) = canonical::fingerprint(tool.get()) else {
        return Err(left_out(&name, "is no acceptable JSON"));
    };
    let description = text(members.remove("description")).unwrap_or_default();
    let is_schema = |raw: &&RawValue| raw.get().starts_with('{');
    let input = members.remove("inputSchema").filter(is_schema);
    let output = members.remove("outputSchema").filter(is_schema);
    let Some(input) = input else {
        return Err(left_out(&name, "has no inputSchema"));
    };
    if [Some(input), output].into_iter().flatten().any(|schema| schema.get().len() > schema::MAX_BYTES) {
        return Err(left_out(&name, "has a schema that is too large"));
    }
    if !mirror::is_valid(input.get()) {
        return Err(left_out(&name, "has an x-mcp-header where none may be"));
    }
    let hint = |name: &str| {
        let hints = members.get("annotations").and_then(|raw| Object::new(raw.get(), "#").ok());
        hints.and_then(|mut hints| hints.boolean(name)).unwrap_or(false)
    };
    let idempotent = hint("idempotentHint") || hint("readOnlyHint");
    let rest = if members.is_empty() { None } else { serde_json::value::to_raw_value(&members).ok() };
    let capability = Capability {
        name,
        version: Version::new(1, 0, 0),
        description,
        input_schema: Some(input.to_owned()),
        output_schema: output.map(RawValue::to_owned),
        idempotent,
        durable: true,
        timeout_seconds,
        permissions: Vec::new(),
        task_support: TaskSupport::Optional,
        tool: rest,
    };
    Ok(Offered { capability, digest })
}

/// A schema of a tool's, to check against. It may name an older draft, which is close enough to be read as this one;
/// nothing where it is not: then only the upstream checks.
pub fn checkable(text: &str) -> Option<Schema> {
    if let Ok(schema) = Schema::compile(text) {
        return Some(schema);
    }
    let mut members: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
    members.remove("$schema")?;
    Schema::compile(&serde_json::to_string(&members).ok()?).ok()
}

/// What a reading makes of the catalogue.
#[derive(Debug)]
pub struct Renewed {
    pub catalogue: Catalogue,
    /// What is offered from now on.
    pub offered: Vec<Capability>,
    pub changes: Vec<Changed>,
}

impl Catalogue {
    pub fn view(&self) -> View<'_> {
        View {
            protocol_version: self.protocol_version.as_deref(),
            server: self.server.info.as_deref(),
            changed_at: (self.changed_at.0 > 0).then(|| self.changed_at.text()),
            error: self.error.as_deref(),
            digests: &self.pins,
            held: &self.held,
            left_out: &self.left_out,
        }
    }

    /// Takes in what was read. `offered` is what is offered so far; nothing when all stays as it is.
    pub fn renewed(&self, offered: &[Capability], seen: Seen, holds: bool, now: Timestamp) -> Option<Renewed> {
        let is_first = self.protocol_version.is_none();
        let mut changes = Vec::new();
        let mut next = Catalogue {
            protocol_version: Some(seen.protocol_version),
            server: seen.server,
            changed_at: now,
            error: None,
            pins: BTreeMap::new(),
            held: Vec::new(),
            left_out: seen.left_out,
        };
        let mut capabilities = Vec::with_capacity(seen.tools.len());
        let names: BTreeSet<String> = seen.tools.iter().map(|tool| tool.capability.name.clone()).collect();
        for tool in seen.tools {
            let name = &tool.capability.name;
            let pinned = self.pins.get(name);
            if is_first || pinned == Some(&tool.digest) {
                next.pins.insert(name.clone(), tool.digest);
                capabilities.push(tool.capability);
                continue;
            }
            let known = self.held.iter().any(|held| held.capability.name == *name && held.digest == tool.digest);
            if !known {
                changes.push(Changed {
                    tool: name.clone(),
                    change: if pinned.is_some() { Change::Changed } else { Change::Added },
                    digest: Some(tool.digest.clone()),
                    previous: pinned.cloned(),
                    held: holds,
                });
            }
            if holds {
                // What it was is what it will be compared with.
                next.pins.extend(pinned.map(|digest| (name.clone(), digest.clone())));
                next.held.push(tool);
            } else {
                next.pins.insert(name.clone(), tool.digest);
                capabilities.push(tool.capability);
            }
        }
        for (name, digest) in self.pins.iter().filter(|(name, _)| !names.contains(*name)) {
            let (tool, previous) = (name.clone(), Some(digest.clone()));
            changes.push(Changed { tool, change: Change::Removed, digest: None, previous, held: false });
        }
        let renewed = Renewed { catalogue: next, offered: capabilities, changes };
        renewed.differs(self, offered).then_some(renewed)
    }

    /// Accepts what is held back: those named, or all. Gives what is offered from now on; nothing when there is no such
    /// tool.
    pub fn accepted(&self, offered: &[Capability], names: Option<&[String]>, now: Timestamp) -> Option<Renewed> {
        let wanted = |tool: &Offered| names.is_none_or(|names| names.contains(&tool.capability.name));
        let mut next = Catalogue { changed_at: now, ..self.clone() };
        let (accepted, held): (Vec<_>, Vec<_>) = std::mem::take(&mut next.held).into_iter().partition(wanted);
        if accepted.is_empty() {
            return None;
        }
        next.held = held;
        let mut capabilities = offered.to_vec();
        for Offered { capability, digest } in accepted {
            next.pins.insert(capability.name.clone(), digest);
            capabilities.retain(|other| other.name != capability.name);
            capabilities.push(capability);
        }
        Some(Renewed { catalogue: next, offered: capabilities, changes: Vec::new() })
    }

    /// Notes that it could not be read; nothing when that is known.
    pub fn unread(&self, reason: &str, now: Timestamp) -> Option<Catalogue> {
        let known = self.error.as_deref() == Some(reason);
        (!known).then(|| Catalogue { error: Some(reason.into()), changed_at: now, ..self.clone() })
    }
}

impl Renewed {
    fn differs(&self, from: &Catalogue, offered: &[Capability]) -> bool {
        let text = |server: &Server| serde_json::to_string(server).ok();
        let names = |capabilities: &[Capability]| -> Vec<(String, u64)> {
            capabilities.iter().map(|one| (one.name.clone(), one.timeout_seconds)).collect()
        };
        let held = |catalogue: &Catalogue| -> Vec<String> {
            catalogue.held.iter().map(|tool| format!("{} {}", tool.capability.name, tool.digest)).collect()
        };
        let to = &self.catalogue;
        !self.changes.is_empty()
            || from.error.is_some()
            || to.protocol_version != from.protocol_version
            || to.pins != from.pins
            || held(to) != held(from)
            || to.left_out != from.left_out
            || text(&to.server) != text(&from.server)
            || names(&self.offered) != names(offered)
    }
}

#[cfg(test)]
#[path = "catalogue_tests.rs"]
mod tests;
