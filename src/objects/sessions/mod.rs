//! `McpSession`: the state of a legacy MCP client between two of its requests.
//!
//! A shell around `narthex_core::mcp::session`: one row is the session, the others are messages sent on the streams of
//! its calls. The streams themselves are in Workers, which ask here. An alarm ends an unused session.

pub mod messages;

use std::cell::RefCell;
use std::rc::Rc;

use wasm_bindgen::prelude::*;

use crate::objects::reply;
use crate::platform::objects::Kind;
use crate::platform::sql::Sql;
use crate::platform::{Failure, clock, tasks};
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::mcp::session::{Request, ResponseEffect, Session, StreamPosition};

use messages::{Ask, Message, Reply};

const CREATE_SESSION: &str =
    "CREATE TABLE IF NOT EXISTS session (name TEXT PRIMARY KEY, document TEXT NOT NULL) STRICT, WITHOUT ROWID";
const CREATE_SENT: &str = "CREATE TABLE IF NOT EXISTS sent (call INTEGER, number INTEGER, text TEXT NOT NULL, \
    PRIMARY KEY (call, number)) STRICT, WITHOUT ROWID";

struct Inner {
    sql: Sql,
    session: RefCell<Option<Session>>,
}

#[wasm_bindgen]
pub struct McpSession(Rc<Inner>);

#[wasm_bindgen]
impl McpSession {
    #[wasm_bindgen(constructor)]
    pub fn new(state: &JsValue, _env: &JsValue) -> Result<McpSession, JsValue> {
        let inner = Inner::open(state).map_err(|failure| js_sys::Error::new(&failure.0))?;
        Ok(Self(Rc::new(inner)))
    }

    /// `message` is a [`messages::Message`]. Answered synchronously.
    pub fn call(&self, message: &str) -> Result<JsValue, JsValue> {
        let Message { principal, ask } =
            serde_json::from_str(message).map_err(|error| js_sys::Error::new(&error.to_string()))?;
        let inner = self.0.clone();
        reply(tasks::turn(|| inner.sql.transaction(|| inner.answer(&principal, ask))))
    }

    pub fn alarm(&self) -> JsValue {
        let woken = self.0.wake().map(|()| JsValue::UNDEFINED).map_err(|failure| JsValue::from_str(&failure.0));
        tasks::promise(async move { woken })
    }
}

impl Inner {
    fn open(state: &JsValue) -> Result<Self, Failure> {
        let sql = Sql::of(state, Kind::Sessions);
        sql.run(CREATE_SESSION, &[])?;
        sql.run(CREATE_SENT, &[])?;
        let row = sql.first("SELECT document FROM session WHERE name = 'session'", &[])?;
        let text = row.and_then(|row| row.text(0));
        let session = text.map(|text| serde_json::from_str(&text)).transpose()?;
        Ok(Self { sql, session: RefCell::new(session) })
    }

    fn answer(&self, principal: &PrincipalId, ask: Ask) -> Result<Reply, Failure> {
        if let Ask::Open(opener) = ask {
            let session = Session::open(opener, clock::now());
            self.sql.set_alarm(session.ends_at());
            self.store(&session)?;
            *self.session.borrow_mut() = Some(session);
            return Ok(Reply::Done);
        }
        let mut known = self.session.borrow_mut();
        let Some(session) = known.as_mut().filter(|session| session.opener.principal == *principal) else {
            return Ok(Reply::Gone);
        };
        let used = session.touch(clock::now());
        if matches!(ask, Ask::End) {
            let upstreams = session.take_upstreams();
            *known = None;
            drop(known);
            self.delete()?;
            return Ok(if upstreams.is_empty() { Reply::Done } else { Reply::Ended { upstreams } });
        }
        let (reply, changed) = self.apply(session, ask)?;
        if used || changed {
            self.store(session)?;
        }
        Ok(reply)
    }

    /// The reply, and whether the session has changed.
    fn apply(&self, session: &mut Session, ask: Ask) -> Result<(Reply, bool), Failure> {
        Ok(match ask {
            // Both were answered before.
            Ask::Open(_) | Ask::End => (Reply::Done, false),
            Ask::Use => (Reply::Used { opener: session.opener.clone(), level: session.level.clone() }, false),
            Ask::SetLevel { level } => {
                session.level = Some(level);
                (Reply::Done, true)
            }
            Ask::Begin(begun) => {
                let (call, forgotten) = session.begin(begun);
                if let Some(forgotten) = forgotten {
                    self.sql.run("DELETE FROM sent WHERE call = ?", &[forgotten.into()])?;
                }
                (Reply::Begun { call }, true)
            }
            Ask::Send { call, turn, texts, reached, requests } => {
                self.send_messages(session, (call, turn), &texts, reached, requests)?
            }
            Ask::Resume { call, after } => match session.resume(call) {
                Some((begun, turn, reached)) => {
                    let events = self.sent(call, after)?;
                    (Reply::Resumed { begun, turn, reached, events }, true)
                }
                None => (Reply::Replaced, false),
            },
            Ask::Respond { id, response } => response_reply(session.respond(&id, response.as_deref())),
            Ask::Find { request } => (Reply::Found { context: session.context_of(&request).map(Into::into) }, false),
            Ask::Listen => (Reply::Listening { number: session.listen() }, true),
            Ask::Listens { number, takes } => listening_reply(session, number, takes),
            Ask::Note { service, method } => (Reply::Done, session.note_change(service, method)),
            Ask::Upstream { service, place, gone } => {
                let changed = gone.is_some_and(|gone| session.forget_upstream(&service, &gone));
                (Reply::Upstream { known: session.upstream(&service, &place) }, changed)
            }
            Ask::Begun { service, upstream } => {
                (Reply::Upstream { known: Some(session.keep_upstream(service, upstream)) }, true)
            }
            Ask::Watch { uri, on: true } => match session.watch(uri) {
                true => (Reply::Done, true),
                false => (Reply::Full, false),
            },
            Ask::Watch { uri, on: false } => {
                session.unwatch(&uri);
                (Reply::Done, true)
            }
        })
    }

    /// Stores messages of a call, if the sender's stream is the current one.
    fn send_messages(
        &self,
        session: &mut Session,
        (call, turn): (u64, u64),
        texts: &[String],
        reached: StreamPosition,
        requests: Vec<Request>,
    ) -> Result<(Reply, bool), Failure> {
        let sizes: Vec<usize> = texts.iter().map(String::len).collect();
        let Some((first, kept)) = session.publish(call, turn, &sizes, reached) else {
            return Ok((Reply::Replaced, false));
        };
        if !requests.is_empty() {
            session.ask(call, turn, requests);
        }
        self.store_sent(call, first, kept, texts)?;
        Ok((Reply::Sent { first }, true))
    }

    fn store(&self, session: &Session) -> Result<(), Failure> {
        let text = serde_json::to_string(session)?;
        self.sql.run(
            "INSERT INTO session (name, document) VALUES ('session', ?) \
             ON CONFLICT (name) DO UPDATE SET document = excluded.document",
            &[(&text).into()],
        )
    }

    fn store_sent(&self, call: u64, first: u64, kept: u64, texts: &[String]) -> Result<(), Failure> {
        for (number, text) in (first..).zip(texts) {
            self.sql.run(
                "INSERT INTO sent (call, number, text) VALUES (?, ?, ?)",
                &[call.into(), number.into(), text.into()],
            )?;
        }
        self.sql.run("DELETE FROM sent WHERE call = ? AND number < ?", &[call.into(), kept.into()])
    }

    fn sent(&self, call: u64, after: u64) -> Result<Vec<(u64, String)>, Failure> {
        let rows = self.sql.rows(
            "SELECT number, text FROM sent WHERE call = ? AND number > ? ORDER BY number",
            &[call.into(), after.into()],
        )?;
        Ok(rows.iter().filter_map(|row| Some((row.integer(0)?, row.text(1)?))).collect())
    }

    fn delete(&self) -> Result<(), Failure> {
        self.sql.run("DELETE FROM session", &[])?;
        self.sql.run("DELETE FROM sent", &[])?;
        self.sql.delete_alarm();
        Ok(())
    }

    fn wake(&self) -> Result<(), Failure> {
        let ends_at = self.session.borrow().as_ref().map(Session::ends_at);
        match ends_at {
            Some(at) if at > clock::now() => {
                self.sql.set_alarm(at);
                Ok(())
            }
            Some(_) => {
                *self.session.borrow_mut() = None;
                self.delete()
            }
            None => Ok(()),
        }
    }
}

fn response_reply(effect: ResponseEffect) -> (Reply, bool) {
    match effect {
        ResponseEffect::Nothing => (Reply::Done, false),
        ResponseEffect::Waits => (Reply::Done, true),
        ResponseEffect::Answered { context, question, responses } => {
            (Reply::Answered { context, question, responses }, true)
        }
        ResponseEffect::Refused { context } => (Reply::Refused { context }, true),
    }
}

fn listening_reply(session: &mut Session, number: u64, takes: bool) -> (Reply, bool) {
    if !session.listens(number) {
        return (Reply::Replaced, false);
    }
    let noted = if takes { session.take_changes() } else { Vec::new() };
    let changed = !noted.is_empty();
    let services = session.upstream_services();
    (Reply::Listens { watched: session.watched(), noted, services }, changed)
}
