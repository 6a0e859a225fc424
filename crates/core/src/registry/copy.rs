//! A registry as an isolate keeps it: its index at one revision. Changes lead from one copy to the next, which shares
//! what has stayed the same.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::rc::Rc;

use serde_json::value::RawValue;

use super::later::{self, Unreadable};
use super::records::{
    DocumentKind, DocumentPage, DocumentSize, IndexData, KEY, Key, SERVICE, SnapshotData, StoredDocument,
    StoredOutline, StoredService,
};
use super::revision::Revision;
use super::rules::Rules;
use super::storage::{DocumentKey, stored as stored_text};
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
    /// Keys and other documents of a later version, by kind and id.
    pub later: Rc<Vec<Unreadable>>,
    /// What the documents say.
    pub rules: Rc<Rules>,
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

fn by_name(a: &Unreadable, b: &Unreadable) -> Ordering {
    (&a.kind, &a.id).cmp(&(&b.kind, &b.id))
}

fn name_of(stored: &StoredDocument) -> DocumentKey {
    (stored.kind.as_str().into(), stored.id.clone())
}

/// The parts of an index that this version reads, and the others. They have the order of a copy: when room was short,
/// they came ordered by importance.
struct Parts {
    outlines: Vec<Rc<StoredOutline>>,
    keys: Vec<Key>,
    documents: Vec<StoredDocument>,
    unreadable: Vec<Unreadable>,
}

impl Parts {
    fn of(data: &mut IndexData) -> Self {
        let outlines = data.outlines.iter().filter_map(|raw| StoredOutline::read(raw.get()).map(Rc::new)).collect();
        Self::parse(outlines, std::mem::take(&mut data.keys), std::mem::take(&mut data.documents))
    }

    fn parse(outlines: Vec<Rc<StoredOutline>>, keys: Vec<Box<RawValue>>, documents: Vec<Box<RawValue>>) -> Self {
        let (keys, unread_keys) = later::parsed(keys);
        let (documents, unread) = later::parsed(documents);
        let mut unreadable = later::unreadable_keys(&unread_keys);
        unreadable.extend(later::unreadable(&unread));
        Self { outlines, keys, documents, unreadable }.ordered()
    }

    fn ordered(mut self) -> Self {
        order::sort_by(&mut self.outlines, by_id);
        order::sort_by(&mut self.keys, by_key);
        order::sort_by(&mut self.documents, by_kind);
        order::sort_by(&mut self.unreadable, by_name);
        self
    }

    /// The keys and other documents, readable or not.
    fn names(&self) -> impl Iterator<Item = DocumentKey> {
        let keys = self.keys.iter().map(|key| (KEY.to_string(), key.id.clone()));
        let unreadable = self.unreadable.iter().map(|one| (one.kind.clone(), one.id.clone()));
        keys.chain(self.documents.iter().map(name_of)).chain(unreadable)
    }
}

impl RegistryCopy {
    /// From a whole index.
    pub fn new(data: &mut IndexData) -> Self {
        let Parts { outlines, keys, documents, unreadable } = Parts::of(data);
        Self {
            revision: data.revision,
            rules: Rc::new(Rules::of(&documents, &unreadable)),
            outlines,
            keys: Rc::new(keys),
            documents: Rc::new(documents),
            later: Rc::new(unreadable),
            stores: std::mem::take(&mut data.stores),
            own_secret: data.own_secret.clone(),
            left_out: std::mem::take(&mut data.left_out),
        }
    }

    /// From the snapshot of a registry of an earlier version. Its documents have no digests.
    pub fn of_snapshot(data: SnapshotData) -> Self {
        let outlines = data.services.iter().map(|stored| Rc::new(StoredOutline::of(stored, ""))).collect();
        let parts = Parts { outlines, keys: data.keys, documents: data.documents, unreadable: Vec::new() }.ordered();
        Self {
            revision: data.revision,
            rules: Rc::new(Rules::of(&parts.documents, &[])),
            outlines: parts.outlines,
            keys: Rc::new(parts.keys),
            documents: Rc::new(parts.documents),
            later: Rc::default(),
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
        let parts = Parts::of(data);
        // What cannot be read any longer leaves the readable ones, and the other way round.
        let gone: HashSet<DocumentKey> = std::mem::take(&mut data.deleted).into_iter().chain(parts.names()).collect();
        let is_gone = |kind: &str, id: &str| gone.contains(&(kind.to_string(), id.to_string()));
        let touches = |fits: fn(&str) -> bool| gone.iter().any(|(kind, _)| fits(kind));
        let Parts { outlines, keys, documents, unreadable } = parts;
        let keys = match touches(|kind| kind == KEY) {
            true => Rc::new(merged(&self.keys, keys, by_key, |key| is_gone(KEY, &key.id))),
            false => self.keys.clone(),
        };
        let outlines = merged(&self.outlines, outlines, by_id, |known| is_gone(SERVICE, known.service.id.as_str()));
        let mut copy = Self {
            revision: data.revision,
            outlines,
            keys,
            stores: std::mem::take(&mut data.stores),
            own_secret: data.own_secret.clone(),
            left_out: Vec::new(),
            ..self.clone()
        };
        if touches(|kind| kind != SERVICE) {
            let unreadable = merged(&self.later, unreadable, by_name, |one| is_gone(&one.kind, &one.id));
            copy.later = Rc::new(unreadable);
        }
        if touches(|kind| kind != SERVICE && kind != KEY) {
            let is_gone = |stored: &StoredDocument| is_gone(stored.kind.as_str(), &stored.id);
            copy.documents = Rc::new(merged(&self.documents, documents, by_kind, is_gone));
            copy.rules = Rc::new(Rules::of(&copy.documents, &copy.later));
        }
        Some(copy)
    }

    /// With all documents instead of those that fitted into a message.
    pub fn completed(&self, all: DocumentPage) -> Self {
        let DocumentPage { services, keys, documents } = all;
        let outlined = |text: &str| match serde_json::from_str::<StoredService>(text) {
            Ok(stored) => Some(Rc::new(StoredOutline::of(&stored, &stored_text(&stored).ok()?))),
            Err(_) => StoredOutline::unreadable(text).map(Rc::new),
        };
        let mut missing: Vec<_> = services.iter().filter_map(|raw| outlined(raw.get())).collect();
        missing.retain(|outline| self.position(outline.service.id.as_str()).is_none());
        let outlines = merged(&self.outlines, missing, by_id, |_| false);
        let Parts { outlines, keys, documents, unreadable } = Parts::parse(outlines, keys, documents);
        Self {
            rules: Rc::new(Rules::of(&documents, &unreadable)),
            outlines,
            keys: Rc::new(keys),
            documents: Rc::new(documents),
            later: Rc::new(unreadable),
            ..self.clone()
        }
    }

    /// The documents that this version cannot read, as paths below `/v1`.
    pub fn unreadable(&self) -> impl Iterator<Item = String> {
        let outlines = self.outlines.iter().map(|outline| &outline.service).filter(|service| service.is_unreadable());
        let keys = self.later.iter().filter(|one| one.kind == KEY);
        let services = outlines.map(|service| format!("services/{}", service.id));
        services.chain(keys.chain(self.rules.all_unreadable()).map(|one| format!("{}s/{}", one.kind, one.id)))
    }

    /// Whether this key exists and is of a later version.
    pub fn has_unreadable_key(&self, id: &str) -> bool {
        self.later.iter().any(|one| one.kind == KEY && one.id == id)
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
