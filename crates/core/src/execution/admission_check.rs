//! The check before a context is admitted to a service that is called by permit: whether the queue of its lane has
//! room, and whether the first attempt may start at once.

use super::driver::{Permit, Unreachable};
use super::known_service::KnownService;
use crate::base::time::Timestamp;
use crate::lane::PermitDecision;

/// How the context is admitted.
#[derive(Debug, PartialEq, Eq)]
pub enum AdmissionCheck {
    /// The attempt may start as soon as the context exists, with this permit if it needs one.
    Start(Option<Permit>),
    /// Likewise, but elsewhere: the permit is returned, because the worker that makes the attempt acquires its own.
    Return(Permit),
    /// The lane queues it, or rejects the attempt later.
    Queue,
    /// It is not admitted.
    Full { retry_after_ms: u64 },
}

/// The result without a request to the lane, if none is needed.
pub fn without_lane<S: KnownService>(known: &S, now: Timestamp) -> Option<AdmissionCheck> {
    if !known.is_gated() {
        return Some(AdmissionCheck::Start(None));
    }
    known.live().known_open_until(now).map(|_| AdmissionCheck::Queue)
}

/// The result by the answer of the lane. `here`: the worker that admits the context makes the attempt.
pub fn with_lane<S: KnownService>(
    known: &S,
    reply: Result<PermitDecision, Unreachable>,
    here: bool,
    now: Timestamp,
) -> AdmissionCheck {
    match reply {
        Ok(PermitDecision::Free) => AdmissionCheck::Start(None),
        Ok(PermitDecision::Permit { number, probe: is_probe }) => {
            let permit = Permit { service: known.service().id.clone(), number, is_probe, granted_at: now };
            if here { AdmissionCheck::Start(Some(permit)) } else { AdmissionCheck::Return(permit) }
        }
        Ok(PermitDecision::Full { retry_after_ms }) => AdmissionCheck::Full { retry_after_ms },
        Ok(PermitDecision::Open { until }) => {
            known.live().block_until(until);
            AdmissionCheck::Queue
        }
        Ok(PermitDecision::Waiting | PermitDecision::TooLate) | Err(Unreachable) => AdmissionCheck::Queue,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execution::fixtures::{NOW, known};
    use crate::lane::permit_number::PermitNumber;

    #[test]
    fn a_lane_is_asked_only_where_it_may_know_more() {
        let until = NOW.plus_ms(1_000);
        assert_eq!(without_lane(&known("one"), NOW), Some(AdmissionCheck::Start(None)));
        assert_eq!(without_lane(&known("one").open(until), NOW), Some(AdmissionCheck::Queue));
        assert_eq!(without_lane(&known("one").half_open(), NOW), None);
        assert_eq!(without_lane(&known("one").connecting(), NOW), None);
    }

    #[test]
    fn a_permit_is_used_here_or_returned() {
        let granted = Ok(PermitDecision::Permit { number: PermitNumber::of(7), probe: true });
        let permit = Permit { service: "one".into(), number: PermitNumber::of(7), is_probe: true, granted_at: NOW };
        assert_eq!(with_lane(&known("one"), granted, true, NOW), AdmissionCheck::Start(Some(permit.clone())));
        assert_eq!(with_lane(&known("one"), granted, false, NOW), AdmissionCheck::Return(permit));
    }

    #[test]
    fn only_a_full_queue_rejects() {
        let service = known("one").half_open();
        let until = NOW.plus_ms(2_000);
        for reply in [
            Ok(PermitDecision::Waiting),
            Ok(PermitDecision::TooLate),
            Ok(PermitDecision::Open { until }),
            Err(Unreachable),
        ] {
            assert_eq!(with_lane(&service, reply, true, NOW), AdmissionCheck::Queue);
        }
        assert_eq!(service.half_opens_at(NOW), Some(until), "it is remembered");
        let full = Ok(PermitDecision::Full { retry_after_ms: 5 });
        assert_eq!(with_lane(&service, full, true, NOW), AdmissionCheck::Full { retry_after_ms: 5 });
        assert_eq!(with_lane(&service, Ok(PermitDecision::Free), true, NOW), AdmissionCheck::Start(None));
    }
}
