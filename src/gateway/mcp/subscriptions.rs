//! Streams of changes that a client subscribes to: the tools of its endpoint, its tasks, and notifications of MCP
//! servers. In the modern revision `subscriptions/listen` opens one, in a legacy session a `GET` request does.

use crate::auth::credential_watch::{CredentialWatch, RequiredPermissions};
use crate::objects::contexts::messages::Get;
use crate::objects::sessions::messages::{Gone, Listen, Listening};
use crate::platform::streams::Stream;
use crate::platform::tasks::{self, keep_running};
use narthex_core::base::id::ContextId;
use narthex_core::events::sequence::Sequence;
use narthex_core::mcp::error::Error;
use narthex_core::mcp::message::Request;
use narthex_core::mcp::responses::{self, KEEP_ALIVE};
use narthex_core::mcp::revision::Envelope;
use narthex_core::mcp::subscription::{SubscriptionFilter, acknowledged};
use narthex_core::mcp::task::extension;

use super::super::answer::Answer;
use super::super::call::{Call, Caller};
use super::super::contexts;
use super::channel::stream_headers;
use super::notification_stream::{GET_EVENT_PREFIX, NotificationStream, Reader, Topics};
use super::server_listener::ServerListener;
use super::session::{Session, ended};
use super::tasks::task_error;
use super::upstream::ClientProfile;
use super::{EndpointScope, MethodResponse, server_features};

/// The requested subscriptions that the client may have, and their tasks.
async fn permitted(
    call: &Call,
    caller: &mut Caller,
    request: &Request<'_>,
    envelope: &Envelope,
) -> Result<(SubscriptionFilter, Vec<ContextId>), Error> {
    let mut filter = SubscriptionFilter::read(request.params)?;
    if !filter.task_ids.is_empty() && !envelope.able.tasks {
        return Err(Error::Capability { required: extension() });
    }
    let mut tasks = Vec::new();
    if caller.principal.may("contexts:read") {
        for id in &filter.task_ids {
            match contexts::visible(call, caller, id, |id| Get { id }).await.map_err(task_error) {
                Ok((id, _)) => tasks.push(id),
                // The acknowledgement omits unknown tasks.
                Err(Error::Params(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    filter.task_ids = tasks.iter().map(ToString::to_string).collect();
    Ok((filter, tasks))
}

/// The credentials that keep the stream open. It ends when a caller who could call tools loses all of them; changes of
/// single tools are detected by the stream itself.
fn credentials(call: &Call, caller: &Caller) -> CredentialWatch {
    let calls_tools = caller.principal.may_create_any();
    call.watched(
        &caller.principal,
        if calls_tools { RequiredPermissions::ToCreate } else { RequiredPermissions::All(Vec::new()) },
    )
}

/// `subscriptions/listen`.
pub async fn subscribe(
    call: &Call,
    caller: &mut Caller,
    scope: EndpointScope<'_>,
    request: &Request<'_>,
    envelope: &Envelope,
) -> Result<MethodResponse, Error> {
    let (filter, tasks) = permitted(call, caller, request, envelope).await?;
    if !call.accepts_stream() {
        return Err(Error::Invalid("the response is a stream: accept text/event-stream".into()));
    }
    let reader = Reader::Subscription(request.id.to_owned());
    let topics = Topics { tools: filter.tools_list_changed, tasks, after: None };
    let (hub, mut notifications) = NotificationStream::open(call, caller, scope, reader, topics).await?;
    if let Some(entry) = scope.0.and_then(|id| caller.snapshot.service(id.as_str())) {
        let client = ClientProfile::modern(request.params);
        notifications.servers.extend(ServerListener::new(&caller.principal, &call.origin, entry, client).await);
    }
    let agreed = match notifications.servers.first_mut() {
        Some(server) => server.subscribe(&filter).await,
        None => SubscriptionFilter::default(),
    };
    let SubscriptionFilter { tools_list_changed, task_ids, .. } = filter;
    let filter = SubscriptionFilter { tools_list_changed, task_ids, ..agreed };
    let (response, stream) = Stream::open(200, &stream_headers());
    stream.write(&responses::event(&acknowledged(request.id, &filter)));
    // It may stay open for days, and calls nothing.
    tasks::count_as_call(false);
    keep_running(notifications.run(hub, stream, credentials(call, caller)));
    Ok(MethodResponse::Stream(Answer::stream(response)))
}

/// Opens the stream of a session by `GET`; it resumes after an event of an earlier stream, if the request names one.
pub async fn open_get_stream(
    call: &Call,
    caller: &mut Caller,
    scope: EndpointScope<'_>,
    session: Session,
) -> Result<Answer, Error> {
    let last_event = call.request.header("last-event-id").and_then(|text| text.trim().strip_prefix(GET_EVENT_PREFIX));
    let after = last_event.and_then(Sequence::parse);
    let Listening::Listening { number } = session.ask(&Listen).await?.map_err(|Gone::Gone| ended())?;
    let topics = Topics { tools: true, tasks: Vec::new(), after };
    let reader = Reader::Session(session, number);
    let (hub, mut notifications) = NotificationStream::open(call, caller, scope, reader, topics).await?;
    notifications.polls_session = match scope.0 {
        Some(id) => caller.snapshot.service(id.as_str()).is_some_and(|entry| entry.service().transport.is_mcp()),
        None => server_features::has_sessions(scope, caller),
    };
    let (response, stream) = Stream::open(200, &stream_headers());
    stream.write(KEEP_ALIVE);
    if notifications.polls_session {
        // Notifications must not be lost from the moment the client has the response.
        notifications.poll_session(&stream).await;
    }
    keep_running(notifications.run(hub, stream, credentials(call, caller)));
    Ok(Answer::stream(response))
}
