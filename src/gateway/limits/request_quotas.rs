//! The tokens and permits that a request has taken.

use std::cell::{Cell, RefCell};

use futures_channel::oneshot;

use crate::platform::http::Headers;
use narthex_core::base::object_name::ObjectName;
use narthex_core::limits::policy::{AppliedLimit, LimitKind, headers};
use narthex_core::limits::quota_pool::QuotaState;

use super::pool_ref::PoolRef;

/// The quotas that a request was charged to. A request that makes several calls is charged for each of
/// them, unless they are attempts at one: see [`Charge`].
#[derive(Default)]
pub struct RequestQuotas {
    /// By the name of the pool, for the headers.
    applied: RefCell<Vec<(ObjectName, AppliedLimit)>>,
    /// The pools that the current call has taken from: it takes nothing from them again.
    taken: RefCell<Vec<ObjectName>>,
    /// Permits by the name of the pool: each is returned when its sender is dropped.
    permits: RefCell<Vec<(ObjectName, Permit)>>,
    /// Permits of the previous call, which the current one may need as well.
    spare: RefCell<Vec<(ObjectName, Permit)>>,
    /// How long the request has waited for limits, in milliseconds.
    pub waited_ms: Cell<u64>,
}

/// What the next of several calls is charged for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charge {
    /// For itself: tokens of the previous one do not count for it.
    EachCall,
    /// It is another attempt at the same request, which counts once in each pool.
    SameRequest,
}

/// A permit: it is returned when this is dropped.
pub type Permit = oneshot::Sender<()>;

impl RequestQuotas {
    pub fn headers(&self, to: &mut Headers) {
        let applied = self.applied.borrow();
        if !applied.is_empty() {
            let applied: Vec<AppliedLimit> = applied.iter().map(|(_, applied)| applied.clone()).collect();
            let (policies, standing) = headers(&applied);
            to.set("ratelimit-policy", &policies);
            to.set("ratelimit", &standing);
        }
    }

    /// Hands over the permits to work that continues after the response has begun.
    pub fn hand_over(&self) -> Vec<Permit> {
        self.permits.take().into_iter().map(|(_, permit)| permit).collect()
    }

    /// Begins the next of several calls. A permit that both need is kept, as the calls run one after the other; others
    /// are returned.
    pub fn begin_next(&self, charge: Charge) {
        let permits = self.permits.take();
        match charge {
            Charge::EachCall => self.taken.borrow_mut().clear(),
            Charge::SameRequest => {
                self.taken.borrow_mut().retain(|pool| !permits.iter().any(|(of, _)| of == pool));
            }
        }
        self.spare.replace(permits);
    }

    pub fn note(&self, pool: &PoolRef, standing: QuotaState) {
        let applied = AppliedLimit {
            name: pool.name.clone(),
            quota: pool.rule.quota,
            window_seconds: (pool.kind == LimitKind::Requests).then_some(pool.rule.window_ms / 1000),
            left: standing.left,
            reset_ms: standing.reset_ms,
        };
        let mut all = self.applied.borrow_mut();
        match all.iter_mut().find(|(known, _)| *known == pool.id) {
            Some((_, known)) => *known = applied,
            None => all.push((pool.id.clone(), applied)),
        }
    }

    /// Whether the current call has already taken from this pool.
    pub fn has(&self, pool: &ObjectName) -> bool {
        if self.taken.borrow().iter().any(|taken| taken == pool) {
            return true;
        }
        let mut spare = self.spare.borrow_mut();
        let Some(at) = spare.iter().position(|(of, _)| of == pool) else { return false };
        self.permits.borrow_mut().push(spare.swap_remove(at));
        self.taken.borrow_mut().push(pool.clone());
        true
    }

    /// The current call has taken from these pools.
    pub fn take(&self, pools: impl Iterator<Item = ObjectName>) {
        self.taken.borrow_mut().extend(pools);
    }

    /// Keeps a permit for the current call.
    pub fn keep(&self, pool: ObjectName, permit: Permit) {
        self.permits.borrow_mut().push((pool, permit));
    }

    /// All limits of the current call are known: permits of the previous one that it does not need are returned.
    pub fn end_work(&self) {
        self.spare.take();
    }
}
