//! Classes of characters as ranges of code points: the named classes of ECMA-262, and the properties of Unicode.

use crate::Error;
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};
use std::collections::HashMap;

/// The last code point.
pub const LAST: u32 = 0x10_ffff;

/// Inclusive ranges of code points. Once a class is [`normal`], they are sorted and neither overlap nor touch.
pub type Ranges = Vec<(u32, u32)>;

/// What the patterns of one schema share: the properties that were looked up, and a budget for work on the ranges of
/// classes. The unit of work is one range that is read.
pub struct Library {
    properties: HashMap<String, Ranges>,
    work_left: usize,
}

impl Library {
    pub fn new(max_ranges: usize) -> Self {
        Self { properties: HashMap::new(), work_left: max_ranges }
    }

    /// Whether the budget is used up.
    pub fn is_spent(&self) -> bool {
        self.work_left == 0
    }

    /// Takes the work on this many ranges from the budget.
    pub fn work(&mut self, ranges: usize) -> Result<(), Error> {
        let left = self.work_left.checked_sub(ranges);
        self.work_left = left.unwrap_or(0);
        left.map(drop).ok_or(Error::Classes)
    }

    /// The class of `\p{name}`, or with `not` that of `\P{name}`.
    pub fn property(&mut self, name: &str, not: bool) -> Result<Ranges, Error> {
        let ranges = match self.properties.get(name) {
            Some(ranges) => ranges.clone(),
            None => {
                let ranges = property(name)?;
                self.work(PROPERTY + OF_PROPERTY * ranges.len())?;
                self.properties.insert(name.into(), ranges.clone());
                ranges
            }
        };
        self.work(ranges.len())?;
        Ok(if not { negated(&ranges) } else { ranges })
    }

    /// The class extended by the other cases of its characters.
    pub fn in_any_case(&mut self, ranges: Ranges) -> Result<Ranges, Error> {
        let cased = common(&ranges, &self.property(CASED, false)?);
        let characters: usize = cased.iter().map(|(from, to)| (to - from) as usize + 1).sum();
        self.work(FOLDING * characters)?;
        Ok(normal(ranges.into_iter().chain(folded(cased)).collect()))
    }
}

/// The work of looking up a property, and in addition that of each range it has.
const PROPERTY: usize = 1_000;
const OF_PROPERTY: usize = 20;
/// The work of folding the case of a character.
const FOLDING: usize = 2;
/// The property of characters that change when their case is mapped.
const CASED: &str = "CWCM";

/// Sorts ranges, and merges those that overlap or touch.
pub fn normal(mut ranges: Ranges) -> Ranges {
    ranges.sort_unstable();
    let mut merged: Ranges = Vec::with_capacity(ranges.len());
    for (from, to) in ranges {
        match merged.last_mut() {
            Some((_, last)) if from <= last.saturating_add(1) => *last = to.max(*last),
            _ => merged.push((from, to)),
        }
    }
    merged
}

/// All code points outside these ranges, which must be [`normal`].
pub fn negated(ranges: &Ranges) -> Ranges {
    let (mut others, mut next) = (Vec::with_capacity(ranges.len() + 1), 0);
    for (from, to) in ranges {
        if *from > next {
            others.push((next, from - 1));
        }
        next = to + 1;
    }
    if next <= LAST {
        others.push((next, LAST));
    }
    others
}

/// The code points that both have.
fn common(one: &Ranges, other: &Ranges) -> Ranges {
    let (mut one, mut other) = (one.iter().peekable(), other.iter().peekable());
    let mut both = Ranges::new();
    while let (Some((a, b)), Some((c, d))) = (one.peek(), other.peek()) {
        if *a.max(c) <= *b.min(d) {
            both.push((*a.max(c), *b.min(d)));
        }
        let _ = if b < d { one.next() } else { other.next() };
    }
    both
}

/// `\d`.
pub fn digits() -> Ranges {
    vec![(0x30, 0x39)]
}

/// `\w`.
pub fn word() -> Ranges {
    vec![(0x30, 0x39), (0x41, 0x5a), (0x5f, 0x5f), (0x61, 0x7a)]
}

/// `\s`: WhiteSpace and LineTerminator (ECMA-262 §12.2, §12.3).
pub fn space() -> Ranges {
    let single = [0x20, 0xa0, 0x1680, 0x202f, 0x205f, 0x3000, 0xfeff];
    let ranges = [(0x09, 0x0d), (0x2000, 0x200a), (0x2028, 0x2029)];
    normal(single.into_iter().map(|one| (one, one)).chain(ranges).collect())
}

/// LineTerminator (ECMA-262 §12.3).
pub fn line_ends() -> Ranges {
    vec![(0x0a, 0x0a), (0x0d, 0x0d), (0x2028, 0x2029)]
}

pub fn ends_line(c: u32) -> bool {
    matches!(c, 0x0a | 0x0d | 0x2028 | 0x2029)
}

/// The ranges extended by the other cases of their characters, by simple case folding (ECMA-262 §22.2.2.7.3).
fn folded(ranges: Ranges) -> Ranges {
    let chars = ranges.iter().filter_map(|(from, to)| {
        // No text contains lone surrogates, and `char` has none.
        let from = char::from_u32(*from).or_else(|| char::from_u32(0xe000));
        let to = char::from_u32(*to).or_else(|| char::from_u32(0xd7ff));
        from.zip(to).filter(|(from, to)| from <= to).map(|(from, to)| ClassUnicodeRange::new(from, to))
    });
    let mut class = ClassUnicode::new(chars);
    if class.try_case_fold_simple().is_err() {
        return ranges;
    }
    ranges_of(&class)
}

fn ranges_of(class: &ClassUnicode) -> Ranges {
    class.ranges().iter().map(|range| (u32::from(range.start()), u32::from(range.end()))).collect()
}

/// Looks up the ranges of `\p{name}`.
fn property(name: &str) -> Result<Ranges, Error> {
    let unknown = Error::Syntax("a \\p names an unknown Unicode property");
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '=' | '-' | ' ');
    if name.is_empty() || name.len() > 64 || !name.chars().all(known) {
        return Err(unknown);
    }
    let hir = regex_syntax::Parser::new().parse(&format!("\\p{{{name}}}")).map_err(|_| unknown.clone())?;
    let ranges = match hir.kind() {
        HirKind::Class(Class::Unicode(class)) => ranges_of(class),
        HirKind::Class(Class::Bytes(class)) => {
            class.ranges().iter().map(|range| (u32::from(range.start()), u32::from(range.end()))).collect()
        }
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0).map_err(|_| unknown)?;
            text.chars().map(|c| (u32::from(c), u32::from(c))).collect()
        }
        _ => return Err(unknown),
    };
    Ok(ranges)
}
