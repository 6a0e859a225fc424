use super::*;
use crate::services::openai_endpoints::{capabilities, path, url};
use crate::services::schema::Schema;

fn own(default: &str) -> RequestModel<'_> {
    RequestModel { default: Some(default), upstream: None }
}

#[test]
fn a_model_is_called_by_the_name_that_the_endpoint_knows() {
    let model = RequestModel { default: Some("small"), upstream: Some("small-2026") };
    for parameters in ["{}", r#"{"model":"small"}"#] {
        let sent = body("embed", parameters, model, StreamRequest::Whole).unwrap();
        assert_eq!(sent, r#"{"model":"small-2026"}"#);
    }
}

#[test]
fn the_gateway_decides_whether_to_stream() {
    let asked =
        r#"{"messages":[{"role":"user","content":"é"}],"stream":true,"stream_options":{"x":1},"temperature":0.10}"#;
    assert_eq!(
        body("chat", asked, own("small"), StreamRequest::Whole).unwrap(),
        r#"{"messages":[{"role":"user","content":"é"}],"model":"small","temperature":0.10}"#
    );
    let streamed = body("chat", r#"{"messages":[],"model":"large"}"#, own("small"), StreamRequest::Stream).unwrap();
    assert_eq!(streamed, r#"{"messages":[],"model":"large","stream":true,"stream_options":{"include_usage":true}}"#);
    assert_eq!(
        body("embed", r#"{"input":"a"}"#, RequestModel::default(), StreamRequest::Stream).unwrap(),
        r#"{"input":"a"}"#
    );
    assert_eq!(body("chat", "[]", RequestModel::default(), StreamRequest::Stream), None);
    let own = body(
        "chat",
        r#"{"messages":[],"stream_options":{"include_usage":false}}"#,
        RequestModel::default(),
        StreamRequest::Stream,
    )
    .unwrap();
    assert_eq!(own, r#"{"messages":[],"stream":true,"stream_options":{"include_usage":false}}"#);
    let alone = body("chat", r#"{"messages":[]}"#, RequestModel::default(), StreamRequest::StreamAlone).unwrap();
    assert_eq!(alone, r#"{"messages":[],"stream":true}"#);
}

#[test]
fn offered_schemas_compile() {
    for capability in capabilities(false) {
        assert!(path(&capability.name).is_some());
        for schema in [&capability.input_schema, &capability.output_schema].into_iter().flatten() {
            Schema::compile(schema.get()).unwrap();
        }
    }
    assert_eq!(url("https://llm.example.com/v1/", "models"), "https://llm.example.com/v1/models");
    assert_eq!(path("other"), None);
}

#[test]
fn an_endpoint_that_refuses_to_stream_is_asked_otherwise() {
    let asked = r#"{"messages":[]}"#;
    for (asks, status, body, expected) in [
        (
            StreamRequest::Stream,
            400,
            r#"{"error":"Unrecognized request argument: stream_options"}"#,
            Some(StreamRequest::StreamAlone),
        ),
        (
            StreamRequest::Stream,
            422,
            r#"{"detail":[{"loc":["body","stream_options"],"msg":"extra"}]}"#,
            Some(StreamRequest::StreamAlone),
        ),
        (
            StreamRequest::Stream,
            400,
            r#"{"error":{"param":"stream","message":"Unsupported value"}}"#,
            Some(StreamRequest::Whole),
        ),
        (StreamRequest::StreamAlone, 400, "Streaming is not supported", Some(StreamRequest::Whole)),
        (StreamRequest::StreamAlone, 400, "stream_options", Some(StreamRequest::Whole)),
        (StreamRequest::Stream, 400, "no healthy upstream", None),
        (StreamRequest::Stream, 400, r#"{"error":"too long"}"#, None),
        (StreamRequest::Stream, 500, "stream", None),
        (StreamRequest::Whole, 400, "stream", None),
    ] {
        assert_eq!(asks.after_refusal(status, body.as_bytes(), asked), expected, "{asks:?} {status} {body}");
    }
    let own = r#"{"messages":[],"stream_options":{"include_usage":false}}"#;
    assert_eq!(StreamRequest::Stream.after_refusal(400, b"stream_options", own), None);
}
