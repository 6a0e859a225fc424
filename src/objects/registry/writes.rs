//! Writes: each is known everywhere once it is answered.

use std::rc::Rc;

use futures_util::future::join;
use serde::Serialize;

use crate::objects::protocol::{Done, Request};
use crate::objects::reply::Reply;
use crate::objects::shell::{Answer, HandleLater};
use crate::platform::{Failure, tasks};
use narthex_core::access::audit::Actor;
use narthex_core::registry::size::TooLarge;

use super::Inner;
use super::handlers::Received;
use super::messages::{
    AcceptTools, Close, CreateKey, DeleteDocument, DeleteService, DocumentReply, Establish, EstablishReply, KeyReply,
    PatchService, PutDocument, PutService, RegisterClient, RegisterReply, RenewTools, RevokeKey, RotateKey,
    RotateSecret, RotateWebhookSecret, ServiceReply, StoredService, ToolsReply, WriteRefusal,
};

/// Why a write was not completed.
#[derive(Debug)]
pub(super) enum WriteError {
    Failure(Failure),
    Refused(WriteRefusal),
}

impl From<Failure> for WriteError {
    fn from(failure: Failure) -> Self {
        WriteError::Failure(failure)
    }
}

impl From<serde_json::Error> for WriteError {
    fn from(error: serde_json::Error) -> Self {
        WriteError::Failure(error.into())
    }
}

impl From<WriteRefusal> for WriteError {
    fn from(refusal: WriteRefusal) -> Self {
        WriteError::Refused(refusal)
    }
}

impl From<TooLarge> for WriteError {
    fn from(too_large: TooLarge) -> Self {
        WriteError::Refused(WriteRefusal::TooLarge(too_large))
    }
}

/// A request that changes the configuration. One to a deleted tenant is refused.
trait Write: Request<Reply = Reply<<Self as Write>::Written, WriteRefusal>> + 'static {
    type Written: Written;

    async fn apply(self, inner: &Inner, by: &Actor) -> Result<Self::Written, WriteError>;
}

/// The reply to a write that was not refused.
trait Written: Serialize {
    fn effect(&self) -> Effect<'_>;
}

/// Who must be informed of a write before it is answered.
enum Effect<'w> {
    None,
    Stores,
    /// Also the lane of this service.
    StoresAndLane(&'w StoredService),
}

impl<W: Write> HandleLater<W> for Received {
    fn handle(self, request: W) -> Answer<W::Reply> {
        self.later(async move |inner, by| {
            if inner.is_closed()? {
                return Ok(WriteRefusal::Absent.into());
            }
            let outcome = request.apply(&inner, &by).await;
            inner.conclude(outcome).await
        })
    }
}

/// A deleted tenant may be deleted again.
impl HandleLater<Close> for Received {
    fn handle(self, Close: Close) -> Answer<Reply<Done, WriteRefusal>> {
        self.later(async move |inner, by| {
            let outcome = inner.close(&by).await;
            inner.conclude(outcome).await
        })
    }
}

impl Inner {
    /// Replies to a write once others have been informed of it.
    async fn conclude<T: Written>(
        self: &Rc<Self>,
        outcome: Result<T, WriteError>,
    ) -> Result<Reply<T, WriteRefusal>, Failure> {
        let written = match outcome {
            Ok(written) => written,
            Err(WriteError::Refused(refusal)) => return Ok(refusal.into()),
            Err(WriteError::Failure(failure)) => return Err(failure),
        };
        self.inform(written.effect()).await;
        Ok(Reply::ok(written))
    }

    async fn inform(self: &Rc<Self>, effect: Effect<'_>) {
        match effect {
            Effect::None => return,
            Effect::Stores => self.push().await,
            Effect::StoresAndLane(service) => {
                join(self.push(), self.configure_lane(service)).await;
            }
        }
        let inner = self.clone();
        tasks::spawn(async move { inner.publish_events().await });
    }
}

impl Written for Done {
    fn effect(&self) -> Effect<'_> {
        Effect::Stores
    }
}

impl Written for KeyReply {
    fn effect(&self) -> Effect<'_> {
        Effect::Stores
    }
}

impl Written for EstablishReply {
    fn effect(&self) -> Effect<'_> {
        Effect::Stores
    }
}

impl Written for DocumentReply {
    fn effect(&self) -> Effect<'_> {
        Effect::Stores
    }
}

impl Written for ServiceReply {
    fn effect(&self) -> Effect<'_> {
        let ServiceReply::Service(written) = self;
        match written.has_lane {
            true => Effect::StoresAndLane(&written.service),
            false => Effect::Stores,
        }
    }
}

impl Written for ToolsReply {
    fn effect(&self) -> Effect<'_> {
        match self {
            // Its lane does not depend on its tools.
            ToolsReply::Service(_) => Effect::Stores,
            ToolsReply::Unchanged => Effect::None,
        }
    }
}

impl Written for RegisterReply {
    fn effect(&self) -> Effect<'_> {
        match self {
            RegisterReply::Client(_) => Effect::Stores,
            RegisterReply::AllInUse => Effect::None,
        }
    }
}

impl Write for PutService {
    type Written = ServiceReply;

    async fn apply(self, inner: &Inner, by: &Actor) -> Result<ServiceReply, WriteError> {
        let fresh = inner.encrypt_fresh(&self.id, &self.document).await?;
        inner.put_service(by, &self, fresh).map(ServiceReply::Service)
    }
}

impl Write for PatchService {
    type Written = ServiceReply;

    async fn apply(self, inner: &Inner, by: &Actor) -> Result<ServiceReply, WriteError> {
        let fresh = inner.encrypt_fresh(&self.id, &self.patch).await?;
        inner.patch_service(by, &self, fresh).map(ServiceReply::Service)
    }
}

impl Write for RotateSecret {
    type Written = ServiceReply;

    async fn apply(self, inner: &Inner, by: &Actor) -> Result<ServiceReply, WriteError> {
        let Self { id, overlap_seconds, signing_secret } = self;
        let fresh = inner.encrypt_signing(&id, signing_secret).await?;
        inner.rotate_secret(by, &id, overlap_seconds, fresh).map(ServiceReply::Service)
    }
}

impl Write for RenewTools {
    type Written = ToolsReply;

    async fn apply(self, inner: &Inner, by: &Actor) -> Result<ToolsReply, WriteError> {
        let Self { id, url, read } = self;
        inner.renew_tools(by, &id, &url, read.map(|tools| *tools))
    }
}

impl Write for AcceptTools {
    type Written = ToolsReply;

    async fn apply(self, inner: &Inner, by: &Actor) -> Result<ToolsReply, WriteError> {
        inner.accept_tools(by, &self.id, self.names.as_deref())
    }
}

impl Write for DeleteService {
    type Written = Done;

    async fn apply(self, inner: &Inner, by: &Actor) -> Result<Done, WriteError> {
        inner.delete_service(by, &self.id, &self.condition).await?;
        Ok(Done::Done)
    }
}

impl Write for RotateWebhookSecret {
    type Written = DocumentReply;

    async fn apply(self, inner: &Inner, by: &Actor) -> Result<DocumentReply, WriteError> {
        let Self { id, overlap_seconds, secret } = self;
        let secret = inner.encrypt_webhook(&id, &secret).await?;
        inner.rotate_webhook_secret(by, &id, overlap_seconds, secret).map(DocumentReply::Document)
    }
}

impl Write for PutDocument {
    type Written = DocumentReply;

    async fn apply(self, inner: &Inner, by: &Actor) -> Result<DocumentReply, WriteError> {
        let Self { kind, id, document, condition } = self;
        let document = inner.encrypt_document(kind, &id, document).await?;
        inner.put_and_revoke(by, kind, &id, document, &condition).await.map(DocumentReply::Document)
    }
}

impl Write for DeleteDocument {
    type Written = Done;

    async fn apply(self, inner: &Inner, by: &Actor) -> Result<Done, WriteError> {
        inner.delete_and_revoke(by, self.kind, &self.id, &self.condition).await?;
        Ok(Done::Done)
    }
}

impl Write for CreateKey {
    type Written = KeyReply;

    async fn apply(self, inner: &Inner, by: &Actor) -> Result<KeyReply, WriteError> {
        inner.create_key(by, self.0).map(KeyReply::Key)
    }
}

impl Write for RotateKey {
    type Written = KeyReply;

    async fn apply(self, inner: &Inner, by: &Actor) -> Result<KeyReply, WriteError> {
        inner.rotate_key(by, self).map(KeyReply::Key)
    }
}

impl Write for RevokeKey {
    type Written = Done;

    async fn apply(self, inner: &Inner, by: &Actor) -> Result<Done, WriteError> {
        inner.revoke_key(by, &self.id).await?;
        Ok(Done::Done)
    }
}

impl Write for RegisterClient {
    type Written = RegisterReply;

    async fn apply(self, inner: &Inner, by: &Actor) -> Result<RegisterReply, WriteError> {
        inner.register(by, &self.id, self.document)
    }
}

impl Write for Establish {
    type Written = EstablishReply;

    async fn apply(self, inner: &Inner, by: &Actor) -> Result<EstablishReply, WriteError> {
        Ok(match inner.establish(by, self.retention, self.key).await? {
            Some(key) => EstablishReply::Key(key),
            None => EstablishReply::Done,
        })
    }
}
