//! `transport.kind: "socket"`: a connected service, which receives its work over its connection.
//!
//! The work goes to the lane of the service, which holds the connections. From then on the attempt belongs to the
//! service, as if it had responded with 202: no Worker waits until it reports. The envelope is not signed, as its
//! reader has opened the connection to the gateway and authenticated there.

use serde_json::value::to_raw_value;

use crate::objects::lanes::client;
use crate::objects::registry::snapshot::Entry;
use crate::objects::retries::pause_after;
use crate::platform::{clock, log_event, settings};
use narthex_core::base::retries::Retries;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::calling::connection::pool::Delivery;
use narthex_core::calling::response::CallResult;

use super::{Envelope, Order};

/// How long an attempt looks for a connection after the one that had room has dropped, in milliseconds.
const CONNECTION_TIMEOUT_MS: u64 = 15_000;
/// How many times a failed call to the lane is retried. A retry does not hand the work over twice.
const MAX_RETRIES: u32 = 3;

/// Hands the work over to a connection with room.
pub async fn call(tenant: &TenantId, entry: &Entry, order: &Order<'_>) -> CallResult {
    let admission = &order.work.admission;
    let work = Envelope { traceparent: Some(order.trace.header()), ..Envelope::of(order) };
    let Ok(work) = to_raw_value(&work) else { return CallResult::Refused };
    let delivery = Delivery {
        context: admission.id.clone(),
        lease: order.lease,
        capability: admission.capability.clone(),
        version: admission.version.clone(),
        deadline: admission.expires_at,
        handed_at: Timestamp::default(),
        connection: String::new(),
    };
    let until = order.now.plus_ms(CONNECTION_TIMEOUT_MS);
    let mut retries = Retries::up_to(MAX_RETRIES);
    loop {
        let now = clock::now();
        if now >= admission.expires_at {
            return CallResult::TimedOut { deadline: true };
        }
        match client::dispatch(tenant, entry, &delivery, &work).await {
            Ok(true) => return CallResult::Accepted,
            Ok(false) if now >= until => return CallResult::Refused,
            Ok(false) => retries = Retries::up_to(MAX_RETRIES),
            Err(error) => {
                let service = &entry.service().id;
                log_event!(
                    LaneNotReached,
                    tenant = tenant,
                    context = &admission.id,
                    service = service,
                    detail = &error
                );
                // It may have been handed over, and the reply lost.
                if !pause_after(&mut retries, &error).await {
                    return CallResult::Lost;
                }
            }
        }
        clock::pause(settings::timing().connection_poll_ms).await;
    }
}
