//! What serde writes of a type, compared with a schema of the contract.
//!
//! Both ways: every member that can be written is described, and every described member can be written; what is
//! required is always written, and what is always written is required; types and words agree.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::Document;
use super::shape::Shape;

/// Views are not nested deeper than this.
const MAX_DEPTH: usize = 16;

/// What `T` writes and the named schema differ in. Empty: nothing.
pub fn differences<T: JsonSchema>(document: &Document, name: &str) -> Vec<String> {
    differences_with::<T>(document, name, &document.schema(name))
}

/// As [`differences`], for a schema without a name; `name` is what messages call it.
pub fn differences_with<T: JsonSchema>(document: &Document, name: &str, schema: &Value) -> Vec<String> {
    let written = SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>();
    let mut comparison = Comparison { written: written.as_value(), document, name, faults: Vec::new() };
    let view = short_name(std::any::type_name::<T>());
    comparison.compare(&view, written.as_value(), schema, false, 0);
    comparison.faults
}

/// The name of a type, without lifetimes and without its crate.
fn short_name(full: &str) -> String {
    let bare = full.split('<').next().unwrap_or(full);
    bare.split("::").skip(1).collect::<Vec<_>>().join("::")
}

/// Whether a member is only in requests: in every alternative.
fn is_write_only(schema: &Value) -> bool {
    let of_all =
        |word: &str| schema.get(word).and_then(Value::as_array).is_some_and(|all| all.iter().all(is_write_only));
    schema.get("writeOnly") == Some(&Value::Bool(true)) || of_all("anyOf") || of_all("allOf")
}

struct Comparison<'a> {
    written: &'a Value,
    document: &'a Document,
    name: &'a str,
    faults: Vec<String>,
}

impl Comparison<'_> {
    fn fault(&mut self, text: &str, remedy: &str) {
        let Self { document, name, .. } = self;
        self.faults.push(format!("{text} schema `{name}` of {}: {remedy}", document.path));
    }

    /// `at` is the place in the view. `optional`: absent instead of null.
    fn compare(&mut self, at: &str, written: &Value, described: &Value, optional: bool, depth: usize) {
        let mut view = Shape::of(self.written, written);
        let schema = Shape::of(&self.document.root, described);
        let Some(mut types) = view.types.take() else { return };
        if optional {
            types.remove("null");
        }
        if depth > MAX_DEPTH {
            return;
        }
        self.types(at, &types, &schema);
        if types.contains("string") {
            self.words(at, view.words.as_ref(), schema.words.as_ref());
        }
        if types.contains("object") && schema.may_be("object") {
            self.members(at, &view, &schema, depth);
        }
        if let (Some(written), Some(described)) = (&view.items, &schema.items) {
            self.compare(&format!("{at}[]"), written, described, false, depth + 1);
        }
        if let (Some(written), Some(described)) = (&view.others, &schema.others) {
            self.compare(&format!("{at}{{}}"), written, described, false, depth + 1);
        }
    }

    fn types(&mut self, at: &str, types: &BTreeSet<String>, schema: &Shape) {
        let Some(allowed) = &schema.types else { return };
        let is_allowed = |name: &&String| allowed.contains(*name) || *name == "integer" && allowed.contains("number");
        for name in types.iter().filter(|name| !is_allowed(name)) {
            let remedy = "correct its `type` in api/, then `npm run api`, or change the view";
            self.fault(&format!("`{at}` can be written as {name}, which is not a type in"), remedy);
        }
        let is_written = |name: &&String| types.contains(*name) || *name == "number" && types.contains("integer");
        for name in allowed.iter().filter(|name| !is_written(name)) {
            let remedy = "remove that type in api/, then `npm run api`, or change the view";
            self.fault(&format!("`{at}` is never written as {name}, which is a type in"), remedy);
        }
    }

    fn words(&mut self, at: &str, written: Option<&BTreeSet<String>>, described: Option<&BTreeSet<String>>) {
        let (Some(words), Some(allowed)) = (written, described) else {
            // A fixed value is a text in the view.
            if described.is_some_and(|words| words.len() > 1) {
                let remedy = "give the view an enum, or `#[schemars(with = \"…\")]` with the one that the text is from";
                self.fault(&format!("`{at}` is any string, while words are listed in"), remedy);
            }
            if let Some(words) = written {
                let remedy = "list them as `enum` in api/, then `npm run api`";
                self.fault(&format!("`{at}` is one of {words:?}, which are not listed in"), remedy);
            }
            return;
        };
        for word in words.difference(allowed) {
            let remedy = "add it to the `enum` in api/, then `npm run api`";
            self.fault(&format!("`{at}` can be \"{word}\", which is not in"), remedy);
        }
        for word in allowed.difference(words) {
            let remedy = "remove it from the `enum` in api/, then `npm run api`, or write it";
            self.fault(&format!("`{at}` is never \"{word}\", which is in"), remedy);
        }
    }

    fn members(&mut self, at: &str, view: &Shape, schema: &Shape, depth: usize) {
        for (name, written) in &view.members {
            let place = format!("{at}.{name}");
            let Some(described) = schema.members.get(name) else {
                self.fault(&format!("`{place}` is not in"), "describe it in api/schemas/, then `npm run api`");
                continue;
            };
            let is_always = view.required.contains(name);
            match (is_always, schema.required.contains(name)) {
                (false, true) => {
                    let remedy = "write it always, or take it from `required` in api/, then `npm run api`";
                    self.fault(&format!("`{place}` may be absent and is required by"), remedy);
                }
                (true, false) => {
                    let remedy = "add it to `required` in api/, then `npm run api`";
                    self.fault(&format!("`{place}` is always written and not required by"), remedy);
                }
                _ => {}
            }
            self.compare(&place, written, described, !is_always, depth + 1);
        }
        if view.others.is_some() && view.members.is_empty() {
            return;
        }
        let readable = schema.members.iter().filter(|(_, schema)| !is_write_only(schema));
        for (name, _) in readable.filter(|(name, _)| !view.members.contains_key(*name)) {
            let remedy = "write it, or remove it in api/schemas/, then `npm run api`";
            self.fault(&format!("`{at}` has no `{name}`, which is in"), remedy);
        }
    }
}
