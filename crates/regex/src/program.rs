//! Compiles a pattern to states, and simulates all live ones at once (Thompson's algorithm). A state is visited at most
//! once at each position of the text, so the time is at most states × characters. Each visit is counted.

use crate::Error;
use crate::class::{Library, Ranges, ends_line};
use crate::node::{Look, Node, ParsedPattern};
use crate::parse::parse;
use crate::transition_cache::{FOUND, TransitionCache, UNKNOWN};
use std::cell::RefCell;

#[derive(Debug)]
enum State {
    /// Consumes a character of this class; the next state follows.
    Class(u32),
    /// Continues at both.
    Fork(u32, u32),
    Jump(u32),
    Look(Look),
    Match,
}

/// A class of characters, with one bit for each of the first 128.
#[derive(Debug)]
struct Class {
    ascii: u128,
    ranges: Ranges,
}

impl Class {
    fn new(ranges: Ranges) -> Self {
        let low = ranges.iter().take_while(|(from, _)| *from < 128);
        let ascii = low.flat_map(|(from, to)| *from..=(*to).min(127)).fold(0, |bits, c| bits | 1 << c);
        Self { ascii, ranges }
    }

    fn has(&self, c: u32) -> bool {
        if c < 128 { self.ascii >> c & 1 == 1 } else { contains(&self.ranges, c) }
    }
}

fn contains(ranges: &Ranges, c: u32) -> bool {
    let after = ranges.partition_point(|(from, _)| *from <= c);
    after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, to)| c <= *to)
}

/// A compiled pattern.
#[derive(Debug)]
pub struct Program {
    states: Vec<State>,
    classes: Vec<Class>,
    /// A match can only begin at the start of the text.
    anchored: bool,
    /// Its only assertions are the start and the end of the text.
    plain: bool,
}

/// Buffers that runs share, so that none has to allocate its own.
#[derive(Default)]
struct Scratch {
    /// The turn in which each state was last visited.
    seen: Vec<u64>,
    /// The number of the current position, across all runs.
    turn: u64,
    alive: Vec<u32>,
    next: Vec<u32>,
    stack: Vec<u32>,
}

/// Texts of at least this many bytes use the transition cache.
const MIN_CACHED_BYTES: usize = 64;
/// This many transitions from the cache take as long as one step.
const CACHED_PER_STEP: usize = 8;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// How many states a node compiles to.
fn states_of(node: &Node) -> usize {
    match node {
        Node::Empty => 0,
        Node::Class(_) | Node::Look(_) => 1,
        Node::Concat(parts) => parts.iter().map(states_of).fold(0, usize::saturating_add),
        Node::Either(branches) => {
            branches.iter().map(|one| states_of(one).saturating_add(2)).fold(0, usize::saturating_add)
        }
        Node::Repeat { node, min, max } => {
            let one = states_of(node);
            let required = one.saturating_mul(*min as usize);
            match max {
                None => required.saturating_add(one).saturating_add(2),
                Some(max) => required.saturating_add(one.saturating_add(1).saturating_mul((max - min) as usize)),
            }
        }
    }
}

#[derive(Default)]
struct Builder {
    states: Vec<State>,
}

impl Builder {
    fn here(&self) -> u32 {
        self.states.len() as u32
    }

    fn push(&mut self, state: State) -> usize {
        self.states.push(state);
        self.states.len() - 1
    }

    fn set(&mut self, at: usize, state: State) {
        if let Some(known) = self.states.get_mut(at) {
            *known = state;
        }
    }

    fn add(&mut self, node: &Node) {
        match node {
            Node::Empty => {}
            Node::Class(class) => {
                self.push(State::Class(*class));
            }
            Node::Look(look) => {
                self.push(State::Look(*look));
            }
            Node::Concat(parts) => parts.iter().for_each(|part| self.add(part)),
            Node::Either(branches) => self.either(branches),
            Node::Repeat { node, min, max } => self.repeat(node, *min, *max),
        }
    }

    fn either(&mut self, branches: &[Node]) {
        let mut jumps = Vec::with_capacity(branches.len());
        for (at, branch) in branches.iter().enumerate() {
            let fork = (at + 1 < branches.len()).then(|| self.push(State::Match));
            let begins = self.here();
            self.add(branch);
            jumps.push(self.push(State::Match));
            if let Some(fork) = fork {
                self.set(fork, State::Fork(begins, self.here()));
            }
        }
        let end = self.here();
        for jump in jumps {
            self.set(jump, State::Jump(end));
        }
    }

    fn repeat(&mut self, node: &Node, min: u32, max: Option<u32>) {
        // An empty node needs no states, however often it is repeated.
        if states_of(node) == 0 {
            return;
        }
        for _ in 0..min {
            self.add(node);
        }
        let Some(max) = max else {
            let fork = self.push(State::Match);
            self.add(node);
            let again = self.push(State::Match);
            let end = self.here();
            for at in [fork, again] {
                self.set(at, State::Fork(fork as u32 + 1, end));
            }
            return;
        };
        let mut forks = Vec::new();
        for _ in min..max {
            forks.push(self.push(State::Match));
            self.add(node);
        }
        let end = self.here();
        for fork in forks {
            self.set(fork, State::Fork(fork as u32 + 1, end));
        }
    }
}

impl Program {
    /// Compiles a pattern to at most this many states.
    pub fn new(pattern: &str, max_states: usize, library: &mut Library) -> Result<Self, Error> {
        let ParsedPattern { node, classes } = parse(pattern, library)?;
        let states = states_of(&node).saturating_add(1);
        if states > max_states.min(u32::MAX as usize / 2) {
            return Err(Error::TooLarge(states));
        }
        let mut builder = Builder { states: Vec::with_capacity(states) };
        builder.add(&node);
        builder.push(State::Match);
        let classes = classes.into_iter().map(Class::new).collect();
        let looks = builder.states.iter().filter(|state| matches!(state, State::Look(_)));
        let plain = looks.clone().all(|state| matches!(state, State::Look(Look::Start | Look::End)));
        let mut program = Self { states: builder.states, classes, anchored: false, plain };
        program.anchored = program.is_anchored();
        Ok(program)
    }

    /// How many states it has.
    pub fn states(&self) -> usize {
        self.states.len()
    }

    /// Whether every path from the first state passes the start of the text before it consumes a character or matches.
    fn is_anchored(&self) -> bool {
        let (mut seen, mut stack) = (vec![false; self.states.len()], vec![0u32]);
        while let Some(at) = stack.pop() {
            let Some(visited) = seen.get_mut(at as usize) else { continue };
            if std::mem::replace(visited, true) {
                continue;
            }
            match self.states.get(at as usize) {
                Some(State::Fork(a, b)) => stack.extend([*a, *b]),
                Some(State::Jump(to)) => stack.push(*to),
                Some(State::Look(Look::Start)) => {}
                Some(State::Look(_)) => stack.push(at + 1),
                Some(State::Class(_) | State::Match) | None => return false,
            }
        }
        true
    }

    /// Whether the pattern occurs in the text; `None` if `steps` do not suffice to decide. Subtracts those it takes.
    pub fn is_match(&self, text: &str, steps: &mut u64) -> Option<bool> {
        SCRATCH.with_borrow_mut(|scratch| {
            if scratch.seen.len() < self.states.len() {
                scratch.seen.resize(self.states.len(), 0);
            }
            scratch.alive.clear();
            scratch.stack.clear();
            if self.plain && text.len() >= MIN_CACHED_BYTES {
                self.run_cached(text, steps, scratch)
            } else {
                self.run(text, steps, scratch)
            }
        })
    }

    /// Visits the states at each position in turn.
    fn run(&self, text: &str, steps: &mut u64, scratch: &mut Scratch) -> Option<bool> {
        let mut chars = text.chars().map(u32::from);
        let (mut before, mut current) = (None, chars.next());
        scratch.turn += 1;
        let mut first = true;
        loop {
            if first || !self.anchored {
                scratch.stack.push(0);
                if self.follow(before, current, steps, scratch, false)? {
                    return Some(true);
                }
            }
            first = false;
            let Some(c) = current else { return Some(false) };
            if scratch.alive.is_empty() && self.anchored {
                return Some(false);
            }
            (before, current) = (current, chars.next());
            scratch.turn += 1;
            let mut alive = std::mem::take(&mut scratch.alive);
            *steps = steps.checked_sub(alive.len() as u64 + 1)?;
            let taken = alive.iter().filter(|at| match self.states.get(**at as usize) {
                Some(State::Class(class)) => self.classes.get(*class as usize).is_some_and(|class| class.has(c)),
                _ => false,
            });
            scratch.stack.extend(taken.map(|at| at + 1));
            alive.clear();
            scratch.alive = std::mem::replace(&mut scratch.next, alive);
            if self.follow(before, current, steps, scratch, false)? {
                return Some(true);
            }
        }
    }

    /// As [`Program::run`], for a plain pattern. The live states at a position depend only on those at the previous one
    /// and the character between, so these transitions can be cached. This makes most patterns cheap on long texts.
    fn run_cached(&self, text: &str, steps: &mut u64, scratch: &mut Scratch) -> Option<bool> {
        let mut cache = TransitionCache::default();
        scratch.turn += 1;
        scratch.stack.push(0);
        if self.follow(None, None, steps, scratch, true)? {
            return Some(true);
        }
        scratch.alive.sort_unstable();
        let mut here = cache.number(&scratch.alive);
        for (at, c) in text.chars().map(u32::from).enumerate() {
            // A transition from the cache takes a fraction of a step.
            if at % CACHED_PER_STEP == 0 {
                *steps = steps.checked_sub(1)?;
            }
            let next = match cache.next(here, c) {
                UNKNOWN => {
                    let set = cache.set(here)?;
                    if set.is_empty() && self.anchored {
                        return Some(false);
                    }
                    // The set is visited, sorted and looked up.
                    *steps = steps.checked_sub(3 * set.len() as u64 + 20)?;
                    let next = if self.followed(&set, c, steps, scratch)? { FOUND } else { UNKNOWN };
                    if next == FOUND {
                        next
                    } else {
                        scratch.alive.sort_unstable();
                        let (before, next) = (cache.len(), cache.number(&scratch.alive));
                        // If adding the set has emptied the cache, `here` is no longer valid.
                        if cache.len() >= before {
                            cache.insert(here, c, next);
                        }
                        next
                    }
                }
                next => next,
            };
            if next == FOUND {
                return Some(true);
            }
            here = next;
        }
        let set = cache.set(here)?;
        scratch.turn += 1;
        let ends = set.iter().filter(|at| matches!(self.states.get(**at as usize), Some(State::Look(_))));
        scratch.stack.extend(ends.map(|at| at + 1));
        self.follow(Some(0), None, steps, scratch, false)
    }

    /// Computes the live states after a set consumes a character; true if the pattern has matched.
    fn followed(&self, set: &[u32], c: u32, steps: &mut u64, scratch: &mut Scratch) -> Option<bool> {
        scratch.turn += 1;
        scratch.alive.clear();
        let taken = set.iter().filter(|at| match self.states.get(**at as usize) {
            Some(State::Class(class)) => self.classes.get(*class as usize).is_some_and(|class| class.has(c)),
            _ => false,
        });
        scratch.stack.extend(taken.map(|at| at + 1));
        if !self.anchored {
            scratch.stack.push(0);
        }
        self.follow(Some(c), None, steps, scratch, true)
    }

    /// Visits all states that can be reached from those on the stack without consuming a character; true if the pattern
    /// has matched. With `open` it is undecided whether the text ends here: assertions of its end stay live.
    fn follow(
        &self,
        before: Option<u32>,
        current: Option<u32>,
        steps: &mut u64,
        scratch: &mut Scratch,
        open: bool,
    ) -> Option<bool> {
        while let Some(at) = scratch.stack.pop() {
            let Some(seen) = scratch.seen.get_mut(at as usize) else { continue };
            if std::mem::replace(seen, scratch.turn) == scratch.turn {
                continue;
            }
            match steps.checked_sub(1) {
                Some(left) => *steps = left,
                None => {
                    scratch.stack.clear();
                    return None;
                }
            }
            match self.states.get(at as usize) {
                Some(State::Class(_)) => scratch.alive.push(at),
                Some(State::Fork(a, b)) => scratch.stack.extend([*b, *a]),
                Some(State::Jump(to)) => scratch.stack.push(*to),
                Some(State::Look(Look::End)) if open => scratch.alive.push(at),
                Some(State::Look(look)) if holds(*look, before, current) => scratch.stack.push(at + 1),
                Some(State::Look(_)) | None => {}
                Some(State::Match) => {
                    scratch.stack.clear();
                    return Some(true);
                }
            }
        }
        Some(false)
    }
}

/// Whether an assertion holds between two characters; `None` is the start or the end of the text.
fn holds(look: Look, before: Option<u32>, current: Option<u32>) -> bool {
    let is_word = |c: Option<u32>| c.is_some_and(|c| matches!(c, 0x30..=0x39 | 0x41..=0x5a | 0x5f | 0x61..=0x7a));
    match look {
        Look::Start => before.is_none(),
        Look::End => current.is_none(),
        Look::LineStart => before.is_none_or(ends_line),
        Look::LineEnd => current.is_none_or(ends_line),
        Look::Word => is_word(before) != is_word(current),
        Look::NotWord => is_word(before) == is_word(current),
    }
}
