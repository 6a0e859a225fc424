//! A request on its way through the gateway.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;

use futures_util::future::{Either, select};
use wasm_bindgen::JsValue;

use crate::auth;
use crate::auth::credential_watch::{CredentialWatch, RequiredPermissions};
use crate::execution::CALLBACK_PATH;
use crate::objects::registry::messages::{Condition, WriteRules};
use crate::objects::registry::snapshot::Snapshot;
use crate::platform::http::{BodyError, Request};
use crate::platform::settings::Settings;
use crate::platform::{Failure, clock, random};
use narthex_core::access::audit::Actor;
use narthex_core::access::principal::Principal;
use narthex_core::base::id::{Region, StoreId, ulid};
use narthex_core::base::json::{self, MAX_DEPTH, Object};
use narthex_core::base::json_repair;
use narthex_core::base::names::valid_request_id;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::tenant_id::TenantId;
use narthex_core::base::time::Timestamp;
use narthex_core::http::client_address::ClientAddress;
use narthex_core::http::egress_address::host_of;
use narthex_core::http::etag;
use narthex_core::http::media_type::{self, UnsupportedBody};
use narthex_core::http::problem::{Code, Problem};
use narthex_core::http::query;
use narthex_core::http::trace_context::TraceContext;

use super::answer::JSON;
use super::limits::request_quotas::RequestQuotas;

/// The largest body, in bytes.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// All headers together, in bytes.
pub const MAX_HEADER_BYTES: usize = 32 * 1024;

pub struct Call {
    pub request: Request,
    pub settings: Rc<Settings>,
    pub path: String,
    query: String,
    pub origin: String,
    pub request_id: String,
    pub trace: TraceContext,
    pub began: Timestamp,
    /// The caller's tenant; the first tenant until the caller is known.
    pub tenant: RefCell<TenantId>,
    /// The caller, for the log.
    pub principal: RefCell<Option<PrincipalId>>,
    /// How long authentication took, in milliseconds.
    pub auth_ms: Cell<u64>,
    pub limits: RequestQuotas,
}

/// The sender of a request, and the snapshot of the registry that identified them.
pub struct Caller {
    pub principal: Principal,
    pub snapshot: Rc<Snapshot>,
    /// For the audit log, if the request writes.
    pub by: Actor,
}

fn invalid_json(invalid: &json::Invalid) -> Problem {
    let detail = format!("The body is not acceptable JSON: {invalid}.");
    Problem { errors: vec![invalid.fault()], ..Problem::new(Code::InvalidJson, detail) }
}

const NOT_UTF_8: &str = "Send the body in UTF-8, without another charset in Content-Type.";

pub fn not_json(foreign: UnsupportedBody) -> Problem {
    let detail = match foreign {
        UnsupportedBody::Type => "Send JSON, with Content-Type: application/json.",
        UnsupportedBody::Charset => NOT_UTF_8,
    };
    Problem::new(Code::UnsupportedMediaType, detail).with_header("Accept", JSON)
}

/// A body whose transfer was interrupted.
pub fn broken(failure: Failure) -> Problem {
    Problem { cause: Some(failure.0), ..Problem::new(Code::InvalidRequest, "The body could not be read to its end.") }
}

/// A JSON body as text. The check of the JSON finds that it is UTF-8.
fn checked_text(body: Vec<u8>) -> Result<String, Problem> {
    json::check(&body, MAX_DEPTH).map_err(|invalid| invalid_json(&invalid))?;
    Ok(String::from_utf8(body).unwrap_or_default())
}

fn read_members<T>(text: &str, read: impl FnOnce(&mut Object<'_>) -> T) -> Result<T, Problem> {
    let mut members = Object::new(text, "#").map_err(|fault| Problem::invalid(vec![fault]))?;
    let value = read(&mut members);
    let faults = members.finish();
    if faults.is_empty() { Ok(value) } else { Err(Problem::invalid(faults)) }
}

impl Call {
    pub fn new(raw: JsValue, settings: Rc<Settings>) -> Self {
        let request = Request::new(raw);
        let url = request.url();
        let after_scheme = url.find("://").map_or(0, |at| at + 3);
        let path_at = url.get(after_scheme..).and_then(|rest| rest.find('/')).map_or(url.len(), |at| at + after_scheme);
        let (origin, rest) = url.split_at(path_at);
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (origin, path, query) = (origin.to_string(), path.to_string(), query.to_string());
        let began = clock::now();
        let trace = TraceContext::accept(request.header("traceparent"), request.header("tracestate"), random::bytes());
        let request_id = request
            .header("x-request-id")
            .filter(|id| valid_request_id(id))
            .map_or_else(|| format!("req_{}", ulid(began, random::bytes())), Into::into);
        Self {
            request,
            settings,
            path,
            query,
            origin,
            request_id,
            trace,
            began,
            tenant: RefCell::new(TenantId::first()),
            principal: RefCell::default(),
            auth_ms: Cell::new(0),
            limits: RequestQuotas::default(),
        }
    }

    pub fn method(&self) -> &str {
        self.request.method()
    }

    /// The path without secrets: that of a callback authorizes its sender.
    pub fn public_path(&self) -> &str {
        if self.path.starts_with(CALLBACK_PATH) { CALLBACK_PATH.trim_end_matches('/') } else { &self.path }
    }

    /// The client's address, or that of a proxy before it.
    pub fn client_address(&self) -> ClientAddress<'_> {
        self.settings.client_addresses().of_request(|name| self.request.header(name), self.request.peer())
    }

    /// The text of that address.
    pub fn address(&self) -> &str {
        self.client_address().text
    }

    /// The query as it was sent.
    pub fn query_text(&self) -> &str {
        &self.query
    }

    /// A query member's first value, decoded.
    pub fn query(&self, name: &str) -> Option<String> {
        url::form_urlencoded::parse(self.query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// This request's path and query with one member set to another value.
    pub fn with_query(&self, name: &str, value: &str) -> String {
        let kept = url::form_urlencoded::parse(self.query.as_bytes()).filter(|(key, _)| key != name);
        let query =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(kept).append_pair(name, value).finish();
        format!("{}?{query}", self.path)
    }

    /// Refuses a query member that is given more than once.
    pub fn no_repeated_query(&self) -> Result<(), Problem> {
        let Some(name) = query::repeated(&self.query) else { return Ok(()) };
        let problem =
            Problem::new(Code::InvalidRequest, format!("The query parameter {name:?} is given more than once."));
        Err(Problem { errors: vec![json::Fault::new(format!("?{name}"), "may be given only once")], ..problem })
    }

    /// Refuses query members that the handler does not read.
    pub fn only_query(&self, known: &[&str]) -> Result<(), Problem> {
        let faults: Vec<json::Fault> = url::form_urlencoded::parse(self.query.as_bytes())
            .filter(|(name, _)| !known.contains(&name.as_ref()))
            .map(|(name, _): (Cow<'_, str>, _)| json::Fault::new(format!("?{name}"), "is not a known query parameter"))
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(Problem::invalid(faults)) }
    }

    /// The members that `read` takes of the JSON body, which must be an object without others.
    pub async fn read_body<T>(&self, read: impl FnOnce(&mut Object<'_>) -> T) -> Result<T, Problem> {
        read_members(&self.json_text().await?, read)
    }

    /// As [`Call::read_body`]; without a body, of an empty object.
    pub async fn read_optional_body<T>(&self, read: impl FnOnce(&mut Object<'_>) -> T) -> Result<T, Problem> {
        read_members(&self.optional_json_text().await?, read)
    }

    /// The whole JSON body, checked, as text.
    pub async fn json_text(&self) -> Result<String, Problem> {
        self.json_text_within(MAX_BODY_BYTES).await
    }

    /// As [`Call::json_text`], of at most so many bytes.
    pub async fn json_text_within(&self, max_bytes: usize) -> Result<String, Problem> {
        checked_text(self.json_bytes(max_bytes).await?)
    }

    /// A body of at most so many bytes from a service: its JSON is repaired as that of its responses is.
    pub async fn service_body(&self, max_bytes: usize) -> Result<String, Problem> {
        let body = self.json_bytes(max_bytes).await?;
        let repaired = json_repair::json(&body).map(Cow::into_owned);
        repaired.ok_or_else(|| match json::check(&body, MAX_DEPTH) {
            Err(invalid) => invalid_json(&invalid),
            Ok(_) => Problem::new(Code::InvalidJson, "The body is not acceptable JSON."),
        })
    }

    /// The whole body, of a content type that is JSON.
    pub async fn json_bytes(&self, max_bytes: usize) -> Result<Vec<u8>, Problem> {
        media_type::json_document(self.content_type()).map_err(not_json)?;
        self.body(max_bytes).await
    }

    /// A merge patch (RFC 7396), checked.
    pub async fn merge_patch(&self) -> Result<String, Problem> {
        media_type::merge_patch(self.content_type()).map_err(|foreign| {
            let detail = match foreign {
                UnsupportedBody::Type => {
                    "Send a merge patch (RFC 7396), with Content-Type: application/merge-patch+json."
                }
                UnsupportedBody::Charset => NOT_UTF_8,
            };
            let problem = Problem::new(Code::UnsupportedMediaType, detail);
            problem.with_header("Accept-Patch", "application/merge-patch+json, application/json")
        })?;
        checked_text(self.body(MAX_BODY_BYTES).await?)
    }

    pub fn content_type(&self) -> &str {
        self.request.header("content-type").unwrap_or_default()
    }

    /// Whether the body is not compressed.
    pub fn is_plain(&self) -> bool {
        self.request.header("content-encoding").is_none_or(media_type::is_plain)
    }

    /// The whole body.
    async fn body(&self, max_bytes: usize) -> Result<Vec<u8>, Problem> {
        if !self.is_plain() {
            let detail = "Send the body without Content-Encoding.";
            return Err(Problem::new(Code::UnsupportedMediaType, detail).with_header("Accept-Encoding", "identity"));
        }
        let body = self.request.body(max_bytes, self.settings.body_timeout_ms).await;
        body.map(json::without_mark).map_err(|unread| match unread {
            BodyError::TooLarge => {
                Problem::new(Code::PayloadTooLarge, format!("The body must not exceed {max_bytes} bytes."))
            }
            BodyError::TooSlow => {
                let seconds = self.settings.body_timeout_ms as f64 / 1000.0;
                Problem::new(Code::RequestTimeout, format!("The body was not received within {seconds} seconds."))
            }
            BodyError::Broken(failure) => broken(failure),
        })
    }

    /// As [`Call::json_text`]; without a body, an empty object.
    pub async fn optional_json_text(&self) -> Result<String, Problem> {
        // No header tells the two apart: a chunked body may be empty (RFC 9112 §7.1).
        let body = self.body(MAX_BODY_BYTES).await?;
        if body.is_empty() {
            return Ok("{}".into());
        }
        media_type::json_document(self.content_type()).map_err(not_json)?;
        checked_text(body)
    }

    /// RFC 9110 §13.1: entity tags here are version numbers.
    pub fn condition(&self) -> Result<Condition, Problem> {
        let malformed = || Problem::new(Code::InvalidRequest, "If-Match must be * or entity tags such as \"3\".");
        let condition = match self.request.header("if-match").map(str::trim) {
            None => Condition::None,
            Some("*") => Condition::Exists,
            Some(tags) => Condition::Versions(etag::versions(tags).ok_or_else(malformed)?),
        };
        let absent = self.request.header("if-none-match").is_some_and(|value| value.trim() == "*");
        Ok(if absent { Condition::Absent } else { condition })
    }

    /// Where others reach the gateway.
    pub fn public_origin(&self) -> &str {
        self.settings.public_url.as_deref().unwrap_or(&self.origin)
    }

    pub fn write_rules(&self) -> WriteRules {
        WriteRules {
            allow_loopback: self.settings.allow_loopback,
            allowed_origins: self.settings.allowed_origins.clone(),
            own_host: host_of(&self.origin).into(),
            public_host: self.settings.public_url.as_deref().map(|url| host_of(url).into()),
            demo: self.settings.demo,
        }
    }

    /// A store for a new context, near the caller.
    pub fn new_store(&self) -> StoreId {
        let shard = (random::number() % u64::from(self.settings.context_shards)) as u16;
        StoreId { region: self.region(), shard }
    }

    /// The region of the caller, as far as its continent is known.
    pub fn region(&self) -> Region {
        Region::parse(self.request.continent()).unwrap_or(self.settings.home_region)
    }

    /// Whether the client prefers Server-Sent Events to JSON; `otherwise` if it has no preference.
    pub fn prefers_stream(&self, otherwise: bool) -> bool {
        media_type::prefers_stream(self.request.header("accept").unwrap_or_default(), otherwise)
    }

    /// Whether this is a HEAD (RFC 9110 §9.3.2).
    pub fn is_head(&self) -> bool {
        self.method() == "HEAD"
    }

    /// Whether the client requests a WebSocket.
    pub fn upgrades(&self) -> bool {
        !self.is_head() && self.request.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
    }

    /// Whether the client names Server-Sent Events in `Accept`.
    pub fn accepts_stream(&self) -> bool {
        let is_stream = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            let named = parts.next().is_some_and(|media| media.eq_ignore_ascii_case("text/event-stream"));
            named && !parts.any(|part| part.replace(' ', "").trim_end_matches(['0', '.']) == "q=")
        };
        self.request.header("accept").unwrap_or_default().split(',').any(is_stream)
    }

    /// Watches the credentials of this request, for responses that stay open.
    pub fn watched(&self, principal: &Principal, needed: RequiredPermissions) -> CredentialWatch {
        CredentialWatch::of(&self.request, &self.settings, principal, needed)
    }

    /// The result of a wait, unless the credentials of the request end before.
    pub async fn while_good<T>(
        &self,
        principal: &Principal,
        needed: RequiredPermissions,
        wait: impl Future<Output = T>,
    ) -> Result<T, Problem> {
        let ended = async {
            // Most waits are over before the first look, and need no copy of the credentials.
            clock::pause(self.settings.timing.credentials_check_ms).await;
            let watched = self.watched(principal, needed);
            if watched.is_good().await {
                watched.ended().await;
            }
        };
        match select(pin!(wait), pin!(ended)).await {
            Either::Left((outcome, _)) => Ok(outcome),
            Either::Right(_) => Err(auth::ended(&self.request, &self.settings)),
        }
    }
}
