//! Permissions, `area:action[:object]`, and the functions that decide about them.
//!
//! In a granted permission `*` matches one whole segment, or at the end all remaining ones. The object of
//! `contexts:create` is `<service>.<capability>`; `llm.*` covers every capability of one service. The object of
//! `models:use` is the whole name of a model, with whatever colons and dots it has; a `*` at its end stands for any
//! rest.

use std::borrow::Cow;

use crate::base::model_name::is_model_name;

/// What the permissions to use a model begin with.
pub const USE_MODEL: &str = "models:use:";

/// The permission to use a model.
pub fn to_use(model: &str) -> String {
    format!("{USE_MODEL}{model}")
}

/// The pattern of models that a permission covers, if it covers any.
fn model_pattern(permission: &str) -> Option<&str> {
    if let Some(pattern) = permission.strip_prefix(USE_MODEL) {
        return Some(pattern);
    }
    let mut segments = shortest(permission).splitn(3, ':');
    let (area, action, object) = (segments.next()?, segments.next(), segments.next());
    match (area, action, object) {
        ("*", None, None) | ("models" | "*", Some("*"), None) => Some("*"),
        ("models" | "*", Some("use" | "*"), object) => object,
        _ => None,
    }
}

/// Whether a pattern covers a name, or another pattern.
fn pattern_covers(pattern: &str, name: &str) -> bool {
    pattern == name || pattern.strip_suffix('*').is_some_and(|start| name.starts_with(start))
}

/// The intersection of a permission to use models with another permission.
fn meet_models(a: &str, b: &str) -> Option<String> {
    let (one, other) = (model_pattern(a)?, model_pattern(b)?);
    match (pattern_covers(one, other), pattern_covers(other, one)) {
        (true, _) => Some(to_use(other)),
        (false, true) => Some(to_use(one)),
        (false, false) => None,
    }
}

fn object_matches(granted: &str, asked: &str) -> bool {
    match (granted.split_once('.'), asked.split_once('.')) {
        (Some((service, capability)), Some((asked_service, asked_capability))) => {
            (service == "*" || service == asked_service) && (capability == "*" || capability == asked_capability)
        }
        _ => granted == asked,
    }
}

/// The same permission with a single `*` at its end.
fn shortest(mut granted: &str) -> &str {
    while let Some(shorter) = granted.strip_suffix(":*")
        && (shorter == "*" || shorter.ends_with(":*"))
    {
        granted = shorter;
    }
    granted
}

/// Whether a granted permission covers the requested one.
pub fn covers(granted: &str, asked: &str) -> bool {
    if let Some(name) = asked.strip_prefix(USE_MODEL) {
        return model_pattern(granted).is_some_and(|pattern| pattern_covers(pattern, name));
    }
    let mut grants = shortest(granted).split(':');
    let mut asks = asked.split(':');
    loop {
        match (grants.next(), asks.next()) {
            (None, None) => return true,
            (Some("*"), ask) => {
                let rest = grants.clone().next().is_none();
                if rest {
                    return true;
                }
                if ask.is_none() {
                    return false;
                }
            }
            (Some(grant), Some(ask)) if grant == ask || object_matches(grant, ask) => {}
            _ => return false,
        }
    }
}

/// The intersection of two segments, if any.
fn meet_words(a: &str, b: &str) -> Option<String> {
    if a == b || b == "*" {
        return Some(a.into());
    }
    if a == "*" {
        return Some(b.into());
    }
    let ((service, capability), (other_service, other_capability)) = (a.split_once('.')?, b.split_once('.')?);
    let narrower = |a: &str, b: &str| {
        if a == b || b == "*" { Some(a.to_string()) } else { (a == "*").then(|| b.to_string()) }
    };
    Some(format!("{}.{}", narrower(service, other_service)?, narrower(capability, other_capability)?))
}

/// The intersection of two permissions, if any.
pub fn meet(a: &str, b: &str) -> Option<String> {
    if a.starts_with(USE_MODEL) || b.starts_with(USE_MODEL) {
        return meet_models(a, b);
    }
    let (mut left, mut right) = (shortest(a).split(':').peekable(), shortest(b).split(':').peekable());
    let mut met: Vec<String> = Vec::new();
    loop {
        match (left.next(), right.next()) {
            (None, None) => break,
            (Some("*"), rest) if left.peek().is_none() => {
                met.extend(rest.into_iter().chain(right).map(Into::into));
                break;
            }
            (rest, Some("*")) if right.peek().is_none() => {
                met.extend(rest.into_iter().chain(left).map(Into::into));
                break;
            }
            (Some(one), Some(other)) => met.push(meet_words(one, other)?),
            _ => return None,
        }
    }
    Some(met.join(":"))
}

/// The intersection of two lists, for example of a role's permissions with a token's scope.
pub fn meet_all<A: AsRef<str>, B: AsRef<str>>(granted: &[A], scope: &[B]) -> Vec<String> {
    let mut met: Vec<String> = Vec::new();
    for permission in granted {
        for within in scope {
            if let Some(both) = meet(permission.as_ref(), within.as_ref())
                && !met.contains(&both)
            {
                met.push(both);
            }
        }
    }
    met
}

/// Whether any granted permission covers the requested one. Denies by default.
pub fn allows<S: AsRef<str>>(granted: &[S], asked: &str) -> bool {
    granted.iter().any(|permission| covers(permission.as_ref(), asked))
}

/// The longest permission, in bytes: with an action, a service and one of its tools.
pub const MAX_BYTES: usize = 256;

/// Whether a text is a valid permission: 1 to 3 segments of letters, digits and `*.-_`, or to use models by a name or
/// its beginning.
pub fn valid(text: &str) -> bool {
    if let Some(pattern) = text.strip_prefix(USE_MODEL) {
        return is_model_name(pattern);
    }
    let segments: Vec<&str> = text.split(':').collect();
    (1..=3).contains(&segments.len())
        && text.len() <= MAX_BYTES
        && segments.iter().all(|segment| {
            !segment.is_empty()
                && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'*' | b'.' | b'-' | b'_'))
        })
}

/// The permission that a word of an OAuth scope stands for. A scope cannot hold every character (RFC 6749 §3.3), so the
/// name of a model is percent-encoded there.
pub fn of_scope(word: &str) -> Cow<'_, str> {
    match word.strip_prefix(USE_MODEL) {
        Some(name) if name.contains('%') => {
            let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
            to_use(&name).into()
        }
        _ => word.into(),
    }
}

/// Permissions as an OAuth scope.
pub fn scope_text<S: AsRef<str>>(permissions: &[S]) -> String {
    permissions.iter().map(|permission| to_scope(permission.as_ref())).collect::<Vec<_>>().join(" ")
}

/// A permission as a word of an OAuth scope.
pub fn to_scope(permission: &str) -> Cow<'_, str> {
    const ENCODED: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'"').add(b'\\').add(b'%').add(b' ');
    match permission.strip_prefix(USE_MODEL) {
        Some(name) => format!("{USE_MODEL}{}", percent_encoding::utf8_percent_encode(name, ENCODED)).into(),
        None => permission.into(),
    }
}

/// Whether a word of an OAuth scope is a permission: it has an area and an action, or is `*`. Words such as `openid`,
/// `profile` or `offline_access` are for other servers: they are accepted and have no effect.
pub fn is_named(word: &str) -> bool {
    (word == "*" || word.contains(':')) && valid(word)
}

#[cfg(test)]
mod tests {
    use super::super::role::built_in;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_is_a_segment_or_the_rest() {
        for (granted, asked) in [
            ("*", "keys:write"),
            ("*", "contexts:create:llm.chat"),
            ("services:*", "services:heartbeat:llm"),
            ("contexts:create:*", "contexts:create:llm.chat"),
            ("contexts:create:llm.*", "contexts:create:llm.chat"),
            ("contexts:create:*.chat", "contexts:create:llm.chat"),
            ("contexts:create:llm.a.b", "contexts:create:llm.a.b"),
            ("contexts:read:*", "contexts:read"),
            ("contexts:read:*", "contexts:read:*"),
            ("*:read:*", "contexts:read:*"),
            ("*:read:*", "keys:read"),
            ("*:*:*", "keys"),
            ("contexts:*:*", "contexts"),
        ] {
            assert!(covers(granted, asked), "{granted} should cover {asked}");
        }
        for (granted, asked) in [
            ("contexts:read", "contexts:read:*"),
            ("contexts:create", "contexts:create:llm.chat"),
            ("contexts:create:llm.*", "contexts:create:llm2.chat"),
            ("contexts:create:llm.ch", "contexts:create:llm.chat"),
            ("contexts:create:llm", "contexts:create:llm.chat"),
            ("*:read", "contexts:cancel"),
            ("*:read:*", "keys:write"),
            ("services:read", "services:write"),
            ("", "keys:read"),
        ] {
            assert!(!covers(granted, asked), "{granted} must not cover {asked}");
        }
    }

    #[test]
    fn the_name_of_a_model_is_one_object_whatever_it_has() {
        for (granted, asked, covered) in [
            ("*", "models:use:a:b/c.d", true),
            ("models:*", "models:use:a:b", true),
            ("models:use:*", "models:use:a:b", true),
            ("models:use", "models:use:a", false),
            ("models:read", "models:use:a", false),
            ("models:use:gpt-5", "models:use:gpt-5", true),
            ("models:use:gpt-5", "models:use:gpt-5-mini", false),
            ("models:use:gpt-*", "models:use:gpt-5.1", true),
            ("models:use:gpt-*", "models:use:o3", false),
            ("models:use:*.x", "models:use:y.x", false),
            ("models:use:a.*", "models:use:b.c", false),
            ("models:use:openai/*", "models:use:openai/o3:latest", true),
            ("*:use:*", "models:use:a", true),
            ("*:read:*", "models:use:a", false),
            ("models:use:*", "models:write", false),
        ] {
            assert_eq!(covers(granted, asked), covered, "{granted} {asked}");
        }
        for (a, b, both) in [
            ("models:use:*", "models:use:gpt-*", Some("models:use:gpt-*")),
            ("models:use:gpt-*", "models:use:gpt-5*", Some("models:use:gpt-5*")),
            ("*", "models:use:a:b", Some("models:use:a:b")),
            ("models:*", "models:use:a", Some("models:use:a")),
            ("models:use:a*", "models:use:b*", None),
            ("contexts:*", "models:use:a", None),
        ] {
            assert_eq!(meet(a, b).as_deref(), both, "{a} {b}");
            assert_eq!(meet(b, a).as_deref(), both, "{b} {a}");
        }
        for (text, is_valid) in [
            ("models:use:meta/llama-3:8b@x", true),
            ("models:use:a b", false),
            ("models:use:a,b", false),
            ("models:use:ä", false),
            ("models:use:", false),
        ] {
            assert_eq!(valid(text), is_valid, "{text}");
        }
        assert_eq!(of_scope("models:use:a%22b"), "models:use:a\"b");
        assert_eq!(to_scope("models:use:a\"b%"), "models:use:a%22b%25");
        assert_eq!(of_scope("contexts:read"), "contexts:read");
    }

    #[test]
    fn two_permissions_meet_in_what_both_cover() {
        for (a, b, both) in [
            ("*", "keys:write", Some("keys:write")),
            ("*", "*", Some("*")),
            ("services:*", "*:read:*", Some("services:read:*")),
            ("contexts:create:*", "contexts:create:llm.*", Some("contexts:create:llm.*")),
            ("contexts:create:llm.*", "contexts:create:*.chat", Some("contexts:create:llm.chat")),
            ("contexts:read:*", "contexts:read", Some("contexts:read")),
            ("contexts:read", "contexts:*", Some("contexts:read")),
            ("contexts:read", "contexts:cancel", None),
            ("contexts:create:a.*", "contexts:create:b.*", None),
            ("contexts:read", "contexts:read:a", None),
        ] {
            assert_eq!(meet(a, b).as_deref(), both, "{a} and {b}");
            assert_eq!(meet(b, a).as_deref(), both, "{b} and {a}");
        }
        assert_eq!(meet_all(&["keys:*", "services:read"], &["*:read"]), ["keys:read", "services:read"]);
        assert!(meet_all(&["*"], &["openid", "profile"]).iter().all(|met| !allows(&[met], "keys:read")));
    }

    proptest! {
        /// A permission that covers another one covers everything that the other one covers.
        #[test]
        fn what_covers_a_permission_covers_all_that_the_permission_does(
            held in "(\\*|a|b)(:(\\*|a|b)){0,1}(:(\\*|a|a\\.b|a\\.\\*|\\*\\.b|\\*\\.\\*)){0,1}",
            given in "(\\*|a|b)(:(\\*|a|b)){0,1}(:(\\*|a|a\\.b|a\\.\\*|\\*\\.b|\\*\\.\\*)){0,1}",
            asked in "(a|b)(:(a|b)){0,1}(:(a|a\\.b|b\\.b|b\\.a)){0,1}",
        ) {
            if covers(&held, &given) && covers(&given, &asked) {
                prop_assert!(covers(&held, &asked), "{} {} {}", held, given, asked);
            }
        }

        /// The intersection is exactly what both cover.
        #[test]
        fn what_two_permissions_meet_in_is_what_both_cover(
            a in "(\\*|a|b)(:(\\*|a|b)){0,1}(:(\\*|a|a\\.b|a\\.\\*|\\*\\.b|\\*\\.\\*)){0,1}",
            b in "(\\*|a|b)(:(\\*|a|b)){0,1}(:(\\*|a|a\\.b|a\\.\\*|\\*\\.b|\\*\\.\\*)){0,1}",
            asked in "(a|b)(:(a|b)){0,1}(:(a|a\\.b|b\\.b|b\\.a)){0,1}",
        ) {
            let both = covers(&a, &asked) && covers(&b, &asked);
            prop_assert_eq!(meet(&a, &b).is_some_and(|met| covers(&met, &asked)), both, "{} {} {}", a, b, asked);
        }
    }

    #[test]
    fn nothing_granted_allows_nothing() {
        assert!(!allows::<&str>(&[], "contexts:read"));
        let of = |role| built_in(role).unwrap().permissions;
        assert!(allows(of("caller"), "contexts:create:llm.chat"));
        assert!(!allows(of("caller"), "contexts:read:*"));
        assert!(!allows(of("viewer"), "contexts:create:llm.chat"));
    }
}
