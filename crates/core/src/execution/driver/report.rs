//! The end of an attempt: what the lane of its service, the store and the client learn of it.

use std::rc::Rc;

use serde_json::value::RawValue;

use crate::context_store::messages::Record;
use crate::execution::attempt_result::AttemptResult;
use crate::execution::known_service::KnownService;
use crate::execution::retry;
use crate::lane::call_outcome::CallOutcome;

use super::{
    Action, Admission, ClientAnswer, Commit, CommitReceipt, Driver, Moment, Permit, State, Target, Unreachable,
};

impl Driver {
    /// Ends the attempt. A context that is not stored is recorded, or stored first if it has not ended.
    pub(super) fn end<S: KnownService>(
        &mut self,
        result: Box<AttemptResult>,
        target: Option<&Target>,
        moment: &Moment<'_, S>,
    ) {
        match &mut self.admission {
            Admission::Requested(response) => *response = Some(result),
            Admission::NotStored if !result.report.outcome.ends() => self.admit(Some(result)),
            Admission::NotStored | Admission::Stored => self.report(result, target, moment),
        }
    }

    /// Reports the attempt to the lane and to the store, and decides whether another follows.
    fn report<S: KnownService>(
        &mut self,
        mut result: Box<AttemptResult>,
        target: Option<&Target>,
        moment: &Moment<'_, S>,
    ) {
        let is_probe = self.permit.as_ref().is_some_and(|permit| permit.is_probe);
        let known = target.and_then(|target| Some((target.at, moment.services.get(target.at)?)));
        let outcome = result.sample(known.map(|(_, known)| known.service()), is_probe);
        if let Some((_, known)) = known {
            if result.needs_other_service {
                Rc::make_mut(&mut self.work).hopeless.push(known.service().id.clone());
            }
            retry::decide(&mut result, &self.work, moment.services, known, moment.now);
        }
        match self.permit.take() {
            Some(permit) => {
                self.release(permit.clone(), outcome);
                if is_probe {
                    // The service's next call must see the result.
                    self.state = State::ReleasingProbe(permit, result);
                    return;
                }
            }
            None => {
                let count = |(at, known): (usize, &S)| {
                    let successes = known.live().count_call(outcome, &self.timing)?;
                    Some((at, successes, outcome))
                };
                self.unreported = known.and_then(count);
            }
        }
        self.commit(*result);
    }

    /// The lane has learned of a call, or could not be reached.
    pub(super) fn settled<S: KnownService>(&mut self, moment: &Moment<'_, S>) {
        self.unsettled = self.unsettled.saturating_sub(1);
        self.end_pause(moment.now);
    }

    pub(super) fn release(&mut self, permit: Permit, outcome: CallOutcome) {
        self.unsettled += 1;
        self.actions.push(Action::Release { permit, outcome });
    }

    pub(super) fn released(&mut self, permit: &Permit) {
        match std::mem::replace(&mut self.state, State::Finished) {
            State::ReleasingProbe(probe, result) if probe == *permit => self.commit(*result),
            state => self.state = state,
        }
    }

    fn commit(&mut self, AttemptResult { report, result, .. }: AttemptResult) {
        match self.admission {
            Admission::NotStored => {
                // The shell answers the client before it stores the record.
                self.client = None;
                let work = Rc::make_mut(&mut self.work);
                let parameters = std::mem::replace(&mut work.parameters, RawValue::NULL.to_owned());
                let admission = Box::new(work.admission.clone());
                self.actions.push(Action::Record(Box::new(Record {
                    admission,
                    parameters,
                    report,
                    result,
                    earlier: Vec::new(),
                })));
                self.state = State::Leaving;
            }
            Admission::Requested(_) | Admission::Stored => {
                // Work that a service has accepted is the service's from then on.
                let renews = report.outcome.ends();
                // No other worker could make the next attempt.
                let stays_ms = if self.has_all_content() { u64::MAX } else { self.stays_ms };
                let content = self.wanted().content;
                let commit = Commit { report, result, stays_ms, content };
                self.actions.push(Action::Commit(Box::new(commit)));
                self.state = State::Committing { renews };
            }
        }
    }

    pub(super) fn committed<S: KnownService>(
        &mut self,
        reply: Result<CommitReceipt, Unreachable>,
        moment: &Moment<'_, S>,
    ) {
        if !matches!(self.state, State::Committing { .. }) {
            return;
        }
        match reply {
            Ok(CommitReceipt::Retry { ms }) => {
                self.report_calls();
                self.state = State::Pausing(moment.now.plus_ms(ms));
                return;
            }
            Ok(CommitReceipt::Ended) => self.answer(ClientAnswer::Ended),
            // If the report is lost, the lease expires, and the store takes care of the context.
            Ok(CommitReceipt::Ongoing | CommitReceipt::Rejected) | Err(Unreachable) => {}
        }
        self.report_calls();
        self.finish(moment.now);
    }

    pub(super) fn report_calls(&mut self) {
        if let Some((at, successes, last)) = self.unreported.take() {
            self.unsettled += 1;
            self.actions.push(Action::ReportCalls { at, successes, last });
        }
    }
}
