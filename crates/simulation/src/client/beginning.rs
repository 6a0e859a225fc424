//! How a gateway begins a request: by its snapshot of the registry, or by one that it reads first.

use std::rc::Rc;

use narthex_core::base::retries::Retries;
use narthex_core::base::time::Timestamp;
use narthex_core::context::idempotency::Claim;
use narthex_core::context::lease::{Hold, LeaseNumber};
use narthex_core::context_store::messages::Admit;
use narthex_core::context_store::replies::Work;
use narthex_core::execution::admission_check;
use narthex_core::execution::known_service::KnownService;

use super::{Mode, Request};
use crate::isolate::Snapshot;
use crate::lane_actor::{LaneAsk, waiter};
use crate::messages::{Actor, Event};
use crate::store::LEASE_MS;
use crate::worker::LANE_TIMEOUT_MS;
use crate::world::{PARAMETERS, World, raw};

impl World {
    /// A request arrives at some gateway and gets a new id, whatever was tried before.
    pub fn begin(&mut self, at: usize) {
        if self.requests[at].acknowledged.is_some() {
            return;
        }
        self.requests[at].arrived_at = self.now;
        let Request { isolate, mode, .. } = self.requests[at];
        // No store confirms the decision about what is run before it is stored.
        let known = match mode {
            Mode::WriteBehind => self.fresh_snapshot(isolate),
            Mode::Here | Mode::Queue => self.any_snapshot(isolate),
        };
        match known {
            Some(snapshot) => self.begin_with(at, snapshot),
            None => self.read_registry_for(at),
        }
    }

    pub(super) fn read_registry_for(&mut self, at: usize) {
        let number = self.read_registry(Actor::Request(at), self.requests[at].isolate);
        let request = &mut self.requests[at];
        (request.asked, request.pending, request.is_reading) = (None, number, true);
    }

    /// The registry has answered the request's gateway, or not.
    pub fn request_fetched(&mut self, at: usize, number: u64, snapshot: Option<Rc<Snapshot>>) {
        let request = &mut self.requests[at];
        if request.pending != number || !request.is_reading {
            return;
        }
        (request.pending, request.is_reading) = (0, false);
        if request.acknowledged.is_some() {
            return self.poll(at);
        }
        let Some(snapshot) = snapshot else { return self.begin_again(at) };
        self.begin_with(at, snapshot);
    }

    /// The gateway has failed. A client with a key sends the request again.
    pub(super) fn begin_again(&mut self, at: usize) {
        let request = &mut self.requests[at];
        if request.key.is_some() && request.repeats > 0 {
            request.repeats -= 1;
            let pause = self.dice.between(10, 5_000);
            self.schedule(self.now + pause, Event::Begin(at));
        }
    }

    fn begin_with(&mut self, at: usize, snapshot: Rc<Snapshot>) {
        // If no service offers it, the request is rejected.
        let first = self.requests[at].first_service.map(|first| self.services[first].name.clone());
        let Some(service) = self.route(first, &snapshot) else { return };
        let admission = self.admission(at, self.services[service].name.clone());
        self.last_until(admission.expires_at.0.max(self.calm_at()) + 25_000);
        self.checker.expect(&admission);
        let request = &mut self.requests[at];
        request.ids.push(admission.id.clone());
        (request.service, request.snapshot) = (service, snapshot.clone());
        request.retries = Retries::up_to(1);
        let is_gated = snapshot.services.iter().any(|known| known.lane == service && known.is_gated());
        if request.mode == Mode::WriteBehind && !is_gated {
            self.check_unconfirmed(at, &snapshot);
            self.checker.expect_write_behind(&admission.id);
            let work = Work::first(admission, raw(PARAMETERS), Hold::Leased(LeaseNumber::FIRST));
            return self.run_here(at, work, true);
        }
        let claim =
            request.key.map(|(key, body)| Claim { scope: format!("key {key}"), fingerprint: format!("body {body}") });
        let (is_here, waits) = (request.is_here(), request.waits_ms.is_some());
        (request.offers, request.is_queued) = (false, false);
        let lease_ms = is_here.then_some(LEASE_MS);
        let who = waiter(&admission, false);
        let parameters = admission.kept_part(&raw(PARAMETERS)).to_owned();
        let admission = Box::new(admission.kept());
        request.asked = Some(Admit { admission, parameters, lease_ms, offers: false, show: false, claim });
        let known = snapshot.services.iter().find(|known| known.lane == service).filter(|_| !waits);
        let now = Timestamp(self.now);
        match known.map(|known| admission_check::without_lane(known, now)) {
            None => self.admit(at),
            Some(Some(checked)) => self.admit_as(at, checked),
            Some(None) => {
                self.requests[at].entering = true;
                let ask = LaneAsk::Acquire { who, wait_ms: 0 };
                self.requests[at].pending = self.ask_lane(Actor::Request(at), service, ask, LANE_TIMEOUT_MS);
            }
        }
    }
}
