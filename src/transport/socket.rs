//! `transport.kind: "socket"`: a service that connects to the gateway takes its work over its connection.
//!
//! The work is handed to the service's lane, where the connections are, and the attempt is the service's from then on,
//! as if it had answered 202: nobody waits anywhere until it reports. It is not signed: whoever reads it has opened the
//! connection to the gateway's own address and shown a key there.

use serde_json::value::to_raw_value;

use crate::objects::lanes::client;
use crate::objects::registry::snapshot::Entry;
use crate::platform::{clock, log_event, settings};
use narthex_core::base::time::Timestamp;
use narthex_core::calling::connection::pool::Delivery;
use narthex_core::calling::response::CallResult;

use super::{Envelope, Order};

/// How long an attempt looks for a connection when the one that had room dropped meanwhile, in milliseconds.
const PATIENCE_MS: u64 = 15_000;
/// Times the lane is asked; asked twice it hands over once.
const TRIES: u32 = 4;

/// Hands the work over, to whoever has room for it.
pub async fn call(tenant: &str, entry: &Entry, order: &Order<'_>) -> CallResult {
    let admission = &order.work.admission;
    let work = Envelope { traceparent: Some(order.trace.header()), ..Envelope::of(order) };
    let Ok(work) = to_raw_value(&work) else { return CallResult::Refused };
    let delivery = Delivery {
        context: admission.id.clone(),
        lease: order.work.lease,
        capability: admission.capability.clone(),
        version: admission.version.clone(),
        deadline: admission.expires_at,
        handed_at: Timestamp::default(),
        connection: String::new(),
    };
    let until = order.now.plus_ms(PATIENCE_MS);
    let mut failures = 0;
    loop {
        let now = clock::now();
        if now >= admission.expires_at {
            return CallResult::TimedOut { deadline: true };
        }
        match client::hand(tenant, entry, &delivery, &work).await {
            Ok(true) => return CallResult::Accepted,
            Ok(false) if now >= until => return CallResult::Refused,
            Ok(false) => {}
            Err(failure) => {
                let service = &entry.service().id;
                log_event!(
                    LaneNotReached,
                    tenant = tenant,
                    context = &admission.id,
                    service = service,
                    detail = &failure
                );
                failures += 1;
                // It may have been handed over, and the reply be lost.
                if failures == TRIES {
                    return CallResult::Lost;
                }
            }
        }
        clock::pause(settings::timing().connection_poll_ms).await;
    }
}
