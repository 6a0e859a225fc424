//! `/v1/schedules`: contexts that are created by themselves. They are configured in the registry; the scheduler knows
//! when they run, and `gateway/schedules/` makes the runs.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::execution::schedules::configure;
use crate::objects::protocol::call;
use crate::objects::registry::messages::{DocumentKind, StoredDocument};
use crate::objects::registry::snapshot;
use crate::objects::schedules::messages::{Past, ReadPast, Schedules};
use crate::platform::{clock, log_event, zones};
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::time::{Timestamp, as_text};
use narthex_core::context::create_request::NewContext;
use narthex_core::context::status::Source;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::schedules::next_run::MissedRuns;
use narthex_core::schedules::run_state::{PastRun, RunOutcome};
use narthex_core::schedules::{self, RUNS_SHOWN, Schedule, read_context, within_context};

use super::super::answer::internal;
use super::super::call::{Call, Caller};
use super::super::decision::{RequestOrigin, Undecided, decide};
use super::super::later_use;
use super::{Document, find};

/// Schedules a tenant may have.
const MAX_SCHEDULES: usize = 200;

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct View<'a> {
    id: &'a str,
    cron: Option<&'a str>,
    time_zone: Option<&'a str>,
    interval_seconds: Option<u64>,
    description: &'a str,
    context: &'a RawValue,
    missed: MissedRuns,
    enabled: bool,
    principal: &'a PrincipalId,
    next_runs: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_runs: Option<Vec<PastView<'a>>>,
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    created_at: Timestamp,
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    updated_at: Timestamp,
}

#[derive(Clone, Copy, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PastOutcome {
    Created,
    Refused,
    Missed,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PastView<'a> {
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    planned_at: Timestamp,
    outcome: PastOutcome,
    context_id: Option<&'a str>,
    #[cfg_attr(test, schemars(with = "Option<narthex_core::http::problem::Code>"))]
    code: Option<&'a str>,
    detail: Option<&'a str>,
}

fn past_view(past: &PastRun) -> PastView<'_> {
    let nothing = PastView {
        planned_at: past.planned_at,
        outcome: PastOutcome::Missed,
        context_id: None,
        code: None,
        detail: None,
    };
    match &past.outcome {
        RunOutcome::Created { context } => {
            PastView { outcome: PastOutcome::Created, context_id: Some(context), ..nothing }
        }
        RunOutcome::Refused { code, detail } => {
            PastView { outcome: PastOutcome::Refused, code: Some(code), detail: Some(detail), ..nothing }
        }
        RunOutcome::Missed => nothing,
    }
}

fn view<'a>(stored: &'a StoredDocument, schedule: &'a Schedule, past: Option<&'a [PastRun]>) -> View<'a> {
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
        last_runs: past.map(|past| past.iter().map(past_view).collect()),
        created_at: stored.created_at,
        updated_at: stored.updated_at,
    }
}

/// Checks that the writer could create now what the schedule creates.
async fn creatable(call: &Call, caller: &Caller, schedule: &Schedule) -> Result<(), Problem> {
    let new = read_context(&schedule.context).map_err(Problem::invalid)?;
    let new = NewContext { source: Source::Scheduled, ..new };
    match decide(&RequestOrigin::of(call), &caller.principal, &caller.snapshot, &new).await {
        Ok(decision) => later_use::refuse_schedule(&decision.admission)
            .map_err(|problem| Problem { errors: within_context(problem.errors), ..problem }),
        // A service that changes at this moment is decided about when the schedule runs.
        Err(Undecided::Outdated) => Ok(()),
        // Services that take no work now may take some when the schedule runs.
        Err(Undecided::Refused(problem)) if problem.code == Code::NoServiceAvailable => Ok(()),
        Err(Undecided::Refused(problem)) => {
            let errors = within_context(problem.errors);
            Err(Problem { errors, ..problem })
        }
    }
}

/// Notifies the scheduler before the writer gets a response; when it cannot be reached, the next sweep does.
async fn notify_scheduler(caller: &Caller) {
    let tenant = &caller.principal.tenant;
    let notified = async { configure(tenant, &*snapshot::refreshed(tenant).await?).await };
    if let Err(failure) = notified.await {
        log_event!(SchedulerNotNotified, tenant = tenant, detail = &failure);
    }
}

impl Document for Schedule {
    const KIND: DocumentKind = DocumentKind::Schedule;
    /// The past runs of one schedule.
    type Extras = Option<Vec<PastRun>>;
    type View<'a> = View<'a>;

    fn view<'a>(_: &Caller, stored: &'a StoredDocument, schedule: &'a Self, past: &'a Self::Extras) -> View<'a> {
        view(stored, schedule, past.as_deref())
    }

    async fn extras(caller: &Caller, id: Option<&str>) -> Result<Self::Extras, Problem> {
        let Some(id) = id else { return Ok(None) };
        let scheduler = Schedules::of(&caller.principal.tenant);
        let Past::Past(past) = call(&scheduler, &ReadPast { schedule: id.into() }).await.map_err(internal)?;
        Ok(Some(past))
    }

    async fn accept(call: &Call, caller: &Caller, id: &str, body: &str) -> Result<(Self, Self::Extras), Problem> {
        let is_zone = |zone: &str| zones::offset(zone, clock::now()).is_some();
        let schedule = schedules::read(body, call.settings.schedule_min_seconds, is_zone).map_err(Problem::invalid)?;
        // The principal of a token that acts for the owner of a key is that of the key.
        if caller.principal.principal.key().is_none() || !caller.principal.from.is_empty() {
            let detail =
                "A schedule runs as an API key, because the permissions of a token expire with it. Use an API key.";
            return Err(Problem::new(Code::Conflict, detail));
        }
        creatable(call, caller, &schedule).await?;
        let is_new = find::<Schedule>(&caller.snapshot, id).is_none();
        if is_new && caller.snapshot.documents(DocumentKind::Schedule).count() >= MAX_SCHEDULES {
            let detail = format!("There are already {MAX_SCHEDULES} schedules. Delete one first.");
            return Err(Problem::new(Code::Conflict, detail));
        }
        let principal = caller.principal.principal.clone();
        let schedule = Schedule { principal, origin: RequestOrigin::of(call).gateway, ..schedule };
        // One that has just been written has no past.
        Ok((schedule, Some(Vec::new())))
    }

    async fn written(
        caller: &Caller,
        _: &StoredDocument,
        _: &Self,
        _: bool,
        extras: Self::Extras,
    ) -> Result<Self::Extras, Problem> {
        notify_scheduler(caller).await;
        Ok(extras)
    }

    async fn deleted(caller: &Caller, _: &str) -> Result<(), Problem> {
        notify_scheduler(caller).await;
        Ok(())
    }
}
