//! Versions before and after this one read what it stores.

use serde_json::{Value, from_value, json, to_value};

use super::*;

/// As this version stores it.
fn example() -> Value {
    json!({
        "tenant": "default", "service": "search", "moved_at": 1_800_000_000_000_u64,
        "kept": {
            "breaker": serde_json::to_value(crate::lane::breaker::Breaker::default()).unwrap(),
            "evidence": serde_json::to_value(crate::lane::health::Evidence::default()).unwrap(),
            "measured": {
                "status": "online", "status_at": 1_800_000_000_001_u64, "evidence": "online", "breaker": "closed",
                "breaker_until": null, "latency_ms": null, "version": 1_800_000_000_001_u64,
            },
        },
        "probe_at": 1_800_000_001_000_u64, "untold": "calls", "grace_ms": 5_000, "is_leaving": true,
    })
}

#[test]
fn states_keep_their_form() {
    let state: StoredState = from_value(example()).unwrap();
    assert_eq!((state.unreported, state.is_leaving), (Some(StatusReason::Calls), true));
    assert_eq!(to_value(&state).unwrap(), example());
    let older: StoredState =
        from_value(json!({"tenant": "default", "service": "search", "kept": {}, "is_leaving": false})).unwrap();
    assert_eq!((older.moved_at, older.probe_at, older.grace_ms), (Timestamp(0), None, None));
}

#[test]
fn targets_keep_their_form() {
    let form = json!({
        "url": "https://a.example.com/health", "binding": null, "interval_ms": 10_000, "strict": true,
        "lists_models": false, "credentials": null, "signing_secret": "s", "retiring": null,
    });
    assert_eq!(to_value(target(Some(10_000))).unwrap(), form);
    let older: Target = from_value(json!({"url": "/x", "strict": false, "signing_secret": "s"})).unwrap();
    assert_eq!((older.interval_ms, older.lists_models), (None, false));
}

#[test]
fn a_state_that_was_stored_without_a_service_has_none() {
    let storage = MemoryStorage::default();
    let state = json!({"tenant": "default", "service": "", "kept": {}}).to_string();
    storage.restore(memory::Disk { state: Some(state), ..memory::Disk::default() });
    let lane = ServiceLane::open(storage, [], TIMING, NOW).unwrap();
    assert_eq!(lane.identity(), None);
}
