//! The call of the service. A context that is not stored yet is stored as soon as it outlives its client's wait.

use std::rc::Rc;

use crate::context::lease::{Hold, LeaseNumber};
use crate::execution::attempt_result::AttemptResult;
use crate::execution::known_service::KnownService;
use crate::execution::retry;

use super::{Action, Admission, AdmissionResult, Call, ClientAnswer, Driver, Moment, State, Target, Unreachable};

impl Driver {
    /// Makes the attempt under the lease: calls the service, or reports that there is none.
    pub(super) fn attempt<S: KnownService>(&mut self, target: Option<Target>, moment: &Moment<'_, S>) {
        let Hold::Leased(lease) = self.work.hold else { return self.finish(moment.now) };
        match target {
            Some(target) => self.call(target, lease, moment),
            None => {
                let result = AttemptResult::no_service(self.wanted(), lease, self.began, moment.now);
                self.end(Box::new(result), None, moment);
            }
        }
    }

    fn call<S: KnownService>(&mut self, target: Target, lease: LeaseNumber, moment: &Moment<'_, S>) {
        let now = moment.now;
        let Some(known) = moment.services.get(target.at) else { return self.finish(now) };
        Rc::make_mut(&mut self.work).admission.service.clone_from(&target.service);
        let work = &self.work;
        let left_ms = work.admission.expires_at.since(now);
        if left_ms == 0 {
            let result = AttemptResult::out_of_time(self.wanted(), lease, self.began, now);
            return self.end(Box::new(result), Some(&target), moment);
        }
        known.live().attempt_began(!work.tried.contains(&target.service), now);
        let answer_timeout_ms = retry::answer_timeout_ms(work, moment.services, known, left_ms, now);
        if work.attempt > 1 {
            self.actions.push(Action::AnnounceAttempt { number: work.attempt });
        }
        let call = Call { at: target.at, work: work.clone(), lease, left_ms, answer_timeout_ms };
        self.actions.push(Action::Call(call));
        self.state = State::Calling(target);
    }

    pub(super) fn stop_call(&mut self, target: &Target) {
        let withdraw = self.work.hold.lease().filter(|_| target.connects);
        self.actions.push(Action::StopCall { at: target.at, withdraw });
    }

    pub(super) fn responded<S: KnownService>(&mut self, mut result: Box<AttemptResult>, moment: &Moment<'_, S>) {
        let State::Calling(target) = &self.state else { return };
        let target = target.clone();
        if self.has_all_content() {
            result.report.outcome.refuse_later(&target.service);
        }
        self.end(result, Some(&target), moment);
    }

    /// Stores the context, which runs or has a response already.
    pub(super) fn admit(&mut self, response: Option<Box<AttemptResult>>) {
        self.actions.push(Action::Admit(self.work.clone()));
        self.admission = Admission::Requested(response);
    }

    pub(super) fn admitted<S: KnownService>(
        &mut self,
        reply: Result<AdmissionResult, Unreachable>,
        moment: &Moment<'_, S>,
    ) {
        let (State::Calling(target), Admission::Requested(response)) = (&self.state, &mut self.admission) else {
            return;
        };
        let (target, response) = (target.clone(), response.take());
        let lease = match reply {
            Ok(AdmissionResult::Admitted(lease)) => {
                self.admission = Admission::Stored;
                lease
            }
            Ok(AdmissionResult::Rejected) | Err(Unreachable) => None,
        };
        if lease != self.work.hold.lease() {
            // It is not stored, or its lease was lost before the reply: no result would count.
            if response.is_none() {
                self.stop_call(&target);
            }
            return self.finish(moment.now);
        }
        self.renewed_at = moment.now;
        self.answer(ClientAnswer::Continues);
        if let Some(response) = response {
            self.end(response, Some(&target), moment);
        }
    }
}
