//! A request for a model: what it asks for, what is kept of it, and where it goes.

use serde_json::value::RawValue;

use crate::objects::registry::snapshot::Entry;
use crate::platform::{clock, random, tasks};
use narthex_core::base::content::Content;
use narthex_core::base::id::ContextId;
use narthex_core::base::json::{self, Fault};
use narthex_core::base::time::Timestamp;
use narthex_core::context::Admission;
use narthex_core::context::status::{Priority, Source};
use narthex_core::http::prefer;
use narthex_core::http::problem::{Code, Problem};
use narthex_core::models::endpoint::Endpoint;
use narthex_core::services::model_routing::ModelTarget;

use super::super::answer::Answer;
use super::super::call::{Call, Caller};
use super::super::decision::{MAX_DECISIONS, changes_too_fast};
use super::super::idempotency;
use super::super::later_use::{self, LaterUse};
use super::super::limits;
use super::intake::{self, Intake};
use super::record::Recorder;
use super::run::{Run, entry_of};
use super::stored::{self, Admitted};
use super::{replayed, selection};

/// How long a call may take, in seconds: a stream, and a response in one piece.
const STREAM_SECONDS: u64 = 3_600;
const WHOLE_SECONDS: u64 = 600;
/// The largest metadata of a request, in bytes.
const MAX_METADATA: usize = 8 * 1024;

/// Serves a request for a model.
pub async fn serve(call: &Call, mut caller: Caller, endpoint: Endpoint) -> Result<Answer, Problem> {
    // A client that leaves ends its call, and leaves a record.
    let _stay = tasks::stay();
    let asked = Asked { endpoint, metadata: metadata(call)?, timeout: timeout(call)? };
    let mut intake = intake::read(call, endpoint).await?;
    // Only texts are streamed.
    intake.head.streams &= endpoint != Endpoint::Embeddings;
    refuse_state(endpoint, &intake)?;
    for _ in 0..MAX_DECISIONS {
        if let Some(answer) = asked.decide(call, &mut caller, &mut intake).await? {
            return Ok(answer);
        }
        caller.refresh().await?;
        caller.authenticate_again(call).await?;
    }
    Err(changes_too_fast())
}

/// What a request asks for beside its body.
struct Asked {
    endpoint: Endpoint,
    metadata: Option<Box<RawValue>>,
    timeout: Option<f64>,
}

impl Asked {
    /// Selects the targets and calls them. `None`: it must be decided again.
    async fn decide(&self, call: &Call, caller: &mut Caller, intake: &mut Intake) -> Result<Option<Answer>, Problem> {
        let Self { endpoint, .. } = *self;
        let found = selection::select(call, caller, endpoint, &intake.model, &intake.head).await?;
        let longest = if intake.head.streams { STREAM_SECONDS } else { WHOLE_SECONDS };
        let seconds = self.timeout.unwrap_or(f64::MAX).min(longest as f64);
        let deadline = call.began.plus_ms((seconds * 1_000.0) as u64);
        if clock::now() >= deadline {
            let detail = "The time of the request was over when its body had arrived.";
            return Err(Problem::new(Code::RequestTimeout, detail));
        }
        let snapshot = caller.snapshot.clone();
        let first = found.targets.first().and_then(|target| entry_of(&snapshot, target));
        let (entry, target) = first.zip(found.targets.first()).ok_or_else(|| Problem::internal("no target"))?;
        let services: Vec<&Entry> = snapshot.services.iter().collect();
        let content = found.content(&services);
        refuse_later_use(call, content, &intake.model)?;
        let counted_model = selection::counted_name(&snapshot, &intake.model);
        let mut admission =
            admission(call, caller, entry, target, endpoint, (counted_model, self.metadata.clone()), deadline)?;
        admission.content = content;
        let mut recorder = Recorder::new(caller.principal.tenant.clone(), admission);
        if content.is_full() {
            match self.keep(call, caller, entry, intake, &mut recorder).await? {
                Admitted::Begun(stored) => recorder.stored = Some(stored),
                Admitted::Repeated(id) => {
                    let asked = (endpoint, &intake.head);
                    return replayed::answer(call, caller, &id, asked, deadline).await.map(Some);
                }
                Admitted::Outdated => return Ok(None),
            }
        }
        let run = Run { call, caller, endpoint, snapshot: snapshot.clone(), recorder, deadline };
        run.run(&found, intake).await.map(Some)
    }

    /// Stores the call before it is made. The limits of its first target apply before that.
    async fn keep(
        &self,
        call: &Call,
        caller: &mut Caller,
        entry: &Entry,
        intake: &mut Intake,
        recorder: &mut Recorder,
    ) -> Result<Admitted, Problem> {
        let body = stored::body(intake).await?;
        let claim = idempotency::claim(call, &caller.principal, body.get())?;
        let (service, capability) = (&entry.service().id, self.endpoint.capability());
        if let Err(problem) = limits::work(call, &caller.principal, &caller.snapshot, service, capability).await {
            let claim = claim.as_ref().map(|(_, claim)| claim);
            return idempotency::recall(call, caller, claim, problem).await.map(Admitted::Repeated);
        }
        let admission = &mut recorder.admission;
        if let Some((key, claim)) = &claim {
            let store = claim.store(call.settings.home_region);
            admission.id = ContextId::new(store, admission.created_at, random::bytes());
            admission.idempotency_key = Some(key.clone());
        }
        stored::admit(caller, admission, &body, claim.map(|(_, claim)| claim)).await
    }
}

/// The Responses API is served without state: what needs it is refused.
fn refuse_state(endpoint: Endpoint, intake: &Intake) -> Result<(), Problem> {
    if endpoint != Endpoint::Responses {
        return Ok(());
    }
    let refused = |name: &str, detail: &str| {
        let errors = vec![Fault::new(format!("#/{name}"), detail)];
        Err(Problem { errors, ..Problem::new(Code::InvalidRequest, format!("The member {name} {detail}.")) })
    };
    if intake.head.store == Some(true) {
        return refused("store", "must be false: the gateway keeps no responses");
    }
    if intake.head.background {
        return refused("background", "must be false: create a context instead");
    }
    match intake.head.stateful {
        Some(name) => refused(name, "is not supported: the gateway keeps no responses"),
        None => Ok(()),
    }
}

/// Refuses what these endpoints do not have, and what needs content that is not kept.
fn refuse_later_use(call: &Call, content: Content, model: &str) -> Result<(), Problem> {
    let is_async = prefer::parse(call.request.header("prefer")).respond_async;
    if content.is_full() && is_async {
        let detail = "Prefer: respond-async is not supported by the endpoints of models. Create a context with POST \
                      /v1/contexts.";
        return Err(Problem::new(Code::InvalidRequest, detail));
    }
    let uses = [
        (is_async, LaterUse::RespondAsync),
        (!content.is_full() && call.request.header("idempotency-key").is_some(), LaterUse::IdempotencyKey),
    ];
    let instead = "Leave it out, set content to full, or create a context with POST /v1/contexts.";
    later_use::refuse(&uses, model, instead)
}

/// The metadata of the context, from its header.
fn metadata(call: &Call) -> Result<Option<Box<RawValue>>, Problem> {
    let Some(text) = call.request.header("x-narthex-metadata").filter(|text| !text.trim().is_empty()) else {
        return Ok(None);
    };
    let malformed = |detail: String| Problem::new(Code::InvalidRequest, format!("X-Narthex-Metadata {detail}."));
    if text.len() > MAX_METADATA {
        return Err(malformed(format!("must have at most {MAX_METADATA} bytes")));
    }
    let text = json::check(text.trim().as_bytes(), json::MAX_DEPTH)
        .map_err(|invalid| malformed(format!("is not acceptable JSON: {invalid}")))?;
    let raw = RawValue::from_string(text.into()).ok().filter(|raw| raw.get().starts_with('{'));
    raw.map(Some).ok_or_else(|| malformed("must be a JSON object".into()))
}

/// The time that the client allows, in seconds.
fn timeout(call: &Call) -> Result<Option<f64>, Problem> {
    let Some(text) = call.request.header("x-narthex-timeout") else { return Ok(None) };
    let seconds = text.trim().parse::<f64>().ok().filter(|seconds| (0.001..=1e6).contains(seconds));
    let malformed = || Problem::new(Code::InvalidRequest, "X-Narthex-Timeout must be a number of seconds above 0.");
    seconds.map(Some).ok_or_else(malformed)
}

fn admission(
    call: &Call,
    caller: &Caller,
    entry: &Entry,
    target: &ModelTarget,
    endpoint: Endpoint,
    (counted_model, metadata): (&str, Option<Box<RawValue>>),
    deadline: Timestamp,
) -> Result<Admission, Problem> {
    let service = entry.service();
    let offer = service.capabilities.get(target.capability).ok_or_else(|| Problem::internal("no capability"))?;
    // Its deadline counts from then.
    let now = call.began;
    Ok(Admission {
        id: ContextId::new(call.new_store(), now, random::bytes()),
        tenant: caller.principal.tenant.clone(),
        owner: caller.principal.principal.clone(),
        owner_name: caller.principal.name.clone(),
        replay_of: None,
        capability: endpoint.capability().into(),
        asked_service: None,
        asked_version: None,
        asked_tags: Vec::new(),
        service: service.id.clone(),
        version: offer.version.clone(),
        price: offer.price.clone(),
        role: caller.principal.role.clone(),
        counted_model: Some(counted_model.into()),
        idempotent: false,
        retry: service.retry,
        priority: Priority::default(),
        source: Source::User,
        metadata,
        idempotency_key: None,
        created_at: now,
        expires_at: deadline,
        run_at: None,
        trace: call.trace.header(),
        trace_state: call.trace.state.clone(),
        client: None,
        session: None,
        unasked: false,
        log_level: None,
        meta: None,
        content: Content::None,
        origin: String::new(),
    })
}
