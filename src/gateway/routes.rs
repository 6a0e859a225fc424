//! Every path the gateway serves.
//!
//! Assumptions: no path ends in a slash, ids contain no slash, and a path that exists answers an unknown
//! method with 405 and what it allows.

use crate::auth;
use crate::core::problem::{Code, Problem};

use super::answer::Answer;
use super::call::{Call, Caller};
use super::{capabilities, contexts, events, keys, meta, services};

/// A path, with what it names.
enum Route<'p> {
    Health,
    OpenApi,
    AsyncApi,
    Console,
    Contexts,
    Context(&'p str),
    ContextCancel(&'p str),
    ContextEvents(&'p str),
    Services,
    Service(&'p str),
    Capabilities,
    Keys,
    Key(&'p str),
    KeyRotate(&'p str),
    Events,
    Tickets,
    WhoAmI,
    Costs,
    Panic(&'p str),
}

fn find<'p>(path: &'p str, call: &Call) -> Option<Route<'p>> {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    Some(match segments.as_slice() {
        ["health"] => Route::Health,
        ["openapi.json"] => Route::OpenApi,
        ["asyncapi.json"] => Route::AsyncApi,
        ["v1", "contexts"] => Route::Contexts,
        ["v1", "contexts", id] => Route::Context(id),
        ["v1", "contexts", id, "cancel"] => Route::ContextCancel(id),
        ["v1", "contexts", id, "events"] => Route::ContextEvents(id),
        ["v1", "services"] => Route::Services,
        ["v1", "services", id] => Route::Service(id),
        ["v1", "capabilities"] => Route::Capabilities,
        ["v1", "keys"] => Route::Keys,
        ["v1", "keys", id] => Route::Key(id),
        ["v1", "keys", id, "rotate"] => Route::KeyRotate(id),
        ["v1", "events"] => Route::Events,
        ["v1", "tickets"] => Route::Tickets,
        ["v1", "whoami"] => Route::WhoAmI,
        ["v1", "costs"] if call.settings.count_costs => Route::Costs,
        ["panic", place] if call.settings.panic_routes => Route::Panic(place),
        ["v1", ..] | ["panic", ..] => return None,
        _ => Route::Console,
    })
}

fn not_allowed(allowed: &'static str) -> Problem {
    Problem::new(Code::MethodNotAllowed, format!("Allowed here: {allowed}.")).with_header("Allow", allowed)
}

pub async fn dispatch(call: &Call) -> Result<Answer, Problem> {
    let Some(route) = find(&call.path, call) else {
        return Err(Problem::not_found("path"));
    };
    let method = call.method();
    match (&route, method) {
        (Route::Health, "GET" | "HEAD") => return meta::health(),
        (Route::OpenApi, "GET" | "HEAD") => return Ok(meta::openapi()),
        (Route::AsyncApi, "GET" | "HEAD") => return Ok(meta::asyncapi()),
        (Route::Console, "GET" | "HEAD") => return meta::console(call).await,
        (Route::Events, "GET") => return events::stream(call).await,
        (Route::Panic(place), _) => return meta::panic(place).await,
        (Route::Health | Route::OpenApi | Route::AsyncApi | Route::Console, _) => return Err(not_allowed("GET, HEAD")),
        _ => {}
    }
    let mut caller = authenticated(call).await?;
    match (route, method) {
        (Route::Contexts, "POST") => contexts::create(call, caller).await,
        (Route::Contexts, "GET") => contexts::list(call, caller).await,
        (Route::Contexts, _) => Err(not_allowed("GET, POST")),
        (Route::Context(id), "GET") => contexts::get(call, caller, id).await,
        (Route::Context(_), _) => Err(not_allowed("GET")),
        (Route::ContextCancel(id), "POST") => contexts::cancel(call, caller, id).await,
        (Route::ContextCancel(_), _) => Err(not_allowed("POST")),
        (Route::ContextEvents(id), "GET") => events::of_context(call, caller, id).await,
        (Route::ContextEvents(_), _) => Err(not_allowed("GET")),
        (Route::Services, "GET") => services::list(call, &mut caller).await,
        (Route::Services, _) => Err(not_allowed("GET")),
        (Route::Service(id), "GET") => services::get(call, &mut caller, id).await,
        (Route::Service(id), "PUT") => services::put(call, &caller, id).await,
        (Route::Service(id), "PATCH") => services::patch(call, &caller, id).await,
        (Route::Service(id), "DELETE") => services::delete(call, &caller, id).await,
        (Route::Service(_), _) => Err(not_allowed("GET, PUT, PATCH, DELETE")),
        (Route::Capabilities, "GET") => capabilities::list(call, &mut caller).await,
        (Route::Capabilities, _) => Err(not_allowed("GET")),
        (Route::Keys, "POST") => keys::create(call, &caller).await,
        (Route::Keys, "GET") => keys::list(call, &mut caller).await,
        (Route::Keys, _) => Err(not_allowed("GET, POST")),
        (Route::Key(id), "GET") => keys::get(&mut caller, id).await,
        (Route::Key(id), "DELETE") => keys::revoke(&caller, id).await,
        (Route::Key(_), _) => Err(not_allowed("GET, DELETE")),
        (Route::KeyRotate(id), "POST") => keys::rotate(call, &caller, id).await,
        (Route::KeyRotate(_), _) => Err(not_allowed("POST")),
        (Route::Tickets, "POST") => events::ticket(call, caller).await,
        (Route::Tickets, _) => Err(not_allowed("POST")),
        (Route::Events, _) => Err(not_allowed("GET")),
        (Route::WhoAmI, "GET") => Answer::json(200, &caller.principal),
        (Route::WhoAmI, _) => Err(not_allowed("GET")),
        (Route::Costs, "GET") => meta::costs(&caller),
        (Route::Costs, _) => Err(not_allowed("GET")),
        (Route::Health | Route::OpenApi | Route::AsyncApi | Route::Console | Route::Panic(_), _) => {
            Err(Problem::not_found("path"))
        }
    }
}

/// Who asks. Wrong methods and paths are told before this, so that they cost nobody a look-up.
pub async fn authenticated(call: &Call) -> Result<Caller, Problem> {
    let (principal, snapshot) = auth::authenticate(&call.request, &call.settings).await?;
    Ok(Caller { principal, snapshot })
}
