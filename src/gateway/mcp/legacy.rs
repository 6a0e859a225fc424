//! Revisions 2024-11-05 to 2025-11-25, which begin with `initialize`. A client that supports elicitation, and one whose
//! servers need it, gets a session; for any other the gateway keeps no state between requests.

use serde_json::value::RawValue;

use narthex_core::base::json::Object;
use narthex_core::http::problem::Problem;
use narthex_core::mcp::error::Error;
use narthex_core::mcp::message::Request;
use narthex_core::mcp::passthrough::method;
use narthex_core::mcp::responses::result;
use narthex_core::mcp::revision::negotiated;

use super::super::call::{Call, Caller};
use super::calls::{Client, ResponseMode};
use super::legacy_tasks;
use super::session::Session;
use super::{
    EndpointScope, MethodResponse, calls, passthrough, refresh_caller, server_features, session_requests, tools,
    upstream,
};

/// The longest URI of a resource subscription, in bytes.
const MAX_URI_BYTES: usize = 2048;
/// The severities of RFC 5424, as `logging/setLevel` names them.
const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

pub async fn serve(
    call: &Call,
    caller: &mut Caller,
    scope: EndpointScope<'_>,
    request: &Request<'_>,
    session: Option<&Session>,
    mode: ResponseMode,
) -> Result<MethodResponse, Error> {
    match request.method.as_str() {
        "initialize" => {
            refresh_caller(call, caller).await?;
            let session = session_requests::open(caller, scope, request.params).await?;
            let result = initialize_result(scope, caller, request.params, session.is_some()).await?;
            Ok(match session {
                Some(session) => MethodResponse::Initialized(result, session),
                None => MethodResponse::Result(result),
            })
        }
        "ping" => Ok(MethodResponse::Result("{}".into())),
        "logging/setLevel" => {
            let level = text(request.params, "level").unwrap_or_default();
            if !LEVELS.contains(&level.as_str()) {
                return Err(Error::Params(format!("level must be one of {}", LEVELS.join(", "))));
            }
            if let Some(session) = session {
                session.set_level(&level).await?;
            }
            Ok(MethodResponse::Result("{}".into()))
        }
        "tools/list" => tools::list(call, caller, scope, request.params, true).await.map(MethodResponse::Result),
        "tools/call" => calls::call_tool(call, caller, scope, request, Client::Legacy(session), mode).await,
        "tasks/get" | "tasks/result" | "tasks/cancel" | "tasks/list" => {
            legacy_tasks::serve(call, caller, scope, request, session, mode).await
        }
        "resources/subscribe" | "resources/unsubscribe" => {
            let uri = text(request.params, "uri").filter(|uri| uri.len() <= MAX_URI_BYTES);
            let uri = uri.ok_or_else(|| Error::Params("uri must be a string".into()))?;
            refresh_caller(call, caller).await?;
            let unsupported = || Error::Method { name: request.method.clone(), legacy: true };
            let session = session.filter(|_| server_features::has_resources(scope, caller)).ok_or_else(unsupported)?;
            let service = scope.0.ok_or_else(unsupported)?;
            caller.principal.require(&server_features::permission(service, "resources"))?;
            session.set_watched(uri, request.method == "resources/subscribe").await?;
            Ok(MethodResponse::Result("{}".into()))
        }
        other => match method(other) {
            Some(method) => {
                passthrough::serve(call, caller, scope, request, method, upstream::ClientProfile::legacy(session))
                    .await
                    .map(MethodResponse::Result)
            }
            None => Err(Error::Method { name: request.method.clone(), legacy: true }),
        },
    }
}

fn text(params: Option<&RawValue>, name: &str) -> Option<String> {
    let raw = Object::new(params?.get(), "#").ok()?.raw(name)?;
    serde_json::from_str(raw.get()).ok()
}

async fn initialize_result(
    scope: EndpointScope<'_>,
    caller: &Caller,
    params: Option<&RawValue>,
    has_session: bool,
) -> Result<String, Problem> {
    let version = negotiated(text(params, "protocolVersion").as_deref());
    let tasks = if version == "2025-11-25" { legacy_tasks::CAPABILITY } else { "" };
    let declared = server_features::declared(scope, caller, true).await?;
    let changes = if has_session { r#""listChanged":true"# } else { "" };
    let capabilities = format!(r#""capabilities":{{"tools":{{{changes}}},"logging":{{}}{declared}{tasks}}}"#);
    let version = format!(r#""protocolVersion":"{version}""#);
    let server = concat!(r#""serverInfo":{"name":"narthex","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#);
    let instructions = tools::instructions(scope, caller).await?;
    Ok(result(true, &[&version, &capabilities, server, &instructions]))
}
