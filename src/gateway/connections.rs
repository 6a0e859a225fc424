//! `GET /v1/services/{id}/connect`: a WebSocket on which a service receives its work.

use crate::objects::lanes::client as lanes;
use crate::platform::http::Headers;
use narthex_core::calling::connection::frame::SUBPROTOCOL;
use narthex_core::http::problem::{Code, Problem};

use super::answer::{Answer, internal};
use super::call::{Call, Caller};
use super::events::viewer;

pub async fn open(call: &Call, caller: &Caller, id: &str) -> Result<Answer, Problem> {
    call.only_query(&[])?;
    let entry = caller.snapshot.service(id).ok_or_else(|| Problem::not_found("service"))?;
    if !entry.service().transport.connects() {
        let detail = "The gateway calls this service. Only a service with transport.kind socket opens a connection.";
        return Err(Problem::new(Code::Conflict, detail));
    }
    if !call.upgrades() {
        let detail = format!("Open this path as a WebSocket, with the subprotocol {SUBPROTOCOL}.");
        return Err(Problem::new(Code::UpgradeRequired, detail).with_header("Upgrade", "websocket"));
    }
    let offered = call.request.header("sec-websocket-protocol").unwrap_or_default();
    if !offered.split(',').any(|protocol| protocol.trim() == SUBPROTOCOL) {
        let detail = format!("Offer the subprotocol {SUBPROTOCOL} in Sec-WebSocket-Protocol.");
        return Err(Problem::new(Code::InvalidRequest, detail));
    }
    let mut headers = Headers::default();
    headers.set("x-request-id", &call.request_id);
    headers.set("traceparent", &call.trace.header());
    headers.set("sec-websocket-protocol", SUBPROTOCOL);
    let response =
        lanes::connect(&caller.principal.tenant, entry, viewer(caller, &format!("services:connect:{id}")), &headers)
            .await
            .map_err(internal)?;
    Ok(Answer::made(101, response))
}
