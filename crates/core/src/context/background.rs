//! What a service can do instead of answering at once: work in the background, report progress, ask for input.
//!
//! A service that answers 202 holds the context's lease from then on, under the same number. It ends the context by a
//! callback, or renews the lease. The callback URL contains the lease number, so that a callback under a lost lease
//! changes nothing, like any late answer.

use serde_json::value::RawValue;

use super::{AttemptReport, Background, Head, MAX_INPUT_REQUESTS, Progress, Rejection, ReportedOutcome, Transition};
use crate::base::time::Timestamp;
use crate::context::lease::LeaseNumber;
use crate::context::status::Status;
use crate::models::stated_usage::StatedUsage;

impl Head {
    /// The service has accepted the work. Without a promise (`lease_ms`), only the deadline limits it.
    pub(super) fn accept(&mut self, background: Background, lease_ms: Option<u64>, now: Timestamp) -> Transition {
        self.background = Some(background);
        self.updated_at = now.max(self.updated_at);
        self.extend_lease(lease_ms, now);
        Transition::Ongoing
    }

    fn extend_lease(&mut self, lease_ms: Option<u64>, now: Timestamp) {
        let deadline = self.admission.expires_at;
        if let Some(lease) = &mut self.lease {
            lease.until = lease_ms.map_or(deadline, |ms| now.plus_ms(ms).min(deadline));
        }
    }

    /// Suspends the context until a client answers `request`.
    pub(super) fn suspend(&mut self, request: Box<RawValue>, state: Option<String>, now: Timestamp) -> Transition {
        self.background = None;
        self.input_state = state;
        self.input_request = Some(request);
        self.input = None;
        self.enter(Status::InputRequired, now);
        Transition::Ongoing
    }

    /// Applies a partial answer: `to` replaces the input request `from`.
    pub fn narrow_input_request(
        &mut self,
        from: &RawValue,
        to: Box<RawValue>,
        now: Timestamp,
    ) -> Result<Transition, Rejection> {
        if self.status.is_final() {
            return Err(Rejection::Ended);
        }
        let same = self.input_request.as_ref().is_some_and(|request| request.get() == from.get());
        if self.status != Status::InputRequired || !same {
            return Err(Rejection::WrongState);
        }
        self.input_request = Some(to);
        self.updated_at = now.max(self.updated_at);
        Ok(Transition::Ongoing)
    }

    /// The attempt with this lease asks for input, and stays open until the answer. While it waits, the same request
    /// again changes nothing: the reply to the first was lost.
    pub fn ask_for_input(
        &mut self,
        lease: LeaseNumber,
        request: Box<RawValue>,
        now: Timestamp,
    ) -> Result<Transition, Rejection> {
        self.require_lease(lease)?;
        if self.is_bound_to_worker() {
            return Err(Rejection::WrongState);
        }
        let is_same = self.input_request.as_ref().is_some_and(|asked| asked.get() == request.get());
        if self.status == Status::InputRequired && is_same {
            return Ok(Transition::Unchanged);
        }
        let asks_on = self.status == Status::Executing && self.input_requests() < MAX_INPUT_REQUESTS;
        if !asks_on || self.background.is_some() || self.cancel_requested {
            return Err(Rejection::WrongState);
        }
        Ok(self.suspend(request, None, now))
    }

    /// Continues an attempt that stayed open for an answer, with or without the answer.
    pub(super) fn resume(&mut self, now: Timestamp) {
        if self.status == Status::InputRequired && self.lease.is_some() {
            self.enter(Status::Queued, now);
            self.enter(Status::Executing, now);
        }
    }

    /// Answers an input request: an attempt that stayed open continues, otherwise the next attempt sends the answer.
    pub fn answer(&mut self, input: Box<RawValue>, now: Timestamp) -> Result<Transition, Rejection> {
        if self.status.is_final() {
            return Err(Rejection::Ended);
        }
        if self.status != Status::InputRequired || self.admission.expires_at <= now {
            return Err(Rejection::WrongState);
        }
        self.input = Some(input);
        if self.lease.is_some() {
            self.resume(now);
            return Ok(Transition::Ongoing);
        }
        Ok(self.wait_until(now, now))
    }

    /// The service is still working: renews its lease and stores its progress.
    pub fn heartbeat(
        &mut self,
        lease: LeaseNumber,
        lease_ms: Option<u64>,
        data: Option<Box<RawValue>>,
        now: Timestamp,
    ) -> Result<(), Rejection> {
        self.require_lease(lease)?;
        if self.background.is_some() {
            self.extend_lease(lease_ms, now);
        }
        if let Some(data) = data.filter(|_| self.admission.content.is_full()) {
            self.progress = Some(Progress { at: now, event: 0, data });
        }
        self.updated_at = now.max(self.updated_at);
        Ok(())
    }

    fn require_lease(&self, lease: LeaseNumber) -> Result<(), Rejection> {
        if self.status.is_final() {
            return Err(Rejection::Ended);
        }
        if self.lease.is_none_or(|held| held.number != lease) {
            return Err(Rejection::LeaseLost);
        }
        Ok(())
    }

    /// Applies the end of the attempt with this lease, as its service reported it by callback. The callback may arrive
    /// before the worker's report that the service has accepted the work.
    pub fn report_by_callback(
        &mut self,
        lease: LeaseNumber,
        outcome: ReportedOutcome,
        stated: Option<Box<StatedUsage>>,
        now: Timestamp,
        random: u64,
    ) -> Result<Transition, Rejection> {
        self.require_lease(lease)?;
        if self.is_bound_to_worker() {
            // Its worker would not learn of it, and the result is not kept.
            return Err(Rejection::WrongState);
        }
        let began = self.lease.map_or(now, |lease| lease.since);
        let (service, started_at, status_code) = match &self.background {
            Some(background) => (background.service.clone(), background.started_at, background.status_code),
            None => (self.admission.service.clone(), began, None),
        };
        let price = self.admission.price.clone();
        let ended_at = now;
        let report =
            AttemptReport { lease, service, started_at, ended_at, status_code, outcome, spent: None, price, stated };
        self.report(report, now, random)
    }
}
