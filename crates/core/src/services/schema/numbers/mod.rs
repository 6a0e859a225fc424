//! Keywords that boon would compare as doubles, and `format`: they are removed from the document and checked here
//! against the decimals that were written. A `format` of ours stands in their place, which boon asks about each value.
//! boon compares `enum`, `const`, `uniqueItems` and `type` itself, since its trees do not confuse any two numbers
//! (`exact`).

mod hooks;

use super::dialect::Dialect;
use super::formats::{self, Format};
use super::{Fault, Formats, child, clip, fault};
use crate::base::decimal::Divisor;
use crate::base::exact_json::{NumberLists, Numbers, TreeNumber};
use boon::Compiler;
use regex::Library;
use serde_json::{Map, Number, Value};
use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// No value has more parts than this: the maximum of a 32-bit count.
const MAX_COUNTED: u64 = u32::MAX as u64;
const COUNTS: [&str; 8] =
    ["minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "minContains", "maxContains"];
/// The ranges that patterns given as values (`"format": "regex"`) may have in their classes, in one check.
const MAX_RANGES: usize = 60_000;

/// How much of a number is shown, in characters.
const MAX_SHOWN: usize = 60;

/// What one schema requires of a number or of a string's format.
#[derive(Debug, Default)]
struct Check {
    bounds: Vec<(Side, Bound)>,
    multiple_of: Option<(Divisor, String)>,
    format: Option<Format>,
}

#[derive(Debug, Clone, Copy)]
enum Side {
    AtLeast,
    AtMost,
    Above,
    Below,
}

#[derive(Debug)]
struct Bound {
    number: Number,
    text: String,
}

/// All checks of a document, and the numbers in it.
#[derive(Debug, Default)]
pub(super) struct Checks {
    list: Vec<Check>,
    places: HashMap<String, usize>,
    pub numbers: Numbers,
    /// Something in it depends on a value's numbers.
    pub minds_numbers: bool,
    faults: Vec<Fault>,
}

/// The requirements that a value does not meet.
#[derive(Debug)]
pub(super) struct Unmet(pub Vec<String>);

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl Error for Unmet {}

struct ActiveChecks {
    checks: Arc<Checks>,
    own: Numbers,
    library: Library,
}

thread_local! {
    static ACTIVE: RefCell<Option<ActiveChecks>> = const { RefCell::new(None) };
}

/// Runs `work` with the numbers of the checked value.
pub(super) fn checked<T>(checks: &Arc<Checks>, own: Numbers, work: impl FnOnce() -> T) -> T {
    let active = ActiveChecks { checks: checks.clone(), own, library: Library::new(MAX_RANGES) };
    ACTIVE.set(Some(active));
    let done = work();
    ACTIVE.set(None);
    done
}

/// The result of a hook for a value.
fn run(place: usize, value: &Value) -> Result<(), Box<dyn Error>> {
    ACTIVE.with_borrow_mut(|active| {
        let Some(ActiveChecks { checks, own, library }) = active else { return Ok(()) };
        let Some(check) = checks.list.get(place) else { return Ok(()) };
        let unmet = match value {
            Value::Number(number) => check.of_number(number, NumberLists { before: &checks.numbers, own }),
            Value::String(text) => check.format.and_then(|format| format.unmet(text, library)).into_iter().collect(),
            _ => Vec::new(),
        };
        if unmet.is_empty() { Ok(()) } else { Err(Unmet(unmet).into()) }
    })
}

/// A value as it is written, with the numbers of the current check.
pub(super) fn written(value: &Value) -> String {
    ACTIVE.with_borrow(|active| match active {
        Some(ActiveChecks { checks, own, .. }) => NumberLists { before: &checks.numbers, own }.written(value),
        None => value.to_string(),
    })
}

/// A number of a schema as it is shown in messages.
fn shown(lists: NumberLists<'_>, number: &Number) -> String {
    clip(&lists.written(&Value::Number(number.clone())), MAX_SHOWN)
}

impl Check {
    fn of_number(&self, number: &Number, lists: NumberLists<'_>) -> Vec<String> {
        let known = lists.known(number);
        let mut unmet = Vec::new();
        for (side, bound) in &self.bounds {
            let order = known.compare(&lists.known(&bound.number));
            let (is_met, word) = match side {
                Side::AtLeast => (order != Ordering::Less, "at least"),
                Side::AtMost => (order != Ordering::Greater, "at most"),
                Side::Above => (order == Ordering::Greater, "greater than"),
                Side::Below => (order == Ordering::Less, "less than"),
            };
            if !is_met {
                unmet.push(format!("must be {word} {}", bound.text));
            }
        }
        if let Some((divisor, text)) = &self.multiple_of {
            let is_multiple = match (number.as_i64(), divisor.whole()) {
                (Some(number), Some(whole)) => number % whole == 0,
                _ => lists.decimal(number).is_multiple_of(divisor),
            };
            if !is_multiple {
                unmet.push(format!("must be a multiple of {text}"));
            }
        }
        unmet
    }
}

impl Checks {
    /// Removes what is checked here from each of these schemas. `written` returns a pointer in terms of the original
    /// document.
    pub fn take(
        document: &mut Value,
        schemas: &[String],
        dialect: Dialect,
        numbers: Numbers,
        formats: Formats,
        written: impl Fn(&str) -> String,
    ) -> Result<Checks, Vec<Fault>> {
        let mut checks = Checks { numbers, ..Checks::default() };
        for at in schemas {
            if let Some(Value::Object(keywords)) = document.pointer_mut(at)
                && !dialect.is_alone(keywords)
            {
                checks.take_from(keywords, at, dialect, formats, &written);
            }
        }
        if checks.faults.is_empty() { Ok(checks) } else { Err(checks.faults) }
    }

    /// Registers the hooks for what was removed.
    pub fn register(&self, compiler: &mut Compiler) {
        compiler.enable_format_assertions();
        for format in formats::unasked() {
            compiler.register_format(format);
        }
        for place in 0..self.list.len() {
            if let Some(hook) = hooks::hook(place) {
                compiler.register_format(hook);
            }
        }
    }

    fn take_from(
        &mut self,
        keywords: &mut Map<String, Value>,
        at: &str,
        dialect: Dialect,
        formats: Formats,
        written: &impl Fn(&str) -> String,
    ) {
        // Only in 2019-09, but boon treats it as one of 2020-12 too.
        if dialect == Dialect::Draft2020 {
            keywords.remove("$recursiveRef");
        }
        for keyword in COUNTS {
            self.count(keywords, keyword);
        }
        let mut check = Check::default();
        self.bounds(keywords, dialect, &mut check);
        let numbers = &self.numbers;
        if let Some(Value::Number(number)) = keywords.get("multipleOf") {
            let lists = NumberLists { before: numbers, own: numbers };
            let decimal = lists.decimal(number);
            match Divisor::new(&decimal) {
                Some(divisor) => {
                    check.multiple_of = Some((divisor, shown(lists, number)));
                    keywords.remove("multipleOf");
                }
                // The metaschema rejects it.
                None if decimal.is_negative() || decimal.is_zero() => {
                    keywords.insert("multipleOf".into(), Value::from(-i64::from(!decimal.is_zero())));
                }
                None => self.faults.push(fault(&written(&child(at, "multipleOf")), "must have at most 19 digits")),
            }
        }
        if let Some(Value::String(format)) = keywords.get("format") {
            check.format = Format::named(format).filter(|_| formats == Formats::Assert);
            keywords.remove("format");
        }
        let minds = |keyword: &str, value: &Value| match keyword {
            "enum" | "const" => true,
            "uniqueItems" => *value == Value::Bool(true),
            "type" => {
                value == "integer" || value.as_array().is_some_and(|types| types.iter().any(|one| one == "integer"))
            }
            // The metaschema may use all of it.
            "$ref" | "$recursiveRef" | "$dynamicRef" => {
                value.as_str().is_some_and(|to| to.contains("json-schema.org/"))
            }
            _ => false,
        };
        let asks = !check.bounds.is_empty() || check.multiple_of.is_some();
        self.minds_numbers |= asks || keywords.iter().any(|(keyword, value)| minds(keyword, value));
        if asks || check.format.is_some() {
            let place = self.place(check);
            keywords.insert("format".into(), hooks::name(place).into());
        }
    }

    /// Equal checks share one place.
    fn place(&mut self, check: Check) -> usize {
        let next = self.list.len();
        let place = *self.places.entry(format!("{check:?}")).or_insert(next);
        if place == next {
            self.list.push(check);
        }
        place
    }

    /// A count that boon can represent on every platform.
    fn count(&self, keywords: &mut Map<String, Value>, keyword: &str) {
        let Some(Value::Number(number)) = keywords.get_mut(keyword) else { return };
        let lists = NumberLists { before: &self.numbers, own: &self.numbers };
        if number.as_u64().is_some_and(|count| count <= MAX_COUNTED) {
            return;
        }
        let decimal = lists.decimal(number);
        if decimal.is_negative() {
            *number = (-1).into();
        } else if decimal.is_integer() {
            *number = decimal.to_string().parse().unwrap_or(MAX_COUNTED).min(MAX_COUNTED).into();
        }
    }

    /// In draft 4 a bound is exclusive by a flag beside it; since then by its own keyword.
    fn bounds(&self, keywords: &mut Map<String, Value>, dialect: Dialect, check: &mut Check) {
        let lists = NumberLists { before: &self.numbers, own: &self.numbers };
        let mut take = |keywords: &mut Map<String, Value>, keyword: &str, side: Side| {
            if let Some(Value::Number(number)) = keywords.get(keyword) {
                let (number, text) = (number.clone(), shown(lists, number));
                check.bounds.push((side, Bound { number, text }));
                keywords.remove(keyword);
            }
        };
        let sides = [
            ("minimum", "exclusiveMinimum", Side::AtLeast, Side::Above),
            ("maximum", "exclusiveMaximum", Side::AtMost, Side::Below),
        ];
        for (keyword, exclusive, with, without) in sides {
            if dialect > Dialect::Draft4 {
                take(keywords, keyword, with);
                take(keywords, exclusive, without);
                continue;
            }
            let flag = keywords.get(exclusive).and_then(Value::as_bool);
            // The metaschema rejects a bound that is not a flag or stands alone.
            if (flag.is_some() || !keywords.contains_key(exclusive)) && keywords.contains_key(keyword) {
                take(keywords, keyword, if flag == Some(true) { without } else { with });
                if !keywords.contains_key(keyword) {
                    keywords.remove(exclusive);
                }
            }
        }
    }

    /// How many digits of a value's number must be read.
    pub fn digits(&self, number: &Number, own: &Numbers) -> usize {
        match (NumberLists { before: &self.numbers, own }).known(number) {
            TreeNumber::Listed(decimal) => decimal.count(),
            TreeNumber::Plain(_) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hooks_are_found_by_their_names() {
        for place in [0, 9, 10, 99, 100, 999] {
            assert_eq!(hooks::hook(place).unwrap().name, hooks::name(place));
        }
        assert!(hooks::hook(1000).is_none());
        assert!(hooks::hook(super::super::MAX_SUBSCHEMAS - 1).is_some());
    }
}
