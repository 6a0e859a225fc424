//! What checking would cost, counted without doing it. boon has no bound of its own: `allOf`
//! with two equal references, thirty times over, is two to the thirtieth steps, and every
//! step inside another takes 2.6 KiB of a stack that WebAssembly has 1 MiB of.

use super::depth;
use serde_json::{Map, Value};

/// The applications of a subschema to a value that one check may take.
const MAX_STEPS: usize = 500_000;
/// How many of them may be inside each other: half of what was measured to be fatal.
const MAX_NESTED: usize = 200;
/// Nested applications that the metaschema takes for each level of a value, at most.
const METASCHEMA_NESTED: usize = 5;

/// The weight all patterns of a schema may have together; about 20 MB when compiled.
pub(super) const MAX_PATTERN_WEIGHT: usize = 50_000;
/// The weight of a Unicode class such as `\p{L}`, measured against a letter.
const UNICODE_CLASS: usize = 200;
/// The weight of a dot or a negated class, which in UTF-8 are several ranges.
const WIDE_CLASS: usize = 10;

pub(super) struct Scale<'a> {
    /// The schema's document, with references replaced by pointers.
    document: &'a Value,
    steps_left: usize,
}

impl<'a> Scale<'a> {
    pub fn new(document: &'a Value) -> Self {
        Scale { document, steps_left: MAX_STEPS }
    }

    /// Whether `instance` can be checked against `schema` within the bounds, being `nested`
    /// applications deep already. What cannot be known without checking is taken to apply.
    pub fn bears(&mut self, schema: &Value, instance: &Value, nested: usize) -> bool {
        let Some(left) = self.steps_left.checked_sub(1) else {
            return false;
        };
        self.steps_left = left;
        let Value::Object(keywords) = schema else {
            return true;
        };
        nested < MAX_NESTED
            && keywords.iter().all(|(keyword, inner)| match inner {
                Value::Array(list) => self.bears_list(keyword, list, instance, nested + 1),
                Value::Object(_) | Value::Bool(_) => match instance {
                    Value::Object(members) => {
                        self.bears_members(keywords, keyword, inner, instance, members, nested + 1)
                    }
                    _ => self.bears_inner(keywords, keyword, inner, instance, nested + 1),
                },
                _ => true,
            })
    }

    fn bears_list(&mut self, keyword: &str, list: &[Value], value: &Value, nested: usize) -> bool {
        match (keyword, value) {
            ("$ref" | "$dynamicRef", _) if list.is_empty() => nested + METASCHEMA_NESTED * depth(value) < MAX_NESTED,
            ("$ref" | "$dynamicRef", _) => list.iter().all(|target| {
                let schema = target.as_str().and_then(|at| self.document.pointer(at));
                schema.is_none_or(|schema| self.bears(schema, value, nested))
            }),
            ("allOf" | "anyOf" | "oneOf", _) => list.iter().all(|schema| self.bears(schema, value, nested)),
            ("prefixItems", Value::Array(items)) => {
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
            ("not" | "if" | "then" | "else", _) => self.bears(inner, value, nested),
            ("items" | "contains" | "unevaluatedItems", Value::Array(items)) => {
                let prefix = keywords.get("prefixItems").and_then(Value::as_array);
                let done = match keyword {
                    "contains" => 0,
                    _ => prefix.map_or(0, Vec::len),
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
            "propertyNames" => members.keys().all(|_| self.bears(inner, &Value::Null, nested)),
            "dependentSchemas" | "dependencies" => {
                named().all(|(name, schema)| !members.contains_key(name) || self.bears(schema, value, nested))
            }
            _ => self.bears_inner(keywords, keyword, inner, value, nested),
        }
    }
}

/// About how many states a pattern becomes, and so what compiling and running it takes: each
/// part times its counted repetitions. The regex crate bounds a single pattern, but at 10 MB.
pub(super) fn pattern_weight(pattern: &str) -> usize {
    let mut chars = pattern.chars().peekable();
    // The sums of the groups that are open, the innermost last.
    let (mut outer, mut sum, mut last) = (Vec::new(), 0usize, 0usize);
    let (mut rewritten, mut in_class) = (0usize, 0usize);
    while let Some(c) = chars.next() {
        let was_in_class = in_class;
        let weight = match c {
            '\\' => {
                let escaped = chars.next();
                if matches!(escaped, Some('p' | 'P' | 'x' | 'u' | 'U')) && chars.next_if_eq(&'{').is_some() {
                    chars.by_ref().find(|c| *c == '}');
                }
                rewritten += usize::from(matches!(escaped, Some('d' | 'D' | 'w' | 'W' | 's' | 'S')));
                match escaped {
                    Some('p' | 'P') => UNICODE_CLASS,
                    Some('D' | 'W' | 's' | 'S') => WIDE_CLASS,
                    _ => 2,
                }
            }
            '[' => {
                in_class += 1;
                if chars.peek() == Some(&'^') { WIDE_CLASS } else { 1 }
            }
            ']' if in_class > 0 => {
                in_class -= 1;
                0
            }
            '.' if in_class == 0 => WIDE_CLASS,
            '(' if in_class == 0 => {
                outer.push(sum);
                (sum, last) = (0, 0);
                continue;
            }
            ')' if in_class == 0 => {
                last = sum;
                sum = sum.saturating_add(outer.pop().unwrap_or(0));
                continue;
            }
            '{' if in_class == 0 => {
                let count: String = chars.by_ref().take_while(|c| *c != '}').collect();
                let most = count.split(',').filter_map(|n| n.trim().parse().ok()).max();
                let repeated = last.saturating_mul(most.unwrap_or(1));
                sum = sum.saturating_sub(last).saturating_add(repeated);
                last = repeated;
                continue;
            }
            '?' | '*' | '+' if in_class == 0 => {
                sum = sum.saturating_add(1);
                continue;
            }
            c => c.len_utf8(),
        };
        sum = sum.saturating_add(weight);
        let before = if was_in_class > 0 { last } else { 0 };
        last = before.saturating_add(weight);
    }
    // boon rewrites such classes one by one, each time reading the pattern anew.
    let rewriting = rewritten * (pattern.len() + 12 * rewritten) / 10;
    outer.into_iter().fold(sum, usize::saturating_add).saturating_add(rewriting)
}
