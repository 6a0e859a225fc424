//! What a request has taken of the limits that bind it.

use std::cell::{Cell, RefCell};

use futures_channel::oneshot;

use crate::platform::http::Headers;
use narthex_core::limits::policy::{AppliedLimit, LimitKind, headers};
use narthex_core::limits::quota_pool::QuotaState;

use super::due::Due;

/// What a request was held against. A request that makes several calls takes what is due once for each of them.
#[derive(Default)]
pub struct Held {
    /// By the name of the bucket, for the headers.
    applied: RefCell<Vec<(String, AppliedLimit)>>,
    /// The buckets the current call has taken from: it takes nothing of them again.
    taken: RefCell<Vec<String>>,
    /// Permits by the name of the bucket: each goes back when its sender is gone.
    permits: RefCell<Vec<(String, Permit)>>,
    /// Permits of the call before, which the current one may need as well.
    spare: RefCell<Vec<(String, Permit)>>,
    /// Milliseconds waited for limits.
    pub waited_ms: Cell<u64>,
}

/// A permit that was given: it goes back when this is dropped.
pub type Permit = oneshot::Sender<()>;

impl Held {
    pub fn headers(&self, to: &mut Headers) {
        let applied = self.applied.borrow();
        if !applied.is_empty() {
            let applied: Vec<AppliedLimit> = applied.iter().map(|(_, applied)| applied.clone()).collect();
            let (policies, standing) = headers(&applied);
            to.set("ratelimit-policy", &policies);
            to.set("ratelimit", &standing);
        }
    }

    /// Its permits, for what goes on after the answer has begun: they go back when these are dropped.
    pub fn hand_over(&self) -> Vec<Permit> {
        self.permits.take().into_iter().map(|(_, permit)| permit).collect()
    }

    /// The next of several calls begins: what the one before has taken does not count for it. A permit that both need
    /// is kept, as the calls run one after the other; any other goes back.
    pub fn begin_next(&self) {
        self.taken.borrow_mut().clear();
        self.spare.replace(self.permits.take());
    }

    pub fn note(&self, due: &Due, standing: QuotaState) {
        let applied = AppliedLimit {
            name: due.name.clone(),
            quota: due.rule.quota,
            window_seconds: (due.kind == LimitKind::Requests).then_some(due.rule.window_ms / 1000),
            left: standing.left,
            reset_ms: standing.reset_ms,
        };
        let mut all = self.applied.borrow_mut();
        match all.iter_mut().find(|(bucket, _)| *bucket == due.bucket) {
            Some((_, known)) => *known = applied,
            None => all.push((due.bucket.clone(), applied)),
        }
    }

    /// Whether the current call has what this limit asks for already.
    pub fn has(&self, bucket: &str) -> bool {
        if self.taken.borrow().iter().any(|taken| taken == bucket) {
            return true;
        }
        let mut spare = self.spare.borrow_mut();
        let Some(at) = spare.iter().position(|(of, _)| of == bucket) else { return false };
        self.permits.borrow_mut().push(spare.swap_remove(at));
        self.taken.borrow_mut().push(bucket.into());
        true
    }
    /// The current call has taken from these buckets.
    pub fn take(&self, buckets: impl Iterator<Item = String>) {
        self.taken.borrow_mut().extend(buckets);
    }

    /// Keeps a permit for the current call.
    pub fn keep(&self, bucket: String, permit: Permit) {
        self.permits.borrow_mut().push((bucket, permit));
    }

    /// All limits of the current call are known: permits of the call before that it does not need go back.
    pub fn end_work(&self) {
        self.spare.take();
    }
}
