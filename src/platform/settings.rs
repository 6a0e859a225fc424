//! The configuration of the deployment: the variables and secrets of the Worker, read once per isolate.

use std::cell::OnceCell;
use std::fmt;
use std::ops::RangeInclusive;
use std::rc::Rc;

use wasm_bindgen::prelude::*;

use narthex_core::access::oauth::grant::RETRY_MS;
use narthex_core::access::oauth::registrations::{IDLE_MS, UNUSED_MS};
use narthex_core::access::oauth::signing_keys::LIFE_MS;
use narthex_core::base::id::{MAX_SHARDS, Region};
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::timing::Timing;
use narthex_core::http::client_address::AddressSource;
use narthex_core::http::egress_address::{Address, AddressError, Origin, Policy, check, host_of};
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

#[wasm_bindgen(module = "/src/platform/settings.js")]
extern "C" {
    fn environment() -> JsValue;
    #[wasm_bindgen(js_name = serviceBindings)]
    fn service_bindings(env: &JsValue) -> Vec<String>;
    #[wasm_bindgen(js_name = builtFrom)]
    fn built_from() -> Option<String>;
}

const DAY_MS: u64 = 86_400_000;
/// The maximum retention, in days.
const MAX_DAYS: u64 = 3_650;
/// The allowed lifetimes of keys and registrations, in milliseconds.
const LIFETIME_MS: RangeInclusive<u64> = 1_000..=MAX_DAYS * DAY_MS;
/// The default and the maximum time for a body to arrive, in milliseconds.
const DEFAULT_BODY_TIMEOUT_MS: u64 = 30_000;
const MAX_BODY_TIMEOUT_MS: u64 = 300_000;
/// The default and the maximum size of a request for a model, in bytes.
const MAX_MODEL_BODY_BYTES: u64 = 32 * 1024 * 1024;
/// The maximum time in which OAuth repeats a response, in milliseconds.
const MAX_RETRY_MS: u64 = 300_000;

#[derive(Debug, Default, PartialEq)]
pub struct Settings {
    /// If absent, requests that need credentials are rejected.
    pub admin_key: Option<String>,
    /// For development: services may be on this machine.
    pub allow_loopback: bool,
    /// Origins that services, issuers and webhooks may have beside public ones.
    pub allowed_origins: Vec<Origin>,
    /// The gateway runs without Cloudflare, by the program `narthex serve`.
    pub standalone: bool,
    /// The header in which a trusted proxy states the client's address, in lower case.
    pub client_ip_header: Option<String>,
    pub context_shards: u16,
    pub home_region: Region,
    pub cors_origins: Vec<String>,
    pub event_retention_hours: u64,
    /// The number of sockets that the hub holds before new ones go to a shard.
    pub hub_sockets: usize,
    /// While events arrive, the permissions of their subscribers are checked this often, in milliseconds.
    pub socket_check_ms: u64,
    pub context_retention_days: u64,
    pub audit_retention_days: u64,
    /// The address at which services reach the gateway, if it differs from that of clients.
    pub public_url: Option<String>,
    /// The built-in demonstration can be registered and run.
    pub demo: bool,
    /// The gateway is an OAuth authorization server.
    pub oauth: bool,
    /// Clients may register themselves (RFC 7591).
    pub oauth_registration: bool,
    /// The maximum number of registrations from one address in ten minutes.
    pub registrations: u64,
    /// How long a registration is kept without ever getting a token, and after its last token, in milliseconds.
    pub registration_unused_ms: u64,
    pub registration_idle_ms: u64,
    /// How long a signing key of OAuth is used, in milliseconds.
    pub oauth_key_ms: u64,
    /// How long a refresh token and a code can be used again, as the response may have been lost, in milliseconds.
    pub oauth_retry_ms: u64,
    pub oauth_code_retry_ms: u64,
    /// The pauses between attempts to deliver an event to a webhook, in milliseconds.
    pub webhook_pauses_ms: Vec<u64>,
    /// A run of a schedule that is later than this was missed, in milliseconds.
    pub schedule_late_ms: u64,
    /// The shortest interval of a schedule, in seconds.
    pub schedule_min_seconds: u64,
    /// The maximum number of failed logins from one address in a minute; with one key, if addresses are not known.
    pub failed_logins: u64,
    /// The pace, with `BREAKER_OPEN_MS` applied.
    pub timing: Timing,
    /// How long the body of a request may take to arrive, in milliseconds.
    pub body_timeout_ms: u64,
    /// The largest body of a request for a model, in bytes.
    pub model_body_bytes: u64,
    /// The names of the service bindings, which services may use.
    pub bindings: Vec<String>,
    /// The commit that the Worker was built from: 40 hexadecimal digits, if known.
    pub commit: Option<String>,
    /// Publishes the costs of the objects at `/v1/costs`, for the benchmark.
    pub count_costs: bool,
    /// The invalid variables: requests that need credentials are rejected.
    pub errors: Vec<ConfigError>,
}

thread_local! {
    static SETTINGS: OnceCell<Rc<Settings>> = const { OnceCell::new() };
}

/// The text of a variable. Numbers and flags of the configuration are read as their text.
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
    Rc::new(Settings { bindings: service_bindings(env), commit: built_from(), ..settings })
}

/// The settings by these variables. `errors` lists the invalid ones.
fn from_variables(source: &dyn Fn(&str) -> Option<String>) -> Settings {
    let read = Reader::new(source);
    let settings = Settings {
        // Not trimmed, as it is compared with what clients present.
        admin_key: source("ADMIN_KEY").filter(|key| key.len() >= 16),
        allow_loopback: read.flag("ALLOW_LOOPBACK", false),
        allowed_origins: read.allowed_origins("ALLOWED_ORIGINS"),
        standalone: read.flag("STANDALONE", false),
        client_ip_header: read.address_header("CLIENT_IP_HEADER"),
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
        registration_unused_ms: read.span("OAUTH_REGISTRATION_UNUSED_HOURS", HOURS, UNUSED_MS, LIFETIME_MS),
        registration_idle_ms: read.span("OAUTH_REGISTRATION_IDLE_DAYS", DAYS, IDLE_MS, LIFETIME_MS),
        oauth_key_ms: read.span("OAUTH_KEY_DAYS", DAYS, LIFE_MS, LIFETIME_MS),
        oauth_retry_ms: read.span("OAUTH_RETRY_SECONDS", SECONDS, RETRY_MS, 0..=MAX_RETRY_MS),
        // The standards allow none (RFC 6749 §4.1.2); operators can choose otherwise.
        oauth_code_retry_ms: read.span("OAUTH_CODE_RETRY_SECONDS", SECONDS, 0, 0..=MAX_RETRY_MS),
        webhook_pauses_ms: read.spans("WEBHOOK_RETRY_SECONDS", SECONDS, &PAUSES_MS, DAY_MS),
        schedule_late_ms: read.whole("SCHEDULE_LATE_SECONDS", LATE_MS / 1000, 1..=86_400) * 1000,
        schedule_min_seconds: read.whole("SCHEDULE_LEAST_SECONDS", MIN_INTERVAL_SECONDS, 1..=86_400),
        failed_logins: read.whole("FAILED_LOGINS", 20, 1..=1_000_000),
        timing: timing_of(&read),
        body_timeout_ms: read.whole("BODY_TIMEOUT_MS", DEFAULT_BODY_TIMEOUT_MS, 100..=MAX_BODY_TIMEOUT_MS),
        model_body_bytes: read.whole("MODEL_BODY_BYTES", MAX_MODEL_BODY_BYTES, 1024..=MAX_MODEL_BODY_BYTES),
        bindings: Vec::new(),
        commit: None,
        count_costs: read.flag("COUNT_COSTS", false),
        errors: Vec::new(),
    };
    Settings { errors: read.errors(), ..settings }
}

/// The pace at `TIME_SCALE`. A breaker has a variable of its own.
fn timing_of(read: &Reader) -> Timing {
    let scale = read.fraction("TIME_SCALE", Timing::SCALES);
    let timing = scale.map_or(Timing::DEFAULT, Timing::scaled);
    let breaker_open_ms = read.whole("BREAKER_OPEN_MS", Timing::DEFAULT.breaker_open_ms, 100..=MAX_OPEN_MS);
    Timing { breaker_open_ms, ..timing }
}

/// Whether the built-in demonstration is enabled; true before the first request of this isolate.
pub fn demo() -> bool {
    SETTINGS.with(|cell| cell.get().is_none_or(|settings| settings.demo))
}

pub fn of(env: &JsValue) -> Rc<Settings> {
    SETTINGS.with(|cell| cell.get_or_init(|| read(env)).clone())
}

/// The settings, where the environment is not at hand.
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
    /// Rejects requests while variables are invalid. The values appear only in the log, as the client is not
    /// authenticated yet.
    ///
    /// # Errors
    /// Some variables are invalid; the problem names them.
    pub fn check(&self) -> Result<(), Problem> {
        if self.errors.is_empty() {
            return Ok(());
        }
        let errors: Vec<String> = self.errors.iter().map(ConfigError::to_string).collect();
        let detail =
            format!("Variables of this gateway are not valid: {}. Correct them and deploy again.", errors.join("; "));
        Err(Problem::new(Code::NotConfigured, detail))
    }

    /// Where the addresses of clients come from.
    pub fn client_addresses(&self) -> AddressSource<'_> {
        AddressSource { standalone: self.standalone, header: self.client_ip_header.as_deref() }
    }

    /// The rules for addresses that may be called.
    pub fn addresses(&self) -> Policy<'_> {
        Policy { allow_loopback: self.allow_loopback, origins: &self.allowed_origins }
    }

    /// Checks an address before a call: the rules may have changed since it was stored. `origin` is the address at
    /// which the gateway was called, if known.
    ///
    /// # Errors
    /// The rules forbid it.
    pub fn may_call(&self, address: &str, origin: Option<&str>) -> Result<Address, AddressError> {
        self.may_call_under(self.addresses(), address, origin)
    }

    /// As [`Settings::may_call`], for an address that a stranger named.
    ///
    /// # Errors
    /// The rules forbid it.
    pub fn may_call_for_stranger(&self, address: &str, origin: Option<&str>) -> Result<Address, AddressError> {
        self.may_call_under(self.addresses().for_strangers(), address, origin)
    }

    fn may_call_under(&self, policy: Policy<'_>, address: &str, origin: Option<&str>) -> Result<Address, AddressError> {
        let own: Vec<&str> = [origin, self.public_url.as_deref()].into_iter().flatten().map(host_of).collect();
        check(address, policy, &own)
    }

    /// The service bindings that the services of a tenant may name. They belong to the deployment, so only its first
    /// tenant may.
    pub fn bindings_of(&self, tenant: &TenantId) -> Option<&[String]> {
        tenant.is_first().then_some(self.bindings.as_slice())
    }

    /// The address of a path behind a service binding, if the tenant may use the binding and the deployment has it.
    ///
    /// # Errors
    /// The rules forbid it.
    pub fn binding_address(&self, tenant: &TenantId, binding: &str, path: &str) -> Result<Address, AddressError> {
        Address::bound(binding, path, self.bindings_of(tenant))
    }
}
