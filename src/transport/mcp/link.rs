//! A link to an upstream: the revision of the protocol, and for legacy revisions the session, which ends with the link.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::platform::tasks;
use narthex_core::mcp::client::UpstreamRevision;
use narthex_core::services::tool_catalogue::ServerDescription;

use super::Peer;
use super::exchange::end_session;

/// The revision and session for the requests to an upstream.
pub struct Link {
    pub revision: UpstreamRevision,
    pub session: Option<String>,
    /// The description of the server. `None` if no request for it was necessary.
    pub server: Option<ServerDescription>,
    /// The log level of the session.
    pub level: RefCell<Option<String>>,
    /// The peer that ends the session after its last request, if it is not to be used again.
    ends: RefCell<Option<Peer>>,
}

thread_local! {
    static LAST_ID: Cell<u64> = const { Cell::new(0) };
}

impl Link {
    pub fn new(revision: UpstreamRevision, session: Option<String>, server: Option<ServerDescription>) -> Rc<Self> {
        Rc::new(Self { revision, session, server, level: RefCell::default(), ends: RefCell::default() })
    }

    /// The revision and the session for requests.
    pub fn revision_and_session(&self) -> (&UpstreamRevision, Option<&str>) {
        (&self.revision, self.session.as_deref())
    }

    /// Ends the session when the last reference is dropped.
    pub fn end_when_unused(self: Rc<Self>, peer: Peer) {
        self.ends.replace(Some(peer));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let Some(peer) = self.ends.take() else { return };
        let (revision, session) = (self.revision.clone(), self.session.take());
        tasks::keep_running(async move { end_session(&peer, &revision, session.as_deref()).await });
    }
}

/// An id that is unique among the requests of this isolate.
pub fn next_id() -> u64 {
    LAST_ID.with(|last| {
        last.set(last.get() + 1);
        last.get()
    })
}
