//! The tools of an upstream MCP server as capabilities, and how changes to them are handled.
//!
//! The first complete list is accepted as it is. From then on each definition is pinned by its digest: a new, changed
//! or removed tool is published as an event and, where the service is registered so, held until an operator accepts it.
//! A list that cannot be read changes nothing; after a partial read, the unread tools stay as they are.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::base::json::Object;
use crate::base::order;
use crate::base::time::Timestamp;
use crate::services::capability::Capability;

/// The maximum number of tools of one service.
pub const MAX_TOOLS: usize = 500;

/// What a server states about itself, within limits.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ServerDescription {
    /// Its name and version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<Box<RawValue>>,
    /// Its capabilities besides tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// It uses sessions (2025 revisions).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sessions: bool,
}

impl ServerDescription {
    /// Whether it declares this capability: `resources`, `prompts`, `completions`, `logging`.
    pub fn declares(&self, name: &str) -> bool {
        let capabilities = self.capabilities.as_ref();
        capabilities.is_some_and(|raw| Object::new(raw.get(), "#").is_ok_and(|all| all.has(name)))
    }
}

/// A tool that can be offered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct OfferedTool {
    pub capability: Capability,
    /// The digest of the complete definition.
    pub digest: String,
}

/// A tool that cannot be offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct ExcludedTool {
    pub name: String,
    pub reason: String,
}

/// What was read from an upstream.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ToolsRead {
    pub protocol_version: String,
    pub server: ServerDescription,
    pub tools: Vec<OfferedTool>,
    pub left_out: Vec<ExcludedTool>,
    /// Why the list could not be read to its end; the tools after that are unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
}

/// What is stored of an upstream's tools.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Catalogue {
    /// `None` until the first successful read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol_version: Option<String>,
    #[serde(default)]
    pub server: ServerDescription,
    /// The time of the last change.
    #[serde(default)]
    pub changed_at: Timestamp,
    /// Why the last read failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The digest of each accepted definition, by name.
    #[serde(default)]
    pub pins: BTreeMap<String, String>,
    /// New and changed tools that are not accepted yet.
    #[serde(default)]
    pub held: Vec<OfferedTool>,
    #[serde(default)]
    pub left_out: Vec<ExcludedTool>,
    /// The first list was never read to its end: the tools that follow are accepted as they are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub first_unfinished: bool,
}

/// The public view.
#[derive(Debug, Serialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct CatalogueView<'a> {
    pub protocol_version: Option<&'a str>,
    pub server: Option<&'a RawValue>,
    pub changed_at: Option<String>,
    pub error: Option<&'a str>,
    pub digests: &'a BTreeMap<String, String>,
    pub held: &'a [OfferedTool],
    pub left_out: &'a [ExcludedTool],
}

/// The kind of a tool's change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Change {
    Added,
    Changed,
    Removed,
}

/// A change of one tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct ToolChange {
    pub tool: String,
    pub change: Change,
    pub digest: Option<String>,
    pub previous: Option<String>,
    /// It is held until it is accepted.
    pub held: bool,
}

/// The result of a read.
#[derive(Debug)]
pub struct CatalogueUpdate {
    pub catalogue: Catalogue,
    /// The capabilities that are offered from now on.
    pub offered: Vec<Capability>,
    pub changes: Vec<ToolChange>,
}

impl Catalogue {
    /// The public view.
    pub fn view(&self) -> CatalogueView<'_> {
        CatalogueView {
            protocol_version: self.protocol_version.as_deref(),
            server: self.server.info.as_deref(),
            changed_at: (self.changed_at.0 > 0).then(|| self.changed_at.text()),
            error: self.error.as_deref(),
            digests: &self.pins,
            held: &self.held,
            left_out: &self.left_out,
        }
    }

    /// Updates the catalogue with what was read. `offered` are the current capabilities; `None` if nothing changed.
    pub fn update(
        &self,
        offered: &[Capability],
        seen: ToolsRead,
        holds: bool,
        now: Timestamp,
    ) -> Option<CatalogueUpdate> {
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
        let names: BTreeSet<String> = order::insert_all(seen.tools.iter().map(|tool| tool.capability.name.clone()));
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
                changes.push(ToolChange {
                    tool: name.clone(),
                    change: if pinned.is_some() { Change::Changed } else { Change::Added },
                    digest: Some(tool.digest.clone()),
                    previous: pinned.cloned(),
                    held: holds,
                });
            }
            if holds {
                // Later versions are compared with the pinned definition.
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
        let update = CatalogueUpdate { catalogue: next, offered: capabilities, changes };
        update.differs(self, offered).then_some(update)
    }

    fn removed(&self, names: &BTreeSet<String>) -> Vec<ToolChange> {
        let gone = self.pins.iter().filter(|(name, _)| !names.contains(*name));
        gone.map(|(name, digest)| {
            let (tool, previous) = (name.clone(), Some(digest.clone()));
            ToolChange { tool, change: Change::Removed, digest: None, previous, held: false }
        })
        .collect()
    }

    /// Keeps the tools that a partial read did not reach, as far as there is room.
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
        let held: Vec<OfferedTool> = self.held.iter().filter(|tool| unseen(&tool.capability.name)).cloned().collect();
        let room = MAX_TOOLS.saturating_sub(capabilities.len());
        capabilities.extend(kept.into_iter().take(room).cloned());
        next.pins.extend(pins);
        next.held.extend(held);
    }

    /// Accepts held tools: those named, or all. `None` if there is no such tool.
    pub fn accept(&self, offered: &[Capability], names: Option<&[String]>, now: Timestamp) -> Option<CatalogueUpdate> {
        let wanted = |tool: &OfferedTool| names.is_none_or(|names| names.contains(&tool.capability.name));
        let mut next = Catalogue { changed_at: now, ..self.clone() };
        let (accepted, held): (Vec<_>, Vec<_>) = std::mem::take(&mut next.held).into_iter().partition(wanted);
        if accepted.is_empty() {
            return None;
        }
        next.held = held;
        let mut capabilities = offered.to_vec();
        for OfferedTool { capability, digest } in accepted {
            next.pins.insert(capability.name.clone(), digest);
            capabilities.retain(|other| other.name != capability.name);
            capabilities.push(capability);
        }
        Some(CatalogueUpdate { catalogue: next, offered: capabilities, changes: Vec::new() })
    }

    /// Records that the list could not be read; `None` if that is known already.
    pub fn record_failure(&self, reason: &str, now: Timestamp) -> Option<Catalogue> {
        let known = self.error.as_deref() == Some(reason);
        (!known).then(|| Catalogue { error: Some(reason.into()), changed_at: now, ..self.clone() })
    }
}

impl CatalogueUpdate {
    fn differs(&self, from: &Catalogue, offered: &[Capability]) -> bool {
        let text = |server: &ServerDescription| serde_json::to_string(server).ok();
        // An earlier version may have read the same definitions differently.
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
