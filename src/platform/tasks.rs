//! Futures on the platform's event loop.
//!
//! Every operation that takes time is started with a token; the boundary calls back with it when there is an
//! outcome, and the task that waits is polled then and there. `wasm-bindgen-futures` would make two closures
//! and one or two microtasks for each await, which was a fifth of all CPU of a request.
//!
//! A task is polled in the turn that woke it, so it stays within the request or object it belongs to: every export
//! that may wake one ends with [`turn`].

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
    fn watch(token: u32, promise: &JsValue);
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

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
            if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                self.tasks.borrow_mut().insert(number, task);
            }
        }
        self.running.set(false);
    }

    fn resume(&self, token: u32, outcome: Result<JsValue, JsValue>) {
        let waiting = match self.operations.borrow_mut().get_mut(&token) {
            // Nobody waits any more.
            None => return,
            Some(operation) => std::mem::replace(operation, Operation::Ended(outcome)),
        };
        if let Operation::Waiting(Some(waker)) = waiting {
            waker.wake();
        }
        self.run();
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
    tasks.tasks.borrow_mut().insert(number, Box::pin(future));
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

/// The outcome of a promise the platform gave.
pub fn outcome(promise: &JsValue) -> Awaited {
    Awaited::new(|token| watch(token, promise))
}

/// An operation of the platform. `start` is given the token the boundary calls back with.
pub struct Awaited(u32);

impl Awaited {
    pub fn new(start: impl FnOnce(u32)) -> Self {
        let tasks = LOOP.with(Rc::clone);
        let token = tasks.token();
        tasks.operations.borrow_mut().insert(token, Operation::Waiting(None));
        start(token);
        Self(token)
    }

    pub fn token(&self) -> u32 {
        self.0
    }
}

impl Future for Awaited {
    type Output = Result<JsValue, JsValue>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        LOOP.with(|tasks| {
            let mut operations = tasks.operations.borrow_mut();
            match operations.remove(&self.0) {
                Some(Operation::Ended(outcome)) => Poll::Ready(outcome),
                _ => {
                    operations.insert(self.0, Operation::Waiting(Some(context.waker().clone())));
                    Poll::Pending
                }
            }
        })
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        LOOP.with(|tasks| tasks.operations.borrow_mut().remove(&self.0));
    }
}
