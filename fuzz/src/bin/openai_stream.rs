//! A streamed chat response is the same in pieces of any size, and is JSON again when it is complete.
#![no_main]

use libfuzzer_sys::fuzz_target;
use narthex_core::base::json::MARK;
use narthex_core::calling::openai::stream::{Reader, Step, whole};
use narthex_core::calling::response::CallResult;
use serde_json::value::RawValue;

/// The body of a response, or how the call ended without one.
fn body(result: CallResult) -> Result<Vec<u8>, String> {
    match result {
        CallResult::Http { status: 200, is_json: true, body, .. } => Ok(body),
        other => Err(format!("{other:?}")),
    }
}

/// Reads a stream in pieces of this size: the result, and the chunks that were passed on.
fn read(stream: &[u8], size: usize, broke: Option<CallResult>) -> (Result<Vec<u8>, String>, Vec<String>) {
    let (mut reader, mut chunks) = (Reader::default(), Vec::new());
    for piece in stream.chunks(size.max(1)) {
        if reader.push(piece, |chunk| chunks.push(chunk.to_owned())) == Step::Over {
            break;
        }
    }
    (body(reader.end(broke)), chunks)
}

fuzz_target!(|input: &[u8]| {
    // The last byte says how long pieces are.
    let Some((size, stream)) = input.split_last() else { return };
    // Whitespace at the beginning counts only if it comes in one piece with what follows.
    if stream.strip_prefix(MARK).unwrap_or(stream).first().is_none_or(u8::is_ascii_whitespace) {
        return;
    }
    let (result, chunks) = read(stream, stream.len(), None);
    assert_eq!(read(stream, usize::from(*size), None), (result.clone(), chunks.clone()));

    for chunk in &chunks {
        let chunk = chunk.trim();
        assert!(chunk.starts_with('{') && chunk.ends_with('}'), "{chunk}");
    }
    if let Ok(body) = &result {
        assert!(body.len() <= 8 * stream.len() + 1024, "{} of {}", body.len(), stream.len());
        // An empty body stands for a chunk that cannot be read.
        if !chunks.is_empty() && !body.is_empty() {
            let text = str::from_utf8(body).expect("UTF-8");
            serde_json::from_str::<&RawValue>(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        }
    }
    // A stream that breaks off is complete, or was lost.
    let (broken, _) = read(stream, stream.len(), Some(CallResult::Lost));
    assert!(broken == result || broken == Err("Lost".into()), "{broken:?} {result:?}");
    // A stream is recognized where none was requested.
    let answer =
        CallResult::Http { status: 200, is_json: true, retry_after_ms: None, location: None, body: stream.to_vec() };
    let found = body(whole(answer));
    assert!(!stream.starts_with(b"data:") || found == result, "{found:?} {result:?}");
});
