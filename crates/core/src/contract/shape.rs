//! What a schema says about the form of values: types, members, words. Bounds, patterns and conditions are left out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

/// `None` means that everything is allowed.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    pub types: Option<BTreeSet<String>>,
    /// The strings, if they are listed.
    pub words: Option<BTreeSet<String>>,
    /// The schemas of the members that are named.
    pub members: BTreeMap<String, Value>,
    pub required: BTreeSet<String>,
    /// The schema of all other members; of maps.
    pub others: Option<Value>,
    pub items: Option<Value>,
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn strings(value: Option<&Value>) -> impl Iterator<Item = String> + '_ {
    let list = value.map(|value| value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice));
    list.unwrap_or_default().iter().filter_map(Value::as_str).map(Into::into)
}

impl Shape {
    pub fn of(root: &Value, schema: &Value) -> Self {
        let mut shape = Self::alone(schema);
        let target = schema.get("$ref").and_then(Value::as_str);
        if let Some(target) = target.and_then(|reference| root.pointer(reference.trim_start_matches('#'))) {
            shape = shape.meet(Self::of(root, target));
        }
        for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            shape = shape.meet(Self::of(root, part));
        }
        for word in ["anyOf", "oneOf"] {
            let branches = schema.get(word).and_then(Value::as_array).into_iter().flatten();
            if let Some(any) = branches.map(|branch| Self::of(root, branch)).reduce(Self::join) {
                shape = shape.meet(any);
            }
        }
        shape
    }

    /// What a schema says itself.
    fn alone(schema: &Value) -> Self {
        let values: Option<Vec<&Value>> = match (schema.get("const"), schema.get("enum")) {
            (Some(value), _) => Some(vec![value]),
            (None, Some(list)) => list.as_array().map(|values| values.iter().collect()),
            (None, None) => None,
        };
        let named = schema.get("type").is_some().then(|| strings(schema.get("type")).collect());
        let types = named.or_else(|| Some(values.as_ref()?.iter().map(|value| type_of(value).into()).collect()));
        let words = values.map(|values| values.into_iter().filter_map(Value::as_str).map(Into::into).collect());
        let members = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        let others = schema.get("additionalProperties").or(schema.get("unevaluatedProperties"));
        Self {
            // Only strings have words: of `enum: [true]` the type is all there is to compare.
            words: words.filter(|words: &BTreeSet<String>| !words.is_empty()),
            types,
            members: members.map(|(name, schema)| (name.clone(), schema.clone())).collect(),
            required: strings(schema.get("required")).collect(),
            others: others.filter(|others| **others != Value::Bool(false)).cloned(),
            items: schema.get("items").cloned(),
        }
    }

    pub fn may_be(&self, name: &str) -> bool {
        self.types.as_ref().is_none_or(|types| types.contains(name))
    }

    /// The values that both allow.
    fn meet(self, other: Self) -> Self {
        let both = |a: Value, b: Value| json!({"allOf": [a, b]});
        Self {
            types: meet_sets(self.types, other.types),
            words: meet_sets(self.words, other.words),
            members: combine(self.members, other.members, "allOf"),
            required: self.required.into_iter().chain(other.required).collect(),
            others: one_or(self.others, other.others, both),
            items: one_or(self.items, other.items, both),
        }
    }

    /// The values that one of them allows.
    fn join(self, other: Self) -> Self {
        let either = |a: Value, b: Value| json!({"anyOf": [a, b]});
        let words = match (self.words, other.words) {
            (Some(a), Some(b)) => Some(a.into_iter().chain(b).collect()),
            (Some(words), None) if !may_be_string(other.types.as_ref()) => Some(words),
            (None, Some(words)) if !may_be_string(self.types.as_ref()) => Some(words),
            _ => None,
        };
        let is_object = |types: Option<&BTreeSet<String>>| types.is_none_or(|types| types.contains("object"));
        let required = match (is_object(self.types.as_ref()), is_object(other.types.as_ref())) {
            (true, true) => self.required.intersection(&other.required).cloned().collect(),
            (true, false) => self.required,
            (false, _) => other.required,
        };
        Self {
            types: self.types.zip(other.types).map(|(a, b)| a.into_iter().chain(b).collect()),
            words,
            members: combine(self.members, other.members, "anyOf"),
            required,
            others: one_or(self.others, other.others, either),
            items: one_or(self.items, other.items, either),
        }
    }
}

fn may_be_string(types: Option<&BTreeSet<String>>) -> bool {
    types.is_none_or(|types| types.contains("string"))
}

/// What both sets have. An integer is a number too.
fn meet_sets(a: Option<BTreeSet<String>>, b: Option<BTreeSet<String>>) -> Option<BTreeSet<String>> {
    let (Some(a), Some(b)) = (&a, &b) else { return a.or(b) };
    let is_in =
        |set: &BTreeSet<String>, name: &String| set.contains(name) || name == "integer" && set.contains("number");
    Some(a.iter().filter(|name| is_in(b, name)).chain(b.iter().filter(|name| is_in(a, name))).cloned().collect())
}

fn one_or(a: Option<Value>, b: Option<Value>, combine: impl Fn(Value, Value) -> Value) -> Option<Value> {
    match (a, b) {
        (Some(a), Some(b)) => Some(combine(a, b)),
        (a, b) => a.or(b),
    }
}

/// All members; `word` combines the schemas of one that both have.
fn combine(mut a: BTreeMap<String, Value>, b: BTreeMap<String, Value>, word: &str) -> BTreeMap<String, Value> {
    for (name, schema) in b {
        let known = a.remove(&name);
        let combined = match known {
            Some(known) if known != schema => json!({word: [known, schema]}),
            _ => schema,
        };
        a.insert(name, combined);
    }
    a
}
