//! `/v1/model-routes`: names under which clients reach one or several models.

use serde::Serialize;

use crate::objects::registry::messages::{DocumentKind, StoredDocument};
use narthex_core::base::json::Fault;
use narthex_core::base::model_name::is_model_name;
use narthex_core::base::time::{Timestamp, as_text};
use narthex_core::http::problem::{Code, Problem};
use narthex_core::models::route::{self, MAX_ROUTES, ModelRoute};
use narthex_core::services::outline::ModelNames;

use super::super::call::{Call, Caller};
use super::Document;

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct View<'a> {
    name: &'a str,
    #[serde(flatten)]
    route: &'a ModelRoute,
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    created_at: Timestamp,
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    updated_at: Timestamp,
}

/// The targets that are missing: each must be a model of a service.
fn missing(caller: &Caller, route: &ModelRoute) -> Vec<Fault> {
    let fault = |at: usize, member: &str, detail: String| Some(Fault::new(format!("#/targets/{at}/{member}"), detail));
    let check = |(at, target): (usize, &route::RouteTarget)| {
        let id = &target.service;
        let Some(entry) = caller.snapshot.service(id.as_str()) else {
            return fault(at, "service", format!("must be the id of a service: there is no {id}"));
        };
        let service = entry.service();
        if service.transport.format().is_none() && service.models.is_none() && !service.is_unreadable() {
            return fault(at, "service", format!("{id} is not an endpoint of models"));
        }
        match &service.models {
            ModelNames::Listed(names) if !names.iter().any(|name| *name == target.model || name == "*") => {
                fault(at, "model", format!("{id} has no model {}", target.model))
            }
            ModelNames::Listed(_) | ModelNames::Default(_) | ModelNames::None => None,
        }
    };
    route.targets.iter().enumerate().filter_map(check).collect()
}

impl Document for ModelRoute {
    const KIND: DocumentKind = DocumentKind::ModelRoute;
    type Extras = ();
    type View<'a> = View<'a>;

    fn view<'a>(_: &Caller, stored: &'a StoredDocument, route: &'a Self, (): &()) -> View<'a> {
        View { name: &stored.id, route, created_at: stored.created_at, updated_at: stored.updated_at }
    }

    fn check_id(name: &str) -> Result<(), Problem> {
        // Clients resolve paths, and would reach another one.
        let is_segment = |text: &str| !matches!(text, "" | "." | "..");
        if is_model_name(name) && !name.ends_with('*') && name.split('/').all(is_segment) {
            return Ok(());
        }
        let detail = "must be 1 to 128 printable ASCII characters without blanks and commas, must not end in *, and \
                      must have no empty part, . or .. between slashes";
        Err(Problem::invalid(vec![Fault::new("#/name", detail)]))
    }

    async fn accept(_: &Call, caller: &Caller, name: &str, body: &str) -> Result<(Self, ()), Problem> {
        let route = route::read(body).map_err(Problem::invalid)?;
        let missing = missing(caller, &route);
        if !missing.is_empty() {
            return Err(Problem::invalid(missing));
        }
        let routes = &caller.snapshot.rules.model_routes;
        if !routes.contains_key(name) && routes.len() >= MAX_ROUTES {
            let detail = format!("A tenant may have at most {MAX_ROUTES} model routes. Delete one first.");
            return Err(Problem::new(Code::Conflict, detail));
        }
        Ok((route, ()))
    }
}
