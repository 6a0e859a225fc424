//! A server's list of tools, read page by page: which can be offered, and which cannot, with the reason.
//!
//! One tool never affects the others: an invalid one is omitted by name, and so are those beyond the maximum of one
//! service. What follows a page that cannot be read is missing, and reported as such.

use std::collections::{BTreeMap, BTreeSet};

use semver::Version;
use serde_json::value::RawValue;

use super::super::cursor_trail::Trail;
use super::super::definitions::ListedKind;
use super::super::param_headers;
use crate::base::canonical;
use crate::base::json::{Object, kind};
use crate::base::names::valid_tool_name;
use crate::services::capability::{Capability, TaskSupport};
use crate::services::schema::{self, Formats};
use crate::services::tool_catalogue::{ExcludedTool, MAX_TOOLS, OfferedTool, ServerDescription, ToolsRead};

/// The maximum size of the definitions of all tools of one service, in bytes.
const MAX_DEFINITION_BYTES: usize = 1024 * 1024;
/// The maximum number of tools that are omitted by name.
const MAX_LEFT_OUT: usize = 500;
/// How much of the name of an omitted tool is shown, in characters.
const MAX_NAME: usize = 128;
/// The longest cursor that is sent back, in bytes.
const MAX_CURSOR_BYTES: usize = 32 * 1024;

/// A list that is being read.
#[derive(Debug)]
pub struct Listing {
    seen: ToolsRead,
    timeout_seconds: u64,
    names: BTreeSet<String>,
    bytes: usize,
    trail: Trail,
    /// The last cursor was empty, which some servers mean as the end.
    empty_cursor: bool,
    /// Tools beyond those omitted by name.
    more: usize,
}

impl Listing {
    /// The list of a server with this revision; calls of its tools have this timeout.
    pub fn new(protocol_version: String, server: ServerDescription, timeout_seconds: u64) -> Self {
        let seen = ToolsRead { protocol_version, server, ..ToolsRead::default() };
        let (names, trail) = (BTreeSet::new(), Trail::default());
        Self { seen, timeout_seconds, names, bytes: 0, trail, empty_cursor: false, more: 0 }
    }

    /// Reads a page of `tools/list`; returns the cursor of the next.
    pub fn take(&mut self, result: &RawValue) -> Result<Option<String>, String> {
        let mut page =
            Object::new(result.get(), "#").map_err(|_| "its response to tools/list is not an object".to_string())?;
        let no_list = |what: &str| format!("its response to tools/list is not a list of tools: tools is {what}");
        let tools = page.raw_or_null("tools").ok_or_else(|| no_list("missing"))?;
        // Some languages write an empty list as `null`.
        let text = if tools.get() == "null" { "[]" } else { tools.get() };
        let read: Vec<&RawValue> =
            serde_json::from_str(text).map_err(|_| no_list(&format!("{}, not an array", kind(tools))))?;
        if !read.is_empty() && self.repeats(tools.get())? {
            return Ok(None);
        }
        for tool in read {
            self.add(tool);
        }
        let Some(cursor) = page.raw("nextCursor") else { return Ok(None) };
        let Ok(next) = serde_json::from_str::<String>(cursor.get()) else {
            return Err(format!("its response to tools/list has a nextCursor that is {}, not a string", kind(cursor)));
        };
        if next.len() > MAX_CURSOR_BYTES {
            let long = next.len();
            return Err(format!("its nextCursor has {long} bytes, and at most {MAX_CURSOR_BYTES} are sent back"));
        }
        self.empty_cursor = next.is_empty();
        Ok(Some(next))
    }

    /// Whether this page occurred before. After an empty cursor this may be the first page again: then the list was
    /// complete.
    fn repeats(&mut self, tools: &str) -> Result<bool, String> {
        let known = !self.trail.is_new_page(tools);
        match known && !self.empty_cursor {
            true => Err("its list of tools does not end: it returned the same page again".into()),
            false => Ok(known),
        }
    }

    fn add(&mut self, tool: &RawValue) {
        let bytes = tool.get().len();
        let full = if self.seen.tools.len() >= MAX_TOOLS {
            Some(format!("is beyond the {MAX_TOOLS} tools that one service may have"))
        } else if self.bytes + bytes > MAX_DEFINITION_BYTES {
            Some(format!("does not fit into the {MAX_DEFINITION_BYTES} bytes that the tools of one service may have"))
        } else {
            None
        };
        if let Some(reason) = full {
            let name = Object::new(tool.get(), "#").ok().and_then(|mut tool| name_of(&mut tool));
            return self.leave_out(name.unwrap_or_default(), reason);
        }
        match offered(tool, self.timeout_seconds) {
            Ok(tool) if self.names.contains(&tool.capability.name) => {
                self.leave_out(tool.capability.name, "is listed twice".into());
            }
            Ok(tool) => {
                self.bytes += bytes;
                self.names.insert(tool.capability.name.clone());
                self.seen.tools.push(tool);
            }
            Err(ExcludedTool { name, reason }) => self.leave_out(name, reason),
        }
    }

    fn leave_out(&mut self, name: String, reason: String) {
        if self.seen.left_out.len() >= MAX_LEFT_OUT {
            self.more += 1;
            return;
        }
        let name = name.chars().take(MAX_NAME).collect();
        self.seen.left_out.push(ExcludedTool { name, reason });
    }

    /// The tools that were read. `broken` is why the list could not be read to its end; it is an error if not even the
    /// first page could be read.
    pub fn finish(mut self, broken: Option<String>) -> Result<ToolsRead, String> {
        if let Some(reason) = broken {
            if self.trail.is_empty() && self.seen.left_out.is_empty() {
                return Err(reason);
            }
            self.seen.unread = Some(format!("{reason}; the tools that it listed before that are offered"));
        }
        if self.more > 0 {
            let reason = format!("{} more tools are left out", self.more);
            self.seen.left_out.push(ExcludedTool { name: String::new(), reason });
        }
        Ok(self.seen)
    }
}

fn name_of(tool: &mut Object<'_>) -> Option<String> {
    tool.raw("name").and_then(|name| serde_json::from_str::<String>(name.get()).ok())
}

fn offered(tool: &RawValue, timeout_seconds: u64) -> Result<OfferedTool, ExcludedTool> {
    let left_out = |name: &str, reason: String| ExcludedTool { name: name.into(), reason };
    let Ok(mut members) = Object::new(tool.get(), "#") else {
        return Err(left_out("", format!("is {}, not an object", kind(tool))));
    };
    let name = name_of(&mut members).unwrap_or_default();
    if !valid_tool_name(&name) {
        return Err(left_out(&name, "has an invalid name: a name has 1 to 128 letters, digits, _, - or .".into()));
    }
    // The digest is of the complete original: what is omitted of it may matter.
    let Some(digest) = canonical::fingerprint(tool.get()) else {
        return Err(left_out(&name, "is not acceptable JSON".into()));
    };
    let normalized = ListedKind::Tool.normalized(tool).map_err(|misfit| left_out(&name, misfit.to_string()))?;
    capability_of(&normalized, &name, timeout_seconds)
        .map(|capability| OfferedTool { capability, digest })
        .map_err(|reason| left_out(&name, reason.into()))
}

/// The capability of a valid definition.
fn capability_of(definition: &str, name: &str, timeout_seconds: u64) -> Result<Capability, &'static str> {
    let mut members: BTreeMap<String, &RawValue> =
        serde_json::from_str(definition).map_err(|_| "is not acceptable JSON")?;
    members.remove("name");
    let description = members.remove("description").and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    let (input, output) = (members.remove("inputSchema"), members.remove("outputSchema"));
    if [input, output].into_iter().flatten().any(|schema| schema.get().len() > schema::MAX_BYTES) {
        return Err("has a schema that is too large");
    }
    if input.is_some_and(|input| !param_headers::is_valid(input.get())) {
        return Err("has an x-mcp-header where it is not allowed");
    }
    let hint = |name: &str| {
        let hints = members.get("annotations").and_then(|raw| Object::new(raw.get(), "#").ok());
        hints.and_then(|mut hints| hints.boolean(name)).unwrap_or(false)
    };
    let idempotent = hint("idempotentHint") || hint("readOnlyHint");
    let rest = if members.is_empty() { None } else { serde_json::value::to_raw_value(&members).ok() };
    Ok(Capability {
        name: name.into(),
        version: Version::new(1, 0, 0),
        description: description.unwrap_or_default(),
        input_schema: input.map(RawValue::to_owned),
        output_schema: output.map(RawValue::to_owned),
        format: Formats::Annotate,
        idempotent,
        durable: true,
        timeout_seconds,
        permissions: Vec::new(),
        task_support: TaskSupport::Optional,
        tool: rest,
        content: None,
        price: None,
    })
}

#[cfg(test)]
mod tests;
