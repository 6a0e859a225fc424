//! How contexts enter the store and get to a worker: admission, leases and offers.

use std::rc::Rc;

use serde_json::value::RawValue;

use super::{ContextStore, MAX_CACHED_HEADS, ReadyContext, Storage, StorageError, StoredContext};
use crate::base::id::ContextId;
use crate::base::service_id::ServiceId;
use crate::base::time::Timestamp;
use crate::context::idempotency::{Claim, WINDOW_MS};
use crate::context::lease::{Hold, LeaseNumber};
use crate::context::{Admission, Head};
use crate::events::bundle::last_number;

/// How many queued contexts are read in order to find one that may start.
const READY_AT_ONCE: usize = 8;

/// The result of an admission.
#[derive(Debug)]
pub enum AdmitResult {
    /// The context exists. `lease`: the number of the caller's lease, if it asked for one and got it.
    Admitted { head: Rc<Head>, lease: Option<LeaseNumber> },
    /// Another context has the same row key: create another id.
    IdTaken,
    /// The idempotency key belongs to this context.
    Replayed(ContextId),
    /// The idempotency key was used with a different request.
    KeyReused,
}

/// What an idempotency key belongs to.
#[derive(Debug, PartialEq, Eq)]
pub enum ClaimLookup {
    Unused,
    Context(ContextId),
    /// A request with another body.
    DifferentRequest,
}

/// An attempt that a worker is to make.
#[derive(Debug)]
pub struct NextAttempt {
    pub head: Head,
    pub parameters: Box<RawValue>,
}

/// The result of a request for work.
#[derive(Debug)]
pub enum WorkClaim {
    Nothing,
    /// Leased to the caller.
    Leased(Box<NextAttempt>),
    /// Reserved for the caller but not leased: its service requires a permit first.
    Offered(Box<NextAttempt>),
}

impl<S: Storage> ContextStore<S> {
    /// Creates a context: leased to the caller (with `lease_ms`), offered to it (with `offers`), or queued. Repeating
    /// an admission whose reply was lost has no further effect.
    pub fn admit(
        &mut self,
        admission: Admission,
        parameters: &RawValue,
        lease_ms: Option<u64>,
        offers: bool,
        claim: Option<&Claim>,
        now: Timestamp,
    ) -> Result<AdmitResult, StorageError> {
        match self.lookup_claim(claim, Some(&admission.id), now)? {
            ClaimLookup::Unused => {}
            ClaimLookup::Context(id) => return Ok(AdmitResult::Replayed(id)),
            ClaimLookup::DifferentRequest => return Ok(AdmitResult::KeyReused),
        }
        let now = now.max(admission.created_at);
        let id = admission.id.clone();
        let parameters = admission.kept_part(parameters);
        let mut head = Head::admit(admission.kept(), now);
        if let Some(ms) = lease_ms {
            // A context that starts in the future is queued instead of leased.
            let _ = head.lease(now, now.plus_ms(ms));
        }
        self.assign_numbers(&mut head)?;
        let claim = claim.map(|claim| (claim, now.plus_ms(WINDOW_MS)));
        if !self.insert(&head, parameters, claim)? {
            return self.repeated_admission(&id, lease_ms);
        }
        self.publish(&head, None, 0)?;
        if offers {
            self.offer(id, now);
        }
        self.schedule(&head, now);
        let lease = head.lease.map(|lease| lease.number);
        let head = Rc::new(head);
        if lease.is_some() {
            self.cache_head(head.clone());
        }
        Ok(AdmitResult::Admitted { head, lease })
    }

    /// The first reply to this admission was lost, or another context has its row key. The first lease belongs to the
    /// caller if it asked for one and got it with the admission; otherwise another worker has it.
    fn repeated_admission(&self, id: &ContextId, lease_ms: Option<u64>) -> Result<AdmitResult, StorageError> {
        let Some(known) = self.any_head(id)? else { return Ok(AdmitResult::IdTaken) };
        let leases = lease_ms.is_some() && known.admission.run_at.is_none();
        let lease = known.lease.map(|lease| lease.number).filter(|number| leases && *number == LeaseNumber::FIRST);
        Ok(AdmitResult::Admitted { head: Rc::new(known), lease })
    }

    /// Looks up an idempotency key; `Unused` also if it belongs to `own`.
    pub fn lookup_claim(
        &self,
        claim: Option<&Claim>,
        own: Option<&ContextId>,
        now: Timestamp,
    ) -> Result<ClaimLookup, StorageError> {
        let Some(claim) = claim else { return Ok(ClaimLookup::Unused) };
        Ok(match self.storage.find_claim(&claim.scope, now)? {
            Some((id, _)) if Some(&id) == own => ClaimLookup::Unused,
            Some((id, fingerprint)) if fingerprint == claim.fingerprint => ClaimLookup::Context(id),
            Some(_) => ClaimLookup::DifferentRequest,
            None => ClaimLookup::Unused,
        })
    }

    /// Caches the head of a leased context, which is usually requested next.
    fn cache_head(&mut self, head: Rc<Head>) {
        if self.leased_heads.len() >= MAX_CACHED_HEADS {
            self.leased_heads.clear();
        }
        self.leased_heads.insert(head.id().clone(), head);
    }

    /// The head of a context, live or ended.
    pub(super) fn any_head(&self, id: &ContextId) -> Result<Option<Head>, StorageError> {
        let live = self.stored_live_head(id)?;
        live.map_or_else(|| self.storage.done_head(id), |live| Ok(Some(live)))
    }

    fn offer(&mut self, id: ContextId, now: Timestamp) {
        self.offered.insert(id, now.plus_ms(self.timing.offer_ms));
    }

    pub(super) fn is_offered(&self, id: &ContextId, now: Timestamp) -> bool {
        self.offered.get(id).is_some_and(|until| *until > now)
    }

    /// A queued context with its parameters, in order to start an attempt.
    fn take_queued(&mut self, id: &ContextId) -> Result<Option<StoredContext>, StorageError> {
        self.leased_heads.remove(id);
        if self.ended.contains(id) { Ok(None) } else { self.storage.live(id) }
    }

    /// Starts the next attempt of a queued context. `None` if the context is not ready.
    pub fn lease(
        &mut self,
        id: &ContextId,
        lease_ms: u64,
        now: Timestamp,
    ) -> Result<Option<Box<NextAttempt>>, StorageError> {
        let Some(queued) = self.take_queued(id)? else { return Ok(None) };
        self.lease_queued(queued, lease_ms, now)
    }

    fn lease_queued(
        &mut self,
        StoredContext { mut head, parameters, .. }: StoredContext,
        lease_ms: u64,
        now: Timestamp,
    ) -> Result<Option<Box<NextAttempt>>, StorageError> {
        let known = last_number(&head);
        if head.lease(now, now.plus_ms(lease_ms)).is_err() {
            return Ok(None);
        }
        self.offered.remove(head.id());
        self.assign_numbers(&mut head)?;
        self.storage.update(&head)?;
        self.publish(&head, None, known)?;
        self.schedule(&head, now);
        Ok(Some(Box::new(NextAttempt { head, parameters })))
    }

    /// Picks the next context to run, except those of the services in `without`. Contexts of the services in `gated`
    /// are offered instead of leased.
    pub fn claim_next(
        &mut self,
        lease_ms: u64,
        gated: &[ServiceId],
        without: &[ServiceId],
        now: Timestamp,
    ) -> Result<WorkClaim, StorageError> {
        self.offered.retain(|_, until| *until > now);
        let passed_over = self.offered.len() + self.set_aside.len();
        let mut most = READY_AT_ONCE + passed_over;
        loop {
            let ready = self.storage.ready(now, without, most as u64)?;
            let are_all = ready.len() < most;
            for ReadyContext { id, service } in ready {
                if let Some(claimed) = self.claim(id, lease_ms, gated.contains(&service), now)? {
                    return Ok(claimed);
                }
            }
            if are_all {
                return Ok(WorkClaim::Nothing);
            }
            // Contexts that ended while they were queued come first until the hub has their events.
            most *= 4;
        }
    }

    /// Leases a queued context, or offers it if its service is gated. `None` if it cannot start now.
    fn claim(
        &mut self,
        id: ContextId,
        lease_ms: u64,
        is_gated: bool,
        now: Timestamp,
    ) -> Result<Option<WorkClaim>, StorageError> {
        if self.is_offered(&id, now) || self.needs_nothing(&id) {
            return Ok(None);
        }
        // One that is bound waits for its worker.
        let Some(queued) = self.take_queued(&id)?.filter(|queued| !queued.head.is_bound_to_worker()) else {
            return Ok(None);
        };
        if !is_gated {
            return Ok(self.lease_queued(queued, lease_ms, now)?.map(WorkClaim::Leased));
        }
        let StoredContext { head, parameters, .. } = queued;
        self.offer(id, now);
        Ok(Some(WorkClaim::Offered(Box::new(NextAttempt { head, parameters }))))
    }

    /// Renews a lease or an offer. Returns whether cancellation was requested; `None` if the caller no longer holds the
    /// context.
    pub fn renew(
        &mut self,
        id: &ContextId,
        hold: Hold,
        lease_ms: u64,
        now: Timestamp,
    ) -> Result<Option<bool>, StorageError> {
        let Some(head) = self.stored_live_head(id)? else { return Ok(None) };
        let Hold::Leased(lease) = hold else {
            let is_ready = head.is_ready(now);
            if is_ready {
                self.offer(id.clone(), now);
            }
            return Ok(is_ready.then_some(false));
        };
        if head.lease.is_none_or(|current| current.number != lease) {
            return Ok(None);
        }
        self.renewed.insert(id.clone(), now.plus_ms(lease_ms));
        Ok(Some(head.cancel_requested))
    }

    /// Returns an offer; with `until`, no attempt starts before that time.
    pub fn put_back(&mut self, id: &ContextId, until: Option<Timestamp>, now: Timestamp) -> Result<(), StorageError> {
        self.offered.remove(id);
        if let Some(until) = until {
            self.change(id, |head| head.postpone(until, now))?;
        }
        Ok(())
    }
}
