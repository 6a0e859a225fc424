//! The hub's side of its shards: which are registered, and what each must still receive. See
//! `narthex_core::events::fanout`.

use std::rc::Rc;

use futures_util::future::try_join_all;

use crate::objects::protocol::{Address, Done, Request, call};
use crate::objects::shell::{Answer, Handle, HandleLater};
use crate::platform::objects::CallError;
use crate::platform::{Failure, clock, log_event, settings, tasks};
use narthex_core::base::retries::Retries;
use narthex_core::events::fanout::{Push, PushReply, ShardNumber};
use narthex_core::events::sequence::Sequence;

use super::Hub;
use super::messages::shards::{
    CloseDependents, CloseSockets, EventShards, JoinShard, Joined, LogPage, Page, PushPage, Pushed, ReadLog,
};
use super::messages::{Revoke, RevokeDependents};

/// How many times an unreachable shard is tried again before the alarm takes over.
const MAX_RETRIES: u32 = 4;

impl Handle<JoinShard> for &Rc<Hub> {
    fn handle(self, JoinShard { shard, tenant }: JoinShard) -> Result<Joined, Failure> {
        self.log.borrow().add_shard(shard, &tenant)?;
        self.tenant.replace(Some(tenant));
        self.shards.borrow_mut().join(shard);
        Ok(Joined::Joined { last: self.log.borrow().last() })
    }
}

impl Handle<ReadLog> for &Rc<Hub> {
    fn handle(self, ReadLog { after }: ReadLog) -> Result<LogPage, Failure> {
        Ok(LogPage::Page(self.log.borrow().page(after)?))
    }
}

impl HandleLater<Revoke> for &Rc<Hub> {
    fn handle(self, Revoke { principal }: Revoke) -> Answer<Done> {
        let hub = self.clone();
        Answer::later(async move {
            hub.log.borrow().delete_tickets(&principal)?;
            hub.subscribers.revoke(&principal);
            hub.notify_shards(&CloseSockets { principal }).await
        })
    }
}

impl HandleLater<RevokeDependents> for &Rc<Hub> {
    fn handle(self, RevokeDependents(revocation): RevokeDependents) -> Answer<Done> {
        let hub = self.clone();
        Answer::later(async move {
            hub.log.borrow().delete_tickets_of(|viewer| viewer.depends_on(&revocation))?;
            hub.subscribers.revoke_dependents(&revocation);
            hub.notify_shards(&CloseDependents(revocation)).await
        })
    }
}

impl Hub {
    fn shard(&self, number: ShardNumber) -> Result<Address<EventShards>, Failure> {
        let tenant = self.tenant.borrow();
        Ok(EventShards::of(tenant.as_ref().ok_or_else(|| Failure("no shard has joined".into()))?, number))
    }

    /// Pushes to every shard that is behind, unless a push is running.
    pub(super) fn push_out(self: &Rc<Self>) {
        let last = self.log.borrow().last();
        // A task may begin at once, and borrows the shards.
        let shards_behind = self.shards.borrow_mut().shards_behind(last);
        for number in shards_behind {
            let hub = self.clone();
            tasks::spawn(async move { hub.push_to(number).await });
        }
    }

    async fn push_to(self: Rc<Self>, number: ShardNumber) {
        let mut retries = Retries::up_to(MAX_RETRIES);
        loop {
            let last = self.log.borrow().last();
            let Some(push) = self.shards.borrow_mut().next(number, last) else { return };
            let generation = push.generation;
            let (reply, may_retry, pause_ms) = match self.push(number, push).await {
                Ok(Pushed::Reached { reached, sockets }) => (PushReply::Reached { reached, sockets }, true, 0),
                Ok(Pushed::Gone) => (PushReply::Gone, true, 0),
                // A shard joins within milliseconds.
                Ok(Pushed::Joining) => (PushReply::Joining, retries.allow_another(), retries.pause_ms() / 4),
                Err(error) => {
                    let tenant = self.tenant.borrow();
                    log_event!(ShardNotReached, tenant = tenant.as_ref(), shard = number.get(), detail = &error);
                    (PushReply::Joining, retries.allow(error.fault()), retries.pause_ms())
                }
            };
            if self.shards.borrow_mut().handle_reply(number, generation, reply) {
                // If this fails, the shard reports again that it has left.
                let _ = self.log.borrow().remove_shard(number);
            }
            if !may_retry {
                self.shards.borrow_mut().pause(number);
                self.push_at.set(Some(clock::now().plus_ms(settings::timing().event_retry_ms)));
                self.arm();
                return;
            }
            match reply {
                PushReply::Joining => clock::pause(pause_ms).await,
                PushReply::Reached { .. } | PushReply::Gone => retries = Retries::up_to(MAX_RETRIES),
            }
        }
    }

    async fn push(&self, number: ShardNumber, push: Push) -> Result<Pushed, CallError> {
        let failed = |Failure(text)| CallError::Failed(text);
        let page = self.page_after(push.after).map_err(failed)?;
        call(&self.shard(number).map_err(failed)?, &PushPage { after: push.after, page }).await
    }

    /// The events after `after`; without it, only the present position.
    fn page_after(&self, after: Option<Sequence>) -> Result<Page, Failure> {
        let log = self.log.borrow();
        match after {
            Some(after) => log.page(after),
            None => {
                Ok(Page { batches: Vec::new(), first_kept: log.first_kept()?.unwrap_or(log.next()), last: log.last() })
            }
        }
    }

    /// Closes sockets at every shard.
    async fn notify_shards<R>(&self, request: &R) -> Result<Done, Failure>
    where
        R: Request<Object = EventShards, Reply = Done>,
    {
        let joined: Vec<ShardNumber> = self.shards.borrow().joined().collect();
        try_join_all(joined.iter().map(|number| {
            let shard = self.shard(*number);
            async move { Ok::<Done, Failure>(call(&shard?, request).await?) }
        }))
        .await?;
        Ok(Done::Done)
    }
}
