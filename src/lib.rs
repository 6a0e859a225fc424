//! Narthex: an edge gateway and coordination layer for AI services, as one Cloudflare Worker.
//!
//! Entry points only. `entry.mjs` exports the platform's classes and passes every handler on to what is here;
//! it also settles what is in flight when a panic ends the instance. The way of a context, in four files:
//! `gateway/contexts/create.rs`, `execution/mod.rs`, `objects/contexts/mod.rs`, `narthex_core::context_store`.

pub mod auth;
pub mod execution;
pub mod gateway;
pub mod objects;
pub mod platform;
pub mod transport;

use wasm_bindgen::prelude::*;

/// `worker` installs a hook that tells the entry guard of a panic; this one adds the stack to the log.
#[wasm_bindgen(start)]
pub fn start() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        console_error_panic_hook::hook(info);
        told(info);
    }));
    platform::tasks::start();
}

/// One HTTP request.
#[wasm_bindgen]
pub fn fetch(request: JsValue, env: JsValue, context: JsValue) -> JsValue {
    platform::tasks::promise(async move { Ok(gateway::serve(request, &env, context).await) })
}

/// One message of a queue: the name of a store that has work, of a tenant's schedules, or of a tenant whose webhooks are
/// to be told. An error has it delivered again.
#[wasm_bindgen]
pub fn work(message: String) -> JsValue {
    platform::tasks::promise(async move {
        ended(match message.strip_suffix("/schedules") {
            Some(tenant) => gateway::schedules::run(tenant).await,
            None => execution::background::handle(&message).await,
        })
    })
}

/// The cron's minute.
#[wasm_bindgen]
pub fn sweep() -> JsValue {
    platform::tasks::promise(async { ended(execution::background::sweep().await) })
}

/// Panics. The entry guard never calls it, so nothing that reaches a deployment does: tests of the guard put a module
/// before it that does (docs/adr/0015-crashes-from-outside.md).
#[wasm_bindgen(js_name = panicOnPurpose)]
#[allow(clippy::panic, reason = "it is what this is for")]
pub fn panic_on_purpose() {
    panic!("on purpose");
}

fn ended(outcome: Result<(), platform::Failure>) -> Result<JsValue, JsValue> {
    outcome.map(|()| JsValue::UNDEFINED).map_err(|failure| js_sys::Error::new(&failure.0).into())
}

/// What the entry guard must exist for: without `worker`'s initialisation it would not hear of a panic.
#[wasm_bindgen(js_name = initState)]
pub fn init_state() -> JsValue {
    js_sys::Reflect::get(&js_sys::global(), &JsValue::from_str("__worker_init_state")).unwrap_or(JsValue::UNDEFINED)
}
