//! A registry as an isolate keeps it: its index at one revision. Changes lead from one copy to the next, which shares
//! what has stayed the same.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::rc::Rc;

use serde::Deserialize;

use super::records::{
    DocumentKind, DocumentPage, DocumentSize, IndexData, KEY, Key, SERVICE, SnapshotData, StoredDocument,
    StoredOutline, StoredService,
};
use super::revision::Revision;
use super::storage::stored as stored_text;
use crate::access::encrypted_secret::EncryptedSecret;
use crate::base::id::StoreId;
use crate::base::order;

/// What an outline takes in stored form without its capabilities, one of them, a document without its content, and a
/// key; about, in bytes.
const OUTLINE_BYTES: usize = 300;
const NAME_BYTES: usize = 40;
const DOCUMENT_BYTES: usize = 150;
const KEY_BYTES: usize = 400;

#[derive(Debug, Clone)]
pub struct RegistryCopy {
    pub revision: Revision,
    /// By id.
    pub outlines: Vec<Rc<StoredOutline>>,
    /// By id.
    pub keys: Rc<Vec<Key>>,
    /// By kind and id.
    pub documents: Rc<Vec<StoredDocument>>,
    pub stores: Vec<StoreId>,
    pub own_secret: EncryptedSecret,
    /// Stored documents that did not fit into the message.
    pub left_out: Vec<DocumentSize>,
}

/// Replaces and adds items, which are ordered, and removes those that were deleted.
fn merged<T: Clone>(
    known: &[T],
    mut changed: Vec<T>,
    compare: impl Fn(&T, &T) -> Ordering,
    is_deleted: impl Fn(&T) -> bool,
) -> Vec<T> {
    order::sort_by(&mut changed, &compare);
    let mut all = Vec::with_capacity(known.len() + changed.len());
    let mut changed = changed.into_iter().peekable();
    for item in known {
        while let Some(next) = changed.next_if(|next| compare(next, item) == Ordering::Less) {
            all.push(next);
        }
        match changed.next_if(|next| compare(next, item) == Ordering::Equal) {
            Some(replacement) => all.push(replacement),
            None if is_deleted(item) => {}
            None => all.push(item.clone()),
        }
    }
    all.extend(changed);
    all
}

fn rank(kind: DocumentKind) -> Option<usize> {
    DocumentKind::ALL.iter().position(|known| *known == kind)
}

fn by_id(a: &Rc<StoredOutline>, b: &Rc<StoredOutline>) -> Ordering {
    a.service.id.cmp(&b.service.id)
}

fn by_key(a: &Key, b: &Key) -> Ordering {
    a.id.cmp(&b.id)
}

fn by_kind(a: &StoredDocument, b: &StoredDocument) -> Ordering {
    (rank(a.kind), &a.id).cmp(&(rank(b.kind), &b.id))
}

type Parts = (Vec<Rc<StoredOutline>>, Rc<Vec<Key>>, Rc<Vec<StoredDocument>>);

/// In the order of a copy: when room was short, they came ordered by importance.
fn ordered(mut outlines: Vec<Rc<StoredOutline>>, mut keys: Vec<Key>, mut documents: Vec<StoredDocument>) -> Parts {
    order::sort_by(&mut outlines, by_id);
    order::sort_by(&mut keys, by_key);
    order::sort_by(&mut documents, by_kind);
    (outlines, Rc::new(keys), Rc::new(documents))
}

impl RegistryCopy {
    /// From a whole index. A service that this version cannot read is left out.
    pub fn new(data: &mut IndexData) -> Self {
        let (outlines, _) = read_outlines(data);
        let (keys, documents) = (std::mem::take(&mut data.keys), std::mem::take(&mut data.documents));
        let (outlines, keys, documents) = ordered(outlines, keys, documents);
        Self {
            revision: data.revision,
            outlines,
            keys,
            documents,
            stores: std::mem::take(&mut data.stores),
            own_secret: data.own_secret.clone(),
            left_out: std::mem::take(&mut data.left_out),
        }
    }

    /// From the snapshot of a registry of an earlier version. Its documents have no digests.
    pub fn of_snapshot(data: SnapshotData) -> Self {
        let outlines = data.services.iter().map(|stored| Rc::new(StoredOutline::of(stored, ""))).collect();
        let (outlines, keys, documents) = ordered(outlines, data.keys, data.documents);
        Self {
            revision: data.revision,
            outlines,
            keys,
            documents,
            stores: data.stores,
            own_secret: data.cursor_secret,
            left_out: data.left_out,
        }
    }

    /// The copy after these changes; `None` if they do not begin with this one.
    pub fn changed(&self, data: &mut IndexData) -> Option<Self> {
        if data.since != Some(self.revision) {
            return None;
        }
        // A service that this version cannot read any longer is left out too.
        let (outlines, unreadable) = read_outlines(data);
        let unreadable = unreadable.into_iter().map(|id| (SERVICE.to_string(), id));
        let deleted: HashSet<(String, String)> =
            std::mem::take(&mut data.deleted).into_iter().chain(unreadable).collect();
        let is_deleted = |kind: &str, id: &str| deleted.contains(&(kind.to_string(), id.to_string()));
        let deletes = |kinds: &dyn Fn(&str) -> bool| deleted.iter().any(|(kind, _)| kinds(kind));
        let deletes_keys = deletes(&|kind| kind == KEY);
        let deletes_documents = deletes(&|kind| kind != KEY && kind != SERVICE);
        let keys = match data.keys.is_empty() && !deletes_keys {
            true => self.keys.clone(),
            false => {
                Rc::new(merged(&self.keys, std::mem::take(&mut data.keys), by_key, |key| is_deleted(KEY, &key.id)))
            }
        };
        let documents = match data.documents.is_empty() && !deletes_documents {
            true => self.documents.clone(),
            false => Rc::new(merged(&self.documents, std::mem::take(&mut data.documents), by_kind, |stored| {
                is_deleted(stored.kind.as_str(), &stored.id)
            })),
        };
        let outlines =
            merged(&self.outlines, outlines, by_id, |outline| is_deleted(SERVICE, outline.service.id.as_str()));
        Some(Self {
            revision: data.revision,
            outlines,
            keys,
            documents,
            stores: std::mem::take(&mut data.stores),
            own_secret: data.own_secret.clone(),
            left_out: Vec::new(),
        })
    }

    /// With all documents instead of those that fitted into a message.
    pub fn completed(&self, all: DocumentPage) -> Self {
        let DocumentPage { services, keys, documents } = all;
        let outline = |stored: &StoredService| Some(Rc::new(StoredOutline::of(stored, &stored_text(stored).ok()?)));
        let missing = services.iter().filter(|stored| self.position(stored.service.id.as_str()).is_none());
        let outlines = merged(&self.outlines, missing.filter_map(outline).collect(), by_id, |_| false);
        Self { outlines, keys: Rc::new(keys), documents: Rc::new(documents), ..self.clone() }
    }

    /// About how many bytes it has in stored form.
    pub fn stored_bytes(&self) -> usize {
        let outlines =
            self.outlines.iter().map(|outline| OUTLINE_BYTES + NAME_BYTES * outline.service.capabilities.len());
        let documents = self.documents.iter().map(|stored| DOCUMENT_BYTES + stored.document.get().len());
        outlines.chain(documents).sum::<usize>() + KEY_BYTES * self.keys.len()
    }

    pub fn outline(&self, id: &str) -> Option<&Rc<StoredOutline>> {
        let at = self.position(id)?;
        self.outlines.get(at)
    }

    /// The index of a service among the outlines.
    pub fn position(&self, id: &str) -> Option<usize> {
        self.outlines.binary_search_by(|outline| outline.service.id.as_str().cmp(id)).ok()
    }
}

/// The outlines, and the ids of services whose outlines this version cannot read.
fn read_outlines(data: &IndexData) -> (Vec<Rc<StoredOutline>>, Vec<String>) {
    #[derive(Deserialize)]
    struct Named {
        service: Identified,
    }
    #[derive(Deserialize)]
    struct Identified {
        id: String,
    }
    let (mut outlines, mut unreadable) = (Vec::with_capacity(data.outlines.len()), Vec::new());
    for raw in &data.outlines {
        match serde_json::from_str(raw.get()) {
            Ok(outline) => outlines.push(Rc::new(outline)),
            Err(_) => unreadable.extend(serde_json::from_str::<Named>(raw.get()).map(|named| named.service.id)),
        }
    }
    (outlines, unreadable)
}
