//! What an HTTP status says about an attempt, apart from 200 with a result and 202 for work in the background.
//!
//! For unreachable origins the platform and other CDNs answer with 520 to 530. An unknown status is treated as the
//! first of its class (RFC 9110 §15).

use crate::context::status::ErrorCode;

/// Where a retry may succeed, if the work may be repeated at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryScope {
    /// At this service or another.
    Anywhere,
    /// This service would give the same answer again; another service may not.
    Elsewhere,
    Nowhere,
}

/// The meaning of a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusMeaning {
    pub code: ErrorCode,
    pub again: RetryScope,
    /// The service did nothing: the work may be repeated even if it is not idempotent.
    pub untouched: bool,
}

/// Returns what a status means. `says_undone`: the body or a `Retry-After` header says that nothing was done, which a
/// 503 alone does not.
pub fn meaning(status: u16, says_undone: bool) -> StatusMeaning {
    use ErrorCode::{ServiceUnavailable, UpstreamError, UpstreamTimeout};
    use RetryScope::{Anywhere, Elsewhere, Nowhere};
    let (code, again, untouched) = match status {
        408 | 504 | 524 => (UpstreamTimeout, Anywhere, false),
        425 => (UpstreamError, Anywhere, true),
        429 => (ServiceUnavailable, Anywhere, true),
        // Overloaded model servers answer 529 instead of 503.
        503 | 529 => (ServiceUnavailable, Anywhere, says_undone),
        _ if nothing_arrived(status) => (ServiceUnavailable, Anywhere, true),
        // The service cannot do this at all.
        501 | 505 => (UpstreamError, Elsewhere, false),
        500..=599 => (UpstreamError, Anywhere, false),
        // The URL has moved, the credentials are invalid, a payment is missing, or the resource does not exist. The
        // service itself works.
        300..=399 | 401..=405 | 407 | 410 | 413 | 421 | 451 => (UpstreamError, Elsewhere, false),
        _ => (UpstreamError, Nowhere, false),
    };
    StatusMeaning { code, again, untouched }
}

/// Whether a CDN says that the request never reached the origin: the origin refused the connection (521), the TCP
/// handshake (522) or the TLS handshake (525, 526) failed, or there was no route or no name (523, 530).
pub fn nothing_arrived(status: u16) -> bool {
    matches!(status, 521 | 522 | 523 | 525 | 526 | 530)
}

/// Whether the same request may succeed a moment later.
pub fn passes(status: u16) -> bool {
    meaning(status, false).again == RetryScope::Anywhere
}

/// Whether a CDN or a proxy answered because the receiver is unreachable.
pub fn is_away(status: u16) -> bool {
    matches!(status, 502..=504 | 520..=530)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_decides_where_to_retry_and_whether_anything_was_done() {
        use ErrorCode::*;
        use RetryScope::*;
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
                assert_eq!(meaning(*status, false), StatusMeaning { code, again, untouched }, "{status}");
            }
        }
        assert!(meaning(503, true).untouched && meaning(529, true).untouched);
        assert!(!meaning(500, true).untouched && !meaning(504, true).untouched);
    }

    #[test]
    fn unreachable_origins_have_statuses_of_their_own() {
        let away: Vec<u16> = (200..=600).filter(|status| is_away(*status)).collect();
        assert_eq!(away, [502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 527, 528, 529, 530]);
        assert!((200..=999).filter(|status| nothing_arrived(*status)).all(|status| is_away(status) && passes(status)));
    }
}
