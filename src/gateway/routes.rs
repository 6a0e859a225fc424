//! Every path the gateway serves.
//!
//! Assumptions: no path but those of MCP and their metadata ends in a slash, ids contain no slash, and a path that
//! exists answers an unknown method with 405 and what it allows.

use crate::auth::Age;
use narthex_core::http::problem::{Code, Problem};

use super::answer::Answer;
use super::authenticate::authenticated;
use super::call::Call;
use super::{
    audit, callbacks, capabilities, clients, connections, contexts, events, issuers, keys, limits, lists, mcp,
    measured, meta, oauth, registry, roles, schedules, services, tenants, tools, usage, webhooks,
};

/// A path, with what it names.
enum Route<'p> {
    Health,
    OpenApi,
    AsyncApi,
    Console,
    ConsoleFeatures,
    Contexts,
    Context(&'p str),
    ContextCancel(&'p str),
    ContextReplay(&'p str),
    ContextInput(&'p str),
    ContextEvents(&'p str),
    Callback(&'p str),
    Services,
    Service(&'p str),
    ServiceHeartbeat(&'p str),
    ServiceCheck(&'p str),
    ServiceConnect(&'p str),
    ServiceRotateSecret(&'p str),
    ServiceAcceptTools(&'p str),
    Capabilities,
    Keys,
    Key(&'p str),
    KeyRotate(&'p str),
    Roles,
    Role(&'p str),
    Limits,
    Limit(&'p str),
    Issuers,
    Issuer(&'p str),
    Clients,
    Client(&'p str),
    Grants,
    Grant(&'p str),
    OAuth(oauth::Endpoint<'p>),
    Tenants,
    Tenant(&'p str),
    Audit,
    Usage,
    Metrics,
    Schedules,
    Schedule(&'p str),
    Webhooks,
    Webhook(&'p str),
    WebhookTest(&'p str),
    WebhookRedeliver(&'p str),
    WebhookRotateSecret(&'p str),
    WebhookDeliveries(&'p str),
    Registry,
    Events,
    Tickets,
    WhoAmI,
    Costs,
    Mcp,
    McpService(&'p str),
}

fn find<'p>(path: &'p str, call: &Call) -> Option<Route<'p>> {
    // Clients put a slash behind the address of an MCP server.
    let mcp = path.strip_suffix('/').filter(|before| *before == "/mcp" || before.starts_with("/mcp/"));
    let segments: Vec<&str> = mcp.unwrap_or(path).split('/').skip(1).collect();
    Some(match segments.as_slice() {
        ["health"] => Route::Health,
        ["openapi.json"] => Route::OpenApi,
        ["asyncapi.json"] => Route::AsyncApi,
        ["v1", "contexts"] => Route::Contexts,
        ["v1", "contexts", id] => Route::Context(id),
        ["v1", "contexts", id, "cancel"] => Route::ContextCancel(id),
        ["v1", "contexts", id, "replay"] => Route::ContextReplay(id),
        ["v1", "contexts", id, "input"] => Route::ContextInput(id),
        ["v1", "contexts", id, "events"] => Route::ContextEvents(id),
        ["v1", "callbacks", token] => Route::Callback(token),
        ["v1", "services"] => Route::Services,
        ["v1", "services", id] => Route::Service(id),
        ["v1", "services", id, "heartbeat"] => Route::ServiceHeartbeat(id),
        ["v1", "services", id, "check"] => Route::ServiceCheck(id),
        ["v1", "services", id, "connect"] => Route::ServiceConnect(id),
        ["v1", "services", id, "rotate-secret"] => Route::ServiceRotateSecret(id),
        ["v1", "services", id, "accept-tools"] => Route::ServiceAcceptTools(id),
        ["v1", "capabilities"] => Route::Capabilities,
        ["v1", "keys"] => Route::Keys,
        ["v1", "keys", id] => Route::Key(id),
        ["v1", "keys", id, "rotate"] => Route::KeyRotate(id),
        ["v1", "roles"] => Route::Roles,
        ["v1", "roles", name] => Route::Role(name),
        ["v1", "limits"] => Route::Limits,
        ["v1", "limits", name] => Route::Limit(name),
        ["v1", "issuers"] => Route::Issuers,
        ["v1", "issuers", name] => Route::Issuer(name),
        ["v1", "clients"] => Route::Clients,
        ["v1", "clients", id] => Route::Client(id),
        ["v1", "grants"] => Route::Grants,
        ["v1", "grants", id] => Route::Grant(id),
        ["v1", "tenants"] => Route::Tenants,
        ["v1", "tenants", id] => Route::Tenant(id),
        ["v1", "audit"] => Route::Audit,
        ["metrics"] => Route::Metrics,
        ["v1", "usage"] => Route::Usage,
        ["v1", "schedules"] => Route::Schedules,
        ["v1", "schedules", id] => Route::Schedule(id),
        ["v1", "webhooks"] => Route::Webhooks,
        ["v1", "webhooks", id] => Route::Webhook(id),
        ["v1", "webhooks", id, "test"] => Route::WebhookTest(id),
        ["v1", "webhooks", id, "redeliver"] => Route::WebhookRedeliver(id),
        ["v1", "webhooks", id, "rotate-secret"] => Route::WebhookRotateSecret(id),
        ["v1", "webhooks", id, "deliveries"] => Route::WebhookDeliveries(id),
        ["v1", "registry"] => Route::Registry,
        ["v1", "events"] => Route::Events,
        ["v1", "tickets"] => Route::Tickets,
        ["v1", "whoami"] => Route::WhoAmI,
        ["v1", "costs"] if call.settings.count_costs => Route::Costs,
        [".well-known" | "oauth", ..] if call.settings.oauth => Route::OAuth(oauth::find(&segments)?),
        ["console.json"] => Route::ConsoleFeatures,
        // What registers the demonstration, which a deployment may not want.
        ["demo.json"] if !call.settings.demo => return None,
        ["mcp"] => Route::Mcp,
        ["mcp", service] => Route::McpService(service),
        ["v1", ..] | ["mcp", ..] => return None,
        _ => Route::Console,
    })
}

/// The methods of a path; where there is a GET there is a HEAD. A wrong one is told before anything else, so that it costs
/// nobody a look-up.
fn methods(route: &Route<'_>) -> &'static str {
    match route {
        Route::Health | Route::OpenApi | Route::AsyncApi | Route::Console | Route::ConsoleFeatures => "GET",
        Route::Contexts | Route::Keys => "GET, POST",
        Route::Context(_) | Route::ContextEvents(_) | Route::Services | Route::Capabilities => "GET",
        Route::OAuth(endpoint) => oauth::methods(endpoint),
        Route::Grants => "GET",
        Route::Grant(_) => "DELETE",
        Route::Roles | Route::Limits | Route::Issuers | Route::Clients | Route::Tenants | Route::Audit => "GET",
        Route::Role(_) | Route::Limit(_) | Route::Issuer(_) | Route::Client(_) | Route::Tenant(_) => "GET, PUT, DELETE",
        Route::Usage | Route::Metrics | Route::Schedules | Route::Webhooks | Route::WebhookDeliveries(_) => "GET",
        Route::Schedule(_) | Route::Webhook(_) => "GET, PUT, DELETE",
        Route::WebhookTest(_) | Route::WebhookRedeliver(_) | Route::WebhookRotateSecret(_) => "POST",
        Route::Events | Route::Registry | Route::WhoAmI | Route::Costs | Route::ServiceConnect(_) => "GET",
        Route::ContextCancel(_) | Route::ContextReplay(_) | Route::ContextInput(_) | Route::Callback(_) => "POST",
        Route::KeyRotate(_) | Route::Tickets => "POST",
        Route::Mcp | Route::McpService(_) => "GET, POST, DELETE",
        Route::ServiceHeartbeat(_) | Route::ServiceCheck(_) | Route::ServiceRotateSecret(_) => "POST",
        Route::ServiceAcceptTools(_) => "POST",
        Route::Service(_) => "GET, PUT, PATCH, DELETE",
        Route::Key(_) => "GET, DELETE",
    }
}

/// Whether a route shows or changes what is configured.
fn configures(route: &Route<'_>) -> bool {
    matches!(
        route,
        Route::Services
            | Route::Service(_)
            | Route::ServiceRotateSecret(_)
            | Route::ServiceAcceptTools(_)
            | Route::Keys
            | Route::Key(_)
            | Route::KeyRotate(_)
            | Route::Roles
            | Route::Role(_)
            | Route::Limits
            | Route::Limit(_)
            | Route::Issuers
            | Route::Issuer(_)
            | Route::Clients
            | Route::Client(_)
            | Route::Tenants
            | Route::Tenant(_)
            | Route::Schedules
            | Route::Schedule(_)
            | Route::Webhooks
            | Route::Webhook(_)
            | Route::WebhookRotateSecret(_)
    )
}

/// Whether what lies there is for everybody: documents without anything of anybody's in them.
pub fn is_public(call: &Call) -> bool {
    match find(&call.path, call) {
        Some(Route::OpenApi | Route::AsyncApi) => true,
        Some(Route::OAuth(endpoint)) => oauth::is_public(&endpoint),
        _ => false,
    }
}

/// The methods of a path as clients are told: what is read can be asked for its head alone (RFC 9110 §9.1).
fn with_head(methods: &str) -> String {
    let reads = methods.split(", ").any(|known| known == "GET") && !methods.contains("HEAD");
    if reads { methods.replacen("GET", "GET, HEAD", 1) } else { methods.into() }
}

fn not_allowed(allowed: String) -> Problem {
    Problem::new(Code::MethodNotAllowed, format!("Allowed here: {allowed}.")).with_header("Allow", allowed)
}

/// Whether a path reads its query as all of the API does. Sign-in pages have their own way to refuse one; MCP and
/// documents read none.
fn reads_query(route: &Route<'_>) -> bool {
    let reads_none = matches!(route, Route::Health | Route::OpenApi | Route::AsyncApi | Route::Console)
        || matches!(route, Route::ConsoleFeatures);
    !reads_none && !matches!(route, Route::OAuth(_) | Route::Mcp | Route::McpService(_))
}

/// Whether what is made here is made anew by each request, so that a key that is not honoured would be a promise.
fn makes_anew(route: &Route<'_>) -> bool {
    let secrets = matches!(route, Route::KeyRotate(_) | Route::ServiceRotateSecret(_) | Route::WebhookRotateSecret(_));
    let deliveries = matches!(route, Route::WebhookTest(_) | Route::WebhookRedeliver(_));
    secrets || deliveries || matches!(route, Route::Keys | Route::Tickets)
}

fn no_idempotency_key(call: &Call) -> Result<(), Problem> {
    if call.request.header("idempotency-key").is_none() {
        return Ok(());
    }
    let detail = "Idempotency-Key is honoured by POST /v1/contexts and by its replays only. Leave it out: this request \
                  makes something anew each time.";
    Err(Problem::new(Code::InvalidRequest, detail))
}

#[expect(clippy::too_many_lines, reason = "one flat match of all routes")]
pub async fn dispatch(call: &Call) -> Result<Answer, Problem> {
    let Some(route) = find(&call.path, call) else {
        return Err(Problem::not_found("path"));
    };
    if matches!(route, Route::Mcp | Route::McpService(_))
        && let Some(refusal) = mcp::foreign(call)
    {
        return Ok(refusal);
    }
    let allowed = with_head(methods(&route));
    if !allowed.split(", ").any(|known| known == call.method()) {
        return Err(not_allowed(allowed));
    }
    if reads_query(&route) {
        call.no_repeated_query()?;
    }
    if call.method() == "POST" && makes_anew(&route) {
        no_idempotency_key(call)?;
    }
    // The platform leaves the body out of the answer to a HEAD.
    let method = if call.is_head() { "GET" } else { call.method() };
    match (&route, method) {
        (Route::Health, "GET") => return meta::health(),
        (Route::OpenApi | Route::AsyncApi, "GET") => return meta::contract(call).await,
        (Route::Console, "GET") => return meta::console(call).await,
        (Route::ConsoleFeatures, "GET") => return meta::console_features(call),
        (Route::Events, "GET") => return events::stream(call).await,
        (Route::ContextEvents(id), "GET") => return events::of_context(call, id).await,
        (Route::Callback(token), "POST") => return callbacks::post(call, token).await,
        (Route::OAuth(endpoint), _) => return oauth::serve(call, endpoint).await,
        (Route::Mcp, "GET" | "POST" | "DELETE") => return Ok(mcp::serve(call, None).await),
        (Route::McpService(id), "GET" | "POST" | "DELETE") => return Ok(mcp::serve(call, Some(id)).await),
        _ => {}
    }
    let confirmed = matches!(
        (&route, method),
        (Route::Contexts, "POST")
            | (Route::Context(_) | Route::ContextCancel(_) | Route::ContextReplay(_) | Route::ContextInput(_), _)
    );
    let mut caller = authenticated(call, if confirmed { Age::Any } else { Age::Current }).await?;
    if configures(&route) {
        registry::complete(&mut caller).await?;
    }
    match (route, method) {
        (Route::Contexts, "POST") => contexts::create(call, caller).await,
        (Route::Contexts, "GET") => lists::contexts(call, caller).await,
        (Route::Context(id), "GET") => contexts::get(call, caller, id).await,
        (Route::ContextCancel(id), "POST") => contexts::cancel(call, caller, id).await,
        (Route::ContextReplay(id), "POST") => contexts::replay(call, caller, id).await,
        (Route::ContextInput(id), "POST") => contexts::input(call, caller, id).await,
        (Route::Services, "GET") => services::list(call, &caller).await,
        (Route::Service(id), "GET") => services::get(call, &caller, id).await,
        (Route::Service(id), "PUT") => services::put(call, &caller, id).await,
        (Route::Service(id), "PATCH") => services::patch(call, &caller, id).await,
        (Route::Service(id), "DELETE") => services::delete(call, &caller, id).await,
        (Route::ServiceHeartbeat(id), "POST") => measured::heartbeat(call, &caller, id).await,
        (Route::ServiceRotateSecret(id), "POST") => services::rotate_secret(call, &caller, id).await,
        (Route::ServiceAcceptTools(id), "POST") => tools::accept(call, &caller, id).await,
        (Route::ServiceConnect(id), "GET") => connections::open(call, &caller, id).await,
        (Route::ServiceCheck(id), "POST") => measured::check(&caller, id).await,
        (Route::Capabilities, "GET") => capabilities::list(call, &caller).await,
        (Route::Keys, "POST") => keys::create(call, &caller).await,
        (Route::Keys, "GET") => keys::list(call, &caller).await,
        (Route::Key(id), "GET") => keys::get(&caller, id).await,
        (Route::Key(id), "DELETE") => keys::revoke(&caller, id).await,
        (Route::KeyRotate(id), "POST") => keys::rotate(call, &caller, id).await,
        (Route::Roles, "GET") => roles::list(call, &caller).await,
        (Route::Role(name), "GET") => roles::get(&caller, name).await,
        (Route::Role(name), "PUT") => roles::put(call, &caller, name).await,
        (Route::Role(name), "DELETE") => roles::delete(call, &caller, name).await,
        (Route::Limits, "GET") => limits::list(call, &caller).await,
        (Route::Limit(name), "GET") => limits::get(&caller, name).await,
        (Route::Limit(name), "PUT") => limits::put(call, &caller, name).await,
        (Route::Limit(name), "DELETE") => limits::delete(call, &caller, name).await,
        (Route::Issuers, "GET") => issuers::list(call, &caller).await,
        (Route::Issuer(name), "GET") => issuers::get(call, &caller, name).await,
        (Route::Issuer(name), "PUT") => issuers::put(call, &caller, name).await,
        (Route::Issuer(name), "DELETE") => issuers::delete(call, &caller, name).await,
        (Route::Clients, "GET") => clients::list(call, &caller).await,
        (Route::Client(id), "GET") => clients::get(call, &caller, id).await,
        (Route::Client(id), "PUT") => clients::put(call, &caller, id).await,
        (Route::Client(id), "DELETE") => clients::delete(call, &caller, id).await,
        (Route::Grants, "GET") => oauth::listed::list(call, &caller).await,
        (Route::Grant(id), "DELETE") => oauth::listed::delete(&caller, id).await,
        (Route::Tenants, "GET") => tenants::list(call, &caller).await,
        (Route::Tenant(id), "GET") => tenants::get(&caller, id).await,
        (Route::Tenant(id), "PUT") => tenants::put(call, &caller, id).await,
        (Route::Tenant(id), "DELETE") => tenants::delete(call, &caller, id).await,
        (Route::Audit, "GET") => audit::list(call, &caller).await,
        (Route::Usage, "GET") => usage::list(call, &caller).await,
        (Route::Metrics, "GET") => usage::metrics(call, &caller).await,
        (Route::Schedules, "GET") => schedules::list(call, &caller).await,
        (Route::Schedule(id), "GET") => schedules::get(&caller, id).await,
        (Route::Schedule(id), "PUT") => schedules::put(call, &caller, id).await,
        (Route::Schedule(id), "DELETE") => schedules::delete(call, &caller, id).await,
        (Route::Webhooks, "GET") => webhooks::list(call, &caller).await,
        (Route::Webhook(id), "GET") => webhooks::get(&caller, id).await,
        (Route::Webhook(id), "PUT") => webhooks::put(call, &caller, id).await,
        (Route::Webhook(id), "DELETE") => webhooks::delete(call, &caller, id).await,
        (Route::WebhookTest(id), "POST") => webhooks::test(&caller, id).await,
        (Route::WebhookRedeliver(id), "POST") => webhooks::redeliver(call, &caller, id).await,
        (Route::WebhookRotateSecret(id), "POST") => webhooks::rotate_secret(call, &caller, id).await,
        (Route::WebhookDeliveries(id), "GET") => webhooks::deliveries(call, &caller, id).await,
        (Route::Registry, "GET") => registry::get(call, &caller).await,
        (Route::Tickets, "POST") => events::ticket(call, caller).await,
        (Route::WhoAmI, "GET") => Answer::json(200, &caller.principal),
        (Route::Costs, "GET") => meta::costs(&caller),
        _ => Err(Problem::not_found("path")),
    }
}
