//! Revisions 2024-11-05 to 2025-11-25: they begin with `initialize`. A client that can be asked gets a session; for any
//! other nothing needs to be remembered between two requests.

use serde_json::value::RawValue;

use narthex_core::base::json::Object;
use narthex_core::mcp::error::Error;
use narthex_core::mcp::message::Request;
use narthex_core::mcp::passthrough;
use narthex_core::mcp::responses::result;
use narthex_core::mcp::revision::negotiated;

use super::super::call::{Call, Caller};
use super::calls::{Answers, Client};
use super::legacy_tasks;
use super::session::Session;
use super::{Door, Served, brought_up_to_date, calls, sessions, tools, upstream};

/// The longest URI that is watched, in bytes.
const MAX_URI_BYTES: usize = 2048;
/// The severities of RFC 5424, as `logging/setLevel` names them.
const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

pub async fn serve(
    call: &Call,
    caller: &mut Caller,
    door: Door<'_>,
    request: &Request<'_>,
    session: Option<&Session>,
    answers: Answers,
) -> Result<Served, Error> {
    match request.method.as_str() {
        "initialize" => {
            brought_up_to_date(call, caller).await?;
            let session = sessions::open(caller, door, request.params).await?;
            let result = initialized(door, caller, request.params, session.is_some());
            Ok(match session {
                Some(session) => Served::Opened(result, session),
                None => Served::Result(result),
            })
        }
        "ping" => Ok(Served::Result("{}".into())),
        "logging/setLevel" => {
            let level = text(request.params, "level").unwrap_or_default();
            if !LEVELS.contains(&level.as_str()) {
                return Err(Error::Params(format!("level must be one of {}", LEVELS.join(", "))));
            }
            if let Some(session) = session {
                session.set_level(&level).await?;
            }
            Ok(Served::Result("{}".into()))
        }
        "tools/list" => tools::list(call, caller, door, request.params, true).await.map(Served::Result),
        "tools/call" => calls::call_tool(call, caller, door, request, Client::Legacy(session), answers).await,
        "tasks/get" | "tasks/result" | "tasks/cancel" | "tasks/list" => {
            legacy_tasks::serve(call, caller, door, request, session, answers).await
        }
        "resources/subscribe" | "resources/unsubscribe" => {
            let uri = text(request.params, "uri").filter(|uri| uri.len() <= MAX_URI_BYTES);
            let uri = uri.ok_or_else(|| Error::Params("uri must be a string".into()))?;
            brought_up_to_date(call, caller).await?;
            let unknown = || Error::Method { name: request.method.clone(), legacy: true };
            let session = session.filter(|_| super::offered::has_resources(door, caller)).ok_or_else(unknown)?;
            caller.principal.require(&super::offered::permission(door.0.unwrap_or_default(), "resources"))?;
            session.watch(uri, request.method == "resources/subscribe").await?;
            Ok(Served::Result("{}".into()))
        }
        other => match passthrough::method(other) {
            Some(method) => {
                super::passing::serve(call, caller, door, request, method, upstream::Client::legacy(session))
                    .await
                    .map(Served::Result)
            }
            None => Err(Error::Method { name: request.method.clone(), legacy: true }),
        },
    }
}

fn text(params: Option<&RawValue>, name: &str) -> Option<String> {
    let raw = Object::new(params?.get(), "#").ok()?.raw(name)?;
    serde_json::from_str(raw.get()).ok()
}

fn initialized(door: Door<'_>, caller: &Caller, params: Option<&RawValue>, listens: bool) -> String {
    let version = negotiated(text(params, "protocolVersion").as_deref());
    let tasks = if version == "2025-11-25" { legacy_tasks::CAPABILITY } else { "" };
    let declared = super::offered::declared(door, caller, true);
    let changes = if listens { r#""listChanged":true"# } else { "" };
    let capabilities = format!(r#""capabilities":{{"tools":{{{changes}}},"logging":{{}}{declared}{tasks}}}"#);
    let version = format!(r#""protocolVersion":"{version}""#);
    let server = concat!(r#""serverInfo":{"name":"narthex","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#);
    let instructions = tools::instructions(door, caller);
    result(true, &[&version, &capabilities, server, &instructions])
}
