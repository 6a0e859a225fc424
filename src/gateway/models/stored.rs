//! Calls whose content is kept: stored before they are made, and under a lease until they have ended.

use std::pin::pin;

use futures_channel::oneshot;
use futures_util::FutureExt;
use futures_util::future::{Either, Shared, pending, select};
use serde_json::value::RawValue;

use crate::objects::contexts::client::{call as call_store, call_with_retry};
use crate::objects::contexts::messages::{Admit, AdmitReply, Commit, Renew, RenewReply, Stale};
use crate::objects::reply::Reply;
use crate::platform::relay::Piece;
use crate::platform::{clock, log_event, settings, tasks};
use narthex_core::base::id::ContextId;
use narthex_core::base::json;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::context::idempotency::Claim;
use narthex_core::context::lease::{Hold, LeaseNumber};
use narthex_core::context::{Admission, AttemptReport};
use narthex_core::http::problem::{Code, Problem};
use narthex_core::models::request_body::BYTE_ORDER_MARK;

use super::super::call::Caller;
use super::super::idempotency;
use super::intake::Intake;

/// The largest request that is kept, in bytes: it shares a row with its result.
pub const MAX_BYTES: u64 = 640 * 1024;

/// A call that is stored, and leased to this Worker until it has ended.
pub struct StoredCall {
    tenant: TenantId,
    id: ContextId,
    lease: LeaseNumber,
    cancelled: Shared<oneshot::Receiver<()>>,
    _renewal: oneshot::Sender<()>,
}

/// What came of a request to store a call.
pub enum Admitted {
    Begun(StoredCall),
    /// An earlier request with the same idempotency key is this context.
    Repeated(ContextId),
    /// It must be decided again.
    Outdated,
}

/// The body of a request whose content is kept.
///
/// # Errors
/// It is too large, or is not acceptable JSON.
pub async fn body(intake: &mut Intake) -> Result<Box<RawValue>, Problem> {
    let too_large = || {
        let detail = format!(
            "Requests whose content is kept (content: full) must not exceed {MAX_BYTES} bytes. Send a shorter one, or \
             ask the operator of the gateway to set content to none."
        );
        Problem::new(Code::PayloadTooLarge, detail)
    };
    if intake.bytes > MAX_BYTES || intake.declared().is_some_and(|bytes| bytes > MAX_BYTES) {
        return Err(too_large());
    }
    intake.complete().await?;
    if intake.bytes > MAX_BYTES {
        return Err(too_large());
    }
    let bytes: Vec<u8> = intake.pieces.iter().flat_map(Piece::to_vec).collect();
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
    let malformed =
        |error: String| Problem::new(Code::InvalidJson, format!("The body is not acceptable JSON: {error}."));
    let text = json::check(bytes.trim_ascii(), json::MAX_DEPTH).map_err(|error| malformed(error.to_string()))?;
    RawValue::from_string(text.into()).map_err(|error| malformed(error.to_string()))
}

/// Stores a call before it is made.
///
/// # Errors
/// The store cannot be reached, or the idempotency key was used for another request.
pub async fn admit(
    caller: &Caller,
    admission: &Admission,
    body: &RawValue,
    claim: Option<Claim>,
) -> Result<Admitted, Problem> {
    let (tenant, id) = (&caller.principal.tenant, &admission.id);
    let admit = Admit {
        admission: Box::new(admission.clone()),
        parameters: body.to_owned(),
        lease_ms: Some(settings::timing().lease_ms),
        offers: false,
        show: false,
        claim,
    };
    Ok(match idempotency::admit(caller, &admit).await? {
        Reply(Ok(AdmitReply::Admitted { lease: Some(lease), .. })) => {
            Admitted::Begun(StoredCall::new(tenant.clone(), id.clone(), lease))
        }
        Reply(Ok(AdmitReply::Admitted { lease: None, .. })) => {
            return Err(Problem::internal("the lease of a stored call was lost"));
        }
        Reply(Ok(AdmitReply::Replayed { id })) => Admitted::Repeated(id),
        Reply(Ok(AdmitReply::KeyReused)) => return Err(idempotency::reused()),
        Reply(Ok(AdmitReply::Taken) | Err(Stale::Stale { .. })) => Admitted::Outdated,
    })
}

impl StoredCall {
    fn new(tenant: TenantId, id: ContextId, lease: LeaseNumber) -> Self {
        let (renewal, ended) = oneshot::channel();
        let (cancel, cancelled) = oneshot::channel();
        tasks::keep_running(renew(tenant.clone(), id.clone(), lease, ended, cancel));
        Self { tenant, id, lease, cancelled: cancelled.shared(), _renewal: renewal }
    }

    /// Resolves when somebody cancels the context.
    pub fn cancelled(&self) -> impl Future<Output = ()> + 'static {
        let cancelled = self.cancelled.clone();
        async move {
            if cancelled.await.is_err() {
                pending::<()>().await;
            }
        }
    }

    /// Stores how the call ended.
    pub async fn commit(self, report: AttemptReport, result: Option<Box<RawValue>>, earlier: Vec<AttemptReport>) {
        let (id, report) = (self.id.clone(), AttemptReport { lease: self.lease, ..report });
        let commit = Commit { id, report, result, stays_ms: 0, earlier };
        if let Err(failure) = call_with_retry(&self.tenant, &self.id, &commit).await {
            log_event!(AttemptNotCommitted, tenant = &self.tenant, context = &self.id, detail = &failure);
        }
    }
}

/// Renews the lease until the call has ended.
async fn renew(
    tenant: TenantId,
    id: ContextId,
    lease: LeaseNumber,
    mut ended: oneshot::Receiver<()>,
    cancel: oneshot::Sender<()>,
) {
    let timing = settings::timing();
    let mut cancel = Some(cancel);
    let renew = Renew { id: id.clone(), hold: Hold::Leased(lease), lease_ms: timing.lease_ms };
    loop {
        if let Either::Left(_) = select(&mut ended, pin!(clock::pause(timing.renew_ms))).await {
            return;
        }
        match call_store(&tenant, &id, &renew).await {
            Ok(RenewReply::Renewed { cancel: true }) => {
                if let Some(cancel) = cancel.take() {
                    // A call that has ended needs no signal.
                    let _ = cancel.send(());
                }
            }
            Ok(RenewReply::Renewed { cancel: false } | RenewReply::Nothing) => {}
            Err(failure) => {
                log_event!(LeaseNotRenewed, tenant = &tenant, context = &id, detail = &failure);
            }
        }
    }
}
