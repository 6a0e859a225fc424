//! Mutants: each has one defect, at the boundary between a shell and the core, or in what the core's driver or consumer
//! decides. The simulation must find all of them.

use narthex_core::base::content::Content;
use narthex_core::base::id::ContextId;
use narthex_core::base::time::Timestamp;
use narthex_core::context::ReportedOutcome;
use narthex_core::execution::consumer::ConsumerAction;
use narthex_core::execution::driver::{Action, ClientAnswer, Event as DriverEvent, LeaseResult, Permit, RenewResult};
use narthex_core::lane::PermitDecision;
use narthex_core::lane::call_outcome::{CallOutcome, Signal};
use narthex_core::service_lane::memory::Loss;

use crate::messages::Ask;
use crate::world::World;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    // The store and the lane.
    /// A report counts even under a lost lease.
    LateReportsCount,
    /// Idempotency keys are not written.
    KeysAreForgotten,
    /// What is said about the content of a context is not stored.
    AdmitsAsKept,
    /// A context that is not idempotent is retried when its worker is lost.
    UnsafeIsRepeated,
    /// After a restart, event numbers start from the beginning.
    NumbersBeginAnew,
    /// The last piece of a result is not written.
    PiecesAreLost,
    /// Contexts are inserted with event numbers that the hub has not acknowledged.
    AcknowledgesTooMuch,
    /// A context takes over the row of one that has not ended.
    TakesRowsOfOthers,
    /// The alarm is not written together with the rows.
    AlarmIsLostInACrash,
    /// A call that must wait gets a permit.
    OnePermitTooMany,
    /// A restarted lane does not wait for the permits from before.
    LaneOpensAtOnce,
    /// The alarm of a lane is not set.
    LaneForgetsAlarms,
    /// A lane does not store which status the registry has not received.
    LaneForgetsReports,
    // The driver.
    /// A cancelled context is worked on.
    IgnoresCancellation,
    /// A worker keeps calling although another has the context.
    IgnoresLostLease,
    /// The call of a cancelled context is not stopped.
    LetsCallsGoOn,
    /// A service is called while its queue has no permit.
    CallsWithoutPermit,
    /// A service is called although its breaker is open.
    IgnoresOpenBreaker,
    /// The services that failed the context are forgotten.
    ForgetsTriedServices,
    /// The services that would fail it again are forgotten.
    ForgetsHopelessServices,
    /// What is not idempotent is reported as safe to repeat.
    RetriesUnsafely,
    /// A `Retry-After` is not reported.
    IgnoresRetryAfter,
    /// The retry budget is ignored.
    ExceedsRetryBudget,
    NeverRenewsLeases,
    NeverRenewsPermits,
    KeepsPermits,
    KeepsProbes,
    /// The permit is returned during the call.
    ReturnsPermitsEarly,
    ForgetsClients,
    /// A client is answered before the context is stored that it will ask for.
    AnswersBeforeAdmission,
    /// A client receives an end that did not happen.
    AnswersWithFalseEnds,
    /// A context that outlives the wait for it is not stored.
    NeverAdmits,
    /// A call for a permit does not wait in the queue.
    DoesNotWaitForPermits,
    WakesLate,
    NeverWakes,
    /// The beginning of another attempt is not announced to the client.
    TearsStreams,
    /// A call uses the services as they were before the context was leased.
    CallsOldServices,
    /// The end of an attempt is not reported.
    ForgetsReports,
    // The consumer.
    ConsumerClaimsTwice,
    ConsumerFinishesEarly,
    ConsumerDropsWork,
    // The connections.
    /// A repeated dispatch is not recognized once its delivery has ended.
    ForgetsEndedDeliveries,
    /// The lane dispatches work after the time until when it may.
    DispatchesLate,
    /// A connection gets more work than it accepts.
    ExceedsCredits,
    // The registry, the stores and isolates that follow it, and its recipients.
    /// A write is answered before every store knows of it.
    AnswersBeforeStoresKnow,
    /// A write is refused for the sake of one that stores do not know yet.
    RefusesBeforeStoresKnow,
    /// A push that was not confirmed counts as confirmed.
    PushesCountAsConfirmed,
    /// After a restart, the registry takes all stores for silent.
    TrustsSilentStores,
    /// A write is answered before others have been notified.
    AnswersBeforeNotifying,
    /// A store counts the age of what it knows from the answer.
    QuestionsCountWhenAnswered,
    /// An isolate counts the age of its snapshot from the reply.
    SnapshotsAgeFromReplies,
    /// A notification is sent once.
    NotifiesOnce,
    /// Notifications are not written.
    NotificationsAreForgotten,
    RegistryForgetsAlarms,
    /// Events are deleted although the hub has not confirmed them.
    RegistryDropsEvents,
    /// What a write changes is not recorded.
    ChangesAreForgotten,
    /// An isolate keeps what was deleted.
    CopiesKeepDeleted,
    /// The revision is not written.
    RevisionsAreForgotten,
    /// A store takes a push for the answer to a question. The registry reckons with that, but not with a push that
    /// arrives after it was given up.
    PushesCountAsAnswers,
}

impl World {
    pub fn sabotage(&mut self) {
        for store in &self.stores {
            match self.mutant {
                Some(Mutant::KeysAreForgotten) => store.storage.lose_claims(),
                Some(Mutant::PiecesAreLost) => store.storage.lose_pieces(),
                Some(Mutant::AcknowledgesTooMuch) => store.storage.exaggerate(),
                Some(Mutant::TakesRowsOfOthers) => store.storage.overwrite_others(),
                Some(Mutant::NumbersBeginAnew) => store.storage.lose_reservations(),
                _ => {}
            }
        }
        match self.mutant {
            Some(Mutant::NotificationsAreForgotten) => self.registry.storage.lose_notifications(),
            Some(Mutant::ChangesAreForgotten) => self.registry.storage.lose_changes(),
            Some(Mutant::RevisionsAreForgotten) => self.registry.storage.lose_revisions(),
            _ => {}
        }
        let loss = match self.mutant {
            Some(Mutant::LaneOpensAtOnce) => Loss::BusyUntil,
            Some(Mutant::LaneForgetsReports) => Loss::UnreportedStatuses,
            Some(Mutant::ForgetsEndedDeliveries) => Loss::EndedDeliveries,
            _ => return,
        };
        for service in &self.services {
            service.lane.storage.lose(loss);
        }
    }

    /// The message that the store gets instead of `ask`, and the context that it must not change, if known.
    pub fn mutate(&mut self, store: usize, mut ask: Ask) -> (Ask, Option<(ContextId, String)>) {
        let late = self.late(store, &ask);
        match (self.mutant, &mut ask) {
            (Some(Mutant::LateReportsCount), Ask::Commit(commit)) => {
                if let Some(lease) = self.checker.lease(&commit.id) {
                    commit.report.lease = lease;
                }
            }
            (Some(Mutant::AdmitsAsKept), Ask::Admit(admit)) => admit.admission.content = Content::Full,
            (Some(Mutant::UnsafeIsRepeated), Ask::Admit(admit)) => admit.admission.idempotent = true,
            _ => {}
        }
        (ask, late)
    }

    /// What the driver learns instead of what happened.
    pub fn distort_event(&mut self, event: DriverEvent) -> DriverEvent {
        let Some(mutant) = self.mutant else { return event };
        match (mutant, event) {
            (Mutant::IgnoresCancellation, DriverEvent::Renewed(renewal, Ok(RenewResult::Renewed { .. }))) => {
                DriverEvent::Renewed(renewal, Ok(RenewResult::Renewed { cancel: false }))
            }
            (Mutant::IgnoresLostLease, DriverEvent::Renewed(renewal, Ok(RenewResult::Nothing))) => {
                DriverEvent::Renewed(renewal, Ok(RenewResult::Renewed { cancel: false }))
            }
            (Mutant::CallsWithoutPermit, DriverEvent::Acquired(Ok(PermitDecision::Waiting)))
            | (Mutant::IgnoresOpenBreaker, DriverEvent::Acquired(Ok(PermitDecision::Open { .. }))) => {
                DriverEvent::Acquired(Ok(PermitDecision::Free))
            }
            (Mutant::ForgetsTriedServices, DriverEvent::Leased(Ok(LeaseResult::Leased(mut work)))) => {
                work.tried.clear();
                DriverEvent::Leased(Ok(LeaseResult::Leased(work)))
            }
            (Mutant::ForgetsHopelessServices, DriverEvent::Leased(Ok(LeaseResult::Leased(mut work)))) => {
                let hopeless = std::mem::take(&mut work.hopeless);
                work.tried.retain(|tried| !hopeless.contains(tried));
                DriverEvent::Leased(Ok(LeaseResult::Leased(work)))
            }
            (_, event) => event,
        }
    }

    /// What is done instead of what the driver wants.
    pub fn distort_actions(&mut self, actions: Vec<Action>) -> Vec<Action> {
        let Some(mutant) = self.mutant else { return actions };
        actions.into_iter().flat_map(|action| distorted(mutant, action, Timestamp(self.now))).collect()
    }

    /// When the driver is woken.
    pub fn distort_timer(&self, wake_at: Option<Timestamp>) -> Option<Timestamp> {
        match self.mutant {
            Some(Mutant::WakesLate) => wake_at.map(|at| at.plus_ms(8_000)),
            Some(Mutant::NeverWakes) => None,
            _ => wake_at,
        }
    }

    pub fn distort_consumer(&mut self, mut actions: Vec<ConsumerAction>) -> Vec<ConsumerAction> {
        match self.mutant {
            Some(Mutant::ConsumerClaimsTwice) => {
                let claim = actions.iter().find(|action| matches!(action, ConsumerAction::Claim { .. })).cloned();
                actions.extend(claim);
            }
            Some(Mutant::ConsumerFinishesEarly)
                if actions.iter().any(|action| matches!(action, ConsumerAction::Run { .. })) =>
            {
                actions.push(ConsumerAction::Finish);
            }
            Some(Mutant::ConsumerDropsWork) => {
                actions.retain(|action| !matches!(action, ConsumerAction::Run { .. }));
            }
            _ => {}
        }
        actions
    }
}

/// What is done instead of one action.
fn distorted(mutant: Mutant, action: Action, now: Timestamp) -> Vec<Action> {
    match (mutant, action) {
        (Mutant::LetsCallsGoOn, Action::StopCall { .. })
        | (Mutant::NeverRenewsLeases, Action::Renew(_))
        | (Mutant::NeverRenewsPermits, Action::RenewPermit(_))
        | (Mutant::KeepsPermits, Action::Release { permit: Permit { is_probe: false, .. }, .. })
        | (Mutant::KeepsProbes, Action::Release { permit: Permit { is_probe: true, .. }, .. })
        | (Mutant::ForgetsClients, Action::Answer(_))
        | (Mutant::NeverAdmits, Action::Admit(_))
        | (Mutant::TearsStreams, Action::AnnounceAttempt { .. })
        | (Mutant::ForgetsReports, Action::Commit(_)) => Vec::new(),
        (Mutant::ReturnsPermitsEarly, Action::RenewPermit(permit)) => {
            let outcome = CallOutcome { outcome: Signal::Ignored, latency_ms: 0, at: now };
            vec![Action::Release { permit, outcome }]
        }
        (Mutant::AnswersBeforeAdmission, Action::Admit(work)) => {
            vec![Action::Answer(ClientAnswer::Continues), Action::Admit(work)]
        }
        (Mutant::AnswersWithFalseEnds, Action::Answer(_)) => vec![Action::Answer(ClientAnswer::Ended)],
        (Mutant::DoesNotWaitForPermits, Action::Acquire { at, .. }) => vec![Action::Acquire { at, wait_ms: 0 }],
        (Mutant::RetriesUnsafely, Action::Commit(mut commit)) => {
            if let ReportedOutcome::Failed { retryable, untouched, .. } = &mut commit.report.outcome {
                (*retryable, *untouched) = (true, true);
            }
            vec![Action::Commit(commit)]
        }
        (Mutant::IgnoresRetryAfter, Action::Commit(mut commit)) => {
            if let ReportedOutcome::Failed { retry_after_ms, .. } = &mut commit.report.outcome {
                *retry_after_ms = None;
            }
            vec![Action::Commit(commit)]
        }
        (Mutant::ExceedsRetryBudget, Action::Commit(mut commit)) => {
            if let ReportedOutcome::Failed { retryable, error, .. } = &mut commit.report.outcome {
                *retryable |= error.message.ends_with("retry budget is exhausted.");
            }
            vec![Action::Commit(commit)]
        }
        (_, action) => vec![action],
    }
}
