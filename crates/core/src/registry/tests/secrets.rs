use super::*;
use crate::registry::secrets::tenant_secret_data;
use crate::services::RetiringSecret;

/// A secret under the key with this number.
fn under(key: u32) -> EncryptedSecret {
    EncryptedSecret::new(key, at(0), "0123456789ab", b"ciphertext")
}

/// The services and documents with outdated secrets.
fn outdated(fixture: &mut Fixture, newest: u32) -> Vec<String> {
    let outdated = fixture.registry.outdated_secrets(newest, fixture.now, 100).unwrap();
    let services = outdated.services.iter().map(|service| format!("services/{}", service.service.id));
    let documents = outdated.documents.iter().map(|stored| format!("{}s/{}", stored.kind.as_str(), stored.id));
    services.chain(documents).collect()
}

/// A service whose secrets are under the first key.
fn with_service() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.put_service("words", &with(probed(), json!({"credentials": {"header": "X-Key", "value": "credential"}})));
    let mut service = fixture.service("words");
    service.signing_secret = under(1);
    service.credentials.iter_mut().flat_map(|known| known.values_mut()).for_each(|value| *value = under(1));
    fixture.storage.put_text("service", "words", &storage::stored(&service).unwrap()).unwrap();
    fixture
}

#[test]
fn the_own_secret_of_a_tenant_is_stored_and_can_be_encrypted_again() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.registry.stored_own_secret().unwrap(), None);
    assert!(Registry::open(MemoryStorage::default(), config(), at(0)).unwrap().own_secret().is_none());
    fixture.registry.store_own_secret(&under(1)).unwrap();
    let own = fixture.registry.own_secret().unwrap();
    assert_eq!((&own.encrypted, own.plaintext.as_str()), (&under(1), OWN));
    assert_eq!(fixture.registry.stored_own_secret().unwrap(), Some(under(1)));
    fixture.unchanged(|fixture| {
        let _ = fixture.registry.short_fingerprint("a secret");
    });
    assert_eq!(fixture.restarted().registry.stored_own_secret().unwrap(), Some(under(1)));
    let tenant = TenantId::parse("acme").unwrap();
    assert_eq!(tenant_secret_data(&tenant).bound(Timestamp(7)), "acme|tenant|acme|cursor_secret|7");
}

#[test]
fn a_fingerprint_depends_on_the_own_secret() {
    let mut fixture = Fixture::new();
    assert_eq!(format!("fingerprint:{}", fixture.registry.short_fingerprint("a")), fingerprint(OWN, "a"));
    fixture.registry.set_own_secret(OwnSecret { encrypted: encrypted("other"), plaintext: "other".into() });
    assert_eq!(format!("fingerprint:{}", fixture.registry.short_fingerprint("a")), fingerprint("other", "a"));
}

#[test]
fn secrets_that_are_not_under_the_newest_key_are_found() {
    let mut fixture = with_service();
    fixture.put(DocumentKind::Webhook, "hook", &with(webhook(None), json!({"secret": under(2)})));
    fixture.put(DocumentKind::Limit, "one", &limit());
    fixture.put(DocumentKind::Issuer, "without", &issuer("caller", None, None));
    let sign_in = json!({"client_id": "us", "client_secret": "plain",
        "authorization_endpoint": "https://id.example/a", "token_endpoint": "https://id.example/t"});
    fixture.put(DocumentKind::Issuer, "corp", &with(issuer("caller", None, None), json!({"sign_in": sign_in})));
    assert_eq!(outdated(&mut fixture, 1), ["issuers/corp", "webhooks/hook"]);
    assert_eq!(outdated(&mut fixture, 2), ["services/words", "issuers/corp"]);
    let mut service = fixture.service("words");
    service.signing_secret = under(2);
    fixture.storage.put_text("service", "words", &storage::stored(&service).unwrap()).unwrap();
    // Its credentials are still under the earlier key.
    assert_eq!(outdated(&mut fixture, 2), ["services/words", "issuers/corp"]);
}

#[test]
fn expired_secrets_are_found() {
    let mut fixture = with_service();
    fixture.put(DocumentKind::Webhook, "hook", &with(webhook(None), json!({"secret": under(1)})));
    assert_eq!(outdated(&mut fixture, 1), Vec::<String>::new());
    let secret = ("plain".to_string(), under(1));
    fixture.act(|registry, turn| registry.rotate_secret(&id("words"), 60, secret, turn)).unwrap();
    fixture.act(|registry, turn| registry.rotate_webhook_secret("hook", 90, under(1), turn)).unwrap();
    assert_eq!(outdated(&mut fixture, 1), Vec::<String>::new());
    fixture.pass(60 * SECOND - 1);
    assert_eq!(outdated(&mut fixture, 1), Vec::<String>::new());
    fixture.pass(1);
    assert_eq!(outdated(&mut fixture, 1), ["services/words"]);
    fixture.pass(30 * SECOND);
    assert_eq!(outdated(&mut fixture, 1), ["services/words", "webhooks/hook"]);
}

#[test]
fn a_service_with_its_secrets_encrypted_again_is_no_new_version() {
    let mut fixture = with_service();
    let before = fixture.service("words");
    let mut after = before.clone();
    after.signing_secret = under(2);
    after.credentials.iter_mut().flat_map(|known| known.values_mut()).for_each(|value| *value = under(2));
    fixture.confirm_all();
    let added = fixture.added(|fixture| {
        let now = fixture.now;
        fixture.registry.store_service_again(&before, &after, now).unwrap();
    });
    assert_eq!((added.revisions, added.audit.len(), added.events.len()), (0, 0, 0));
    assert_eq!(added.notifications, [json!({"configure_lane": {"service": "words"}})]);
    let stored = fixture.service("words");
    assert_eq!((stored.version, stored.updated_at), (before.version, before.updated_at));
    assert_eq!((stored.signing_secret, outdated(&mut fixture, 2)), (under(2), Vec::new()));
}

#[test]
fn a_service_that_was_changed_in_between_is_not_overwritten() {
    let mut fixture = with_service();
    let before = fixture.service("words");
    let after = StoredService { signing_secret: under(2), ..before.clone() };
    fixture.patch_service("words", &json!({"name": "Other"}));
    let again = |fixture: &mut Fixture| {
        let now = fixture.now;
        fixture.registry.store_service_again(&before, &after, now).unwrap();
    };
    fixture.unchanged(again);
    // Another service with the same name and version.
    fixture.try_delete_service("words", Condition::Exists).unwrap();
    fixture.unchanged(again);
    fixture.pass(SECOND);
    fixture.put_service("words", &probed());
    assert_eq!(fixture.service("words").version, before.version);
    fixture.unchanged(again);
}

#[test]
fn a_document_with_its_secret_encrypted_again_is_no_new_version() {
    let mut fixture = Fixture::new();
    fixture.put(DocumentKind::Webhook, "hook", &with(webhook(None), json!({"secret": under(1)})));
    fixture.act(|registry, turn| registry.rotate_webhook_secret("hook", 60, under(1), turn)).unwrap();
    let before = fixture.document(DocumentKind::Webhook, "hook").unwrap();
    let retiring = RetiringSecret { secret: under(2), until: at(60_000) };
    let again = |fixture: &mut Fixture, retiring: Option<&RetiringSecret>| {
        let now = fixture.now;
        fixture.registry.store_document_again(&before, &under(2), retiring, now).unwrap();
    };
    let added = fixture.added(|fixture| again(fixture, Some(&retiring)));
    assert_eq!((added.revisions, added.audit.len(), added.notifications.len()), (0, 0, 0));
    let content = fixture.content(DocumentKind::Webhook, "hook");
    assert_eq!((&content["secret"], &content["retiring"]), (&json!(under(2)), &json!(retiring)));
    let stored = fixture.document(DocumentKind::Webhook, "hook").unwrap();
    assert_eq!((stored.version, stored.updated_at), (before.version, before.updated_at));
    // An expired one is dropped.
    again(&mut fixture, None);
    assert_eq!(fixture.content(DocumentKind::Webhook, "hook").get("retiring"), None);
    fixture.put(DocumentKind::Webhook, "hook", &webhook(None));
    fixture.unchanged(|fixture| again(fixture, None));
}

#[test]
fn services_are_looked_at_again_only_when_something_may_have_changed() {
    let mut fixture = Fixture::new();
    for name in ["a", "b", "c", "d"] {
        fixture.put_service(name, &probed());
        let mut service = fixture.service(name);
        service.signing_secret = under(1);
        fixture.storage.put_text("service", name, &storage::stored(&service).unwrap()).unwrap();
    }
    let all = fixture.registry.outdated_secrets(2, fixture.now, 3).unwrap();
    assert_eq!((all.services.len(), all.more_services), (3, 1));
    assert!(outdated(&mut fixture, 1).is_empty());
    // What no write has changed is not looked at.
    let mut other = fixture.service("a");
    other.signing_secret = under(3);
    fixture.storage.put_text("service", "a", &storage::stored(&other).unwrap()).unwrap();
    assert!(outdated(&mut fixture, 1).is_empty());
    assert_eq!(outdated(&mut fixture, 2).len(), 4, "there is another key");
    other.signing_secret = under(1);
    fixture.storage.put_text("service", "a", &storage::stored(&other).unwrap()).unwrap();
    assert!(outdated(&mut fixture, 1).is_empty());
    // A write, and a secret that expires.
    fixture.rotate_secret("b", 60, &signing(3)).unwrap();
    assert_eq!(outdated(&mut fixture, 1), ["services/b"]);
    let mut rotated = fixture.service("b");
    rotated.signing_secret = under(1);
    rotated.retiring = Some(RetiringSecret { secret: under(1), until: fixture.now.plus_ms(60 * SECOND) });
    fixture.storage.put_text("service", "b", &storage::stored(&rotated).unwrap()).unwrap();
    assert!(outdated(&mut fixture, 1).is_empty());
    fixture.put(DocumentKind::Role, "r", &role(&[]));
    assert!(outdated(&mut fixture, 1).is_empty());
    fixture.pass(61 * SECOND);
    assert_eq!(outdated(&mut fixture, 1), ["services/b"]);
}
