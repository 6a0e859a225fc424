//! What connected services report about their deliveries: their lane passes it to the context stores, as
//! `objects/lanes/reports.rs` does.

use narthex_core::base::retries::{CallFault, Retries};
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::connection::pool::Delivery;
use narthex_core::calling::response::{self, CallResult};
use narthex_core::context::AttemptReport;
use narthex_core::context_store::messages::{CallBack, CallbackReport};
use narthex_core::context_store::replies::{CallbackReply, CancelOutcome, CancelReply};
use narthex_core::lane::call_outcome::{CallOutcome, fair_ms};

use narthex_core::registry::revision::Revision;

use crate::lane_actor::LaneAsk;
use crate::messages::{Actor, Ask, Call, Event, Reply};
use crate::worker::LANE_TIMEOUT_MS;
use crate::world::{World, raw, result};

/// How many times a report to a store is repeated.
const MAX_RETRIES: u32 = 5;
const TIMEOUT_SECONDS: u64 = 60;

/// A report to a store in progress.
pub struct LaneReport {
    delivery: Delivery,
    callback: CallbackReport,
    /// What an outcome shows about the service.
    sample: Option<CallOutcome>,
    /// The service that waits for the reply.
    call: Option<Call>,
    retries: Retries,
}

fn outcome(service: &ServiceId, delivery: Delivery, answer: CallResult, now: Timestamp) -> LaneReport {
    let verdict = response::read(service, answer, None);
    let report = AttemptReport {
        lease: delivery.lease,
        service: service.clone(),
        started_at: delivery.handed_at,
        ended_at: now,
        status_code: None,
        outcome: verdict.outcome,
    };
    let sample = CallOutcome::of(&report, fair_ms(TIMEOUT_SECONDS), verdict.unhealthy);
    let result = result(&report.outcome, &delivery.context, delivery.lease);
    let callback = CallbackReport::Outcome { outcome: report.outcome, result };
    LaneReport { delivery, callback, sample: Some(sample), call: None, retries: Retries::up_to(MAX_RETRIES) }
}

/// The report that a delivery was given up.
pub fn lost(service: &ServiceId, delivery: Delivery, now: Timestamp) -> LaneReport {
    outcome(service, delivery, CallResult::Lost, now)
}

impl World {
    fn find_delivery(&mut self, at: usize, number: &str) -> Option<Delivery> {
        self.wake_lane(at);
        self.services[at].lane.connections.as_ref()?.pool.find(number).cloned()
    }

    /// A connected service reports an outcome.
    pub fn report_outcome(&mut self, at: usize, call: Call, number: &str, answer: CallResult) {
        let Some(delivery) = self.find_delivery(at, number) else {
            return self.reply(call, Reply::Reported { is_late: true });
        };
        let report = outcome(&self.services[at].name, delivery, answer, self.lane_clock(at));
        self.send_report(at, LaneReport { call: Some(call), ..report });
    }

    /// A connected service reports progress. It does not wait for a reply.
    pub fn report_progress(&mut self, at: usize, number: &str) {
        let Some(delivery) = self.find_delivery(at, number) else { return };
        let callback = CallbackReport::Beat { lease_ms: None, progress: Some(raw(r#"{"percent":1}"#)) };
        let retries = Retries::up_to(MAX_RETRIES);
        self.send_report(at, LaneReport { delivery, callback, sample: None, call: None, retries });
    }

    pub fn send_report(&mut self, at: usize, report: LaneReport) {
        let (id, lease) = (report.delivery.context.clone(), report.delivery.lease);
        let store = self.store_of(&id);
        let ask = Ask::CallBack(CallBack { id, lease, callback: report.callback.clone() });
        let sent = self.ask(Actor::Lane(at), store, Revision::INITIAL, ask);
        if let Some(connections) = &mut self.services[at].lane.connections {
            connections.reports.insert(sent, report);
        }
    }

    /// The lane repeats a report that has failed.
    pub fn repeat_report(&mut self, at: usize, number: u64) {
        let connections = self.services[at].lane.connections.as_mut();
        if let Some(report) = connections.and_then(|connections| connections.reports.remove(&number)) {
            self.send_report(at, report);
        }
    }

    /// The store has answered a report.
    pub fn lane_replied(&mut self, at: usize, number: u64, reply: &Reply) {
        let Some(connections) = &mut self.services[at].lane.connections else { return };
        let Some(mut report) = connections.reports.remove(&number) else { return };
        match reply {
            Reply::CallBack(CallbackReply::CalledBack { counts, .. }) => self.report_stored(at, report, *counts),
            Reply::CallBack(CallbackReply::Nothing) => {
                let id = &report.delivery.context;
                if self.checker.was_stored_first(id) {
                    self.violate(format!("{id} was acknowledged, and its callback finds no context"));
                }
                self.report_stored(at, report, false);
            }
            Reply::Failed(fault) if report.retries.allow(*fault) => {
                let pause_ms = report.retries.pause_ms();
                connections.reports.insert(number, report);
                self.schedule(self.now + pause_ms, Event::LaneRepeats { service: at, number });
            }
            reply => {
                // A delivery that was given up expires again; a service reports its outcome after it reconnects.
                if let Some(call) = report.call {
                    self.hang_up(at, &report.delivery.connection);
                    self.reply(call, reply.clone());
                }
            }
        }
    }

    fn report_stored(&mut self, at: usize, report: LaneReport, counts: bool) {
        let LaneReport { delivery, sample: Some(sample), call, .. } = report else { return };
        self.note(|| format!("the outcome of {} is stored: {counts}", delivery.number()));
        let ended = self.lane_turn(at, |turn| {
            // A repeated report counts at the store, but is no second call of the service.
            if turn.end_delivery(&delivery.number()) && counts {
                turn.lane.report(0, sample, turn.now, turn.random);
            }
            ((), false)
        });
        if let Some(call) = call {
            let reply = match ended {
                Some(()) => Reply::Reported { is_late: !counts },
                None => Reply::Failed(CallFault::Failed),
            };
            self.reply(call, reply);
        }
    }

    /// The instance of a lane is gone, and with it the reports in progress.
    pub fn reports_stop(&mut self, at: usize) {
        let Some(connections) = &mut self.services[at].lane.connections else { return };
        let reports = std::mem::take(&mut connections.reports);
        for call in reports.into_values().filter_map(|report| report.call) {
            let (patience, fault) = self.patience();
            self.schedule(self.now + patience, Event::Replied { call, reply: Reply::Failed(fault) });
        }
    }

    /// A context was cancelled: the connected service that runs it in the background is notified.
    pub fn cancelled(&mut self, at: usize, reply: &Reply) {
        let Reply::Cancel(CancelReply::Cancelled { outcome: CancelOutcome::Now, background: Some(background), .. }) =
            reply
        else {
            return;
        };
        let service = self.service_called(&background.service);
        if self.connects(service)
            && let Some(context) = self.requests[at].acknowledged.clone()
        {
            self.ask_lane(Actor::None, service, LaneAsk::Withdraw { context, lease: None }, LANE_TIMEOUT_MS);
        }
    }
}
