//! A pattern as states, and the simulation of all that are alive (Thompson's). No state is visited twice at a place of
//! the text, so the time is at most states × characters; each visit is counted.

use crate::Error;
use crate::class::{Library, Ranges, ends_line};
use crate::known::{FOUND, Known, UNKNOWN};
use crate::node::{Look, Node, Parsed};
use crate::parse::parse;
use std::cell::RefCell;

#[derive(Debug)]
enum State {
    /// A character of this class, then the next state.
    Class(u32),
    /// Both.
    Fork(u32, u32),
    Jump(u32),
    Look(Look),
    Match,
}

/// Characters: the first 128 as bits.
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

#[derive(Debug)]
pub struct Program {
    states: Vec<State>,
    classes: Vec<Class>,
    /// It can only begin where the text does.
    anchored: bool,
    /// It looks for nothing but the beginning and the end of the text.
    plain: bool,
}

/// What every run needs, kept so that none has to make room for it anew.
#[derive(Default)]
struct Scratch {
    /// When a state was last visited.
    seen: Vec<u64>,
    turn: u64,
    alive: Vec<u32>,
    next: Vec<u32>,
    stack: Vec<u32>,
}

/// A text of so many bytes is worth remembering what comes after what.
const LONG: usize = 64;
/// So many characters of which it is known what follows take as long as one step.
const KNOWN_PER_STEP: usize = 8;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// How many states a node becomes.
fn states_of(node: &Node) -> usize {
    match node {
        Node::Empty => 0,
        Node::Class(_) | Node::Look(_) => 1,
        Node::Concat(parts) => parts.iter().map(states_of).fold(0, usize::saturating_add),
        Node::Either(branches) => {
            branches.iter().map(|one| states_of(one).saturating_add(2)).fold(0, usize::saturating_add)
        }
        Node::Repeat { node, least, most } => {
            let one = states_of(node);
            let required = one.saturating_mul(*least as usize);
            match most {
                None => required.saturating_add(one).saturating_add(2),
                Some(most) => required.saturating_add(one.saturating_add(1).saturating_mul((most - least) as usize)),
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
            Node::Repeat { node, least, most } => self.repeat(node, *least, *most),
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

    fn repeat(&mut self, node: &Node, least: u32, most: Option<u32>) {
        // Nothing, however often.
        if states_of(node) == 0 {
            return;
        }
        for _ in 0..least {
            self.add(node);
        }
        let Some(most) = most else {
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
        for _ in least..most {
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
    /// Reads a pattern that may have so many states.
    pub fn new(pattern: &str, most_states: usize, library: &mut Library) -> Result<Self, Error> {
        let Parsed { node, classes } = parse(pattern, library)?;
        let states = states_of(&node).saturating_add(1);
        if states > most_states.min(u32::MAX as usize / 2) {
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

    /// Whether it is found in a text; nothing when `steps` are not enough to say.
    pub fn is_match(&self, text: &str, steps: &mut u64) -> Option<bool> {
        SCRATCH.with_borrow_mut(|scratch| {
            if scratch.seen.len() < self.states.len() {
                scratch.seen.resize(self.states.len(), 0);
            }
            scratch.alive.clear();
            scratch.stack.clear();
            if self.plain && text.len() >= LONG {
                self.run_long(text, steps, scratch)
            } else {
                self.run(text, steps, scratch)
            }
        })
    }

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

    /// As [`Program::run`], for a plain pattern: what is alive at a place follows from what was before it, and the
    /// character, so it is remembered. That is what makes most patterns cheap on long texts.
    fn run_long(&self, text: &str, steps: &mut u64, scratch: &mut Scratch) -> Option<bool> {
        let mut known = Known::default();
        scratch.turn += 1;
        scratch.stack.push(0);
        if self.follow(None, None, steps, scratch, true)? {
            return Some(true);
        }
        scratch.alive.sort_unstable();
        let mut here = known.number(&scratch.alive);
        for (at, c) in text.chars().map(u32::from).enumerate() {
            // What is known takes a fraction of a step.
            if at % KNOWN_PER_STEP == 0 {
                *steps = steps.checked_sub(1)?;
            }
            let next = match known.follower(here, c) {
                UNKNOWN => {
                    let set = known.set(here)?;
                    if set.is_empty() && self.anchored {
                        return Some(false);
                    }
                    // It is looked at, sorted and looked up.
                    *steps = steps.checked_sub(3 * set.len() as u64 + 20)?;
                    let next = if self.followed(&set, c, steps, scratch)? { FOUND } else { UNKNOWN };
                    if next == FOUND {
                        next
                    } else {
                        scratch.alive.sort_unstable();
                        let (before, next) = (known.len(), known.number(&scratch.alive));
                        // Not when all was forgotten for it.
                        if known.len() >= before {
                            known.learn(here, c, next);
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
        let set = known.set(here)?;
        scratch.turn += 1;
        let ends = set.iter().filter(|at| matches!(self.states.get(**at as usize), Some(State::Look(_))));
        scratch.stack.extend(ends.map(|at| at + 1));
        self.follow(Some(0), None, steps, scratch, false)
    }

    /// What a set becomes with a character; true when that is the end.
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

    /// Visits what can be reached from the states on the stack without a character; true when that is the end. Whether
    /// the text ends here may be left `open`: then what looks for that stays alive.
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
