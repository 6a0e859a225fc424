//! Dynamic client registration (RFC 7591): any program may register itself, if the deployment allows it.
//!
//! Such a client can only ask people for consent, and a person reads its name and redirect URI before granting it.
//! Their number is limited per address and in total: unused ones are replaced
//! (`narthex_core::access::oauth::registrations`).

use serde_json::json;
use serde_json::value::to_raw_value;

use crate::objects::registry::client::ask_as;
use crate::objects::registry::messages::{RegisterClient, RegisterReply, WriteRefusal, WrittenDocument};
use crate::objects::reply::Reply;
use crate::platform::{clock, random};
use narthex_core::access::audit::Actor;
use narthex_core::access::oauth::OAuthErrorCode;
use narthex_core::access::oauth::client::{Client, SELF_REGISTERED, client_id};
use narthex_core::access::oauth::client_metadata::read_registration;
use narthex_core::access::permission::scope_text;
use narthex_core::base::canonical::digest;
use narthex_core::base::id::ulid;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::http::problem::{Code, Problem};

use super::super::answer::{Answer, internal};
use super::super::call::Call;
use super::super::documents::new_secret;
use super::super::limits::addresses;
use super::EndpointError;

/// The largest registration, in bytes.
const MAX_BYTES: usize = 64 * 1024;
/// `Retry-After` when all registrations are in use, in seconds.
const IN_USE_SECONDS: u64 = 3_600;

pub async fn serve(call: &Call) -> Result<Answer, EndpointError> {
    if !call.settings.oauth_registration {
        return Err(Problem::not_found("path").into());
    }
    match register(call).await {
        Err(EndpointError::Problem(problem)) if problem.code != Code::Internal => Ok(oauth_error(&problem)?),
        answer => answer,
    }
}

/// A problem in OAuth's form (RFC 7591 §3.2.2).
fn oauth_error(problem: &Problem) -> Result<Answer, Problem> {
    let error = match problem.code {
        Code::RateLimited => OAuthErrorCode::TemporarilyUnavailable,
        Code::RequestTimeout => OAuthErrorCode::RequestTimeout,
        _ => OAuthErrorCode::InvalidClientMetadata,
    };
    let faults = problem.errors.iter().map(|fault| format!(" {} {}.", fault.pointer, fault.detail));
    let description = format!("{}{}", problem.detail, faults.collect::<String>());
    let body = json!({"error": error.as_str(), "error_description": description});
    let mut answer = Answer::json(problem.code.status(), &body)?;
    answer.code = Some(problem.code.as_str());
    for (name, value) in &problem.headers {
        answer.headers.set(name, value);
    }
    Ok(answer)
}

async fn register(call: &Call) -> Result<Answer, EndpointError> {
    // The detail names the fault already.
    let without_faults = |problem| Problem { errors: Vec::new(), ..problem };
    let body = call.json_text_within(MAX_BYTES).await.map_err(without_faults)?;
    let now = clock::now();
    let id = format!("{SELF_REGISTERED}{}", ulid(now, random::bytes()));
    let mut client = read_registration(&id, &body, call.settings.addresses().for_strangers())?;
    addresses::registration(call).await?;
    let secret = client.auth_method.has_secret().then(new_secret);
    client.secret_hash = secret.as_deref().map(digest);
    let document = to_raw_value(&client).map_err(|error| Problem::internal(error.to_string()))?;
    let first = TenantId::first();
    let client_id = client_id(&first, &id);
    let actor = Actor {
        actor: format!("client:{client_id}"),
        name: Some(client.name.clone()).filter(|name| !name.is_empty()),
        request_id: call.request_id.clone(),
        address: call.address().to_string(),
    };
    let Reply(outcome) = ask_as(&first, &actor, &RegisterClient { id, document }).await.map_err(internal)?;
    match outcome {
        Ok(RegisterReply::Client(WrittenDocument { stored, .. })) => {
            registered(&client, &client_id, stored.created_at.seconds(), secret)
        }
        Ok(RegisterReply::AllInUse) | Err(WriteRefusal::TooLarge(_)) => all_in_use(),
        // The id is new, and the first tenant cannot be deleted.
        Err(
            refusal @ (WriteRefusal::Absent
            | WriteRefusal::InUse { .. }
            | WriteRefusal::Faults(_)
            | WriteRefusal::Refused(_)),
        ) => Err(Problem::internal(format!("the registration was refused: {refusal:?}")).into()),
    }
}

fn all_in_use() -> Result<Answer, EndpointError> {
    let description = "the maximum number of self-registered clients is in use: ask the operator of this gateway to \
                       register yours, or to delete one";
    let error = OAuthErrorCode::TemporarilyUnavailable;
    let body = json!({"error": error.as_str(), "error_description": description});
    let mut answer = Answer::json(error.status(), &body)?;
    answer.code = Some(error.as_str());
    Ok(answer.with("retry-after", &IN_USE_SECONDS.to_string()))
}

/// The registered metadata (RFC 7591 §3.2.1).
fn registered(client: &Client, client_id: &str, at: u64, secret: Option<String>) -> Result<Answer, EndpointError> {
    let mut metadata = json!({
        "client_id": client_id,
        "client_id_issued_at": at,
        "client_name": client.name,
        "redirect_uris": client.redirect_uris,
        "grant_types": client.grant_types,
        "response_types": ["code"],
        "token_endpoint_auth_method": client.auth_method,
        "scope": scope_text(&client.scope),
    });
    if let (Some(members), Some(secret)) = (metadata.as_object_mut(), secret) {
        members.insert("client_secret".into(), secret.into());
        members.insert("client_secret_expires_at".into(), 0.into());
    }
    Ok(Answer::json(201, &metadata)?)
}
