//! The client's side of a call, as transports see it: it receives what the service sends, and answers input requests.
//! The execution implements it, so that no transport depends on how contexts are run.

use serde_json::value::RawValue;

use crate::platform::Failure;

/// A notification of an MCP server about a running call, by its parameters.
#[derive(Debug)]
pub enum Notification {
    Progress(Box<RawValue>),
    Message(Box<RawValue>),
    /// The method of a notification that prompts or resources have changed.
    Changed(String),
}

pub trait CallObserver {
    /// Whether a client waits for the whole result.
    fn waits(&self) -> bool;

    /// Whether a client receives the result piece by piece.
    fn streams(&self) -> bool;

    /// Passes on a piece of the result, as the service sent it.
    fn delta(&self, data: &str);

    /// Passes on a notification. Returns whether a client of this request received it.
    fn notify(&self, notification: Notification) -> bool;

    /// Requests input of the client that created the context, and waits for the answer. `None` if the attempt ends
    /// before.
    fn request_input(&self, request: Box<RawValue>) -> impl Future<Output = Result<Option<Box<RawValue>>, Failure>>;

    /// Records progress for clients that are not connected to this request.
    fn progress(&self, data: Box<RawValue>) -> impl Future<Output = ()>;
}
