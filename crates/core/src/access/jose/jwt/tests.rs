use super::*;
use proptest::prelude::*;
use serde_json::json;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const SECONDS: u64 = NOW.0 / 1000;
const EXPECTED: TokenRequirements<'static> = TokenRequirements {
    issuer: "https://issuer.example.com",
    audience: Audience { claim: AUDIENCE, first: "https://gateway.example.com", more: &[] },
    typ: "at+jwt",
    algorithms: &[Algorithm::Es256, Algorithm::EdDsa],
};

fn text(header: &str, claims: &str) -> String {
    format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

fn header(text: &str) -> Result<(), TokenError> {
    let token = self::text(text, "{}");
    parse(&token)?.check_header(&EXPECTED)
}

fn good() -> Value {
    json!({"iss": EXPECTED.issuer, "aud": EXPECTED.audience.first, "sub": "ada", "exp": SECONDS + 300, "iat": SECONDS})
}

fn claims(change: impl FnOnce(&mut serde_json::Map<String, Value>)) -> Result<Timestamp, TokenError> {
    let mut claims = good();
    change(claims.as_object_mut().unwrap());
    let token = text(r#"{"alg":"ES256","typ":"at+jwt"}"#, &claims.to_string());
    let token = parse(&token).unwrap();
    token.check_claims(&EXPECTED, NOW).and_then(|until| token.subject(SUBJECT).map(|_| until))
}

/// RFC 7515 A.2 and A.3, RFC 8037 A.4.
#[test]
fn the_examples_of_the_standards_are_parsed() {
    let signed = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let token =
        format!("{signed}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q");
    let token = parse(&token).unwrap();
    assert_eq!((token.algorithm, token.signed, token.signature.len()), (Algorithm::Es256, signed, 64));
    assert_eq!((token.issuer(), token.claims["exp"].as_u64()), (Some("joe"), Some(1_300_819_380)));
    // The payload in RFC 8037 is not JSON.
    let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert_eq!(parse(token).unwrap_err(), TokenError::Json);
}

#[test]
fn a_token_is_three_parts_of_base64url() {
    let good = text(r#"{"alg":"ES256"}"#, "{}");
    assert!(parse(&good).is_ok());
    for bad in [
        good.replace('.', ".."),
        good.replacen('.', "", 1),
        format!("{good}."),
        format!("{good}.c2ln"),
        format!(".{good}"),
        format!("{good}="),
        format!("{good} "),
        good.replace("c2ln", "c2+n"),
        good.replace("c2ln", "c2lb\n"),
        // Bits that are left over.
        good.replace("c2ln", "c2lnYh"),
        good.replace("c2ln", ""),
        String::new(),
    ] {
        assert_eq!(parse(&bad).unwrap_err(), TokenError::Form, "{bad}");
    }
    assert_eq!(parse(&"e".repeat(MAX_BYTES + 1)).unwrap_err(), TokenError::TooLong);
}

#[test]
fn header_and_claims_are_read_in_one_way_only() {
    let good = r#"{"alg":"ES256"}"#;
    for (header, claims) in [
        (r#"{"alg":"none","alg":"ES256"}"#, "{}"),
        (good, r#"{"sub":"a","sub":"b"}"#),
        (good, r#"{"a":{"b":1,"b":2}}"#),
        (good, "[]"),
        ("[]", "{}"),
        (good, "{} {}"),
        (r#"{"alg":"ES256","kid":1}"#, "{}"),
        (r#"{"alg":"ES256","typ":null}"#, "{}"),
    ] {
        assert_eq!(parse(&text(header, claims)).unwrap_err(), TokenError::Json, "{header} {claims}");
    }
    let deep = format!("{}1{}", r#"{"a":"#.repeat(MAX_DEPTH + 1), "}".repeat(MAX_DEPTH + 1));
    assert_eq!(parse(&text(good, &deep)).unwrap_err(), TokenError::Json);
}

#[test]
fn only_algorithms_of_the_issuer_are_accepted() {
    for name in ["none", "None", "HS256", "RS512", "ES384", "es256", ""] {
        assert_eq!(header(&format!(r#"{{"alg":"{name}","typ":"at+jwt"}}"#)), Err(TokenError::Algorithm), "{name}");
    }
    assert_eq!(header(r#"{"typ":"at+jwt"}"#), Err(TokenError::Algorithm));
    assert_eq!(header(r#"{"alg":"RS256","typ":"at+jwt"}"#), Err(TokenError::Algorithm), "known, but not the issuer's");
    for name in ["ES256", "EdDSA", "Ed25519"] {
        assert_eq!(header(&format!(r#"{{"alg":"{name}","typ":"at+jwt"}}"#)), Ok(()), "{name}");
    }
}

#[test]
fn critical_extensions_are_refused_even_when_empty() {
    for crit in [r#"["exp"]"#, r#"["b64"]"#, "[]", "null"] {
        let header = format!(r#"{{"alg":"ES256","typ":"at+jwt","crit":{crit},"b64":false}}"#);
        assert_eq!(parse(&text(&header, "{}")).unwrap_err(), TokenError::Critical, "{crit}");
    }
}

#[test]
fn the_type_is_the_issuers() {
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt"] {
        assert_eq!(header(&format!(r#"{{"alg":"ES256","typ":"{typ}"}}"#)), Ok(()), "{typ}");
    }
    for typ in ["JWT", "secevent+jwt", "dpop+jwt", ""] {
        assert_eq!(header(&format!(r#"{{"alg":"ES256","typ":"{typ}"}}"#)), Err(TokenError::Type), "{typ}");
    }
    assert_eq!(header(r#"{"alg":"ES256"}"#), Err(TokenError::Type));
    let plain = TokenRequirements { typ: "JWT", ..EXPECTED };
    for (header, fits) in [
        (r#"{"alg":"ES256"}"#, true),
        (r#"{"alg":"ES256","typ":"jwt"}"#, true),
        (r#"{"alg":"ES256","typ":"at+jwt"}"#, false),
    ] {
        assert_eq!(parse(&text(header, "{}")).unwrap().check_header(&plain).is_ok(), fits, "{header}");
    }
}

#[test]
fn a_token_is_for_one_audience_of_one_issuer() {
    assert_eq!(claims(|_| ()), Ok(Timestamp((SECONDS + 360) * 1000)));
    for iss in [json!("https://issuer.example.com/"), json!("https://other.example.com"), json!(null), json!(["x"])] {
        assert_eq!(claims(|claims| claims["iss"] = iss.clone()), Err(TokenError::Issuer), "{iss}");
    }
    assert!(claims(|claims| claims["aud"] = json!(["x", EXPECTED.audience.first])).is_ok());
    for aud in [
        json!("https://gateway.example.com/"),
        json!("https://gateway.example.com.evil.example"),
        json!([]),
        json!(["x"]),
        json!([EXPECTED.audience.first, 1]),
        json!({"aud": EXPECTED.audience.first}),
        json!(null),
    ] {
        assert_eq!(claims(|claims| claims["aud"] = aud.clone()), Err(TokenError::Audience), "{aud}");
    }
    assert_eq!(claims(|claims| drop(claims.remove("aud"))), Err(TokenError::Audience));
    assert_eq!(claims(|claims| drop(claims.remove("iss"))), Err(TokenError::Issuer));
}

#[test]
fn a_token_has_an_end_and_holds_within_it() {
    assert_eq!(claims(|claims| drop(claims.remove("exp"))), Err(TokenError::NoEnd));
    for exp in [json!("1900000000"), json!(-1), json!(1e300), json!(null), json!(true)] {
        assert_eq!(claims(|claims| claims["exp"] = exp.clone()), Err(TokenError::NoEnd), "{exp}");
    }
    assert!(claims(|claims| claims["exp"] = json!(SECONDS - 59)).is_ok(), "clocks may differ by a minute");
    assert_eq!(claims(|claims| claims["exp"] = json!(SECONDS - 60)), Err(TokenError::Expired));
    for claim in ["nbf", "iat"] {
        let said = |value: Value| claims(|claims| drop(claims.insert(claim.into(), value)));
        assert!(said(json!(SECONDS + 60)).is_ok());
        assert_eq!(said(json!(SECONDS + 61)), Err(TokenError::Early), "{claim}");
        assert_eq!(said(json!("soon")), Err(TokenError::Json), "{claim}");
    }
    assert!(claims(|claims| drop(claims.remove("iat"))).is_ok());
    assert!(claims(|claims| claims["exp"] = json!(SECONDS as f64 + 0.5)).is_ok(), "a date may have a fraction");
}

#[test]
fn a_subject_can_stand_in_a_principal() {
    let long = "x".repeat(MAX_SUBJECT);
    for sub in ["ada", "a b", "repo:acme/app:environment:Prod EU", " ", "Ünïcode 名前 👩‍💻", "auth0|12%20", &long]
    {
        assert!(claims(|claims| claims["sub"] = json!(sub)).is_ok(), "{sub}");
    }
    let hidden = ["", "a\nb", "a\u{7f}", "a\u{85}b", "a\u{202e}b", "a\u{2028}b", "\u{200e}a", "a\u{2067}b"];
    for sub in
        hidden.map(|text| json!(text)).into_iter().chain([json!(7), json!(null), json!(["ada"]), json!(long + "x")])
    {
        assert_eq!(claims(|claims| claims["sub"] = sub.clone()), Err(TokenError::Subject), "{sub}");
    }
    assert_eq!(claims(|claims| drop(claims.remove("sub"))), Err(TokenError::Subject));
}

#[test]
fn issued_at_is_optional() {
    for claim in ["nbf", "iat"] {
        assert!(claims(|claims| drop(claims.insert(claim.into(), json!(null)))).is_ok(), "{claim}");
    }
}

#[test]
fn an_audience_is_one_of_several_in_the_claim_that_names_it() {
    let more = ["second".to_string(), "third".to_string()];
    let place = |claim: &str, claims: Value| {
        let token = text(r#"{"alg":"ES256"}"#, &claims.to_string());
        parse(&token).unwrap().place_of(Audience { claim, first: "first", more: &more })
    };
    assert_eq!(place("aud", json!({"aud": "third"})), Some(0));
    assert_eq!(place("aud", json!({"aud": ["x", "second", "first"]})), Some(1));
    assert_eq!(place("aud", json!({"aud": ["x", "first", 1]})), None);
    assert_eq!(place("client_id", json!({"client_id": "first"})), Some(0));
    assert_eq!(place("client_id", json!({"aud": "first", "client_id": "x"})), None);
    assert_eq!(place("/act/client", json!({"act": {"client": "second"}})), Some(0));
    assert_eq!(place("azp", json!({"aud": "first"})), None);
}

#[test]
fn words_come_in_two_forms() {
    assert_eq!(words(&json!("a  b")), ["a", "b"]);
    assert_eq!(words(&json!(["a b", 1, "c"])), ["a b", "c"]);
    assert!(words(&json!({"a": 1})).is_empty());
}

proptest! {
    #[test]
    fn any_text_may_be_tried(text in "[ -~]{0,200}|([A-Za-z0-9_-]{0,60}\\.){0,4}[A-Za-z0-9_-]{0,60}") {
        if let Ok(token) = parse(&text) {
            prop_assert!(token.check_claims(&EXPECTED, NOW).is_err());
        }
    }
}
