//! How a result is laid out in rows: in the row of its context if it fits, otherwise in pieces, one row each.

use serde_json::value::RawValue;

/// Maximum number of bytes of a result in one row. A row has 2 MB and also holds the parameters and the head.
pub const ROW_BYTES: usize = 1024 * 1024;

/// A result divided among rows. At most one of the fields is filled.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Layout<'a> {
    /// The result, in the row of its context.
    pub beside: Option<&'a str>,
    /// Its pieces, in rows of their own and in this order.
    pub pieces: Vec<&'a str>,
}

impl<'a> Layout<'a> {
    /// Lays out a result in rows of at most `most` bytes each.
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
        // At least one character, however small a row is.
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

/// Joins pieces that were cut at `most` bytes. `None` if there are no pieces.
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
