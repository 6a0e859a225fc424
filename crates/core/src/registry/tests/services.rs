use super::*;
use crate::services::credentials::CredentialPlace;

fn words() -> Value {
    called("https://words.example/a")
}

fn with_credentials(url: &str, credentials: &Value) -> Value {
    with(called(url), json!({"credentials": credentials}))
}

/// The plaintext of a service's credentials, by their headers.
fn values(registered: &StoredService) -> Vec<(String, String)> {
    let each = registered.credentials.iter().flat_map(|known| known.each());
    each.map(|(place, value)| match place {
        CredentialPlace::Header(name) | CredentialPlace::Query(name) => (name, value.as_plaintext().unwrap().into()),
    })
    .collect()
}

fn pairs(each: &[(&str, &str)]) -> Vec<(String, String)> {
    each.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

#[test]
fn an_existing_service_is_replaced_only_under_a_precondition_that_holds() {
    let mut fixture = Fixture::new();
    for condition in [Condition::Exists, Condition::Versions(vec![version(1)])] {
        let refused = fixture.unchanged(|fixture| fixture.try_put_service("words", &words(), condition));
        assert_eq!(refusal(refused), precondition_failed());
    }
    assert!(fixture.try_put_service("words", &words(), Condition::Absent).unwrap().created);
    for (condition, expected) in [
        (Condition::None, precondition_required()),
        (Condition::Absent, precondition_failed()),
        (Condition::Versions(Vec::new()), precondition_failed()),
        (Condition::Versions(vec![version(2), version(3)]), precondition_failed()),
    ] {
        let refused = fixture.unchanged(|fixture| fixture.try_put_service("words", &words(), condition.clone()));
        assert_eq!(refusal(refused), expected, "{condition:?}");
        let patched = fixture.unchanged(|fixture| fixture.try_patch_service("words", &json!({}), condition.clone()));
        assert_eq!(refusal(patched), expected, "{condition:?}");
        let deleted = fixture.unchanged(|fixture| fixture.try_delete_service("words", condition.clone()));
        assert_eq!(refusal(deleted), expected, "{condition:?}");
    }
    assert!(!fixture.try_put_service("words", &words(), Condition::Exists).unwrap().created);
    let second = Condition::Versions(vec![version(7), version(2)]);
    assert!(fixture.try_patch_service("words", &json!({}), second).is_ok());
    assert!(fixture.try_delete_service("words", Condition::Versions(vec![version(3)])).is_ok());
    assert!(fixture.try_put_service("words", &words(), Condition::None).unwrap().created);
}

#[test]
fn a_service_that_does_not_exist_cannot_be_changed() {
    let mut fixture = Fixture::new();
    fixture.unchanged(|fixture| {
        assert_eq!(refusal(fixture.try_patch_service("words", &json!({}), Condition::Exists)), "absent");
        assert_eq!(refusal(fixture.try_delete_service("words", Condition::None)), "absent");
        assert_eq!(refusal(fixture.rotate_secret("words", 0, &signing(1))), "absent");
        assert!(matches!(fixture.measure("words", online(1)), StatusReply::Absent));
    });
}

#[test]
fn versions_count_from_one_and_the_time_of_creation_stays() {
    let mut fixture = Fixture::new();
    let of = |registered: &StoredService| (registered.version, registered.created_at, registered.updated_at);
    assert_eq!(of(&fixture.put_service("words", &words()).service), (version(1), at(0), at(0)));
    fixture.pass(SECOND);
    assert_eq!(of(&fixture.patch_service("words", &json!({"weight": 2})).service), (version(2), at(0), at(1_000)));
    fixture.pass(SECOND);
    fixture.rotate_secret("words", 60, &signing(1)).unwrap();
    assert_eq!(of(&fixture.service("words")), (version(3), at(0), at(2_000)));
    fixture.try_delete_service("words", Condition::Exists).unwrap();
    fixture.pass(SECOND);
    assert_eq!(of(&fixture.put_service("words", &words()).service), (version(1), at(3_000), at(3_000)));
}

#[test]
fn a_service_is_newer_than_its_previous_state_although_the_clock_goes_back() {
    let mut fixture = Fixture::new();
    fixture.pass(SECOND);
    fixture.put_service("words", &words());
    let first = fixture.service("words");
    assert_eq!((first.created_at, first.updated_at), (at(1_000), at(1_000)));
    assert_eq!(fixture.patch_service("words", &json!({"weight": 2})).service.updated_at, at(1_001));
    fixture.now = at(0);
    assert_eq!(fixture.put_service("words", &words()).service.updated_at, at(1_002));
    assert_eq!(fixture.rotate_secret("words", 60, &signing(1)).unwrap().service.updated_at, at(1_003));
    let last = fixture.service("words");
    assert_eq!(
        (last.created_at, last.updated_at, last.lane_settings().configured_at),
        (at(1_000), at(1_003), at(1_003))
    );
}

#[test]
fn each_write_has_one_revision_one_audit_entry_and_one_event() {
    let mut fixture = Fixture::new();
    let put = fixture.added(|fixture| fixture.put_service("words", &words()));
    let patch = fixture.added(|fixture| fixture.patch_service("words", &json!({"name": "Other"})));
    let rotate = fixture.added(|fixture| fixture.rotate_secret("words", 5, &signing(1)).unwrap());
    let delete = fixture.added(|fixture| fixture.try_delete_service("words", Condition::Exists).unwrap());
    let expected = [
        (&put, "service.created", "service.registered"),
        (&patch, "service.updated", "service.updated"),
        (&rotate, "service.secret_rotated", "service.updated"),
        (&delete, "service.deleted", "service.deregistered"),
    ];
    for (added, action, event) in expected {
        assert_eq!((added.revisions, added.event_types()), (1, vec![event]));
        let [entry] = added.audit.as_slice() else { panic!("{action}: {:?}", added.audit) };
        assert_eq!((&entry["action"], &entry["object"]), (&json!(action), &json!("services/words")));
        assert_eq!((&entry["actor"], &entry["actor_name"]), (&json!("key:ada"), &json!("Ada")));
        assert_eq!((&entry["outcome"], &entry["address"]), (&json!("done"), &json!(ADDRESS)));
    }
    assert_eq!(patch.audit[0]["changes"], json!({"name": {"from": "Words", "to": "Other"}}));
    assert_eq!(put.events[0].1["version"], 1);
    assert_eq!(
        patch.events[0].1,
        json!({"id": "words", "name": "Other", "type": "tool", "status": "unknown", "version": 2})
    );
    assert_eq!(delete.events[0].1, json!({"id": "words"}));
}

#[test]
fn an_invalid_document_is_refused_with_all_its_faults() {
    let mut fixture = Fixture::new();
    let invalid =
        with(words(), json!({"name": "", "weight": 0, "transport": {"kind": "http", "url": "https://10.0.0.1/"}}));
    let refused = fixture.unchanged(|fixture| fixture.try_put_service("words", &invalid, Condition::None));
    assert_eq!(faults(refused), ["#/name", "#/transport/url", "#/weight"]);
    fixture.put_service("words", &words());
    let refused = fixture.unchanged(|fixture| fixture.try_patch_service("words", &json!([]), Condition::Exists));
    assert_eq!(faults(refused), ["#"]);
    let own = called("https://gateway.example/");
    assert_eq!(faults(fixture.try_put_service("words", &own, Condition::Exists)), ["#/transport/url"]);
}

#[test]
fn a_patch_changes_only_what_it_names() {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &with(words(), json!({"weight": 3, "tags": ["a"]})));
    let patched = fixture.patch_service("words", &json!({"tags": null, "status": "draining"})).service.service.clone();
    assert_eq!((patched.weight, patched.tags.len(), patched.draining), (3, 0, true));
    assert_eq!(patched.capabilities[0].name, "count");
    assert!(fixture.patch_service("words", &json!({"weight": 4})).service.service.draining);
}

#[test]
fn credentials_stay_with_a_patch_and_are_removed_by_null_or_by_a_replacement_without_them() {
    let mut fixture = Fixture::new();
    let document = with_credentials("https://words.example/a", &json!({"header": "X-Key", "value": "credential-1"}));
    fixture.put_service("words", &document);
    let known = pairs(&[("X-Key", "credential-1")]);
    assert_eq!(values(&fixture.service("words")), known);
    assert_eq!(values(&fixture.patch_service("words", &json!({"weight": 2})).service), known);
    assert_eq!(values(&fixture.patch_service("words", &json!({"credentials": null})).service), []);
    fixture.put_service("words", &document);
    assert_eq!(values(&fixture.put_service("words", &words()).service), []);
}

#[test]
fn a_credential_without_a_value_keeps_the_one_that_is_stored_for_its_place() {
    let mut fixture = Fixture::new();
    let two = json!([{"header": "X-Key", "value": "credential-1"}, {"query": "token", "value": "credential-2"}]);
    fixture.put_service("words", &with_credentials("https://words.example/a", &two));
    let list = json!([{"header": "x-key"}, {"query": "token", "value": "credential-3"},
        {"header": "X-More", "value": "credential-4"}]);
    let expected = [("x-key", "credential-1"), ("token", "credential-3"), ("X-More", "credential-4")];
    let written = fixture.put_service("words", &with_credentials("https://words.example/a", &list));
    assert_eq!(values(&written.service), pairs(&expected));
    let patched = fixture.patch_service("words", &json!({"credentials": {"query": "token"}}));
    assert_eq!(values(&patched.service), pairs(&[("token", "credential-3")]));
    let unknown = json!({"credentials": [{"header": "X-Other"}]});
    let refused = fixture.unchanged(|fixture| fixture.try_patch_service("words", &unknown, Condition::Exists));
    assert_eq!(faults(refused), ["#/credentials/0/value"]);
}

#[test]
fn credentials_by_place_get_the_values_that_are_given_for_their_places() {
    let mut fixture = Fixture::new();
    let two = json!({"headers": {"a": "credential-1", "b": "credential-2"}});
    fixture.put_service("words", &with_credentials("https://words.example/a", &two));
    // In a replacement, null keeps what is stored.
    let kept = json!({"query": {"q": "credential-3"}, "headers": {"a": null, "b": "credential-4"}});
    let written = fixture.put_service("words", &with_credentials("https://words.example/a", &kept));
    let expected = [("a", "credential-1"), ("b", "credential-4"), ("q", "credential-3")];
    assert_eq!(values(&written.service), pairs(&expected));
    // In a merge patch, it removes.
    let patch = json!({"credentials": {"headers": {"a": null, "b": "credential-5", "c": "credential-6"}}});
    let patched = fixture.patch_service("words", &patch);
    assert_eq!(values(&patched.service), pairs(&[("b", "credential-5"), ("c", "credential-6")]));
    let swapped = json!({"credentials": {"headers": {"c": "credential-5", "b": "credential-6", "d": "credential-6"}}});
    let patched = fixture.patch_service("words", &swapped);
    let expected = [("b", "credential-6"), ("c", "credential-5"), ("d", "credential-6")];
    assert_eq!(values(&patched.service), pairs(&expected));
    // Nothing remains.
    let none = json!({"credentials": {"headers": {"a": null}}});
    let refused = fixture.unchanged(|fixture| fixture.try_patch_service("words", &none, Condition::Exists));
    assert_eq!(faults(refused), ["#/credentials/headers"]);
}

#[test]
fn credentials_must_be_sent_again_when_the_origin_changes() {
    let mut fixture = Fixture::new();
    let one = json!({"header": "X-Key", "value": "credential-1"});
    fixture.put_service("words", &with_credentials("https://words.example/a", &one));
    let to = |url: &str| json!({"transport": {"url": url}});
    let patched = fixture.patch_service("words", &to("https://words.example/other"));
    assert_eq!(values(&patched.service), pairs(&[("X-Key", "credential-1")]));
    for url in ["https://other.example/a", "https://words.example.com/a"] {
        let refused = fixture.unchanged(|fixture| fixture.try_patch_service("words", &to(url), Condition::Exists));
        assert_eq!(faults(refused), ["#/credentials"], "{url}");
        let kept = with_credentials(url, &json!({"header": "X-Key"}));
        let refused = fixture.unchanged(|fixture| fixture.try_put_service("words", &kept, Condition::Exists));
        assert_eq!(faults(refused), ["#/credentials"], "{url}");
    }
    let sent_again = with(to("https://other.example/a"), json!({"credentials": {"value": "credential-2"}}));
    let sent_again = with(sent_again, json!({"credentials": {"header": "X-Key", "value": "credential-2"}}));
    assert_eq!(values(&fixture.patch_service("words", &sent_again).service), pairs(&[("X-Key", "credential-2")]));
    let removed = with(to("https://third.example/a"), json!({"credentials": null}));
    assert_eq!(values(&fixture.patch_service("words", &removed).service), []);
}

#[test]
fn a_signing_secret_is_made_for_a_new_service_and_only_then_shown() {
    let mut fixture = Fixture::new();
    let plaintext = |registered: &StoredService| registered.signing_secret.as_plaintext().unwrap().to_string();
    let made = fixture.put_service("words", &words());
    assert_eq!((made.signing_secret, plaintext(&made.service)), (Some(signing(0)), signing(0)));
    assert_eq!(fixture.put_service("words", &words()).signing_secret, None);
    let given = fixture.put_service("given", &with(words(), json!({"signing_secret": signing(1)})));
    assert_eq!((given.signing_secret, plaintext(&given.service)), (None, signing(1)));
    let stays = fixture.put_service("given", &words());
    assert_eq!((stays.signing_secret, plaintext(&stays.service)), (None, signing(1)));
    let replaced = fixture.patch_service("given", &json!({"signing_secret": signing(2)}));
    assert_eq!((replaced.signing_secret, plaintext(&replaced.service)), (None, signing(2)));
}

#[test]
fn a_rotated_secret_also_signs_until_the_overlap_is_over() {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &with(words(), json!({"signing_secret": signing(1)})));
    fixture.pass(SECOND);
    let rotated = fixture.rotate_secret("words", 60, &signing(2)).unwrap();
    assert_eq!(rotated.signing_secret, Some(signing(2)));
    let retiring = |registered: &StoredService| {
        let retiring = registered.retiring.clone();
        retiring.map(|retiring| (retiring.secret.as_plaintext().unwrap().to_string(), retiring.until))
    };
    assert_eq!(rotated.service.signing_secret, encrypted(&signing(2)));
    assert_eq!(retiring(&rotated.service), Some((signing(1), at(61_000))));
    let renamed = fixture.patch_service("words", &json!({"name": "Other"}));
    assert_eq!(retiring(&renamed.service), Some((signing(1), at(61_000))));
    // Only the last one retires.
    let again = fixture.rotate_secret("words", 5, &signing(3)).unwrap();
    assert_eq!(retiring(&again.service), Some((signing(2), at(6_000))));
    let at_once = fixture.rotate_secret("words", 0, &signing(4)).unwrap();
    assert_eq!((retiring(&at_once.service), &at_once.service.signing_secret), (None, &encrypted(&signing(4))));
    fixture.rotate_secret("words", 5, &signing(5)).unwrap();
    // One that is given in the document replaces both.
    assert_eq!(retiring(&fixture.patch_service("words", &json!({"signing_secret": signing(6)})).service), None);
}

#[test]
fn secrets_are_in_the_audit_log_as_fingerprints() {
    let mut fixture = Fixture::new();
    let secrets = [signing(1), signing(2), signing(3), "credential-1".into(), "credential-2".into()];
    let one = json!({"header": "X-Key", "value": secrets[3]});
    let document = with_credentials("https://words.example/a", &one);
    fixture.put_service("words", &with(document, json!({"signing_secret": secrets[0]})));
    let shown = |secret: &str| json!(fingerprint(OWN, secret));
    let entry = fixture.last_entry();
    assert_eq!(entry["changes"]["signing_secret"], json!({"from": null, "to": shown(&secrets[0])}));
    let credentials = json!({"header": "X-Key", "value": shown(&secrets[3])});
    assert_eq!(entry["changes"]["credentials"]["to"], credentials);
    fixture.rotate_secret("words", 7, &secrets[1]).unwrap();
    let changes = json!({
        "signing_secret": {"from": shown(&secrets[0]), "to": shown(&secrets[1])},
        "overlap_seconds": {"from": null, "to": 7},
    });
    assert_eq!(fixture.last_entry()["changes"], changes);
    let patch = json!({"signing_secret": secrets[2], "credentials": {"header": "X-Key", "value": secrets[4]}});
    fixture.patch_service("words", &patch);
    fixture.try_delete_service("words", Condition::Exists).unwrap();
    let log = fixture.audit_text();
    assert!(secrets.iter().all(|secret| !log.contains(secret.as_str())), "{log}");
    assert!(secrets.iter().all(|secret| log.contains(&fingerprint(OWN, secret))), "{log}");
}

#[test]
fn an_encrypted_secret_has_its_own_fingerprint() {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &words());
    let secret = EncryptedSecret::new(1, at(0), "0123456789ab", b"ciphertext");
    fixture.act(|registry, turn| registry.rotate_secret(&id("words"), 0, ("shown".into(), secret), turn)).unwrap();
    assert_eq!(fixture.last_entry()["changes"]["signing_secret"]["to"], "fingerprint:0123456789ab");
}

#[test]
fn an_observed_status_is_reset_only_when_the_transport_changes() {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &words());
    fixture.measure("words", online(5));
    fixture.pass(SECOND);
    let renamed = fixture.patch_service("words", &json!({"name": "Other"}));
    assert_eq!((renamed.service.moved_at, renamed.measured), (at(0), online(5)));
    assert_eq!(fixture.registry.measured_of(&id("words")), online(5));
    let moved = fixture.patch_service("words", &json!({"transport": {"url": "https://words.example/b"}}));
    assert_eq!((moved.service.moved_at, moved.measured), (at(1_000), ObservedStatus::default()));
    assert_eq!(fixture.storage.all_measured().unwrap(), []);
}

#[test]
fn a_deleted_service_leaves_no_observed_status() {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &words());
    fixture.measure("words", online(5));
    fixture.try_delete_service("words", Condition::Exists).unwrap();
    assert_eq!(fixture.storage.all_measured().unwrap(), []);
    assert_eq!(fixture.put_service("words", &words()).measured, ObservedStatus::default());
}

#[test]
fn a_lane_is_notified_of_its_service_while_it_may_have_state() {
    let mut fixture = Fixture::new();
    let configure = vec![json!({"configure_lane": {"service": "words"}})];
    let added = fixture.added(|fixture| assert!(!fixture.put_service("words", &words()).has_lane));
    assert_eq!(added.notifications, Vec::<Value>::new());
    let added = fixture.added(|fixture| assert!(fixture.put_service("words", &probed()).has_lane));
    assert_eq!(added.notifications, configure);
    // The lane must learn that there is nothing to probe.
    let added = fixture.added(|fixture| assert!(fixture.put_service("words", &words()).has_lane));
    assert_eq!(added.notifications, configure);
    let added = fixture.added(|fixture| assert!(!fixture.rotate_secret("words", 0, &signing(1)).unwrap().has_lane));
    assert_eq!(added.notifications, Vec::<Value>::new());
    fixture.measure("words", online(1));
    let added = fixture.added(|fixture| assert!(fixture.rotate_secret("words", 0, &signing(2)).unwrap().has_lane));
    assert_eq!(added.notifications, configure);
    fixture.pass(SECOND);
    let added = fixture.added(|fixture| fixture.patch_service("words", &json!({"limits": {"max_concurrency": 3}})));
    assert_eq!(added.notifications, configure);
    let added = fixture.added(|fixture| fixture.try_delete_service("words", Condition::Exists).unwrap());
    let settings = json!({"service": "words", "configured_at": START + 1_000, "moved_at": START,
        "max_concurrency": 3, "max_queue": 1000, "grace_ms": null});
    assert_eq!(added.notifications, [json!({"forget_lane": settings})]);
    fixture.put_service("words", &words());
    let added = fixture.added(|fixture| fixture.try_delete_service("words", Condition::Exists).unwrap());
    assert_eq!(added.notifications, Vec::<Value>::new());
}

#[test]
fn only_permitted_service_bindings_can_be_named() {
    let mut fixture = Fixture::new();
    let document = with(words(), json!({"transport": {"kind": "binding", "binding": "WORDS"}})).to_string();
    let permitted = ["WORDS".to_string()];
    let mut put = |bindings: Option<&[String]>| {
        let put =
            PutService { id: id("words"), document: document.clone(), condition: Condition::None, rules: rules() };
        let inputs = ServiceInputs { fresh: fresh(&document), bindings };
        fixture.act(|registry, turn| registry.put_service(&put, inputs, turn))
    };
    assert_eq!(faults(put(None)), ["#/transport/binding"]);
    assert_eq!(faults(put(Some(&["OTHER".to_string()]))), ["#/transport/binding"]);
    assert!(put(Some(&permitted)).unwrap().created);
}

#[test]
fn a_status_report_is_recorded_once_and_changes_no_revision() {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &words());
    let soft = fixture.registry.soft;
    let added = fixture.added(|fixture| fixture.measure("words", online(5)));
    assert_eq!((added.revisions, added.audit.len(), added.event_types()), (0, 0, vec!["service.status"]));
    let data = &added.events[0].1;
    assert_eq!((&data["status"], &data["previous"]), (&json!("online"), &json!("unknown")));
    assert_eq!((&data["id"], &data["at"]), (&json!("words"), &json!(at(0).text())));
    fixture.unchanged(|fixture| {
        for version in [5, 4] {
            let offline = ObservedStatus { status: HealthStatus::Offline, ..online(version) };
            assert!(matches!(fixture.measure("words", offline), StatusReply::Recorded));
        }
    });
    assert_eq!(fixture.registry.soft, soft + 1);
    // Only a figure has changed.
    let slow = ObservedStatus { latency_ms: Some(7), ..online(6) };
    assert_eq!(fixture.added(|fixture| fixture.measure("words", slow)).event_types(), Vec::<&str>::new());
    assert_eq!((fixture.registry.soft, fixture.registry.measured_of(&id("words"))), (soft + 2, slow));
}
