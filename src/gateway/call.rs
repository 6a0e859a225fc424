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
use crate::platform::http::{BodyError, Request, keep_running};
use crate::platform::settings::Settings;
use crate::platform::{Failure, clock, random};
use narthex_core::access::audit::Actor;
use narthex_core::access::principal::Principal;
use narthex_core::access::tenant::FIRST_TENANT;
use narthex_core::base::id::{Region, StoreId, ulid};
use narthex_core::base::json::{self, MAX_DEPTH};
use narthex_core::base::json_repair;
use narthex_core::base::names::valid_request_id;
use narthex_core::base::time::Timestamp;
use narthex_core::http::egress_address::host_of;
use narthex_core::http::etag;
use narthex_core::http::media_type::{self, UnsupportedBody};
use narthex_core::http::problem::{Code, Problem};
use narthex_core::http::query;
use narthex_core::http::trace_context::TraceContext;

use super::answer::JSON;
use super::limits::held::Held;

/// The largest body, in bytes.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// All headers together, in bytes.
pub const MAX_HEADER_BYTES: usize = 32 * 1024;

pub struct Call {
    pub request: Request,
    pub settings: Rc<Settings>,
    pub context: JsValue,
    pub path: String,
    query: String,
    pub origin: String,
    pub request_id: String,
    pub trace: TraceContext,
    pub began: Timestamp,
    /// Whose caller it is, once that is known; before that the first one's.
    pub tenant: RefCell<String>,
    /// Who asks, for the log.
    pub principal: RefCell<Option<String>>,
    /// Milliseconds until it was known who asks.
    pub auth_ms: Cell<u64>,
    pub limits: Held,
}

/// Who asks, and the registry as it was when that was decided.
pub struct Caller {
    pub principal: Principal,
    pub snapshot: Rc<Snapshot>,
    /// For the audit log, should it write.
    pub by: Actor,
}

fn invalid_json(invalid: &json::Invalid) -> Problem {
    let detail = format!("The body is not acceptable JSON: {invalid}.");
    Problem { errors: vec![invalid.fault()], ..Problem::new(Code::InvalidJson, detail) }
}

const NOT_UTF_8: &str = "Send the body in UTF-8, without another charset in Content-Type.";

fn not_json(foreign: UnsupportedBody) -> Problem {
    let detail = match foreign {
        UnsupportedBody::Type => "Send JSON, with Content-Type: application/json.",
        UnsupportedBody::Charset => NOT_UTF_8,
    };
    Problem::new(Code::UnsupportedMediaType, detail).with_header("Accept", JSON)
}

/// A body that ended before its end.
pub fn broken(failure: Failure) -> Problem {
    Problem { cause: Some(failure.0), ..Problem::new(Code::InvalidRequest, "The body could not be read to its end.") }
}

impl Call {
    pub fn new(raw: JsValue, settings: Rc<Settings>, context: JsValue) -> Self {
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
            context,
            path,
            query,
            origin,
            request_id,
            trace,
            began,
            tenant: RefCell::new(FIRST_TENANT.into()),
            principal: RefCell::default(),
            auth_ms: Cell::new(0),
            limits: Held::default(),
        }
    }

    pub fn method(&self) -> &str {
        self.request.method()
    }

    /// The path as it may be told: a callback's says who may end a context.
    pub fn told_path(&self) -> &str {
        if self.path.starts_with(CALLBACK_PATH) { CALLBACK_PATH.trim_end_matches('/') } else { &self.path }
    }

    /// The client's address, as the platform saw it.
    pub fn address(&self) -> &str {
        self.request.header("cf-connecting-ip").unwrap_or("unknown")
    }

    /// The query as it came.
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
        Err(Problem { errors: vec![json::Fault::new(format!("?{name}"), "may be given once")], ..problem })
    }

    /// Refuses query members nobody reads.
    pub fn only_query(&self, known: &[&str]) -> Result<(), Problem> {
        let faults: Vec<json::Fault> = url::form_urlencoded::parse(self.query.as_bytes())
            .filter(|(name, _)| !known.contains(&name.as_ref()))
            .map(|(name, _): (Cow<'_, str>, _)| json::Fault::new(format!("?{name}"), "is not a known query parameter"))
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(Problem::invalid(faults)) }
    }

    /// The whole JSON body, checked.
    pub async fn json_body(&self) -> Result<Vec<u8>, Problem> {
        self.json_body_within(MAX_BODY_BYTES).await
    }

    /// As [`Call::json_body`], of at most so many bytes.
    pub async fn json_body_within(&self, most_bytes: usize) -> Result<Vec<u8>, Problem> {
        let body = self.json_bytes(most_bytes).await?;
        json::check(&body, MAX_DEPTH).map_err(|invalid| invalid_json(&invalid))?;
        Ok(body)
    }

    /// As [`Call::json_body_within`], of what a service says: it is read with the patience that its answers are read with.
    pub async fn said_by_service(&self, most_bytes: usize) -> Result<String, Problem> {
        let body = self.json_bytes(most_bytes).await?;
        let said = json_repair::json(&body).map(Cow::into_owned);
        said.ok_or_else(|| match json::check(&body, MAX_DEPTH) {
            Err(invalid) => invalid_json(&invalid),
            Ok(_) => Problem::new(Code::InvalidJson, "The body is not acceptable JSON."),
        })
    }

    /// The whole body, of which its sender says that it is JSON.
    pub async fn json_bytes(&self, most_bytes: usize) -> Result<Vec<u8>, Problem> {
        media_type::json_document(self.content_type()).map_err(not_json)?;
        self.body(most_bytes).await
    }

    /// A merge patch (RFC 7396), checked.
    pub async fn merge_patch(&self) -> Result<Vec<u8>, Problem> {
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
        let body = self.body(MAX_BODY_BYTES).await?;
        json::check(&body, MAX_DEPTH).map_err(|invalid| invalid_json(&invalid))?;
        Ok(body)
    }

    pub fn content_type(&self) -> &str {
        self.request.header("content-type").unwrap_or_default()
    }

    /// Whether the body is sent as it is, not compressed.
    pub fn is_plain(&self) -> bool {
        self.request.header("content-encoding").is_none_or(media_type::is_plain)
    }

    /// The whole body.
    async fn body(&self, most_bytes: usize) -> Result<Vec<u8>, Problem> {
        if !self.is_plain() {
            let detail = "Send the body as it is, without Content-Encoding.";
            return Err(Problem::new(Code::UnsupportedMediaType, detail).with_header("Accept-Encoding", "identity"));
        }
        let body = self.request.body(most_bytes, self.settings.body_timeout_ms).await;
        body.map(json::without_mark).map_err(|unread| match unread {
            BodyError::TooLarge => {
                Problem::new(Code::PayloadTooLarge, format!("The body may have at most {most_bytes} bytes."))
            }
            BodyError::TooSlow => {
                let seconds = self.settings.body_timeout_ms as f64 / 1000.0;
                Problem::new(Code::RequestTimeout, format!("The body has to be here within {seconds} seconds."))
            }
            BodyError::Broken(failure) => broken(failure),
        })
    }

    /// As [`Call::json_body`]; without a body an empty object.
    pub async fn optional_json_body(&self) -> Result<Vec<u8>, Problem> {
        // No header says whether there is one: a body in chunks may be empty (RFC 9112 §7.1).
        let body = self.body(MAX_BODY_BYTES).await?;
        if body.is_empty() {
            return Ok(b"{}".to_vec());
        }
        media_type::json_document(self.content_type()).map_err(not_json)?;
        json::check(&body, MAX_DEPTH).map_err(|invalid| invalid_json(&invalid))?;
        Ok(body)
    }

    /// RFC 9110 §13.1: entity tags here are version numbers.
    pub fn condition(&self) -> Result<Condition, Problem> {
        let malformed = || Problem::new(Code::InvalidRequest, "If-Match takes * or entity tags such as \"3\".");
        let condition = match self.request.header("if-match").map(str::trim) {
            None => Condition::None,
            Some("*") => Condition::Exists,
            Some(tags) => Condition::Versions(etag::versions(tags).ok_or_else(malformed)?),
        };
        let absent = self.request.header("if-none-match").is_some_and(|value| value.trim() == "*");
        Ok(if absent { Condition::Absent } else { condition })
    }

    pub fn write_rules(&self) -> WriteRules {
        WriteRules {
            allow_loopback: self.settings.allow_loopback,
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

    /// Whether Server-Sent Events are wanted rather than JSON; `otherwise` where the client leaves it open.
    pub fn prefers_stream(&self, otherwise: bool) -> bool {
        media_type::prefers_stream(self.request.header("accept").unwrap_or_default(), otherwise)
    }

    /// Whether only the head of an answer is asked for (RFC 9110 §9.3.2).
    pub fn is_head(&self) -> bool {
        self.method() == "HEAD"
    }

    /// Whether a WebSocket is asked for.
    pub fn upgrades(&self) -> bool {
        !self.is_head() && self.request.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"))
    }

    /// Whether Server-Sent Events are asked for by their name.
    pub fn accepts_stream(&self) -> bool {
        let is_stream = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            let named = parts.next().is_some_and(|media| media.eq_ignore_ascii_case("text/event-stream"));
            named && !parts.any(|part| part.replace(' ', "").trim_end_matches(['0', '.']) == "q=")
        };
        self.request.header("accept").unwrap_or_default().split(',').any(is_stream)
    }

    /// The credentials of this request, for what stays open by them.
    pub fn watched(&self, principal: &Principal, needed: RequiredPermissions) -> CredentialWatch {
        CredentialWatch::of(&self.request, &self.settings, principal, needed)
    }

    /// What comes of a wait, unless the credentials that asked for it end before.
    pub async fn while_good<T>(
        &self,
        principal: &Principal,
        needed: RequiredPermissions,
        wait: impl Future<Output = T>,
    ) -> Result<T, Problem> {
        let ended = async {
            // Most waits are over before they are looked at, and take no copy of anything.
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

    /// Work that goes on after the answer.
    pub fn keep_running(&self, work: impl Future<Output = ()> + 'static) {
        keep_running(&self.context, work);
    }
}
