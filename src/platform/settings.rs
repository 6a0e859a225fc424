//! What the deployment is configured with: the Worker's variables and secrets, read once per isolate.

use std::cell::OnceCell;
use std::fmt;
use std::ops::RangeInclusive;
use std::rc::Rc;

use wasm_bindgen::prelude::*;

use narthex_core::access::oauth::grant::RETRY_MS;
use narthex_core::access::oauth::registrations::{IDLE_MS, UNUSED_MS};
use narthex_core::access::oauth::signing_keys::LIFE_MS;
use narthex_core::access::tenant::FIRST_TENANT;
use narthex_core::base::id::{MAX_SHARDS, Region};
use narthex_core::base::timing::Timing;
use narthex_core::http::egress_address::{Address, AddressError, Policy, check, host_of};
use narthex_core::http::problem::{Code, Problem};
use narthex_core::lane::breaker::MAX_OPEN_MS;
use narthex_core::schedules::MIN_INTERVAL_SECONDS;
use narthex_core::schedules::next_run::LATE_MS;
use narthex_core::webhooks::delivery_queue::PAUSES_MS;

mod reader;
#[cfg(test)]
mod tests;

use super::log_event;
pub use reader::ConfigError;
use reader::{DAYS, HOURS, Reader, SECONDS};

#[wasm_bindgen(module = "/src/platform/boundary.js")]
extern "C" {
    fn environment() -> JsValue;
    #[wasm_bindgen(js_name = serviceBindings)]
    fn service_bindings(env: &JsValue) -> Vec<String>;
}

const DAY_MS: u64 = 86_400_000;
/// The longest that anything is kept, in days.
const MAX_DAYS: u64 = 3_650;
/// How long keys and registrations may live, in milliseconds.
const SPAN_MS: RangeInclusive<u64> = 1_000..=MAX_DAYS * DAY_MS;
/// How long a body may take when nothing else is said, and at most, in milliseconds.
const BODY_MS: u64 = 30_000;
const MAX_BODY_MS: u64 = 300_000;
/// The longest time in which OAuth answers something again, in milliseconds.
const MAX_RETRY_MS: u64 = 300_000;

#[derive(Debug, Default, PartialEq)]
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
    /// Variables that are not valid: requests that need credentials are rejected.
    pub errors: Vec<ConfigError>,
}

thread_local! {
    static SETTINGS: OnceCell<Rc<Settings>> = const { OnceCell::new() };
}

/// The text of a variable. One that is a number or a flag in the deployment's configuration is read like its text.
fn variable(env: &JsValue, name: &str) -> Option<String> {
    let value = js_sys::Reflect::get(env, &JsValue::from_str(name)).ok()?;
    if value.is_undefined() || value.is_null() {
        return None;
    }
    let text = value.as_string().or_else(|| value.as_bool().map(|flag| flag.to_string()));
    text.or_else(|| js_sys::JSON::stringify(&value).ok()?.as_string()).or_else(|| Some("?".into()))
}

fn read(env: &JsValue) -> Rc<Settings> {
    let settings = from_variables(&|name| variable(env, name));
    for error in &settings.errors {
        let detail = error.to_string();
        log_event!(SettingNotValid, variable = error.variable, value = &error.value, detail = detail);
    }
    Rc::new(Settings { bindings: service_bindings(env), ..settings })
}

/// The settings that these variables give; those that are not valid are in `errors`.
fn from_variables(source: &dyn Fn(&str) -> Option<String>) -> Settings {
    let read = Reader::new(source);
    let settings = Settings {
        // As it is: whoever presents it has the same text.
        admin_key: source("ADMIN_KEY").filter(|key| key.len() >= 16),
        allow_loopback: read.flag("ALLOW_LOOPBACK", false),
        context_shards: read.whole("CONTEXT_SHARDS", 4, 1..=MAX_SHARDS.into()) as u16,
        home_region: read.region("HOME_REGION"),
        cors_origins: read.origins("CORS_ORIGINS"),
        event_retention_hours: read.retention("EVENT_RETENTION_HOURS", 24, 1..=24 * MAX_DAYS),
        hub_sockets: read.whole("HUB_SOCKETS", 2_000, 1..=20_000) as usize,
        socket_check_ms: read.whole("SOCKET_CHECK_MS", 60_000, 1..=3_600_000),
        context_retention_days: read.retention("CONTEXT_RETENTION_DAYS", 30, 1..=MAX_DAYS),
        audit_retention_days: read.retention("AUDIT_RETENTION_DAYS", 90, 1..=MAX_DAYS),
        public_url: read.url("PUBLIC_URL"),
        demo: read.flag("DEMO", true),
        oauth: read.flag("OAUTH", false),
        oauth_registration: read.flag("OAUTH_REGISTRATION", false),
        registrations: read.whole("OAUTH_REGISTRATIONS", 40, 1..=1_000_000),
        registration_unused_ms: read.span("OAUTH_REGISTRATION_UNUSED_HOURS", HOURS, UNUSED_MS, SPAN_MS),
        registration_idle_ms: read.span("OAUTH_REGISTRATION_IDLE_DAYS", DAYS, IDLE_MS, SPAN_MS),
        oauth_key_ms: read.span("OAUTH_KEY_DAYS", DAYS, LIFE_MS, SPAN_MS),
        oauth_retry_ms: read.span("OAUTH_RETRY_SECONDS", SECONDS, RETRY_MS, 0..=MAX_RETRY_MS),
        // The standards want none (RFC 6749 §4.1.2): it is there for who prefers it.
        oauth_code_retry_ms: read.span("OAUTH_CODE_RETRY_SECONDS", SECONDS, 0, 0..=MAX_RETRY_MS),
        webhook_pauses_ms: read.spans("WEBHOOK_RETRY_SECONDS", SECONDS, &PAUSES_MS, DAY_MS),
        schedule_late_ms: read.whole("SCHEDULE_LATE_SECONDS", LATE_MS / 1000, 1..=86_400) * 1000,
        schedule_least_seconds: read.whole("SCHEDULE_LEAST_SECONDS", MIN_INTERVAL_SECONDS, 1..=86_400),
        failed_logins: read.whole("FAILED_LOGINS", 20, 1..=1_000_000),
        timing: pace(&read),
        body_timeout_ms: read.whole("BODY_TIMEOUT_MS", BODY_MS, 100..=MAX_BODY_MS),
        bindings: Vec::new(),
        count_costs: read.flag("COUNT_COSTS", false),
        errors: Vec::new(),
    };
    Settings { errors: read.errors(), ..settings }
}

/// The pace at a fraction of its length. How long a breaker stays open has a variable of its own.
fn pace(read: &Reader) -> Timing {
    let scale = read.fraction("TIME_SCALE", Timing::SCALES);
    let timing = scale.map_or(Timing::DEFAULT, Timing::scaled);
    let breaker_open_ms = read.whole("BREAKER_OPEN_MS", Timing::DEFAULT.breaker_open_ms, 100..=MAX_OPEN_MS);
    Timing { breaker_open_ms, ..timing }
}

/// Whether the built-in demonstration is on; true before this isolate has served anything.
pub fn demo() -> bool {
    SETTINGS.with(|cell| cell.get().is_none_or(|settings| settings.demo))
}

pub fn of(env: &JsValue) -> Rc<Settings> {
    SETTINGS.with(|cell| cell.get_or_init(|| read(env)).clone())
}

/// The same where no environment is at hand.
pub fn current() -> Rc<Settings> {
    SETTINGS.with(|cell| cell.get_or_init(|| read(&environment())).clone())
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} must be {}", self.variable, self.allowed)
    }
}

/// The pace.
pub fn timing() -> Timing {
    current().timing
}

impl Settings {
    /// Nothing is decided with settings that are not as the operator meant them. The values are in the log only:
    /// whoever asks is not known yet.
    ///
    /// # Errors
    /// Some variables are not valid; the problem names them.
    pub fn check(&self) -> Result<(), Problem> {
        if self.errors.is_empty() {
            return Ok(());
        }
        let errors: Vec<String> = self.errors.iter().map(ConfigError::to_string).collect();
        let detail =
            format!("Variables of this gateway are not valid: {}. Correct them and deploy again.", errors.join("; "));
        Err(Problem::new(Code::NotConfigured, detail))
    }

    /// Which addresses may be called.
    pub fn addresses(&self) -> Policy {
        Policy { allow_loopback: self.allow_loopback }
    }

    /// Checks an address that is to be called now: what was stored may be older than the rules. `origin` is where the
    /// gateway was reached, as far as that is known.
    ///
    /// # Errors
    /// The rules refuse it.
    pub fn may_call(&self, address: &str, origin: Option<&str>) -> Result<Address, AddressError> {
        let own: Vec<&str> = [origin, self.public_url.as_deref()].into_iter().flatten().map(host_of).collect();
        check(address, self.addresses(), &own)
    }
    /// The service bindings that a tenant's services may name. They belong to the deployment, so only its first
    /// tenant's may.
    pub fn bindings_of(&self, tenant: &str) -> Option<&[String]> {
        (tenant == FIRST_TENANT).then_some(self.bindings.as_slice())
    }

    /// The address of a path behind a service binding, where the tenant may use the binding and the deployment has it.
    ///
    /// # Errors
    /// The rules refuse it.
    pub fn binding_address(&self, tenant: &str, binding: &str, path: &str) -> Result<Address, AddressError> {
        Address::bound(binding, path, self.bindings_of(tenant))
    }
}
