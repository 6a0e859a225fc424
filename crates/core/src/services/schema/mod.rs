//! JSON Schema, drafts 4 to 2020-12: compiles registered schemas and validates values against them, with `boon`.
//! `format` is an annotation, as in the standard, unless a capability asks for assertion. Numbers are compared as the
//! decimals that were written.
//!
//! Schemas are untrusted input. They never load anything: a reference stays inside its document. Their size, depth,
//! number of subschemas and pattern states are limited. A few references can cause millions of steps, or need more
//! stack than WebAssembly has (a trap there ends the instance), so the cost of every check is estimated from the schema
//! and the value first; patterns, which take states times characters, are counted as they run. No check takes more than
//! about 50 ms.

mod cost;
mod dialect;
mod formats;
mod numbers;
mod outline;
mod patterns;
mod report;
mod survey;

use std::borrow::Cow;

use std::sync::Arc;

use crate::base::exact_json::{self, Numbers};
use crate::base::json::Fault;
use boon::{CompileError, Compiler, SchemaIndex, Schemas, UrlLoader};
use cost::Scale;
use dialect::{Dialect, KeywordValue, keyword_value};
use numbers::Checks;
use patterns::KeyedDocument;
use report::Report;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use survey::Survey;

/// The largest schema, in bytes of text.
pub const MAX_BYTES: usize = 256 * 1024;
/// The deepest schema, in levels of objects and arrays.
pub const MAX_DEPTH: usize = 32;
/// The maximum number of subschemas, including the root and booleans.
pub const MAX_SUBSCHEMAS: usize = 1000;

const MAX_FAULTS: usize = 50;

/// The base URI of documents without an `$id`. The scheme is not registered.
const BASE: &str = "schema:///";

/// How `format` is treated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(any(test, feature = "schema"), derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Formats {
    /// It is an annotation for readers.
    #[default]
    Annotate,
    /// Strings of another format are rejected.
    Assert,
}

impl Formats {
    /// Reads the API's value.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_value(text.into()).ok()
    }

    /// Whether it has the default value.
    pub fn is_annotate(&self) -> bool {
        *self == Self::Annotate
    }
}

/// A compiled schema.
pub struct Schema {
    compiled: Schemas,
    index: SchemaIndex,
    /// The schema with every reference replaced by pointers to its possible targets.
    document: Value,
    accepts_all: bool,
    is_shallow: bool,
    checks: Arc<Checks>,
    /// What adds to the cost of a check besides the keywords.
    manner: Manner,
}

impl Schema {
    /// Compiles a schema from its JSON text, with `format` as an annotation. Pointers of faults start at the schema's
    /// root (`/properties/x`, without `#`). Faults of limits, draft, references and patterns come first; breaches of
    /// the draft's metaschema are listed only if there are none of those.
    pub fn compile(text: &str) -> Result<Schema, Vec<Fault>> {
        Self::compile_as(text, Formats::Annotate)
    }

    /// As [`Schema::compile`], with `formats` deciding about `format`.
    pub fn compile_as(text: &str, formats: Formats) -> Result<Schema, Vec<Fault>> {
        if text.len() > MAX_BYTES {
            return refuse(format!("is larger than {MAX_BYTES} bytes"));
        }
        let Ok((document, own)) = exact_json::tree(text, &Numbers::default()) else {
            return refuse("is not JSON, or is nested too deeply".into());
        };
        if depth(&document) > MAX_DEPTH {
            return refuse(format!("is nested more than {MAX_DEPTH} levels deep"));
        }
        let survey = Survey::of(&document)?;
        let mut keyed = survey.patterns.keyed(&survey, &document);
        let schemas: Vec<String> = survey.schemas.iter().map(|at| keyed.keyed(at)).collect();
        let mut weighed = keyed.with_targets(&survey);
        let mut taken = std::mem::take(&mut keyed.document);
        let written = |at: &str| keyed.written(at);
        let checks = Checks::take(&mut taken, &schemas, survey.dialect, own, formats, written)?;
        keyed.document = taken;
        let (compiled, index) = regex::prepared(keyed.patterns.clone(), || {
            // The metaschema's own patterns run too.
            let compile = || compile(&keyed.document, survey.dialect, &checks);
            let (compiled, exhausted) = regex::metered(patterns::MAX_STEPS, compile);
            match (compiled, exhausted) {
                (Ok(compiled), None) => Ok(compiled),
                (Err(error), None) => Err(compile_faults(*error, &keyed)),
                (_, Some(_)) => refuse("takes too long to check".into()),
            }
        })?;
        let (accepts_all, is_shallow) = (accepts_all(&document), outline::is_shallow(&document));
        cost::weigh(&mut weighed, &schemas, survey.dialect);
        let remembers = ["unevaluatedProperties", "unevaluatedItems"].iter().any(|keyword| text.contains(keyword));
        let manner = Manner { remembers, reads_texts: formats == Formats::Assert };
        let schema =
            Schema { accepts_all, is_shallow, compiled, index, document: weighed, checks: Arc::new(checks), manner };
        let none = Numbers::default();
        let mut scale = schema.scale(&none);
        let heavy = schemas.iter().find(|at| {
            // For null, only the parts of a schema that apply to the value itself count.
            let part = schema.document.pointer(at).unwrap_or(&Value::Null);
            !scale.bears(part, &Value::Null, 0)
        });
        if let Some(at) = heavy {
            let detail = "refers back to itself without going deeper into the value, or refers \
                          to too many others";
            return Err(vec![fault(&keyed.written(at), detail)]);
        }
        Ok(schema)
    }

    fn scale<'a>(&'a self, own: &'a Numbers) -> Scale<'a> {
        Scale::new(&self.document, self.manner, &self.checks, own)
    }

    /// True if the schema accepts everything by its structure (`true`, `{}` or annotations only), so that callers need
    /// not parse the value.
    pub fn accepts_all(&self) -> bool {
        self.accepts_all
    }

    /// The part of a value that [`Schema::check`] needs: an equivalent text, which is small where the schema only asks
    /// for types.
    pub fn needed<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.is_shallow { outline::outline(text) } else { Cow::Borrowed(text) }
    }

    /// Checks a value given as acceptable JSON text. Faults are those of the innermost parts, in document order, at
    /// most 50, without duplicates, with pointers from the value's root (without `#`); the fault of a member with a
    /// very long name points to its parent.
    pub fn check(&self, text: &str) -> Result<(), Vec<Fault>> {
        if self.accepts_all {
            return Ok(());
        }
        let read = match self.checks.minds_numbers {
            true => exact_json::tree(text, &self.checks.numbers),
            false => serde_json::from_str(text).map(|value| (value, Numbers::default())),
        };
        match read {
            Ok((value, own)) => self.check_tree(&value, own),
            Err(_) => refuse("is not acceptable JSON".into()),
        }
    }

    fn check_tree(&self, instance: &Value, own: Numbers) -> Result<(), Vec<Fault>> {
        if !self.scale(&own).bears(&self.document, instance, 0) {
            return refuse("is too large or too deep to be checked against this schema".into());
        }
        numbers::checked(&self.checks, own, || {
            let check = || self.compiled.validate(instance, self.index).map_err(Box::new);
            match regex::metered(patterns::MAX_STEPS, check) {
                (_, Some(exhausted)) => Err(vec![patterns::unaffordable(&exhausted, instance)]),
                (checked, None) => checked.map_err(|error| Report::of(&error, &self.document, instance)),
            }
        })
    }

    /// As [`Schema::check`], for a parsed value.
    #[cfg(test)]
    pub fn validate(&self, instance: &Value) -> Result<(), Vec<Fault>> {
        self.check(&instance.to_string())
    }
}

/// What the keywords alone do not show of a schema's cost.
#[derive(Debug, Clone, Copy)]
struct Manner {
    /// It uses `unevaluated…` keywords.
    remembers: bool,
    /// It reads strings for their format.
    reads_texts: bool,
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Schema").finish_non_exhaustive()
    }
}

/// Replaces boon's loader, which outside WebAssembly would read files.
struct NoLoader;

impl UrlLoader for NoLoader {
    fn load(&self, _: &str) -> Result<Value, Box<dyn std::error::Error>> {
        Err("references stay inside the document".into())
    }
}

fn compile(document: &Value, dialect: Dialect, checks: &Checks) -> Result<(Schemas, SchemaIndex), Box<CompileError>> {
    let mut compiler = Compiler::new();
    compiler.set_default_draft(dialect.draft());
    checks.register(&mut compiler);
    compiler.use_loader(Box::new(NoLoader));
    compiler.add_resource(BASE, document.clone())?;
    let mut schemas = Schemas::new();
    let index = compiler.compile(BASE, &mut schemas)?;
    Ok((schemas, index))
}

/// The survey finds everything but breaches of the metaschema; the rest is for what it may miss.
fn compile_faults(error: CompileError, keyed: &KeyedDocument) -> Vec<Fault> {
    match error {
        CompileError::ValidationError { url, src } => {
            let root = fragment(&url).unwrap_or_default();
            let part = keyed.document.pointer(&root).unwrap_or(&Value::Null);
            let mut faults = Report::of(&src, &Value::Null, part);
            for fault in &mut faults {
                fault.pointer = keyed.written(&format!("{root}{}", fault.pointer));
            }
            faults
        }
        other => vec![fault("", &format!("cannot be used: {}", clip(&other.to_string(), 120)))],
    }
}

fn accepts_all(document: &Value) -> bool {
    const ANNOTATIONS: [&str; 8] =
        ["$schema", "$id", "$comment", "title", "description", "default", "examples", "deprecated"];
    match document {
        Value::Object(keywords) => keywords.keys().all(|k| ANNOTATIONS.contains(&k.as_str())),
        other => other == &Value::Bool(true),
    }
}

fn fault(pointer: &str, detail: &str) -> Fault {
    Fault { pointer: pointer.to_owned(), detail: detail.to_owned() }
}

/// A single fault for the whole schema.
fn refuse<T>(detail: String) -> Result<T, Vec<Fault>> {
    Err(vec![fault("", &detail)])
}

/// A pointer extended by one token (RFC 6901 §3).
fn child(pointer: &str, token: &str) -> String {
    format!("{pointer}/{}", token.replace('~', "~0").replace('/', "~1"))
}

/// The decoded fragment of a URL (RFC 6901 §6): empty if there is none, `None` if it is not UTF-8.
fn fragment(url: &str) -> Option<String> {
    let (_, encoded) = url.split_once('#').unwrap_or_default();
    let hex = |b: &u8| char::from(*b).to_digit(16);
    let mut rest = encoded.as_bytes();
    let mut bytes = Vec::with_capacity(rest.len());
    while let [first, after @ ..] = rest {
        (rest, _) = match after {
            [high, low, after @ ..] if *first == b'%' && hex(high).and(hex(low)).is_some() => {
                let value = hex(high).zip(hex(low)).map(|(high, low)| high << 4 | low);
                (after, bytes.extend(value.and_then(|v| u8::try_from(v).ok())))
            }
            after => (after, bytes.push(*first)),
        };
    }
    String::from_utf8(bytes).ok()
}

/// The number of nested objects and arrays.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn clip(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

#[cfg(test)]
mod dialect_tests;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod limit_tests;
#[cfg(test)]
mod number_tests;
#[cfg(test)]
mod pattern_tests;
#[cfg(test)]
mod tests;
