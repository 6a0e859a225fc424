//! The requests that wait in the lane for a permit.

use std::collections::BTreeMap;

use crate::base::id::ContextId;
use crate::base::time::Timestamp;
use crate::lane::PermitDecision;

/// A waiting request, by the number that its shell gave it.
pub type RequestNumber = u64;

/// By context, each with the time when it began: after a store restarts, two workers may wait for the same one.
#[derive(Debug, Default)]
pub(super) struct Waits(BTreeMap<ContextId, Vec<(RequestNumber, Timestamp)>>);

impl Waits {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, context: ContextId, request: RequestNumber, now: Timestamp) {
        self.0.entry(context).or_default().push((request, now));
    }

    /// A request has stopped waiting. Returns true if no other waits for its context.
    pub(super) fn stop(&mut self, context: &ContextId, request: RequestNumber) -> bool {
        let Some(requests) = self.0.get_mut(context) else { return false };
        requests.retain(|(other, _)| *other != request);
        let was_last = requests.is_empty();
        if was_last {
            self.0.remove(context);
        }
        was_last
    }

    /// What each request is answered that waits for a context.
    ///
    /// One gets a permit, the newest: earlier ones may have ended. The others ask again, or learn from the store that
    /// the attempt has started. A permit whose recipient is gone expires with its lease.
    pub(super) fn answer(
        &mut self,
        context: &ContextId,
        decision: PermitDecision,
    ) -> impl Iterator<Item = (RequestNumber, PermitDecision)> + use<> {
        let requests = self.0.remove(context).unwrap_or_default();
        let newest = requests.last().map(|(request, _)| *request);
        let is_permit = matches!(decision, PermitDecision::Permit { .. });
        requests.into_iter().map(move |(request, _)| {
            let gets_it = !is_permit || newest == Some(request);
            (request, if gets_it { decision } else { PermitDecision::Waiting })
        })
    }

    /// The contexts whose newest request has waited since then or longer.
    pub(super) fn since(&self, begun: Timestamp) -> Vec<ContextId> {
        let is_old = |requests: &[(RequestNumber, Timestamp)]| requests.last().is_some_and(|(_, at)| *at <= begun);
        self.0.iter().filter(|(_, requests)| is_old(requests)).map(|(context, _)| context.clone()).collect()
    }
}
