//! How long an attempt may wait for its response if another service could do the work in the remaining time: a service
//! that never responds must not use up the whole lifetime of a context.

/// The maximum time that is reserved for the services after this one, in milliseconds.
const MAX_KEPT_MS: u64 = 60_000;
/// A slow service is waited for at least this many times its usual latency.
const USUAL_TIMES: u64 = 2;

/// How long to wait for the start of a response, in milliseconds, of the `left_ms` that the context has. `others` is
/// the number of services that could do the work instead, `usual_ms` the usual latency of this one. A third of the time
/// is reserved for one other service, half of it for more; `None` if there is no other service.
pub fn for_answer(left_ms: u64, others: u64, usual_ms: Option<u64>) -> u64 {
    let kept = match others {
        0 => 0,
        1 => left_ms / 3,
        _ => left_ms / 2,
    };
    let waits = left_ms - kept.min(MAX_KEPT_MS * others.min(2));
    waits.max(usual_ms.unwrap_or(0).saturating_mul(USUAL_TIMES)).min(left_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn time_is_reserved_for_other_services() {
        for (left, others, usual, expected) in [
            (12_000, 0, None, 12_000),
            (12_000, 1, None, 8_000),
            (12_000, 3, None, 6_000),
            (12_000, 1, Some(3_000), 8_000),
            (12_000, 1, Some(5_000), 10_000),
            (12_000, 1, Some(60_000), 12_000),
            (300_000, 1, None, 240_000),
            (300_000, 2, None, 180_000),
            (86_400_000, 1, None, 86_340_000),
            (0, 1, None, 0),
        ] {
            assert_eq!(for_answer(left, others, usual), expected, "{left} {others} {usual:?}");
        }
    }

    proptest! {
        #[test]
        fn an_attempt_has_at_least_half_and_at_most_all(left: u32, others in 0u64..20, usual in prop::option::of(any::<u64>())) {
            let left = u64::from(left);
            let waits = for_answer(left, others, usual);
            prop_assert!(waits <= left && waits >= left / 2);
            prop_assert!(others > 0 || waits == left);
        }
    }
}
