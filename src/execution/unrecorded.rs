//! `durable: false`: executed first, recorded after the answer; no object is asked on the way.
//!
//! When the wait is over before the service has answered, the context is admitted then, under the lease its
//! worker holds already: a 202 always names something that is stored.

use std::rc::Rc;

use futures_util::future::{Either, select};
use serde_json::value::RawValue;

use crate::objects::contexts::messages::{Ask, Reply, Work};
use crate::objects::contexts::view;
use crate::objects::lanes::client as lanes;
use crate::objects::registry::snapshot::Snapshot;
use crate::platform::{Failure, clock, settings};
use narthex_core::context::{Admission, Head};

use super::{Attempted, News, Timings, Waiter, Worked, ask_decided, ask_stubbornly, attempt, commit, holding, stopped};

/// The number of the first and only lease.
const LEASE: u64 = 1;

/// Runs it. `service` is the chosen one's place in the snapshot.
pub async fn run(
    tenant: String,
    mut admission: Admission,
    parameters: Box<RawValue>,
    mut snapshot: Rc<Snapshot>,
    service: usize,
    mut waiter: Waiter,
) -> Result<(), Failure> {
    // Nobody can retry what nobody recorded.
    admission.retry.max_attempts = 1;
    let held = snapshot.clone();
    let entry = held.services.get(service).ok_or_else(|| Failure("a service went missing".into()))?;
    let (tried, hopeless) = (Vec::new(), Vec::new());
    let work =
        Work { admission, parameters, lease: LEASE, attempt: 1, tried, hopeless, input: None, input_state: None };
    let before = clock::now();
    let attempted = {
        let mut doing = std::pin::pin!(attempt(&tenant, &work, &held, entry, waiter.live(), waiter.teller()));
        let early = match select(doing.as_mut(), std::pin::pin!(waiter.time())).await {
            Either::Left((attempted, _)) => Some(attempted),
            Either::Right(_) => None,
        };
        match early {
            Some(attempted) if attempted.report.outcome.ends() => attempted,
            // The wait is over, or the service needs more than this one call: it must exist now.
            early => {
                admit(&tenant, &work, &mut snapshot).await?;
                waiter.tell(News::GoesOn);
                let attempted = match early {
                    Some(attempted) => Some(attempted),
                    None => holding(&tenant, &work.admission, LEASE, None, &mut waiter, doing).await,
                };
                let attempted = attempted.unwrap_or_else(|| stopped(&work.admission, LEASE, before));
                let told = lanes::note(&tenant, entry, attempted.sample(Some(entry), None));
                let committed =
                    commit(&tenant, &work.admission.id, attempted, 0, Timings::default(), &mut waiter).await;
                if let Some(telling) = told {
                    telling.await;
                }
                return committed.map(drop);
            }
        }
    };
    let told = lanes::note(&tenant, entry, attempted.sample(Some(entry), None));
    record(&tenant, work, attempted, &mut waiter).await?;
    if let Some(telling) = told {
        telling.await;
    }
    Ok(())
}

/// Makes the running context exist, under the lease its worker holds already.
async fn admit(tenant: &str, work: &Work, snapshot: &mut Rc<Snapshot>) -> Result<(), Failure> {
    let admit = Ask::Admit {
        admission: Box::new(work.admission.clone()),
        parameters: work.parameters.clone(),
        lease_ms: Some(settings::timing().lease_ms),
        offers: false,
        show: false,
        claim: None,
    };
    match ask_decided(tenant, &work.admission.id, snapshot, admit).await? {
        Reply::Admitted { lease: Some(LEASE), .. } => Ok(()),
        _ => Err(Failure("a context that runs could not be admitted".into())),
    }
}

async fn record(tenant: &str, work: Work, attempted: Attempted, waiter: &mut Waiter) -> Result<(), Failure> {
    let Work { admission, parameters, .. } = work;
    let Attempted { report, result, .. } = attempted;
    let upstream = report.ended_at.since(report.started_at);
    let head = Head::from_record(admission.clone(), report.clone())
        .map_err(|_| Failure("a context could not be ended".into()))?;
    let timings = Timings { upstream, ..Timings::default() };
    waiter.tell(News::Ended(Worked { view: view::of(&head)?, result: result.clone(), timings }));
    let id = admission.id.clone();
    let record = Ask::Record { admission: Box::new(admission), parameters, report, result };
    ask_stubbornly(tenant, &id, record).await.map(drop)
}
