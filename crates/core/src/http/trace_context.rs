//! W3C Trace Context: `traceparent` and `tracestate`, continued from a client and passed on. Headers are read by the
//! rules for version 00 and for future versions, and always written as version 00. A malformed header starts a new
//! trace and is never an error.

use std::fmt::Write;

/// The sampled flag, which every version has.
const SAMPLED: u8 = 0x01;
/// The flags of version 00: sampled, and since Level 2 "the trace id is random". Unknown flags are passed on as zero.
const KNOWN_FLAGS: u8 = 0x03;
const MAX_MEMBERS: usize = 32;
const MAX_STATE: usize = 512;

/// A position in a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// The id of the trace; never all zeros.
    pub trace_id: [u8; 16],
    /// The id of this span; never all zeros.
    pub parent_id: [u8; 8],
    /// Bit 0: sampled. Bit 1: the trace id is random.
    pub flags: u8,
    /// A valid `tracestate`, passed on as it was received.
    pub state: Option<String>,
}

impl TraceContext {
    /// The gateway's own span in the client's trace, or in a new one.
    ///
    /// The arguments are the header values, with repeated headers joined by `", "`, so that a repeated `traceparent` is
    /// malformed. A valid trace id and flags are continued; the parent id is always new. `random` provides the trace id
    /// (the first 16 bytes) and the parent id.
    pub fn accept(traceparent: Option<&str>, tracestate: Option<&str>, random: [u8; 24]) -> TraceContext {
        let mut trace_id = [0; 16];
        let mut parent_id = [0; 8];
        for (to, from) in trace_id.iter_mut().chain(&mut parent_id).zip(random) {
            *to = from;
        }
        let parent_id = not_zero(parent_id);
        match traceparent.and_then(parse) {
            Some((trace_id, flags)) => {
                TraceContext { trace_id, parent_id, flags, state: tracestate.and_then(valid_state) }
            }
            None => TraceContext { trace_id: not_zero(trace_id), parent_id, flags: SAMPLED, state: None },
        }
    }

    /// The `traceparent` to send: `00-<32 hex>-<16 hex>-<2 hex>`.
    pub fn header(&self) -> String {
        format!("00-{}-{}-{:02x}", hex(&self.trace_id), hex(&self.parent_id), self.flags)
    }

    /// The same trace with a new parent id, for an attempt.
    pub fn child(&self, random: [u8; 8]) -> TraceContext {
        TraceContext { parent_id: not_zero(random), ..self.clone() }
    }

    /// The trace id as 32 lower-case hex digits.
    pub fn trace_id_hex(&self) -> String {
        hex(&self.trace_id)
    }
}

/// Trace id and flags of a `traceparent`; `None` if it is malformed.
fn parse(header: &str) -> Option<([u8; 16], u8)> {
    let header = header.trim_matches([' ', '\t']);
    let mut parts = header.splitn(5, '-');
    let version = bytes::<1>(parts.next()?)?;
    let trace_id = bytes::<16>(parts.next()?)?;
    let parent_id = bytes::<8>(parts.next()?)?;
    let [flags] = bytes::<1>(parts.next()?)?;
    let rest = parts.next();
    let flags = match version {
        // Version 00 is exactly this long.
        [0x00] if rest.is_none() => flags & KNOWN_FLAGS,
        [0x00] | [0xff] => return None,
        // In future versions only the sampled flag is certain to have the same meaning.
        [_] => flags & SAMPLED,
    };
    (trace_id != [0; 16] && parent_id != [0; 8]).then_some((trace_id, flags))
}

/// Exactly `N` bytes in lower-case hex; upper case is not allowed.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut out = [0; N];
    for (to, [high, low]) in out.iter_mut().zip(pairs) {
        *to = digit(*high)? << 4 | digit(*low)?;
    }
    Some(out)
}

/// A `tracestate` to pass on, with the first of several members with the same key, and without empty members. `None` if
/// it is empty, too long or malformed, or has too many members.
fn valid_state(header: &str) -> Option<String> {
    let mut members: Vec<(&str, &str)> = Vec::new();
    if header.len() > MAX_STATE {
        return None;
    }
    for member in header.split(',') {
        let member = member.trim_matches([' ', '\t']);
        if member.is_empty() {
            continue;
        }
        let (key, value) = member.split_once('=')?;
        if !valid_key(key) || !valid_value(value) {
            return None;
        }
        if !members.iter().any(|(known, _)| *known == key) {
            members.push((key, member));
        }
    }
    if members.is_empty() || members.len() > MAX_MEMBERS {
        return None;
    }
    let texts: Vec<&str> = members.into_iter().map(|(_, member)| member).collect();
    Some(texts.join(","))
}

/// The grammar of Level 2, a superset of Level 1.
fn valid_key(key: &str) -> bool {
    let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=256).contains(&key.len())
        && key.bytes().next().is_some_and(lower)
        && key.bytes().all(|b| lower(b) || b"_-*/@".contains(&b))
}

fn valid_value(value: &str) -> bool {
    (1..=256).contains(&value.len())
        && value.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'=')
        && !value.ends_with(' ')
}

/// An id of zeros means "no id": random zeros become one.
fn not_zero<const N: usize>(mut id: [u8; N]) -> [u8; N] {
    if id.iter().all(|byte| *byte == 0)
        && let Some(last) = id.last_mut()
    {
        *last = 1;
    }
    id
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const ID: &str = "0af7651916cd43dd8448eb211c80319c";
    const RANDOM: [u8; 24] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24];
    const NEW: &str = "00-0102030405060708090a0b0c0d0e0f10-1112131415161718-01";

    fn out(traceparent: &str) -> String {
        TraceContext::accept(Some(traceparent), None, RANDOM).header()
    }

    fn state(tracestate: &str) -> Option<String> {
        TraceContext::accept(Some(GOOD), Some(tracestate), RANDOM).state
    }

    #[test]
    fn a_valid_trace_is_continued_with_a_new_parent() {
        let trace = TraceContext::accept(Some(GOOD), Some("congo=t61rcWkgMzE"), RANDOM);
        assert_eq!(trace.header(), format!("00-{ID}-1112131415161718-01"));
        assert_eq!(trace.trace_id_hex(), ID);
        assert_eq!(trace.state.as_deref(), Some("congo=t61rcWkgMzE"));
    }

    #[test]
    fn known_flags_are_passed_on() {
        for (flags, after) in [("00", "00"), ("01", "01"), ("03", "03"), ("fe", "02"), ("ff", "03")] {
            let given = format!("00-{ID}-b7ad6b7169203331-{flags}");
            assert_eq!(out(&given), format!("00-{ID}-1112131415161718-{after}"));
        }
    }

    #[test]
    fn future_versions_are_read_and_passed_on_as_00() {
        let wanted = format!("00-{ID}-1112131415161718-01");
        for given in [
            format!("01-{ID}-b7ad6b7169203331-01"),
            format!("cc-{ID}-b7ad6b7169203331-01"),
            format!("cc-{ID}-b7ad6b7169203331-01-"),
            format!("cc-{ID}-b7ad6b7169203331-01-what-the-future-holds"),
            format!("fe-{ID}-b7ad6b7169203331-ff-X"),
            format!(" \t{GOOD} "),
        ] {
            assert_eq!(out(&given), wanted, "{given}");
        }
    }

    #[test]
    fn a_broken_or_absent_header_begins_a_new_trace() {
        assert_eq!(TraceContext::accept(None, Some("a=1"), RANDOM).header(), NEW);
        assert_eq!(TraceContext::accept(None, Some("a=1"), RANDOM).state, None);
        for given in [
            String::new(),
            "00".into(),
            format!("{GOOD}, {GOOD}"),
            format!("{GOOD},{GOOD}"),
            format!("{GOOD}-"),
            format!("{GOOD}-01"),
            format!("{GOOD}."),
            format!("ff-{ID}-b7ad6b7169203331-01"),
            format!("0-{ID}-b7ad6b7169203331-01"),
            format!("000-{ID}-b7ad6b7169203331-01"),
            format!("0x-{ID}-b7ad6b7169203331-01"),
            format!("CC-{ID}-b7ad6b7169203331-01"),
            format!("cc-{ID}-b7ad6b7169203331-01."),
            format!("cc-{ID}-b7ad6b7169203331-0"),
            format!("00-{ID}-b7ad6b7169203331"),
            format!("00-{ID}-b7ad6b7169203331-"),
            format!("00-{ID}-b7ad6b7169203331-1"),
            format!("00-{ID}-b7ad6b7169203331-001"),
            format!("00-{ID}-b7ad6b7169203331-0g"),
            format!("00-{ID}-B7AD6B7169203331-01"),
            format!("00-{}-b7ad6b7169203331-01", ID.to_uppercase()),
            format!("00-{ID}-0000000000000000-01"),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01".into(),
            format!("00-{}-b7ad6b7169203331-01", &ID[1..]),
            format!("00-{ID}0-b7ad6b7169203331-01"),
            format!("00-{ID}-b7ad6b716920333-01"),
            format!("00_{ID}_b7ad6b7169203331_01"),
            format!("00-{ID}--b7ad6b7169203331-01"),
            format!("00-{}é-b7ad6b7169203331-01", &ID[2..]),
        ] {
            assert_eq!(out(&given), NEW, "{given}");
        }
    }

    #[test]
    fn zeros_for_randomness_give_valid_ids() {
        let trace = TraceContext::accept(None, None, [0; 24]);
        assert_eq!(trace.header(), "00-00000000000000000000000000000001-0000000000000001-01");
        assert_eq!(trace.child([0; 8]).parent_id, [0, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn a_child_keeps_everything_but_its_parent_id() {
        let trace = TraceContext::accept(Some(GOOD), Some("a=1"), RANDOM);
        let child = trace.child([9; 8]);
        assert_eq!(child.parent_id, [9; 8]);
        assert_eq!(TraceContext { parent_id: trace.parent_id, ..child }, trace);
    }

    #[test]
    fn a_good_state_is_handed_on() {
        let many: Vec<String> = (0..32).map(|n| format!("k{n}=v")).collect();
        let many = many.join(",");
        for (given, after) in [
            ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
            ("a=1 ,\tb=2", "a=1,b=2"),
            ("a=1,,b=2,", "a=1,b=2"),
            ("a=1,b=2,a=3", "a=1,b=2"),
            ("fw529a3039@dt=FfAAAA;x y", "fw529a3039@dt=FfAAAA;x y"),
            ("0a_-*/=!\"#$%&'()*+-./:;<>?@[\\]^_`{|}~", "0a_-*/=!\"#$%&'()*+-./:;<>?@[\\]^_`{|}~"),
            (&many, &many),
        ] {
            assert_eq!(state(given).as_deref(), Some(after), "{given}");
        }
    }

    #[test]
    fn a_bad_state_is_dropped_whole() {
        let many: Vec<String> = (0..33).map(|n| format!("k{n}=v")).collect();
        for given in [
            "".to_owned(),
            " , ".into(),
            "a".into(),
            "a=".into(),
            "=1".into(),
            "a=1,b".into(),
            "A=1".into(),
            "a b=1".into(),
            "a =1".into(),
            "_a=1".into(),
            "a=b=c".into(),
            "a=é".into(),
            "a=1\u{7f}".into(),
            "a=1\tb".into(),
            many.join(","),
            format!("a={}", "x".repeat(257)),
            format!("{}=1", "a".repeat(257)),
            format!("a={},b={}", "x".repeat(256), "x".repeat(256)),
        ] {
            assert_eq!(state(&given), None, "{given}");
        }
    }

    proptest! {
        #[test]
        fn any_headers_give_a_valid_trace(parent in ".*", tracestate in ".*", random: [u8; 24]) {
            let trace = TraceContext::accept(Some(&parent), Some(&tracestate), random);
            let header = trace.header();
            prop_assert_eq!(header.len(), 55);
            prop_assert!(parse(&header).is_some());
        }

        #[test]
        fn a_written_header_can_be_read(random: [u8; 24], other: [u8; 24]) {
            let first = TraceContext::accept(None, None, random);
            let second = TraceContext::accept(Some(&first.header()), None, other);
            prop_assert_eq!(second.trace_id, first.trace_id);
            prop_assert_eq!(second.flags, first.flags);
        }

        #[test]
        fn a_state_handed_on_is_still_valid(text in "[a-c=, ;@]{0,40}") {
            if let Some(after) = state(&text) {
                prop_assert_eq!(state(&after), Some(after));
            }
        }
    }
}
