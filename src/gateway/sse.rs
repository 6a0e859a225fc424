//! Server-Sent Events (WHATWG HTML §9.2): forwards the messages of an object's socket.
//!
//! A response that stays open cannot hibernate, so it lives in the Worker, where waiting costs nothing; for the object
//! it is a socket like any other. The Worker pings as its client reads, so that the hub's rule for slow readers
//! applies.

use std::pin::pin;

use futures_util::future::{Either, select};
use wasm_bindgen::JsValue;

use crate::auth::credential_watch::CredentialWatch;
use crate::platform::http::Headers;
use crate::platform::sockets::ClientSocket;
use crate::platform::streams::Stream;
use crate::platform::{clock, settings, tasks};
use narthex_core::http::media_type::EVENT_STREAM;

use super::answer::Answer;

/// A client that reads nothing for this long is disconnected, in milliseconds.
const STUCK_MS: u64 = 60_000;
/// The object is pinged each time the client has read this many bytes.
const PING_BYTES: usize = 64 * 1024;
/// Many clients share the Worker's memory: one that leaves more than this unread is disconnected, and can resume.
const MAX_UNREAD: usize = 4 * 1024 * 1024;
const COMMENT: &str = ":\n\n";

/// The response that streams the messages of a socket which an object has opened with `response`, for as long as the
/// credentials of the request are valid. Those of a ticket are known to the object alone.
pub fn answer(response: &JsValue, watched: Option<CredentialWatch>) -> Answer {
    let socket = ClientSocket::take(response);
    let mut headers = Headers::default();
    headers.set("content-type", EVENT_STREAM);
    let (response, stream) = Stream::open(200, &headers);
    // A first comment: the client's end sees an open stream before there is any event.
    stream.write(COMMENT);
    tasks::spawn(pass_on(socket, stream, watched));
    Answer::stream(response)
}

async fn pass_on(socket: ClientSocket, mut stream: Stream, watched: Option<CredentialWatch>) {
    let timing = settings::timing();
    let mut ended = pin!(async {
        match &watched {
            Some(watched) => watched.ended().await,
            None => std::future::pending().await,
        }
    });
    let (mut written, mut taken, mut pinged) = (COMMENT.len(), 0, 0);
    let (mut moved_at, mut said_at) = (clock::now(), clock::now());
    loop {
        let (now, unread) = (clock::now(), stream.unread());
        if written - unread > taken || unread == 0 {
            taken = written - unread;
            moved_at = now;
        }
        if now.since(moved_at) >= STUCK_MS || unread > MAX_UNREAD {
            return;
        }
        if taken >= pinged + PING_BYTES {
            pinged = taken;
            socket.ping();
        }
        let next = pin!(socket.next(if unread > 0 { timing.backlog_check_ms } else { timing.keep_alive_ms }));
        let heard = match select(select(next, &mut stream), ended.as_mut()).await {
            Either::Left((Either::Left((heard, _)), _)) => heard,
            Either::Left((Either::Right(_), _)) => return,
            Either::Right(_) => break,
        };
        let text = match heard {
            Ok(None) => break,
            Ok(Some(text)) => text,
            Err(_) if clock::now().since(said_at) >= timing.keep_alive_ms => COMMENT.to_string(),
            Err(_) => continue,
        };
        said_at = clock::now();
        written += text.len();
        stream.write(&text);
    }
    stream.close();
}
