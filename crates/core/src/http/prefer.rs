//! The `Prefer` header (RFC 7240) with `respond-async` and `wait=<seconds>`, and `Preference-Applied`. Preferences are
//! optional: anything malformed is ignored and never an error.

/// The preferences of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Prefer {
    /// `respond-async`: answer 202 now instead of holding the request open (RFC 7240 §4.1).
    pub respond_async: bool,
    /// `wait`: how long the client is willing to wait, in seconds (RFC 7240 §4.3).
    pub wait_seconds: Option<u32>,
}

/// Reads the header value; repeated headers are joined by commas. Names are case-insensitive, parameters are ignored,
/// and the first of repeated preferences counts, even if it is malformed (RFC 7240 §2). Waits beyond `u32` become its
/// maximum.
pub fn parse(header: Option<&str>) -> Prefer {
    let mut prefer = Prefer::default();
    let (mut seen_async, mut seen_wait) = (false, false);
    for preference in split(header.unwrap_or_default(), ',') {
        // The first part is the preference; the others are its parameters.
        let Some(first) = split(preference, ';').next() else {
            continue;
        };
        let (name, value) = first.split_once('=').unwrap_or((first, ""));
        let (name, value) = (trim(name), unquote(trim(value)));
        if name.eq_ignore_ascii_case("respond-async") && !seen_async {
            seen_async = true;
            // An empty value equals no value (RFC 7240 §2).
            prefer.respond_async = value.as_deref() == Some("");
        } else if name.eq_ignore_ascii_case("wait") && !seen_wait {
            seen_wait = true;
            prefer.wait_seconds = value.as_deref().and_then(seconds);
        }
    }
    prefer
}

impl Prefer {
    /// The value of `Preference-Applied` (RFC 7240 §3): only what was both requested and done. `wait_used`: the granted
    /// wait in seconds, which may be shorter than requested. `async_used`: the response was sent before the result.
    /// `None` means to omit the header.
    pub fn applied(&self, wait_used: Option<u32>, async_used: bool) -> Option<String> {
        let done_async = (self.respond_async && async_used).then(|| "respond-async".to_owned());
        let done_wait = self.wait_seconds.and(wait_used).map(|seconds| format!("wait={seconds}"));
        let done: Vec<String> = done_async.into_iter().chain(done_wait).collect();
        (!done.is_empty()).then(|| done.join(", "))
    }
}

/// The parts of `text` between separators that are not inside a quoted string.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        c == separator && !quoted
    })
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// A token as it is, or the content of a quoted string; `None` if the quotes are malformed.
fn unquote(value: &str) -> Option<String> {
    let Some(rest) = value.strip_prefix('"') else {
        return (!value.contains('"')).then(|| value.to_owned());
    };
    let mut content = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return chars.next().is_none().then_some(content),
            '\\' => content.push(chars.next()?),
            c => content.push(c),
        }
    }
}

/// `delta-seconds` (RFC 9110 §10.2.3): digits and nothing else.
fn seconds(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // The only remaining error is a number that is too large.
    Some(text.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefer(respond_async: bool, wait_seconds: Option<u32>) -> Prefer {
        Prefer { respond_async, wait_seconds }
    }

    #[test]
    fn headers_are_read_according_to_rfc_7240() {
        for (header, respond_async, wait) in [
            ("", false, None),
            ("respond-async", true, None),
            ("wait=10", false, Some(10)),
            ("respond-async, wait=10", true, Some(10)),
            ("wait=10,respond-async", true, Some(10)),
            ("Respond-Async, WAIT=5", true, Some(5)),
            ("  respond-async\t,\t wait = 7  ", true, Some(7)),
            ("respond-async; wait=10", true, None),
            ("respond-async;foo=bar;q=\"a,b;c\", wait=3", true, Some(3)),
            ("wait=\"10\"", false, Some(10)),
            ("wait=\"1\\0\"", false, Some(10)),
            ("respond-async=\"\"", true, None),
            ("respond-async=", true, None),
            ("respond-async=false", false, None),
            ("wait=1, wait=2", false, Some(1)),
            ("wait=x, wait=2", false, None),
            ("return=minimal; foo=\"some, respond-async\", handling=lenient", false, None),
            ("foo=\"a\\\", respond-async\"", false, None),
            ("foo=\"a\\\\\", respond-async", true, None),
            ("foo=\"unclosed, respond-async", false, None),
            (",, ,respond-async,,", true, None),
            ("wait", false, None),
            ("wait=", false, None),
            ("wait=-1", false, None),
            ("wait=+1", false, None),
            ("wait=1.5", false, None),
            ("wait=1e3", false, None),
            ("wait=\"10", false, None),
            ("wait=10\"", false, None),
            ("wait=\"10\"0", false, None),
            ("wait=١٠", false, None),
            ("wait=0", false, Some(0)),
            ("wait=000010", false, Some(10)),
            ("wait=4294967295", false, Some(u32::MAX)),
            ("wait=4294967296", false, Some(u32::MAX)),
            ("wait=99999999999999999999999999999999", false, Some(u32::MAX)),
            ("wait10, respond-async-not, xrespond-async", false, None),
        ] {
            assert_eq!(parse(Some(header)), prefer(respond_async, wait), "{header}");
        }
        assert_eq!(parse(None), Prefer::default());
    }

    #[test]
    fn only_requested_preferences_are_reported_as_applied() {
        let said = |p: Prefer, wait, done| p.applied(wait, done);
        assert_eq!(said(prefer(false, None), Some(10), true), None);
        assert_eq!(said(prefer(true, Some(10)), None, false), None);
        assert_eq!(said(prefer(true, None), None, true).unwrap(), "respond-async");
        assert_eq!(said(prefer(false, Some(90)), Some(30), false).unwrap(), "wait=30");
        assert_eq!(said(prefer(true, Some(10)), Some(10), true).unwrap(), "respond-async, wait=10");
    }

    proptest! {
        #[test]
        fn any_text_may_be_read(header in ".*") {
            let _ = parse(Some(&header));
        }

        #[test]
        fn any_text_of_the_headers_own_characters_may_be_read(header in "[a-cwit=\",;\\\\ 0-9-]{0,60}") {
            let _ = parse(Some(&header));
        }

        #[test]
        fn what_is_applied_reads_as_what_was_asked(respond_async: bool, wait: Option<u32>) {
            let asked = prefer(respond_async, wait);
            prop_assert_eq!(parse(asked.applied(wait, respond_async).as_deref()), asked);
        }
    }
}
