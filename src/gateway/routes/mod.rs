//! Every path that the gateway serves: a table with one row per method (`table.rs`), and what all routes have in
//! common.
//!
//! The order in which a request is refused: unknown path, foreign origin (MCP), unknown method, repeated query
//! parameter, idempotency key, credentials, limits, permission; then the handler refuses.

mod path;
mod route;
mod table;
#[cfg(test)]
mod tests;

use narthex_core::http::problem::{Code, Problem};

use super::answer::Answer;
use super::authenticate::authenticated;
use super::call::{Call, Caller};
use super::{mcp, registry};
use path::Match;
use route::{Access, Permission, Route, filled};
use table::ROUTES;

fn find(call: &Call) -> Option<Match<'_>> {
    path::find(ROUTES, &call.path, (&*call.settings).into())
}

/// Whether pages of every origin may read what is at the path of this request.
pub fn is_public(call: &Call) -> bool {
    find(call).is_some_and(|found| found.rows().any(|row| row.any_origin))
}

pub async fn dispatch(call: &Call) -> Result<Answer, Problem> {
    let found = find(call).ok_or_else(|| Problem::not_found("path"))?;
    if found.rows().any(|row| row.checks_origin)
        && let Some(refusal) = mcp::reject_foreign_origin(call)
    {
        return Ok(refusal);
    }
    // A wrong method is refused before anything is looked up.
    let route = found.row(call.method()).ok_or_else(|| not_allowed(found.allowed()))?;
    if route.reads_query {
        call.no_repeated_query()?;
    }
    if route.makes_anew {
        no_idempotency_key(call)?;
    }
    match &route.access {
        Access::Public(handler) | Access::Handler(_, handler) => handler(call, found.parameter).await,
        Access::Caller(permission, handler) => {
            let caller = caller(call, route, *permission, found.parameter).await?;
            handler(call, caller, found.parameter).await
        }
    }
}

/// The caller of a route, who has the permission that it requires.
async fn caller(call: &Call, route: &Route, permission: Permission, parameter: &str) -> Result<Caller, Problem> {
    let mut caller = authenticated(call, route.age).await?;
    if let Permission::Required(permission) = permission {
        caller.principal.require(&filled(permission, parameter))?;
    }
    if route.complete {
        registry::complete(&mut caller).await?;
    }
    Ok(caller)
}

fn not_allowed(allowed: String) -> Problem {
    Problem::new(Code::MethodNotAllowed, format!("Allowed here: {allowed}.")).with_header("Allow", allowed)
}

fn no_idempotency_key(call: &Call) -> Result<(), Problem> {
    if call.request.header("idempotency-key").is_none() {
        return Ok(());
    }
    let detail = "Only POST /v1/contexts and replays honour Idempotency-Key. Leave it out: this request creates \
                  something new each time.";
    Err(Problem::new(Code::InvalidRequest, detail))
}
