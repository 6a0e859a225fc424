//! A service as responses show it.

use serde::Serialize;

use crate::objects::registry::messages::{StoredService, WrittenService};
use narthex_core::http::problem::Problem;
use narthex_core::lane::observed::ObservedStatus;
use narthex_core::services::ServiceView;
use narthex_core::services::credentials::EncryptedCredentials;

use super::answer::Answer;

pub fn view<'r>(registered: &'r StoredService, measured: &ObservedStatus) -> ServiceView<'r> {
    let credentials = registered.credentials.as_ref().map(EncryptedCredentials::names).unwrap_or_default();
    ServiceView { credentials, ..registered.service.view(measured, registered.created_at, registered.updated_at) }
}

/// The version of the configuration, which is what the condition of a write refers to, and that of the observed status,
/// which is shown too.
pub fn etag(registered: &StoredService, measured: &ObservedStatus) -> String {
    // The tools that were read are shown too; their time only increases.
    let read = registered.service.catalogue.as_ref().map_or(0, |catalogue| catalogue.changed_at.0);
    match measured.version + read {
        0 => format!("\"{}\"", registered.version),
        seen => format!("\"{}.{seen}\"", registered.version),
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct CreatedService<'a> {
    #[serde(flatten)]
    view: ServiceView<'a>,
    /// Shown in this response, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    signing_secret: Option<&'a str>,
    /// Until when the old one signs too.
    #[serde(skip_serializing_if = "Option::is_none")]
    overlap_until: Option<String>,
}

pub fn written(written: &WrittenService) -> Result<Answer, Problem> {
    let WrittenService { service, created, measured, signing_secret, .. } = written;
    let until = service.retiring.as_ref().filter(|_| signing_secret.is_some()).map(|old| old.until.text());
    let body = CreatedService {
        view: view(service, measured),
        signing_secret: signing_secret.as_deref(),
        overlap_until: until,
    };
    let answer = Answer::json(if *created { 201 } else { 200 }, &body)?.with("etag", &etag(service, measured));
    Ok(if *created { answer.with("location", &format!("/v1/services/{}", service.service.id)) } else { answer })
}
