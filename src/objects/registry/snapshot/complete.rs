//! A registry that is too large for one message, in full.

use std::rc::Rc;

use super::super::client::ask;
use super::super::messages::{DocumentPage, Documents, ReadDocuments, SnapshotData};
use super::Snapshot;
use crate::platform::Failure;
use narthex_core::base::tenant_id::TenantId;

/// Reads all documents of a registry that is too large for one message, page by page, so that documents missing in the
/// snapshot can be shown and deleted. No decision uses it.
pub async fn complete(tenant: &TenantId, known: &Snapshot) -> Result<Rc<Snapshot>, Failure> {
    let (mut all, mut after) = (DocumentPage::default(), Some(Default::default()));
    while let Some(from) = after {
        let Documents::Documents { page, next } = ask(tenant, &ReadDocuments { after: from }).await?;
        all.services.extend(page.services);
        all.keys.extend(page.keys);
        all.documents.extend(page.documents);
        after = next;
    }
    let data = SnapshotData {
        revision: known.revision,
        services: all.services,
        keys: all.keys,
        documents: all.documents,
        stores: known.stores.clone(),
        cursor_secret: known.own_secret.clone(),
        soft: known.soft.get(),
        measured: Vec::new(),
        left_out: known.left_out.clone(),
    };
    let own = Snapshot::own_keys(tenant, &data.cursor_secret, Some(known)).await?;
    Ok(Rc::new(Snapshot::new(data, own, Some(known))))
}
