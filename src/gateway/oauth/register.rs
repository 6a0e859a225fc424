//! Dynamic client registration (RFC 7591): any program may register itself, where the deployment allows that.
//!
//! Such a client may only ask people, and a person reads its name and its address before anything comes of it.

use serde_json::json;
use serde_json::value::to_raw_value;

use crate::auth::FIRST_TENANT;
use crate::core::address::Policy;
use crate::core::audit::By;
use crate::core::canonical::digest;
use crate::core::id::ulid;
use crate::core::oauth::client::{SELF_REGISTERED, client_id, read_registration};
use crate::core::oauth::{Error, Refused};
use crate::core::problem::Problem;
use crate::objects::registry::messages::{Ask, Condition, Kind as Document, Message, Reply};
use crate::objects::registry::snapshot;
use crate::platform::objects::{self, Kind, PATIENCE_MS};
use crate::platform::{clock, random};

use super::super::answer::{Answer, internal};
use super::super::call::Call;
use super::super::clients::new_secret;
use super::super::services::text;
use super::Failed;

/// More of them are not taken: every isolate knows all clients.
const MOST: usize = 200;

pub async fn serve(call: &Call) -> Result<Answer, Failed> {
    if !call.settings.oauth_registration {
        return Err(Problem::not_found("path").into());
    }
    let body = text(call.json_body().await?);
    let now = clock::now();
    let id = format!("{SELF_REGISTERED}{}", ulid(now, random::bytes()));
    let policy = Policy { allow_loopback: call.settings.allow_loopback };
    let mut client = read_registration(&id, &body, policy)?;
    let snapshot = snapshot::refreshed(FIRST_TENANT).await.map_err(internal)?;
    if snapshot.kept(Document::Client).filter(|kept| kept.id.starts_with(SELF_REGISTERED)).count() >= MOST {
        let description = "too many clients have registered themselves: ask who runs this gateway to register yours";
        return Err(Refused::new(Error::InvalidClientMetadata, description).into());
    }
    let secret = client.auth_method.has_secret().then(new_secret);
    client.secret_hash = secret.as_deref().map(digest);
    let document = to_raw_value(&client).map_err(|error| Problem::internal(error.to_string()))?;
    let ask = Ask::Put { kind: Document::Client, id: id.clone(), document, condition: Condition::Absent };
    let client_id = client_id(FIRST_TENANT, &id);
    let by = By {
        actor: format!("client:{client_id}"),
        request_id: call.request_id.clone(),
        address: call.address().to_string(),
    };
    let message = Message { tenant: FIRST_TENANT.into(), ask, by };
    let reply = objects::send(Kind::Registry, FIRST_TENANT, "", &message, PATIENCE_MS).await.map_err(internal)?;
    if !matches!(reply, Reply::Kept { .. }) {
        return Err(Problem::internal("the registry answered something else").into());
    }
    let mut told = json!({
        "client_id": client_id,
        "client_id_issued_at": now.seconds(),
        "client_name": client.name,
        "redirect_uris": client.redirect_uris,
        "grant_types": client.grant_types,
        "response_types": ["code"],
        "token_endpoint_auth_method": client.auth_method,
        "scope": client.scope.join(" "),
    });
    if let (Some(members), Some(secret)) = (told.as_object_mut(), secret) {
        members.insert("client_secret".into(), secret.into());
        members.insert("client_secret_expires_at".into(), 0.into());
    }
    Ok(Answer::json(201, &told)?)
}
