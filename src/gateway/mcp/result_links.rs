//! Links in results at the combined endpoint: renamed to the names under which that endpoint lists the linked
//! resources.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::objects::registry::snapshot::{Entry, Snapshot};
use narthex_core::base::service_id::ServiceId;
use narthex_core::mcp::app_uris::Apps;
use narthex_core::mcp::resource_links::{Links, may_link};

/// The result of a context; `combined`: with its links renamed. `view` is the context as clients see it.
pub fn rewrite<'r>(
    snapshot: &Snapshot,
    combined: bool,
    view: &RawValue,
    result: Option<&'r RawValue>,
) -> Option<Cow<'r, str>> {
    #[derive(Deserialize)]
    struct ResultView {
        service: ServiceId,
        #[serde(default)]
        tool_result: bool,
    }
    let text = result?.get();
    if !combined || !may_link(text) {
        return Some(Cow::Borrowed(text));
    }
    let Some(view) = serde_json::from_str::<ResultView>(view.get()).ok().filter(|view| view.tool_result) else {
        return Some(Cow::Borrowed(text));
    };
    let apps = Apps::of(snapshot.services.iter().map(Entry::service));
    Some(Links { service: &view.service, apps: &apps, asked: None }.result(text))
}
