//! How long an attempt may wait for its answer, where another service could do the work in the time that is left: a
//! service that never answers must not use up all of a context's life.

/// A service that is waited for no longer keeps at most this much of the time from those after it, in milliseconds.
const MAX_KEPT_MS: u64 = 60_000;
/// A service that is known to take long is waited for at least this many times its usual time.
const USUAL_TIMES: u64 = 2;

/// Milliseconds to wait for the beginning of an answer, of `left_ms` that the context has. `others` could do the work
/// instead, `usual_ms` is what the service takes as a rule. A third of the time is kept for one other, half of it for
/// more; nothing where no other service could do it.
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
    fn time_is_kept_for_those_who_could_do_it_instead() {
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
