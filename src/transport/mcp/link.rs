//! A link to an upstream: the era it is spoken to in, and in the legacy era its session, which ends with it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::platform::tasks;
use narthex_core::mcp::client::UpstreamRevision;
use narthex_core::services::tool_catalogue::ServerDescription;

use super::Peer;
use super::exchange::end_session;

/// How an upstream is spoken to.
pub struct Link {
    pub spoken: UpstreamRevision,
    pub session: Option<String>,
    /// What it said of itself; nothing where it did not have to be asked.
    pub server: Option<ServerDescription>,
    /// The level its session's messages have.
    pub level: RefCell<Option<String>>,
    /// Who ends its session once the last of its requests is over, where it is not to be used any more.
    ends: RefCell<Option<Peer>>,
}

thread_local! {
    static LAST_ID: Cell<u64> = const { Cell::new(0) };
}

impl Link {
    pub fn new(spoken: UpstreamRevision, session: Option<String>, server: Option<ServerDescription>) -> Rc<Self> {
        Rc::new(Self { spoken, session, server, level: RefCell::default(), ends: RefCell::default() })
    }

    /// The era and the session of its requests.
    pub fn seat(&self) -> (&UpstreamRevision, Option<&str>) {
        (&self.spoken, self.session.as_deref())
    }

    /// Its session ends when nobody holds this any more.
    pub fn end_when_unused(self: Rc<Self>, peer: Peer) {
        self.ends.replace(Some(peer));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let Some(peer) = self.ends.take() else { return };
        let (spoken, session) = (self.spoken.clone(), self.session.take());
        tasks::spawn(async move { end_session(&peer, &spoken, session.as_deref()).await });
    }
}

/// An id no other request of this isolate has.
pub fn next_id() -> u64 {
    LAST_ID.with(|last| {
        last.set(last.get() + 1);
        last.get()
    })
}
