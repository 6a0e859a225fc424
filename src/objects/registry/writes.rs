//! Requests that change the configuration. Each is answered once it holds everywhere.

use std::rc::Rc;

use serde::Serialize;

use crate::objects::protocol::{Done, Request};
use crate::objects::reply::Reply;
use crate::objects::shell::{Answer, HandleLater};
use crate::platform::{Failure, settings};
use narthex_core::access::audit::Actor;
use narthex_core::registry::{NewSecrets, Receipt, ServiceInputs, WriteError};

use super::Inner;
use super::handlers::Received;
use super::messages::{
    AcceptTools, Close, CreateKey, DeleteDocument, DeleteService, DocumentReply, Establish, EstablishReply, KeyReply,
    PatchService, PutDocument, PutService, RegisterClient, RegisterReply, RenewTools, RevokeKey, RotateKey,
    RotateSecret, RotateWebhookSecret, ServiceReply, ToolsReply, WriteRefusal,
};

/// The outcome of a write, and when it may be answered, unless at once.
pub(super) type Decided<T> = (Result<T, WriteError>, Option<Receipt>);

/// What a write that was not refused replies.
pub(super) trait Written: Serialize {
    /// Whether the reply reflects a write, this one or an earlier one.
    fn shows_a_write(&self) -> bool {
        true
    }
}

impl Written for Done {}
impl Written for KeyReply {}
impl Written for DocumentReply {}
impl Written for ServiceReply {}
impl Written for EstablishReply {}

impl Written for ToolsReply {
    fn shows_a_write(&self) -> bool {
        matches!(self, ToolsReply::Service(_))
    }
}

impl Written for RegisterReply {
    fn shows_a_write(&self) -> bool {
        matches!(self, RegisterReply::Client(_))
    }
}

/// A request that changes the configuration. One to a deleted tenant is refused.
trait Write: Request<Reply = Reply<<Self as Write>::Written, WriteRefusal>> + 'static {
    type Written: Written;

    async fn apply(self, inner: &Rc<Inner>, by: &Actor) -> Result<Decided<Self::Written>, Failure>;
}

impl<W: Write> HandleLater<W> for Received {
    fn handle(self, request: W) -> Answer<W::Reply> {
        self.later(async move |inner, by| {
            let is_closed = inner.registry.borrow().is_closed()?;
            let decided = match is_closed {
                true => inner.decide_write(&by, |_, _| Err(WriteRefusal::Absent.into())),
                false => request.apply(&inner, &by).await?,
            };
            inner.conclude(decided).await
        })
    }
}

/// A deleted tenant may be deleted again.
impl HandleLater<Close> for Received {
    fn handle(self, Close: Close) -> Answer<Reply<Done, WriteRefusal>> {
        self.later(async move |inner, by| {
            let decided = inner.decide_write(&by, |registry, turn| registry.close(turn).map(|()| Done::Done));
            inner.conclude(decided).await
        })
    }
}

impl Inner {
    /// Replies to a write once it may be answered.
    async fn conclude<T>(&self, (outcome, receipt): Decided<T>) -> Result<Reply<T, WriteRefusal>, Failure> {
        let reply = match outcome {
            Ok(written) => Reply::ok(written),
            Err(WriteError::Refused(refusal)) => refusal.into(),
            Err(WriteError::Failed(error)) => return Err(error.into()),
        };
        if let Some(receipt) = receipt {
            self.settle(&receipt).await;
        }
        Ok(reply)
    }

    fn inputs<R>(&self, fresh: NewSecrets, use_them: impl FnOnce(ServiceInputs<'_>) -> R) -> R {
        let settings = settings::current();
        let tenant = self.registry.borrow().tenant();
        use_them(ServiceInputs { fresh, bindings: settings.bindings_of(&tenant) })
    }
}

impl Write for PutService {
    type Written = ServiceReply;

    async fn apply(self, inner: &Rc<Inner>, by: &Actor) -> Result<Decided<ServiceReply>, Failure> {
        let fresh = inner.encrypt_fresh(&self.id, &self.document).await?;
        Ok(inner.inputs(fresh, |inputs| {
            inner
                .decide_write(by, |registry, turn| registry.put_service(&self, inputs, turn).map(ServiceReply::Service))
        }))
    }
}

impl Write for PatchService {
    type Written = ServiceReply;

    async fn apply(self, inner: &Rc<Inner>, by: &Actor) -> Result<Decided<ServiceReply>, Failure> {
        let fresh = inner.encrypt_fresh(&self.id, &self.patch).await?;
        Ok(inner.inputs(fresh, |inputs| {
            inner.decide_write(by, |registry, turn| {
                registry.patch_service(&self, inputs, turn).map(ServiceReply::Service)
            })
        }))
    }
}

impl Write for RotateSecret {
    type Written = ServiceReply;

    async fn apply(self, inner: &Rc<Inner>, by: &Actor) -> Result<Decided<ServiceReply>, Failure> {
        let Self { id, overlap_seconds, signing_secret } = self;
        let fresh = inner.encrypt_signing(&id, signing_secret).await?;
        Ok(inner.decide_write(by, |registry, turn| {
            registry.rotate_secret(&id, overlap_seconds, fresh, turn).map(ServiceReply::Service)
        }))
    }
}

impl Write for RotateWebhookSecret {
    type Written = DocumentReply;

    async fn apply(self, inner: &Rc<Inner>, by: &Actor) -> Result<Decided<DocumentReply>, Failure> {
        let Self { id, overlap_seconds, secret } = self;
        let secret = inner.encrypt_webhook(&id, &secret).await?;
        Ok(inner.decide_write(by, |registry, turn| {
            registry.rotate_webhook_secret(&id, overlap_seconds, secret, turn).map(DocumentReply::Document)
        }))
    }
}

impl Write for PutDocument {
    type Written = DocumentReply;

    async fn apply(self, inner: &Rc<Inner>, by: &Actor) -> Result<Decided<DocumentReply>, Failure> {
        let document = inner.encrypt_document(self.kind, &self.id, self.document).await?;
        let put = Self { document, ..self };
        Ok(inner.decide_write(by, |registry, turn| registry.put_document(put, turn).map(DocumentReply::Document)))
    }
}

/// Writes that have nothing to encrypt.
macro_rules! decided_by_the_core {
    ($($Request:ident => $Written:ident: |$request:ident, $registry:ident, $turn:ident| $decide:expr;)*) => {
        $(impl Write for $Request {
            type Written = $Written;

            async fn apply(self, inner: &Rc<Inner>, by: &Actor) -> Result<Decided<$Written>, Failure> {
                let $request = self;
                Ok(inner.decide_write(by, |$registry, $turn| $decide))
            }
        })*
    };
}

decided_by_the_core! {
    RenewTools => ToolsReply: |request, registry, turn| registry.renew_tools(request, turn);
    AcceptTools => ToolsReply: |request, registry, turn| registry.accept_tools(&request, turn);
    DeleteService => Done: |request, registry, turn| registry.delete_service(&request, turn).map(|()| Done::Done);
    DeleteDocument => Done: |request, registry, turn| registry.delete_document(&request, turn).map(|()| Done::Done);
    CreateKey => KeyReply: |request, registry, turn| registry.create_key(request.0, turn).map(KeyReply::Key);
    RotateKey => KeyReply: |request, registry, turn| registry.rotate_key(request, turn).map(KeyReply::Key);
    RevokeKey => Done: |request, registry, turn| registry.revoke_key(&request.id, turn).map(|()| Done::Done);
    RegisterClient => RegisterReply: |request, registry, turn| registry.register(request, turn);
    Establish => EstablishReply: |request, registry, turn| registry.establish(request, turn);
}
