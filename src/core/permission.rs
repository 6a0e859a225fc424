//! Who may do what: permissions `area:action[:object]`, and the one function that decides.
//!
//! In a granted permission `*` stands for one whole segment, or at the end for the rest. The object of
//! `contexts:create` is `<service>.<capability>`; `llm.*` covers every capability of one service.

fn object_matches(granted: &str, asked: &str) -> bool {
    match (granted.split_once('.'), asked.split_once('.')) {
        (Some((service, capability)), Some((asked_service, asked_capability))) => {
            (service == "*" || service == asked_service) && (capability == "*" || capability == asked_capability)
        }
        _ => granted == asked,
    }
}

/// Whether one granted permission covers the one asked for.
pub fn covers(granted: &str, asked: &str) -> bool {
    let mut grants = granted.split(':');
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

/// Deny by default: whether any of the granted permissions covers the one asked for.
pub fn allows<S: AsRef<str>>(granted: &[S], asked: &str) -> bool {
    granted.iter().any(|permission| covers(permission.as_ref(), asked))
}

/// Whether a text can be granted: 1 to 3 segments of sensible characters.
pub fn valid(text: &str) -> bool {
    let segments: Vec<&str> = text.split(':').collect();
    (1..=3).contains(&segments.len())
        && text.len() <= 160
        && segments.iter().all(|segment| {
            !segment.is_empty()
                && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'*' | b'.' | b'-' | b'_'))
        })
}

#[cfg(test)]
mod tests {
    use super::super::role::shipped;
    use super::*;

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
    fn nothing_granted_allows_nothing() {
        assert!(!allows::<&str>(&[], "contexts:read"));
        let of = |role| shipped(role).unwrap().permissions;
        assert!(allows(of("caller"), "contexts:create:llm.chat"));
        assert!(!allows(of("caller"), "contexts:read:*"));
        assert!(!allows(of("viewer"), "contexts:create:llm.chat"));
    }
}
