//! How a result lies in a shelf's rows: beside its context where it fits, in pieces of its own where it does not.

use serde_json::value::RawValue;

/// The most bytes of a result that one row takes. A row has 2 MB, and the parameters and the head lie in it too.
pub const ROW_BYTES: usize = 1024 * 1024;

/// A result, divided among rows. At most one of the two has anything.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Layout<'a> {
    /// In the row of its context.
    pub beside: Option<&'a str>,
    /// In rows of its own, in this order.
    pub pieces: Vec<&'a str>,
}

impl<'a> Layout<'a> {
    /// Lays out a result for rows that take `most` bytes of it each.
    pub fn of(result: Option<&'a RawValue>, most: usize) -> Self {
        match result.map(RawValue::get) {
            Some(text) if text.len() > most => Self { beside: None, pieces: cut(text, most) },
            beside => Self { beside, pieces: Vec::new() },
        }
    }
}

/// Cuts a text into pieces of at most `most` bytes, between characters.
fn cut(text: &str, most: usize) -> Vec<&str> {
    let mut pieces = Vec::with_capacity(text.len() / most.max(1) + 1);
    let mut rest = text;
    while !rest.is_empty() {
        // Of one character at least, however little a row takes.
        let mut end = rest.floor_char_boundary(most);
        if end == 0 {
            end = rest.ceil_char_boundary(1);
        }
        let (piece, after) = rest.split_at(end);
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// The whole of what was cut; nothing where there are no pieces. `most` is what it was cut with.
pub fn joined(pieces: impl ExactSizeIterator<Item = String>, most: usize) -> Option<String> {
    if pieces.len() == 0 {
        return None;
    }
    let mut whole = String::with_capacity(pieces.len() * most);
    for piece in pieces {
        whole.push_str(&piece);
    }
    Some(whole)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_result_that_fits_lies_beside_its_context() {
        let small = RawValue::from_string("\"1234\"".into()).unwrap();
        assert_eq!(Layout::of(Some(&small), 6), Layout { beside: Some("\"1234\""), pieces: vec![] });
        assert_eq!(Layout::of(Some(&small), 5), Layout { beside: None, pieces: vec!["\"1234", "\""] });
        assert_eq!(Layout::of(None, 5), Layout::default());
        assert_eq!(joined(Vec::new().into_iter(), 5), None);
    }

    proptest! {
        #[test]
        fn pieces_are_small_enough_and_are_the_whole(text in "[a-zé€🌊\\n]{0,200}", most in 0_usize..40) {
            let result = RawValue::from_string(serde_json::to_string(&text).unwrap()).unwrap();
            let Layout { beside, pieces } = Layout::of(Some(&result), most);
            prop_assert!(beside.is_none() || pieces.is_empty());
            prop_assert!(pieces.iter().all(|piece| piece.len() <= most.max(4) && !piece.is_empty()));
            let whole = joined(pieces.into_iter().map(String::from), most);
            prop_assert_eq!(whole.as_deref().or(beside), Some(result.get()));
        }
    }
}
