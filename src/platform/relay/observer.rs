//! Responses that are passed on while they come, and who sees them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use js_sys::{Array, Uint8Array};
use wasm_bindgen::prelude::*;

use super::super::http::Headers;
use super::super::tasks::PlatformCall;
use super::bodies::{Piece, array};
use super::{PiecedResponse, RunningCall, abort_call};
use narthex_core::models::stream::Passed;

#[wasm_bindgen(module = "/src/platform/relay.js")]
extern "C" {
    #[wasm_bindgen(js_name = installObserver)]
    fn install_observer(
        on_piece: &Closure<dyn Fn(u32, Uint8Array) -> JsValue>,
        on_end: &Closure<dyn Fn(u32, u32) -> JsValue>,
        on_left: &Closure<dyn Fn(u32) -> bool>,
    );
    #[allow(clippy::too_many_arguments, reason = "the boundary takes flat values")]
    fn relay(
        token: u32,
        call: u32,
        observer: u32,
        first: &Array,
        status: u16,
        headers: &str,
        rules: &JsValue,
    ) -> JsValue;
}

thread_local! {
    static OBSERVERS: RefCell<HashMap<u32, Rc<dyn Observer>>> = RefCell::default();
}

/// How a relayed response ended. `relay.js` has the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayEnd {
    /// The service's response has ended, or its end marker has come.
    Done,
    Broke,
    /// Nothing came for too long.
    Idle,
    Overdue,
    /// The client has left, or does not read.
    Gone,
    /// A part of it was too long to be held.
    TooLong,
}

impl RelayEnd {
    fn of(number: u32) -> Self {
        match number {
            0 => Self::Done,
            2 => Self::Idle,
            3 => Self::Overdue,
            4 => Self::Gone,
            5 => Self::TooLong,
            _ => Self::Broke,
        }
    }
}

/// What is written for a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passing {
    /// The piece as it is. Nothing may be held.
    Whole,
    /// Ranges of what is held and the piece.
    Ranges(Passed),
    /// Another text. Nothing is held.
    Text(String),
}

/// What follows a piece. `relay.js` has the same numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Next {
    #[default]
    GoesOn = 0,
    /// The end marker has come: nothing that follows counts.
    Ends = 1,
    /// What would have to be held is too long: the response ends with an error.
    TooLong = 2,
}

/// What an observer says about a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub passing: Passing,
    pub next: Next,
}

/// What is written at the end of a response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closing {
    /// What is held passes.
    pub passes_held: bool,
    /// Behind that.
    pub text: String,
}

/// Sees what is relayed.
pub trait Observer {
    /// A piece comes.
    fn piece(&self, piece: &Piece) -> Seen;
    /// The response has ended. `None`: it is broken off.
    fn end(&self, how: RelayEnd) -> Option<Closing>;
    /// The client has left: whether the rest may be read.
    fn may_drain(&self) -> bool;
}

/// The limits of a relayed response.
pub struct RelayRules<'a> {
    /// How long nothing may come.
    pub idle_ms: u64,
    /// The time of its end, at the latest, in milliseconds since 1970.
    pub until_ms: u64,
    /// What is written after a silence, if anything is.
    pub ping: &'a str,
    pub ping_ms: u64,
    /// How long the rest is read once the client has left, if it may be read.
    pub drain_ms: u64,
    /// Tells of a client that leaves, where the platform notices it.
    pub client: JsValue,
}

impl RelayRules<'_> {
    fn to_js(&self) -> JsValue {
        let rules = js_sys::Object::new();
        let numbers = [
            ("idleMs", self.idle_ms as f64),
            ("until", self.until_ms as f64),
            ("pingMs", self.ping_ms as f64),
            ("drainMs", self.drain_ms as f64),
        ];
        for (name, value) in numbers {
            // Setting a member of a plain object does not fail.
            let _ = js_sys::Reflect::set(&rules, &name.into(), &value.into());
        }
        let _ = js_sys::Reflect::set(&rules, &"ping".into(), &self.ping.into());
        let _ = js_sys::Reflect::set(&rules, &"client".into(), &self.client);
        rules.into()
    }
}

/// A response that is being relayed. Dropping it breaks it off.
pub struct Relayed {
    call: RunningCall,
    end: PlatformCall,
}

impl Relayed {
    /// How it ended.
    pub async fn ended(&mut self) -> RelayEnd {
        let end = (&mut self.end).await;
        self.call.is_over = true;
        OBSERVERS.with_borrow_mut(|observers| observers.remove(&self.call.token));
        RelayEnd::of(end.ok().and_then(|end| end.as_f64()).unwrap_or(1.0) as u32)
    }
}

impl Relayed {
    /// Ends the call of the service.
    pub fn stop(&self) {
        abort_call(self.call.token);
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        OBSERVERS.with_borrow_mut(|observers| observers.remove(&self.call.token));
    }
}

/// Passes a response on to the client as it comes, behind its first pieces, which are there already. Returns the
/// client's response, and the end to wait for.
pub fn begin(
    from: PiecedResponse,
    first: &[Piece],
    observer: Rc<dyn Observer>,
    status: u16,
    headers: &Headers,
    rules: &RelayRules<'_>,
) -> (JsValue, Relayed) {
    let PiecedResponse { call, .. } = from;
    OBSERVERS.with_borrow_mut(|observers| observers.insert(call.token, observer));
    let (mut response, first) = (JsValue::UNDEFINED, array(first));
    let end = PlatformCall::new(|token| {
        response = relay(token, call.token, call.token, &first, status, headers.as_str(), &rules.to_js());
    });
    (response, Relayed { call, end })
}

/// As [`begin`], with first pieces that the observer has seen already.
pub fn begin_behind(
    from: PiecedResponse,
    first: &[Piece],
    observer: Rc<dyn Observer>,
    status: u16,
    headers: &Headers,
    rules: &RelayRules<'_>,
) -> (JsValue, Relayed) {
    begin(from, first, Rc::new(Behind { left: Cell::new(first.len()), observer }), status, headers, rules)
}

/// Does not see the first pieces.
struct Behind {
    left: Cell<usize>,
    observer: Rc<dyn Observer>,
}

impl Observer for Behind {
    fn piece(&self, piece: &Piece) -> Seen {
        match self.left.get() {
            0 => self.observer.piece(piece),
            left => {
                self.left.set(left - 1);
                Seen { passing: Passing::Whole, next: Next::GoesOn }
            }
        }
    }

    fn end(&self, how: RelayEnd) -> Option<Closing> {
        self.observer.end(how)
    }

    fn may_drain(&self) -> bool {
        self.observer.may_drain()
    }
}

fn observer_of(number: u32) -> Option<Rc<dyn Observer>> {
    OBSERVERS.with_borrow(|observers| observers.get(&number).cloned())
}

/// What the boundary learns of a piece: see `relay.js`.
fn on_piece(observer: u32, piece: Uint8Array) -> JsValue {
    let Some(observer) = observer_of(observer) else { return JsValue::UNDEFINED };
    let Seen { passing, next } = observer.piece(&Piece(piece));
    let (text, places) = match passing {
        Passing::Whole if next == Next::GoesOn => return JsValue::UNDEFINED,
        Passing::Whole => (JsValue::UNDEFINED, JsValue::UNDEFINED),
        Passing::Text(text) => (JsValue::from_str(&text), JsValue::UNDEFINED),
        Passing::Ranges(Passed { ranges, to }) => {
            let places = ranges.iter().flat_map(|(from, to)| [*from, *to]);
            let places = [to].into_iter().chain(places).map(|place| JsValue::from(place as f64));
            (JsValue::UNDEFINED, places.collect::<Array>().into())
        }
    };
    Array::of3(&JsValue::from(next as u32), &text, &places).into()
}

fn on_end(observer: u32, how: u32) -> JsValue {
    let closing = observer_of(observer).and_then(|observer| observer.end(RelayEnd::of(how)));
    closing.map_or(JsValue::UNDEFINED, |Closing { passes_held, text }| {
        Array::of2(&JsValue::from_bool(passes_held), &JsValue::from_str(&text)).into()
    })
}

fn on_left(observer: u32) -> bool {
    observer_of(observer).is_some_and(|observer| observer.may_drain())
}

/// Registers the callbacks of the boundary. Called once per instance.
pub fn start() {
    let on_piece = Closure::<dyn Fn(u32, Uint8Array) -> JsValue>::new(on_piece);
    let on_end = Closure::<dyn Fn(u32, u32) -> JsValue>::new(on_end);
    let on_left = Closure::<dyn Fn(u32) -> bool>::new(on_left);
    install_observer(&on_piece, &on_end, &on_left);
    // They must exist as long as the instance.
    on_piece.forget();
    on_end.forget();
    on_left.forget();
}
