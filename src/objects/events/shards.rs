//! The hub's side of its shards: which are registered, and what each must still receive. See
//! `narthex_core::events::fanout`.

use std::rc::Rc;

use futures_util::future::try_join_all;

use crate::platform::objects::{self, CALL_TIMEOUT_MS, Kind};
use crate::platform::{Failure, clock, log_event, settings, tasks};
use narthex_core::base::object_name::ObjectName;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::events::fanout::{Push, PushReply};

use super::Hub;
use super::messages::{Page, Reply, Revocation, ShardAsk, ShardReply, shard_name};

/// Attempts to reach a shard before the alarm takes over.
const MAX_ATTEMPTS: u32 = 5;
/// How long a shard may take to close sockets; the revocation of a key waits for it.
const REVOKE_TIMEOUT_MS: u64 = 2_000;

impl Hub {
    fn name(&self, number: u16) -> Result<ObjectName, Failure> {
        let tenant = self.tenant.borrow();
        Ok(shard_name(tenant.as_ref().ok_or_else(|| Failure("no shard has joined".into()))?, number))
    }

    pub(super) fn join(self: &Rc<Self>, number: u16, tenant: TenantId) -> Result<Reply, Failure> {
        self.log.borrow().add_shard(number, &tenant)?;
        self.tenant.replace(Some(tenant));
        self.shards.borrow_mut().join(number);
        Ok(Reply::Joined { last: self.log.borrow().last() })
    }

    /// Pushes to every shard that is behind, unless a push is running.
    pub(super) fn push_out(self: &Rc<Self>) {
        let last = self.log.borrow().last();
        for number in self.shards.borrow_mut().shards_behind(last) {
            let hub = self.clone();
            tasks::spawn(async move { hub.push_to(number).await });
        }
    }

    async fn push_to(self: Rc<Self>, number: u16) {
        let mut failures = 0;
        loop {
            let last = self.log.borrow().last();
            let Some(push) = self.shards.borrow_mut().next(number, last) else { return };
            let reply = match self.push(number, push).await {
                Ok(ShardReply::Reached { reached, sockets }) => PushReply::Reached { reached, sockets },
                Ok(ShardReply::Gone) => PushReply::Gone,
                Ok(ShardReply::Joining | ShardReply::Done) => PushReply::Joining,
                Err(failure) => {
                    log_event!(
                        ShardNotReached,
                        tenant = self.tenant.borrow().as_ref(),
                        shard = number,
                        detail = &failure
                    );
                    PushReply::Joining
                }
            };
            if self.shards.borrow_mut().handle_reply(number, push.generation, reply) {
                // If this fails, the shard reports again that it has left.
                let _ = self.log.borrow().remove_shard(number);
            }
            failures = if reply == PushReply::Joining { failures + 1 } else { 0 };
            if failures == MAX_ATTEMPTS {
                self.shards.borrow_mut().pause(number);
                self.push_at.set(Some(clock::now().plus_ms(settings::timing().event_retry_ms)));
                self.arm();
                return;
            }
            if failures > 0 {
                clock::pause(25 << failures).await;
            }
        }
    }

    async fn push(&self, number: u16, push: Push) -> Result<ShardReply, Failure> {
        let page = {
            let log = self.log.borrow();
            match push.after {
                Some(after) => log.page(after)?,
                None => {
                    Page { batches: Vec::new(), first_kept: log.first_kept()?.unwrap_or(log.next()), last: log.last() }
                }
            }
        };
        let ask = ShardAsk::Push { after: push.after, page };
        objects::send(Kind::Shards, &self.name(number)?, "", &ask, CALL_TIMEOUT_MS).await
    }

    /// Closes the sockets of ended credentials, here and at every shard.
    pub(super) async fn revoke(&self, principal: PrincipalId) -> Result<Reply, Failure> {
        self.log.borrow().delete_tickets(&principal)?;
        self.subscribers.revoke(&principal);
        self.notify_shards(&ShardAsk::Revoke { principal }).await
    }

    /// Closes the sockets whose credentials depend on what was revoked, here and at every shard.
    pub(super) async fn end(&self, revocation: Revocation) -> Result<Reply, Failure> {
        self.log.borrow().delete_tickets_of(|viewer| viewer.depends_on(&revocation))?;
        self.subscribers.revoke_dependents(&revocation);
        self.notify_shards(&ShardAsk::End(revocation)).await
    }

    async fn notify_shards(&self, ask: &ShardAsk) -> Result<Reply, Failure> {
        let joined: Vec<u16> = self.shards.borrow().joined().collect();
        try_join_all(joined.iter().map(|number| {
            let name = self.name(*number);
            async move { objects::send::<_, ShardReply>(Kind::Shards, &name?, "", ask, REVOKE_TIMEOUT_MS).await }
        }))
        .await?;
        Ok(Reply::Done)
    }
}
