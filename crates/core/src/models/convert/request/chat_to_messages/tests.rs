use super::*;
use proptest::prelude::*;

const LIMITS: Limits = Limits { max_output_tokens: Some(8_192) };

fn converted(body: Value) -> Value {
    request(body, "claude-haiku", &LIMITS).unwrap()
}

/// The members beside the model and the bound.
fn with(members: Value) -> Value {
    let mut expected = json!({"model": "claude-haiku", "max_tokens": 8192, "messages": []});
    expected.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    expected
}

fn faults(body: Value) -> Vec<String> {
    let faults = request(body, "claude-haiku", &LIMITS).unwrap_err();
    faults.into_iter().map(|fault| fault.pointer).collect()
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

#[test]
fn a_conversation_becomes_system_and_turns() {
    let body = json!({"model": "gpt-5", "messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Rhyme."}]},
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Hi.", "refusal": null, "annotations": [], "audio": null},
        {"role": "user", "content": "One more."},
        {"role": "user", "content": [{"type": "text", "text": "And one."}, {"type": "text", "text": ""}]},
    ]});
    assert_eq!(
        converted(body),
        with(json!({
            "system": [text("Be kind."), text("Be brief."), text("Rhyme.")],
            "messages": [
                {"role": "user", "content": [text("Hello.")]},
                {"role": "assistant", "content": [text("Hi.")]},
                {"role": "user", "content": [text("One more."), text("And one.")]},
            ],
        }))
    );
}

#[test]
fn pictures_and_documents_become_blocks() {
    let body = json!({"messages": [{"role": "user", "content": [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "high"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0="}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
    ]}]});
    assert_eq!(
        converted(body)["messages"][0]["content"],
        json!([
            text("What is this?"),
            {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0="}},
            {"type": "document", "title": "a.pdf",
             "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}},
        ])
    );
}

#[test]
fn parallel_calls_and_their_results_become_one_turn_each() {
    let call = |id: &str, arguments: &str| {
        let function = json!({"name": "weather", "arguments": arguments});
        json!({"id": id, "type": "function", "function": function})
    };
    let body = json!({"messages": [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": null,
         "tool_calls": [call("call_1", "{\"city\":\"Berlin\"}"), call("functions.weather:1", "")]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Sunny"},
        {"role": "tool", "tool_call_id": "functions.weather:1", "name": "weather",
         "content": [{"type": "text", "text": "Rain"}]},
        {"role": "user", "content": "Thanks."},
    ]});
    assert_eq!(
        converted(body)["messages"],
        json!([
            {"role": "user", "content": [text("Weather?")]},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Berlin"}},
                {"type": "tool_use", "id": "functions_weather_1", "name": "weather", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": [text("Sunny")]},
                {"type": "tool_result", "tool_use_id": "functions_weather_1", "content": [text("Rain")]},
                text("Thanks."),
            ]},
        ])
    );
}

#[test]
fn tools_and_the_choice_between_them_are_converted() {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    let tools = json!([
        {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": schema,
                                          "strict": true}},
        {"type": "function", "function": {"name": "time"}},
    ]);
    let body = |choice: Value, parallel: Value| {
        let mut body = json!({"messages": [], "tool_choice": choice, "parallel_tool_calls": parallel});
        body["tools"] = tools.clone();
        body
    };
    assert_eq!(
        converted(body(json!(null), json!(null)))["tools"],
        json!([
            {"name": "weather", "description": "The weather.", "input_schema": schema, "strict": true},
            {"name": "time", "input_schema": {"type": "object", "properties": {}}},
        ])
    );
    let named = json!({"type": "function", "function": {"name": "time"}});
    for (choice, parallel, expected) in [
        (json!(null), json!(true), json!(null)),
        (json!(null), json!(false), json!({"type": "auto", "disable_parallel_tool_use": true})),
        (json!("auto"), json!(null), json!({"type": "auto"})),
        (json!("none"), json!(false), json!({"type": "none"})),
        (json!("required"), json!(false), json!({"type": "any", "disable_parallel_tool_use": true})),
        (named, json!(null), json!({"type": "tool", "name": "time"})),
    ] {
        assert_eq!(converted(body(choice, parallel))["tool_choice"], expected);
    }
    // Without tools there is nothing to choose.
    let body = json!({"messages": [], "tools": [], "tool_choice": "auto", "parallel_tool_calls": false});
    assert_eq!(converted(body), with(json!({})));
}

#[test]
fn sampling_and_bounds_are_converted() {
    let body = json!({
        "messages": [], "temperature": 0.5, "top_p": 1, "stop": "END", "stream": true, "max_tokens": 900,
        "max_completion_tokens": 500, "stream_options": {"include_usage": true}, "service_tier": "default", "user": "u",
        "safety_identifier": "s", "n": 1, "store": false, "logprobs": false, "presence_penalty": 0, "logit_bias": {},
        "modalities": ["text"], "metadata": {}, "prompt_cache_key": "k", "seed": null, "verbosity": "medium",
    });
    assert_eq!(
        converted(body),
        with(json!({
            "max_tokens": 500, "temperature": 0.5, "top_p": 1, "stop_sequences": ["END"], "stream": true,
            "service_tier": "standard_only", "metadata": {"user_id": "s"},
        }))
    );
    let stops = json!({"messages": [], "stop": ["a", "b"]});
    assert_eq!(converted(stops)["stop_sequences"], json!(["a", "b"]));
    let unbounded = request(json!({"messages": []}), "claude-haiku", &Limits::default()).unwrap();
    assert_eq!(unbounded["max_tokens"], 4_096);
}

#[test]
fn structured_output_is_converted() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "number"}}, "additionalProperties": false});
    let definition = json!({"name": "answer", "strict": true, "schema": schema});
    let body = json!({"messages": [], "response_format": {"type": "json_schema", "json_schema": definition}});
    assert_eq!(converted(body)["output_config"], json!({"format": {"type": "json_schema", "schema": schema}}));
    let body = json!({"messages": [], "response_format": {"type": "text"}});
    assert_eq!(converted(body), with(json!({})));
}

#[test]
fn an_effort_becomes_thinking() {
    let body = json!({"messages": [], "reasoning_effort": "low"});
    assert_eq!(converted(body.clone())["thinking"], json!({"type": "enabled", "budget_tokens": 4096}));
    let definition = json!({"name": "a", "schema": {"type": "object"}});
    let body = json!({"messages": [], "reasoning_effort": "high",
                      "response_format": {"type": "json_schema", "json_schema": definition}});
    let newer = request(body, "claude-sonnet-5", &LIMITS).unwrap();
    assert_eq!(newer["thinking"], json!({"type": "adaptive", "display": "summarized"}));
    let format = json!({"type": "json_schema", "schema": {"type": "object"}});
    assert_eq!(newer["output_config"], json!({"effort": "high", "format": format}));
}

#[test]
fn there_is_no_budget_while_the_thinking_before_a_call_is_missing() {
    let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let body = |content: Value| {
        json!({"reasoning_effort": "low", "messages": [
            {"role": "user", "content": "Go."},
            {"role": "assistant", "content": content, "tool_calls": [call], "reasoning_content": "Hm."},
            {"role": "tool", "tool_call_id": "c", "content": ""},
        ]})
    };
    let without = converted(body(json!(null)));
    assert_eq!(without["thinking"], Value::Null);
    assert_eq!(without["messages"][2]["content"], json!([{"type": "tool_result", "tool_use_id": "c"}]));
    let thinking = json!({"type": "thinking", "thinking": "Hm.", "signature": "s"});
    let with = converted(body(json!([thinking])));
    assert_eq!(with["thinking"]["type"], "enabled");
    assert_eq!(with["messages"][1]["content"][0], thinking);
}

#[test]
fn what_has_no_counterpart_is_refused_by_its_place() {
    for (member, value) in [
        ("logit_bias", json!({"1": 2})),
        ("n", json!(2)),
        ("logprobs", json!(true)),
        ("top_logprobs", json!(3)),
        ("audio", json!({"voice": "alloy", "format": "wav"})),
        ("modalities", json!(["text", "audio"])),
        ("store", json!(true)),
        ("seed", json!(1)),
        ("frequency_penalty", json!(0.5)),
        ("presence_penalty", json!(-1)),
        ("prediction", json!({"type": "content", "content": "a"})),
        ("web_search_options", json!({})),
        ("functions", json!([])),
        ("function_call", json!("auto")),
        ("metadata", json!({"a": "b"})),
        ("verbosity", json!("low")),
        ("temperature", json!(1.5)),
        ("temperature", json!("warm")),
        ("top_p", json!(1.1)),
        ("service_tier", json!("flex")),
        ("reasoning_effort", json!("enormous")),
        ("max_tokens", json!(-1)),
        ("tool_choice", json!("any")),
        ("top_k", json!(5)),
        ("unheard_of", json!(false)),
    ] {
        let mut body = json!({"messages": []});
        body[member] = value;
        assert_eq!(faults(body), [format!("#/{member}")]);
    }
    assert_eq!(faults(json!({"messages": [], "response_format": {"type": "json_object"}})), ["#/response_format/type"]);
    let choice = json!({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}});
    assert_eq!(faults(json!({"messages": [], "tool_choice": choice})), ["#/tool_choice/type"]);
    let tools = json!([{"type": "function", "function": {"name": "f", "x": 1}}, {"type": "custom", "custom": {}}]);
    assert_eq!(faults(json!({"messages": [], "tools": tools})), ["#/tools/0/function/x", "#/tools/1/type"]);
}

#[test]
fn all_faults_of_a_request_are_reported() {
    let body = json!({
        "n": 3,
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "a"},
                {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
                {"type": "image_url", "image_url": {"url": "ftp://example.com"}},
                {"type": "file", "file": {"file_id": "f"}},
                {"type": "file", "file": {"file_data": "data:text/plain;base64,aa"}},
            ]},
            {"role": "user", "name": "ann", "content": 7},
            {"role": "assistant", "content": null, "audio": {"id": "a"}, "function_call": {"name": "f"}},
            {"role": "assistant", "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "f", "arguments": "[1]"}},
                {"id": "b", "type": "custom", "custom": {"name": "f", "input": ""}},
            ]},
            {"role": "tool", "content": "no id"},
            {"role": "function", "name": "f", "content": ""},
            "what",
        ],
    });
    assert_eq!(
        faults(body),
        [
            "#/n",
            "#/messages/0/content/1",
            "#/messages/0/content/2/image_url/url",
            "#/messages/0/content/3/file/file_id",
            "#/messages/0/content/4/file/file_data",
            "#/messages/1/name",
            "#/messages/1/content",
            "#/messages/2/audio",
            "#/messages/2/function_call",
            "#/messages/3/tool_calls/0/function/arguments",
            "#/messages/3/tool_calls/1/type",
            "#/messages/4/tool_call_id",
            "#/messages/5/role",
            "#/messages/6",
        ]
    );
    assert_eq!(request(json!([]), "m", &LIMITS).unwrap_err()[0].pointer, "#");
}

proptest! {
    #[test]
    fn any_request_is_converted_or_refused(
        role in "system|user|assistant|tool|x",
        content in prop_oneof![
            Just(Value::Null), any::<String>().prop_map(Value::from), any::<Vec<u8>>().prop_map(Value::from),
        ],
        url in "(data:|https://)?[a-z/]*(;base64,)?[a-z]*",
        arguments in "[{}\\[\\]:\"a1,]{0,6}",
    ) {
        let body = json!({"messages": [
            {"role": role, "content": content, "tool_call_id": "c",
             "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": arguments}}]},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]},
        ]});
        let _ = request(body, "claude-haiku", &LIMITS);
    }
}
