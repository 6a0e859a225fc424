//! The handlers of a lane's requests.

use std::rc::Rc;

use crate::objects::protocol::Done;
use crate::objects::shell::{Answer, Handle, HandleLater};
use crate::platform::{Failure, clock, random};
use narthex_core::calling::connection::frame::WithdrawalReason;
use narthex_core::lane::queue::Waiter;

use super::Inner;
use super::messages::{
    Acquire, CheckConnection, Configure, Connects, Dispatch, DispatchReply, Forget, Heartbeat, HeartbeatReply, Leave,
    PermitReply, Probe, ProbeReply, Release, Renew, ReportCalls, Revoke, RevokeDependents, Withdraw,
};

/// The longest wait for a permit in one request, in milliseconds.
const MAX_WAIT_MS: u64 = 30_000;

impl Handle<Configure> for &Rc<Inner> {
    fn handle(self, Configure(target): Configure) -> Result<Done, Failure> {
        self.configure(target, clock::now())?;
        Ok(Done::Done)
    }
}

impl Handle<Connects> for &Rc<Inner> {
    fn handle(self, _: Connects) -> Result<Done, Failure> {
        self.rearm_if_missed(clock::now());
        Ok(Done::Done)
    }
}

impl Handle<Forget> for &Rc<Inner> {
    fn handle(self, _: Forget) -> Result<Done, Failure> {
        self.delete()?;
        Ok(Done::Done)
    }
}

impl HandleLater<Acquire> for &Rc<Inner> {
    fn handle(self, acquire: Acquire) -> Answer<PermitReply> {
        let Acquire { context, principal, priority, deadline, admitted, wait_ms } = acquire;
        let waiter = Waiter { context, principal, priority, deadline, admitted };
        if wait_ms == 0 {
            return Answer::now(self.acquire(waiter).map(PermitReply::Decision));
        }
        let inner = self.clone();
        Answer::later(async move {
            inner.wait_for_permit(waiter, wait_ms.min(MAX_WAIT_MS)).await.map(PermitReply::Decision)
        })
    }
}

impl Handle<Renew> for &Rc<Inner> {
    fn handle(self, Renew { permit, principal }: Renew) -> Result<Done, Failure> {
        let must_persist = self.lane.borrow_mut().renew(permit, &principal, clock::now());
        if must_persist {
            self.store()?;
        }
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
        self.lane.borrow_mut().report(successes, last, clock::now(), random::number());
        Ok(Done::Done)
    }
}

impl Handle<Leave> for &Rc<Inner> {
    fn handle(self, Leave { context }: Leave) -> Result<Done, Failure> {
        self.state.waiters.borrow_mut().remove(context.as_str());
        self.lane.borrow_mut().leave(&context);
        Ok(Done::Done)
    }
}

impl Handle<Heartbeat> for &Rc<Inner> {
    fn handle(self, Heartbeat { status, lease_ms }: Heartbeat) -> Result<HeartbeatReply, Failure> {
        let now = clock::now();
        self.lane.borrow_mut().heartbeat(status, lease_ms, now);
        let until = now.plus_ms(lease_ms);
        if until > self.state.stored_heartbeat.get() {
            self.store()?;
        }
        Ok(HeartbeatReply::Valid { until })
    }
}

impl HandleLater<Probe> for &Rc<Inner> {
    fn handle(self, Probe(target): Probe) -> Answer<ProbeReply> {
        let inner = self.clone();
        Answer::later(async move {
            let report = inner.probe(&target).await?;
            if inner.state.probe_at.get().is_some() {
                inner.store()?;
            }
            Ok(ProbeReply::Report(report))
        })
    }
}

impl Handle<CheckConnection> for &Rc<Inner> {
    fn handle(self, _: CheckConnection) -> Result<ProbeReply, Failure> {
        Ok(ProbeReply::Report(self.is_connected(clock::now())))
    }
}

impl Handle<Dispatch> for &Rc<Inner> {
    fn handle(self, Dispatch { delivery, work, until }: Dispatch) -> Result<DispatchReply, Failure> {
        self.dispatch(delivery, until, &work).map(DispatchReply::Dispatched)
    }
}

impl Handle<Withdraw> for &Rc<Inner> {
    fn handle(self, Withdraw { context, cancelled, lease }: Withdraw) -> Result<Done, Failure> {
        let ended = self.connections.pool.borrow_mut().withdraw(&context, lease, clock::now());
        self.store_ended(ended, cancelled.then_some(WithdrawalReason::Cancelled))?;
        Ok(Done::Done)
    }
}

impl Handle<Revoke> for &Rc<Inner> {
    fn handle(self, Revoke { principal }: Revoke) -> Result<Done, Failure> {
        self.revoke(|viewer| viewer.principal == principal);
        Ok(Done::Done)
    }
}

impl Handle<RevokeDependents> for &Rc<Inner> {
    fn handle(self, RevokeDependents(revocation): RevokeDependents) -> Result<Done, Failure> {
        self.revoke_dependents(&revocation);
        Ok(Done::Done)
    }
}
