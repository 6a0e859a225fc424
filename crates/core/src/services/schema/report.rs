//! Turns boon's tree of errors into a flat list of useful faults.

use super::numbers::{Unmet, written};
use super::{BASE, Fault, KeywordValue, MAX_FAULTS};
use super::{child, clip, fragment, keyword_value};
use crate::base::order;
use boon::{ErrorKind, InstanceToken, Type, ValidationError};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// Branches of `anyOf` and `oneOf` are explained if that takes no more faults than this.
const MAX_BRANCH_FAULTS: usize = 5;
/// Faults are sorted before the first ones are taken; this limits that work.
const MAX_GATHERED: usize = 1000;
/// How many parts of a value are searched for an invalid name; beyond that, the fault points to the whole.
const MAX_LOOKS: usize = 20_000;
/// How much of a name or of an expected value is quoted, in characters.
const MAX_NAME: usize = 60;
const MAX_WANTED: usize = 200;
/// The longest pointer, in bytes.
const MAX_POINTER: usize = 1000;

/// A step from the instance's root.
#[derive(Clone)]
enum Step {
    Member(String),
    Item(usize),
}

/// Where the last reference led (a pointer in the schema), and from where in the instance. From there on, boon's schema
/// locations list each step.
#[derive(Clone, Copy)]
struct Start<'p> {
    schema: &'p str,
    at: &'p [Step],
}

const ROOT: Start = Start { schema: "", at: &[] };

pub(super) struct Report<'a> {
    document: &'a Value,
    instance: &'a Value,
    found: Vec<(Vec<Step>, String)>,
    /// How often each name was reported, to tell its parents apart.
    names: HashMap<(usize, String), usize>,
    /// How many parts of the instance may still be searched for a name's parent.
    looks_left: usize,
}

impl<'a> Report<'a> {
    /// The faults of `error`, which resulted from checking `instance` against `document`.
    pub fn of(error: &ValidationError, document: &'a Value, instance: &'a Value) -> Vec<Fault> {
        let mut report = Report::new(document, instance);
        report.gather(error, ROOT);
        report.faults()
    }

    fn new(document: &'a Value, instance: &'a Value) -> Self {
        let (found, names) = (Vec::new(), HashMap::new());
        Report { document, instance, found, names, looks_left: MAX_LOOKS }
    }

    fn gather(&mut self, error: &ValidationError, start: Start) {
        if self.found.len() >= MAX_GATHERED {
            return;
        }
        let (at, depth) = self.locate(error, start);
        match &error.kind {
            ErrorKind::Reference { url, .. } => {
                let schema = fragment(url).unwrap_or_default();
                self.gather_all(error, Start { schema: &schema, at: &at });
            }
            ErrorKind::AnyOf | ErrorKind::OneOf(None) => {
                let detail = format!("matches none of the {} forms allowed here", error.causes.len());
                self.found.push((at, detail));
                let before = self.found.len();
                self.gather_all(error, start);
                if self.found.len() - before > MAX_BRANCH_FAULTS {
                    self.found.truncate(before);
                }
            }
            ErrorKind::Required { want } => {
                let missing = |name: &&str| (at.clone(), format!("needs the member {}", quote(name)));
                self.found.extend(want.iter().take(MAX_GATHERED).map(missing));
            }
            ErrorKind::AdditionalProperties { got } => {
                for name in got.iter().take(MAX_GATHERED) {
                    let member = Step::Member(name.to_string());
                    let at = at.iter().cloned().chain([member]).collect();
                    self.found.push((at, "is not a member allowed here".into()));
                }
            }
            ErrorKind::PropertyName { prop } => self.name(error, prop, depth),
            ErrorKind::Format { err, .. } => match err.downcast_ref::<Unmet>() {
                Some(Unmet(details)) => self.found.extend(details.iter().map(|detail| (at.clone(), detail.clone()))),
                None => self.found.push((at, "does not fit the schema".into())),
            },
            kind => match describe(kind) {
                Some(detail) => self.found.push((at, detail)),
                None if error.causes.is_empty() => {
                    self.found.push((at, "does not fit the schema".into()));
                }
                None => self.gather_all(error, start),
            },
        }
    }

    fn gather_all(&mut self, error: &ValidationError, start: Start) {
        for cause in &error.causes {
            self.gather(cause, start);
        }
    }

    /// Where in the instance an error is, and the number of steps that should have.
    ///
    /// boon counts `items` from where `prefixItems` ends, and `additionalItems` from where an array of `items` does. So
    /// the steps from `start` on are repeated in the schema, and the item is shifted where two of these occur together.
    fn locate(&self, error: &ValidationError, start: Start) -> (Vec<Step>, usize) {
        let tokens = error.instance_location.tokens.iter().skip(start.at.len());
        let steps = tokens.map(|token| match token {
            InstanceToken::Prop(name) => Step::Member(name.to_string()),
            InstanceToken::Item(index) => Step::Item(*index),
        });
        let mut at: Vec<Step> = start.at.iter().cloned().chain(steps).collect();
        let place = fragment(error.schema_url).unwrap_or_default();
        let own = error.schema_url.starts_with(BASE);
        let (Some(way), true) = (place.strip_prefix(start.schema), own) else {
            let depth = at.len();
            return (at, depth);
        };
        let mut schema = self.document.pointer(start.schema);
        let mut depth = start.at.len();
        let mut tokens = way.split('/').skip(1);
        while let (Some(keyword), Some(here)) = (tokens.next(), schema) {
            let inner = here.get(keyword).unwrap_or(&Value::Null);
            let before = match keyword {
                "items" if !inner.is_array() => here.get("prefixItems"),
                "additionalItems" => here.get("items"),
                _ => None,
            };
            if let (Some(Value::Array(before)), Some(Step::Item(index))) = (before, at.get_mut(depth)) {
                *index += before.len();
            }
            let mut pointer = format!("/{keyword}");
            if let Some(KeywordValue::List | KeywordValue::Map) = keyword_value(keyword, inner) {
                pointer = format!("{pointer}/{}", tokens.next().unwrap_or_default());
            }
            schema = here.pointer(&pointer);
            depth += usize::from(goes_deeper(keyword));
        }
        (at, depth)
    }

    /// boon does not report where an invalid name was, only how deep; the objects there that have it are taken in turn.
    fn name(&mut self, error: &ValidationError, name: &str, depth: usize) {
        let mut inner = Report::new(&Value::Null, &Value::Null);
        inner.gather_all(error, ROOT);
        let why = inner.found.into_iter().next();
        let why = why.map_or_else(|| "is not allowed".to_owned(), |(_, why)| why);
        let turn = self.names.entry((depth, name.to_owned())).or_default();
        let mut at = Vec::new();
        let mut search = Search { name, depth, skip: *turn, looks_left: self.looks_left };
        *turn += 1;
        let found = search.holder(self.instance, &mut at) || {
            search.skip = 0;
            search.holder(self.instance, &mut at)
        };
        self.looks_left = search.looks_left;
        if found {
            at.push(Step::Member(name.to_owned()));
        } else if !self.found.is_empty() {
            return;
        }
        self.found.push((at, format!("the name {} {why}", quote(name))));
    }

    /// In document order, without duplicates, up to the maximum.
    fn faults(mut self) -> Vec<Fault> {
        let (instance, mut places) = (self.instance, Places::new());
        self.found.truncate(2 * MAX_GATHERED);
        order::sort_by_key(&mut self.found, |(at, _)| rank(instance, at, &mut places));
        let mut seen = HashSet::new();
        self.found
            .into_iter()
            .map(|(at, detail)| Fault { pointer: pointer(&at), detail })
            .filter(|fault| seen.insert((fault.pointer.clone(), fault.detail.clone())))
            .take(MAX_FAULTS)
            .collect()
    }
}

fn goes_deeper(keyword: &str) -> bool {
    matches!(
        keyword,
        "properties"
            | "patternProperties"
            | "additionalProperties"
            | "unevaluatedProperties"
            | "prefixItems"
            | "items"
            | "additionalItems"
            | "contains"
            | "unevaluatedItems"
    )
}

struct Search<'n> {
    name: &'n str,
    depth: usize,
    skip: usize,
    looks_left: usize,
}

impl Search<'_> {
    /// Leads `at` to the next object at this depth with a member of this name.
    fn holder(&mut self, value: &Value, at: &mut Vec<Step>) -> bool {
        let Some(left) = self.looks_left.checked_sub(1) else { return false };
        self.looks_left = left;
        if at.len() == self.depth {
            let skip = self.skip;
            let has = value.get(self.name).is_some();
            self.skip = skip.saturating_sub(usize::from(has));
            return has && skip == 0;
        }
        let mut down = |step: Step, inner: &Value| {
            at.push(step);
            let found = self.holder(inner, at);
            if !found {
                at.pop();
            }
            found
        };
        match value {
            Value::Object(members) => members.iter().any(|(name, inner)| down(Step::Member(name.clone()), inner)),
            Value::Array(items) => items.iter().enumerate().any(|(index, inner)| down(Step::Item(index), inner)),
            _ => false,
        }
    }
}

/// The positions of an object's members, by the object's address in memory.
type Places<'v> = HashMap<*const Value, HashMap<&'v str, usize>>;

/// The positions on the path, which sort in document order.
fn rank<'v>(instance: &'v Value, at: &[Step], places: &mut Places<'v>) -> Vec<usize> {
    let mut here = Some(instance);
    at.iter()
        .map(|step| match step {
            Step::Item(index) => {
                here = here.and_then(|value| value.get(index));
                *index
            }
            Step::Member(name) => {
                let holder = here.and_then(|value| Some((value, value.as_object()?)));
                here = holder.and_then(|(_, members)| members.get(name));
                let place = holder.and_then(|(value, members)| {
                    let numbered = || members.keys().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
                    let known = places.entry(std::ptr::from_ref(value)).or_insert_with(numbered);
                    known.get(name.as_str()).copied()
                });
                place.unwrap_or(usize::MAX)
            }
        })
        .collect()
}

/// The pointer, cut off rather than becoming very long.
fn pointer(at: &[Step]) -> String {
    at.iter()
        .map(|step| match step {
            Step::Member(name) => child("", name),
            Step::Item(index) => format!("/{index}"),
        })
        .scan(0, |length, step| {
            *length += step.len();
            (*length <= MAX_POINTER).then_some(step)
        })
        .collect()
}

/// Describes the kinds of error that need no context. It repeats nothing of the value but counts.
fn describe(kind: &ErrorKind) -> Option<String> {
    let wanted = |value: &Value| clip(&written(value), MAX_WANTED);
    Some(match kind {
        ErrorKind::FalseSchema => "is not allowed here".into(),
        ErrorKind::Type { got, want } => {
            let names: Vec<&str> = want.iter().map(noun).collect();
            format!("must be {}, not {}", names.join(" or "), noun(*got))
        }
        ErrorKind::Enum { want } => {
            // No more of them than are shown.
            let values: Vec<String> = want.iter().take(MAX_WANTED).map(wanted).collect();
            format!("must be one of {}", clip(&values.join(", "), MAX_WANTED))
        }
        ErrorKind::Const { want } => format!("must be {}", wanted(want)),
        ErrorKind::Dependency { prop, missing } | ErrorKind::DependentRequired { prop, missing } => {
            let names: Vec<String> = missing.iter().map(|name| quote(name)).collect();
            let names = clip(&names.join(", "), MAX_WANTED);
            format!("needs {names} when it has {}", quote(prop))
        }
        ErrorKind::Contains => "has no item of the kind it must contain".into(),
        ErrorKind::UniqueItems { got: [first, second] } => {
            format!("must not have equal items, but items {first} and {second} are equal")
        }
        ErrorKind::Pattern { want, .. } => {
            format!("must match the pattern {}", clip(want, MAX_WANTED))
        }
        ErrorKind::Minimum { want, .. } => format!("must be at least {want}"),
        ErrorKind::Maximum { want, .. } => format!("must be at most {want}"),
        ErrorKind::ExclusiveMinimum { want, .. } => format!("must be greater than {want}"),
        ErrorKind::ExclusiveMaximum { want, .. } => format!("must be less than {want}"),
        ErrorKind::MultipleOf { want, .. } => format!("must be a multiple of {want}"),
        ErrorKind::Not => "is of a form that is not allowed here".into(),
        ErrorKind::OneOf(Some((first, second))) => {
            format!("matches forms {first} and {second} (counted from 0), where only one may match")
        }
        ErrorKind::RefCycle { .. } => "cannot be checked: the schema refers back to itself".into(),
        _ => return describe_count(kind),
    })
}

/// Describes the kinds of error that limit a number of things.
fn describe_count(kind: &ErrorKind) -> Option<String> {
    let items = |n: &usize| count(*n, "item", "items");
    let members = |n: &usize| count(*n, "member", "members");
    let characters = |n: &usize| count(*n, "character", "characters");
    Some(match kind {
        ErrorKind::MinProperties { got, want } => format!("must have at least {}, has {got}", members(want)),
        ErrorKind::MaxProperties { got, want } => format!("must have at most {}, has {got}", members(want)),
        ErrorKind::MinItems { got, want } => format!("must have at least {}, has {got}", items(want)),
        ErrorKind::MaxItems { got, want } => format!("must have at most {}, has {got}", items(want)),
        ErrorKind::AdditionalItems { got } => format!("must not have more items than are listed, has {got} more"),
        ErrorKind::MinContains { got, want } => {
            format!("must contain at least {} of a kind, has {}", items(want), got.len())
        }
        ErrorKind::MaxContains { got, want } => {
            format!("must contain at most {} of a kind, has {}", items(want), got.len())
        }
        ErrorKind::MinLength { got, want } => format!("must have at least {}, has {got}", characters(want)),
        ErrorKind::MaxLength { got, want } => format!("must have at most {}, has {got}", characters(want)),
        _ => return None,
    })
}

fn noun(kind: Type) -> &'static str {
    match kind {
        Type::Null => "null",
        Type::Boolean => "a boolean",
        Type::Number => "a number",
        Type::Integer => "an integer",
        Type::String => "a string",
        Type::Array => "an array",
        Type::Object => "an object",
    }
}

fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

fn quote(name: &str) -> String {
    format!("{:?}", clip(name, MAX_NAME))
}
