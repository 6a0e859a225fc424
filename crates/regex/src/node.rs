//! A pattern as it was read.

use crate::class::Ranges;

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
    /// By its number among all classes of the pattern.
    Class(u32),
    Look(Look),
    Concat(Vec<Node>),
    Either(Vec<Node>),
    Repeat {
        node: Box<Node>,
        least: u32,
        most: Option<u32>,
    },
}

/// A pattern as it was read.
pub struct Parsed {
    pub node: Node,
    pub classes: Vec<Ranges>,
}
