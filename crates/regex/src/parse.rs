//! Parses ECMA-262 patterns (§22.2.1) by code points, as with the flag `u`, but without the flag `v`: a `[` within a
//! class is an ordinary character. Spellings that are errors with `u` have the meaning they have without it
//! (Annex B.1.2): `\-`, `{`, `]`, `[\w-.]`. A few spellings of other engines that have no meaning in ECMA-262 are also
//! accepted: `(?i)`, `(?P<name>…)`, `\A`, `\z`, `\pL`, `\p{Greek}`, `\x{41}`.

use crate::Error;
use crate::class::{LAST, Library, Ranges, digits, line_ends, negated, normal, space, word};
use crate::node::{Look, Node, ParsedPattern};
use std::collections::HashMap;

/// How deeply groups may be nested.
const MAX_NESTED: usize = 100;
/// Larger counts of a repetition are read as this one, which no program has room for anyway.
const MAX_COUNT: u32 = 1_000_000;

#[derive(Clone, Copy, Default)]
struct Flags {
    ignore_case: bool,
    multiline: bool,
    dot_all: bool,
}

struct Parser<'p> {
    rest: std::str::Chars<'p>,
    flags: Flags,
    nested: usize,
    classes: Vec<Ranges>,
    numbers: HashMap<Ranges, u32>,
    library: &'p mut Library,
}

/// The meaning of an escape, or of one member of a class.
enum Part {
    One(u32),
    Set(Ranges),
}

/// The error of syntax that is valid but cannot run in linear time.
pub const NOT_LINEAR: Error = Error::Syntax("look-around and back-references do not run in linear time");

/// Parses a pattern. The work on its classes counts against the budget of `library`.
pub fn parse(pattern: &str, library: &mut Library) -> Result<ParsedPattern, Error> {
    let mut parser = Parser {
        rest: pattern.chars(),
        flags: Flags::default(),
        nested: 0,
        classes: Vec::new(),
        numbers: HashMap::new(),
        library,
    };
    let node = parser.either()?;
    match parser.rest.next() {
        None => Ok(ParsedPattern { node, classes: parser.classes }),
        Some(_) => Err(Error::Syntax("a ) has no matching (")),
    }
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.clone().next()
    }

    /// Consumes this text if it comes next; returns whether it does.
    fn takes(&mut self, text: &str) -> bool {
        match self.rest.as_str().strip_prefix(text) {
            Some(rest) => {
                self.rest = rest.chars();
                true
            }
            None => false,
        }
    }

    /// A node for a class, to which the flag `i` applies.
    fn of_class(&mut self, ranges: Ranges) -> Result<Node, Error> {
        let ranges = self.in_any_case(ranges)?;
        self.as_it_is(ranges)
    }

    fn in_any_case(&mut self, ranges: Ranges) -> Result<Ranges, Error> {
        if self.flags.ignore_case { self.library.in_any_case(ranges) } else { Ok(ranges) }
    }

    /// A node for exactly these ranges. Equal classes share an index.
    fn as_it_is(&mut self, ranges: Ranges) -> Result<Node, Error> {
        self.library.work(ranges.len() + 1)?;
        if let Some(number) = self.numbers.get(&ranges) {
            return Ok(Node::Class(*number));
        }
        let number = self.classes.len() as u32;
        self.classes.push(ranges.clone());
        self.numbers.insert(ranges, number);
        Ok(Node::Class(number))
    }

    fn either(&mut self) -> Result<Node, Error> {
        let mut branches = vec![self.concat()?];
        while self.takes("|") {
            branches.push(self.concat()?);
        }
        Ok(match branches.len() {
            1 => branches.pop().unwrap_or(Node::Empty),
            _ => Node::Either(branches),
        })
    }

    fn concat(&mut self) -> Result<Node, Error> {
        let mut parts = Vec::new();
        while let Some(c) = self.peek().filter(|c| !matches!(c, '|' | ')')) {
            let start = self.rest.clone();
            let _ = self.rest.next();
            let atom = match c {
                '^' | '$' => Node::Look(self.edge(c)),
                '(' => match self.group()? {
                    Some(group) => group,
                    // The flags apply to what follows.
                    None => continue,
                },
                '.' => self.as_it_is(if self.flags.dot_all { vec![(0, LAST)] } else { negated(&line_ends()) })?,
                '[' => self.class()?,
                '\\' => self.escaped()?,
                '*' | '+' | '?' => return Err(Error::Syntax("a *, + or ? has nothing to repeat")),
                '{' => {
                    self.rest = start;
                    if self.count()?.is_some() {
                        return Err(Error::Syntax("a { has nothing to repeat"));
                    }
                    let _ = self.rest.next();
                    self.literal(u32::from(c))?
                }
                c => self.literal(u32::from(c))?,
            };
            parts.push(self.repeated(atom)?);
        }
        Ok(match parts.len() {
            0 => Node::Empty,
            1 => parts.pop().unwrap_or(Node::Empty),
            _ => Node::Concat(parts),
        })
    }

    fn edge(&self, c: char) -> Look {
        match (c, self.flags.multiline) {
            ('^', false) => Look::Start,
            ('^', true) => Look::LineStart,
            (_, false) => Look::End,
            (_, true) => Look::LineEnd,
        }
    }

    fn literal(&mut self, c: u32) -> Result<Node, Error> {
        self.of_class(vec![(c, c)])
    }

    fn repeated(&mut self, node: Node) -> Result<Node, Error> {
        let (min, max) = if self.takes("*") {
            (0, None)
        } else if self.takes("+") {
            (1, None)
        } else if self.takes("?") {
            (0, Some(1))
        } else {
            match self.count()? {
                Some(counts) => counts,
                None => return Ok(node),
            }
        };
        // Greedy and lazy repetition match the same texts.
        self.takes("?");
        if matches!(node, Node::Look(_)) {
            return Err(Error::Syntax("^, $, \\b and \\B cannot be repeated"));
        }
        let after = self.rest.clone();
        let again = matches!(self.peek(), Some('*' | '+' | '?')) || self.count()?.is_some();
        self.rest = after;
        if again {
            return Err(Error::Syntax("a repetition cannot be repeated"));
        }
        Ok(Node::Repeat { node: Box::new(node), min, max })
    }

    /// Reads `{n}`, `{n,}` or `{n,m}`. Anything else that begins with `{` is text, and is left unread.
    fn count(&mut self) -> Result<Option<(u32, Option<u32>)>, Error> {
        let Some(inner) = self.rest.as_str().strip_prefix('{') else { return Ok(None) };
        let Some((counts, after)) = inner.split_once('}') else { return Ok(None) };
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().unwrap_or(u32::MAX).min(MAX_COUNT))
        };
        let counts = match counts.split_once(',') {
            None => number(counts).map(|n| (n, Some(n))),
            Some((min, "")) => number(min).map(|min| (min, None)),
            Some((min, max)) => number(min).zip(number(max)).map(|(min, max)| (min, Some(max))),
        };
        let Some((min, max)) = counts else { return Ok(None) };
        if max.is_some_and(|max| max < min) {
            return Err(Error::Syntax("the bounds of a repetition are out of order"));
        }
        self.rest = after.chars();
        Ok(Some((min, max)))
    }

    /// Reads a group after its `(`; `None` if it only sets flags for what follows.
    fn group(&mut self) -> Result<Option<Node>, Error> {
        let before = self.flags;
        if self.takes("?") {
            if self.takes("=") || self.takes("!") || self.takes("<=") || self.takes("<!") || self.takes(">") {
                return Err(NOT_LINEAR);
            }
            if self.takes("<") || self.takes("P<") {
                let Some((name, after)) = self.rest.as_str().split_once('>') else {
                    return Err(Error::Syntax("the name of a group has no end"));
                };
                let first = name.chars().next().is_some_and(|c| c.is_alphabetic() || matches!(c, '_' | '$'));
                if !first || !name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '$')) {
                    return Err(Error::Syntax("the name of a group is invalid"));
                }
                self.rest = after.chars();
            } else if !self.flags()? {
                return Ok(None);
            }
        }
        self.nested += 1;
        if self.nested > MAX_NESTED {
            return Err(Error::Syntax("its groups are nested too deeply"));
        }
        let inner = self.either()?;
        self.nested -= 1;
        if !self.takes(")") {
            return Err(Error::Syntax("a ( is not closed"));
        }
        self.flags = before;
        // A repetition may follow any group, also one that contains only an assertion or nothing.
        Ok(Some(match inner {
            Node::Look(_) | Node::Empty => Node::Concat(vec![inner]),
            inner => inner,
        }))
    }

    /// Reads flags after `(?`. True if they end with `:` and apply to this group; false if they end with `)` and apply
    /// to the rest of the enclosing one.
    fn flags(&mut self) -> Result<bool, Error> {
        let mut on = true;
        loop {
            match self.rest.next() {
                Some(':') => return Ok(true),
                Some(')') => return Ok(false),
                Some('-') if on => on = false,
                Some('i') => self.flags.ignore_case = on,
                Some('m') => self.flags.multiline = on,
                Some('s') => self.flags.dot_all = on,
                // Patterns always match by code points.
                Some('u') if on => {}
                Some(flag) => return Err(Error::Flag(flag)),
                None => return Err(Error::Syntax("a ( is not closed")),
            }
        }
    }

    /// Reads an escape outside a class, after its `\`.
    fn escaped(&mut self) -> Result<Node, Error> {
        match self.peek() {
            Some('b') => self.look(Look::Word),
            Some('B') => self.look(Look::NotWord),
            Some('A') => self.look(Look::Start),
            Some('z') => self.look(Look::End),
            Some('k' | '1'..='9') => Err(NOT_LINEAR),
            _ => match self.escape()? {
                Part::One(c) => self.literal(c),
                Part::Set(ranges) => self.of_class(ranges),
            },
        }
    }

    fn look(&mut self, look: Look) -> Result<Node, Error> {
        let _ = self.rest.next();
        Ok(Node::Look(look))
    }

    /// Reads an escape that means the same inside and outside a class, after its `\`.
    fn escape(&mut self) -> Result<Part, Error> {
        let set = |ranges: Ranges, not: bool| Ok(Part::Set(if not { negated(&ranges) } else { ranges }));
        let Some(c) = self.rest.next() else { return Err(Error::Syntax("it ends with a \\")) };
        let one = match c {
            'd' | 'D' => return set(digits(), c == 'D'),
            'w' | 'W' => return set(word(), c == 'W'),
            's' | 'S' => return set(space(), c == 'S'),
            'p' | 'P' => {
                let name = if self.takes("{") {
                    let Some((name, after)) = self.rest.as_str().split_once('}') else {
                        return Err(Error::Syntax("a \\p{ has no end"));
                    };
                    self.rest = after.chars();
                    name.to_owned()
                } else {
                    self.rest.next().map(String::from).unwrap_or_default()
                };
                return self.library.property(&name, c == 'P').map(Part::Set);
            }
            't' => 0x09,
            'n' => 0x0a,
            'v' => 0x0b,
            'f' => 0x0c,
            'r' => 0x0d,
            '0' if !self.peek().is_some_and(|c| c.is_ascii_digit()) => 0,
            'c' => match self.rest.next() {
                Some(letter) if letter.is_ascii_alphabetic() => u32::from(letter) % 32,
                _ => return Err(Error::Syntax("a \\c is not followed by a letter")),
            },
            'x' => self.hexadecimal(2)?,
            'u' => self.code_unit()?,
            c if c.is_ascii_alphanumeric() => {
                return Err(Error::Syntax("a \\ precedes a character that needs no escape"));
            }
            c => u32::from(c),
        };
        Ok(Part::One(one))
    }

    /// Reads `count` hexadecimal digits, or any number of them in braces.
    fn hexadecimal(&mut self, count: usize) -> Result<u32, Error> {
        let wrong = Error::Syntax("a \\x or \\u is not followed by a character code");
        let digits = if self.takes("{") {
            let Some((digits, after)) = self.rest.as_str().split_once('}') else { return Err(wrong) };
            self.rest = after.chars();
            digits
        } else {
            let text = self.rest.as_str();
            let Some((digits, after)) = text.split_at_checked(count) else { return Err(wrong) };
            self.rest = after.chars();
            digits
        };
        let valid = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = valid.then(|| u32::from_str_radix(digits, 16).ok()).flatten();
        value.filter(|value| *value <= LAST).ok_or(wrong)
    }

    /// Reads the code after `\u`. A surrogate pair is one character.
    fn code_unit(&mut self) -> Result<u32, Error> {
        let braced = self.peek() == Some('{');
        let first = self.hexadecimal(4)?;
        if braced || !(0xd800..0xdc00).contains(&first) {
            return Ok(first);
        }
        let before = self.rest.clone();
        if self.takes("\\u") && self.peek() != Some('{') {
            let second = self.hexadecimal(4)?;
            if (0xdc00..0xe000).contains(&second) {
                return Ok(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00));
            }
        }
        self.rest = before;
        Ok(first)
    }

    /// Reads a class after its `[`.
    fn class(&mut self) -> Result<Node, Error> {
        let not = self.takes("^");
        let mut ranges = Ranges::new();
        while !self.takes("]") {
            let first = self.part()?;
            let is_range = self.rest.as_str().strip_prefix('-').is_some_and(|rest| !rest.starts_with(']'));
            if !is_range {
                add(&mut ranges, first);
                continue;
            }
            let _ = self.rest.next();
            match (first, self.part()?) {
                (Part::One(from), Part::One(to)) if from <= to => ranges.push((from, to)),
                (Part::One(_), Part::One(_)) => return Err(Error::Syntax("a range is out of order")),
                (first, last) => {
                    add(&mut ranges, first);
                    add(&mut ranges, Part::One(u32::from('-')));
                    add(&mut ranges, last);
                }
            }
        }
        let ranges = self.in_any_case(normal(ranges))?;
        self.as_it_is(if not { negated(&ranges) } else { ranges })
    }

    /// Reads one member of a class.
    fn part(&mut self) -> Result<Part, Error> {
        match self.rest.next() {
            None => Err(Error::Syntax("a [ is not closed")),
            Some('\\') if self.takes("b") => Ok(Part::One(0x08)),
            Some('\\') => self.escape(),
            Some(c) => Ok(Part::One(u32::from(c))),
        }
    }
}

fn add(ranges: &mut Ranges, part: Part) {
    match part {
        Part::One(c) => ranges.push((c, c)),
        Part::Set(set) => ranges.extend(set),
    }
}
