//! The handlers of requests that are not writes. `writes.rs` has those of writes.

use std::rc::Rc;

use serde::Serialize;

use crate::objects::protocol::Done;
use crate::objects::shell::{Answer, HandleLater};
use crate::platform::{Failure, log_event, tasks};
use narthex_core::access::audit::Actor;
use narthex_core::base::tenant_id::TenantId;

use super::Inner;
use super::messages::{
    AuditEntries, AuditQuery, Documents, Hello, HelloReply, Holdings, LastUsed, ListHoldings, ReadDocuments,
    ReadLastUsed, ReadSize, ReadSnapshot, RecordClientUse, RecordKeyUse, RejectedCredentials, ReportStatus, SizeReply,
    SnapshotReply, StatusReply, Sweep,
};

/// The registry, and what came with a request.
pub(super) struct Received {
    pub inner: Rc<Inner>,
    pub tenant: TenantId,
    pub by: Actor,
}

impl Received {
    /// Answers when the tenant's own secret is decrypted.
    pub(super) fn later<T: Serialize>(
        self,
        work: impl AsyncFnOnce(Rc<Inner>, Actor) -> Result<T, Failure> + 'static,
    ) -> Answer<T> {
        let Self { inner, tenant, by } = self;
        Answer::later(async move {
            inner.remember_tenant(&tenant)?;
            inner.load_own_secret().await?;
            work(inner, by).await
        })
    }
}

impl HandleLater<Hello> for Received {
    fn handle(self, Hello { store }: Hello) -> Answer<HelloReply> {
        self.later(async move |inner, _| inner.hello(store))
    }
}

impl HandleLater<ReadSnapshot> for Received {
    fn handle(self, request: ReadSnapshot) -> Answer<SnapshotReply> {
        let has_secret = self.inner.own_secret.borrow().is_some();
        match has_secret {
            true => Answer::now(self.inner.snapshot(&request)),
            false => self.later(async move |inner, _| inner.snapshot(&request)),
        }
    }
}

impl HandleLater<RecordKeyUse> for Received {
    fn handle(self, RecordKeyUse { key, at }: RecordKeyUse) -> Answer<Done> {
        self.later(async move |inner, _| {
            inner.tables.record_key_use(&key, at)?;
            Ok(Done::Done)
        })
    }
}

impl HandleLater<RecordClientUse> for Received {
    fn handle(self, RecordClientUse { client, at }: RecordClientUse) -> Answer<Done> {
        self.later(async move |inner, _| {
            inner.tables.record_client_use(&client, at)?;
            Ok(Done::Done)
        })
    }
}

impl HandleLater<ReadDocuments> for Received {
    fn handle(self, ReadDocuments { after }: ReadDocuments) -> Answer<Documents> {
        self.later(async move |inner, _| inner.documents(&after))
    }
}

impl HandleLater<AuditQuery> for Received {
    fn handle(self, query: AuditQuery) -> Answer<AuditEntries> {
        self.later(async move |inner, _| Ok(AuditEntries::Audit { entries: inner.tables.audit(&query)? }))
    }
}

impl HandleLater<RejectedCredentials> for Received {
    fn handle(self, rejected: RejectedCredentials) -> Answer<Done> {
        self.later(async move |inner, by| {
            inner.record_rejection(&by, &rejected)?;
            Ok(Done::Done)
        })
    }
}

impl HandleLater<ReportStatus> for Received {
    fn handle(self, ReportStatus { service, measured, reason }: ReportStatus) -> Answer<StatusReply> {
        self.later(async move |inner, _| {
            let reply = inner.measure(&service, measured, reason)?;
            tasks::spawn(async move { inner.publish_events().await });
            Ok(reply)
        })
    }
}

impl HandleLater<ReadLastUsed> for Received {
    fn handle(self, ReadLastUsed: ReadLastUsed) -> Answer<LastUsed> {
        self.later(async move |inner, _| Ok(LastUsed::LastUsed(inner.tables.last_used()?)))
    }
}

impl HandleLater<ReadSize> for Received {
    fn handle(self, ReadSize: ReadSize) -> Answer<SizeReply> {
        self.later(async move |inner, _| Ok(SizeReply::Size(Box::new(inner.size()?))))
    }
}

impl HandleLater<ListHoldings> for Received {
    fn handle(self, ListHoldings: ListHoldings) -> Answer<Holdings> {
        self.later(async move |inner, _| Ok(Holdings::Holdings { objects: inner.holdings()? }))
    }
}

impl HandleLater<Sweep> for Received {
    fn handle(self, Sweep: Sweep) -> Answer<Done> {
        self.later(async move |inner, _| {
            inner.sweep().await?;
            Ok(Done::Done)
        })
    }
}

impl Inner {
    async fn sweep(&self) -> Result<(), Failure> {
        self.sweep_lanes().await;
        self.log_due_rejections()?;
        self.delete_old_audit()?;
        if let Err(failure) = self.encrypt_again().await {
            log_event!(SecretsNotEncryptedAgain, tenant = &self.tenant(), detail = &failure);
        }
        if let Err(failure) = self.end_registrations().await {
            log_event!(RegistrationsNotDeleted, tenant = &self.tenant(), detail = &failure);
        }
        self.publish_events().await;
        self.continue_revocations().await;
        Ok(())
    }
}
