//! Futures on the platform's event loop.
//!
//! Every operation that takes time is started with a token; the boundary calls back with it when there is an
//! outcome, and the task that waits is polled then and there. `wasm-bindgen-futures` would make two closures
//! and one or two microtasks for each await, which was a fifth of all CPU of a request.
//!
//! A task is polled in the turn that woke it, so it stays within the request or object it belongs to: every export
//! that may wake one ends with [`turn`].
//!
//! Tasks that one task begins, it and theirs, are a family. A family has one timer of the platform at most, which
//! ticks for all that may take only so long: most of it is over before the first tick, and a timer for each was a
//! twentieth of all CPU of a request.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use wasm_bindgen::prelude::*;

#[wasm_bindgen(module = "/src/platform/boundary.js")]
extern "C" {
    fn install(resume: &Closure<dyn Fn(u32, bool, JsValue)>);
    fn promised(token: u32) -> JsValue;
    fn settle(token: u32, ok: bool, value: JsValue);
    fn tick(token: u32, milliseconds: f64) -> f64;
    #[wasm_bindgen(js_name = stopTick)]
    fn stop_tick(timer: f64);
    fn leave(family: u32);
    fn watch(token: u32, promise: &JsValue);
}

/// A family's timer looks again after this, in milliseconds, so that what is over sooner never moves it.
const TICK_MS: f64 = 2_000.0;

struct Task {
    family: u32,
    future: Pin<Box<dyn Future<Output = ()>>>,
}

#[derive(Default)]
struct Family {
    /// Its tasks that have not ended.
    tasks: u32,
    /// Operations that may take until then, by their tokens.
    deadlines: Vec<(f64, u32)>,
    timer: Option<Timer>,
}

/// A timer of the platform.
struct Timer {
    at: f64,
    token: u32,
    id: f64,
}

/// An operation under way: who waits for it, or its outcome.
enum Operation {
    Waiting(Option<Waker>),
    Ended(Result<JsValue, JsValue>),
}

#[derive(Default)]
struct Loop {
    next: Cell<u32>,
    operations: RefCell<HashMap<u32, Operation>>,
    tasks: RefCell<HashMap<u32, Task>>,
    ready: RefCell<VecDeque<u32>>,
    running: Cell<bool>,
    families: RefCell<HashMap<u32, Family>>,
    /// That of the task being polled.
    family: Cell<u32>,
    /// Families by the token of their timer.
    ticking: RefCell<HashMap<u32, u32>>,
}

thread_local! {
    static LOOP: Rc<Loop> = Rc::default();
}

/// Wasm has one thread; what a waker needs is the task's number.
struct Woken(u32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        LOOP.with(|tasks| tasks.ready.borrow_mut().push_back(self.0));
    }
}

impl Loop {
    fn token(&self) -> u32 {
        let token = self.next.get().wrapping_add(1);
        self.next.set(token);
        token
    }

    /// Polls what is ready until nothing is.
    fn run(&self) {
        if self.running.replace(true) {
            return;
        }
        loop {
            let Some(number) = self.ready.borrow_mut().pop_front() else {
                break;
            };
            // Taken out while it is polled: it may spawn others, or be woken again meanwhile.
            let Some(mut task) = self.tasks.borrow_mut().remove(&number) else {
                continue;
            };
            let waker = Waker::from(Arc::new(Woken(number)));
            let family = task.family;
            self.family.set(family);
            let polled = task.future.as_mut().poll(&mut Context::from_waker(&waker));
            if polled.is_pending() {
                self.tasks.borrow_mut().insert(number, task);
            } else {
                // What it still holds may belong to the family.
                drop(task);
                self.left(family);
            }
            self.family.set(0);
        }
        self.running.set(false);
    }

    fn resume(&self, token: u32, outcome: Result<JsValue, JsValue>) {
        let ticked = self.ticking.borrow_mut().remove(&token);
        match ticked {
            Some(family) => self.ticked(family),
            None => self.end(token, outcome),
        }
        self.run();
    }

    fn end(&self, token: u32, outcome: Result<JsValue, JsValue>) {
        let waiting = match self.operations.borrow_mut().get_mut(&token) {
            // Nobody waits any more.
            None => return,
            Some(operation) => std::mem::replace(operation, Operation::Ended(outcome)),
        };
        if let Operation::Waiting(Some(waker)) = waiting {
            waker.wake();
        }
    }

    /// A task of a family has ended; with the last of them go its timer and what the boundary keeps for it.
    fn left(&self, number: u32) {
        let mut families = self.families.borrow_mut();
        let Some(family) = families.get_mut(&number) else { return };
        family.tasks -= 1;
        if family.tasks == 0 {
            if let Some(timer) = &family.timer {
                self.ticking.borrow_mut().remove(&timer.token);
                stop_tick(timer.id);
            }
            families.remove(&number);
            leave(number);
        }
    }

    /// Ends an operation of the family when its time is over.
    fn bound(&self, number: u32, token: u32, milliseconds: f64) {
        let now = js_sys::Date::now();
        let mut families = self.families.borrow_mut();
        let family = families.entry(number).or_default();
        family.deadlines.push((now + milliseconds, token));
        self.arm(number, family, now, milliseconds);
    }

    fn arm(&self, number: u32, family: &mut Family, now: f64, milliseconds: f64) {
        let milliseconds = milliseconds.min(TICK_MS);
        if family.timer.as_ref().is_some_and(|timer| timer.at <= now + milliseconds) {
            return;
        }
        if let Some(timer) = family.timer.take() {
            self.ticking.borrow_mut().remove(&timer.token);
            stop_tick(timer.id);
        }
        let token = self.token();
        self.ticking.borrow_mut().insert(token, number);
        family.timer = Some(Timer { at: now + milliseconds, token, id: tick(token, milliseconds) });
    }

    fn ticked(&self, number: u32) {
        let now = js_sys::Date::now();
        let mut over = Vec::new();
        if let Some(family) = self.families.borrow_mut().get_mut(&number) {
            family.timer = None;
            family.deadlines.retain(|(at, token)| {
                if *at <= now {
                    over.push(*token);
                }
                *at > now
            });
            if let Some(next) = family.deadlines.iter().map(|(at, _)| *at).reduce(f64::min) {
                self.arm(number, family, now, (next - now).max(1.0));
            }
        }
        for token in over {
            self.end(token, Err(JsValue::UNDEFINED));
        }
    }
}

/// Makes the boundary call back here. Once for each instance.
pub fn start() {
    let resume = Closure::<dyn Fn(u32, bool, JsValue)>::new(|token, ok, value| {
        LOOP.with(Rc::clone).resume(token, if ok { Ok(value) } else { Err(value) });
    });
    install(&resume);
    // It is needed for as long as the instance lives.
    resume.forget();
}

/// Does what an export was called for, and then runs the tasks that this has woken: left for later they would be
/// polled in a turn of another request, whose I/O is not theirs.
pub fn turn<T>(work: impl FnOnce() -> T) -> T {
    let done = work();
    LOOP.with(Rc::clone).run();
    done
}

/// Runs a future to its end, beginning now.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    let tasks = LOOP.with(Rc::clone);
    let number = tasks.token();
    let family = match tasks.family.get() {
        0 => number,
        family => family,
    };
    tasks.families.borrow_mut().entry(family).or_default().tasks += 1;
    tasks.tasks.borrow_mut().insert(number, Task { family, future: Box::pin(future) });
    tasks.ready.borrow_mut().push_back(number);
    tasks.run();
}

/// Runs a future to its end, beginning now; the platform gets a promise of its outcome.
pub fn promise(future: impl Future<Output = Result<JsValue, JsValue>> + 'static) -> JsValue {
    let token = LOOP.with(|tasks| tasks.token());
    let promise = promised(token);
    spawn(async move {
        match future.await {
            Ok(value) => settle(token, true, value),
            Err(error) => settle(token, false, error),
        }
    });
    promise
}

/// The family of the task that is being polled, for what the boundary keeps for all of one.
pub fn family() -> u32 {
    LOOP.with(|tasks| tasks.family.get())
}

/// The outcome of a promise the platform gave.
pub fn outcome(promise: &JsValue) -> Awaited {
    Awaited::new(|token| watch(token, promise))
}

/// An operation of the platform. `start` is given the token the boundary calls back with.
pub struct Awaited {
    token: u32,
    /// The family whose timer bounds it.
    bound_by: Option<u32>,
}

impl Awaited {
    pub fn new(start: impl FnOnce(u32)) -> Self {
        let tasks = LOOP.with(Rc::clone);
        let token = tasks.token();
        tasks.operations.borrow_mut().insert(token, Operation::Waiting(None));
        start(token);
        Self { token, bound_by: None }
    }

    /// Fails with `undefined` when it has taken this long. What has begun goes on; nobody waits for it any more.
    pub fn within(milliseconds: f64, start: impl FnOnce(u32)) -> Self {
        let mut awaited = Self::new(start);
        let tasks = LOOP.with(Rc::clone);
        let family = tasks.family.get();
        tasks.bound(family, awaited.token, milliseconds);
        awaited.bound_by = Some(family);
        awaited
    }

    pub fn token(&self) -> u32 {
        self.token
    }
}

impl Future for Awaited {
    type Output = Result<JsValue, JsValue>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        LOOP.with(|tasks| {
            let mut operations = tasks.operations.borrow_mut();
            match operations.remove(&self.token) {
                Some(Operation::Ended(outcome)) => Poll::Ready(outcome),
                _ => {
                    operations.insert(self.token, Operation::Waiting(Some(context.waker().clone())));
                    Poll::Pending
                }
            }
        })
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        LOOP.with(|tasks| {
            tasks.operations.borrow_mut().remove(&self.token);
            if let Some(number) = self.bound_by
                && let Some(family) = tasks.families.borrow_mut().get_mut(&number)
            {
                family.deadlines.retain(|(_, token)| *token != self.token);
            }
        });
    }
}
