//! What is sent on is always a valid `traceparent` and `tracestate`, and is accepted again as it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use narthex_core::http::trace_context::TraceContext;
use narthex_fuzz::two_texts;

fuzz_target!(|input: &[u8]| {
    let Some((parent, state)) = two_texts(input) else { return };
    let trace = TraceContext::accept(Some(parent), Some(state), [7; 24]);
    let header = trace.header();
    let parts: Vec<&str> = header.split('-').collect();
    assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 32, 16, 2], "{header}");
    assert!(header.bytes().all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b)), "{header}");
    assert!(trace.trace_id != [0; 16] && trace.parent_id != [0; 8] && trace.flags <= 3);
    let again = TraceContext::accept(Some(&header), trace.state.as_deref(), [7; 24]);
    assert_eq!(again, trace);
    let Some(state) = trace.state else { return };
    let members: Vec<&str> = state.split(',').collect();
    assert!(state.len() <= 512 && (1..=32).contains(&members.len()));
    let mut keys: Vec<&str> = members.iter().filter_map(|member| member.split('=').next()).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), members.len(), "{state}");
});
