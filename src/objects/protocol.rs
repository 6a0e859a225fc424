//! The typed protocol of objects: what may be asked of an object, and what it replies.
//!
//! A request is a type. It knows the class of objects that answer it, its reply, its name in messages, and how long the
//! reply may take. Each class lists its requests once, with `requests!`. The list makes the enum that an object reads,
//! and a dispatch that compiles only if the object has a handler for each request that returns the reply of that
//! request.
//!
//! Messages are JSON. A request is sent as `{"name": {members}}`, or as `"name"` if it has no members, and a reply is
//! an enum in the same form. Some classes send more with a request or a reply; their `messages.rs` says so.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use serde::Serialize;
use serde::ser::Error;

use crate::platform::Failure;
use crate::platform::objects::{self, CallError, Kind, SocketResponse};
use narthex_core::base::json_writer::JsonText;
use narthex_core::base::object_name::ObjectName;

use super::reply::ReadReply;

pub use narthex_core::base::done::Done;

/// A class of objects.
pub trait Object {
    const KIND: Kind;
}

/// A class of objects whose messages consist of a request.
pub trait BareObject: Object {}

/// An object of a class: its name, and the region in which its first call creates it.
pub struct Address<O> {
    name: ObjectName,
    location_hint: &'static str,
    class: PhantomData<O>,
}

impl<O: Object> Address<O> {
    /// An object created near its first caller.
    pub(super) fn new(name: ObjectName) -> Self {
        Self::near(name, "")
    }

    pub(super) fn near(name: ObjectName, location_hint: &'static str) -> Self {
        Self { name, location_hint, class: PhantomData }
    }
}

/// A request to objects of one class.
pub trait Request: WriteRequest {
    type Object: Object;
    type Reply: Serialize + ReadReply;
    /// Its name in messages.
    const NAME: &'static str;

    /// How long the reply may take, in milliseconds.
    fn timeout_ms(&self) -> u64;
}

/// The form in which a request is sent.
pub trait WriteRequest {
    fn write(&self, text: &mut JsonText) -> Result<(), serde_json::Error>;
}

/// A message that consists of a request.
pub fn bare(request: &dyn WriteRequest) -> Result<String, serde_json::Error> {
    let mut text = JsonText::default();
    request.write(&mut text)?;
    text.finish()
}

/// A message that carries more than a request. The last member of `envelope` is the place of the request:
/// `ask`, which is null.
pub(super) fn enclosed(envelope: &impl Serialize, request: &dyn WriteRequest) -> Result<String, serde_json::Error> {
    let mut text = JsonText::default();
    text.push_value(envelope)?;
    if !text.strip_suffix("\"ask\":null}") {
        return Err(Error::custom("the envelope has no place for a request"));
    }
    text.push("\"ask\":");
    request.write(&mut text)?;
    text.push("}");
    text.finish()
}

/// Calls an object whose messages consist of a request.
pub fn call<R: Request<Object: BareObject>>(address: &Address<R::Object>, request: &R) -> Pending<R::Reply> {
    Pending::new(R::NAME, send(address, bare(request), request.timeout_ms()))
}

/// Calls an object whose messages carry more than a request, see [`enclosed`]. `T` is the reply, with what comes with
/// it.
pub(super) fn call_enclosed<R: Request, T>(
    address: &Address<R::Object>,
    envelope: &impl Serialize,
    request: &R,
) -> Pending<T> {
    Pending::new(R::NAME, send(address, enclosed(envelope, request), request.timeout_ms()))
}

/// Sends a message to an object.
pub(super) fn send<O: Object>(
    address: &Address<O>,
    message: Result<String, serde_json::Error>,
    timeout_ms: u64,
) -> PendingText {
    let (name, location_hint) = (address.name.clone(), address.location_hint);
    exchange(O::KIND, name, location_hint, message, timeout_ms).boxed_local()
}

async fn exchange(
    kind: Kind,
    name: ObjectName,
    location_hint: &'static str,
    message: Result<String, serde_json::Error>,
    timeout_ms: u64,
) -> Result<String, CallError> {
    let message = message.map_err(|error| CallError::Failed(error.to_string()))?;
    objects::exchange(kind, &name, location_hint, message, timeout_ms).await
}

/// A reply as text, to be awaited.
pub(super) type PendingText = LocalBoxFuture<'static, Result<String, CallError>>;

/// The reply to a call, to be awaited. Only reading it depends on its type, which keeps the program small.
#[must_use]
pub struct Pending<T> {
    /// The name of the request.
    request: &'static str,
    text: PendingText,
    reply: PhantomData<fn() -> T>,
}

impl<T> Pending<T> {
    fn new(request: &'static str, text: PendingText) -> Self {
        Self { request, text, reply: PhantomData }
    }
}

impl<T: ReadReply> Future for Pending<T> {
    type Output = Result<T, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let request = self.request;
        self.text.as_mut().poll(context).map(|text| read_reply(request, &text?))
    }
}

/// Reads the reply to a request.
pub(super) fn read_reply<T: ReadReply>(request: &'static str, text: &str) -> Result<T, CallError> {
    T::read(text).map_err(|error| CallError::Malformed { request, detail: error.to_string() })
}

/// Opens a WebSocket at an object.
pub(super) async fn open_socket<O: Object>(
    address: &Address<O>,
    message: &impl Serialize,
) -> Result<SocketResponse, Failure> {
    objects::open_socket(O::KIND, &address.name, message).await
}

/// Lists the requests of a class of objects: for each its name in messages, its reply, whether it is handled at once
/// (`Handle`) or may have to wait (`HandleLater`), and how long that may take. Requests without members stand under
/// `units`.
macro_rules! requests {
    (
        $(#[$attribute:meta])*
        $vis:vis enum $Ask:ident of $Object:ident {
            $($name:literal: $Request:ident => $Reply:ty, $Handler:ident, $timeout:expr;)*
        }
        units {
            $($unit_name:literal: $Unit:ident => $UnitReply:ty, $UnitHandler:ident, $unit_timeout:expr;)*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, serde::Deserialize)]
        $vis enum $Ask {
            $(#[serde(rename = $name)] $Request($Request),)*
            $(#[serde(rename = $unit_name)] $Unit,)*
        }

        $($crate::objects::protocol::request!($name: $Request of $Object => $Reply, members, $timeout);)*
        $($crate::objects::protocol::request!($unit_name: $Unit of $Object => $UnitReply, unit, $unit_timeout);)*

        impl $Ask {
            /// Passes the request to its handler.
            $vis fn dispatch<H>(self, handler: H) -> $crate::objects::shell::WrittenAnswer
            where
                $(H: $crate::objects::shell::$Handler<$Request>,)*
                $(H: $crate::objects::shell::$UnitHandler<$Unit>,)*
            {
                match self {
                    $(Self::$Request(request) => {
                        $crate::objects::shell::$Handler::handle(handler, request).into()
                    })*
                    $(Self::$Unit => $crate::objects::shell::$UnitHandler::handle(handler, $Unit).into(),)*
                }
            }
        }

        #[cfg(test)]
        impl $crate::objects::wire_tests::Pinned for $Ask {
            const NAMES: &'static [&'static str] = &[$($name,)* $($unit_name,)*];

            fn rewrite_request(&self) -> String {
                match self {
                    $(Self::$Request(request) => $crate::objects::wire_tests::request(request),)*
                    $(Self::$Unit => $crate::objects::wire_tests::request(&$Unit),)*
                }
            }

            fn rewrite_reply(name: &str, reply: &str) -> Result<String, serde_json::Error> {
                match name {
                    $($name => $crate::objects::wire_tests::reply::<$Reply>(reply),)*
                    $($unit_name => $crate::objects::wire_tests::reply::<$UnitReply>(reply),)*
                    _ => panic!("there is no request {name}"),
                }
            }
        }
    };
}

/// Implements [`Request`] for a type.
macro_rules! request {
    ($name:literal: $Request:ident of $Object:ident => $Reply:ty, $form:ident, $timeout:expr) => {
        impl $crate::objects::protocol::WriteRequest for $Request {
            fn write(&self, text: &mut narthex_core::base::json_writer::JsonText) -> Result<(), serde_json::Error> {
                $crate::objects::protocol::write_request!(self, text, $name, $form)
            }
        }

        impl $crate::objects::protocol::Request for $Request {
            type Object = $Object;
            type Reply = $Reply;
            const NAME: &'static str = $name;

            fn timeout_ms(&self) -> u64 {
                let timeout: fn(&Self) -> u64 = $timeout;
                timeout(self)
            }
        }
    };
}

/// Writes a request under its name.
macro_rules! write_request {
    ($request:ident, $text:ident, $name:literal, members) => {{
        $text.push(concat!("{\"", $name, "\":"));
        $text.push_value($request)?;
        $text.push("}");
        Ok(())
    }};
    ($request:ident, $text:ident, $name:literal, unit) => {{
        $text.push(concat!("\"", $name, "\""));
        Ok(())
    }};
}

pub(crate) use {request, requests, write_request};
