//! All documents are read page by page.

use proptest::prelude::*;

use super::*;
use crate::registry::messages::Documents;
use crate::registry::storage::DocumentKey;

/// The most that a page of several documents takes.
const PAGE_BYTES: u64 = 4 * 1024 * 1024;
const PAGE_DOCUMENTS: usize = 2_000;

/// Stores a document of about this size, whatever the limits.
fn put_text(storage: &MemoryStorage, kind: DocumentKind, id: &str, bytes: usize) {
    let text = json!({"kind": kind, "id": id, "document": "x".repeat(bytes), "version": 1, "created_at": 0,
        "updated_at": 0});
    storage.put_text(kind.as_str(), id, &text.to_string()).unwrap();
}

/// The documents of each page, by kind and id.
fn pages(fixture: &Fixture) -> Vec<Vec<DocumentKey>> {
    let (mut pages, mut after) = (Vec::new(), DocumentKey::default());
    loop {
        let Documents::Documents { page, next } = fixture.registry.documents(&after).unwrap();
        let value = |raw: &RawValue| serde_json::from_str::<Value>(raw.get()).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_string();
        let documents =
            page.documents.iter().map(|raw| value(raw)).map(|stored| (text(&stored["kind"]), text(&stored["id"])));
        let keys = page.keys.iter().map(|raw| value(raw)).map(|key| ("key".to_string(), text(&key["id"])));
        let services = page.services.iter().map(|raw| value(raw));
        let services = services.map(|service| ("service".to_string(), text(&service["service"]["id"])));
        let mut all: Vec<DocumentKey> = documents.chain(keys).chain(services).collect();
        all.sort();
        pages.push(all);
        match next {
            Some(next) => {
                assert!(next > after);
                after = next;
            }
            None => return pages,
        }
    }
}

fn all(storage: &MemoryStorage) -> Vec<DocumentKey> {
    storage.read(|disk| disk.documents.keys().cloned().collect())
}

#[test]
fn an_empty_registry_has_one_empty_page() {
    assert_eq!(pages(&Fixture::new()), [Vec::<DocumentKey>::new()]);
}

#[test]
fn a_page_has_documents_of_all_kinds() {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &called("https://words.example/a"));
    fixture.create_key("k", "caller").unwrap();
    for kind in DocumentKind::ALL {
        fixture.put(kind, "one", &webhook(Some(&signing(1))));
    }
    assert_eq!(pages(&fixture), [all(&fixture.storage)]);
    assert_eq!(all(&fixture.storage).len(), DocumentKind::ALL.len() + 2);
}

#[test]
fn a_page_has_a_limited_number_of_documents() {
    for count in [PAGE_DOCUMENTS - 1, PAGE_DOCUMENTS, PAGE_DOCUMENTS + 1, 2 * PAGE_DOCUMENTS + 1] {
        let fixture = Fixture::new();
        for number in 0..count {
            put_text(&fixture.storage, DocumentKind::Limit, &format!("l{number:05}"), 1);
        }
        let pages = pages(&fixture);
        assert!(pages.iter().all(|page| page.len() <= PAGE_DOCUMENTS));
        assert_eq!(pages.concat(), all(&fixture.storage));
    }
}

#[test]
fn a_document_that_exceeds_a_page_is_a_page_by_itself() {
    let fixture = Fixture::new();
    for (id, bytes) in [("a", 10), ("b", 5_000_000), ("c", 10)] {
        put_text(&fixture.storage, DocumentKind::Limit, id, bytes);
    }
    let of = |id: &str| vec![("limit".to_string(), id.to_string())];
    assert_eq!(pages(&fixture), [of("a"), of("b"), of("c")]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_document_is_on_one_page(
        sizes in prop::collection::vec(
            prop_oneof![4 => 0..2_000usize, 2 => 500_000..1_600_000usize, 1 => 4_000_000..5_000_000usize],
            0..24,
        ),
    ) {
        let fixture = Fixture::new();
        let kinds = DocumentKind::ALL;
        for (number, bytes) in sizes.iter().enumerate() {
            put_text(&fixture.storage, kinds[number % kinds.len()], &format!("d{number}"), *bytes);
        }
        let pages = pages(&fixture);
        prop_assert_eq!(pages.concat(), all(&fixture.storage));
        for page in pages {
            let size = |(kind, id): &DocumentKey| fixture.storage.size(kind, id).unwrap().unwrap();
            prop_assert!(page.len() <= 1 || page.iter().map(size).sum::<u64>() <= PAGE_BYTES);
        }
    }
}
