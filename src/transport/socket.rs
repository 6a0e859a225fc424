//! `transport.kind: "socket"`: a connected service, which receives its work over its connection.
//!
//! The work goes to the lane of the service, which holds the connections. From then on the attempt belongs to the
//! service, as if it had responded with 202: no Worker waits until it reports. The envelope is not signed, as its
//! reader has opened the connection to the gateway and authenticated there.

use serde_json::value::to_raw_value;

use crate::objects::lanes::client;
use crate::objects::registry::snapshot::Entry;
use crate::platform::{clock, log_event, settings};
use narthex_core::base::tenant_id::TenantId;
use narthex_core::calling::connection::pool::Delivery;
use narthex_core::calling::response::CallResult;
use narthex_core::execution::hand_over::{HandOver, HandOverStep};

use super::{Envelope, Order};

/// Hands the work over to a connection with room.
pub async fn call(tenant: &TenantId, entry: &Entry, order: &Order<'_>) -> CallResult {
    let admission = &order.work.admission;
    let work = Envelope { traceparent: Some(order.trace.header()), ..Envelope::of(order) };
    let Ok(work) = to_raw_value(&work) else { return CallResult::Refused };
    let delivery = Delivery::new(admission, order.lease);
    let mut hand_over = HandOver::new(admission.expires_at, order.now, &settings::timing());
    let mut step = hand_over.begin(clock::now());
    loop {
        match step {
            HandOverStep::End(result) => return result,
            HandOverStep::Dispatch { pause_ms } => clock::pause_if_any(pause_ms).await,
        }
        let reply = client::dispatch(tenant, entry, &delivery, hand_over.valid_until(), &work).await.map_err(|error| {
            let (context, service) = (&admission.id, &entry.service().id);
            log_event!(LaneNotReached, tenant = tenant, context = context, service = service, detail = &error);
            error.fault()
        });
        step = hand_over.on(reply, clock::now());
    }
}
