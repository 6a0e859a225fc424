//! Opening sockets of a tenant's stream.

use wasm_bindgen::JsValue;

use crate::objects::protocol;
use crate::platform::Failure;
use crate::platform::objects::SocketResponse;

use super::messages::Events;
use super::messages::shards::EventShards;
use super::messages::sockets::{Open, Redirection};

/// Opens a socket at the tenant's hub, or at the shard that the hub names. Returns the response to the upgrade.
pub async fn open_socket(mut open: Open) -> Result<JsValue, Failure> {
    let tenant = open.viewer.tenant.clone();
    let place = match protocol::open_socket(&Events::of(&tenant), &open).await? {
        SocketResponse::Here(response) => return Ok(response),
        SocketResponse::Elsewhere(place) => place,
    };
    let redirection = Redirection::parse(&place).ok_or_else(|| Failure("the hub named no shard".into()))?;
    let Redirection { shard, last } = redirection;
    open.shard = Some(shard);
    // The shard may lag behind the hub, which therefore determines the position.
    open.after = Some(open.after.map_or(last, |after| after.min(last)));
    match protocol::open_socket(&EventShards::of(&tenant, shard), &open).await? {
        SocketResponse::Here(response) => Ok(response),
        SocketResponse::Elsewhere(_) => Err(Failure("a shard redirected a socket".into())),
    }
}
