//! The handlers of requests that are not writes. `writes.rs` has those of writes.

use std::rc::Rc;

use serde::Serialize;

use crate::objects::protocol::Done;
use crate::objects::shell::{Answer, HandleLater};
use crate::platform::{Failure, clock, log_event, random};
use narthex_core::access::audit::Actor;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::registry::Turn;
use narthex_core::registry::storage::Storage;

use super::Inner;
use super::messages::{
    AuditEntries, AuditQuery, Documents, Hello, HelloReply, Holdings, LastUsed, ListHoldings, ReadDocuments,
    ReadLastUsed, ReadServices, ReadSize, ReadSnapshot, RecordClientUse, RecordKeyUse, RejectedCredentials,
    RelayRevocation, ReportStatus, Services, SizeReply, SnapshotReply, StatusReply, Sweep,
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
            inner.registry.borrow_mut().remember_tenant(&tenant)?;
            inner.load_own_secret().await?;
            work(inner, by).await
        })
    }
}

impl HandleLater<Hello> for Received {
    fn handle(self, Hello { store }: Hello) -> Answer<HelloReply> {
        self.later(async move |inner, _| Ok(inner.decide(|registry| registry.hello(store, clock::now()))?))
    }
}

impl HandleLater<ReadSnapshot> for Received {
    fn handle(self, request: ReadSnapshot) -> Answer<SnapshotReply> {
        let has_secret = self.inner.registry.borrow().own_secret().is_some();
        match has_secret {
            true => Answer::now(self.inner.snapshot(&request)),
            false => self.later(async move |inner, _| inner.snapshot(&request)),
        }
    }
}

impl HandleLater<ReadServices> for Received {
    fn handle(self, request: ReadServices) -> Answer<Services> {
        Answer::now(self.inner.registry.borrow_mut().read_services(&request).map_err(Failure::from))
    }
}

impl HandleLater<RecordKeyUse> for Received {
    fn handle(self, RecordKeyUse { key, at }: RecordKeyUse) -> Answer<Done> {
        self.later(async move |inner, _| {
            inner.registry.borrow().storage().record_use(&key, at)?;
            Ok(Done::Done)
        })
    }
}

impl HandleLater<RecordClientUse> for Received {
    fn handle(self, RecordClientUse { client, at }: RecordClientUse) -> Answer<Done> {
        self.later(async move |inner, _| {
            inner.registry.borrow().storage().record_use(&format!("clients/{client}"), at)?;
            Ok(Done::Done)
        })
    }
}

impl HandleLater<ReadDocuments> for Received {
    fn handle(self, ReadDocuments { after }: ReadDocuments) -> Answer<Documents> {
        self.later(async move |inner, _| Ok(inner.registry.borrow().documents(&after)?))
    }
}

impl HandleLater<AuditQuery> for Received {
    fn handle(self, query: AuditQuery) -> Answer<AuditEntries> {
        self.later(async move |inner, _| {
            Ok(AuditEntries::Audit { entries: inner.registry.borrow().storage().audit(&query)? })
        })
    }
}

impl HandleLater<RejectedCredentials> for Received {
    fn handle(self, rejected: RejectedCredentials) -> Answer<Done> {
        self.later(async move |inner, by| {
            inner.decide(|registry| {
                registry.record_rejection(&rejected, &Turn::new(&by, clock::now(), random::bytes()))
            })?;
            Ok(Done::Done)
        })
    }
}

impl HandleLater<ReportStatus> for Received {
    fn handle(self, report: ReportStatus) -> Answer<StatusReply> {
        self.later(async move |inner, _| Ok(inner.decide(|registry| registry.measure(&report, clock::now()))?))
    }
}

impl HandleLater<RelayRevocation> for Received {
    fn handle(self, RelayRevocation(revocation): RelayRevocation) -> Answer<Done> {
        self.later(async move |inner, _| {
            let (relayed, receipt) = inner.decide(|registry| {
                registry.begin_write();
                (registry.relayed(&revocation, clock::now()), registry.receipt_of_notifications())
            });
            relayed?;
            inner.settle(&receipt).await;
            Ok(Done::Done)
        })
    }
}

impl HandleLater<ReadLastUsed> for Received {
    fn handle(self, ReadLastUsed: ReadLastUsed) -> Answer<LastUsed> {
        self.later(async move |inner, _| Ok(LastUsed::LastUsed(inner.registry.borrow().storage().last_used()?)))
    }
}

impl HandleLater<ReadSize> for Received {
    fn handle(self, ReadSize: ReadSize) -> Answer<SizeReply> {
        self.later(async move |inner, _| Ok(SizeReply::Size(Box::new(inner.registry.borrow_mut().size()?))))
    }
}

impl HandleLater<ListHoldings> for Received {
    fn handle(self, ListHoldings: ListHoldings) -> Answer<Holdings> {
        self.later(async move |inner, _| {
            let objects = inner.registry.borrow().holdings()?;
            Ok(Holdings::Holdings { objects })
        })
    }
}

impl HandleLater<Sweep> for Received {
    fn handle(self, Sweep: Sweep) -> Answer<Done> {
        self.later(async move |inner, by| {
            let swept = inner.decide(|registry| registry.sweep(&Turn::new(&by, clock::now(), random::bytes())));
            let tenant = inner.registry.borrow().tenant();
            if let Err(failure) = inner.encrypt_again().await {
                log_event!(SecretsNotEncryptedAgain, tenant = &tenant, detail = &failure);
            }
            swept?;
            Ok(Done::Done)
        })
    }
}

impl Inner {
    fn snapshot(self: &Rc<Self>, request: &ReadSnapshot) -> Result<SnapshotReply, Failure> {
        Ok(self.decide(|registry| registry.snapshot(request))?)
    }
}
