//! A registry that is too large for one message, in full.

use std::collections::HashMap;
use std::rc::Rc;

use super::super::client::ask;
use super::super::messages::{DocumentPage, Documents, ReadDocuments};
use super::Snapshot;
use crate::platform::Failure;
use narthex_core::base::tenant_id::TenantId;

/// Reads all documents of a registry that is too large for one message, page by page, so that documents missing in the
/// snapshot can be shown and deleted. No decision uses it.
pub async fn complete(tenant: &TenantId, known: &Snapshot) -> Result<Rc<Snapshot>, Failure> {
    let (mut all, mut after) = (DocumentPage::default(), Some(Default::default()));
    while let Some(from) = after {
        let Documents::Documents { page, next } = ask(tenant, &ReadDocuments { after: from }).await?;
        all.keys.extend(page.keys);
        all.documents.extend(page.documents);
        after = next;
    }
    let copy = known.copy.completed(all);
    let own = Snapshot::own_keys(tenant, &copy.own_secret, Some(known)).await?;
    Ok(Rc::new(Snapshot::new(tenant, copy, known.soft.get(), own, Some(known), &HashMap::new())))
}
