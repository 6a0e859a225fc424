use super::*;
use proptest::prelude::*;

const T: Timestamp = Timestamp(1_800_000_000_000);
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

fn acme() -> TenantId {
    TenantId::parse("acme").unwrap()
}

fn grant() -> Grant {
    Grant {
        allowed: GrantedAccess {
            client: "default.app".into(),
            subject: PrincipalId::of_key("k"),
            scope: vec!["contexts:read".into()],
            resource: "https://gateway.example.com".into(),
            roles: vec![],
        },
        redirect_uri: "https://app.example.com/done".into(),
        challenge: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM".into(),
        code_hash: "code".into(),
        code_until: T.plus_ms(CODE_MS),
        until: T.plus_ms(GRANT_MS),
        current: None,
        redeemed: false,
        ended: false,
        redeemed_at: None,
        tries: 0,
        last: None,
        seen: None,
    }
}

const URI: Option<&str> = Some("https://app.example.com/done");

/// Strict single use, as in the standards: no response is repeated.
fn strictly(now: Timestamp) -> RetryWindow {
    RetryWindow { now, retry_ms: 0 }
}

/// A lost response may be requested again.
fn kindly(now: Timestamp) -> RetryWindow {
    RetryWindow { now, retry_ms: RETRY_MS }
}

fn code<'a>(redirect_uri: Option<&'a str>, verifier: &'a str, next: Option<&'a str>) -> Redemption<'a> {
    Redemption { hash: "code", client: "default.app", redirect_uri, verifier, next }
}

fn token<'a>(place: u64, hash: &'a str, next: &'a str) -> Refresh<'a> {
    Refresh { place, hash, client: "default.app", next }
}

fn redeem(grant: &mut Grant) -> TokenResult {
    grant.redeem(&code(URI, VERIFIER, Some("r1")), strictly(T))
}

#[test]
fn a_code_is_good_once_and_its_replay_ends_what_came_of_it() {
    let mut grant = grant();
    assert_eq!(redeem(&mut grant), TokenResult::Accepted);
    assert!(grant.is_current(1, "r1", T));
    assert_eq!(redeem(&mut grant), TokenResult::Replayed);
    assert!(!grant.is_current(1, "r1", T));
    assert_eq!(grant.refresh(&token(1, "r1", "r2"), strictly(T)), TokenResult::Rejected);
    assert_eq!(redeem(&mut grant), TokenResult::Rejected);
}

#[test]
fn a_code_is_for_its_own_client_in_its_time() {
    let mut other = grant();
    let foreign = Redemption { client: "default.other", ..code(URI, VERIFIER, None) };
    assert_eq!(other.redeem(&foreign, strictly(T)), TokenResult::Rejected);
    assert_eq!(redeem(&mut other), TokenResult::Accepted, "another client's try changes nothing");
    let mut late = grant();
    assert_eq!(late.redeem(&code(URI, VERIFIER, None), strictly(T.plus_ms(CODE_MS))), TokenResult::Rejected);
    assert_eq!(redeem(&mut late), TokenResult::Rejected, "it has ended");
    let mut plain = grant();
    assert_eq!(plain.redeem(&code(None, VERIFIER, None), strictly(T)), TokenResult::Accepted);
    assert_eq!(plain.refresh(&token(1, "r1", "r2"), strictly(T)), TokenResult::Rejected, "there is no refresh token");
}

#[test]
fn a_mistaken_code_is_not_used_up_and_guesses_are_counted() {
    let wrong = [
        code(Some("https://app.example.com/"), VERIFIER, Some("r1")),
        code(URI, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXX", Some("r1")),
    ];
    for one in wrong {
        let mut grant = grant();
        for _ in 1..MAX_TRIES {
            assert_eq!(grant.redeem(&one, strictly(T)), TokenResult::Rejected);
        }
        assert_eq!(redeem(&mut grant.clone()), TokenResult::Accepted, "a mistake costs nothing");
        assert_eq!(grant.redeem(&one, strictly(T)), TokenResult::Rejected);
        assert_eq!(redeem(&mut grant), TokenResult::Rejected, "it was guessed at");
    }
}

#[test]
fn a_refresh_token_is_good_once_and_its_reuse_ends_the_grant() {
    for moment in [strictly as fn(Timestamp) -> RetryWindow, kindly] {
        let mut grant = grant();
        redeem(&mut grant);
        let foreign = Refresh { client: "default.other", ..token(1, "r1", "x") };
        assert_eq!(grant.refresh(&foreign, moment(T)), TokenResult::Rejected);
        assert_eq!(grant.refresh(&token(1, "r1", "r2"), moment(T)), TokenResult::Accepted);
        assert_eq!(grant.refresh(&token(2, "r2", "r3"), moment(T)), TokenResult::Accepted);
        assert_eq!(grant.refresh(&token(1, "r1", "r2"), moment(T)), TokenResult::Replayed);
        assert_eq!(grant.refresh(&token(3, "r3", "r4"), moment(T)), TokenResult::Rejected);
        let mut old = self::grant();
        redeem(&mut old);
        assert_eq!(old.refresh(&token(1, "r1", "r2"), moment(T.plus_ms(GRANT_MS))), TokenResult::Rejected);
    }
}

#[test]
fn a_lost_answer_is_given_again_for_a_while() {
    let mut grant = grant();
    redeem(&mut grant);
    assert_eq!(grant.refresh(&token(1, "r1", "r2"), kindly(T)), TokenResult::Accepted);
    let before = grant.clone();
    for later in [0, 1, RETRY_MS - 1] {
        assert_eq!(grant.refresh(&token(1, "r1", "r2"), kindly(T.plus_ms(later))), TokenResult::Repeated);
    }
    assert_eq!(grant, before, "nothing changes");
    assert_eq!(
        grant.clone().refresh(&token(1, "r1", "other"), kindly(T)),
        TokenResult::Replayed,
        "only the same answer"
    );
    assert_eq!(grant.clone().refresh(&token(1, "x", "r2"), kindly(T)), TokenResult::Replayed);
    assert_eq!(grant.clone().refresh(&token(1, "r1", "r2"), strictly(T)), TokenResult::Replayed);
    assert_eq!(grant.refresh(&token(1, "r1", "r2"), kindly(T.plus_ms(RETRY_MS))), TokenResult::Replayed);
    assert_eq!(
        grant.refresh(&token(2, "r2", "r3"), kindly(T.plus_ms(RETRY_MS))),
        TokenResult::Rejected,
        "it has ended"
    );
}

#[test]
fn a_response_to_a_code_is_repeated_only_if_enabled_and_for_the_right_verifier() {
    let asked = code(URI, VERIFIER, Some("r1"));
    let mut grant = grant();
    assert_eq!(grant.redeem(&asked, kindly(T)), TokenResult::Accepted);
    assert_eq!(grant.redeem(&asked, kindly(T.plus_ms(RETRY_MS - 1))), TokenResult::Repeated);
    assert!(grant.is_current(1, "r1", T));
    for (wrong, at) in [
        (code(URI, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXX", Some("r1")), kindly(T)),
        (code(Some("https://app.example.com/"), VERIFIER, Some("r1")), kindly(T)),
        (code(URI, VERIFIER, Some("other")), kindly(T)),
        (code(URI, VERIFIER, None), kindly(T)),
        (asked, kindly(T.plus_ms(RETRY_MS))),
        (asked, strictly(T)),
    ] {
        assert_eq!(grant.clone().redeem(&wrong, at), TokenResult::Replayed);
    }
    assert_eq!(grant.refresh(&token(1, "r1", "r2"), kindly(T)), TokenResult::Accepted);
    assert_eq!(grant.redeem(&asked, kindly(T)), TokenResult::Replayed, "what came of it is in use");
}

/// Pinned: tokens that were issued must stay valid.
#[test]
fn the_form_of_tokens_is_pinned() {
    let token = GrantKey::new(b"k").write(&acme(), "g1", GrantToken::Refresh(1), &[7; 32]);
    let secret = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";
    assert_eq!(token, format!("nxg_acme.g1.r1.{secret}.odk7zUZygFATy0JvW_Y0TQ"));
}

#[test]
fn the_next_token_follows_from_the_one_before_and_from_the_secret() {
    let key = GrantKey::new(b"secret");
    let first = key.write(&acme(), "g1", GrantToken::Refresh(1), &[7; 32]);
    let next = key.write_next(&acme(), "g1", GrantToken::Refresh(2), &first);
    assert_eq!(next, key.write_next(&acme(), "g1", GrantToken::Refresh(2), &first));
    assert_eq!(key.read(&next).map(|read| (read.grant, read.used)), Some(("g1".into(), GrantToken::Refresh(2))));
    let other = key.write(&acme(), "g1", GrantToken::Refresh(1), &[8; 32]);
    assert_ne!(next, key.write_next(&acme(), "g1", GrantToken::Refresh(2), &other));
    assert_ne!(next, GrantKey::new(b"other").write_next(&acme(), "g1", GrantToken::Refresh(2), &first));
}

/// A grant as the previous version stored it.
#[test]
fn a_grant_of_an_older_version_is_read() {
    let old = r#"{"allowed":{"client":"default.app","subject":"key:k","scope":["contexts:read"],
        "resource":"https://g.example"},"redirect_uri":"https://app.example.com/done","challenge":"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
        "code_hash":"code","code_until":1800000060000,"until":1802592000000,"current":[2,"r2"],"redeemed":true}"#;
    let mut grant: Grant = serde_json::from_str(old).unwrap();
    assert_eq!((grant.used_at(), grant.tries), (None, 0));
    assert_eq!(grant.refresh(&token(2, "r2", "r3"), kindly(T)), TokenResult::Accepted);
    assert_eq!(grant.used_at(), Some(T));
}

#[test]
fn a_text_opens_its_grant_in_its_tenant_and_nothing_else() {
    let key = GrantKey::new(b"secret");
    for used in [GrantToken::Code, GrantToken::Refresh(1), GrantToken::Refresh(7)] {
        let text = key.write(&acme(), "g1", used, &[7; 32]);
        let presented = key.read(&text).unwrap();
        assert_eq!((tenant_of(&text), presented.grant.as_str(), presented.used), (Some("acme"), "g1", used));
        assert_eq!(presented.hash, digest(&text));
        assert_eq!(GrantKey::new(b"other").read(&text), None);
        for wrong in [text.replace("acme", "acme2"), text.replace("g1", "g2"), text.replace(".c.", ".r1.") + "x"] {
            assert_eq!(key.read(&wrong), None, "{wrong}");
        }
    }
    let refresh = key.write(&TenantId::first(), "g", GrantToken::Refresh(1), &[1; 32]);
    assert_ne!(key.read(&refresh).unwrap().used, GrantToken::Code);
}

proptest! {
    /// However refresh tokens are tried, at most one per number is accepted, and none after a reuse.
    #[test]
    fn every_place_is_taken_once(tries in proptest::collection::vec(0u64..6, 0..40)) {
        let mut grant = grant();
        redeem(&mut grant);
        let mut taken = Vec::new();
        let mut over = false;
        for place in tries {
            let (hash, next) = (format!("r{place}"), format!("r{}", place + 1));
            match grant.refresh(&token(place, &hash, &next), strictly(T)) {
                TokenResult::Accepted => {
                    prop_assert!(!over && !taken.contains(&place));
                    taken.push(place);
                }
                TokenResult::Repeated => prop_assert!(false, "no response is repeated"),
                TokenResult::Replayed => over = true,
                TokenResult::Rejected => prop_assert!(over),
            }
        }
    }

    /// However refresh tokens are tried and retried, all responses for one number are the same, and there is none for
    /// an older number once a newer one was used.
    #[test]
    fn every_place_has_one_answer(tries in proptest::collection::vec((0u64..5, 0u64..RETRY_MS), 0..40)) {
        let mut grant = grant();
        redeem(&mut grant);
        let (mut now, mut newest, mut over) = (T, 0, false);
        for (place, later) in tries {
            now = now.plus_ms(later / 4);
            let (hash, next) = (format!("r{place}"), format!("r{}", place + 1));
            match grant.refresh(&token(place, &hash, &next), kindly(now)) {
                TokenResult::Accepted => {
                    prop_assert!(!over && place == newest + 1);
                    newest = place;
                }
                TokenResult::Repeated => prop_assert!(!over && place == newest),
                TokenResult::Replayed => over = true,
                TokenResult::Rejected => prop_assert!(over),
            }
        }
    }

    #[test]
    fn any_text_may_be_read(text in "(nxg_)?[a-z0-9._-]{0,80}") {
        prop_assert_eq!(GrantKey::new(b"secret").read(&text), None);
    }
}
