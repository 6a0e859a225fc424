//! Revision 2026-07-28: each request says for itself who sends it and what it can.

use crate::core::mcp::MODERN;
use crate::core::mcp::error::Error;
use crate::core::mcp::message::Request;
use crate::core::mcp::reply::{private_for_a_while, result};

use super::super::call::{Call, Caller};
use super::{Door, Served, brought_up_to_date, calls, tools};

pub async fn serve(call: &Call, caller: &mut Caller, door: Door<'_>, request: &Request<'_>) -> Result<Served, Error> {
    match request.method.as_str() {
        "server/discover" => {
            brought_up_to_date(call, caller).await?;
            Ok(Served::Result(discovered(door, caller)))
        }
        "tools/list" => tools::list(call, caller, door, request.params, false).await.map(Served::Result),
        "tools/call" => calls::call_tool(call, caller, door, request, false, true).await,
        _ => Err(Error::Method { name: request.method.clone(), legacy: false }),
    }
}

fn discovered(door: Door<'_>, caller: &Caller) -> String {
    let versions = format!(r#""supportedVersions":["{MODERN}"]"#);
    let instructions = tools::instructions(door, caller);
    result(false, &[&versions, r#""capabilities":{"tools":{}}"#, &instructions, &private_for_a_while(false)])
}
