//! Narthex: a self-hosted gateway for AI services on Cloudflare, as one Worker.
//!
//! This file contains only entry points. `entry.mjs` exports the classes of the platform and passes every handler on to
//! these functions; it also settles promises in flight when a panic ends the instance. The path of a context, in four
//! files: `gateway/contexts/create.rs`, `execution/worker.rs`, `objects/contexts/mod.rs`, and the core's
//! `context_store/mod.rs`.

pub mod auth;
pub mod execution;
pub mod gateway;
pub mod objects;
pub mod platform;
pub mod transport;

use wasm_bindgen::prelude::*;

use narthex_core::base::tenant_id::TenantId;

/// `worker` installs a hook that notifies the entry guard of a panic; this one adds the stack to the log.
#[wasm_bindgen(start)]
pub fn start() {
    let notify_guard = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        console_error_panic_hook::hook(info);
        notify_guard(info);
    }));
    platform::tasks::start();
    platform::relay::start();
}

/// Serves an HTTP request.
#[wasm_bindgen]
pub fn fetch(request: JsValue, env: JsValue, context: JsValue) -> JsValue {
    platform::tasks::event(context, async move { Ok(gateway::serve(request, &env).await) })
}

/// Handles a message of a queue: the name of a store with work, of the schedules of a tenant, or of a tenant with due
/// webhook deliveries. After an error the platform delivers it again.
#[wasm_bindgen]
pub fn work(message: String, context: JsValue) -> JsValue {
    platform::tasks::event(context, async move {
        platform::tasks::count_as_call(true);
        ended(match message.strip_suffix("/schedules") {
            Some(tenant) => gateway::schedules::run(&TenantId::from_stored(tenant)).await,
            None => execution::background::handle(&message).await,
        })
    })
}

/// Handles the cron trigger, every minute.
#[wasm_bindgen]
pub fn sweep(context: JsValue) -> JsValue {
    platform::tasks::event(context, async {
        platform::tasks::count_as_call(true);
        ended(execution::background::sweep().await)
    })
}

/// Takes no more work in the background from now on. Returns how many calls and consumers still run; calling it again
/// returns what is left of them.
#[wasm_bindgen]
pub fn stop() -> u32 {
    platform::stopping::begin();
    u32::try_from(platform::tasks::running_calls()).unwrap_or(u32::MAX)
}

/// Panics. The entry guard never calls it, and neither does anything in a deployment: the tests of the guard place a
/// module in front that calls it (docs/adr/0015-crashes-from-outside.md).
#[wasm_bindgen(js_name = panicOnPurpose)]
#[allow(clippy::panic, reason = "it is what this is for")]
pub fn panic_on_purpose() {
    panic!("on purpose");
}

fn ended(outcome: Result<(), platform::Failure>) -> Result<JsValue, JsValue> {
    outcome.map(|()| JsValue::UNDEFINED).map_err(|failure| js_sys::Error::new(&failure.0).into())
}

/// The entry guard requires this to exist: without the initialisation of `worker` it would not detect a panic.
#[wasm_bindgen(js_name = initState)]
pub fn init_state() -> JsValue {
    js_sys::Reflect::get(&js_sys::global(), &JsValue::from_str("__worker_init_state")).unwrap_or(JsValue::UNDEFINED)
}
