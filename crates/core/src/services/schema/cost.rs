//! What checking would cost, counted without doing it. boon has no bound of its own: `allOf`
//! with two equal references, thirty times over, is two to the thirtieth steps, and every
//! step inside another takes 2.6 KiB of a stack that WebAssembly has 1 MiB of.
//!
//! The unit is an eighth of what applying a subschema to the value itself takes, which is more
//! than to a part of it; what a keyword takes beside that is a product of the schema's size and
//! the value's, and is counted with it. What patterns take is counted while they run
//! (`patterns.rs`).

use super::dialect::Dialect;
use super::numbers::Checks;
use super::{Manner, depth};
use crate::base::exact_json::Numbers;
use serde_json::{Map, Value};

/// What one check may take. Measured as WebAssembly: at most 0.06 µs each, so some 30 ms.
const MAX_UNITS: usize = 560_000;
const APPLICATION: usize = 8;
const TO_A_PART: usize = 5;
/// How many applications may be inside each other: half of what was measured to be fatal.
const MAX_NESTED: usize = 200;
/// Nested applications that the metaschema takes for each level of a value, at most.
const METASCHEMA_NESTED: usize = 5;
/// What the metaschema takes for each part of a value.
const METASCHEMA: usize = 60;
/// The member of a schema that is a reference and nothing else.
const ALONE: &str = "\u{1}alone";
/// The member of a schema in which its own weight is kept, and no schema that people write has.
const WEIGHT: &str = "\u{1}weight";
/// What dividing by a number takes, and so many digits of it.
const DIVISION: usize = 8;
const DIGITS_PER_UNIT: usize = 4;
/// The bytes of a text that are read for its form with one unit.
const READ_PER_UNIT: usize = 2;

/// Writes into each of these schemas what it takes by itself, whatever it is applied to; or that it is a reference beside
/// which nothing counts.
pub(super) fn weigh(document: &mut Value, schemas: &[String], dialect: Dialect) {
    let alone =
        |keywords: &Map<String, Value>| dialect <= Dialect::Draft7 && keywords.get("$ref").is_some_and(Value::is_array);
    // A part may be inside of what does not count, and be referred to there: so nothing is taken out.
    for at in schemas {
        if let Some(Value::Object(keywords)) = document.pointer_mut(at) {
            if alone(keywords) {
                keywords.insert(ALONE.into(), Value::Null);
            } else {
                let weight = own_weight(keywords);
                keywords.insert(WEIGHT.into(), weight.into());
            }
        }
    }
}

fn own_weight(keywords: &Map<String, Value>) -> usize {
    let of = |(keyword, value): (&String, &Value)| match (keyword.as_str(), value) {
        ("enum", Value::Array(values)) => values.len() / 8 + size(value) / 8,
        ("const", value) => size(value) / 8,
        ("required", Value::Array(names)) => names.len(),
        ("dependentRequired" | "dependencies", Value::Object(map)) => {
            map.values().map(|names| 1 + names.as_array().map_or(0, Vec::len)).sum()
        }
        ("dependentSchemas", Value::Object(map)) => map.len(),
        ("multipleOf", _) => DIVISION,
        ("minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "format", _) => 1,
        _ => 0,
    };
    keywords.len() / 4 + keywords.iter().map(of).sum::<usize>()
}

/// The parts of a value, and its text in pieces.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => 1 + text.len() / 32,
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(members) => {
            1 + members.iter().map(|(name, inner)| 1 + name.len() / 32 + size(inner)).sum::<usize>()
        }
        _ => 1,
    }
}

/// What it takes the metaschema at most to see whether the texts of a value are patterns: boon reads all of one again for
/// each control character that is escaped by its letter.
fn patterns(value: &Value) -> usize {
    let read = |text: &str| text.matches("\\c").count().saturating_mul(text.len()) / READ_PER_UNIT;
    match value {
        Value::String(text) => read(text),
        Value::Array(items) => items.iter().map(patterns).fold(0, usize::saturating_add),
        Value::Object(members) => {
            let each = members.iter().map(|(name, inner)| read(name).saturating_add(patterns(inner)));
            each.fold(0, usize::saturating_add)
        }
        _ => 0,
    }
}

/// What finding equal items takes. Up to 20 are compared each with each; more are told apart by
/// a hash, which does not see how arrays inside arrays are put together.
fn unique(items: &[Value]) -> usize {
    let all: usize = items.iter().map(size).sum();
    if items.len() <= 20 {
        return all * items.len() / 4;
    }
    let alike: Vec<usize> = items.iter().filter(|item| holds_arrays(item, false)).map(size).collect();
    all + alike.iter().sum::<usize>() * alike.len() / 8
}

/// Whether it does not take long to see that no two of these are equal.
pub(super) fn can_be_told_apart(items: &[Value]) -> bool {
    unique(items) <= MAX_UNITS
}

fn holds_arrays(value: &Value, within: bool) -> bool {
    match value {
        Value::Array(items) => within || items.iter().any(|item| holds_arrays(item, true)),
        Value::Object(members) => members.values().any(|inner| holds_arrays(inner, within)),
        _ => false,
    }
}

pub(super) struct Scale<'a> {
    /// The schema's document, with references replaced by pointers.
    document: &'a Value,
    units_left: usize,
    /// Where it is asked somewhere what was evaluated, that is remembered everywhere.
    manner: Manner,
    checks: &'a Checks,
    /// The value's own numbers.
    own: &'a Numbers,
}

impl<'a> Scale<'a> {
    pub fn new(document: &'a Value, manner: Manner, checks: &'a Checks, own: &'a Numbers) -> Self {
        Scale { document, units_left: MAX_UNITS, manner, checks, own }
    }

    fn spend(&mut self, units: usize) -> bool {
        match self.units_left.checked_sub(units) {
            Some(left) => {
                self.units_left = left;
                true
            }
            None => false,
        }
    }

    /// What applying these keywords takes, but for what they apply to parts of the value.
    fn weight(&self, keywords: &Map<String, Value>, instance: &Value, nested: usize) -> usize {
        let own =
            keywords.get(WEIGHT).and_then(Value::as_u64).map_or(0, |own| usize::try_from(own).unwrap_or(usize::MAX));
        let with_value = match instance {
            // Each member is looked up among those that are known.
            Value::Object(members) => members.len() * if self.manner.remembers { 6 } else { 1 },
            Value::Array(items) => {
                let remembered = if self.manner.remembers { items.len() * 3 } else { 0 };
                let is_unique = keywords.get("uniqueItems") == Some(&Value::Bool(true));
                remembered + if is_unique { unique(items) } else { 0 }
            }
            Value::String(text) => {
                let is_read = self.manner.reads_texts && keywords.contains_key("format");
                let is_counted = keywords.contains_key("maxLength") || keywords.contains_key("minLength");
                (if is_read { text.len() / READ_PER_UNIT } else { 0 }) + (if is_counted { text.len() / 64 } else { 0 })
            }
            Value::Number(number) if keywords.contains_key("multipleOf") => {
                self.checks.digits(number, self.own) / DIGITS_PER_UNIT
            }
            _ => 0,
        };
        own.saturating_add(with_value).saturating_add(TO_A_PART + nested / 8)
    }

    /// Whether `instance` can be checked against `schema` within the bounds, being `nested`
    /// applications deep already. What cannot be known without checking is taken to apply.
    pub fn bears(&mut self, schema: &Value, instance: &Value, nested: usize) -> bool {
        let Value::Object(keywords) = schema else {
            return self.spend(TO_A_PART);
        };
        let is_alone = keywords.contains_key(ALONE);
        nested < MAX_NESTED
            && self.spend(self.weight(keywords, instance, nested))
            && keywords.iter().filter(|(keyword, _)| !is_alone || *keyword == "$ref").all(
                |(keyword, inner)| match inner {
                    Value::Array(list) => self.bears_list(keyword, list, instance, nested + 1),
                    Value::Object(_) | Value::Bool(_) => match instance {
                        Value::Object(members) => {
                            self.bears_members(keywords, keyword, inner, instance, members, nested + 1)
                        }
                        _ => self.bears_inner(keywords, keyword, inner, instance, nested + 1),
                    },
                    _ => true,
                },
            )
    }

    /// The same for a subschema that is applied to the value itself.
    fn bears_in_place(&mut self, schema: &Value, instance: &Value, nested: usize) -> bool {
        self.spend(APPLICATION - TO_A_PART) && self.bears(schema, instance, nested)
    }

    fn bears_list(&mut self, keyword: &str, list: &[Value], value: &Value, nested: usize) -> bool {
        match (keyword, value) {
            ("$ref" | "$recursiveRef" | "$dynamicRef", _) if list.is_empty() => {
                nested + METASCHEMA_NESTED * depth(value) < MAX_NESTED
                    && self.spend(size(value).saturating_mul(METASCHEMA).saturating_add(patterns(value)))
            }
            ("$ref" | "$recursiveRef" | "$dynamicRef", _) => list.iter().all(|target| {
                let schema = target.as_str().and_then(|at| self.document.pointer(at));
                schema.is_none_or(|schema| self.bears_in_place(schema, value, nested))
            }),
            ("allOf" | "anyOf" | "oneOf", _) => list.iter().all(|schema| self.bears_in_place(schema, value, nested)),
            ("prefixItems" | "items", Value::Array(items)) => {
                list.iter().zip(items).all(|(schema, item)| self.bears(schema, item, nested))
            }
            _ => true,
        }
    }

    /// Keywords with one schema, for any value.
    fn bears_inner(
        &mut self,
        keywords: &Map<String, Value>,
        keyword: &str,
        inner: &Value,
        value: &Value,
        nested: usize,
    ) -> bool {
        match (keyword, value) {
            ("not" | "if" | "then" | "else", _) => self.bears_in_place(inner, value, nested),
            ("items" | "additionalItems" | "contains" | "unevaluatedItems", Value::Array(items)) => {
                let length = |keyword| keywords.get(keyword).and_then(Value::as_array).map_or(0, Vec::len);
                let done = match keyword {
                    "contains" => 0,
                    "additionalItems" => length("items"),
                    "items" => length("prefixItems"),
                    // The same in each draft.
                    _ => length("prefixItems").max(length("items")),
                };
                let mut rest = items.iter().skip(done);
                rest.all(|item| self.bears(inner, item, nested))
            }
            _ => true,
        }
    }

    /// Keywords that say something of members; the others are passed on.
    fn bears_members(
        &mut self,
        keywords: &Map<String, Value>,
        keyword: &str,
        inner: &Value,
        value: &Value,
        members: &Map<String, Value>,
        nested: usize,
    ) -> bool {
        let named = || inner.as_object().into_iter().flatten();
        match keyword {
            "properties" => members.iter().all(|(name, member)| {
                let schema = inner.get(name);
                schema.is_none_or(|schema| self.bears(schema, member, nested))
            }),
            "patternProperties" => named().all(|(_, schema)| {
                let mut members = members.values();
                members.all(|member| self.bears(schema, member, nested))
            }),
            "additionalProperties" | "unevaluatedProperties" => {
                let known = keywords.get("properties").and_then(Value::as_object);
                let mut others =
                    members.iter().filter(|(name, _)| known.is_none_or(|known| !known.contains_key(*name)));
                others.all(|(_, member)| self.bears(inner, member, nested))
            }
            // Each name is checked by itself, as a text.
            "propertyNames" => members
                .keys()
                .all(|name| self.spend(3 * APPLICATION) && self.bears(inner, &Value::String(name.clone()), nested)),
            "dependentSchemas" | "dependencies" => {
                named().all(|(name, schema)| !members.contains_key(name) || self.bears_in_place(schema, value, nested))
            }
            _ => self.bears_inner(keywords, keyword, inner, value, nested),
        }
    }
}
