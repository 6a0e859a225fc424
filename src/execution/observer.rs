//! The client's side of an attempt: it receives the pieces, progress and notifications of the call, and answers what
//! the service asks under the attempt's lease.

use serde_json::value::RawValue;

use crate::objects::contexts::client::{call, call_with_retry};
use crate::objects::contexts::messages::{AwaitInput, CallBack, CallbackReport, RequestInput};
use crate::platform::objects::CallError;
use crate::platform::{Failure, clock, settings};
use crate::transport::observer::{CallObserver, Notification};
use narthex_core::base::content::Content;
use narthex_core::base::id::ContextId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::context::Admission;
use narthex_core::context::lease::LeaseNumber;
use narthex_core::execution::input_request::{InputRequest, InputStep};

use super::notifications::Publisher;
use super::{Client, WaitOutcome};

/// How long one request for the answer to an input request waits at the store, in milliseconds.
const WAIT_MS: u64 = 20_000;

pub struct Observer<'a> {
    tenant: &'a TenantId,
    id: &'a ContextId,
    lease: LeaseNumber,
    content: Content,
    client: Client,
    publisher: Option<Publisher>,
}

impl<'a> Observer<'a> {
    /// Observes the attempt that is made for a context under `lease`.
    pub fn new(admission: &'a Admission, lease: LeaseNumber, client: Client) -> Self {
        let Admission { tenant, id, content, .. } = admission;
        Self { tenant, id, lease, content: *content, client, publisher: None }
    }

    /// Lets the client that created the context receive the notifications of the call.
    pub fn publishing(self) -> Self {
        let publisher = Some(self.client.notifications.publisher());
        Self { publisher, ..self }
    }
}

impl CallObserver for Observer<'_> {
    fn waits(&self) -> bool {
        self.client.waits()
    }

    fn streams(&self) -> bool {
        self.client.stream.is_some()
    }

    fn delta(&self, data: &str) {
        if let Some(stream) = &self.client.stream {
            stream.delta(data);
        }
    }

    fn notify(&self, notification: Notification) -> bool {
        self.publisher.as_ref().is_some_and(|publisher| publisher.publish(notification))
    }

    async fn request_input(&self, request: Box<RawValue>) -> Result<Option<Box<RawValue>>, Failure> {
        if !self.content.is_full() {
            // The answer would arrive in another request.
            return Ok(None);
        }
        let (id, lease) = (self.id, self.lease);
        let mut input = InputRequest::new(&settings::timing());
        let reply = call_with_retry(self.tenant, id, &RequestInput { id: id.clone(), lease, request }).await?;
        let mut step = input.requested(&reply);
        let wait = AwaitInput { id: id.clone(), lease, milliseconds: WAIT_MS };
        loop {
            match step {
                InputStep::Answered(input) => return Ok(Some(input)),
                InputStep::Gone => return Ok(None),
                InputStep::Await { pause_ms } => {
                    // A waiting client finds the input request at the store.
                    self.client.answer(WaitOutcome::Continues);
                    clock::pause_if_any(pause_ms).await;
                }
            }
            step = match call(self.tenant, id, &wait).await {
                Err(error @ CallError::Malformed { .. }) => return Err(error.into()),
                reply => input.on(reply.map_err(|error| error.fault())),
            };
        }
    }

    async fn progress(&self, data: Box<RawValue>) {
        if !self.content.is_full() {
            return;
        }
        let (id, lease) = (self.id, self.lease);
        let callback = CallbackReport::Beat { lease_ms: None, progress: Some(data) };
        // If it is lost, the next progress replaces it.
        let _ = call(self.tenant, id, &CallBack { id: id.clone(), lease, callback }).await;
    }
}
