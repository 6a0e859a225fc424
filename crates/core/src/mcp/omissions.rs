//! The omissions of a list. Servers determine how many there are, so only those that are named are kept.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::base::service_id::ServiceId;

/// The member of a list's `_meta` with its omissions.
const MEMBER: &str = "narthex/left_out";
/// The maximum number of named omissions.
pub const MAX_NAMED: usize = 100;

/// An item that clients could not read, and because of which they would reject the whole list; or the whole list of a
/// service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Omission {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub reason: String,
}

/// The omissions of a list.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Omissions {
    /// Whole lists: they are named first, so that the items of one server do not displace them.
    lists: Vec<Omission>,
    items: Vec<Omission>,
    /// The number of further ones.
    more: usize,
}

impl Omissions {
    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty() && self.items.is_empty() && self.more == 0
    }

    /// Adds the whole list of a service, or the rest of it.
    pub fn list(&mut self, service: Option<&ServiceId>, reason: impl Into<String>) {
        if self.lists.len() >= MAX_NAMED {
            self.more += 1;
            return;
        }
        self.lists.push(Omission { service: service.cloned(), name: None, reason: reason.into() });
    }

    /// Adds one item, which is only made if there is room.
    pub fn item(&mut self, item: impl FnOnce() -> Omission) {
        if self.items.len() >= MAX_NAMED {
            self.more += 1;
            return;
        }
        self.items.push(item());
    }

    /// Sets the service of all items.
    pub fn of(mut self, service: &ServiceId) -> Self {
        self.items.iter_mut().for_each(|item| item.service = Some(service.clone()));
        self
    }

    /// Adds the omissions of another page or list.
    pub fn add(&mut self, other: Self) {
        for (mine, theirs) in [(&mut self.lists, other.lists), (&mut self.items, other.items)] {
            let room = MAX_NAMED.saturating_sub(mine.len());
            self.more += theirs.len().saturating_sub(room);
            mine.extend(theirs.into_iter().take(room));
        }
        self.more += other.more;
    }

    /// `_meta` with the omissions added to its present content; `None` if there are none.
    pub fn meta(&self, said: Option<&RawValue>) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        let mut named: Vec<&Omission> = self.lists.iter().chain(&self.items).take(MAX_NAMED).collect();
        let more = self.more + (self.lists.len() + self.items.len()).saturating_sub(MAX_NAMED);
        let rest = Omission { service: None, name: None, reason: format!("{more} more are left out") };
        if more > 0 {
            named.push(&rest);
        }
        let mut members: BTreeMap<String, Box<RawValue>> =
            said.and_then(|said| serde_json::from_str(said.get()).ok()).unwrap_or_default();
        members.insert(MEMBER.into(), to_raw_value(&named).ok()?);
        serde_json::to_string(&members).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn item(at: usize) -> Omission {
        Omission { service: None, name: Some(at.to_string()), reason: "is not an item".into() }
    }

    #[test]
    fn no_more_is_kept_than_is_named() {
        let mut all = Omissions::default();
        for page in 0..20 {
            let mut of_page = Omissions::default();
            (0..50_000).for_each(|at| of_page.item(|| item(page * 50_000 + at)));
            all.add(of_page.of(&"hostile".into()));
        }
        all.list(Some(&"down".into()), "it is not reachable");
        assert!(all.items.len() <= MAX_NAMED && all.lists.len() == 1);
        let meta: Value = serde_json::from_str(&all.meta(None).unwrap()).unwrap();
        let named = meta[MEMBER].as_array().unwrap();
        assert_eq!(named.len(), MAX_NAMED + 1);
        // A missing list is named, however many items of others are missing.
        assert_eq!(named[0], json!({"service": "down", "reason": "it is not reachable"}));
        assert_eq!(named[1], json!({"service": "hostile", "name": "0", "reason": "is not an item"}));
        assert_eq!(named[MAX_NAMED], json!({"reason": "999901 more are left out"}));
    }

    #[test]
    fn without_omissions_there_is_no_meta() {
        assert_eq!(Omissions::default().meta(None), None);
        let mut one = Omissions::default();
        one.item(|| item(1));
        let said = to_raw_value(&json!({"x": 1})).unwrap();
        let meta: Value = serde_json::from_str(&one.meta(Some(&said)).unwrap()).unwrap();
        assert_eq!(meta, json!({"x": 1, MEMBER: [{"name": "1", "reason": "is not an item"}]}));
    }
}
