//! The shell of an object: it reads a message, passes the request to its handler, and writes the reply.

use std::future::Future;
use std::marker::PhantomData;
use std::rc::Rc;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::JsValue;

use crate::platform::{Failure, tasks};
use narthex_core::base::json_writer::written;
use narthex_core::registry::size::{SAFE_BYTES, sent};

use super::protocol::Request;

/// An object of the platform. [`durable_object!`] makes the class that the platform calls.
pub trait Shell: Sized + 'static {
    /// A request, and what this class sends with it.
    type Message: DeserializeOwned;

    fn open(state: &JsValue, env: &JsValue) -> Result<Rc<Self>, Failure>;

    fn answer(self: &Rc<Self>, message: Self::Message) -> WrittenAnswer;

    /// Does what is due. The platform repeats an alarm that fails.
    fn alarm(self: &Rc<Self>) -> WrittenAnswer;
}

/// An object that accepts WebSockets. [`socket_object!`] makes its class.
pub trait SocketShell: Shell {
    /// The message that opens a socket, sent with the upgrade.
    type Open: DeserializeOwned;

    fn open_socket(self: &Rc<Self>, open: Self::Open) -> SocketAnswer;

    /// The number of a socket; `None` if it was closed in the meantime.
    fn slot(&self, socket: &JsValue) -> Option<u32>;

    /// Handles a client's message; `None` if it is not text.
    fn handle_message(self: &Rc<Self>, slot: u32, text: Option<&str>);

    fn handle_close(self: &Rc<Self>, slot: u32);
}

/// The response to an upgrade, or the future of one.
pub enum SocketAnswer {
    Now(Result<JsValue, Failure>),
    Later(LocalBoxFuture<'static, Result<JsValue, Failure>>),
}

impl SocketAnswer {
    fn ininto_platform(self) -> Result<JsValue, JsValue> {
        match self {
            Self::Now(response) => response.map_err(|failure| to_error(&failure)),
            Self::Later(response) => {
                Ok(tasks::promise(async move { response.await.map_err(|failure| to_error(&failure)) }))
            }
        }
    }
}

/// A handler of a request that is answered at once.
pub trait Handle<R: Request> {
    fn handle(self, request: R) -> Result<R::Reply, Failure>;
}

/// A handler of a request whose reply may have to wait.
pub trait HandleLater<R: Request> {
    fn handle(self, request: R) -> Answer<R::Reply>;
}

/// A reply, or the future of one.
pub struct Answer<T>(WrittenAnswer, PhantomData<T>);

impl<T: Serialize> Answer<T> {
    pub fn now(reply: Result<T, Failure>) -> Self {
        Self(reply.into(), PhantomData)
    }

    pub fn later(reply: impl Future<Output = Result<T, Failure>> + 'static) -> Self {
        Self(WrittenAnswer::later(async move { write(reply.await) }), PhantomData)
    }
}

/// An answer as JSON: what all requests of a class have in common.
pub enum WrittenAnswer {
    Now(Result<String, Failure>),
    Later(LocalBoxFuture<'static, Result<String, Failure>>),
}

impl WrittenAnswer {
    pub fn later(text: impl Future<Output = Result<String, Failure>> + 'static) -> Self {
        Self::Later(text.boxed_local())
    }

    /// The reply, when it is there.
    pub async fn text(self) -> Result<String, Failure> {
        match self {
            Self::Now(text) => text,
            Self::Later(text) => text.await,
        }
    }

    /// The value that an object returns to the platform: the text or a promise of it.
    pub fn into_platform(self) -> Result<JsValue, JsValue> {
        match self {
            Self::Now(text) => to_js(text),
            Self::Later(text) => Ok(tasks::promise(async move { to_js(text.await) })),
        }
    }
}

impl<T: Serialize> From<Result<T, Failure>> for WrittenAnswer {
    fn from(reply: Result<T, Failure>) -> Self {
        Self::Now(write(reply))
    }
}

impl<T> From<Answer<T>> for WrittenAnswer {
    fn from(answer: Answer<T>) -> Self {
        answer.0
    }
}

fn write<T: Serialize>(reply: Result<T, Failure>) -> Result<String, Failure> {
    reply.and_then(|reply| Ok(written(&reply)?))
}

/// A large text is sent in the encoding that takes the fewest bytes.
fn to_js(text: Result<String, Failure>) -> Result<JsValue, JsValue> {
    match text {
        Ok(text) if text.len() as u64 > SAFE_BYTES => Ok(JsValue::from_str(&sent(&text))),
        Ok(text) => Ok(JsValue::from_str(&text)),
        Err(failure) => Err(to_error(&failure)),
    }
}

/// Opens the object.
pub fn open<S: Shell>(state: &JsValue, env: &JsValue) -> Result<Rc<S>, JsValue> {
    S::open(state, env).map_err(|failure| to_error(&failure))
}

/// One message, one reply.
pub fn serve<S: Shell>(shell: &Rc<S>, message: &str) -> Result<JsValue, JsValue> {
    let message = read(message)?;
    tasks::turn(|| shell.answer(message).into_platform())
}

pub fn wake<S: Shell>(shell: &Rc<S>) -> Result<JsValue, JsValue> {
    tasks::turn(|| shell.alarm().into_platform())
}

pub fn open_socket<S: SocketShell>(shell: &Rc<S>, message: &str) -> Result<JsValue, JsValue> {
    let open = read(message)?;
    tasks::turn(|| shell.open_socket(open).ininto_platform())
}

pub fn handle_message<S: SocketShell>(shell: &Rc<S>, socket: &JsValue, text: Option<&str>) {
    if let Some(slot) = shell.slot(socket) {
        tasks::turn(|| shell.handle_message(slot, text));
    }
}

pub fn handle_close<S: SocketShell>(shell: &Rc<S>, socket: &JsValue) {
    if let Some(slot) = shell.slot(socket) {
        tasks::turn(|| shell.handle_close(slot));
    }
}

/// Reads a message of the platform's.
pub fn read<M: DeserializeOwned>(message: &str) -> Result<M, JsValue> {
    serde_json::from_str(message).map_err(|error| to_error(&error.into()))
}

pub fn to_error(failure: &Failure) -> JsValue {
    js_sys::Error::new(&failure.0).into()
}

/// Makes the class of an object that the platform calls, around its [`Shell`].
macro_rules! durable_object {
    ($(#[$attribute:meta])* $Class:ident: $Shell:ty) => {
        $(#[$attribute])*
        #[wasm_bindgen::prelude::wasm_bindgen]
        pub struct $Class(std::rc::Rc<$Shell>);

        #[wasm_bindgen::prelude::wasm_bindgen]
        impl $Class {
            #[wasm_bindgen(constructor)]
            pub fn new(
                state: &wasm_bindgen::JsValue,
                env: &wasm_bindgen::JsValue,
            ) -> Result<$Class, wasm_bindgen::JsValue> {
                $crate::objects::shell::open(state, env).map(Self)
            }

            pub fn call(&self, message: &str) -> Result<wasm_bindgen::JsValue, wasm_bindgen::JsValue> {
                $crate::objects::shell::serve(&self.0, message)
            }

            pub fn alarm(&self) -> Result<wasm_bindgen::JsValue, wasm_bindgen::JsValue> {
                $crate::objects::shell::wake(&self.0)
            }
        }
    };
}

/// Makes the class of an object that accepts WebSockets, around its [`SocketShell`].
macro_rules! socket_object {
    ($(#[$attribute:meta])* $Class:ident: $Shell:ty) => {
        $crate::objects::shell::durable_object!($(#[$attribute])* $Class: $Shell);

        #[wasm_bindgen::prelude::wasm_bindgen]
        impl $Class {
            pub fn open(&self, message: &str) -> Result<wasm_bindgen::JsValue, wasm_bindgen::JsValue> {
                $crate::objects::shell::open_socket(&self.0, message)
            }

            pub fn message(&self, socket: &wasm_bindgen::JsValue, text: Option<String>) {
                $crate::objects::shell::handle_message(&self.0, socket, text.as_deref());
            }

            pub fn closed(&self, socket: &wasm_bindgen::JsValue) {
                $crate::objects::shell::handle_close(&self.0, socket);
            }
        }
    };
}

pub(crate) use {durable_object, socket_object};
