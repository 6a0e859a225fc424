//! `EventShard`: the sockets of a tenant beyond its hub's capacity.
//!
//! A shard has no log: the hub pushes new events, and the shard reads past events from the hub for its sockets. It
//! stores a single number, the position of its live sockets. See `narthex_core::events::fanout`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use wasm_bindgen::prelude::*;

use crate::objects::registry::snapshot;
use crate::objects::reply;
use crate::platform::objects::{self, CALL_TIMEOUT_MS, Kind};
use crate::platform::sql::Sql;
use crate::platform::{Failure, clock, settings, tasks};
use narthex_core::base::time::Timestamp;
use narthex_core::events::fanout::{PushDecision, ShardPosition};
use narthex_core::events::sequence::Sequence;

use super::messages::{Ask, Open, Page, Reply, ShardAsk, ShardReply};
use super::subscribers::{FeedResult, LogSpan, MAX_SOCKETS, SLOW_READER_PAUSE_MS, Subscribers};

const CREATE: &str = "CREATE TABLE IF NOT EXISTS reach (one INTEGER PRIMARY KEY, reached INTEGER NOT NULL) STRICT";

struct Shard {
    sql: Sql,
    subscribers: Subscribers,
    reach: RefCell<ShardPosition>,
    alarm_at: Cell<Option<Timestamp>>,
    checked_at: Cell<Timestamp>,
    check_ms: u64,
}

#[wasm_bindgen]
pub struct EventShard(Rc<Shard>);

#[wasm_bindgen]
impl EventShard {
    #[wasm_bindgen(constructor)]
    pub fn new(state: &JsValue, env: &JsValue) -> Result<EventShard, JsValue> {
        let open = || {
            let sql = Sql::of(state, Kind::Shards);
            sql.run(CREATE, &[])?;
            let reached = sql.first("SELECT reached FROM reach", &[])?.and_then(|row| row.sequence(0));
            Ok((sql, reached))
        };
        let (sql, reached) = open().map_err(|failure: Failure| js_sys::Error::new(&failure.0))?;
        let settings = settings::of(env);
        let shard = Rc::new(Shard {
            sql,
            subscribers: Subscribers::restore(state),
            reach: RefCell::new(ShardPosition::restore(reached)),
            alarm_at: Cell::new(None),
            checked_at: Cell::new(clock::now()),
            check_ms: settings.socket_check_ms,
        });
        shard.feed_all();
        Ok(Self(shard))
    }

    /// `message` is a [`ShardAsk`].
    pub fn call(&self, message: &str) -> Result<JsValue, JsValue> {
        let ask: ShardAsk = serde_json::from_str(message).map_err(|e| js_sys::Error::new(&e.to_string()))?;
        tasks::turn(|| reply(self.0.answer(ask)))
    }

    /// Opens a socket; `message` is an [`Open`].
    pub fn open(&self, message: &str) -> Result<JsValue, JsValue> {
        let open: Open = serde_json::from_str(message).map_err(|e| js_sys::Error::new(&e.to_string()))?;
        let shard = self.0.clone();
        Ok(tasks::promise(
            async move { shard.open(open).await.map_err(|failure| js_sys::Error::new(&failure.0).into()) },
        ))
    }

    pub fn message(&self, socket: &JsValue, text: Option<String>) {
        if let Some(slot) = self.0.subscribers.slot(socket) {
            tasks::turn(|| self.0.subscribers.message(slot, text.as_deref()));
        }
    }

    pub fn closed(&self, socket: &JsValue) {
        if let Some(slot) = self.0.subscribers.slot(socket) {
            self.0.subscribers.closed(slot);
        }
    }

    pub fn alarm(&self) {
        self.0.alarm_at.set(None);
        self.0.subscribers.close_expired(clock::now());
        self.0.arm();
    }
}

impl Shard {
    fn answer(self: &Rc<Self>, ask: ShardAsk) -> Result<ShardReply, Failure> {
        match ask {
            ShardAsk::Push { after, page } => self.handle_push(after, &page),
            ShardAsk::Revoke { principal } => {
                self.subscribers.revoke(&principal);
                Ok(ShardReply::Done)
            }
            ShardAsk::End(revocation) => {
                self.subscribers.revoke_dependents(&revocation);
                Ok(ShardReply::Done)
            }
        }
    }

    fn handle_push(self: &Rc<Self>, after: Option<Sequence>, page: &Page) -> Result<ShardReply, Failure> {
        let span = page.span()?;
        let reached = self.reach.borrow().reached();
        if let Some(reached) = reached.filter(|reached| reached.next() < page.first_kept) {
            self.subscribers.report_gap(reached, page.first_kept);
            self.reach.borrow_mut().skip_to(page.first_kept.previous());
        }
        let decision = self.reach.borrow_mut().take(after, page.last, !self.subscribers.is_empty());
        let sockets = self.subscribers.len();
        match decision {
            PushDecision::SendAfter(from) => {
                if let Err(failure) = self.store_position() {
                    self.reach.borrow_mut().revert_to(from);
                    return Err(failure);
                }
                if page.last > from {
                    self.subscribers.close_expired(clock::now());
                    self.subscribers.broadcast(&span.batches, from);
                    self.feed_all();
                    self.check_again();
                }
                Ok(ShardReply::Reached { reached: from.max(page.last), sockets })
            }
            PushDecision::Missing(reached) => Ok(ShardReply::Reached { reached, sockets }),
            PushDecision::Joining => Ok(ShardReply::Joining),
            PushDecision::Gone => {
                self.store_position()?;
                Ok(ShardReply::Gone)
            }
        }
    }

    /// Stores the position.
    fn store_position(&self) -> Result<(), Failure> {
        match self.reach.borrow().reached() {
            Some(reached) => self.sql.run(
                "INSERT INTO reach (one, reached) VALUES (1, CAST(? AS INTEGER)) \
                 ON CONFLICT (one) DO UPDATE SET reached = excluded.reached",
                &[reached.into()],
            ),
            None => self.sql.run("DELETE FROM reach", &[]),
        }
    }

    async fn open(self: Rc<Self>, open: Open) -> Result<JsValue, Failure> {
        if self.reach.borrow().reached().is_none() {
            self.reach.borrow_mut().begin_joining();
            let ask = Ask::Join { shard: open.shard, tenant: open.viewer.tenant.clone() };
            let joined = objects::send(Kind::Events, &open.viewer.tenant.object(), "", &ask, CALL_TIMEOUT_MS).await;
            let last = match joined {
                Ok(Reply::Joined { last }) => Some(last),
                _ => None,
            };
            self.reach.borrow_mut().end_joining(last);
            self.store_position()?;
        }
        let Some(reached) = self.reach.borrow().reached() else {
            return Err(Failure("the shard could not join the hub".into()));
        };
        let after = open.after.unwrap_or(reached);
        let response =
            self.subscribers.accept(open, (after != reached).then_some(after), self.subscribers.len() < MAX_SOCKETS);
        self.feed_all();
        self.arm();
        Ok(response)
    }

    fn feed_all(self: &Rc<Self>) {
        for slot in self.subscribers.start_feeding() {
            let shard = self.clone();
            tasks::spawn(async move {
                shard.catch_up(slot).await;
                shard.subscribers.finish_feeding(slot);
            });
        }
    }

    async fn catch_up(&self, slot: u32) {
        while let Some(sent) = self.subscribers.sent(slot) {
            // A socket that was ahead of this shard is fed when a push has brought the shard to its position.
            if self.reach.borrow().reached().is_none_or(|reached| reached < sent) {
                return;
            }
            let Ok(span) = self.read(sent).await else {
                self.subscribers.fail(slot);
                return;
            };
            // The present position of live sockets, which may have advanced during the read.
            let Some(end) = self.reach.borrow().reached() else { return };
            match self.subscribers.feed(slot, &span, end) {
                FeedResult::More => {}
                FeedResult::Wait => clock::pause(SLOW_READER_PAUSE_MS).await,
                FeedResult::Done => return,
            }
        }
    }

    async fn read(&self, after: Sequence) -> Result<LogSpan, Failure> {
        if self.reach.borrow().reached() == Some(after) {
            return Ok(LogSpan { batches: Vec::new(), first_kept: Sequence::FIRST });
        }
        let tenant = self.subscribers.tenant().ok_or_else(|| Failure("the shard has no sockets".into()))?;
        match objects::send(Kind::Events, &tenant.object(), "", &Ask::Read { after }, CALL_TIMEOUT_MS).await? {
            Reply::Page(page) => page.span(),
            _ => Err(Failure("unexpected reply from the hub".into())),
        }
    }

    /// Checks from time to time whether all viewers still have their permissions.
    fn check_again(self: &Rc<Self>) {
        let now = clock::now();
        if now.since(self.checked_at.get()) < self.check_ms {
            return;
        }
        self.checked_at.set(now);
        let shard = self.clone();
        tasks::spawn(async move {
            let Some(tenant) = shard.subscribers.tenant() else { return };
            if let Ok(snapshot) = snapshot::refreshed(&tenant).await {
                shard.subscribers.check(&snapshot);
            }
        });
    }

    /// Sets the alarm for the next expiring credentials.
    fn arm(&self) {
        let due = self.subscribers.next_expiry();
        if let Some(due) = due.filter(|due| self.alarm_at.get().is_none_or(|set| *due < set)) {
            self.sql.set_alarm(due);
            self.alarm_at.set(Some(due));
        }
    }
}
