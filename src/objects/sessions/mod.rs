//! `McpSession`: the state of a legacy MCP client between two of its requests.
//!
//! A shell around `narthex_core::mcp::session`: one row is the session, the others are messages sent on the streams of
//! its calls. The streams themselves are in Workers, which ask here. An alarm ends an unused session.

mod handlers;
pub mod messages;

use std::cell::RefCell;
use std::rc::Rc;

use wasm_bindgen::JsValue;

use crate::objects::reply::Reply;
use crate::objects::shell::{Outcome, Shell, WrittenAnswer, durable_object};
use crate::platform::objects::Kind;
use crate::platform::sql::Sql;
use crate::platform::{Failure, clock};
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::mcp::session::Session;

use messages::{Ask, Gone, Message};

const CREATE_SESSION: &str =
    "CREATE TABLE IF NOT EXISTS session (name TEXT PRIMARY KEY, document TEXT NOT NULL) STRICT, WITHOUT ROWID";
const CREATE_SENT: &str = "CREATE TABLE IF NOT EXISTS sent (call INTEGER, number INTEGER, text TEXT NOT NULL, \
    PRIMARY KEY (call, number)) STRICT, WITHOUT ROWID";

struct Inner {
    sql: Sql,
    session: RefCell<Option<Session>>,
}

durable_object!(McpSession: Inner);

impl Shell for Inner {
    type Message = Message<Ask>;

    fn open(state: &JsValue, _env: &JsValue) -> Result<Rc<Self>, Failure> {
        let sql = Sql::of(state, Kind::Sessions);
        sql.run(CREATE_SESSION, &[])?;
        sql.run(CREATE_SENT, &[])?;
        let session = RefCell::new(stored(&sql)?);
        Ok(Rc::new(Self { sql, session }))
    }

    fn answer(self: &Rc<Self>, Message { principal, ask }: Message<Ask>) -> WrittenAnswer {
        ask.dispatch(Caller { inner: self, principal: &principal })
    }

    fn alarm(self: &Rc<Self>) -> Outcome<()> {
        Outcome::Now(self.wake())
    }
}

/// The caller of a request.
struct Caller<'a> {
    inner: &'a Inner,
    principal: &'a PrincipalId,
}

/// The session while a request is handled.
struct SessionTurn<'a> {
    inner: &'a Inner,
    session: &'a mut Session,
    /// Whether it must be stored.
    changed: bool,
}

impl Caller<'_> {
    /// The session, if it is the caller's.
    fn own<'s>(&self, known: &'s mut Option<Session>) -> Option<&'s mut Session> {
        known.as_mut().filter(|session| session.opener.principal == *self.principal)
    }

    /// Handles a request in one transaction, and stores the session if it has changed.
    fn in_session<T>(
        &self,
        handle: impl FnOnce(&mut SessionTurn<'_>) -> Result<T, Failure>,
    ) -> Result<Reply<T, Gone>, Failure> {
        let inner = self.inner;
        inner.transaction(|| {
            let mut known = inner.session.borrow_mut();
            let Some(session) = self.own(&mut known) else { return Ok(Gone::Gone.into()) };
            let changed = session.touch(clock::now());
            let mut turn = SessionTurn { inner, session, changed };
            let reply = handle(&mut turn)?;
            if turn.changed {
                inner.store(turn.session)?;
            }
            Ok(Reply::ok(reply))
        })
    }
}

/// The session as it is stored.
fn stored(sql: &Sql) -> Result<Option<Session>, Failure> {
    let row = sql.first("SELECT document FROM session WHERE name = 'session'", &[])?;
    let text = row.and_then(|row| row.text(0));
    Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
}

impl Inner {
    /// Commits everything that `work` writes. If it fails, the session is again as it is stored.
    fn transaction<T>(&self, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        self.sql.transaction(work).inspect_err(|_| {
            if let Ok(session) = stored(&self.sql) {
                *self.session.borrow_mut() = session;
            }
        })
    }

    fn store(&self, session: &Session) -> Result<(), Failure> {
        let text = serde_json::to_string(session)?;
        self.sql.run(
            "INSERT INTO session (name, document) VALUES ('session', ?) \
             ON CONFLICT (name) DO UPDATE SET document = excluded.document",
            &[(&text).into()],
        )
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
                // First, because the platform repeats the alarm if this fails.
                self.delete()?;
                *self.session.borrow_mut() = None;
                Ok(())
            }
            None => Ok(()),
        }
    }
}
