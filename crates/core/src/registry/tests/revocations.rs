use super::*;

/// How long a revocation is needed: as long as an access token lives, with the difference of clocks.
const NEEDED_MS: u64 = 420 * SECOND;

/// The notifications that a change queues.
fn revoked<T>(fixture: &mut Fixture, work: impl FnOnce(&mut Fixture) -> T) -> Vec<Value> {
    fixture.added(work).notifications
}

fn replaced(fixture: &mut Fixture, kind: DocumentKind, id: &str, document: &Value) -> Vec<Value> {
    revoked(fixture, |fixture| fixture.put(kind, id, document))
}

/// A notification to an object of the tenant itself.
fn dependents(revocation: &Value, at: &Value) -> Value {
    json!({"revoke_dependents": {"revocation": revocation, "at": at}})
}

fn permissions(role: &str, lost: &[&str]) -> Value {
    json!({"permissions": {"role": role, "lost": lost}})
}

/// To the hub of a tenant without services that connect.
fn own(revocation: &Value) -> Vec<Value> {
    vec![dependents(revocation, &json!("hub"))]
}

fn relayed(revocation: &Value, tenants: &Value) -> Vec<Value> {
    vec![json!({"relay": {"revocation": revocation, "tenants": tenants}})]
}

fn everywhere(revocation: &Value) -> Vec<Value> {
    [own(revocation), relayed(revocation, &json!({"after": ""}))].concat()
}

fn document(path: &str) -> Value {
    json!({"from": path})
}

fn none() -> Vec<Value> {
    Vec::new()
}

#[test]
fn a_role_revokes_the_permissions_that_it_has_lost() {
    let kind = DocumentKind::Role;
    let mut fixture = Fixture::of("acme");
    let lost = |permitted: &[&str]| own(&permissions("auditor", permitted));
    let mut put = |granted: &[&str]| replaced(&mut fixture, kind, "auditor", &role(granted));
    assert_eq!(put(&["events:read"]), none(), "a new role has no dependents");
    assert_eq!(put(&["events:read", "contexts:read:*", "keys:read"]), none(), "more permissions");
    assert_eq!(put(&["events:read", "contexts:read:*"]), none(), "no socket needs to read keys");
    assert_eq!(put(&["events:read", "contexts:read"]), lost(&["contexts:read:*"]));
    assert_eq!(put(&["events:*", "contexts:read"]), none(), "the same in other words");
    assert_eq!(put(&[]), lost(&["events:read", "contexts:read"]));
    assert_eq!(put(&["*"]), none());
    let deleted = revoked(&mut fixture, |fixture| fixture.delete(kind, "auditor"));
    assert_eq!(deleted, lost(&["events:read", "contexts:read", "contexts:read:*"]));
}

#[test]
fn a_role_revokes_the_connections_of_services() {
    let mut fixture = Fixture::new();
    fixture.put_service("bot", &connecting());
    fixture.put_service("words", &probed());
    let granted = ["services:connect:bot", "services:connect:words"];
    fixture.put(DocumentKind::Role, "auditor", &role(&granted));
    let lost = permissions("auditor", &["services:connect:bot"]);
    let expected = [dependents(&lost, &json!("hub")), dependents(&lost, &lane(&fixture, "bot"))];
    assert_eq!(replaced(&mut fixture, DocumentKind::Role, "auditor", &role(&[])), expected);
}

#[test]
fn what_a_built_in_role_grants_is_not_lost() {
    let mut fixture = Fixture::new();
    fixture.put(DocumentKind::Role, "caller", &role(&["events:read", "contexts:read:*"]));
    let deleted = revoked(&mut fixture, |fixture| fixture.delete(DocumentKind::Role, "caller"));
    assert_eq!(deleted, own(&permissions("caller", &["contexts:read:*"])));
}

#[test]
fn a_changed_or_deleted_issuer_revokes_its_tokens_where_they_are_valid() {
    let kind = DocumentKind::Issuer;
    let mut fixture = Fixture::new();
    let corp = document("issuers/corp");
    let mut put = |document: &Value| replaced(&mut fixture, kind, "corp", document);
    let (first, acme, every) =
        (issuer("caller", None, None), issuer("caller", None, Some("acme")), issuer("caller", Some("tid"), None));
    assert_eq!(put(&first), none(), "a new issuer has no dependents");
    assert_eq!(put(&first), none(), "the same document");
    // What counts is where the previous one was valid.
    assert_eq!(put(&acme), own(&corp));
    assert_eq!(put(&every), relayed(&corp, &json!({"one": "acme"})));
    assert_eq!(put(&json!({"of": "an earlier version"})), everywhere(&corp));
    assert_eq!(put(&first), everywhere(&corp), "unreadable, so anywhere");
    let deleted = revoked(&mut fixture, |fixture| fixture.delete(kind, "corp"));
    assert_eq!(deleted, own(&corp));
}

#[test]
fn a_changed_or_deleted_client_revokes_its_tokens() {
    let kind = DocumentKind::Client;
    for (tenant, id, is_for_all) in [
        ("default", "app", false),
        // People of any tenant may have granted it access.
        ("default", "dyn-app", true),
        ("acme", "app", false),
        ("acme", "dyn-app", false),
    ] {
        let mut fixture = Fixture::of(tenant);
        assert_eq!(replaced(&mut fixture, kind, id, &client()), none());
        assert_eq!(replaced(&mut fixture, kind, id, &client()), none());
        let client = document(&format!("clients/{tenant}.{id}"));
        let expected = if is_for_all { everywhere(&client) } else { own(&client) };
        assert_eq!(replaced(&mut fixture, kind, id, &json!({"name": "Other"})), expected);
        assert_eq!(revoked(&mut fixture, |fixture| fixture.delete(kind, id)), expected);
    }
}

#[test]
fn a_new_revocation_revokes_and_its_end_changes_nothing() {
    let kind = DocumentKind::Revocation;
    let mut fixture = Fixture::of("acme");
    assert_eq!(replaced(&mut fixture, kind, "grant", &json!({})), own(&document("revocations/grant")));
    assert_eq!(replaced(&mut fixture, kind, "grant", &json!({"again": true})), none());
    assert_eq!(revoked(&mut fixture, |fixture| fixture.delete(kind, "grant")), none());
}

#[test]
fn each_lane_with_sockets_learns_of_a_revocation_by_itself() {
    let mut fixture = Fixture::new();
    for (name, document) in [("bot", connecting()), ("mole", connecting()), ("words", probed())] {
        fixture.put_service(name, &document);
    }
    fixture.put(DocumentKind::Client, "dyn-app", &client());
    let deleted = revoked(&mut fixture, |fixture| fixture.delete(DocumentKind::Client, "dyn-app"));
    let app = document("clients/default.dyn-app");
    let at = [json!("hub"), lane(&fixture, "bot"), lane(&fixture, "mole")];
    let each = at.iter().map(|at| dependents(&app, at)).collect();
    assert_eq!(deleted, [each, relayed(&app, &json!({"after": ""}))].concat());
}

#[test]
fn a_service_that_cannot_be_read_hinders_no_revocation() {
    let mut fixture = Fixture::new();
    fixture.storage.put_text("service", "later", r#"{"of":"a later version"}"#).unwrap();
    fixture.put_service("bot", &connecting());
    let grant = document("revocations/grant");
    let expected = [dependents(&grant, &json!("hub")), dependents(&grant, &lane(&fixture, "bot"))];
    assert_eq!(replaced(&mut fixture, DocumentKind::Revocation, "grant", &json!({})), expected);
}

#[test]
fn nothing_depends_on_other_documents() {
    let mut fixture = Fixture::new();
    for kind in [DocumentKind::Limit, DocumentKind::Tenant, DocumentKind::Webhook, DocumentKind::Schedule] {
        let (first, second) = (webhook(Some(&signing(1))), webhook(Some(&signing(2))));
        assert_eq!(replaced(&mut fixture, kind, "one", &first), none());
        assert_eq!(replaced(&mut fixture, kind, "one", &second), none());
        assert_eq!(revoked(&mut fixture, |fixture| fixture.delete(kind, "one")), none());
    }
}

fn revocations(fixture: &Fixture) -> Vec<String> {
    let all = fixture.registry.documents_of(DocumentKind::Revocation).unwrap();
    all.into_iter().map(|stored| stored.id).collect()
}

#[test]
fn expired_revocations_are_deleted_with_a_new_one() {
    let mut fixture = Fixture::new();
    fixture.put(DocumentKind::Revocation, "a", &json!({}));
    fixture.pass(NEEDED_MS);
    fixture.put(DocumentKind::Revocation, "b", &json!({}));
    assert_eq!(revocations(&fixture), ["a", "b"]);
    fixture.put(DocumentKind::Limit, "one", &limit());
    fixture.pass(SECOND);
    fixture.put(DocumentKind::Limit, "two", &limit());
    assert_eq!(revocations(&fixture), ["a", "b"]);
    let added = fixture.added(|fixture| fixture.put(DocumentKind::Revocation, "c", &json!({})));
    assert_eq!((revocations(&fixture), added.revisions, added.audit.len()), (vec!["b".into(), "c".into()], 1, 1));
}

#[test]
fn expired_revocations_are_deleted_at_most_once_a_second() {
    let mut fixture = Fixture::new();
    fixture.put(DocumentKind::Revocation, "a", &json!({}));
    fixture.pass(1);
    fixture.put(DocumentKind::Revocation, "b", &json!({}));
    fixture.pass(NEEDED_MS);
    fixture.put(DocumentKind::Revocation, "c", &json!({}));
    assert_eq!(revocations(&fixture), ["b", "c"]);
    fixture.pass(SECOND - 1);
    fixture.put(DocumentKind::Revocation, "d", &json!({}));
    assert_eq!(revocations(&fixture), ["b", "c", "d"]);
    fixture.pass(1);
    fixture.put(DocumentKind::Revocation, "e", &json!({}));
    assert_eq!(revocations(&fixture), ["c", "d", "e"]);
}

#[test]
fn all_other_living_tenants_are_notified_in_order() {
    let mut fixture = Fixture::new();
    for id in ["zoo", "acme", "gone", "bank"] {
        fixture.put(DocumentKind::Tenant, id, &json!({"name": id}));
    }
    fixture.delete(DocumentKind::Tenant, "gone");
    let next = |after: &str| {
        let (tenants, follow) = fixture.registry.next_tenants(after).unwrap();
        (tenants.iter().map(ToString::to_string).collect::<Vec<_>>(), follow)
    };
    let names = |each: &[&str]| each.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(next(""), (names(&["acme", "bank", "zoo"]), false));
    assert_eq!(next("bank"), (names(&["zoo"]), false));
    assert_eq!(next("zoo"), (names(&[]), false));
}

#[test]
fn many_tenants_are_notified_in_parts() {
    let mut fixture = Fixture::new();
    for number in 0..101 {
        fixture.put(DocumentKind::Tenant, &format!("t{number:03}"), &json!({"name": "T"}));
    }
    let (first, follow) = fixture.registry.next_tenants("").unwrap();
    assert_eq!((first.len(), first[0].as_str(), first[99].as_str(), follow), (100, "t000", "t099", true));
    let (rest, follow) = fixture.registry.next_tenants("t099").unwrap();
    assert_eq!((rest.len(), rest[0].as_str(), follow), (1, "t100", false));
}
