//! Passes the reports of connections about their deliveries to the context stores.

use std::rc::Rc;

use crate::objects::contexts::client::call_store;
use crate::objects::contexts::messages::{CallBack, CallbackReply, Contexts};
use crate::objects::registry::snapshot;
use crate::objects::retries::with_retries;
use crate::platform::log::Message;
use crate::platform::{Failure, clock, random};
use narthex_core::base::tenant_id::TenantId;
use narthex_core::service_lane::Identity;
use narthex_core::service_lane::reports::{DeliveryReport, Judgement, Offered, ReportContent};

use super::Inner;

/// How many times a report to a store is retried.
const MAX_RETRIES: u32 = 5;

impl Inner {
    /// Passes on a report: progress at best effort, an outcome until the store has it.
    pub(super) async fn pass_on(self: Rc<Self>, report: DeliveryReport) {
        let Some(identity) = self.lane.borrow().identity().cloned() else { return };
        if matches!(report.content, ReportContent::Progress(_)) {
            let Some(progress) = report.progress() else { return };
            if let Err(failure) = call_back(&identity.tenant, &progress).await {
                self.log(Message::ProgressNotReported, &failure);
            }
            return;
        }
        let counts = match judge(&identity, &report).await {
            Ok(judgement) => {
                let counts = call_back(&identity.tenant, &judgement.call).await;
                counts.map(|counts| (judgement, counts))
            }
            Err(failure) => Err(failure),
        };
        let ended = match counts {
            Ok((judgement, counts)) => {
                let (now, random) = (clock::now(), random::number());
                self.lane.borrow_mut().reported(&report, &judgement, counts, now, random).map_err(Failure::from)
            }
            Err(failure) => {
                self.lane.borrow_mut().report_failed(&report, clock::now());
                Err(failure)
            }
        };
        if let Err(failure) = ended {
            self.log(Message::OutcomeNotReported, &failure);
        }
        self.settle_in_background();
    }
}

async fn judge(identity: &Identity, report: &DeliveryReport) -> Result<Judgement, Failure> {
    let Identity { tenant, service } = identity;
    let snapshot = snapshot::any(tenant).await?;
    let document = snapshot.document(service.as_str()).await?;
    let offered = document.as_ref().and_then(|document| {
        let at = document.position(&report.delivery.capability, &report.delivery.version)?;
        let timeout_seconds = document.service().capabilities.get(at)?.timeout_seconds;
        Some(Offered { schema: document.output(at), timeout_seconds })
    });
    Ok(report.judge(service, offered, clock::now()))
}

/// Returns false if the attempt was over.
async fn call_back(tenant: &TenantId, report: &CallBack) -> Result<bool, Failure> {
    let store = Contexts::holding(tenant, &report.id)?;
    Ok(match with_retries(MAX_RETRIES, || call_store(&store, report)).await? {
        CallbackReply::CalledBack { counts, .. } => counts,
        // The context does not exist.
        CallbackReply::Nothing => false,
    })
}
