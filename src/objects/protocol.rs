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

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};

use crate::platform::objects::{self, CallError, Kind, SocketResponse};
use crate::platform::{Failure, clock};
use narthex_core::base::json_writer::written;
use narthex_core::base::object_name::ObjectName;

/// A class of objects.
pub trait Object {
    const KIND: Kind;
}

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
pub trait Request: Serialize {
    type Object: Object;
    type Reply: Serialize + DeserializeOwned;
    /// Its name in messages.
    const NAME: &'static str;
    /// Whether it has no members.
    const IS_UNIT: bool;

    /// How long the reply may take, in milliseconds.
    fn timeout_ms(&self) -> u64;
}

/// A request as it is sent, under its name.
pub struct Named<'a, R>(pub &'a R);

impl<R: Request> Serialize for Named<'_, R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match R::IS_UNIT {
            true => serializer.serialize_unit_variant("Request", 0, R::NAME),
            false => serializer.serialize_newtype_variant("Request", 0, R::NAME, self.0),
        }
    }
}

/// Calls an object whose messages are bare requests.
pub async fn call<R: Request>(address: &Address<R::Object>, request: &R) -> Result<R::Reply, CallError> {
    exchange(address, &Named(request), request.timeout_ms()).await
}

/// Sends a message to an object, and reads its reply.
pub(super) async fn exchange<O: Object, T: DeserializeOwned>(
    address: &Address<O>,
    message: &impl Serialize,
    timeout_ms: u64,
) -> Result<T, CallError> {
    let Address { name, location_hint, .. } = address;
    let message = written(message).map_err(|error| CallError::Failed(error.to_string()))?;
    let reply = objects::exchange(O::KIND, name, location_hint, message, timeout_ms).await?;
    serde_json::from_str(&reply)
        .map_err(|error| CallError::Malformed { object: name.to_string(), detail: error.to_string() })
}

/// Opens a WebSocket at an object.
pub(super) async fn open_socket<O: Object>(
    address: &Address<O>,
    message: &impl Serialize,
) -> Result<SocketResponse, Failure> {
    objects::open_socket(O::KIND, &address.name, message).await
}

/// Repeats a call that has no effect when repeated, with increasing pauses.
pub async fn with_retries<T, F>(max: u32, mut call: impl FnMut() -> F) -> Result<T, CallError>
where
    F: Future<Output = Result<T, CallError>>,
{
    let mut done = 0;
    loop {
        match call().await {
            Err(error) if error.allows_retry(done, max) => {
                done += 1;
                clock::pause(100 << done).await;
            }
            outcome => return outcome,
        }
    }
}

/// The reply to a request that changes something and returns nothing.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    Done,
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

        $($crate::objects::protocol::request!($name: $Request of $Object => $Reply, false, $timeout);)*
        $($crate::objects::protocol::request!($unit_name: $Unit of $Object => $UnitReply, true, $unit_timeout);)*

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
    ($name:literal: $Request:ident of $Object:ident => $Reply:ty, $is_unit:literal, $timeout:expr) => {
        impl $crate::objects::protocol::Request for $Request {
            type Object = $Object;
            type Reply = $Reply;
            const NAME: &'static str = $name;
            const IS_UNIT: bool = $is_unit;

            fn timeout_ms(&self) -> u64 {
                let timeout: fn(&Self) -> u64 = $timeout;
                timeout(self)
            }
        }
    };
}

pub(crate) use {request, requests};
