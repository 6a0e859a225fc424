use super::*;
use proptest::prelude::*;

const T: Timestamp = Timestamp(1_800_000_000_000);
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

fn grant() -> Grant {
    Grant {
        allowed: Allowed {
            client: "default.app".into(),
            subject: "key:k".into(),
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
    }
}

fn redeem(grant: &mut Grant) -> Outcome {
    grant.redeem("code", "default.app", Some("https://app.example.com/done"), VERIFIER, Some("r1"), T)
}

#[test]
fn a_code_is_good_once_and_its_replay_ends_what_came_of_it() {
    let mut grant = grant();
    assert_eq!(redeem(&mut grant), Outcome::Taken);
    assert!(grant.is_current(1, "r1", T));
    assert_eq!(redeem(&mut grant), Outcome::Replayed);
    assert!(!grant.is_current(1, "r1", T));
    assert_eq!(grant.refresh(1, "r1", "default.app", "r2", T), Outcome::Refused);
    assert_eq!(redeem(&mut grant), Outcome::Refused);
}

#[test]
fn a_code_is_tried_once_by_its_own_client() {
    let uri = Some("https://app.example.com/done");
    let mut other = grant();
    assert_eq!(other.redeem("code", "default.other", uri, VERIFIER, None, T), Outcome::Refused);
    assert_eq!(redeem(&mut other), Outcome::Taken, "another client's try changes nothing");
    for (uri, verifier, at) in [
        (Some("https://app.example.com/"), VERIFIER, T),
        (uri, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXX", T),
        (uri, VERIFIER, T.plus_ms(CODE_MS)),
    ] {
        let mut grant = grant();
        assert_eq!(grant.redeem("code", "default.app", uri, verifier, None, at), Outcome::Refused);
        assert_eq!(redeem(&mut grant), Outcome::Refused, "it was tried");
    }
    let mut plain = grant();
    assert_eq!(plain.redeem("code", "default.app", None, VERIFIER, None, T), Outcome::Taken);
    assert_eq!(plain.refresh(1, "r1", "default.app", "r2", T), Outcome::Refused, "there is no refresh token");
}

#[test]
fn a_refresh_token_is_good_once_and_its_reuse_ends_the_grant() {
    let mut grant = grant();
    redeem(&mut grant);
    assert_eq!(grant.refresh(1, "r1", "default.other", "x", T), Outcome::Refused);
    assert_eq!(grant.refresh(1, "r1", "default.app", "r2", T), Outcome::Taken);
    assert_eq!(grant.refresh(2, "r2", "default.app", "r3", T), Outcome::Taken);
    assert_eq!(grant.refresh(1, "r1", "default.app", "x", T), Outcome::Replayed);
    assert_eq!(grant.refresh(3, "r3", "default.app", "r4", T), Outcome::Refused);
    let mut old = self::grant();
    redeem(&mut old);
    assert_eq!(old.refresh(1, "r1", "default.app", "r2", T.plus_ms(GRANT_MS)), Outcome::Refused);
}

#[test]
fn a_text_opens_its_grant_in_its_tenant_and_nothing_else() {
    let key = GrantKey::new(b"secret");
    for used in [Use::Code, Use::Refresh(1), Use::Refresh(7)] {
        let text = key.write("acme", "g1", used, &[7; 32]);
        let presented = key.read(&text).unwrap();
        assert_eq!((tenant_of(&text), presented.grant.as_str(), presented.used), (Some("acme"), "g1", used));
        assert_eq!(presented.hash, digest(&text));
        assert_eq!(GrantKey::new(b"other").read(&text), None);
        for wrong in [text.replace("acme", "acme2"), text.replace("g1", "g2"), text.replace(".c.", ".r1.") + "x"] {
            assert_eq!(key.read(&wrong), None, "{wrong}");
        }
    }
    assert_ne!(key.read(&key.write("a", "g", Use::Refresh(1), &[1; 32])).unwrap().used, Use::Code);
}

proptest! {
    /// However refresh tokens are tried, at most one a place is taken, and nothing after a reuse.
    #[test]
    fn every_place_is_taken_once(tries in proptest::collection::vec(0u64..6, 0..40)) {
        let mut grant = grant();
        redeem(&mut grant);
        let mut taken = Vec::new();
        let mut over = false;
        for place in tries {
            let (hash, next) = (format!("r{place}"), format!("r{}", place + 1));
            match grant.refresh(place, &hash, "default.app", &next, T) {
                Outcome::Taken => {
                    prop_assert!(!over && !taken.contains(&place));
                    taken.push(place);
                }
                Outcome::Replayed => over = true,
                Outcome::Refused => prop_assert!(over),
            }
        }
    }

    #[test]
    fn any_text_may_be_read(text in "(nxg_)?[a-z0-9._-]{0,80}") {
        prop_assert_eq!(GrantKey::new(b"secret").read(&text), None);
    }
}
