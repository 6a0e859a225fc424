//! Revision 2026-07-28: each request says for itself who sends it and what it can.

use narthex_core::mcp::MODERN;
use narthex_core::mcp::error::Error;
use narthex_core::mcp::message::Request;
use narthex_core::mcp::passthrough;
use narthex_core::mcp::responses::{private_for_a_while, result};
use narthex_core::mcp::revision::Envelope;

use super::super::call::{Call, Caller};
use super::calls::{Answers, Client};
use super::{Door, Served, brought_up_to_date, calls, listening, tasks, tools, upstream};

pub async fn serve(
    call: &Call,
    caller: &mut Caller,
    door: Door<'_>,
    request: &Request<'_>,
    envelope: &Envelope,
) -> Result<Served, Error> {
    match request.method.as_str() {
        "server/discover" => {
            brought_up_to_date(call, caller).await?;
            Ok(Served::Result(discovered(door, caller)))
        }
        "tools/list" => tools::list(call, caller, door, request.params, false).await.map(Served::Result),
        "tools/call" => {
            let answers = if tasks::may_be_given(caller, envelope) { Answers::Task } else { Answers::Stream };
            calls::call_tool(call, caller, door, request, Client::Modern(envelope), answers).await
        }
        "subscriptions/listen" => listening::subscribe(call, caller, door, request, envelope).await,
        "tasks/get" | "tasks/update" | "tasks/cancel" => {
            tasks::serve(call, caller, door, request, envelope).await.map(Served::Result)
        }
        other => match passthrough::method(other) {
            Some(method) => {
                let client = upstream::Client::modern(request.params);
                super::passing::serve(call, caller, door, request, method, client).await.map(Served::Result)
            }
            None => Err(Error::Method { name: request.method.clone(), legacy: false }),
        },
    }
}

fn discovered(door: Door<'_>, caller: &Caller) -> String {
    let versions = format!(r#""supportedVersions":["{MODERN}"]"#);
    let declared = super::offered::declared(door, caller, false);
    let capabilities = format!(
        r#""capabilities":{{"tools":{{"listChanged":true}},"extensions":{{"io.modelcontextprotocol/tasks":{{}}}}{declared}}}"#
    );
    let instructions = tools::instructions(door, caller);
    result(false, &[&versions, &capabilities, &instructions, &private_for_a_while(false)])
}
