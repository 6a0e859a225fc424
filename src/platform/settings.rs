//! What the deployment is configured with: the Worker's variables and secrets, read once per isolate.

use std::cell::OnceCell;
use std::rc::Rc;

use wasm_bindgen::prelude::*;

use narthex_core::access::oauth::grant::RETRY_MS;
use narthex_core::access::oauth::registrations::{IDLE_MS, UNUSED_MS};
use narthex_core::access::oauth::signing_keys::LIFE_MS;
use narthex_core::access::tenant::FIRST_TENANT;
use narthex_core::base::id::{MAX_SHARDS, Region};
use narthex_core::base::timing::Timing;
use narthex_core::http::egress_address::{Address, Policy, Refusal, check, host_of};
use narthex_core::lane::breaker::MAX_OPEN_MS;
use narthex_core::schedules::LEAST_SECONDS;
use narthex_core::schedules::next_run::LATE_MS;
use narthex_core::webhooks::delivery_queue::PAUSES_MS;

#[wasm_bindgen(module = "/src/platform/boundary.js")]
extern "C" {
    fn environment() -> JsValue;
    #[wasm_bindgen(js_name = serviceBindings)]
    fn service_bindings(env: &JsValue) -> Vec<String>;
}

/// An hour, in milliseconds.
const HOUR_MS: f64 = 3_600_000.0;
/// How long a body may take when nothing else is said, and at most, in milliseconds.
const BODY_MS: u64 = 30_000;
const MAX_BODY_MS: u64 = 300_000;
/// The longest time in which OAuth answers something again, in milliseconds.
const MAX_RETRY_MS: u64 = 300_000;

#[derive(Debug, Default)]
pub struct Settings {
    /// Absent: the gateway refuses to serve.
    pub admin_key: Option<String>,
    /// Development only: services may be on this machine.
    pub allow_loopback: bool,
    pub context_shards: u16,
    pub home_region: Region,
    pub cors_origins: Vec<String>,
    pub event_retention_hours: u64,
    /// Sockets that one object holds before others go to a shard.
    pub hub_sockets: usize,
    /// While there are events, those who watch are looked at again after this, in milliseconds.
    pub socket_check_ms: u64,
    pub context_retention_days: u64,
    pub audit_retention_days: u64,
    /// Where services reach the gateway, when it is not where clients do.
    pub public_url: Option<String>,
    /// The built-in demonstration may be registered, and runs.
    pub demo: bool,
    /// The gateway is an OAuth authorization server.
    pub oauth: bool,
    /// Clients may register themselves there (RFC 7591).
    pub oauth_registration: bool,
    /// Registrations let through from one address in ten minutes.
    pub registrations: u64,
    /// How long a registration stays that was never given a token, and one that was not for as long, in milliseconds.
    pub registration_unused_ms: u64,
    pub registration_idle_ms: u64,
    /// How long one of its keys signs, in milliseconds.
    pub oauth_key_ms: u64,
    /// How long a refresh token is answered again whose answer may have been lost, and a code, in milliseconds.
    pub oauth_retry_ms: u64,
    pub oauth_code_retry_ms: u64,
    /// The pauses between attempts to deliver an event to a webhook, in milliseconds.
    pub webhook_pauses_ms: Vec<u64>,
    /// A schedule's run that is later than this was missed, in milliseconds.
    pub schedule_late_ms: u64,
    /// The shortest interval of a schedule, in seconds.
    pub schedule_least_seconds: u64,
    /// Failed logins let through from one address in a minute.
    pub failed_logins: u64,
    /// The pace, with how long a breaker is open after its first trip.
    pub timing: Timing,
    /// How long a request's body may take to arrive, in milliseconds.
    pub body_timeout_ms: u64,
    /// The Workers that services may be, by the names of their bindings.
    pub bindings: Vec<String>,
    /// Shows what the objects cost at `/v1/costs`, for the benchmark.
    pub count_costs: bool,
    /// Benchmarks only: so many times more is it checked who asks, whether they may and within which limits, to tell
    /// what that costs.
    pub more_checks: u32,
    /// Tests only: paths that panic on purpose.
    pub panic_routes: bool,
}

thread_local! {
    static SETTINGS: OnceCell<Rc<Settings>> = const { OnceCell::new() };
}

fn read(env: &JsValue) -> Settings {
    let text =
        |name: &str| js_sys::Reflect::get(env, &JsValue::from_str(name)).ok().and_then(|value| value.as_string());
    let flag = |name: &str| text(name).is_some_and(|value| value == "true");
    let list = |name: &str| {
        let value = text(name).unwrap_or_default();
        value.split(',').map(str::trim).filter(|part| !part.is_empty()).map(Into::into).collect()
    };
    let seconds = |name: &str, default_ms: u64| {
        let given = text(name).and_then(|seconds| seconds.parse::<f64>().ok());
        given.map_or(default_ms, |seconds| (seconds * 1000.0) as u64).min(MAX_RETRY_MS)
    };
    let span = |name: &str, unit_ms: f64| {
        let count = text(name)?.parse::<f64>().ok().filter(|count| *count > 0.0)?;
        Some(((count * unit_ms) as u64).clamp(1_000, 3650 * 86_400_000))
    };
    Settings {
        admin_key: text("ADMIN_KEY").filter(|key| key.len() >= 16),
        allow_loopback: flag("ALLOW_LOOPBACK"),
        context_shards: text("CONTEXT_SHARDS").and_then(|n| n.parse().ok()).unwrap_or(4).clamp(1, MAX_SHARDS),
        home_region: text("HOME_REGION").and_then(|code| Region::parse(&code)).unwrap_or_default(),
        cors_origins: list("CORS_ORIGINS"),
        event_retention_hours: text("EVENT_RETENTION_HOURS").and_then(|n| n.parse().ok()).unwrap_or(24),
        hub_sockets: text("HUB_SOCKETS").and_then(|n| n.parse().ok()).unwrap_or(2_000).clamp(1, 20_000),
        socket_check_ms: text("SOCKET_CHECK_MS").and_then(|n| n.parse().ok()).unwrap_or(60_000),
        context_retention_days: text("CONTEXT_RETENTION_DAYS")
            .and_then(|n| n.parse().ok())
            .unwrap_or(30)
            .clamp(1, 3650),
        audit_retention_days: text("AUDIT_RETENTION_DAYS").and_then(|n| n.parse().ok()).unwrap_or(90).clamp(1, 3650),
        public_url: text("PUBLIC_URL").map(|url| url.trim_end_matches('/').to_string()).filter(|url| !url.is_empty()),
        demo: text("DEMO").is_none_or(|value| value != "false"),
        oauth: flag("OAUTH"),
        oauth_registration: flag("OAUTH_REGISTRATION"),
        registrations: text("OAUTH_REGISTRATIONS").and_then(|n| n.parse().ok()).unwrap_or(40).clamp(1, 1_000_000),
        registration_unused_ms: span("OAUTH_REGISTRATION_UNUSED_HOURS", HOUR_MS).unwrap_or(UNUSED_MS),
        registration_idle_ms: span("OAUTH_REGISTRATION_IDLE_DAYS", 24.0 * HOUR_MS).unwrap_or(IDLE_MS),
        oauth_key_ms: text("OAUTH_KEY_DAYS")
            .and_then(|days| days.parse::<f64>().ok())
            .map_or(LIFE_MS, |days| (days * 86_400_000.0) as u64)
            .clamp(1_000, 3650 * 86_400_000),
        oauth_retry_ms: seconds("OAUTH_RETRY_SECONDS", RETRY_MS),
        // The standards want none (RFC 6749 §4.1.2): it is there for who prefers it.
        oauth_code_retry_ms: seconds("OAUTH_CODE_RETRY_SECONDS", 0),
        webhook_pauses_ms: text("WEBHOOK_RETRY_SECONDS")
            .and_then(|list| pauses(&list))
            .unwrap_or_else(|| PAUSES_MS.to_vec()),
        schedule_late_ms: text("SCHEDULE_LATE_SECONDS")
            .and_then(|seconds| seconds.parse::<u64>().ok())
            .map_or(LATE_MS, |seconds| seconds.clamp(1, 86_400) * 1000),
        schedule_least_seconds: text("SCHEDULE_LEAST_SECONDS")
            .and_then(|seconds| seconds.parse().ok())
            .unwrap_or(LEAST_SECONDS)
            .clamp(1, 86_400),
        failed_logins: text("FAILED_LOGINS").and_then(|n| n.parse().ok()).unwrap_or(20).clamp(1, 1_000_000),
        timing: pace(text("TIME_SCALE"), text("BREAKER_OPEN_MS")),
        body_timeout_ms: text("BODY_TIMEOUT_MS")
            .and_then(|n| n.parse().ok())
            .unwrap_or(BODY_MS)
            .clamp(100, MAX_BODY_MS),
        bindings: service_bindings(env),
        count_costs: flag("COUNT_COSTS"),
        more_checks: text("MORE_CHECKS").and_then(|n| n.parse().ok()).unwrap_or(0).min(1_000),
        panic_routes: flag("PANIC_ROUTES"),
    }
}

/// The pace at a fraction of its length. How long a breaker stays open has a setting of its own.
fn pace(scale: Option<String>, open_ms: Option<String>) -> Timing {
    let timing = scale.and_then(|scale| scale.parse().ok()).map_or(Timing::DEFAULT, Timing::scaled);
    let open_ms = open_ms.and_then(|n| n.parse().ok()).unwrap_or(Timing::DEFAULT.breaker_open_ms);
    Timing { breaker_open_ms: open_ms.clamp(100, MAX_OPEN_MS), ..timing }
}

/// Seconds, by commas, in milliseconds.
fn pauses(list: &str) -> Option<Vec<u64>> {
    let pause = |text: &str| {
        let seconds = text.trim().parse::<f64>().ok().filter(|seconds| (0.0..=86_400.0).contains(seconds))?;
        Some((seconds * 1000.0) as u64)
    };
    list.split(',').map(pause).collect()
}

/// Whether the built-in demonstration is on; true before this isolate has served anything.
pub fn demo() -> bool {
    SETTINGS.with(|cell| cell.get().is_none_or(|settings| settings.demo))
}

pub fn of(env: &JsValue) -> Rc<Settings> {
    SETTINGS.with(|cell| cell.get_or_init(|| Rc::new(read(env))).clone())
}

/// The same where no environment is at hand.
pub fn current() -> Rc<Settings> {
    SETTINGS.with(|cell| cell.get_or_init(|| Rc::new(read(&environment()))).clone())
}

/// The pace.
pub fn timing() -> Timing {
    current().timing
}

impl Settings {
    /// Which addresses may be called.
    pub fn addresses(&self) -> Policy {
        Policy { allow_loopback: self.allow_loopback }
    }

    /// Checks an address that is to be called now: what was stored may be older than the rules. `origin` is where the
    /// gateway was reached, as far as that is known.
    ///
    /// # Errors
    /// The rules refuse it.
    pub fn may_call(&self, address: &str, origin: Option<&str>) -> Result<Address, Refusal> {
        let own: Vec<&str> = [origin, self.public_url.as_deref()].into_iter().flatten().map(host_of).collect();
        check(address, self.addresses(), &own)
    }
    /// The service bindings that a tenant's services may name. They belong to the deployment, so only its first tenant's
    /// may.
    pub fn bindings_of(&self, tenant: &str) -> Option<&[String]> {
        (tenant == FIRST_TENANT).then_some(self.bindings.as_slice())
    }

    /// The address of a path behind a service binding, where the tenant may use the binding and the deployment has it.
    ///
    /// # Errors
    /// The rules refuse it.
    pub fn binding_address(&self, tenant: &str, binding: &str, path: &str) -> Result<Address, Refusal> {
        Address::bound(binding, path, self.bindings_of(tenant))
    }
}
