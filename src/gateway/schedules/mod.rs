//! `/v1/schedules`: contexts that are created by themselves. They are configured in the registry; the scheduler knows
//! when they run, and `running.rs` makes the runs.

mod running;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::execution::schedules::{call_scheduler, configure, read};
use crate::objects::registry::messages::{Ask, DocumentKind, Reply, StoredDocument};
use crate::objects::registry::snapshot::{self, Snapshot};
use crate::objects::schedules::messages::{Ask as SchedulerAsk, Reply as SchedulerReply};
use crate::platform::{clock, log_event, zones};
use narthex_core::base::time::{Timestamp, as_text};
use narthex_core::context::create_request::NewContext;
use narthex_core::context::status::Source;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::schedules::next_run::Missed;
use narthex_core::schedules::run_state::{PastRun, RunOutcome};
use narthex_core::schedules::{self, RUNS_SHOWN, Schedule, read_context, within_context};

use super::answer::{Answer, internal};
use super::call::{Call, Caller};
use super::decision::{Coming, decide};
use super::lists::page;
use super::roles::etag;
use super::services::{ask_registry, checked_id, refusal, text};

pub use running::run;

/// Schedules a tenant may have.
const MAX_SCHEDULES: usize = 200;

#[derive(Serialize)]
struct View<'a> {
    id: &'a str,
    cron: Option<&'a str>,
    time_zone: Option<&'a str>,
    interval_seconds: Option<u64>,
    description: &'a str,
    context: &'a RawValue,
    missed: Missed,
    enabled: bool,
    principal: &'a str,
    next_runs: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_runs: Option<Vec<PastView<'a>>>,
    #[serde(serialize_with = "as_text")]
    created_at: Timestamp,
    #[serde(serialize_with = "as_text")]
    updated_at: Timestamp,
}

#[derive(Serialize)]
struct PastView<'a> {
    #[serde(serialize_with = "as_text")]
    planned_at: Timestamp,
    outcome: &'static str,
    context_id: Option<&'a str>,
    code: Option<&'a str>,
    detail: Option<&'a str>,
}

fn past_view(past: &PastRun) -> PastView<'_> {
    let nothing =
        PastView { planned_at: past.planned_at, outcome: "missed", context_id: None, code: None, detail: None };
    match &past.outcome {
        RunOutcome::Created { context } => PastView { outcome: "created", context_id: Some(context), ..nothing },
        RunOutcome::Refused { code, detail } => {
            PastView { outcome: "refused", code: Some(code), detail: Some(detail), ..nothing }
        }
        RunOutcome::Missed => nothing,
    }
}

fn view<'a>(stored: &'a StoredDocument, schedule: &'a Schedule) -> View<'a> {
    let offsets = |zone: &str, at| zones::offset(zone, at).unwrap_or(0);
    let plan = schedule.plan(stored.updated_at);
    let mut next_runs = Vec::new();
    let mut at = clock::now();
    while let Some(next) = plan.next(at, &offsets).filter(|_| schedule.enabled && next_runs.len() < RUNS_SHOWN) {
        next_runs.push(next.text());
        at = next;
    }
    View {
        id: &stored.id,
        cron: schedule.cron.as_deref(),
        time_zone: schedule.cron.as_ref().map(|_| schedule.time_zone.as_deref().unwrap_or("UTC")),
        interval_seconds: schedule.interval_seconds,
        description: &schedule.description,
        context: &schedule.context,
        missed: schedule.missed,
        enabled: schedule.enabled,
        principal: &schedule.principal,
        next_runs,
        last_runs: None,
        created_at: stored.created_at,
        updated_at: stored.updated_at,
    }
}

fn find<'s>(snapshot: &'s Snapshot, id: &str) -> Result<(&'s StoredDocument, Schedule), Problem> {
    let stored = snapshot.documents(DocumentKind::Schedule).find(|stored| stored.id == id);
    stored.and_then(|stored| Some((stored, read(stored)?))).ok_or_else(|| Problem::not_found("schedule"))
}

/// Whether its writer could create now what it is to create.
fn creatable(call: &Call, caller: &Caller, schedule: &Schedule) -> Result<(), Problem> {
    let new = read_context(&schedule.context).map_err(Problem::invalid)?;
    let new = NewContext { source: Source::Scheduled, ..new };
    match decide(&Coming::by(call), &caller.principal, &caller.snapshot, &new) {
        Ok(_) => Ok(()),
        // Nobody takes work just now: that is no reason not to plan some.
        Err(problem) if problem.code == Code::NoServiceAvailable => Ok(()),
        Err(problem) => {
            let errors = within_context(problem.errors);
            Err(Problem { errors, ..problem })
        }
    }
}

pub async fn put(call: &Call, caller: &Caller, name: &str) -> Result<Answer, Problem> {
    let id = checked_id(name)?;
    let condition = call.condition()?;
    let document = text(call.json_body().await?);
    let is_zone = |zone: &str| zones::offset(zone, clock::now()).is_some();
    let schedule = schedules::read(&document, call.settings.schedule_min_seconds, is_zone).map_err(Problem::invalid)?;
    // A token that acts for who has a key is called as the key is.
    if !caller.principal.principal.starts_with("key:") || !caller.principal.from.is_empty() {
        let detail = "A schedule runs in the name of an API key; what a token may ends with it. Write it with a key.";
        return Err(Problem::new(Code::Conflict, detail));
    }
    creatable(call, caller, &schedule)?;
    if find(&caller.snapshot, &id).is_err()
        && caller.snapshot.documents(DocumentKind::Schedule).count() >= MAX_SCHEDULES
    {
        return Err(Problem::new(
            Code::Conflict,
            format!("There are {MAX_SCHEDULES} schedules already: delete one first."),
        ));
    }
    let principal = caller.principal.principal.clone();
    let schedule = Schedule { principal, origin: Coming::by(call).origin, ..schedule };
    let document = to_raw_value(&schedule).map_err(|error| Problem::internal(error.to_string()))?;
    match ask_registry(caller, Ask::Put { kind: DocumentKind::Schedule, id, document, condition }).await? {
        Reply::Document { stored, created } => {
            tell_scheduler(caller).await;
            let body = View { last_runs: Some(Vec::new()), ..view(&stored, &schedule) };
            let answer = Answer::json(if created { 201 } else { 200 }, &body)?.with("etag", &etag(&stored));
            Ok(if created { answer.with("location", &format!("/v1/schedules/{name}")) } else { answer })
        }
        other => Err(refusal(other, "schedule")),
    }
}

/// The scheduler is to know before the writer is answered; when it cannot be reached, the next sweep tells it.
async fn tell_scheduler(caller: &Caller) {
    let tenant = &caller.principal.tenant;
    let told = async { configure(tenant, &*snapshot::refreshed(tenant).await?).await };
    if let Err(failure) = told.await {
        log_event!(SchedulerNotNotified, tenant = tenant, detail = &failure);
    }
}

pub async fn delete(call: &Call, caller: &Caller, name: &str) -> Result<Answer, Problem> {
    let ask = Ask::Delete { kind: DocumentKind::Schedule, id: name.into(), condition: call.condition()? };
    match ask_registry(caller, ask).await? {
        Reply::Done => {
            tell_scheduler(caller).await;
            Ok(Answer::empty(204))
        }
        other => Err(refusal(other, "schedule")),
    }
}

pub async fn get(caller: &Caller, name: &str) -> Result<Answer, Problem> {
    let (stored, schedule) = find(&caller.snapshot, name)?;
    let ask = SchedulerAsk::Past { schedule: name.into() };
    let SchedulerReply::Past(past) = call_scheduler(&caller.principal.tenant, &ask).await.map_err(internal)? else {
        return Err(Problem::internal("the scheduler answered something else"));
    };
    let body = View { last_runs: Some(past.iter().map(past_view).collect()), ..view(stored, &schedule) };
    Ok(Answer::json(200, &body)?.with("etag", &etag(stored)))
}

pub async fn list(call: &Call, caller: &Caller) -> Result<Answer, Problem> {
    call.only_query(&[])?;
    let all: Vec<(&StoredDocument, Schedule)> =
        caller.snapshot.documents(DocumentKind::Schedule).filter_map(|stored| Some((stored, read(stored)?))).collect();
    let data: Vec<View<'_>> = all.iter().map(|(stored, schedule)| view(stored, schedule)).collect();
    page(call, &data, None)
}
