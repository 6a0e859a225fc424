//! Schedules: contexts that are created automatically, at times of day or at intervals.
//!
//! Time zones come from the platform, as offsets. A run becomes a context elsewhere (`src/gateway/schedules`).

mod civil;
mod cron;
pub mod next_run;
pub mod run_state;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::base::json::{Fault, Object};
use crate::base::principal_id::PrincipalId;
use crate::base::time::Timestamp;
use crate::context::create_request::{self, NewContext};
use cron::Cron;
use next_run::{MissedRuns, Plan};

/// The default minimum interval, in seconds.
pub const MIN_INTERVAL_SECONDS: u64 = 10;
const MAX_SECONDS: u64 = 31_536_000;

/// How many runs a schedule shows, past and next.
pub const RUNS_SHOWN: usize = 5;

/// A schedule as stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Schedule {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_seconds: Option<u64>,
    #[serde(default)]
    pub description: String,
    /// The context to create, as submitted.
    pub context: Box<RawValue>,
    pub missed: MissedRuns,
    pub enabled: bool,
    /// The principal of its contexts; permissions are checked at each run.
    #[serde(default = "no_principal")]
    pub principal: PrincipalId,
    /// The origin at which services reach the gateway.
    #[serde(default)]
    pub origin: String,
}

/// The principal of a schedule until the gateway sets it.
fn no_principal() -> PrincipalId {
    PrincipalId::from_stored("")
}

impl Schedule {
    /// When it runs; `from` is when it was written.
    pub fn plan(&self, from: Timestamp) -> Plan {
        match (&self.cron, self.interval_seconds) {
            (None, Some(seconds)) => Plan::Every { seconds, from },
            _ => Plan::Cron {
                cron: self.cron.clone().unwrap_or_default(),
                zone: self.time_zone.clone().unwrap_or_else(|| "UTC".into()),
            },
        }
    }
}

/// Faults relative to the document's member `context`.
pub fn within_context(faults: Vec<Fault>) -> Vec<Fault> {
    let moved = |fault: Fault| match fault.pointer.strip_prefix('#') {
        Some(rest) => Fault::new(format!("#/context{rest}"), fault.detail),
        None => fault,
    };
    faults.into_iter().map(moved).collect()
}

/// Reads the context that a schedule creates.
pub fn read_context(context: &RawValue) -> Result<NewContext<'_>, Vec<Fault>> {
    let new = create_request::read(context.get()).map_err(within_context)?;
    match new.run_at {
        Some(_) => Err(vec![Fault::new("#/context/run_at", "is not allowed here: the schedule determines the time")]),
        None => Ok(new),
    }
}

/// Reads a document that has passed `json::check`, with all its faults. `is_zone` knows the time zones; `least` is the
/// minimum interval in seconds.
pub fn read(text: &str, least: u64, is_zone: impl Fn(&str) -> bool) -> Result<Schedule, Vec<Fault>> {
    let mut body = Object::new(text, "#").map_err(|fault| vec![fault])?;
    let cron = body.string("cron", 1..=1000).filter(|text| match Cron::parse(text) {
        Ok(_) => true,
        Err(refused) => {
            body.fault("cron", format!("is not a cron expression such as 0 8 * * 1-5: {refused}"));
            false
        }
    });
    let named = |text: &str| (text.len() <= 64 && is_zone(text)).then(|| text.to_string());
    let time_zone = body.parsed("time_zone", "the name of a time zone, such as Europe/Berlin", named);
    let interval = body.raw("interval_seconds").map(|raw| serde_json::from_str::<u64>(raw.get()).unwrap_or(0));
    let interval_seconds = interval.filter(|seconds| (least..=MAX_SECONDS).contains(seconds));
    if interval.is_some() && interval_seconds.is_none() {
        body.fault("interval_seconds", format!("must be an integer from {least} to {MAX_SECONDS}"));
    }
    let description = body.string("description", 0..=1000).unwrap_or_default();
    let missed = body.parsed("missed", "skip, run_once or run_all", MissedRuns::parse).unwrap_or_default();
    let enabled = body.boolean("enabled").unwrap_or(true);
    if interval_seconds.is_some() && (cron.is_some() || time_zone.is_some()) {
        body.fault("interval_seconds", "cannot be combined with cron or time_zone");
    } else if cron.is_none() && interval.is_none() {
        body.require::<()>("cron", None);
    }
    let context = body.raw("context");
    let context = body.require("context", context);
    if let Some(Err(faults)) = context.map(read_context) {
        body.faults(faults);
    }
    let faults = body.finish();
    match context {
        Some(context) if faults.is_empty() => Ok(Schedule {
            cron,
            time_zone,
            interval_seconds,
            description,
            context: context.to_owned(),
            missed,
            enabled,
            principal: no_principal(),
            origin: String::new(),
        }),
        _ => Err(faults),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_read_with_all_its_faults() {
        let read = |text| read(text, MIN_INTERVAL_SECONDS, |zone| zone == "Europe/Berlin");
        let least = read(r#"{"cron":"0 8 * * 1-5","context":{"capability":"a"}}"#).unwrap();
        assert_eq!((least.missed, least.enabled), (MissedRuns::Skip, true));
        let plan = Plan::Cron { cron: "0 8 * * 1-5".into(), zone: "UTC".into() };
        assert_eq!(least.plan(Timestamp(5)), plan);
        let every = read(r#"{"interval_seconds":10,"missed":"run_all","context":{"capability":"a"}}"#).unwrap();
        assert_eq!(every.plan(Timestamp(5)), Plan::Every { seconds: 10, from: Timestamp(5) });
        let pointers = |text| {
            let mut found: Vec<String> = read(text).unwrap_err().into_iter().map(|fault| fault.pointer).collect();
            found.sort();
            found.join(" ")
        };
        assert_eq!(pointers("{}"), "#/context #/cron");
        let text = r#"{"cron":"x","time_zone":"Mars","missed":"no","context":{"capability":"a","run_at":1},"more":1}"#;
        assert_eq!(pointers(text), "#/context/run_at #/cron #/missed #/more #/time_zone");
        let faults = read(r#"{"cron":"0 25 * * *","context":{"capability":"a"}}"#).unwrap_err();
        assert!(faults[0].detail.ends_with("the hour is 25, and must be from 0 to 23"), "{}", faults[0].detail);
        let text = r#"{"interval_seconds":9,"context":{"source":"x"}}"#;
        assert_eq!(pointers(text), "#/context/capability #/context/source #/interval_seconds");
        let text = r#"{"cron":"* * * * *","interval_seconds":60,"context":{"capability":"a","run_at":"2026-12-01T00:00:00Z"}}"#;
        assert_eq!(pointers(text), "#/context/run_at #/interval_seconds");
    }
}
