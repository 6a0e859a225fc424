//! `/v1/limits`: rate-limit policies and whom they bind.

use serde::Serialize;

use crate::objects::registry::messages::{DocumentKind, StoredDocument};
use narthex_core::base::time::{Timestamp, as_text};
use narthex_core::http::problem::Problem;
use narthex_core::limits::policy::{self, Limit};

use super::super::call::{Call, Caller};
use super::Document;

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct View<'a> {
    name: &'a str,
    #[serde(flatten)]
    limit: &'a Limit,
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    created_at: Timestamp,
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    updated_at: Timestamp,
}

impl Document for Limit {
    const KIND: DocumentKind = DocumentKind::Limit;
    type Extras = ();
    type View<'a> = View<'a>;

    fn view<'a>(_: &Caller, stored: &'a StoredDocument, limit: &'a Self, (): &()) -> View<'a> {
        View { name: &stored.id, limit, created_at: stored.created_at, updated_at: stored.updated_at }
    }

    async fn accept(_: &Call, _: &Caller, _: &str, body: &str) -> Result<(Self, ()), Problem> {
        Ok((policy::read(body).map_err(Problem::invalid)?, ()))
    }
}
