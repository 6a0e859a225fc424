//! The parts of a row of the table: what a route requires, and what serves it.

use std::borrow::Cow;

use futures_util::future::LocalBoxFuture;

use crate::auth::Age;
use crate::platform::settings::Settings;
use narthex_core::http::problem::Problem;

use super::super::answer::Answer;
use super::super::call::{Call, Caller};

pub type Response<'a> = LocalBoxFuture<'a, Result<Answer, Problem>>;
/// Takes the parameter of the path, which is empty where the path has none.
pub type Handler = for<'a> fn(&'a Call, &'a str) -> Response<'a>;
/// As [`Handler`], for an authenticated caller.
pub type CallerHandler = for<'a> fn(&'a Call, Caller, &'a str) -> Response<'a>;

/// One method of one path.
pub struct Route {
    pub method: &'static str,
    /// As in the contract. A name in braces stands for one segment, one with an asterisk for the rest of the path.
    pub path: &'static str,
    pub access: Access,
    /// How old the snapshot that identifies the caller may be.
    pub age: Age,
    /// Whether the handler needs every document of the registry, including those that are too many for a snapshot.
    pub complete: bool,
    /// Whether the query follows the rules of the API. Sign-in pages have their own, and MCP and files read none.
    pub reads_query: bool,
    /// Whether each request makes something anew, so that an idempotency key would be a false promise.
    pub makes_anew: bool,
    /// Whether pages of every origin may read the response, as it says nothing about a tenant.
    pub any_origin: bool,
    /// Whether a browser's request must come from an allowed origin, which is checked before everything else.
    pub checks_origin: bool,
    /// The feature that serves it.
    pub feature: Feature,
}

/// Who may use a route, and the handler, which fits the kind of access.
pub enum Access {
    /// Everyone, without credentials of the gateway.
    Public(Handler),
    /// Those whom the handler authenticates itself: a ticket may take the place of credentials, or refusals have
    /// another form. The contract names this permission.
    Handler(#[cfg_attr(not(test), expect(dead_code, reason = "for the contract only"))] Option<&'static str>, Handler),
    /// Authenticated callers.
    Caller(Permission, CallerHandler),
}

/// The permission that the contract names for a route. A name in braces stands for the parameter of the path.
#[derive(Clone, Copy)]
pub enum Permission {
    /// Valid credentials suffice.
    None,
    /// Required before the handler runs.
    Required(&'static str),
    /// Depends on the body or on an object, so the handler requires it.
    ByHandler(#[cfg_attr(not(test), expect(dead_code, reason = "for the contract only"))] &'static str),
}

/// A part of the gateway that a deployment may leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    Always,
    Costs,
    OAuth,
}

/// The features that a deployment has.
#[derive(Clone, Copy)]
pub struct Features {
    pub costs: bool,
    pub oauth: bool,
    pub demo: bool,
}

impl From<&Settings> for Features {
    fn from(settings: &Settings) -> Self {
        Self { costs: settings.count_costs, oauth: settings.oauth, demo: settings.demo }
    }
}

impl Features {
    pub fn has(self, feature: Feature) -> bool {
        match feature {
            Feature::Always => true,
            Feature::Costs => self.costs,
            Feature::OAuth => self.oauth,
        }
    }
}

impl Route {
    pub const fn new(method: &'static str, path: &'static str, access: Access) -> Self {
        Self {
            method,
            path,
            access,
            age: Age::Current,
            complete: false,
            reads_query: true,
            makes_anew: false,
            any_origin: false,
            checks_origin: false,
            feature: Feature::Always,
        }
    }

    /// A store confirms the snapshot's revision before anything comes of the request.
    pub const fn confirmed(self) -> Self {
        Self { age: Age::Any, ..self }
    }

    /// A call of a model: the path from the client to the provider has no request to an object.
    pub const fn model(self) -> Self {
        Self { age: Age::Recent, reads_query: false, ..self }
    }

    pub const fn complete(self) -> Self {
        Self { complete: true, ..self }
    }

    pub const fn anew(self) -> Self {
        Self { makes_anew: true, ..self }
    }

    pub const fn any_origin(self) -> Self {
        Self { any_origin: true, ..self }
    }

    pub const fn costs(self) -> Self {
        Self { feature: Feature::Costs, ..self }
    }

    pub const fn file(self) -> Self {
        Self { reads_query: false, ..self }
    }

    pub const fn oauth(self) -> Self {
        Self { reads_query: false, feature: Feature::OAuth, ..self }
    }

    pub const fn mcp(self) -> Self {
        Self { reads_query: false, checks_origin: true, ..self }
    }
}

/// The table, one row per method of a path: method, path, access with the permission, options, and the handler as it is
/// called. Rows of callers may name all three arguments, other rows have no `caller`.
macro_rules! routes {
    (
        |$call:ident, $caller:ident, $id:ident|
        $($method:ident $path:literal $access:ident($($permission:expr)?) $([$($option:ident),+])? => $work:expr;)+
    ) => {
        #[allow(unused_variables, reason = "not every handler takes every argument")]
        pub static ROUTES: &[Route] = &[$(
            Route::new(stringify!($method), $path, routes!(@$access $call $caller $id, $work $(, $permission)?))
                $($(.$option())+)?
        ),+];
    };
    (@public $call:ident $caller:ident $id:ident, $work:expr) => {
        Access::Public(|$call, $id| Box::pin(async move { $work }))
    };
    (@handler $call:ident $caller:ident $id:ident, $work:expr) => {
        Access::Handler(None, |$call, $id| Box::pin(async move { $work }))
    };
    (@handler $call:ident $caller:ident $id:ident, $work:expr, $permission:expr) => {
        Access::Handler(Some($permission), |$call, $id| Box::pin(async move { $work }))
    };
    (@caller $call:ident $caller:ident $id:ident, $work:expr) => {
        Access::Caller(Permission::None, |$call, $caller, $id| Box::pin(async move { $work }))
    };
    (@requires $call:ident $caller:ident $id:ident, $work:expr, $permission:expr) => {
        Access::Caller(Permission::Required($permission), |$call, $caller, $id| Box::pin(async move { $work }))
    };
    (@decides $call:ident $caller:ident $id:ident, $work:expr, $permission:expr) => {
        Access::Caller(Permission::ByHandler($permission), |$call, $caller, $id| Box::pin(async move { $work }))
    };
}
pub(super) use routes;

/// A permission with the parameter of the path in place of the name in braces.
pub fn filled<'p>(permission: &'p str, parameter: &str) -> Cow<'p, str> {
    let Some((before, rest)) = permission.split_once('{') else { return permission.into() };
    let after = rest.split_once('}').map_or("", |(_, after)| after);
    format!("{before}{parameter}{after}").into()
}
