//! The syntax tree of a pattern.

use crate::class::Ranges;

/// An assertion about a position, which consumes no character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    Start,
    End,
    LineStart,
    LineEnd,
    Word,
    NotWord,
}

#[derive(Debug)]
pub enum Node {
    Empty,
    /// The index of a class in [`ParsedPattern::classes`].
    Class(u32),
    Look(Look),
    Concat(Vec<Node>),
    Either(Vec<Node>),
    Repeat {
        node: Box<Node>,
        min: u32,
        /// `None` is without limit.
        max: Option<u32>,
    },
}

/// The syntax tree of a pattern, with the classes that its nodes refer to.
pub struct ParsedPattern {
    pub node: Node,
    pub classes: Vec<Ranges>,
}
