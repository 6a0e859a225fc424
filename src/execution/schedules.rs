//! What the scheduler is told. The runs are made like requests, so that is done by the gateway.

use crate::objects::registry::messages::{Kept, Kind as Document};
use crate::objects::registry::snapshot::Snapshot;
use crate::objects::schedules::messages::{Ask, Planned, Reply};
use crate::platform::Failure;
use crate::platform::objects::{self, Kind, PATIENCE_MS};
use narthex_core::schedules::Schedule;

/// A schedule as it is kept.
pub fn read(kept: &Kept) -> Option<Schedule> {
    serde_json::from_str(kept.document.get()).ok()
}

/// Asks the tenant's scheduler.
pub async fn ask_scheduler(tenant: &str, ask: &Ask) -> Result<Reply, Failure> {
    objects::send(Kind::Schedules, tenant, "", ask, PATIENCE_MS).await
}

/// Tells the scheduler which schedules there are.
pub async fn configure(tenant: &str, snapshot: &Snapshot) -> Result<(), Failure> {
    let planned = |kept: &Kept| {
        let schedule = read(kept)?;
        let (plan, missed, enabled) = (schedule.plan(kept.updated_at), schedule.missed, schedule.enabled);
        Some(Planned { id: kept.id.clone(), version: kept.generation(), plan, missed, enabled })
    };
    let schedules = snapshot.kept(Document::Schedule).filter_map(planned).collect();
    let ask = Ask::Configure { tenant: tenant.into(), revision: snapshot.revision, schedules };
    ask_scheduler(tenant, &ask).await?;
    Ok(())
}
