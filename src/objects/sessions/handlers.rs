//! The handlers of a session's requests.

use crate::objects::protocol::Done;
use crate::objects::reply::Reply;
use crate::objects::shell::Handle;
use crate::platform::{Failure, clock};
use narthex_core::mcp::session::{ResponseEffect as Effect, Session};

use super::messages::{
    AddUpstream, BeginCall, Begun, CheckStream, End, Ended, FindContext, FindUpstream, Found, Gone, Listen, Listening,
    NoteChange, Open, Respond, ResponseEffect, Resume, Resumed, SendMessages, Sent, SetLevel, SetWatched, StreamState,
    Upstream, Use, Used, Watching,
};
use super::{Caller, SessionTurn};

impl Handle<Open> for Caller<'_> {
    fn handle(self, Open(opener): Open) -> Result<Done, Failure> {
        let inner = self.inner;
        inner.transaction(|| {
            let session = Session::open(opener, clock::now());
            inner.sql.set_alarm(session.ends_at());
            inner.store(&session)?;
            *inner.session.borrow_mut() = Some(session);
            Ok(Done::Done)
        })
    }
}

impl Handle<Use> for Caller<'_> {
    fn handle(self, Use: Use) -> Result<Reply<Used, Gone>, Failure> {
        self.in_session(|SessionTurn { session, .. }| {
            Ok(Used::Used { opener: session.opener.clone(), level: session.level.clone() })
        })
    }
}

impl Handle<SetLevel> for Caller<'_> {
    fn handle(self, SetLevel { level }: SetLevel) -> Result<Reply<Done, Gone>, Failure> {
        self.in_session(|turn| {
            turn.session.level = Some(level);
            turn.changed = true;
            Ok(Done::Done)
        })
    }
}

impl Handle<BeginCall> for Caller<'_> {
    fn handle(self, BeginCall(begun): BeginCall) -> Result<Reply<Begun, Gone>, Failure> {
        self.in_session(|turn| {
            let (call, forgotten) = turn.session.begin(begun);
            if let Some(forgotten) = forgotten {
                turn.inner.sql.run("DELETE FROM sent WHERE call = ?", &[forgotten.into()])?;
            }
            turn.changed = true;
            Ok(Begun::Begun { call })
        })
    }
}

impl Handle<SendMessages> for Caller<'_> {
    fn handle(self, message: SendMessages) -> Result<Reply<Sent, Gone>, Failure> {
        self.in_session(|turn| turn.send(message))
    }
}

impl Handle<Resume> for Caller<'_> {
    fn handle(self, Resume { call, after }: Resume) -> Result<Reply<Resumed, Gone>, Failure> {
        self.in_session(|turn| {
            let Some((begun, number, reached)) = turn.session.resume(call) else { return Ok(Resumed::Replaced) };
            turn.changed = true;
            Ok(Resumed::Resumed { begun, turn: number, reached, events: turn.sent(call, after)? })
        })
    }
}

impl Handle<Respond> for Caller<'_> {
    fn handle(self, Respond { id, response }: Respond) -> Result<Reply<ResponseEffect, Gone>, Failure> {
        self.in_session(|turn| {
            let effect = turn.session.respond(&id, response.as_deref());
            turn.changed |= effect != Effect::Nothing;
            Ok(match effect {
                Effect::Nothing | Effect::Waits => ResponseEffect::Done,
                Effect::Answered { context, question, responses } => {
                    ResponseEffect::Answered { context, question, responses }
                }
                Effect::Refused { context } => ResponseEffect::Refused { context },
            })
        })
    }
}

impl Handle<FindContext> for Caller<'_> {
    fn handle(self, FindContext { request }: FindContext) -> Result<Reply<Found, Gone>, Failure> {
        self.in_session(|turn| Ok(Found::Found { context: turn.session.context_of(&request).map(Into::into) }))
    }
}

impl Handle<Listen> for Caller<'_> {
    fn handle(self, Listen: Listen) -> Result<Reply<Listening, Gone>, Failure> {
        self.in_session(|turn| {
            turn.changed = true;
            Ok(Listening::Listening { number: turn.session.listen() })
        })
    }
}

impl Handle<CheckStream> for Caller<'_> {
    fn handle(self, CheckStream { number, takes }: CheckStream) -> Result<Reply<StreamState, Gone>, Failure> {
        self.in_session(|SessionTurn { session, changed, .. }| {
            if !session.listens(number) {
                return Ok(StreamState::Replaced);
            }
            let noted = if takes { session.take_changes() } else { Vec::new() };
            *changed |= !noted.is_empty();
            let services = session.upstream_services();
            Ok(StreamState::Current { watched: session.watched(), noted, services })
        })
    }
}

impl Handle<NoteChange> for Caller<'_> {
    fn handle(self, NoteChange { service, method }: NoteChange) -> Result<Reply<Done, Gone>, Failure> {
        self.in_session(|turn| {
            turn.changed |= turn.session.note_change(service, method);
            Ok(Done::Done)
        })
    }
}

impl Handle<FindUpstream> for Caller<'_> {
    fn handle(self, FindUpstream { service, place, gone }: FindUpstream) -> Result<Reply<Upstream, Gone>, Failure> {
        self.in_session(|SessionTurn { session, changed, .. }| {
            *changed |= gone.is_some_and(|gone| session.forget_upstream(&service, &gone));
            Ok(Upstream::Upstream { known: session.upstream(&service, &place) })
        })
    }
}

impl Handle<AddUpstream> for Caller<'_> {
    fn handle(self, AddUpstream { service, upstream }: AddUpstream) -> Result<Reply<Upstream, Gone>, Failure> {
        self.in_session(|turn| {
            turn.changed = true;
            Ok(Upstream::Upstream { known: Some(turn.session.keep_upstream(service, upstream)) })
        })
    }
}

impl Handle<SetWatched> for Caller<'_> {
    fn handle(self, SetWatched { uri, on }: SetWatched) -> Result<Reply<Watching, Gone>, Failure> {
        self.in_session(|turn| {
            if !on {
                turn.session.unwatch(&uri);
            } else if !turn.session.watch(uri) {
                return Ok(Watching::Full);
            }
            turn.changed = true;
            Ok(Watching::Done)
        })
    }
}

impl Handle<End> for Caller<'_> {
    fn handle(self, End: End) -> Result<Reply<Ended, Gone>, Failure> {
        let inner = self.inner;
        inner.transaction(|| {
            let mut known = inner.session.borrow_mut();
            let Some(session) = self.own(&mut known) else { return Ok(Gone::Gone.into()) };
            let upstreams = session.take_upstreams();
            *known = None;
            inner.delete()?;
            Ok(Reply::ok(if upstreams.is_empty() { Ended::Done } else { Ended::Ended { upstreams } }))
        })
    }
}

impl SessionTurn<'_> {
    /// Stores messages of a call, if the sender's stream is the current one.
    fn send(&mut self, message: SendMessages) -> Result<Sent, Failure> {
        let SendMessages { call, turn, texts, reached, requests } = message;
        let sizes: Vec<usize> = texts.iter().map(String::len).collect();
        let Some((first, kept)) = self.session.publish(call, turn, &sizes, reached) else {
            return Ok(Sent::Replaced);
        };
        if !requests.is_empty() {
            self.session.ask(call, turn, requests);
        }
        self.store_sent(call, first, kept, &texts)?;
        self.changed = true;
        Ok(Sent::Sent { first })
    }

    fn store_sent(&self, call: u64, first: u64, kept: u64, texts: &[String]) -> Result<(), Failure> {
        for (number, text) in (first..).zip(texts) {
            self.inner.sql.run(
                "INSERT INTO sent (call, number, text) VALUES (?, ?, ?)",
                &[call.into(), number.into(), text.into()],
            )?;
        }
        self.inner.sql.run("DELETE FROM sent WHERE call = ? AND number < ?", &[call.into(), kept.into()])
    }

    fn sent(&self, call: u64, after: u64) -> Result<Vec<(u64, String)>, Failure> {
        let rows = self.inner.sql.rows(
            "SELECT number, text FROM sent WHERE call = ? AND number > ? ORDER BY number",
            &[call.into(), after.into()],
        )?;
        Ok(rows.iter().filter_map(|row| Some((row.integer(0)?, row.text(1)?))).collect())
    }
}
