use super::*;
use proptest::prelude::*;

fn used(kind: &str, itself: bool, count: u64, bytes: u64) -> StoredSizes {
    let mut used = StoredSizes::default();
    used.add(kind, itself, count, bytes);
    used
}

fn after(before: &StoredSizes, kind: &str, was: Option<u64>, is: Option<u64>) -> StoredSizes {
    let mut after = before.clone();
    after.begin();
    after.change(kind, false, was, is);
    after
}

#[test]
fn a_write_that_would_cross_the_bound_is_refused_with_its_figures() {
    let before = used("service", false, 13, MAX_BYTES - 13 * AROUND_SERVICE - 1_000);
    assert_eq!(after(&before, "key", None, Some(1_000 - AROUND)).check(&before, Reach::Limit), Ok(()));
    let refused = after(&before, "key", None, Some(1_001 - AROUND)).check(&before, Reach::Limit).unwrap_err();
    assert_eq!(refused, TooLarge::Share { share: Share::Documents, used: MAX_BYTES - 1_000, needed: 1_001 });
    let message = refused.to_string();
    for figure in [(MAX_BYTES - 1_000).to_string(), MAX_BYTES.to_string(), "1001".into()] {
        assert!(message.contains(&figure), "{message}");
    }
}

#[test]
fn writes_that_do_not_grow_are_accepted_however_full() {
    let before = used("service", false, 40, 3 * MAX_BYTES);
    for (was, is) in [(Some(900_000), Some(900_000)), (Some(900_000), Some(1)), (Some(900_000), None)] {
        assert_eq!(after(&before, "service", was, is).check(&before, Reach::Limit), Ok(()));
    }
    let larger = after(&before, "service", Some(900_000), Some(900_001));
    assert!(larger.check(&before, Reach::Limit).is_err());
    // A document that is already too large may stay so, or shrink.
    let huge = MAX_DOCUMENT_BYTES + 10;
    let before = used("service", false, 1, huge);
    assert_eq!(after(&before, "service", Some(huge), Some(huge)).check(&before, Reach::Limit), Ok(()));
    let grown = after(&before, "service", Some(huge), Some(huge + 1)).check(&before, Reach::Limit);
    assert_eq!(grown, Err(TooLarge::Document { bytes: huge + 1 }));
}

#[test]
fn shares_do_not_take_each_others_room() {
    let mut full = used("client", true, 200, 2 * MAX_REGISTRATION_BYTES);
    full.add("revocation", false, 10_000, 2 * MAX_REVOCATION_BYTES);
    assert_eq!(after(&full, "service", None, Some(1_000_000)).check(&full, Reach::Limit), Ok(()));
    assert!(after(&full, "revocation", None, Some(100)).check(&full, Reach::Limit).is_err());
    let mut more = full.clone();
    more.change("client", true, None, Some(100));
    assert!(matches!(more.check(&full, Reach::Limit), Err(TooLarge::Share { share: Share::Registrations, .. })));
    // Users' documents leave room for revocations.
    let full = used("service", false, 20, 2 * MAX_BYTES);
    assert_eq!(after(&full, "revocation", None, Some(100)).check(&full, Reach::Limit), Ok(()));
}

#[test]
fn secrets_can_be_changed_in_a_full_registry() {
    let before = used("key", false, 1, MAX_INDEX_BYTES);
    let rotated = after(&before, "key", Some(300), Some(450));
    assert!(rotated.check(&before, Reach::Limit).is_err());
    assert_eq!(rotated.check(&before, Reach::Reserve), Ok(()));
}

#[test]
fn all_that_fits_travels_in_one_message() {
    const { assert!(MAX_INDEX_BYTES + RESERVE_BYTES + MAX_REGISTRATION_BYTES + MAX_REVOCATION_BYTES <= SAFE_BYTES) };
    const { assert!(2 * (SAFE_BYTES + 64 * 1024) <= 32 * 1024 * 1024) };
}

#[test]
fn people_are_warned_at_four_fifths() {
    let at = |bytes: u64| used("service", false, 1, bytes - AROUND_SERVICE).is_filling(Share::Documents);
    assert!(!at(MAX_BYTES * 4 / 5));
    assert!(at(MAX_BYTES * 4 / 5 + 1));
    assert!(!used("client", true, 1, 2 * MAX_BYTES).is_filling(Share::Documents));
}

proptest! {
    #[test]
    fn latin_1_text_is_equivalent_and_has_the_stated_cost(text in "\\PC{0,40}") {
        let json = serde_json::to_string(&text).unwrap();
        let narrow = narrowed(&json);
        prop_assert!(narrow.chars().all(|c| (c as u32) < 0x100));
        prop_assert_eq!(narrow.chars().count() as u64, cost(&json));
        prop_assert_eq!(serde_json::from_str::<String>(&narrow).unwrap(), text.clone());
        // The shorter form is sent.
        let bytes = |text: &str| match text.chars().all(|c| (c as u32) < 0x100) {
            true => text.chars().count(),
            false => 2 * text.encode_utf16().count(),
        };
        prop_assert_eq!(bytes(&sent(&json)), bytes(&json).min(bytes(&narrow)));
        prop_assert_eq!(serde_json::from_str::<String>(&sent(&json)).unwrap(), text);
    }

    /// Whatever documents are added and removed, the sum is that of the present ones.
    #[test]
    fn the_sum_is_that_of_what_is_there(
        writes in prop::collection::vec((0_usize..4, prop::option::of(0_u64..10_000)), 0..60),
    ) {
        let mut there: [Option<u64>; 4] = [None; 4];
        let mut used = StoredSizes::default();
        for (at, size) in writes {
            used.change("role", false, there[at], size);
            there[at] = size;
        }
        let sum: u64 = there.iter().flatten().map(|bytes| weight("role", *bytes)).sum();
        prop_assert_eq!((used.of(Share::Documents), used.total()), (sum, sum));
    }
}
