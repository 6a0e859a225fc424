//! The syntax of names.

/// An id chosen by a client, as of services and roles: 1 to 64 lower-case letters, digits, `-`, `_`, beginning with a
/// letter or digit.
pub fn valid_id(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit())
        && text.len() <= 64
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_')
}

/// A request id chosen by a client: 1 to 128 characters that are safe in a log line.
pub fn valid_request_id(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'))
}

/// The name of a capability: 1 to 64 letters, digits, `_`, `-`, `.`, beginning with a letter or digit.
pub fn valid_capability_name(text: &str) -> bool {
    text.len() <= 64
        && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

/// The name of a tool of an MCP server, and so the name by which a capability may be requested: 1 to 128 letters,
/// digits, `_`, `-`, `.`.
pub fn valid_tool_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!(valid_id("llm-primary") && valid_id("0_a"));
        for bad in ["", "-a", "_a", "A", "a.b", "a/b", "ä", &"a".repeat(65)] {
            assert!(!valid_id(bad), "{bad}");
        }
    }
}
