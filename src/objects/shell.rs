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
    fn alarm(self: &Rc<Self>) -> Outcome<()>;
}

/// An object that accepts WebSockets. [`socket_object!`] makes its class.
pub trait SocketShell: Shell {
    /// The message that opens a socket, sent with the upgrade.
    type Open: DeserializeOwned;

    fn open_socket(self: &Rc<Self>, open: Self::Open) -> Outcome<JsValue>;

    /// The number of a socket; `None` if it was closed in the meantime.
    fn slot(&self, socket: &JsValue) -> Option<u32>;

    /// Handles a client's message; `None` if it is not text.
    fn handle_message(self: &Rc<Self>, slot: u32, text: Option<&str>);

    fn handle_close(self: &Rc<Self>, slot: u32);
}

/// What an object does for the platform, or the future of it.
pub enum Outcome<T> {
    Now(Result<T, Failure>),
    Later(LocalBoxFuture<'static, Result<T, Failure>>),
}

impl<T> Outcome<T> {
    pub fn later(outcome: impl Future<Output = Result<T, Failure>> + 'static) -> Self {
        Self::Later(outcome.boxed_local())
    }

    /// Waits for the outcome.
    pub async fn get(self) -> Result<T, Failure> {
        match self {
            Self::Now(outcome) => outcome,
            Self::Later(outcome) => outcome.await,
        }
    }
}

impl<T: IntoJs + 'static> Outcome<T> {
    /// The value that an object returns to the platform: the outcome or a promise of it.
    fn into_platform(self) -> Result<JsValue, JsValue> {
        match self {
            Self::Now(outcome) => to_js(outcome),
            Self::Later(outcome) => Ok(tasks::promise(async move { to_js(outcome.await) })),
        }
    }
}

/// An outcome as the platform gets it.
pub trait IntoJs {
    fn into_js(self) -> JsValue;
}

impl IntoJs for () {
    fn into_js(self) -> JsValue {
        JsValue::UNDEFINED
    }
}

impl IntoJs for JsValue {
    fn into_js(self) -> JsValue {
        self
    }
}

/// A large text is sent in the encoding that takes the fewest bytes.
impl IntoJs for String {
    fn into_js(self) -> JsValue {
        match self.len() as u64 > SAFE_BYTES {
            true => JsValue::from_str(&sent(&self)),
            false => JsValue::from_str(&self),
        }
    }
}

fn to_js<T: IntoJs>(outcome: Result<T, Failure>) -> Result<JsValue, JsValue> {
    outcome.map(IntoJs::into_js).map_err(|failure| to_error(&failure))
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
pub type WrittenAnswer = Outcome<String>;

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

/// Opens the object.
pub fn open<S: Shell>(state: &JsValue, env: &JsValue) -> Result<Rc<S>, JsValue> {
    S::open(state, env).map_err(|failure| to_error(&failure))
}

/// Answers a message.
pub fn serve<S: Shell>(shell: &Rc<S>, message: &str) -> Result<JsValue, JsValue> {
    let message = read(message)?;
    tasks::turn(|| shell.answer(message).into_platform())
}

pub fn wake<S: Shell>(shell: &Rc<S>) -> Result<JsValue, JsValue> {
    tasks::turn(|| shell.alarm().into_platform())
}

pub fn open_socket<S: SocketShell>(shell: &Rc<S>, message: &str) -> Result<JsValue, JsValue> {
    let open = read(message)?;
    tasks::turn(|| shell.open_socket(open).into_platform())
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

/// Parses a message.
fn read<M: DeserializeOwned>(message: &str) -> Result<M, JsValue> {
    serde_json::from_str(message).map_err(|error| to_error(&error.into()))
}

fn to_error(failure: &Failure) -> JsValue {
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
