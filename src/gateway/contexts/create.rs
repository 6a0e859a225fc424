//! Creating a context: decided, let through its service's gate, admitted, and run or left to the queue.

use serde_json::value::RawValue;

use crate::auth::watched::Needed;
use crate::execution::{gate, hint, unrecorded, work_on};
use crate::objects::contexts::messages::{Ask, Message, Reply, Work};
use crate::objects::lanes::client::{self as lanes, Permit, is_gated};
use crate::objects::registry::snapshot::{self, Entry, Snapshot};
use crate::platform::objects::{Kind, PATIENCE_MS, send};
use crate::platform::{clock, log_event, random, settings};
use narthex_core::access::principal::Principal;
use narthex_core::base::canonical;
use narthex_core::base::id::ContextId;
use narthex_core::context::Admission;
use narthex_core::context::create_request::{self, NewContext};
use narthex_core::context::idempotency::{self, Claim};
use narthex_core::http::prefer::{self, Prefer};
use narthex_core::http::problem::{Code, Problem};

use super::super::answer::{Answer, internal};
use super::super::call::{Call, Caller};
use super::super::decision::{Decision, decide_surely};
use super::super::limits;
use super::entrance::{Entrance, enter};
use super::listening::{Hearing, Made, asker, follow, to_create};
use super::waiting::{Told, at_once, wait_for, wait_seconds, waited};

/// What may live longer than this does not run behind an answer, but from the queue.
const SHORT_SECONDS: u64 = 25;

/// The key a request comes under, with what it claims.
fn claimed(call: &Call, principal: &Principal, text: &str) -> Result<Option<(String, Claim)>, Problem> {
    let Some(header) = call.request.header("idempotency-key") else { return Ok(None) };
    let malformed = || {
        Problem::new(Code::InvalidRequest, "Idempotency-Key must be 1 to 255 visible ASCII characters, quoted or bare.")
    };
    let key = idempotency::parse(header).ok_or_else(malformed)?;
    let fingerprint = canonical::fingerprint(text).ok_or_else(|| Problem::internal("a body without a fingerprint"))?;
    let claim = Claim::new(&principal.tenant, &principal.principal, &call.path, &key, fingerprint);
    Ok(Some((key, claim)))
}

pub async fn create(call: &Call, caller: Caller) -> Result<Answer, Problem> {
    let body = call.json_body().await?;
    let text = std::str::from_utf8(&body).unwrap_or_default();
    let new = create_request::read(text).map_err(Problem::invalid)?;
    make_as_preferred(call, caller, &new, text).await
}

/// Makes a context and answers as it is preferred. `text` is what an idempotency key is remembered with.
pub(super) async fn make_as_preferred(
    call: &Call,
    mut caller: Caller,
    new: &NewContext<'_>,
    text: &str,
) -> Result<Answer, Problem> {
    let preference = prefer::parse(call.request.header("prefer"));
    let claimed = claimed(call, &caller.principal, text)?;
    let hearing = Hearing { preference: &preference, listens: call.prefers_stream(false) && !at_once(&preference) };
    Ok(match begin(call, &mut caller, new, hearing, claimed).await? {
        Made::Told(told) => told.answer(&preference),
        Made::Streamed(answer) => answer,
    })
}

/// Makes a context, under a key where one is claimed, and waits for it as it is preferred.
pub async fn make(
    call: &Call,
    caller: &mut Caller,
    new: &NewContext<'_>,
    preference: &Prefer,
    claimed: Option<(String, Claim)>,
) -> Result<Told, Problem> {
    match begin(call, caller, new, Hearing { preference, listens: false }, claimed).await? {
        Made::Told(told) => Ok(told),
        Made::Streamed(_) => Err(Problem::internal("a stream where nobody listens")),
    }
}

/// A context on its way into being.
struct Creation<'a> {
    call: &'a Call,
    new: &'a NewContext<'a>,
    hearing: Hearing<'a>,
    claimed: Option<(String, Claim)>,
    parameters: Box<RawValue>,
    /// What admission has taken, in milliseconds.
    admit_ms: u64,
}

/// How a context that was decided on is admitted.
struct Admitting {
    admission: Admission,
    permit: Option<Permit>,
    /// It stands in its service's line.
    in_line: bool,
    /// This worker makes its first attempt.
    here: bool,
    /// It is for later.
    waits: bool,
}

impl Admitting {
    /// Whether it is offered to this worker, which stands in line for it.
    fn offers(&self) -> bool {
        self.in_line && self.here
    }
}

async fn begin(
    call: &Call,
    caller: &mut Caller,
    new: &NewContext<'_>,
    hearing: Hearing<'_>,
    claimed: Option<(String, Claim)>,
) -> Result<Made, Problem> {
    let parameters = RawValue::from_string(new.parameters.into()).map_err(|e| Problem::internal(e.to_string()))?;
    let mut creation = Creation { call, new, hearing, claimed, parameters, admit_ms: 0 };
    for _ in 0..3 {
        let made = match creation.decide(caller).await {
            Ok(decision) => creation.make(caller, decision).await?,
            Err(problem) => return creation.or_recalled(caller, problem).await,
        };
        if let Some(made) = made {
            return Ok(made);
        }
    }
    Err(Problem::internal("the registry changes faster than it can be read"))
}

impl Creation<'_> {
    /// Which service it goes to, within the limits on that.
    async fn decide(&self, caller: &mut Caller) -> Result<Decision, Problem> {
        let decision = decide_surely(self.call, caller, self.new).await?;
        caller.refresh_ahead(self.call);
        let (service, capability) = (&decision.admission.service, &decision.admission.capability);
        limits::work(self.call, &caller.principal, &caller.snapshot, service, capability).await?;
        Ok(decision)
    }

    /// What was accepted once under a key stays so, whatever has changed since; without a key the refusal counts.
    async fn or_recalled(&self, caller: &Caller, problem: Problem) -> Result<Made, Problem> {
        match &self.claimed {
            Some((_, claim)) => recalled(self.call, caller, claim, self.hearing, problem).await,
            None => Err(problem),
        }
    }

    /// Admits it and follows it up; nothing when it must be decided again.
    async fn make(&mut self, caller: &mut Caller, mut decision: Decision) -> Result<Option<Made>, Problem> {
        let (call, preference) = (self.call, self.hearing.preference);
        let waits = self.new.run_at.is_some_and(|at| at > clock::now());
        let snapshot = caller.snapshot.clone();
        let entry = decided(&snapshot, &decision)?;
        let gated = is_gated(entry);
        if !decision.durable && !waits && !preference.respond_async && self.claimed.is_none() && !gated {
            let parameters = std::mem::take(&mut self.parameters);
            return run_unrecorded(call, caller, decision, parameters, self.hearing).await.map(Some);
        }
        if let Some((key, claim)) = &self.claimed {
            let store = claim.store(call.settings.home_region);
            decision.admission.id = ContextId::new(store, decision.admission.created_at, random::bytes());
            decision.admission.idempotency_key = Some(key.clone());
        }
        // Behind an answer only what surely ends in the time the platform gives; else the queue.
        let here = !waits && (!preference.respond_async || decision.timeout_seconds <= SHORT_SECONDS);
        let tenant = &caller.principal.tenant;
        let entrance =
            if waits { Ok(Entrance::Now(None)) } else { enter(tenant, &decision.admission, entry, here).await };
        let (permit, in_line) = match entrance {
            Ok(Entrance::Now(permit)) => (permit, false),
            Ok(Entrance::Later) => (None, true),
            Err(problem) => return self.or_recalled(caller, problem).await.map(Some),
        };
        let mut admitting = Admitting { admission: decision.admission, permit, in_line, here, waits };
        let reply = self.admit(caller, entry, &mut admitting).await?;
        self.follow_up(caller, admitting, reply).await
    }

    /// Asks the store; gives back what was taken for it when it does not begin here.
    async fn admit(&mut self, caller: &Caller, entry: &Entry, admitting: &mut Admitting) -> Result<Reply, Problem> {
        let before = clock::now();
        let admit = Ask::Admit {
            admission: Box::new(admitting.admission.clone()),
            parameters: self.parameters.clone(),
            lease_ms: (admitting.here && !admitting.in_line).then(|| settings::timing().lease_ms),
            offers: admitting.offers(),
            show: at_once(self.hearing.preference),
            claim: self.claimed.as_ref().map(|(_, claim)| claim.clone()),
        };
        let id = &admitting.admission.id;
        let reply = admitted(caller, id, admit).await;
        self.admit_ms += clock::now().since(before);
        if !matches!(reply, Ok(Reply::Admitted { lease: Some(_), .. })) {
            // Nothing runs under it: another may have it.
            gate::unused(admitting.permit.take()).await;
        }
        if admitting.in_line && !matches!(reply, Ok(Reply::Admitted { .. })) {
            lanes::leave(&caller.principal.tenant, entry, id).await;
        }
        reply
    }

    /// What follows from the store's reply; nothing when it must be decided again.
    async fn follow_up(
        &mut self,
        caller: &mut Caller,
        admitting: Admitting,
        reply: Reply,
    ) -> Result<Option<Made>, Problem> {
        let Self { call, hearing, admit_ms, .. } = *self;
        let offers = admitting.offers();
        let Admitting { admission, permit, waits, .. } = admitting;
        let made = match reply {
            Reply::Stale { .. } => {
                caller.snapshot = snapshot::refreshed(&caller.principal.tenant).await.map_err(internal)?;
                caller.authenticate_again(call).await?;
                return Ok(None);
            }
            Reply::Admitted { lease, view } if lease.is_some() || offers => {
                let parameters = std::mem::take(&mut self.parameters);
                let work = first_attempt(admission, parameters, lease.unwrap_or(0));
                run_here(call, caller, work, permit, view, hearing, admit_ms).await?
            }
            Reply::Admitted { lease: None, .. } if hearing.listens && !waits => {
                Made::Streamed(follow(call, caller, &admission.id, to_create(&admission)))
            }
            Reply::Admitted { lease: None, view: Some(view) } => {
                let (id, preference) = (admission.id, hearing.preference);
                let told = wait_for(call, caller, id, view, &self.parameters, preference, admit_ms, waits).await?;
                Made::Told(told.running_at(self.new.run_at))
            }
            Reply::Replayed { id } => replayed(call, caller, &id, hearing).await?,
            Reply::KeyReused => return Err(key_reused()),
            Reply::Taken => return Ok(None),
            _ => return Err(Problem::internal("the store answered something else")),
        };
        Ok(Some(made))
    }
}

fn first_attempt(admission: Admission, parameters: Box<RawValue>, lease: u64) -> Work {
    let (tried, hopeless) = (Vec::new(), Vec::new());
    Work { admission, parameters, lease, attempt: 1, tried, hopeless, input: None, input_state: None }
}

fn decided<'s>(snapshot: &'s Snapshot, decision: &Decision) -> Result<&'s Entry, Problem> {
    snapshot.services.get(decision.service).ok_or_else(|| Problem::internal("a service went missing"))
}

fn key_reused() -> Problem {
    let detail =
        "This Idempotency-Key was sent with another body within the last 24 hours. Use a new key for a new request.";
    Problem::new(Code::IdempotencyKeyReused, detail)
}

/// What a key stands for, where the request itself would be refused; else that refusal.
async fn recalled(
    call: &Call,
    caller: &Caller,
    claim: &Claim,
    hearing: Hearing<'_>,
    problem: Problem,
) -> Result<Made, Problem> {
    let store = claim.store(call.settings.home_region);
    let tenant = &caller.principal.tenant;
    // A store that has no context yet has no key either, and is not to be made by a request that is refused.
    let knows = caller.snapshot.stores.contains(&store)
        || snapshot::refreshed(tenant).await.map_err(internal)?.stores.contains(&store);
    if !knows {
        return Err(problem);
    }
    let name = store.object_name(tenant);
    let message = Message { revision: caller.snapshot.revision, ask: Ask::Recall { claim: claim.clone() } };
    match send(Kind::Contexts, &name, hint(store), &message, PATIENCE_MS).await.map_err(internal)? {
        Reply::Replayed { id } => replayed(call, caller, &id, hearing).await,
        Reply::KeyReused => Err(key_reused()),
        _ => Err(problem),
    }
}

/// The answer to a repeat: the context that the first request made, waited for as asked.
async fn replayed(call: &Call, caller: &Caller, id: &ContextId, hearing: Hearing<'_>) -> Result<Made, Problem> {
    if hearing.listens {
        return Ok(Made::Streamed(follow(call, caller, id, Needed::ToCreate).with("idempotency-replayed", "true")));
    }
    let preference = hearing.preference;
    let seconds = if at_once(preference) { 0 } else { wait_seconds(preference) };
    match waited(call, caller, id, seconds).await? {
        Some(told) => Ok(Made::Told(Told { replayed: true, ..told })),
        None => Err(Problem::internal("a context that was admitted is not there")),
    }
}

/// Admits, once more if the first reply was lost: the store knows the id again.
async fn admitted(caller: &Caller, id: &ContextId, admit: Ask) -> Result<Reply, Problem> {
    let store = id.store().ok_or_else(|| Problem::internal("a context without a store"))?;
    let name = store.object_name(&caller.principal.tenant);
    let message = Message { revision: caller.snapshot.revision, ask: admit };
    match send(Kind::Contexts, &name, hint(store), &message, PATIENCE_MS).await {
        Ok(reply) => Ok(reply),
        Err(_) => send(Kind::Contexts, &name, hint(store), &message, PATIENCE_MS).await.map_err(internal),
    }
}

/// Runs a leased context, or one that stands in line, in this worker, for as long as the client waits and a while beyond.
async fn run_here(
    call: &Call,
    caller: &Caller,
    work: Work,
    permit: Option<Permit>,
    view: Option<Box<RawValue>>,
    hearing: Hearing<'_>,
    admit_ms: u64,
) -> Result<Made, Problem> {
    let preference = hearing.preference;
    let id = work.admission.id.clone();
    let parameters = work.parameters.clone();
    let (tenant, snapshot) = (caller.principal.tenant.clone(), caller.snapshot.clone());
    let (waiter, asker) = asker(call, hearing, &work.admission);
    let own = id.clone();
    call.keep_running(async move {
        if let Err(failure) =
            work_on(tenant.clone(), work, snapshot, permit, settings::timing().retry_stays_ms, waiter).await
        {
            // Its lease runs out, and the store sees to it.
            log_event!(AttemptNotCommitted, tenant = &tenant, context = &own, detail = &failure);
        }
    });
    if let Some(view) = view.filter(|_| at_once(preference)) {
        return Ok(Made::Told(Told::accepted(&id, view, &parameters, None, admit_ms)));
    }
    asker.hears(call, caller, &id, parameters, preference, admit_ms).await
}

/// `durable: false`: executed first, recorded after the answer.
async fn run_unrecorded(
    call: &Call,
    caller: &Caller,
    decision: Decision,
    parameters: Box<RawValue>,
    hearing: Hearing<'_>,
) -> Result<Made, Problem> {
    let Decision { admission, service, .. } = decision;
    let id = admission.id.clone();
    let (tenant, snapshot) = (caller.principal.tenant.clone(), caller.snapshot.clone());
    let (waiter, asker) = asker(call, hearing, &admission);
    let (sent, own) = (parameters.clone(), id.clone());
    call.keep_running(async move {
        if let Err(failure) = unrecorded::run(tenant.clone(), admission, sent, snapshot, service, waiter).await {
            log_event!(ContextNotRecorded, tenant = &tenant, context = &own, detail = &failure);
        }
    });
    asker.hears(call, caller, &id, parameters, hearing.preference, 0).await
}
