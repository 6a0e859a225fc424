//! The tools of an upstream as capabilities, and what becomes of them when it changes them.
//!
//! The first list that is read is taken as it is. From then on each definition is pinned by its digest: one that is new,
//! changed or gone is told, and where the service is registered so, held back until somebody accepts it. A list that
//! cannot be read changes nothing, and of one that is read in part, what was not seen stays as it is.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::base::time::Timestamp;
use crate::services::capability::Capability;

/// Tools that one service may have.
pub const MAX_TOOLS: usize = 500;

/// What a server says of itself, bounded.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Server {
    /// Its name and version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<Box<RawValue>>,
    /// What it has beside tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// It has begun a session, which it keeps something in (2025).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sessions: bool,
}

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
    /// Why the list could not be read to its end; what follows is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
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
    /// The first list was never read to its end: what follows of it is taken as it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub first_unfinished: bool,
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
            first_unfinished: seen.unread.is_some() && (is_first || self.first_unfinished),
            error: seen.unread,
            left_out: seen.left_out,
            ..Catalogue::default()
        };
        let mut capabilities = Vec::with_capacity(seen.tools.len());
        let names: BTreeSet<String> = seen.tools.iter().map(|tool| tool.capability.name.clone()).collect();
        for tool in seen.tools {
            let name = &tool.capability.name;
            let pinned = self.pins.get(name);
            let held = self.held.iter().find(|held| held.capability.name == *name);
            let is_of_first = self.first_unfinished && pinned.is_none() && held.is_none();
            if is_first || is_of_first || pinned == Some(&tool.digest) {
                next.pins.insert(name.clone(), tool.digest);
                capabilities.push(tool.capability);
                continue;
            }
            if held.is_none_or(|held| held.digest != tool.digest) {
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
        match next.error {
            Some(_) => self.keep_unseen(&names, offered, &mut next, &mut capabilities),
            None => changes.extend(self.removed(&names)),
        }
        let renewed = Renewed { catalogue: next, offered: capabilities, changes };
        renewed.differs(self, offered).then_some(renewed)
    }

    fn removed(&self, names: &BTreeSet<String>) -> Vec<Changed> {
        let gone = self.pins.iter().filter(|(name, _)| !names.contains(*name));
        gone.map(|(name, digest)| {
            let (tool, previous) = (name.clone(), Some(digest.clone()));
            Changed { tool, change: Change::Removed, digest: None, previous, held: false }
        })
        .collect()
    }

    /// What a list that was read in part says nothing of stays, as far as there is room for it.
    fn keep_unseen(
        &self,
        names: &BTreeSet<String>,
        offered: &[Capability],
        next: &mut Catalogue,
        capabilities: &mut Vec<Capability>,
    ) {
        let is_left_out = |name: &str| next.left_out.iter().any(|left_out| left_out.name == name);
        let unseen = |name: &str| !names.contains(name) && !is_left_out(name);
        let kept: Vec<&Capability> = offered.iter().filter(|known| unseen(&known.name)).collect();
        let pins = self.pins.iter().filter(|(name, _)| unseen(name));
        let pins: Vec<(String, String)> = pins.map(|(name, digest)| (name.clone(), digest.clone())).collect();
        let held: Vec<Offered> = self.held.iter().filter(|tool| unseen(&tool.capability.name)).cloned().collect();
        let room = MAX_TOOLS.saturating_sub(capabilities.len());
        capabilities.extend(kept.into_iter().take(room).cloned());
        next.pins.extend(pins);
        next.held.extend(held);
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
        // An earlier version may have made something else of the same definitions.
        let same = |one: &Capability, other: &Capability| {
            let text = |raw: &Option<Box<RawValue>>| raw.as_deref().map(|raw| raw.get().to_string());
            one.name == other.name
                && one.timeout_seconds == other.timeout_seconds
                && text(&one.tool) == text(&other.tool)
                && text(&one.input_schema) == text(&other.input_schema)
                && text(&one.output_schema) == text(&other.output_schema)
        };
        let (ours, theirs) = (&self.offered, offered);
        let is_same = ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(one, other)| same(one, other));
        let held = |catalogue: &Catalogue| -> Vec<String> {
            catalogue.held.iter().map(|tool| format!("{} {}", tool.capability.name, tool.digest)).collect()
        };
        let to = &self.catalogue;
        !self.changes.is_empty()
            || from.error != to.error
            || from.first_unfinished != to.first_unfinished
            || to.protocol_version != from.protocol_version
            || to.pins != from.pins
            || held(to) != held(from)
            || to.left_out != from.left_out
            || text(&to.server) != text(&from.server)
            || !is_same
    }
}

#[cfg(test)]
mod tests;
