//! A capability of a service: its name, its schemas, and how it may be called.
//!
//! Schemas are compiled here to reject invalid ones, and again in each isolate that uses them.

use std::collections::BTreeSet;

use crate::base::content::Content;
use crate::base::names::valid_capability_name;
use crate::context::create_request::MAX_TIMEOUT_SECONDS;
use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::schema::{Formats, Schema};
use crate::access::permission;
use crate::base::json::{Fault, Object};
use crate::models::call_price::CallPrice;

/// A capability as registered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
pub struct Capability {
    pub name: String,
    pub version: Version,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_schema: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Box<RawValue>>,
    /// How `format` is treated in its schemas.
    #[serde(default, skip_serializing_if = "Formats::is_annotate")]
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("enum" = ["assert"])))]
    pub format: Formats,
    pub idempotent: bool,
    pub durable: bool,
    pub timeout_seconds: u64,
    pub permissions: Vec<String>,
    #[serde(default, skip_serializing_if = "TaskSupport::is_optional")]
    #[cfg_attr(any(test, feature = "schema"), schemars(extend("enum" = ["required", "forbidden"])))]
    pub task_support: TaskSupport,
    /// The rest of an MCP tool's definition, verbatim; of others, whether it is a tool, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<Box<RawValue>>,
    /// What is kept of its calls; by default what its service says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// What a context owes for a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<CallPrice>,
}

impl Capability {
    /// Whether its registration says that it is a tool, or that it is none.
    pub fn is_tool(&self) -> Option<bool> {
        self.tool.as_ref().and_then(|tool| tool.get().parse().ok())
    }

    /// Whether its calls become tasks, which are fetched later. `service`: what its service says of the content.
    pub fn supported_tasks(&self, service: Option<Content>) -> TaskSupport {
        match self.content.or(service) {
            Some(Content::None) => TaskSupport::Forbidden,
            Some(Content::Full) | None => self.task_support,
        }
    }

    /// The rest of an MCP tool's definition.
    pub fn tool_definition(&self) -> Option<&RawValue> {
        self.tool.as_deref().filter(|_| self.is_tool().is_none())
    }
}

/// Whether a call by an MCP client becomes a task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum TaskSupport {
    /// If it takes longer, for clients with task support.
    #[default]
    Optional,
    /// Always; clients without task support cannot call it.
    Required,
    Forbidden,
}

impl TaskSupport {
    fn parse(text: &str) -> Option<Self> {
        serde_json::from_value(text.into()).ok()
    }

    /// Whether it has the default value.
    pub fn is_optional(&self) -> bool {
        *self == Self::Optional
    }

    /// The value as in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Optional => "optional",
            Self::Required => "required",
            Self::Forbidden => "forbidden",
        }
    }
}

/// The default timeout of a capability, in seconds.
pub const DEFAULT_TIMEOUT_SECONDS: u64 = 60;

/// Reads the member `capabilities`. `defaults` are the values of omitted members, by capability name.
pub fn read_all(document: &mut Object<'_>, defaults: &[Capability]) -> Option<Vec<Capability>> {
    let items = document.array("capabilities", 1..=200)?;
    let at = document.pointer_to("capabilities");
    let mut seen = BTreeSet::new();
    let mut read = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let pointer = format!("{at}/{index}");
        match Object::new(item.get(), &pointer) {
            Err(fault) => document.faults([fault]),
            Ok(mut capability) => {
                let one = read_capability(&mut capability, defaults);
                if let Some(one) = &one
                    && !seen.insert((one.name.clone(), one.version.clone()))
                {
                    capability.fault("name", "is offered twice in this version");
                }
                document.absorb(capability);
                read.extend(one);
            }
        }
    }
    Some(read)
}

/// The defaults of a capability that has none of its own.
fn plain() -> Capability {
    Capability {
        name: String::new(),
        version: Version::new(1, 0, 0),
        description: String::new(),
        input_schema: None,
        output_schema: None,
        format: Formats::Annotate,
        idempotent: false,
        durable: true,
        timeout_seconds: DEFAULT_TIMEOUT_SECONDS,
        permissions: Vec::new(),
        task_support: TaskSupport::Optional,
        tool: None,
        content: None,
        price: None,
    }
}

fn read_capability(object: &mut Object<'_>, defaults: &[Capability]) -> Option<Capability> {
    let name = object.parsed("name", "1 to 64 letters, digits, _, - or ., beginning with a letter or digit", |text| {
        valid_capability_name(text).then(|| text.to_string())
    });
    let name = object.require("name", name);
    let known = defaults.iter().find(|known| Some(&known.name) == name.as_ref());
    let default = known.cloned().unwrap_or_else(plain);
    let version = object
        .parsed("version", "a semantic version such as 1.2.0", |text| Version::parse(text).ok())
        .unwrap_or(default.version);
    let description = object.string("description", 0..=4000).unwrap_or(default.description);
    let format = object.parsed("format", "annotate or assert", Formats::parse).unwrap_or(default.format);
    let input_schema = read_schema(object, "input_schema", format).or(default.input_schema);
    let output_schema = read_schema(object, "output_schema", format).or(default.output_schema);
    let idempotent = object.boolean("idempotent").unwrap_or(default.idempotent);
    let durable = object.boolean("durable").unwrap_or(default.durable);
    let timeout_seconds = object.integer("timeout_seconds", 1..=MAX_TIMEOUT_SECONDS).unwrap_or(default.timeout_seconds);
    let permissions = object.strings("permissions", 20, permission::MAX_BYTES).unwrap_or(default.permissions);
    let task_support = object.parsed("task_support", "optional, required or forbidden", TaskSupport::parse);
    let task_support = task_support.unwrap_or(default.task_support);
    for (index, asked) in permissions.iter().enumerate() {
        if !permission::valid(asked) || asked.contains('*') {
            let pointer = format!("{}/{index}", object.pointer_to("permissions"));
            object.faults([Fault::new(pointer, "must be a permission such as reports:read, without *")]);
        }
    }
    let content = object.parsed("content", "full or none", Content::parse).or(default.content);
    let tool = object.boolean("tool").and_then(|is_tool| RawValue::from_string(is_tool.to_string()).ok());
    let price = CallPrice::read(object);
    Some(Capability {
        name: name?,
        version,
        description,
        input_schema,
        output_schema,
        format,
        idempotent,
        durable,
        timeout_seconds,
        permissions,
        task_support,
        tool,
        content,
        price,
    })
}

fn read_schema(object: &mut Object<'_>, name: &str, format: Formats) -> Option<Box<RawValue>> {
    let raw = object.raw(name)?;
    if let Err(faults) = Schema::compile_as(raw.get(), format) {
        let base = object.pointer_to(name);
        object.faults(faults.into_iter().map(|fault| Fault::new(format!("{base}{}", fault.pointer), fault.detail)));
    }
    Some(raw.to_owned())
}
