use super::*;

const KINDS: [DocumentKind; 9] = DocumentKind::ALL;

/// A document that this kind accepts.
fn document(kind: DocumentKind) -> Value {
    match kind {
        DocumentKind::Role => role(&["keys:read"]),
        DocumentKind::Issuer => issuer("caller", None, None),
        DocumentKind::Client => client(),
        DocumentKind::Webhook => webhook(Some(&signing(1))),
        DocumentKind::Limit
        | DocumentKind::Revocation
        | DocumentKind::Tenant
        | DocumentKind::Schedule
        | DocumentKind::ModelRoute => limit(),
    }
}

#[test]
fn an_existing_document_is_replaced_only_under_a_precondition_that_holds() {
    for kind in KINDS {
        let mut fixture = Fixture::new();
        let document = document(kind);
        for condition in [Condition::Exists, Condition::Versions(vec![version(1)])] {
            let refused = fixture.unchanged(|fixture| fixture.try_put(kind, "one", &document, condition));
            assert_eq!(refusal(refused), precondition_failed());
        }
        assert!(fixture.try_put(kind, "one", &document, Condition::Absent).unwrap().created);
        for (condition, expected) in [
            (Condition::None, precondition_required()),
            (Condition::Absent, precondition_failed()),
            (Condition::Versions(vec![version(2)]), precondition_failed()),
        ] {
            let refused = fixture.unchanged(|fixture| fixture.try_put(kind, "one", &document, condition.clone()));
            assert_eq!(refusal(refused), expected, "{kind:?} {condition:?}");
            let refused = fixture.unchanged(|fixture| fixture.try_delete(kind, "one", condition.clone()));
            assert_eq!(refusal(refused), expected, "{kind:?} {condition:?}");
        }
        assert!(!fixture.try_put(kind, "one", &document, Condition::Exists).unwrap().created);
        let second = Condition::Versions(vec![version(9), version(2)]);
        assert!(!fixture.try_put(kind, "one", &document, second).unwrap().created);
        assert!(fixture.try_delete(kind, "one", Condition::Versions(vec![version(3)])).is_ok());
        let again = fixture.unchanged(|fixture| fixture.try_delete(kind, "one", Condition::Exists));
        assert_eq!(refusal(again), "absent");
    }
}

#[test]
fn versions_count_from_one_and_the_time_of_creation_stays() {
    let mut fixture = Fixture::new();
    let of = |written: &WrittenDocument| {
        (written.stored.version, written.stored.created_at, written.stored.updated_at, written.created)
    };
    let first = fixture.put(DocumentKind::Limit, "one", &limit());
    assert_eq!(of(&first), (version(1), at(0), at(0), true));
    fixture.pass(SECOND);
    let second = fixture.put(DocumentKind::Limit, "one", &json!({"rate": 2}));
    assert_eq!(of(&second), (version(2), at(0), at(1_000), false));
    assert_eq!(fixture.content(DocumentKind::Limit, "one"), json!({"rate": 2}));
    fixture.delete(DocumentKind::Limit, "one");
    assert!(fixture.document(DocumentKind::Limit, "one").is_none());
    let again = fixture.put(DocumentKind::Limit, "one", &limit());
    assert_eq!(of(&again), (version(1), at(1_000), at(1_000), true));
}

#[test]
fn a_document_is_newer_than_its_previous_state_although_the_clock_goes_back() {
    let mut fixture = Fixture::new();
    fixture.pass(SECOND);
    let hook = webhook(Some(&signing(1)));
    fixture.put(DocumentKind::Webhook, "hook", &hook);
    assert_eq!(fixture.put(DocumentKind::Webhook, "hook", &hook).stored.updated_at, at(1_001));
    fixture.now = at(0);
    assert_eq!(fixture.put(DocumentKind::Webhook, "hook", &hook).stored.updated_at, at(1_002));
    assert_eq!(rotate(&mut fixture, 60, &signing(2)).unwrap().stored.updated_at, at(1_003));
    fixture.pass(SECOND + 500);
    assert_eq!(rotate(&mut fixture, 60, &signing(3)).unwrap().stored.updated_at, at(1_500));
}

#[test]
fn each_write_has_one_revision_and_one_audit_entry_and_no_event() {
    for kind in KINDS {
        let mut fixture = Fixture::new();
        let name = kind.as_str();
        let created = fixture.added(|fixture| fixture.put(kind, "one", &document(kind)));
        // The same content is a write too.
        let updated = fixture.added(|fixture| fixture.put(kind, "one", &document(kind)));
        let deleted = fixture.added(|fixture| fixture.delete(kind, "one"));
        for (added, action) in [(created, "created"), (updated, "updated"), (deleted, "deleted")] {
            assert_eq!((added.revisions, added.events.len(), added.audit.len()), (1, 0, 1));
            let entry = &added.audit[0];
            assert_eq!(entry["action"], format!("{name}.{action}"));
            assert_eq!((&entry["object"], &entry["actor"]), (&json!(format!("{name}s/one")), &json!("key:ada")));
            assert_eq!((&entry["request_id"], &entry["outcome"]), (&json!("req_1"), &json!("done")));
        }
    }
}

#[test]
fn the_audit_log_shows_what_has_changed() {
    let mut fixture = Fixture::new();
    fixture.put(DocumentKind::Limit, "one", &json!({"rate": 1, "per": "minute"}));
    fixture.put(DocumentKind::Limit, "one", &json!({"rate": 2, "per": "minute"}));
    assert_eq!(fixture.last_entry()["changes"], json!({"rate": {"from": 1, "to": 2}}));
    fixture.delete(DocumentKind::Limit, "one");
    let changes = json!({"rate": {"from": 2, "to": null}, "per": {"from": "minute", "to": null}});
    assert_eq!(fixture.last_entry()["changes"], changes);
}

#[test]
fn secrets_are_in_the_audit_log_as_fingerprints() {
    let mut fixture = Fixture::new();
    let secrets = ["a hash", "another hash", "sign-in secret", &signing(1), &signing(2)];
    let shown = |secret: &str| fingerprint(OWN, secret);
    fixture.put(DocumentKind::Client, "app", &client());
    fixture.put(DocumentKind::Client, "app", &json!({"name": "App", "secret_hash": secrets[1]}));
    let changes = json!({"secret_hash": {"from": shown(secrets[0]), "to": shown(secrets[1])}});
    assert_eq!(fixture.last_entry()["changes"], changes);
    let sign_in = json!({"client_id": "us", "client_secret": secrets[2],
        "authorization_endpoint": "https://id.example/a", "token_endpoint": "https://id.example/t"});
    fixture.put(DocumentKind::Issuer, "corp", &with(issuer("caller", None, None), json!({"sign_in": sign_in})));
    let client_secret = &fixture.last_entry()["changes"]["sign_in"]["to"]["client_secret"];
    assert_eq!(*client_secret, shown(secrets[2]));
    fixture.put(DocumentKind::Webhook, "hook", &webhook(Some(secrets[3])));
    rotate(&mut fixture, 60, secrets[4]).unwrap();
    let changes = json!({"secret": {"from": shown(secrets[3]), "to": shown(secrets[4])},
        "overlap_seconds": {"from": null, "to": 60}});
    assert_eq!(fixture.last_entry()["changes"], changes);
    for (kind, id) in [(DocumentKind::Client, "app"), (DocumentKind::Issuer, "corp"), (DocumentKind::Webhook, "hook")] {
        fixture.delete(kind, id);
    }
    assert_eq!(fixture.last_entry()["changes"]["retiring"]["from"]["secret"], shown(secrets[3]));
    let log = fixture.audit_text();
    assert!(secrets.iter().all(|secret| !log.contains(secret)), "{log}");
}

#[test]
fn a_role_in_use_cannot_be_deleted() {
    let mut fixture = Fixture::new();
    fixture.put(DocumentKind::Role, "auditor", &role(&["audit:read"]));
    fixture.create_key("k1", "auditor").unwrap();
    fixture.create_key("k2", "caller").unwrap();
    let document = with(issuer("caller", None, None), json!({"roles": {"staff": "auditor"}}));
    fixture.put(DocumentKind::Issuer, "corp", &document);
    fixture.put(DocumentKind::Issuer, "every", &issuer("auditor", Some("tid"), None));
    // Its tokens have the roles of another tenant.
    fixture.put(DocumentKind::Issuer, "acme", &issuer("auditor", None, Some("acme")));
    let refused = fixture.unchanged(|fixture| fixture.try_delete(DocumentKind::Role, "auditor", Condition::Exists));
    assert_eq!(refusal(refused), json!({"in_use": {"by": ["keys/k1", "issuers/corp", "issuers/every"]}}));
    fixture.act(|registry, turn| registry.revoke_key("k1", turn)).unwrap();
    fixture.delete(DocumentKind::Issuer, "corp");
    let refused = fixture.try_delete(DocumentKind::Role, "auditor", Condition::Exists);
    assert_eq!(refusal(refused), json!({"in_use": {"by": ["issuers/every"]}}));
    fixture.put(DocumentKind::Issuer, "every", &issuer("caller", Some("tid"), None));
    fixture.delete(DocumentKind::Role, "auditor");
    assert!(fixture.document(DocumentKind::Role, "auditor").is_none());
}

#[test]
fn the_name_of_a_deleted_tenant_stays_reserved() {
    let mut fixture = Fixture::new();
    fixture.put(DocumentKind::Tenant, "acme", &json!({"name": "Acme"}));
    fixture.pass(SECOND);
    fixture.delete(DocumentKind::Tenant, "acme");
    let stored = fixture.document(DocumentKind::Tenant, "acme").unwrap();
    assert_eq!((stored.deleted_at, stored.document.get()), (Some(at(1_000)), r#"{"name":""}"#));
    for condition in [Condition::None, Condition::Absent, Condition::Exists, Condition::Versions(vec![version(1)])] {
        let refused = fixture
            .unchanged(|fixture| fixture.try_put(DocumentKind::Tenant, "acme", &json!({"name": "Other"}), condition));
        assert_eq!(refusal(refused), conflict());
    }
}

#[test]
fn a_deleted_client_was_revoked() {
    let mut fixture = Fixture::new();
    fixture.put(DocumentKind::Client, "app", &client());
    fixture.storage.record_use("clients/app", at(5)).unwrap();
    assert_eq!(fixture.storage.last_used().unwrap(), [("clients/app".to_string(), at(5))]);
    fixture.delete(DocumentKind::Client, "app");
    assert!(fixture.storage.was_revoked("clients/app").unwrap());
    assert_eq!(fixture.storage.last_used().unwrap(), []);
}

fn rotate(fixture: &mut Fixture, overlap: u64, secret: &str) -> Result<WrittenDocument, WriteError> {
    fixture.act(|registry, turn| registry.rotate_webhook_secret("hook", overlap, encrypted(secret), turn))
}

#[test]
fn a_webhook_keeps_its_secret_when_it_is_sent_without() {
    let mut fixture = Fixture::new();
    let of = |fixture: &Fixture| fixture.content(DocumentKind::Webhook, "hook");
    let refused =
        fixture.unchanged(|fixture| fixture.try_put(DocumentKind::Webhook, "hook", &webhook(None), Condition::None));
    assert_eq!(refusal(refused), "absent");
    fixture.put(DocumentKind::Webhook, "hook", &webhook(Some(&signing(1))));
    let disabled = with(webhook(None), json!({"enabled": false}));
    fixture.put(DocumentKind::Webhook, "hook", &disabled);
    assert_eq!((&of(&fixture)["secret"], &of(&fixture)["enabled"]), (&json!(signing(1)), &json!(false)));
    rotate(&mut fixture, 60, &signing(2)).unwrap();
    fixture.put(DocumentKind::Webhook, "hook", &webhook(None));
    let retiring = json!({"secret": signing(1), "until": START + 60_000});
    assert_eq!((&of(&fixture)["secret"], &of(&fixture)["retiring"]), (&json!(signing(2)), &retiring));
    fixture.put(DocumentKind::Webhook, "hook", &webhook(Some(&signing(3))));
    assert_eq!((&of(&fixture)["secret"], &of(&fixture)["retiring"]), (&json!(signing(3)), &Value::Null));
}

#[test]
fn a_rotated_webhook_secret_also_signs_until_the_overlap_is_over() {
    let mut fixture = Fixture::new();
    let absent = fixture.unchanged(|fixture| rotate(fixture, 60, &signing(2)));
    assert_eq!(refusal(absent), "absent");
    fixture.put(DocumentKind::Webhook, "hook", &webhook(Some(&signing(1))));
    fixture.pass(SECOND);
    let added = fixture.added(|fixture| {
        let written = rotate(fixture, 60, &signing(2)).unwrap();
        let stored = &written.stored;
        assert_eq!((stored.version, stored.created_at, stored.updated_at), (version(2), at(0), at(1_000)));
        assert!(!written.created);
    });
    assert_eq!((added.revisions, added.events.len()), (1, 0));
    assert_eq!(added.audit.iter().map(|entry| &entry["action"]).collect::<Vec<_>>(), ["webhook.secret_rotated"]);
    let content = fixture.content(DocumentKind::Webhook, "hook");
    assert_eq!(content["retiring"], json!({"secret": signing(1), "until": START + 61_000}));
    assert_eq!((&content["secret"], &content["url"]), (&json!(signing(2)), &json!("https://hooks.example/a")));
    rotate(&mut fixture, 0, &signing(3)).unwrap();
    let content = fixture.content(DocumentKind::Webhook, "hook");
    assert_eq!((&content["secret"], content.get("retiring")), (&json!(signing(3)), None));
}

#[test]
fn an_issuer_keeps_its_client_secret_when_it_is_sent_without() {
    let mut fixture = Fixture::new();
    let document = |secret: Option<&str>, name: &str| {
        let sign_in = json!({"client_id": "us", "client_secret": secret,
            "authorization_endpoint": "https://id.example/a", "token_endpoint": "https://id.example/t"});
        with(issuer("caller", None, None), json!({"name": name, "sign_in": sign_in}))
    };
    fixture.put(DocumentKind::Issuer, "corp", &document(Some("first"), "a"));
    fixture.put(DocumentKind::Issuer, "corp", &document(None, "b"));
    let content = fixture.content(DocumentKind::Issuer, "corp");
    assert_eq!((&content["name"], &content["sign_in"]["client_secret"]), (&json!("b"), &json!("first")));
    fixture.put(DocumentKind::Issuer, "corp", &issuer("caller", None, None));
    fixture.put(DocumentKind::Issuer, "corp", &document(None, "c"));
    assert_eq!(fixture.content(DocumentKind::Issuer, "corp")["sign_in"]["client_secret"], Value::Null);
}
