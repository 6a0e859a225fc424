//! What a service gives, as it is told at the door of all: what it links to is named there as it is listed there.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::objects::registry::snapshot::{Entry, Snapshot};
use narthex_core::mcp::app_uris::Apps;
use narthex_core::mcp::resource_links::{Links, may_link};

/// The result of a context; `joined`: as it is told there. `view` is the context as it is shown.
pub fn result<'r>(
    snapshot: &Snapshot,
    joined: bool,
    view: &RawValue,
    result: Option<&'r RawValue>,
) -> Option<Cow<'r, str>> {
    #[derive(Deserialize)]
    struct Seen<'a> {
        #[serde(borrow)]
        service: Cow<'a, str>,
        #[serde(default)]
        tool_result: bool,
    }
    let text = result?.get();
    if !joined || !may_link(text) {
        return Some(Cow::Borrowed(text));
    }
    let Some(seen) = serde_json::from_str::<Seen<'_>>(view.get()).ok().filter(|seen| seen.tool_result) else {
        return Some(Cow::Borrowed(text));
    };
    let apps = Apps::of(snapshot.services.iter().map(Entry::service));
    Some(Links { service: &seen.service, apps: &apps, asked: None }.result(text))
}
