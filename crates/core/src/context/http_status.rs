//! What an HTTP status says of an attempt, beside the result's 200 and the 202 of work in the background.
//!
//! The platform itself answers for origins that cannot be reached, with 520 to 530, and so do others' edges; a status
//! that is not known is read as the first of its class (RFC 9110 §15).

use crate::context::status::ErrorCode;

/// Where the work may be tried again, if it may be repeated at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// At this service or another.
    Anywhere,
    /// This service would answer the same again; another need not.
    Elsewhere,
    Nowhere,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    pub code: ErrorCode,
    pub again: Again,
    /// Nothing was done: even what is not idempotent may be repeated.
    pub untouched: bool,
}

/// What a status means. `says_undone`: the answer says by its own words or by `Retry-After` that nothing was done, which a
/// 503 alone does not say.
pub fn meaning(status: u16, says_undone: bool) -> Meaning {
    use Again::{Anywhere, Elsewhere, Nowhere};
    use ErrorCode::{ServiceUnavailable, UpstreamError, UpstreamTimeout};
    let (code, again, untouched) = match status {
        408 | 504 | 524 => (UpstreamTimeout, Anywhere, false),
        425 => (UpstreamError, Anywhere, true),
        429 => (ServiceUnavailable, Anywhere, true),
        // 529 is what overloaded model servers say in place of 503.
        503 | 529 => (ServiceUnavailable, Anywhere, says_undone),
        _ if nothing_arrived(status) => (ServiceUnavailable, Anywhere, true),
        // It cannot do this at all.
        501 | 505 => (UpstreamError, Elsewhere, false),
        500..=599 => (UpstreamError, Anywhere, false),
        // Its address has moved, it knows the gateway no longer, was not paid, or has no such thing: it works, for others.
        300..=399 | 401..=405 | 407 | 410 | 413 | 421 | 451 => (UpstreamError, Elsewhere, false),
        _ => (UpstreamError, Nowhere, false),
    };
    Meaning { code, again, untouched }
}

/// Whether an edge says in its origin's name that the request never left it: the origin refused the connection (521), the
/// handshake of TCP (522) or of TLS (525, 526) failed, or there was no way or no name to go by (523, 530).
pub fn nothing_arrived(status: u16) -> bool {
    matches!(status, 521 | 522 | 523 | 525 | 526 | 530)
}

/// Whether the same request may be answered otherwise a moment later.
pub fn passes(status: u16) -> bool {
    meaning(status, false).again == Again::Anywhere
}

/// Whether an edge or a proxy answered because the receiver is away.
pub fn is_away(status: u16) -> bool {
    matches!(status, 502..=504 | 520..=530)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_where_to_try_again_and_whether_anything_was_done() {
        use Again::*;
        use ErrorCode::*;
        for (statuses, code, again, untouched) in [
            (&[408, 504, 524][..], UpstreamTimeout, Anywhere, false),
            (&[425], UpstreamError, Anywhere, true),
            (&[429, 521, 522, 523, 525, 526, 530], ServiceUnavailable, Anywhere, true),
            (&[503, 529], ServiceUnavailable, Anywhere, false),
            (&[500, 502, 506, 507, 520, 527, 528, 540, 599], UpstreamError, Anywhere, false),
            (&[501, 505, 301, 302, 308, 401, 402, 403, 404, 410, 413], UpstreamError, Elsewhere, false),
            (&[400, 406, 409, 422, 499, 600, 999], UpstreamError, Nowhere, false),
        ] {
            for status in statuses {
                assert_eq!(meaning(*status, false), Meaning { code, again, untouched }, "{status}");
            }
        }
        assert!(meaning(503, true).untouched && meaning(529, true).untouched);
        assert!(!meaning(500, true).untouched && !meaning(504, true).untouched);
    }

    #[test]
    fn an_origin_that_is_away_is_answered_for() {
        let away: Vec<u16> = (200..=600).filter(|status| is_away(*status)).collect();
        assert_eq!(away, [502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 527, 528, 529, 530]);
        assert!((200..=999).filter(|status| nothing_arrived(*status)).all(|status| is_away(status) && passes(status)));
    }
}
