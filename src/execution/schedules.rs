//! The schedules of a tenant, as its scheduler gets them. The gateway makes the runs, because they are made like
//! requests.

use crate::objects::protocol::call;
use crate::objects::registry::messages::{DocumentKind, StoredDocument};
use crate::objects::registry::snapshot::Snapshot;
use crate::objects::schedules::messages::{Configure, ScheduleConfig, Schedules};
use crate::platform::Failure;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::schedules::Schedule;

/// Reads the stored document of a schedule.
pub fn read(stored: &StoredDocument) -> Option<Schedule> {
    serde_json::from_str(stored.document.get()).ok()
}

/// Sends the schedules of a tenant to its scheduler.
pub async fn configure(tenant: &TenantId, snapshot: &Snapshot) -> Result<(), Failure> {
    let planned = |stored: &StoredDocument| {
        let schedule = read(stored)?;
        let (plan, missed, enabled) = (schedule.plan(stored.updated_at), schedule.missed, schedule.enabled);
        Some(ScheduleConfig { id: stored.id.clone(), generation: stored.generation(), plan, missed, enabled })
    };
    let schedules = snapshot.documents(DocumentKind::Schedule).filter_map(planned).collect();
    let unreadable = snapshot.rules.unreadable(DocumentKind::Schedule).map(Into::into).collect();
    let configure = Configure { tenant: tenant.clone(), revision: snapshot.revision, schedules, unreadable };
    call(&Schedules::of(tenant), &configure).await?;
    Ok(())
}
