//! What a service does with a context beyond answering: taking it on in the background, reporting progress,
//! asking for input.
//!
//! A service that answers 202 holds the context's lease from then on, under the same number. It ends the context by
//! its callback, or keeps the lease alive. The number in its callback's address is the lease's, so a callback of a
//! lost lease changes nothing, as any late answer.

use serde_json::value::RawValue;

use super::{Background, Head, MAX_QUESTIONS, Outcome, Progress, Refused, Report, Verdict};
use crate::base::time::Timestamp;
use crate::context::status::Status;

impl Head {
    /// The service has it now; without a promise of its own it has all of the context's time.
    pub(super) fn take_on(&mut self, background: Background, lease_ms: Option<u64>, now: Timestamp) -> Verdict {
        self.background = Some(background);
        self.updated_at = now.max(self.updated_at);
        self.hold_for(lease_ms, now);
        Verdict::LivesOn
    }

    fn hold_for(&mut self, lease_ms: Option<u64>, now: Timestamp) {
        let deadline = self.admission.expires_at;
        if let Some(lease) = &mut self.lease {
            lease.until = lease_ms.map_or(deadline, |ms| now.plus_ms(ms).min(deadline));
        }
    }

    /// Somebody has to answer before it goes on.
    pub(super) fn ask_for(&mut self, request: Box<RawValue>, state: Option<String>, now: Timestamp) -> Verdict {
        self.background = None;
        self.input_state = state;
        self.input_request = Some(request);
        self.input = None;
        self.enter(Status::InputRequired, now);
        Verdict::LivesOn
    }

    /// A part of what the service asked for was answered; `to` is what it asks for then, in the place of `from`.
    pub fn narrow(&mut self, from: &RawValue, to: Box<RawValue>, now: Timestamp) -> Result<Verdict, Refused> {
        if self.status.is_final() {
            return Err(Refused::Ended);
        }
        let same = self.input_request.as_ref().is_some_and(|request| request.get() == from.get());
        if self.status != Status::InputRequired || !same {
            return Err(Refused::NotNow);
        }
        self.input_request = Some(to);
        self.updated_at = now.max(self.updated_at);
        Ok(Verdict::LivesOn)
    }

    /// The attempt under this lease asks, and stays open for the answer.
    pub fn ask(&mut self, lease: u64, request: Box<RawValue>, now: Timestamp) -> Result<Verdict, Refused> {
        self.must_hold(lease)?;
        let asks_on = self.status == Status::Executing && self.questions() < MAX_QUESTIONS;
        if !asks_on || self.background.is_some() || self.cancel_requested {
            return Err(Refused::NotNow);
        }
        Ok(self.ask_for(request, None, now))
    }

    /// An attempt that stayed open goes on, answered or not.
    pub(super) fn go_on(&mut self, now: Timestamp) {
        if self.status == Status::InputRequired && self.lease.is_some() {
            self.enter(Status::Queued, now);
            self.enter(Status::Executing, now);
        }
    }

    /// The answer to what the service asked for: the attempt that waits for it goes on, else the next one takes it along.
    pub fn answer(&mut self, input: Box<RawValue>, now: Timestamp) -> Result<Verdict, Refused> {
        if self.status.is_final() {
            return Err(Refused::Ended);
        }
        if self.status != Status::InputRequired || self.admission.expires_at <= now {
            return Err(Refused::NotNow);
        }
        self.input = Some(input);
        if self.lease.is_some() {
            self.go_on(now);
            return Ok(Verdict::LivesOn);
        }
        Ok(self.wait_until(now, now))
    }

    /// A service says that it is still at it: its lease goes on, and what it tells is kept.
    pub fn beat(
        &mut self,
        lease: u64,
        lease_ms: Option<u64>,
        data: Option<Box<RawValue>>,
        now: Timestamp,
    ) -> Result<(), Refused> {
        self.must_hold(lease)?;
        if self.background.is_some() {
            self.hold_for(lease_ms, now);
        }
        if let Some(data) = data {
            self.progress = Some(Progress { at: now, event: 0, data });
        }
        self.updated_at = now.max(self.updated_at);
        Ok(())
    }

    fn must_hold(&self, lease: u64) -> Result<(), Refused> {
        if self.status.is_final() {
            return Err(Refused::Ended);
        }
        if self.lease.is_none_or(|held| held.number != lease) {
            return Err(Refused::LeaseLost);
        }
        Ok(())
    }

    /// How the attempt under this lease ended, as its service called back. It may come before the worker that made
    /// the call has said that the service took it on.
    pub fn called_back(
        &mut self,
        lease: u64,
        outcome: Outcome,
        now: Timestamp,
        random: u64,
    ) -> Result<Verdict, Refused> {
        self.must_hold(lease)?;
        let began = self.lease.map_or(now, |lease| lease.since);
        let (service, started_at, status_code) = match &self.background {
            Some(background) => (background.service.clone(), background.started_at, background.status_code),
            None => (self.admission.service.clone(), began, None),
        };
        self.report(Report { lease, service, started_at, ended_at: now, status_code, outcome }, now, random)
    }
}
