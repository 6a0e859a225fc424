//! What follows from the turns of a lane: messages on connections, decisions about permits, reports to stores and to
//! the registry.

use std::rc::Rc;

use narthex_core::lane::PermitDecision;
use narthex_core::lane::observed::ObservedStatus;
use narthex_core::registry::messages::ReportStatus;
use narthex_core::registry::replies::StatusReply;
use narthex_core::service_lane::effects::{Effects, SocketAction};

use crate::lane_actor::TIMING;
use crate::messages::{Actor, Call, Event, Reply};
use crate::mutants::Mutant;
use crate::network::REPLY_TIMEOUT_MS;
use crate::registry_object::{RegistryAsk, RegistryReply};
use crate::world::World;

/// How long a report and the event about it may take without faults.
const EVENT_MS: u64 = 10_000;

/// Statuses settle this long after the faults have ended.
const LATEST_MS: u64 = 60_000;

/// A report of the status on its way to the registry.
pub struct StatusReport {
    report: Rc<ReportStatus>,
    /// The replies that wait for it.
    pub replies: Vec<(Call, Reply)>,
}

impl World {
    /// Carries out at most `left` effects. Returns how many there were.
    pub fn carry_out_for_lane(&mut self, at: usize, effects: Effects, left: u64) -> u64 {
        let Effects { alarm, sockets, decisions, reports, must_report, report_latency, clear_busy, .. } = effects;
        let mut done = 0;
        let mut next = || {
            done += 1;
            done <= left
        };
        self.lane_is_seen(at);
        // Stored with the rows.
        if let Some(alarm) = alarm.filter(|_| self.mutant != Some(Mutant::LaneForgetsAlarms)) {
            let alarm = alarm.0.saturating_add_signed(-self.services[at].lane.offset).max(self.now + 1);
            self.set_lane_alarm(at, alarm);
        }
        for action in sockets {
            if next() {
                self.act_on_socket(at, action);
            }
        }
        for (request, decision) in decisions {
            if next() {
                self.answer_waiting(at, request, decision);
            }
        }
        for report in reports {
            if next() {
                self.send_report(at, report);
            }
        }
        if must_report && next() {
            self.report_status(at, true);
        }
        if report_latency && next() {
            self.report_status(at, false);
        }
        if clear_busy && next() {
            let life = self.services[at].lane.life;
            self.schedule(self.now + TIMING.lane_idle_ms, Event::LaneRests { service: at, life });
        }
        done
    }

    fn lane_is_seen(&mut self, at: usize) {
        let object = &mut self.services[at].lane;
        let Some(measured) = object.lane.as_ref().map(|lane| lane.observed()) else { return };
        if measured.version > object.seen.version {
            object.seen = measured;
            self.note(|| format!("s{at} is {:?}, its breaker {:?}", measured.status, measured.breaker));
        }
    }

    fn answer_waiting(&mut self, at: usize, request: u64, decision: PermitDecision) {
        let Some(call) = self.services[at].lane.waiting.remove(&request) else { return };
        self.granted(at, decision);
        self.note(|| format!("the lane of s{at} tells {call:?}: {decision:?}"));
        self.reply(call, Reply::Permit(decision));
    }

    fn act_on_socket(&mut self, at: usize, action: SocketAction) {
        match action {
            SocketAction::Send(slot, text) => self.service_receives(at, slot, &text),
            SocketAction::Attach(slot, text) => {
                if let Some(connections) = &mut self.services[at].lane.connections {
                    connections.attach(slot, text);
                }
            }
            SocketAction::Close(slot, why) => {
                self.note(|| format!("the lane of s{at} closes connection {slot}: {why:?}"));
                if let Some(connections) = &mut self.services[at].lane.connections {
                    connections.open.remove(&slot);
                }
                self.reconnect(at);
            }
        }
    }

    /// Reports the status to the registry; the reply of this turn waits for a change to arrive.
    fn report_status(&mut self, at: usize, changed: bool) {
        let Some(lane) = &self.services[at].lane.lane else { return };
        let report = if changed { lane.status_report() } else { lane.latency_report() };
        let Some(report) = report.map(Rc::new) else { return };
        let ask = RegistryAsk::Report(report.clone());
        let number = self.ask_registry(Actor::Lane(at), ask, REPLY_TIMEOUT_MS);
        self.statistics.count("status reported");
        if self.is_calm() && changed && self.now < self.calm_at() + LATEST_MS {
            // The event about it is to arrive in the log.
            self.last_until(self.now + EVENT_MS);
        }
        if changed {
            let object = &mut self.services[at].lane;
            object.status_reports.insert(number, StatusReport { report, replies: Vec::new() });
            object.reply_follows = Some(number);
        }
    }

    /// The registry has answered a report of the status, or has not. Returns whether there was one.
    pub fn status_answered(&mut self, at: usize, number: u64, reply: &Reply) -> bool {
        let Some(StatusReport { report, replies }) = self.services[at].lane.status_reports.remove(&number) else {
            return false;
        };
        let reply = match reply {
            Reply::Registry(RegistryReply::Measured(reply)) => Some(reply),
            _ => None,
        };
        let known = self.registry.storage.read(|disk| disk.measured.get(&report.service).map(|known| known.version));
        let is_present =
            self.stored_settings(&report.service).is_some_and(|(stored, _)| report.moved_at == Some(stored.moved_at));
        if reply == Some(&StatusReply::Recorded) && is_present && known < Some(report.measured.version) {
            self.violate(format!("the registry has answered {report:?} and has {known:?}"));
        }
        self.lane_change(at, |lane, now, _| lane.status_reported(&report, reply, now));
        for (call, reply) in replies {
            self.reply(call, reply);
        }
        true
    }

    /// Stores that an idle lane has finished its work.
    pub fn lane_rests(&mut self, at: usize, life: u64) {
        if self.services[at].lane.life == life && self.services[at].lane.lane.is_some() {
            self.lane_change(at, |lane, now, _| lane.clear_busy(now));
        }
    }

    /// At the end, the registry has the status of each service whose lane has learned of its registration.
    pub fn check_statuses(&mut self) {
        let of = |status: &ObservedStatus| (status.status, status.evidence, status.breaker, status.breaker_until);
        for at in 0..self.services.len() {
            let (name, object) = (&self.services[at].name, &self.services[at].lane);
            let stored = object.storage.read(|disk| disk.stored_state());
            let learned = stored.as_ref().map(|state| state.moved_at);
            let Some((registered, needs)) = self.stored_settings(name) else { continue };
            if !needs && learned.is_some_and(|learned| learned != registered.moved_at) {
                continue;
            }
            let stored = stored.map(|state| state.record.measured);
            let Some(observed) = object.lane.as_ref().map(|lane| lane.observed()).or(stored) else { continue };
            let known = self.registry.storage.read(|disk| disk.measured.get(name).copied()).unwrap_or_default();
            if of(&observed) != of(&known) {
                let text = format!("s{at} is {observed:?}, and the registry has {known:?}");
                return self.violate(text);
            }
        }
    }
}
