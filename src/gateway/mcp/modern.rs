//! Revision 2026-07-28: each request carries its client's identity and capabilities.

use narthex_core::http::problem::Problem;
use narthex_core::mcp::MODERN;
use narthex_core::mcp::error::Error;
use narthex_core::mcp::message::Request;
use narthex_core::mcp::passthrough::method;
use narthex_core::mcp::responses::{private_for_a_while, result};
use narthex_core::mcp::revision::Envelope;

use super::super::call::{Call, Caller};
use super::calls::{Client, ResponseMode};
use super::{
    EndpointScope, MethodResponse, calls, passthrough, refresh_caller, server_features, subscriptions, tasks, tools,
    upstream,
};

pub async fn serve(
    call: &Call,
    caller: &mut Caller,
    scope: EndpointScope<'_>,
    request: &Request<'_>,
    envelope: &Envelope,
) -> Result<MethodResponse, Error> {
    match request.method.as_str() {
        "server/discover" => {
            refresh_caller(call, caller).await?;
            Ok(MethodResponse::Result(discovery_result(scope, caller).await?))
        }
        "tools/list" => tools::list(call, caller, scope, request.params, false).await.map(MethodResponse::Result),
        "tools/call" => {
            let mode = if tasks::supported_by(caller, envelope) { ResponseMode::Task } else { ResponseMode::Stream };
            calls::call_tool(call, caller, scope, request, Client::Modern(envelope), mode).await
        }
        "subscriptions/listen" => subscriptions::subscribe(call, caller, scope, request, envelope).await,
        "tasks/get" | "tasks/update" | "tasks/cancel" => {
            tasks::serve(call, caller, scope, request, envelope).await.map(MethodResponse::Result)
        }
        other => match method(other) {
            Some(method) => {
                let client = upstream::ClientProfile::modern(request.params);
                passthrough::serve(call, caller, scope, request, method, client).await.map(MethodResponse::Result)
            }
            None => Err(Error::Method { name: request.method.clone(), legacy: false }),
        },
    }
}

async fn discovery_result(scope: EndpointScope<'_>, caller: &Caller) -> Result<String, Problem> {
    let versions = format!(r#""supportedVersions":["{MODERN}"]"#);
    let declared = server_features::declared(scope, caller, false).await?;
    let capabilities = format!(
        r#""capabilities":{{"tools":{{"listChanged":true}},"extensions":{{"io.modelcontextprotocol/tasks":{{}}}}{declared}}}"#
    );
    let instructions = tools::instructions(scope, caller).await?;
    Ok(result(false, &[&versions, &capabilities, &instructions, &private_for_a_while(false)]))
}
