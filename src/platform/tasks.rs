//! Futures on the event loop of the platform.
//!
//! Every asynchronous operation is started with a token. The boundary calls back with the token and the outcome, and
//! the waiting task is polled at once. `wasm-bindgen-futures` would create two closures and one or two microtasks for
//! each await, which was a fifth of all CPU time of a request.
//!
//! A task is polled in the turn that woke it, so it stays within its request or object: every export that may wake one
//! ends with [`turn`].
//!
//! A task and all tasks that it spawns, directly or not, are a family. A family has at most one timer of the platform,
//! for all of its time-outs: most operations end before its first tick, and a timer for each was a twentieth of all CPU
//! time of a request.
//!
//! In a Worker a family handles one event, and the platform ends its I/O together with the event, except for what
//! [`keep_running`] has registered.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use futures_channel::oneshot;
use wasm_bindgen::prelude::*;

mod calls;

pub use calls::{count_as_call, running_calls};

#[wasm_bindgen(module = "/src/platform/tasks.js")]
extern "C" {
    fn install(resume: &Closure<dyn Fn(u32, bool, JsValue)>);
    fn promised(token: u32) -> JsValue;
    fn settle(token: u32, ok: bool, value: JsValue);
    fn tick(token: u32, milliseconds: f64) -> f64;
    #[wasm_bindgen(js_name = stopTick)]
    fn stop_tick(timer: f64);
    fn leave(family: u32);
    #[wasm_bindgen(js_name = waitUntil)]
    fn wait_until(context: &JsValue, promise: &JsValue);
    fn watch(token: u32, promise: &JsValue);
}

/// The maximum interval of a family's timer, in milliseconds, so that operations that end sooner never move it.
const MAX_TICK_MS: f64 = 2_000.0;

struct Task {
    family: u32,
    future: Pin<Box<dyn Future<Output = ()>>>,
}

#[derive(Default)]
struct Family {
    /// Its tasks that have not ended.
    tasks: u32,
    /// The deadlines of its operations, with their tokens.
    deadlines: Vec<(f64, u32)>,
    timer: Option<Timer>,
    /// The platform's context of the event that the family handles. Objects have none: their work outlives events.
    context: Option<Rc<JsValue>>,
    /// It makes a call or runs work in the background, so a stop waits for it.
    is_call: bool,
}

/// A timer of the platform.
struct Timer {
    at: f64,
    token: u32,
    id: f64,
}

/// An operation in progress, with the waker of its task, or its outcome.
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
    /// The family of the task that is polled.
    family: Cell<u32>,
    /// Families by the token of their timer.
    ticking: RefCell<HashMap<u32, u32>>,
}

thread_local! {
    static LOOP: Rc<Loop> = Rc::default();
}

/// Wasm has one thread, so a waker only needs the number of the task.
struct TaskWaker(u32);

impl Wake for TaskWaker {
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

    /// Polls tasks until none is ready.
    fn run(&self) {
        if self.running.replace(true) {
            return;
        }
        loop {
            let Some(number) = self.ready.borrow_mut().pop_front() else {
                break;
            };
            // Removed while it is polled: it may spawn other tasks or be woken again in the meantime.
            let Some(mut task) = self.tasks.borrow_mut().remove(&number) else {
                continue;
            };
            let waker = Waker::from(Arc::new(TaskWaker(number)));
            let family = task.family;
            self.family.set(family);
            let polled = task.future.as_mut().poll(&mut Context::from_waker(&waker));
            if polled.is_pending() {
                self.tasks.borrow_mut().insert(number, task);
            } else {
                // Its values may belong to the family.
                drop(task);
                self.task_ended(family);
            }
            self.family.set(0);
        }
        self.running.set(false);
    }

    fn resume(&self, token: u32, outcome: Result<JsValue, JsValue>) {
        let family = self.ticking.borrow_mut().remove(&token);
        match family {
            Some(family) => self.on_tick(family),
            None => self.end(token, outcome),
        }
        self.run();
    }

    fn end(&self, token: u32, outcome: Result<JsValue, JsValue>) {
        let waiting = match self.operations.borrow_mut().get_mut(&token) {
            // The operation was dropped.
            None => return,
            Some(operation) => std::mem::replace(operation, Operation::Ended(outcome)),
        };
        if let Operation::Waiting(Some(waker)) = waiting {
            waker.wake();
        }
    }

    /// Counts a task of a family as ended. The timer of the family and the state that the boundary keeps for it go with
    /// the last one.
    fn task_ended(&self, number: u32) {
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

    /// Sets the time-out of an operation of the family.
    fn limit(&self, number: u32, token: u32, milliseconds: f64) {
        let now = js_sys::Date::now();
        let mut families = self.families.borrow_mut();
        let family = families.entry(number).or_default();
        family.deadlines.push((now + milliseconds, token));
        self.arm(number, family, now, milliseconds);
    }

    fn arm(&self, number: u32, family: &mut Family, now: f64, milliseconds: f64) {
        let milliseconds = milliseconds.min(MAX_TICK_MS);
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

    fn on_tick(&self, number: u32) {
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

/// Registers the callback of the boundary. Called once per instance.
pub fn start() {
    let resume = Closure::<dyn Fn(u32, bool, JsValue)>::new(|token, ok, value| {
        LOOP.with(Rc::clone).resume(token, if ok { Ok(value) } else { Err(value) });
    });
    install(&resume);
    // It must exist as long as the instance.
    resume.forget();
}

/// Runs the work of an export, and then the tasks that it has woken: otherwise they would be polled in a turn of
/// another request, whose I/O is not theirs.
pub fn turn<T>(work: impl FnOnce() -> T) -> T {
    let done = work();
    LOOP.with(Rc::clone).run();
    done
}

/// Runs a future, starting now. In a Worker it ends with the event that it belongs to, if it has not ended before; see
/// [`keep_running`].
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    spawn_in(None, future);
}

fn spawn_in(context: Option<JsValue>, future: impl Future<Output = ()> + 'static) {
    let tasks = LOOP.with(Rc::clone);
    let number = tasks.token();
    let family = match tasks.family.get() {
        0 => number,
        family => family,
    };
    {
        let mut families = tasks.families.borrow_mut();
        let family = families.entry(family).or_default();
        family.tasks += 1;
        if let Some(context) = context {
            family.context = Some(Rc::new(context));
        }
    }
    tasks.tasks.borrow_mut().insert(number, Task { family, future: Box::pin(future) });
    tasks.ready.borrow_mut().push_back(number);
    tasks.run();
}

/// Runs a future to its end although the event that it belongs to may end before, as long as the platform allows: 30 s
/// after a response. For whatever others rely on, such as notifying a server that a call was cancelled.
pub fn keep_running(future: impl Future<Output = ()> + 'static) {
    let context = LOOP.with(|tasks| {
        let families = tasks.families.borrow();
        families.get(&tasks.family.get()).and_then(|family| family.context.clone())
    });
    let Some(context) = context else { return spawn(future) };
    let promise = promise(async move {
        future.await;
        Ok(JsValue::UNDEFINED)
    });
    wait_until(&context, &promise);
}

/// Keeps the event running although its client may leave, until this is dropped.
pub struct Stay(#[expect(dead_code, reason = "its drop is what counts")] oneshot::Sender<()>);

/// As [`keep_running`], for the rest of a task that cannot be moved.
pub fn stay() -> Stay {
    let (sender, ended) = oneshot::channel();
    keep_running(async move {
        let _ = ended.await;
    });
    Stay(sender)
}

/// Runs a future to its end, starting now. Returns a promise of its outcome.
pub fn promise(future: impl Future<Output = Result<JsValue, JsValue>> + 'static) -> JsValue {
    promise_in(None, future)
}

/// Handles an event of the Worker, with the platform's context of it. Returns a promise of the outcome.
pub fn event(context: JsValue, future: impl Future<Output = Result<JsValue, JsValue>> + 'static) -> JsValue {
    promise_in(Some(context), future)
}

fn promise_in(context: Option<JsValue>, future: impl Future<Output = Result<JsValue, JsValue>> + 'static) -> JsValue {
    let token = LOOP.with(|tasks| tasks.token());
    let promise = promised(token);
    spawn_in(context, async move {
        match future.await {
            Ok(value) => settle(token, true, value),
            Err(error) => settle(token, false, error),
        }
    });
    promise
}

/// A number that no operation of this instance has.
pub fn token() -> u32 {
    LOOP.with(|tasks| tasks.token())
}

/// The family of the task that is polled: the boundary keeps some state per family.
pub fn family() -> u32 {
    LOOP.with(|tasks| tasks.family.get())
}

/// The outcome of a promise of the platform.
pub fn outcome(promise: &JsValue) -> PlatformCall {
    PlatformCall::new(|token| watch(token, promise))
}

/// An operation of the platform. `start` receives the token that the boundary calls back with.
pub struct PlatformCall {
    token: u32,
    /// The family whose timer limits it.
    limited_by: Option<u32>,
}

impl PlatformCall {
    pub fn new(start: impl FnOnce(u32)) -> Self {
        let tasks = LOOP.with(Rc::clone);
        let token = tasks.token();
        tasks.operations.borrow_mut().insert(token, Operation::Waiting(None));
        start(token);
        Self { token, limited_by: None }
    }

    /// Fails with `undefined` after this time. The operation itself continues without a waiting task.
    pub fn within(milliseconds: f64, start: impl FnOnce(u32)) -> Self {
        let mut awaited = Self::new(start);
        let tasks = LOOP.with(Rc::clone);
        let family = tasks.family.get();
        tasks.limit(family, awaited.token, milliseconds);
        awaited.limited_by = Some(family);
        awaited
    }

    pub fn token(&self) -> u32 {
        self.token
    }
}

impl Future for PlatformCall {
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

impl Drop for PlatformCall {
    fn drop(&mut self) {
        LOOP.with(|tasks| {
            tasks.operations.borrow_mut().remove(&self.token);
            if let Some(number) = self.limited_by
                && let Some(family) = tasks.families.borrow_mut().get_mut(&number)
            {
                family.deadlines.retain(|(_, token)| *token != self.token);
            }
        });
    }
}
