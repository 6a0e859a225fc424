//! Server-Sent Events are the same in pieces of any size, and what is kept of them is bounded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use narthex_core::http::sse::EventReader;

fuzz_target!(|input: &[u8]| {
    // The last byte says how long pieces are.
    let Some((size, stream)) = input.split_last() else { return };
    let mut whole = EventReader::default();
    let expected = whole.push(stream);
    let mut pieces = EventReader::default();
    let mut found = Vec::new();
    for piece in stream.chunks(usize::from(*size).max(1)) {
        found.extend(pieces.push(piece));
        assert!(pieces.held() <= 3 * stream.len());
    }
    assert_eq!(found, expected);
    assert_eq!((pieces.held(), pieces.resumption()), (whole.held(), whole.resumption()));
    assert!(pieces.resumption().is_none_or(|(id, _)| (1..=1024).contains(&id.len())));
    // Bytes that are not UTF-8 become three.
    let kept: usize = found.iter().map(|event| event.data.len()).sum();
    assert!(kept <= 3 * stream.len());
    assert!(found.iter().all(|event| event.name.len() <= 256 && !event.name.contains(['\n', '\r'])));
    assert_eq!(pieces.take_unfinished(), whole.take_unfinished());
});
