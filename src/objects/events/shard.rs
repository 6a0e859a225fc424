//! `EventShard`: the sockets of a tenant beyond its hub's capacity.
//!
//! A shard has no log: the hub pushes new events, and the shard reads past events from the hub for its sockets. It
//! stores a single number, the position of its live sockets. See `narthex_core::events::fanout`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use wasm_bindgen::JsValue;

use crate::objects::alarm::ObjectAlarm;
use crate::objects::protocol::{Done, call};
use crate::objects::registry::snapshot;
use crate::objects::shell::{Handle, Outcome, Shell, SocketShell, WrittenAnswer, socket_object};
use crate::platform::objects::Kind;
use crate::platform::sql::Sql;
use crate::platform::{Failure, clock, settings, tasks};
use narthex_core::base::time::Timestamp;
use narthex_core::events::fanout::{PushDecision, ShardPosition};
use narthex_core::events::sequence::Sequence;
use narthex_core::events::subscribers::FeedResult;

use super::messages::Events;
use super::messages::shards::{
    CloseDependents, CloseSockets, JoinShard, Joined, LogPage, Page, PushPage, Pushed, ReadLog, ShardAsk,
};
use super::messages::sockets::Open;
use super::subscribers::{LogSpan, MAX_SOCKETS, SLOW_READER_PAUSE_MS, Subscribers};

const CREATE: &str = "CREATE TABLE IF NOT EXISTS reach (one INTEGER PRIMARY KEY, reached INTEGER NOT NULL) STRICT";

struct Shard {
    sql: Sql,
    subscribers: Subscribers,
    reach: RefCell<ShardPosition>,
    alarm: ObjectAlarm,
    checked_at: Cell<Timestamp>,
    check_ms: u64,
}

socket_object!(EventShard: Shard);

impl Shell for Shard {
    type Message = ShardAsk;

    fn open(state: &JsValue, env: &JsValue) -> Result<Rc<Self>, Failure> {
        let sql = Sql::of(state, Kind::Shards);
        sql.run(CREATE, &[])?;
        let reached = sql.first("SELECT reached FROM reach", &[])?.and_then(|row| row.sequence(0));
        let shard = Rc::new(Self {
            sql,
            subscribers: Subscribers::restore(state),
            reach: RefCell::new(ShardPosition::restore(reached)),
            alarm: ObjectAlarm::default(),
            checked_at: Cell::new(clock::now()),
            check_ms: settings::of(env).socket_check_ms,
        });
        shard.feed_all();
        Ok(shard)
    }

    fn answer(self: &Rc<Self>, ask: ShardAsk) -> WrittenAnswer {
        ask.dispatch(self)
    }

    fn alarm(self: &Rc<Self>) -> Outcome<()> {
        self.alarm.fired();
        self.subscribers.close_expired(clock::now());
        self.arm();
        Outcome::Now(Ok(()))
    }
}

impl SocketShell for Shard {
    type Open = Open;

    fn open_socket(self: &Rc<Self>, open: Open) -> Outcome<JsValue> {
        Outcome::later(self.clone().accept(open))
    }

    fn slot(&self, socket: &JsValue) -> Option<u32> {
        self.subscribers.slot(socket)
    }

    fn handle_message(self: &Rc<Self>, slot: u32, text: Option<&str>) {
        self.subscribers.message(slot, text);
    }

    fn handle_close(self: &Rc<Self>, slot: u32) {
        self.subscribers.closed(slot);
    }
}

impl Handle<PushPage> for &Rc<Shard> {
    fn handle(self, PushPage { after, page }: PushPage) -> Result<Pushed, Failure> {
        self.handle_push(after, &page)
    }
}

impl Handle<CloseSockets> for &Rc<Shard> {
    fn handle(self, CloseSockets { principal }: CloseSockets) -> Result<Done, Failure> {
        self.subscribers.revoke(&principal);
        Ok(Done::Done)
    }
}

impl Handle<CloseDependents> for &Rc<Shard> {
    fn handle(self, CloseDependents(revocation): CloseDependents) -> Result<Done, Failure> {
        self.subscribers.revoke_dependents(&revocation);
        Ok(Done::Done)
    }
}

impl Shard {
    fn handle_push(self: &Rc<Self>, after: Option<Sequence>, page: &Page) -> Result<Pushed, Failure> {
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
                Ok(Pushed::Reached { reached: from.max(page.last), sockets })
            }
            PushDecision::Missing(reached) => Ok(Pushed::Reached { reached, sockets }),
            PushDecision::Joining => Ok(Pushed::Joining),
            PushDecision::Gone => {
                self.store_position()?;
                Ok(Pushed::Gone)
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

    async fn accept(self: Rc<Self>, open: Open) -> Result<JsValue, Failure> {
        if self.reach.borrow().reached().is_none() {
            let shard = open.shard.ok_or_else(|| Failure("a socket was opened without the shard's number".into()))?;
            let tenant = open.viewer.tenant.clone();
            self.reach.borrow_mut().begin_joining();
            let joined = call(&Events::of(&tenant), &JoinShard { shard, tenant: tenant.clone() }).await;
            let last = joined.ok().map(|Joined::Joined { last }| last);
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
        let LogPage::Page(page) = call(&Events::of(&tenant), &ReadLog { after }).await?;
        page.span()
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
        self.alarm.arm(due, |at| self.sql.set_alarm(at));
    }
}
