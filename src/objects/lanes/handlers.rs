//! The handlers of a lane's requests.

use std::rc::Rc;

use crate::objects::protocol::Done;
use crate::objects::shell::{Answer, Handle, HandleLater};
use crate::platform::{Failure, clock, random};
use narthex_core::lane::queue::Waiter;
use narthex_core::service_lane::probing::{ProbeError, ProbeReport};

use super::Inner;
use super::messages::{
    Acquire, CheckConnection, Configure, Connects, Dispatch, DispatchReply, Forget, Heartbeat, HeartbeatReply, Leave,
    PermitReply, Probe, ProbeReply, Release, Renew, ReportCalls, Revoke, RevokeDependents, Withdraw,
};

/// The longest wait for a permit in one request, in milliseconds.
const MAX_WAIT_MS: u64 = 30_000;

impl Handle<Configure> for &Rc<Inner> {
    fn handle(self, Configure(target): Configure) -> Result<Done, Failure> {
        self.lane.borrow_mut().configure(target, clock::now())?;
        Ok(Done::Done)
    }
}

impl Handle<Connects> for &Rc<Inner> {
    fn handle(self, _: Connects) -> Result<Done, Failure> {
        // The lane settles, as after every message.
        Ok(Done::Done)
    }
}

impl Handle<Forget> for &Rc<Inner> {
    fn handle(self, _: Forget) -> Result<Done, Failure> {
        // The lane has learned it already.
        Ok(Done::Done)
    }
}

impl HandleLater<Acquire> for &Rc<Inner> {
    fn handle(self, acquire: Acquire) -> Answer<PermitReply> {
        let Acquire { context, principal, priority, deadline, admitted, wait_ms } = acquire;
        let waiter = Waiter { context, principal, priority, deadline, admitted };
        if wait_ms == 0 {
            let decision = self.lane.borrow_mut().acquire(waiter, None, clock::now(), random::number());
            return Answer::now(decision.map(PermitReply::Decision).map_err(Failure::from));
        }
        let inner = self.clone();
        Answer::later(async move {
            inner.wait_for_permit(waiter, wait_ms.min(MAX_WAIT_MS)).await.map(PermitReply::Decision)
        })
    }
}

impl Handle<Renew> for &Rc<Inner> {
    fn handle(self, Renew { permit, principal }: Renew) -> Result<Done, Failure> {
        self.lane.borrow_mut().renew(permit, &principal, clock::now())?;
        Ok(Done::Done)
    }
}

impl Handle<Release> for &Rc<Inner> {
    fn handle(self, Release { permit, sample }: Release) -> Result<Done, Failure> {
        self.lane.borrow_mut().release(permit, sample, clock::now(), random::number());
        Ok(Done::Done)
    }
}

impl Handle<ReportCalls> for &Rc<Inner> {
    fn handle(self, ReportCalls { successes, last }: ReportCalls) -> Result<Done, Failure> {
        self.lane.borrow_mut().report_calls(successes, last, clock::now(), random::number());
        Ok(Done::Done)
    }
}

impl Handle<Leave> for &Rc<Inner> {
    fn handle(self, Leave { context }: Leave) -> Result<Done, Failure> {
        self.lane.borrow_mut().leave(&context);
        Ok(Done::Done)
    }
}

impl Handle<Heartbeat> for &Rc<Inner> {
    fn handle(self, Heartbeat { status, lease_ms }: Heartbeat) -> Result<HeartbeatReply, Failure> {
        let until = self.lane.borrow_mut().heartbeat(status, lease_ms, clock::now())?;
        Ok(HeartbeatReply::Valid { until })
    }
}

impl HandleLater<Probe> for &Rc<Inner> {
    fn handle(self, Probe(target): Probe) -> Answer<ProbeReply> {
        let (inner, probed) = (self.clone(), self.lane.borrow().of_sender());
        Answer::later(async move { inner.probe(probed, &target).await.map(ProbeReply::Report) })
    }
}

impl Handle<CheckConnection> for &Rc<Inner> {
    fn handle(self, _: CheckConnection) -> Result<ProbeReply, Failure> {
        let good = self.lane.borrow().is_connected();
        let missing = ProbeReport::failed(ProbeError::NotConnected, 0, clock::now());
        Ok(ProbeReply::Report(if good { ProbeReport { good, error: None, ..missing } } else { missing }))
    }
}

impl Handle<Dispatch> for &Rc<Inner> {
    fn handle(self, Dispatch { delivery, work, until }: Dispatch) -> Result<DispatchReply, Failure> {
        let dispatched = self.lane.borrow_mut().dispatch(delivery, until, &work, clock::now())?;
        Ok(DispatchReply::Dispatched(dispatched))
    }
}

impl Handle<Withdraw> for &Rc<Inner> {
    fn handle(self, Withdraw { context, cancelled, lease }: Withdraw) -> Result<Done, Failure> {
        self.lane.borrow_mut().withdraw(&context, lease, cancelled, clock::now())?;
        Ok(Done::Done)
    }
}

impl Handle<Revoke> for &Rc<Inner> {
    fn handle(self, Revoke { principal }: Revoke) -> Result<Done, Failure> {
        self.lane.borrow_mut().revoke(&principal, clock::now());
        Ok(Done::Done)
    }
}

impl Handle<RevokeDependents> for &Rc<Inner> {
    fn handle(self, RevokeDependents(revocation): RevokeDependents) -> Result<Done, Failure> {
        self.lane.borrow_mut().revoke_dependents(&revocation, clock::now());
        Ok(Done::Done)
    }
}
