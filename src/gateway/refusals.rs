//! Refused requests in the metrics: the code of the response and of the log line, counted at the tenant's hub. Requests
//! of unknown callers are counted at the deployment's own tenant.

use std::cell::RefCell;

use crate::objects::events::messages::{CountRejections, Events};
use crate::objects::protocol;
use crate::platform::{clock, log_event, tasks};
use narthex_core::base::tenant_id::TenantId;
use narthex_core::usage::rejection_counter::{Codes, RejectionCounter};

use super::call::Call;

thread_local! {
    static REFUSALS: RefCell<RejectionCounter> = RefCell::default();
}

async fn report(tenant: &TenantId, codes: Codes) {
    let count = CountRejections { codes };
    if let Err(error) = protocol::call(&Events::of(tenant), &count).await {
        log_event!(RefusalsNotCounted, tenant = tenant, detail = &error);
        REFUSALS.with_borrow_mut(|refusals| refusals.put_back(tenant, count.codes));
    }
}

/// Counts a refusal, and reports to the hub after the response.
pub fn count(call: &Call, code: &str) {
    let tenant = call.tenant.borrow().clone();
    if let Some(codes) = REFUSALS.with_borrow_mut(|refusals| refusals.count(&tenant, code, clock::now())) {
        tasks::keep_running(async move { report(&tenant, codes).await });
    }
}

/// Reports this isolate's refusals to the hub, before its totals are read.
pub async fn flush(tenant: &TenantId) {
    if let Some(codes) = REFUSALS.with_borrow_mut(|refusals| refusals.take(tenant)) {
        report(tenant, codes).await;
    }
}
