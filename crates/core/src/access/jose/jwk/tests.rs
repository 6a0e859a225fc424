use super::*;

const P256: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","kid":"a"}"#;
const ED25519: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"a"}"#;
const MODULUS: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";

fn rsa(more: &str) -> String {
    format!(r#"{{"kty":"RSA","n":"{MODULUS}","e":"AQAB"{more}}}"#)
}

fn set(keys: &[&str]) -> Result<Vec<Jwk>, KeySetError> {
    read_set(format!(r#"{{"keys":[{}],"more":1}}"#, keys.join(",")).as_bytes())
}

/// RFC 8037 A.3 and RFC 7638 §3.1.
#[test]
fn thumbprints_are_those_of_the_standards() {
    let keys = set(&[ED25519, &rsa("")]);
    let keys = keys.unwrap();
    assert_eq!(keys[0].thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    let known = rsa("").replace(MODULUS, "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw");
    assert_eq!(set(&[&known]).unwrap()[0].thumbprint(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
}

#[test]
fn a_set_with_anything_private_in_it_is_refused_whole() {
    let more = |member: &str| format!("{},{member}}}", ED25519.trim_end_matches('}'));
    for member in [r#""d":"x""#, r#""p":"x""#, r#""k":"x""#, r#""oth":[]"#, r#""d":null"#] {
        assert_eq!(set(&[P256, &more(member)]), Err(KeySetError::Private), "{member}");
    }
    assert_eq!(set(&[P256, r#"{"kty":"oct"}"#]), Err(KeySetError::Private));
}

#[test]
fn keys_of_other_kinds_and_uses_are_passed_over() {
    let changed = |from: &str, to: &str| P256.replace(from, to);
    let foreign = [
        changed("P-256", "P-384"),
        changed(r#""kty":"EC""#, r#""kty":"AKP""#),
        changed(r#""kid":"a""#, r#""use":"enc""#),
        changed(r#""kid":"a""#, r#""key_ops":["sign"]"#),
        changed(r#""kid":"a""#, r#""alg":"ES384""#),
        changed(r#""kid":"a""#, r#""alg":"EdDSA""#),
        changed("f83OJ3", ""),
        rsa(r#","alg":"HS256""#),
        rsa("").replace("AQAB", "AQ"),
        rsa("").replace("AQAB", "Ag"),
        rsa("").replace(MODULUS, "ofgWCuLjybRlzo0t"),
        "1".into(),
    ];
    for key in &foreign {
        let kept = set(&[key, ED25519]).unwrap();
        assert_eq!((kept.len(), kept[0].kind), (1, KeyKind::Ed25519), "{key}");
    }
    let raw = foreign.iter().map(|key| RawValue::from_string(key.clone()).unwrap()).collect::<Vec<_>>();
    let (keys, faults) = read_registered(&raw.iter().map(AsRef::as_ref).collect::<Vec<_>>(), "#/keys");
    assert_eq!((keys.len(), faults.len()), (0, foreign.len()), "registered they are faults");
}

#[test]
fn a_set_has_its_bounds() {
    let many = vec![ED25519; MAX_KEYS + 1];
    assert_eq!(set(&many), Err(KeySetError::TooMany));
    assert_eq!(set(&many[1..]).unwrap().len(), MAX_KEYS);
    assert_eq!(read_set(&vec![b' '; MAX_SET_BYTES + 1]), Err(KeySetError::TooLarge));
    for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
        assert_eq!(read_set(text.as_bytes()), Err(KeySetError::Form), "{text}");
    }
}

#[test]
fn a_key_is_chosen_by_name_and_kind() {
    let other = ED25519.replace(r#""a""#, r#""b""#);
    let keys = set(&[P256, ED25519, &other, &rsa(r#","alg":"RS256""#)]).unwrap();
    let chosen = |kid, algorithm| choose(&keys, kid, algorithm).first().map(|key| (key.kind, key.kid.as_deref()));
    assert_eq!(chosen(Some("a"), Algorithm::Es256), Some((KeyKind::P256, Some("a"))));
    assert_eq!(chosen(Some("a"), Algorithm::EdDsa), Some((KeyKind::Ed25519, Some("a"))));
    assert_eq!(chosen(Some("b"), Algorithm::Es256), None);
    assert_eq!(chosen(None, Algorithm::Es256), Some((KeyKind::P256, Some("a"))), "the only one");
    assert_eq!(chosen(None, Algorithm::EdDsa), None, "two fit");
    assert_eq!(chosen(None, Algorithm::Rs256), Some((KeyKind::Rsa, None)));
    assert_eq!(chosen(None, Algorithm::Ps256), None, "the key is for RS256");
}

const P384: &str = r#"{"kty":"EC","crv":"P-384","x":"iyOokdC1vpzOV_nqSpKt44VqpJpqFfRvUsyBlVqbFQhfzTqmZ9wcvF0tROmvBEpf","y":"iYfXQ_QcPTxSCQjTnCMGO7sHfJsVAHHzzYkBDfQqTfFmsxxUGkcqGqYLfJPvXAzj"}"#;

#[test]
fn a_key_is_one_however_its_numbers_are_written() {
    let plain = set(&[&rsa("")]).unwrap();
    let padded = |text: &str| format!("{text}{}", "=".repeat((4 - text.len() % 4) % 4));
    let bytes = URL_SAFE_NO_PAD.decode(MODULUS).unwrap();
    let zeros = URL_SAFE_NO_PAD.encode([&[0, 0], &bytes[..]].concat());
    for written in [
        rsa("").replace(MODULUS, &padded(MODULUS)),
        rsa("").replace(MODULUS, &zeros),
        rsa("").replace("AQAB", "AAEAAQ"),
        rsa("").replace(MODULUS, &padded(&zeros)).replace("AQAB", "AAABAAE="),
    ] {
        assert_eq!(set(&[&written]).unwrap(), plain, "{written}");
    }
    let x = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    let signed = URL_SAFE_NO_PAD.encode([&[0], &URL_SAFE_NO_PAD.decode(x).unwrap()[..]].concat());
    assert_eq!(set(&[&P256.replace(x, &signed)]).unwrap(), set(&[P256]).unwrap());
    // Every byte of a key that is not a number counts.
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    let longer = URL_SAFE_NO_PAD.encode([&[0], &URL_SAFE_NO_PAD.decode(x).unwrap()[..]].concat());
    assert!(set(&[&ED25519.replace(x, &longer)]).unwrap().is_empty());
    assert_eq!(set(&[&ED25519.replace(x, &padded(x))]).unwrap(), set(&[ED25519]).unwrap());
}

#[test]
fn zeros_are_left_out_in_front_of_a_coordinate_once_or_twice_and_not_more() {
    let one = Number::Fixed.canonical(vec![7; 31], 32);
    assert_eq!((one.len(), one[0], one[1]), (32, 0, 7));
    assert_eq!(Number::Fixed.canonical(vec![7; 29], 32).len(), 29);
    assert_eq!(Number::Fixed.canonical(vec![7; 33], 32).len(), 33);
}

#[test]
fn a_key_on_the_larger_curve_is_for_the_larger_hash() {
    let keys = set(&[P384, P256]).unwrap();
    assert_eq!((keys.len(), keys[0].kind), (2, KeyKind::P384));
    assert!(keys[0].fits(Algorithm::Es384) && !keys[0].fits(Algorithm::Es256) && !keys[1].fits(Algorithm::Es384));
    assert!(set(&[&P384.replace("}", r#","alg":"ES256"}"#)]).unwrap().is_empty());
    let rsa = &set(&[&rsa("")]).unwrap()[0];
    for algorithm in [Algorithm::Rs384, Algorithm::Rs512, Algorithm::Ps384, Algorithm::Ps512] {
        assert!(rsa.fits(algorithm), "{algorithm:?}");
    }
}

#[test]
fn all_keys_of_a_name_are_tried() {
    let keys = set(&[ED25519, P256, ED25519]).unwrap();
    assert_eq!(choose(&keys, Some("a"), Algorithm::EdDsa).len(), 2);
    assert_eq!(choose(&keys, None, Algorithm::EdDsa).len(), 0, "ambiguous without a name");
}
