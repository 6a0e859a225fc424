//! `ServiceLane`: the wait queue, the breaker and the health of one service; a single instance worldwide.
//!
//! A shell around `narthex_core::service_lane`, which decides: it carries out what follows from each turn. A change of
//! the status or the breaker is written to disk and reported to the registry before the request that caused it is
//! answered, so that a snapshot fetched afterwards includes it.

pub mod client;
mod effects;
mod handlers;
pub mod messages;
mod permit_waits;
mod probe;
mod reports;
mod tables;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use futures_channel::oneshot;
use serde_json::value::RawValue;
use wasm_bindgen::JsValue;

use crate::objects::shell::{Answer, Outcome, Shell, SocketShell, WrittenAnswer, socket_object};
use crate::platform::http::Headers;
use crate::platform::sockets::Sockets;
use crate::platform::{Failure, clock, random, settings};
use narthex_core::base::id::ulid;
use narthex_core::base::timing::Timing;
use narthex_core::service_lane::probing::{ProbeReport, Probed};
use narthex_core::service_lane::{self, Connection};

use messages::{Ask, LaneReply, Message, Open};
use permit_waits::PermitWaits;
use tables::Tables;

struct Inner {
    tables: Tables,
    lane: RefCell<service_lane::ServiceLane<Tables>>,
    sockets: Sockets,
    waits: PermitWaits,
    is_ticking: Cell<bool>,
    /// The probe in progress.
    probing: Cell<Option<Probed>>,
    probe_waiters: RefCell<Vec<oneshot::Sender<ProbeReport>>>,
    timing: Timing,
}

socket_object!(ServiceLane: Inner);

impl Shell for Inner {
    type Message = Message<Ask>;

    fn open(object: &JsValue, env: &JsValue) -> Result<Rc<Self>, Failure> {
        let tables = Tables::open(object)?;
        let timing = settings::of(env).timing;
        let (sockets, attachments) = Sockets::restore(object);
        let lane = service_lane::ServiceLane::open(tables.clone(), attachments, timing, clock::now())?;
        Ok(Rc::new(Self {
            tables,
            lane: RefCell::new(lane),
            sockets,
            waits: PermitWaits::default(),
            is_ticking: Cell::new(false),
            probing: Cell::new(None),
            probe_waiters: RefCell::default(),
            timing,
        }))
    }

    /// The reply is written after the effects of the request have settled, and the registry has been notified of a
    /// change.
    fn answer(self: &Rc<Self>, message: Message<Ask>) -> WrittenAnswer {
        if let Err(failure) = self.learn(&message) {
            self.settle_in_background();
            return WrittenAnswer::Now(Err(failure));
        }
        let inner = self.clone();
        match message.ask.dispatch(self) {
            WrittenAnswer::Now(text) if !self.settle() => text.and_then(|text| self.reply(text)).into(),
            WrittenAnswer::Now(text) => Answer::later(async move {
                inner.report_status().await;
                inner.reply(text?)
            })
            .into(),
            WrittenAnswer::Later(text) => Answer::later(async move {
                let text = text.await;
                if inner.settle() {
                    inner.report_status().await;
                }
                inner.reply(text?)
            })
            .into(),
        }
    }

    fn alarm(self: &Rc<Self>) -> Outcome<()> {
        let inner = self.clone();
        Outcome::later(async move {
            let sockets = inner.sockets.clone();
            let pinged_at = |slot| sockets.pinged_at(slot);
            let target = inner.lane.borrow_mut().alarm(clock::now(), random::number(), pinged_at);
            // Before any await, so that the next alarm is set whatever happens in this one.
            let mut must_report = inner.settle();
            if let Some(target) = target {
                inner.probe_on_time(&target).await;
                must_report |= inner.settle();
            }
            if must_report {
                inner.report_status().await;
            }
            Ok(())
        })
    }
}

impl SocketShell for Inner {
    type Open = Message<Open>;

    /// Opens a connection of the service.
    fn open_socket(self: &Rc<Self>, message: Message<Open>) -> Outcome<JsValue> {
        let (now, settings) = (clock::now(), message.settings());
        let learned = self.lane.borrow_mut().learn(&message.tenant, &settings, now);
        if let Err(error) = learned {
            self.settle_in_background();
            return Outcome::Now(Err(error.into()));
        }
        let Open::Connect { viewer, headers: flat } = message.ask;
        let mut headers = Headers::default();
        let mut lines = flat.split('\n');
        while let (Some(name), Some(value)) = (lines.next(), lines.next()) {
            headers.set(name, value);
        }
        let connection = Connection::new(format!("con_{}", ulid(now, random::bytes())), viewer, now);
        let (response, slot) = self.sockets.accept(&connection.attachment(), &headers);
        self.lane.borrow_mut().connect(slot, connection, now);
        self.settle_in_background();
        Outcome::Now(Ok(response))
    }

    fn slot(&self, socket: &JsValue) -> Option<u32> {
        self.sockets.slot(socket)
    }

    fn handle_message(self: &Rc<Self>, slot: u32, text: Option<&str>) {
        self.lane.borrow_mut().message(slot, text, clock::now());
        self.settle_in_background();
    }

    fn handle_close(self: &Rc<Self>, slot: u32) {
        self.lane.borrow_mut().closed(slot, clock::now());
        self.settle_in_background();
    }
}

impl Inner {
    /// What comes with a request. That the service was deleted is all that the message about it says.
    fn learn(&self, message: &Message<Ask>) -> Result<(), Failure> {
        let Message { tenant, ask, .. } = message;
        let (settings, mut lane) = (message.settings(), self.lane.borrow_mut());
        let learned = match ask {
            Ask::Forget => lane.forget(tenant, &settings, clock::now()),
            _ => lane.learn(tenant, &settings, clock::now()),
        };
        learned.map_err(Failure::from)
    }

    /// A reply, written already, with the present status.
    fn reply(&self, text: String) -> Result<LaneReply<Box<RawValue>>, Failure> {
        Ok(LaneReply { observed: self.lane.borrow().observed(), reply: RawValue::from_string(text)? })
    }
}
