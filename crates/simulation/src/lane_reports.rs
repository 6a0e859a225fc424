//! What connected services report about their deliveries: their lane passes it to the context stores, as
//! `objects/lanes/reports.rs` does.

use narthex_core::base::id::ContextId;
use narthex_core::base::retries::{CallFault, Retries};
use narthex_core::calling::response::CallResult;
use narthex_core::context::lease::LeaseNumber;
use narthex_core::context_store::messages::CallBack;
use narthex_core::context_store::replies::{CallbackReply, CancelOutcome, CancelReply};
use narthex_core::registry::revision::Revision;
use narthex_core::service_lane::reports::{DeliveryReport, Judgement};
use serde_json::{Value, json};

use crate::lane_actor::LaneAsk;
use crate::messages::{Actor, Ask, Call, Event, Reply};
use crate::worker::LANE_TIMEOUT_MS;
use crate::world::{World, given};

/// How many times a report to a store is repeated.
const MAX_RETRIES: u32 = 5;

/// A report to a store in progress.
pub struct LaneReport {
    report: DeliveryReport,
    call: CallBack,
    /// `None` for progress.
    judgement: Option<Judgement>,
    retries: Retries,
}

/// An outcome as a service writes it to its connection: the members of a response over HTTP, with a type.
fn frame(number: &str, answer: &CallResult) -> Option<String> {
    let CallResult::Http { body, .. } = answer else { return None };
    let mut frame: Value = serde_json::from_slice(body).ok()?;
    let kind = match () {
        () if frame.get("result").is_some() => "result",
        () if frame.get("error").is_some() => "error",
        () => "ask",
    };
    frame["type"] = json!(kind);
    frame["delivery"] = json!(number);
    if kind == "result" {
        let (id, lease) = number.split_once('.')?;
        let result = given(&ContextId::parse(id)?, LeaseNumber::parse(lease)?);
        frame["result"] = serde_json::from_str(&result).ok()?;
    }
    Some(frame.to_string())
}

impl World {
    /// The connection on which a service reports about a delivery: the one that has it, or another.
    fn reporting_slot(&self, at: usize, number: &str) -> Option<u32> {
        let object = &self.services[at].lane;
        let connections = object.connections.as_ref()?;
        let connection = object.storage.read(|disk| Some(disk.deliveries.get(number)?.connection.clone()));
        let has_it = connections.open.iter().find(|(_, one)| Some(&one.id) == connection.as_ref());
        has_it.or_else(|| connections.open.iter().next()).map(|(slot, _)| *slot)
    }

    /// A connected service reports an outcome, and waits until it is confirmed.
    pub fn report_outcome(&mut self, at: usize, call: Call, number: &str, answer: &CallResult) {
        let slot = self.reporting_slot(at, number);
        let (Some(slot), Some(frame)) = (slot, frame(number, answer)) else {
            return self.reply(call, Reply::Failed(CallFault::Failed));
        };
        if let Some(connections) = &mut self.services[at].lane.connections {
            connections.unconfirmed.entry(number.into()).or_default().push(call);
        }
        self.lane_receives(at, slot, &frame);
        if self.services[at].lane.lane.is_none() {
            self.unconfirmed(at, number);
        }
    }

    /// The service learns that its outcome has arrived.
    pub fn confirm_outcome(&mut self, at: usize, number: &str, is_late: bool) {
        let Some(connections) = &mut self.services[at].lane.connections else { return };
        for call in connections.unconfirmed.remove(number).unwrap_or_default() {
            self.reply(call, Reply::Reported { is_late });
        }
    }

    /// The connection on which an outcome was reported has closed.
    fn unconfirmed(&mut self, at: usize, number: &str) {
        let Some(connections) = &mut self.services[at].lane.connections else { return };
        for call in connections.unconfirmed.remove(number).unwrap_or_default() {
            self.reply(call, Reply::Failed(CallFault::Failed));
        }
    }

    /// A connected service reports progress. It does not wait for a reply.
    pub fn report_progress(&mut self, at: usize, number: &str) {
        let Some(slot) = self.reporting_slot(at, number) else { return };
        let frame = json!({"type": "progress", "delivery": number, "progress": {"percent": 1}}).to_string();
        self.lane_receives(at, slot, &frame);
    }

    /// Passes a report on.
    pub fn send_report(&mut self, at: usize, report: DeliveryReport) {
        self.note(|| format!("the lane of s{at} reports {report:?}"));
        let now = self.lane_clock(at);
        let retries = Retries::up_to(MAX_RETRIES);
        let (call, judgement) = match report.progress() {
            Some(progress) => (progress, None),
            None => {
                let judgement = report.judge(&self.services[at].name, None, now);
                (judgement.call.clone(), Some(judgement))
            }
        };
        self.call_store_back(at, LaneReport { report, call, judgement, retries });
    }

    fn call_store_back(&mut self, at: usize, report: LaneReport) {
        let store = self.store_of(&report.call.id);
        let sent = self.ask(Actor::Lane(at), store, Revision::INITIAL, Ask::CallBack(report.call.clone()));
        if let Some(connections) = &mut self.services[at].lane.connections {
            connections.reports.insert(sent, report);
        }
    }

    /// The lane repeats a report that has failed.
    pub fn repeat_report(&mut self, at: usize, number: u64) {
        let connections = self.services[at].lane.connections.as_mut();
        if let Some(report) = connections.and_then(|connections| connections.reports.remove(&number)) {
            self.call_store_back(at, report);
        }
    }

    /// The store has answered a report, or the registry one about the status.
    pub fn lane_replied(&mut self, at: usize, number: u64, reply: &Reply) {
        if self.status_answered(at, number, reply) {
            return;
        }
        let Some(connections) = &mut self.services[at].lane.connections else { return };
        let Some(mut report) = connections.reports.remove(&number) else { return };
        match reply {
            Reply::CallBack(CallbackReply::CalledBack { counts, .. }) => self.report_stored(at, &report, *counts),
            Reply::CallBack(CallbackReply::Nothing) => {
                let id = &report.call.id;
                if self.checker.was_stored_first(id) {
                    self.violate(format!("{id} was acknowledged, and its callback finds no context"));
                }
                self.report_stored(at, &report, false);
            }
            Reply::Failed(fault) if report.retries.allow(*fault) => {
                let pause_ms = report.retries.pause_ms();
                connections.reports.insert(number, report);
                self.schedule(self.now + pause_ms, Event::LaneRepeats { service: at, number });
            }
            _ if report.judgement.is_some() => {
                let report = report.report;
                self.lane_change(at, |lane, now, _| lane.report_failed(&report, now));
                self.unconfirmed(at, &report.delivery.number());
            }
            _ => {}
        }
    }

    fn report_stored(&mut self, at: usize, report: &LaneReport, counts: bool) {
        let LaneReport { report, judgement: Some(judgement), .. } = report else { return };
        let number = report.delivery.number();
        self.note(|| format!("the outcome of {number} is stored: {counts}"));
        self.lane_turn(at, |lane, now, random| lane.reported(report, judgement, counts, now, random));
        // Confirmed by a message, unless the turn failed.
        self.unconfirmed(at, &number);
    }

    /// The instance of a lane is gone, and with it the reports in progress.
    pub fn reports_stop(&mut self, at: usize) {
        let Some(connections) = &mut self.services[at].lane.connections else { return };
        connections.reports.clear();
        for call in std::mem::take(&mut connections.unconfirmed).into_values().flatten() {
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
