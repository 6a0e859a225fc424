use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::calling::response::CallResult;

fn chunk(content: &str, finish: &str) -> String {
    format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{content}"}},"finish_reason":{finish}}}]}}"#)
}

/// Reads a stream in pieces of this size; gives what it is, and what was handed on.
fn read(text: &[u8], size: usize) -> (CallResult, Vec<String>) {
    let (mut reader, mut handed) = (Reader::default(), Vec::new());
    for piece in text.chunks(size) {
        if reader.push(piece, |chunk| handed.push(chunk.to_string())) == Step::Over {
            break;
        }
    }
    (reader.end(None), handed)
}

/// The content of the answer; of one that is an error, the error.
fn stated_cause(answer: CallResult) -> Result<String, String> {
    match answer {
        CallResult::Http { status: 200, is_json: true, body, .. } => {
            let value: Value = serde_json::from_slice(&body).map_err(|_| "no JSON".to_string())?;
            match value.get("error") {
                Some(error) => Err(error.to_string()),
                None => Ok(value["choices"][0]["message"]["content"].as_str().unwrap_or("null").into()),
            }
        }
        CallResult::Broken => Err("broken".into()),
        CallResult::TooLarge { .. } => Err("too large".into()),
        other => Err(format!("{other:?}")),
    }
}

/// Streams as servers send them, `{a}` and so on standing for chunks, and what they come to.
#[test]
fn streams_are_read_however_they_are_framed() {
    let (half, end) = (chunk("He", "null"), chunk("y", "\"stop\""));
    for (text, expected) in [
        ("data: {half}\n\ndata: {end}\n\ndata: [DONE]\n\n", Ok("Hey")),
        ("\u{feff}data: {half}\n\ndata: {end}\n\ndata: [DONE]\n\n", Ok("Hey")),
        ("\n\ndata:{half}\r\n\r\ndata:{end}\r\n\r\ndata:[DONE]\r\n\r\n", Ok("Hey")),
        ("data: {half}\r\rdata: {end}\r\r", Ok("Hey")),
        ("data: {half}\n\ndata: {end}", Ok("Hey")),
        ("data: {half}\n\ndata: {end}\n", Ok("Hey")),
        ("data: {half}\n\ndata: {end}\n\ndata: [DONE]", Ok("Hey")),
        (": hello\n\ndata: {half}\n\n: still there\n\ndata: {end}\n\n", Ok("Hey")),
        ("data:\n\ndata: {half}\n\nevent: keepalive\ndata:\n\ndata\n\ndata: {end}\n\n", Ok("Hey")),
        (
            "event: ping\ndata: {\"type\": \"ping\"}\n\ndata: {half}\n\ndata: null\n\ndata: {}\n\ndata: {end}\n\n",
            Ok("Hey"),
        ),
        ("id: 1\nevent: message\nretry: 5\ndata: {half}\n\nid: 2\ndata: {end}\n\n", Ok("Hey")),
        ("data: {half}\n\ndata: {end}\n\ndata: [DONE]\n\ndata: {half}\n\n", Ok("Hey")),
        // Cut off.
        ("data: {half}\n\n", Err("broken")),
        ("data: {half}\n\ndata: {\"choices\":[{\"ind", Err("broken")),
        ("data: {half}\n\ndata: {\"choices\":[{\"ind\n\n", Err("no JSON")),
        ("data: [DONE]\n\n", Err("broken")),
        (
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\ndata: [DONE]\n\n",
            Err("broken"),
        ),
        (": hello\n\n", Err("broken")),
        ("", Err("broken")),
        // The end mark of the protocol is an end, if there was any text.
        ("data: {half}\n\ndata: [DONE]\n\n", Ok("He")),
        // Errors.
        ("data: {half}\n\nevent: error\ndata: too busy now\n\n", Err("\"too busy now\"")),
        ("event: error\ndata: {\"code\": 5}\n\n", Err("{\"code\":5}")),
        ("event: error\ndata: {\"error\": {\"code\": 5}}\n\n", Err("{\"code\":5}")),
        ("data: {half}\n\ndata: {\"error\": {\"code\": 5}}\n\ndata: [DONE]\n\n", Err("{\"code\":5}")),
        (
            "data: {\"object\": \"error\", \"message\": \"a\"}\n\ndata: [DONE]\n\n",
            Err("{\"message\":\"a\",\"object\":\"error\"}"),
        ),
        ("data: {half}\n\ndata: Internal Server Error\n\n", Err("\"Internal Server Error\"")),
        ("data: {half}\n\ndata: upstream timed out", Err("\"upstream timed out\"")),
        // Whole after all.
        ("{\"choices\":[{\"message\":{\"content\":\"Hey\"}}]}", Ok("Hey")),
        ("\u{feff} \n{\n\"choices\":[{\"message\":{\"content\":\"Hey\"}}]}", Ok("Hey")),
        (
            "data: {\"object\":\"chat.completion\",\"choices\":[{\"index\":0,\"message\":{\"content\":\"Hey\"},\"finish_reason\":\"stop\"}]}\n\n",
            Ok("Hey"),
        ),
        ("{\"error\":\"a\"}", Err("\"a\"")),
        ("<html>data: {half}\n\n</html>", Err("no JSON")),
        ("no stream", Err("no JSON")),
    ] {
        let text = text.replace("{half}", &half).replace("{end}", &end);
        for size in [1, 7, 1000] {
            let seen = stated_cause(read(text.as_bytes(), size).0);
            assert_eq!(seen.as_deref().map_err(String::as_str), expected, "{text}");
        }
    }
}

#[test]
fn only_chunks_are_handed_on() {
    let (half, end) = (chunk("He", "null"), chunk("y", "\"stop\""));
    let text =
        format!("data: {half}\n\nevent: ping\ndata: {{}}\n\ndata: {{}}\n\ndata: {end}\n\ndata: {{\"error\":1}}\n\n");
    assert_eq!(read(text.as_bytes(), 9).1, [half, end]);
}

#[test]
fn an_interruption_counts_only_before_the_response_is_complete() {
    let end = format!("data: {}\n\n", chunk("Hey", "\"stop\""));
    let broke = CallResult::TimedOut { deadline: true };
    let ended = |text: &str| {
        let mut reader = Reader::default();
        let step = reader.push(text.as_bytes(), |_| {});
        (step, reader.end(Some(broke.clone())))
    };
    let (step, answer) = ended(&end);
    assert_eq!((step, stated_cause(answer).as_deref()), (Step::Whole, Ok("Hey")));
    for text in ["data: {}\n\n".to_string(), "{\"choices\":[".into(), format!("data: {}\n\n", chunk("H", "null"))] {
        let (step, answer) = ended(&text);
        assert!(step == Step::More && matches!(answer, CallResult::TimedOut { deadline: true }), "{text}");
    }
}

#[test]
fn one_event_is_bounded_and_all_of_them_are_not() {
    let end = format!("data: {}\n\n", chunk("Hey", "\"stop\""));
    let comment = format!(": {}\n\n", "x".repeat(MAX_ANSWER_BYTES));
    let padding = format!("data: {}\n\n", json!({"choices": [], "obfuscation": "x".repeat(MAX_ANSWER_BYTES / 2)}));
    let text = [comment.as_str(), &padding, &padding, &padding, &end].concat();
    assert_eq!(stated_cause(read(text.as_bytes(), 64 * 1024).0).as_deref(), Ok("Hey"));
    for endless in ["data: ", "x", "data: {\"a\":\"", "event: "] {
        let text = format!("{endless}{}", "x".repeat(MAX_ANSWER_BYTES + 1));
        assert_eq!(stated_cause(read(text.as_bytes(), 64 * 1024).0), Err("too large".into()), "{endless}");
    }
    let lines = format!("data: {}\n", "x".repeat(1000)).repeat(MAX_ANSWER_BYTES / 1000 + 1);
    assert_eq!(stated_cause(read(lines.as_bytes(), 64 * 1024).0), Err("too large".into()));
}

#[test]
fn a_stream_where_none_was_asked_for_is_put_together() {
    let http = |body: String| CallResult::Http {
        status: 200,
        is_json: false,
        retry_after_ms: None,
        location: None,
        body: body.into_bytes(),
    };
    let stream = format!("data: {}\n\ndata: {}\n\n", chunk("He", "null"), chunk("y", "\"stop\""));
    assert_eq!(stated_cause(whole(http(stream))).as_deref(), Ok("Hey"));
    assert_eq!(stated_cause(whole(http("\u{feff}{\"choices\":[]}".into()))).as_deref(), Ok("null"));
    assert!(matches!(whole(http("data".into())), CallResult::Http { is_json: false, .. }));
    assert!(matches!(whole(http("<html>".into())), CallResult::Http { is_json: false, .. }));
}

proptest! {
    #[test]
    fn any_bytes_are_read_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..300), size in 1usize..50) {
        let _ = read(&bytes, size);
    }

    #[test]
    fn any_lines_are_read_to_an_end(text in "(data: |event: error\n|[a-z{}\\[\\]\":,\n]|\r|\"choices\":){0,60}", size in 1usize..20) {
        let one = stated_cause(read(text.as_bytes(), size).0);
        prop_assert_eq!(one, stated_cause(read(text.as_bytes(), 1000).0));
    }
}
