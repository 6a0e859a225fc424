//! The patterns of a schema: each is compiled once, limited in its states, and replaced in the document by a key, by
//! which boon asks for it ([`regex`]).

use super::survey::{Reference, Survey};
use super::{Fault, MAX_FAULTS, child, clip, fault, fragment};
use crate::base::order;
use regex::{Error, Exhausted, Library, Program, Regex};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// The maximum number of states of one pattern, and of all distinct patterns of a schema together.
pub(super) const MAX_STATES: usize = 20_000;
pub(super) const MAX_ALL_STATES: usize = 100_000;
/// The maximum number of ranges in the classes of all patterns, counted at each use: `[a-z_]` has two, `\p{L}` about
/// 700, and twenty times as many at its first use, for the lookup.
pub(super) const MAX_RANGES: usize = 600_000;
/// The maximum number of steps of all patterns together in one check.
pub(super) const MAX_STEPS: u64 = 700_000;
/// How much of a pattern is shown, in characters.
const MAX_SHOWN: usize = 80;

pub(super) struct Patterns {
    /// By their text.
    programs: BTreeMap<String, Result<Arc<Program>, Option<String>>>,
    /// Where each is used, its text, and the maximum length of a string that it is applied to.
    used: Vec<(String, String, Option<u64>)>,
    /// The states of all patterns, including those that are too large to be compiled.
    states: usize,
    library: Library,
    faults: Vec<Fault>,
}

/// A document with keys in place of its patterns, and the patterns of the keys.
pub(super) struct KeyedDocument {
    pub document: Value,
    pub patterns: Vec<Regex>,
    /// The patterns' texts, by index.
    names: Vec<String>,
}

impl Default for Patterns {
    fn default() -> Self {
        let library = Library::new(MAX_RANGES);
        Self { programs: BTreeMap::new(), used: Vec::new(), states: 0, library, faults: Vec::new() }
    }
}

impl Patterns {
    /// Adds the pattern at a pointer; `max_characters` limits the strings it is applied to.
    pub fn add(&mut self, at: &str, pattern: &str, max_characters: Option<u64>) {
        if !self.programs.contains_key(pattern) {
            let program = self.program(pattern);
            self.programs.insert(pattern.into(), program);
        }
        if let Some(Err(Some(detail))) = self.programs.get(pattern)
            && self.faults.len() < MAX_FAULTS
        {
            self.faults.push(fault(at, detail));
        }
        self.used.push((at.into(), pattern.into(), max_characters));
    }

    /// A pattern's program or its fault; `Err(None)` if an earlier pattern used up the limit.
    fn program(&mut self, pattern: &str) -> Result<Arc<Program>, Option<String>> {
        let left = MAX_STATES.min(MAX_ALL_STATES.saturating_sub(self.states));
        let spent = self.library.is_spent();
        match Program::new(pattern, left, &mut self.library) {
            Ok(program) => {
                self.states += program.states();
                Ok(Arc::new(program))
            }
            Err(Error::TooLarge(states)) if states <= MAX_STATES => {
                self.states += states;
                Err(None)
            }
            // The first pattern beyond the limit is named.
            Err(Error::Classes) if spent => Err(None),
            Err(error) => Err(Some(refusal(&error))),
        }
    }

    /// The faults of each pattern, and of all together.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = self.faults.clone();
        let all = self.states;
        if all > MAX_ALL_STATES {
            let made = self.programs.iter().filter_map(|(text, program)| Some((program.as_ref().ok()?.states(), text)));
            let (has, largest) = made.max().map_or((0, ""), |(states, text)| (states, text.as_str()));
            let largest = clip(largest, MAX_SHOWN);
            let detail = format!(
                "has patterns that repeat too much, or too many patterns: together they have {all} states, and \
                 the limit is {MAX_ALL_STATES}. The largest, {largest}, has {has}"
            );
            faults.push(fault("", &detail));
        }
        if faults.is_empty() && self.programs.values().any(Result::is_err) {
            faults.push(fault("", &refusal(&Error::Classes)));
        }
        faults
    }

    /// The document as boon gets it.
    pub fn keyed(&self, survey: &Survey<'_>, document: &Value) -> KeyedDocument {
        let mut keyed = KeyedDocument { document: document.clone(), patterns: Vec::new(), names: Vec::new() };
        let maps: HashSet<&str> = self
            .used
            .iter()
            .filter_map(|(at, ..)| Some(at.rsplit_once('/')?.0))
            .filter(|at| is_map(at, survey))
            .collect();
        let mut by_place: BTreeMap<&str, usize> = BTreeMap::new();
        for (at, pattern, max_characters) in &self.used {
            let Some(Ok(program)) = self.programs.get(pattern) else { continue };
            by_place.insert(at, keyed.patterns.len());
            keyed.patterns.push(Regex::of(pattern, program.clone(), *max_characters));
            keyed.names.push(pattern.clone());
        }
        let renamed = |pointer: &str| {
            let (mut before, mut after) = (String::new(), String::new());
            for token in pointer.split('/').skip(1) {
                let here = format!("{before}/{token}");
                let index = maps.contains(before.as_str()).then(|| by_place.get(here.as_str())).flatten();
                after = match index {
                    Some(index) => child(&after, &regex::key(*index)),
                    None => format!("{after}/{token}"),
                };
                before = here;
            }
            after
        };
        for reference in &survey.references {
            keyed.lead(survey, reference, &renamed);
        }
        // Innermost first, so that the names on the way to the others are unchanged.
        let mut places: Vec<(&str, usize)> = by_place.iter().map(|(at, index)| (*at, *index)).collect();
        order::sort_by_key(&mut places, |(at, _)| std::cmp::Reverse(at.matches('/').count()));
        let mut done = HashSet::new();
        for (at, index) in places {
            let Some((holder, _)) = at.rsplit_once('/') else { continue };
            if !maps.contains(holder) {
                if let Some(pattern) = keyed.document.pointer_mut(at) {
                    *pattern = regex::key(index).into();
                }
            } else if done.insert(holder)
                && let Some(Value::Object(map)) = keyed.document.pointer_mut(holder)
            {
                let inside = std::mem::take(map).into_iter().map(|(name, schema)| {
                    let key = by_place.get(child(holder, &name).as_str()).map_or(name, |index| regex::key(*index));
                    (key, schema)
                });
                *map = order::insert_all::<Map<_, _>, _>(inside);
            }
        }
        keyed
    }
}

/// Whether this is a `patternProperties` keyword, not a schema of that name.
fn is_map(at: &str, survey: &Survey<'_>) -> bool {
    at.ends_with("/patternProperties")
        && at.rsplit_once('/').is_some_and(|(holder, _)| survey.schemas.iter().any(|schema| schema == holder))
}

impl KeyedDocument {
    /// A reference through a pattern is rewritten to go through its key.
    fn lead(&mut self, survey: &Survey<'_>, reference: &Reference, renamed: &impl Fn(&str) -> String) {
        let [target] = reference.targets.as_slice() else { return };
        let by_pointer = fragment(&reference.text).is_some_and(|inside| inside.starts_with('/'));
        let to = renamed(target);
        if !by_pointer || to == *target {
            return;
        }
        let start = renamed(survey.start_of(reference));
        let address = reference.text.split('#').next().unwrap_or_default();
        let inside = to.strip_prefix(start.as_str()).unwrap_or(&to);
        let encoded: String = inside
            .bytes()
            .map(|byte| match byte {
                b'/' | b'-' | b'_' | b'.' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => char::from(byte).into(),
                byte => format!("%{byte:02X}"),
            })
            .collect();
        let schema = self.document.pointer_mut(&reference.at).and_then(Value::as_object_mut);
        if let Some(keywords) = schema {
            keywords.insert(reference.keyword.clone(), format!("{address}#{encoded}").into());
        }
    }

    /// A pointer in terms of the original document.
    pub fn written(&self, pointer: &str) -> String {
        let name = |token: &str| regex::index_of(token).and_then(|index| self.names.get(index));
        pointer.split('/').skip(1).fold(String::new(), |before, token| match name(token) {
            Some(name) => child(&before, name),
            None => format!("{before}/{token}"),
        })
    }

    /// The document with each reference replaced by pointers to its possible targets.
    pub fn with_targets(&self, survey: &Survey<'_>) -> Value {
        let mut document = self.document.clone();
        let targets = survey.references.iter().flat_map(|reference| &reference.targets);
        let own: BTreeMap<String, String> = order::insert_all(targets.map(|at| (at.clone(), self.keyed(at))));
        for reference in &survey.references {
            let targets: Vec<&String> = reference.targets.iter().filter_map(|at| own.get(at)).collect();
            let schema = document.pointer_mut(&self.keyed(&reference.at)).and_then(Value::as_object_mut);
            if let Some(keywords) = schema {
                keywords.insert(reference.keyword.clone(), json!(targets));
            }
        }
        document
    }

    /// A pointer of the original document, in terms of this one.
    pub fn keyed(&self, pointer: &str) -> String {
        let (mut here, mut after) = (Some(&self.document), String::new());
        for token in pointer.split('/').skip(1) {
            let name = token.replace("~1", "/").replace("~0", "~");
            let by_name = here.and_then(|value| value.get(&name).or_else(|| value.get(name.parse::<usize>().ok()?)));
            let members = || here.and_then(Value::as_object).into_iter().flatten();
            let is_named = |key: &&String| regex::index_of(key).and_then(|at| self.names.get(at)) == Some(&name);
            let key = if by_name.is_some() { None } else { members().map(|(key, _)| key).find(is_named).cloned() };
            here = by_name.or_else(|| here.and_then(|value| value.get(key.as_ref()?)));
            after = match key {
                Some(key) => child(&after, &key),
                None => format!("{after}/{token}"),
            };
        }
        after
    }
}

fn refusal(error: &Error) -> String {
    match error {
        Error::Syntax(why) => format!(
            "is not an ECMA-262 regular expression that runs in linear time (look-around and \
             back-references do not): {why}"
        ),
        Error::Flag(flag) => format!("has the flag {flag}, which is not part of ECMA-262"),
        Error::Classes => {
            format!("has, with the patterns before it, more than the allowed {MAX_RANGES} ranges in its classes")
        }
        Error::TooLarge(states) => {
            format!("must not repeat too much: it has {states} states, and one pattern may have {MAX_STATES}")
        }
    }
}

/// The fault of a value whose strings are too long for the patterns.
pub(super) fn unaffordable(exhausted: &Exhausted, instance: &Value) -> Fault {
    let mut at = String::new();
    let found = place_of(exhausted.text_at, instance, &mut at);
    let pattern = clip(&exhausted.pattern, MAX_SHOWN);
    let characters = exhausted.characters;
    let detail = format!(
        "cannot be checked: matching the pattern {pattern} with a text of {characters} characters would take too long. \
         All patterns of a schema together may take {MAX_STEPS} steps. Send a shorter text, or set maxLength \
         beside the pattern in the schema"
    );
    fault(if found { &at } else { "" }, &detail)
}

/// Leads `at` to the string at this address in memory: a value or a member name.
fn place_of(text_at: usize, value: &Value, at: &mut String) -> bool {
    let length = at.len();
    let here = |text: &str| text.as_ptr() as usize == text_at && !text.is_empty();
    let found = match value {
        Value::String(text) => here(text),
        Value::Array(items) => items.iter().enumerate().any(|(index, item)| {
            at.truncate(length);
            at.push_str(&format!("/{index}"));
            place_of(text_at, item, at)
        }),
        Value::Object(members) => members.iter().any(|(name, inner)| {
            at.truncate(length);
            at.push_str(&child("", name));
            here(name) || place_of(text_at, inner, at)
        }),
        _ => false,
    };
    if !found {
        at.truncate(length);
    }
    found
}
