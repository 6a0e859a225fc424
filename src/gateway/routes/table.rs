//! The table of routes. Methods of one path are in the order of `Allow`.

use narthex_core::access::issuer::Issuer;
use narthex_core::access::oauth::client::Client;
use narthex_core::access::role::Role;
use narthex_core::access::tenant::Tenant;
use narthex_core::limits::policy::Limit;
use narthex_core::models::endpoint::Endpoint as Model;
use narthex_core::models::route::ModelRoute;
use narthex_core::schedules::Schedule;
use narthex_core::webhooks::Webhook;

use super::super::documents::{delete, get, list, put};
use super::super::oauth::{self, Endpoint};
use super::super::{
    audit, callbacks, capabilities, connections, contexts, events, keys, lists, mcp, measured, meta, models, registry,
    services, tools, usage, webhooks,
};
use super::route::{Access, Permission, Route, routes};

routes! {
    |call, caller, id|

    GET    "/v1/contexts"             requires("contexts:read") => lists::contexts(call, caller).await;
    POST   "/v1/contexts"             decides("contexts:create:{service}.{capability}") [confirmed]
        => contexts::create(call, caller).await;
    GET    "/v1/contexts/{id}"        requires("contexts:read") [confirmed] => contexts::get(call, caller, id).await;
    POST   "/v1/contexts/{id}/cancel" requires("contexts:cancel") [confirmed]
        => contexts::cancel(call, caller, id).await;
    POST   "/v1/contexts/{id}/replay" decides("contexts:create:{service}.{capability}") [confirmed]
        => contexts::replay(call, caller, id).await;
    POST   "/v1/contexts/{id}/input"  decides("contexts:create:{service}.{capability}") [confirmed]
        => contexts::input(call, caller, id).await;

    // The token is all the authority there is.
    POST   "/v1/callbacks/{token}" public() => callbacks::post(call, id).await;

    // Credentials, or a ticket made with them.
    GET    "/v1/contexts/{id}/events" handler("contexts:read")       => events::of_context(call, id).await;
    GET    "/v1/events"               handler("events:read")         => events::stream(call).await;
    POST   "/v1/tickets"              requires("events:read") [anew] => events::ticket(call, caller).await;

    GET    "/v1/services"                    requires("services:read") [complete]
        => services::list(call, &caller).await;
    GET    "/v1/services/{id}"               requires("services:read") [complete]
        => services::get(call, &caller, id).await;
    PUT    "/v1/services/{id}"               requires("services:write") [complete]
        => services::put(call, &caller, id).await;
    PATCH  "/v1/services/{id}"               requires("services:write") [complete]
        => services::patch(call, &caller, id).await;
    DELETE "/v1/services/{id}"               requires("services:write") [complete]
        => services::delete(call, &caller, id).await;
    POST   "/v1/services/{id}/heartbeat"     requires("services:heartbeat:{service}")
        => measured::heartbeat(call, &caller, id).await;
    POST   "/v1/services/{id}/check"         requires("services:write") => measured::check(call, &caller, id).await;
    GET    "/v1/services/{id}/connect"       requires("services:connect:{service}")
        => connections::open(call, &caller, id).await;
    POST   "/v1/services/{id}/rotate-secret" requires("services:write") [complete, anew]
        => services::rotate_secret(call, &caller, id).await;
    POST   "/v1/services/{id}/accept-tools"  requires("services:write") [complete]
        => tools::accept(call, &caller, id).await;
    GET    "/v1/capabilities"                requires("services:read") => capabilities::list(call, &caller).await;

    GET    "/v1/keys"             requires("keys:read") [complete]        => keys::list(call, &caller).await;
    POST   "/v1/keys"             requires("keys:write") [complete, anew] => keys::create(call, &caller).await;
    GET    "/v1/keys/{id}"        requires("keys:read") [complete]        => keys::get(&caller, id).await;
    DELETE "/v1/keys/{id}"        requires("keys:write") [complete]       => keys::revoke(&caller, id).await;
    POST   "/v1/keys/{id}/rotate" requires("keys:write") [complete, anew] => keys::rotate(call, &caller, id).await;
    GET    "/v1/whoami"           caller()                                => meta::who_am_i(&caller);

    GET    "/v1/roles"        requires("roles:read") [complete]  => list::<Role>(call, &caller).await;
    GET    "/v1/roles/{name}" requires("roles:read") [complete]  => get::<Role>(call, &caller, id).await;
    PUT    "/v1/roles/{name}" requires("roles:write") [complete] => put::<Role>(call, &caller, id).await;
    DELETE "/v1/roles/{name}" requires("roles:write") [complete] => delete::<Role>(call, &caller, id).await;

    GET    "/v1/limits"        requires("limits:read") [complete]  => list::<Limit>(call, &caller).await;
    GET    "/v1/limits/{name}" requires("limits:read") [complete]  => get::<Limit>(call, &caller, id).await;
    PUT    "/v1/limits/{name}" requires("limits:write") [complete] => put::<Limit>(call, &caller, id).await;
    DELETE "/v1/limits/{name}" requires("limits:write") [complete] => delete::<Limit>(call, &caller, id).await;

    // What the model clients know. Refused in the formats of those.
    POST   "/v1/chat/completions"      decides("models:use:{model}") [model]
        => models::serve(call, caller, Model::Chat).await;
    POST   "/v1/responses"             decides("models:use:{model}") [model]
        => models::serve(call, caller, Model::Responses).await;
    POST   "/v1/embeddings"            decides("models:use:{model}") [model]
        => models::serve(call, caller, Model::Embeddings).await;
    POST   "/v1/messages"              decides("models:use:{model}") [model]
        => models::serve(call, caller, Model::Messages).await;
    POST   "/v1/messages/count_tokens" decides("models:use:{model}") [model] => models::count_tokens(call, caller).await;
    GET    "/v1/models"                decides("models:use:{model}") [file] => models::list(call, &caller).await;
    GET    "/v1/models/{name*}"        decides("models:use:{model}") [file] => models::get(call, &caller, id).await;

    GET    "/v1/model-routes"         requires("models:read") [complete]  => list::<ModelRoute>(call, &caller).await;
    GET    "/v1/model-routes/{name*}" requires("models:read") [complete]
        => get::<ModelRoute>(call, &caller, &models::decoded(id)).await;
    PUT    "/v1/model-routes/{name*}" requires("models:write") [complete]
        => put::<ModelRoute>(call, &caller, &models::decoded(id)).await;
    DELETE "/v1/model-routes/{name*}" requires("models:write") [complete]
        => delete::<ModelRoute>(call, &caller, &models::decoded(id)).await;

    GET    "/v1/issuers"        requires("issuers:read") [complete]  => list::<Issuer>(call, &caller).await;
    GET    "/v1/issuers/{name}" requires("issuers:read") [complete]  => get::<Issuer>(call, &caller, id).await;
    PUT    "/v1/issuers/{name}" requires("issuers:write") [complete] => put::<Issuer>(call, &caller, id).await;
    DELETE "/v1/issuers/{name}" requires("issuers:write") [complete] => delete::<Issuer>(call, &caller, id).await;

    GET    "/v1/clients"      requires("clients:read") [complete]  => list::<Client>(call, &caller).await;
    GET    "/v1/clients/{id}" requires("clients:read") [complete]  => get::<Client>(call, &caller, id).await;
    PUT    "/v1/clients/{id}" requires("clients:write") [complete] => put::<Client>(call, &caller, id).await;
    DELETE "/v1/clients/{id}" requires("clients:write") [complete] => delete::<Client>(call, &caller, id).await;

    GET    "/v1/tenants"      requires("tenants:read") [complete]  => list::<Tenant>(call, &caller).await;
    GET    "/v1/tenants/{id}" requires("tenants:read") [complete]  => get::<Tenant>(call, &caller, id).await;
    PUT    "/v1/tenants/{id}" requires("tenants:write") [complete] => put::<Tenant>(call, &caller, id).await;
    DELETE "/v1/tenants/{id}" requires("tenants:write") [complete] => delete::<Tenant>(call, &caller, id).await;

    GET    "/v1/schedules"      requires("schedules:read") [complete]  => list::<Schedule>(call, &caller).await;
    GET    "/v1/schedules/{id}" requires("schedules:read") [complete]  => get::<Schedule>(call, &caller, id).await;
    PUT    "/v1/schedules/{id}" requires("schedules:write") [complete] => put::<Schedule>(call, &caller, id).await;
    DELETE "/v1/schedules/{id}" requires("schedules:write") [complete] => delete::<Schedule>(call, &caller, id).await;

    GET    "/v1/webhooks"                    requires("webhooks:read") [complete]
        => list::<Webhook>(call, &caller).await;
    GET    "/v1/webhooks/{id}"               requires("webhooks:read") [complete]
        => get::<Webhook>(call, &caller, id).await;
    PUT    "/v1/webhooks/{id}"               requires("webhooks:write") [complete]
        => put::<Webhook>(call, &caller, id).await;
    DELETE "/v1/webhooks/{id}"               requires("webhooks:write") [complete]
        => delete::<Webhook>(call, &caller, id).await;
    POST   "/v1/webhooks/{id}/test"          requires("webhooks:write") [anew] => webhooks::test(&caller, id).await;
    POST   "/v1/webhooks/{id}/redeliver"     requires("webhooks:write") [anew]
        => webhooks::redeliver(call, &caller, id).await;
    POST   "/v1/webhooks/{id}/rotate-secret" requires("webhooks:write") [complete, anew]
        => webhooks::rotate_secret(call, &caller, id).await;
    GET    "/v1/webhooks/{id}/deliveries"    requires("webhooks:read") => webhooks::deliveries(call, &caller, id).await;

    // Callers need no permission for what is their own.
    GET    "/v1/grants"      caller()                => oauth::grants::list(call, &caller).await;
    DELETE "/v1/grants/{id}" decides("grants:write") => oauth::grants::delete(&caller, id).await;

    GET    "/v1/audit"    requires("audit:read")         => audit::list(call, &caller).await;
    GET    "/v1/registry" requires("registry:read")      => registry::get(call, &caller).await;
    GET    "/v1/usage"    requires("usage:read")         => usage::list(call, &caller).await;
    GET    "/metrics"     requires("usage:read")         => usage::metrics(call, &caller).await;
    GET    "/v1/costs"    requires("usage:read") [costs] => meta::costs();

    // Refuses credentials in the form of JSON-RPC.
    GET    "/mcp"      handler() [mcp] => Ok(mcp::serve(call, None).await);
    POST   "/mcp"      handler() [mcp] => Ok(mcp::serve(call, None).await);
    DELETE "/mcp"      handler() [mcp] => Ok(mcp::serve(call, None).await);
    GET    "/mcp/{id}" handler() [mcp] => Ok(mcp::serve(call, Some(id)).await);
    POST   "/mcp/{id}" handler() [mcp] => Ok(mcp::serve(call, Some(id)).await);
    DELETE "/mcp/{id}" handler() [mcp] => Ok(mcp::serve(call, Some(id)).await);

    GET    "/.well-known/oauth-authorization-server"        public() [oauth, any_origin]
        => oauth::serve(call, &Endpoint::Server).await;
    GET    "/.well-known/oauth-protected-resource"          public() [oauth, any_origin]
        => oauth::resource(call, "").await;
    GET    "/.well-known/oauth-protected-resource/mcp"      public() [oauth, any_origin]
        => oauth::resource(call, "/mcp").await;
    GET    "/.well-known/oauth-protected-resource/mcp/{id}" public() [oauth, any_origin]
        => oauth::resource(call, &format!("/mcp/{id}")).await;

    GET    "/oauth/jwks"       public() [oauth, any_origin] => oauth::serve(call, &Endpoint::Keys).await;
    GET    "/oauth/authorize"  public() [oauth]             => oauth::serve(call, &Endpoint::Authorize).await;
    POST   "/oauth/authorize"  public() [oauth]             => oauth::serve(call, &Endpoint::Authorize).await;
    GET    "/oauth/signed-in"  public() [oauth]             => oauth::serve(call, &Endpoint::SignedIn).await;
    POST   "/oauth/token"      public() [oauth]             => oauth::serve(call, &Endpoint::Token).await;
    POST   "/oauth/revoke"     public() [oauth]             => oauth::serve(call, &Endpoint::Revoke).await;
    POST   "/oauth/introspect" public() [oauth]             => oauth::serve(call, &Endpoint::Introspect).await;
    POST   "/oauth/register"   public() [oauth]             => oauth::serve(call, &Endpoint::Register).await;

    GET    "/health"        public() [file]             => meta::health(call);
    GET    "/openapi.json"  public() [file, any_origin] => meta::contract(call).await;
    GET    "/asyncapi.json" public() [file, any_origin] => meta::contract(call).await;
    GET    "/console.json"  public() [file]             => meta::console_features(call);
    GET    "/"              public() [file]             => meta::console(call).await;

    // The rest: it must be the last row.
    GET    "/{file*}" public() [file] => meta::console(call).await;
}
