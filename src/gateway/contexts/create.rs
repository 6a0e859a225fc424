//! Creates a context: selects a service, passes its gate, admits the context, and runs it or leaves it to the queue.

use serde_json::value::RawValue;

use crate::auth::credential_watch::RequiredPermissions;
use crate::execution::notifications::Notifications;
use crate::execution::{run_before_storing, work_on};
use crate::objects::contexts::messages::{Admit, AdmitReply, Stale, Work};
use crate::objects::lanes::client::{self as lanes, Lane};
use crate::objects::registry::snapshot::{self, Entry, Snapshot};
use crate::objects::reply::Reply;
use crate::platform::{clock, log_event, random, settings, tasks};
use narthex_core::base::id::ContextId;
use narthex_core::context::Admission;
use narthex_core::context::create_request::{self, NewContext};
use narthex_core::context::idempotency::Claim;
use narthex_core::execution::driver::Permit;
use narthex_core::execution::known_service::KnownService;
use narthex_core::http::prefer::{self, Prefer};
use narthex_core::http::problem::Problem;

use super::super::answer::{Answer, internal};
use super::super::call::{Call, Caller};
use super::super::decision::{Decision, MAX_DECISIONS, changes_too_fast, decide_surely};
use super::super::idempotency::{self, Admitted};
use super::super::later_use::{self, LaterUse};
use super::super::limits;
use super::admission_check::{AdmissionStart, check};
use super::context_state::{ContextState, responds_at_once, wait_for_context, wait_in_store, wait_seconds};
use super::delivery::{CreationOutput, Delivery, DeliveryMode, create_permission, stream_context};

/// A context with a longer timeout does not run after the response, but from the queue.
const MAX_BACKGROUND_SECONDS: u64 = 25;

pub async fn create(call: &Call, caller: Caller) -> Result<Answer, Problem> {
    let text = call.json_text().await?;
    let new = create_request::read(&text).map_err(Problem::invalid)?;
    create_as_preferred(call, caller, &new, &text).await
}

/// Creates a context and answers as the client prefers. An idempotency key is stored with the fingerprint of `text`.
pub(super) async fn create_as_preferred(
    call: &Call,
    mut caller: Caller,
    new: &NewContext<'_>,
    text: &str,
) -> Result<Answer, Problem> {
    let preference = prefer::parse(call.request.header("prefer"));
    let claim = idempotency::claim(call, &caller.principal, text)?;
    let streams = call.prefers_stream(false) && !responds_at_once(&preference);
    let mode = DeliveryMode { preference: &preference, streams, notifications: None };
    match begin(call, &mut caller, new, mode, claim).await? {
        CreationOutput::State(state) => match state.refused() {
            Some(problem) => Err(problem),
            None => Ok(state.answer(&preference)),
        },
        CreationOutput::Stream(answer) => Ok(answer),
    }
}

/// Creates a context and waits for it as the client prefers, with the notifications of the calls that are made here.
pub async fn create_and_wait(
    call: &Call,
    caller: &mut Caller,
    new: &NewContext<'_>,
    preference: &Prefer,
    notifications: &Notifications,
) -> Result<ContextState, Problem> {
    let mode = DeliveryMode { preference, streams: false, notifications: Some(notifications) };
    match begin(call, caller, new, mode, None).await? {
        CreationOutput::State(state) => Ok(state),
        CreationOutput::Stream(_) => Err(Problem::internal("an event stream without a client for it")),
    }
}

/// The creation of one context.
struct Creation<'a> {
    call: &'a Call,
    new: &'a NewContext<'a>,
    mode: DeliveryMode<'a>,
    claim: Option<(String, Claim)>,
    parameters: Box<RawValue>,
    /// The duration of the admission, in milliseconds.
    admit_ms: u64,
}

/// How the context is admitted.
struct AdmissionPlan {
    admission: Admission,
    permit: Option<Permit>,
    /// It is in the wait queue of its service's lane.
    queued: bool,
    /// This Worker makes the first attempt.
    here: bool,
    /// It starts at a later time.
    starts_later: bool,
}

impl AdmissionPlan {
    /// Whether the store offers it to this Worker, which waits for a permit on its behalf.
    fn offers(&self) -> bool {
        self.queued && self.here
    }
}

async fn begin(
    call: &Call,
    caller: &mut Caller,
    new: &NewContext<'_>,
    mode: DeliveryMode<'_>,
    claim: Option<(String, Claim)>,
) -> Result<CreationOutput, Problem> {
    let parameters = RawValue::from_string(new.parameters.into()).map_err(|e| Problem::internal(e.to_string()))?;
    let mut creation = Creation { call, new, mode, claim, parameters, admit_ms: 0 };
    for _ in 0..MAX_DECISIONS {
        let created = match creation.decide(caller).await {
            Ok(decision) => creation.create(caller, decision).await?,
            Err(problem) => return creation.recall_or_reject(caller, problem).await,
        };
        if let Some(created) = created {
            return Ok(created);
        }
    }
    Err(changes_too_fast())
}

impl Creation<'_> {
    /// Selects a service and applies the limits of its work.
    async fn decide(&self, caller: &mut Caller) -> Result<Decision, Problem> {
        let decision = decide_surely(self.call, caller, self.new).await?;
        self.refuse_later_use(&decision)?;
        caller.refresh_ahead();
        let (service, capability) = (&decision.admission.service, &decision.admission.capability);
        limits::work(self.call, &caller.principal, &caller.snapshot, service, capability).await?;
        Ok(decision)
    }

    /// Refuses what needs the content later, if it is not kept.
    fn refuse_later_use(&self, Decision { admission, .. }: &Decision) -> Result<(), Problem> {
        if admission.content.is_full() {
            return Ok(());
        }
        let uses = [
            (self.mode.preference.respond_async, LaterUse::RespondAsync),
            (self.claim.is_some(), LaterUse::IdempotencyKey),
            (self.new.run_at.is_some(), LaterUse::RunAt),
        ];
        later_use::refuse(&uses, &admission.capability, later_use::REGISTER)
    }

    /// A request that was accepted once under its idempotency key stays accepted; any other is rejected with `problem`.
    async fn recall_or_reject(&self, caller: &mut Caller, problem: Problem) -> Result<CreationOutput, Problem> {
        let claim = self.claim.as_ref().map(|(_, claim)| claim);
        let id = idempotency::recall(self.call, caller, claim, problem).await?;
        replay(self.call, caller, &id, self.mode).await
    }

    /// Admits the context and runs or awaits it; nothing if the request must be decided again.
    async fn create(&mut self, caller: &mut Caller, mut decision: Decision) -> Result<Option<CreationOutput>, Problem> {
        let (call, preference) = (self.call, self.mode.preference);
        let starts_later = self.new.run_at.is_some_and(|at| at > clock::now());
        let snapshot = caller.snapshot.clone();
        let entry = selected(&snapshot, &decision)?;
        let gated = entry.is_gated();
        if !decision.durable && !starts_later && !preference.respond_async && self.claim.is_none() && !gated {
            let parameters = std::mem::take(&mut self.parameters);
            return run_write_behind(call, caller, decision, parameters, self.mode).await.map(Some);
        }
        if let Some((key, claim)) = &self.claim {
            let store = claim.store(call.settings.home_region);
            decision.admission.id = ContextId::new(store, decision.admission.created_at, random::bytes());
            decision.admission.idempotency_key = Some(key.clone());
        }
        // The platform ends work that runs too long after the response; the queue has more time.
        let here = !starts_later && (!preference.respond_async || decision.timeout_seconds <= MAX_BACKGROUND_SECONDS);
        let tenant = &caller.principal.tenant;
        let admission_check = if starts_later {
            Ok(AdmissionStart::Now(None))
        } else {
            check(tenant, &decision.admission, entry, here).await
        };
        let (permit, queued) = match admission_check {
            Ok(AdmissionStart::Now(permit)) => (permit, false),
            Ok(AdmissionStart::Queued) => (None, true),
            Err(problem) => return self.recall_or_reject(caller, problem).await.map(Some),
        };
        let mut plan = AdmissionPlan { admission: decision.admission, permit, queued, here, starts_later };
        let reply = self.admit(caller, entry, &mut plan).await?;
        self.deliver(caller, plan, reply).await
    }

    /// Asks the store to admit the context. Releases the permit if no lease is granted, and leaves the wait queue if
    /// the context is not admitted.
    async fn admit(&mut self, caller: &Caller, entry: &Entry, plan: &mut AdmissionPlan) -> Result<Admitted, Problem> {
        let before = clock::now();
        let admit = Admit {
            admission: Box::new(plan.admission.clone().kept()),
            parameters: plan.admission.kept_part(&self.parameters).to_owned(),
            lease_ms: (plan.here && !plan.queued).then(|| settings::timing().lease_ms),
            offers: plan.offers(),
            show: responds_at_once(self.mode.preference),
            claim: self.claim.as_ref().map(|(_, claim)| claim.clone()),
        };
        let id = &plan.admission.id;
        let reply = idempotency::admit(caller, &admit).await;
        self.admit_ms += clock::now().since(before);
        if !matches!(reply, Ok(Reply(Ok(AdmitReply::Admitted { lease: Some(_), .. }))))
            && let Some(permit) = plan.permit.take()
        {
            // Nothing runs under this permit: another call may have it.
            Lane::of(&caller.principal.tenant, entry).release_unused(permit.number).await;
        }
        if plan.queued && !matches!(reply, Ok(Reply(Ok(AdmitReply::Admitted { .. })))) {
            lanes::leave(&caller.principal.tenant, entry, id).await;
        }
        reply
    }

    /// Runs or awaits the context, as the store's reply says; nothing if the request must be decided again.
    async fn deliver(
        &mut self,
        caller: &mut Caller,
        plan: AdmissionPlan,
        Reply(reply): Admitted,
    ) -> Result<Option<CreationOutput>, Problem> {
        let Self { call, mode, admit_ms, .. } = *self;
        let offers = plan.offers();
        let AdmissionPlan { admission, permit, starts_later, .. } = plan;
        let reply = match reply {
            Ok(reply) => reply,
            Err(Stale::Stale { .. }) => {
                caller.snapshot = snapshot::refreshed(&caller.principal.tenant).await.map_err(internal)?;
                caller.authenticate_again(call).await?;
                return Ok(None);
            }
        };
        let created = match reply {
            AdmitReply::Admitted { lease, view } if lease.is_some() || offers => {
                let parameters = std::mem::take(&mut self.parameters);
                let work = Work::first(admission, parameters, lease.into());
                run_here(call, caller, work, permit, view, mode, admit_ms).await?
            }
            AdmitReply::Admitted { .. } if mode.streams && !starts_later => {
                CreationOutput::Stream(stream_context(call, caller, &admission.id, create_permission(&admission)))
            }
            AdmitReply::Admitted { view: Some(view), .. } => {
                let accepted = ContextState::accepted(&admission.id, view, &self.parameters, admit_ms);
                let state = wait_for_context(call, caller, accepted, mode.preference, starts_later).await?;
                CreationOutput::State(state.running_at(self.new.run_at))
            }
            AdmitReply::Admitted { view: None, .. } => {
                return Err(Problem::internal("the store did not show an admitted context"));
            }
            AdmitReply::Replayed { id } => replay(call, caller, &id, mode).await?,
            AdmitReply::KeyReused => return Err(idempotency::reused()),
            AdmitReply::Taken => return Ok(None),
        };
        Ok(Some(created))
    }
}

fn selected<'s>(snapshot: &'s Snapshot, decision: &Decision) -> Result<&'s Entry, Problem> {
    snapshot.services.get(decision.service).ok_or_else(|| Problem::internal("the snapshot lacks the selected service"))
}

/// The response to a repeated request: the context that the first one created, with the wait that this one asks for.
async fn replay(
    call: &Call,
    caller: &Caller,
    id: &ContextId,
    mode: DeliveryMode<'_>,
) -> Result<CreationOutput, Problem> {
    if mode.streams {
        let answer = stream_context(call, caller, id, RequiredPermissions::ToCreate);
        return Ok(CreationOutput::Stream(answer.with("idempotency-replayed", "true")));
    }
    let preference = mode.preference;
    let seconds = if responds_at_once(preference) { 0 } else { wait_seconds(preference) };
    match wait_in_store(call, caller, id, seconds).await? {
        Some(state) => Ok(CreationOutput::State(ContextState { replayed: true, ..state })),
        None => Err(Problem::internal("the store does not know an admitted context")),
    }
}

/// Runs a leased or queued context in this Worker, for as long as the client waits and a while beyond.
async fn run_here(
    call: &Call,
    caller: &Caller,
    work: Work,
    permit: Option<Permit>,
    view: Option<Box<RawValue>>,
    mode: DeliveryMode<'_>,
    admit_ms: u64,
) -> Result<CreationOutput, Problem> {
    let preference = mode.preference;
    let id = work.admission.id.clone();
    let parameters = work.parameters.clone();
    let (tenant, snapshot) = (caller.principal.tenant.clone(), caller.snapshot.clone());
    let (client, delivery) = Delivery::open(call, mode, &work.admission);
    let context = id.clone();
    tasks::keep_running(async move {
        if let Err(failure) = work_on(tenant.clone(), work, snapshot, permit, client).await {
            // The lease expires, and the store queues the context again.
            log_event!(AttemptNotCommitted, tenant = &tenant, context = &context, detail = &failure);
        }
    });
    if let Some(view) = view.filter(|_| responds_at_once(preference)) {
        return Ok(CreationOutput::State(ContextState::accepted(&id, view, &parameters, admit_ms)));
    }
    delivery.respond(call, caller, &id, parameters, preference, admit_ms).await
}

/// `durable: false`: runs first, is recorded after the response.
async fn run_write_behind(
    call: &Call,
    caller: &Caller,
    decision: Decision,
    parameters: Box<RawValue>,
    mode: DeliveryMode<'_>,
) -> Result<CreationOutput, Problem> {
    let Decision { admission, .. } = decision;
    let id = admission.id.clone();
    let (tenant, snapshot) = (caller.principal.tenant.clone(), caller.snapshot.clone());
    let (client, delivery) = Delivery::open(call, mode, &admission);
    let (sent, context) = (parameters.clone(), id.clone());
    tasks::keep_running(async move {
        if let Err(failure) = run_before_storing(tenant.clone(), admission, sent, snapshot, client).await {
            log_event!(ContextNotRecorded, tenant = &tenant, context = &context, detail = &failure);
        }
    });
    delivery.respond(call, caller, &id, parameters, mode.preference, 0).await
}
