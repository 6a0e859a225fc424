use super::*;

const LIMITS: Limits = Limits { max_output_tokens: Some(8_192) };

fn chat(body: Value) -> Value {
    to_chat(body, "m").unwrap()
}

fn messages(body: Value) -> Value {
    to_messages(body, "claude-haiku", &LIMITS).unwrap()
}

fn places(faults: Vec<Fault>) -> Vec<String> {
    faults.into_iter().map(|fault| fault.pointer).collect()
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

/// A conversation with all kinds of items.
fn conversation() -> Value {
    json!([
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "What is this?"},
            {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0=", "detail": "auto"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
        ]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}],
         "encrypted_content": "anthropic.thinking.sig", "status": "completed"},
        {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "phase": "commentary",
         "content": [{"type": "output_text", "text": "I look.", "annotations": [], "logprobs": []}]},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": "{\"at\":1}",
         "status": "completed"},
        {"type": "function_call", "call_id": "call_2", "name": "look", "arguments": "{}", "caller": {"type": "direct"}},
        {"type": "function_call_output", "call_id": "call_1", "output": "A cat."},
        {"type": "function_call_output", "call_id": "call_2", "output": [
            {"type": "input_text", "text": "A dog."},
            {"type": "input_image", "image_url": "https://example.com/dog.png", "detail": "original"},
        ]},
    ])
}

#[test]
fn items_become_chat_messages() {
    let call = |id: &str, arguments: &str| {
        let function = json!({"name": "look", "arguments": arguments});
        json!({"id": id, "type": "function", "function": function})
    };
    let dog = json!({"type": "image_url", "image_url": {"url": "https://example.com/dog.png", "detail": "high"}});
    assert_eq!(
        chat(json!({"instructions": "Be kind.", "input": conversation()})),
        json!({"model": "m", "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [
                text("What is this?"),
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0=", "detail": "auto"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
            ]},
            {"role": "assistant", "content": "I look.",
             "tool_calls": [call("call_1", "{\"at\":1}"), call("call_2", "{}")]},
            {"role": "tool", "tool_call_id": "call_1", "content": "A cat."},
            {"role": "tool", "tool_call_id": "call_2", "content": "A dog."},
            {"role": "user", "content": [dog]},
        ]})
    );
    assert_eq!(chat(json!({"input": "Hi."}))["messages"], json!([{"role": "user", "content": "Hi."}]));
}

#[test]
fn items_become_turns_with_the_thinking_that_was_sealed() {
    let dog = json!({"type": "image", "source": {"type": "url", "url": "https://example.com/dog.png"}});
    let made = messages(json!({"input": conversation(), "reasoning": {"effort": "low", "summary": "auto"}}));
    assert_eq!(
        made,
        json!({"model": "claude-haiku", "max_tokens": 8192, "system": [text("Be brief.")],
               "thinking": {"type": "enabled", "budget_tokens": 4096}, "messages": [
            {"role": "user", "content": [
                text("What is this?"),
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0="}},
                {"type": "document", "title": "a.pdf",
                 "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}},
            ]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
                text("I look."),
                {"type": "tool_use", "id": "call_1", "name": "look", "input": {"at": 1}},
                {"type": "tool_use", "id": "call_2", "name": "look", "input": {}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": [text("A cat.")]},
                {"type": "tool_result", "tool_use_id": "call_2", "content": [text("A dog."), dog]},
            ]},
        ]})
    );
}

#[test]
fn reasoning_of_others_is_not_sent() {
    let item = |sealed: Value| json!({"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": sealed});
    let body = |sealed| json!({"input": [{"role": "user", "content": "Hi."}, item(sealed)]});
    for sealed in [json!("gAAAA"), json!(null)] {
        assert_eq!(messages(body(sealed))["messages"].as_array().unwrap().len(), 1);
    }
    assert_eq!(
        messages(body(json!("anthropic.redacted.data")))["messages"][1]["content"],
        json!([{"type": "redacted_thinking", "data": "data"}])
    );
}

#[test]
fn members_are_converted() {
    let schema = json!({"type": "object"});
    let tool = json!({"type": "function", "name": "f", "description": "F.", "parameters": schema, "strict": false});
    let body = json!({
        "input": "Hi.", "max_output_tokens": 100, "temperature": 0.5, "top_p": 0.9, "stream": true, "store": false,
        "tools": [tool], "tool_choice": {"type": "function", "name": "f"}, "parallel_tool_calls": false,
        "reasoning": {"effort": "high", "summary": "auto"}, "include": ["reasoning.encrypted_content"],
        "text": {"verbosity": "medium",
                 "format": {"type": "json_schema", "name": "a", "schema": schema, "strict": true}},
        "metadata": {"a": "b"}, "service_tier": "auto", "user": "u", "truncation": "disabled", "background": false,
        "prompt_cache_key": "k", "previous_response_id": null, "stream_options": {"include_obfuscation": false},
    });
    let function = json!({"name": "f", "description": "F.", "parameters": schema, "strict": false});
    assert_eq!(
        chat(body.clone()),
        json!({
            "model": "m", "messages": [{"role": "user", "content": "Hi."}], "max_completion_tokens": 100,
            "temperature": 0.5, "top_p": 0.9, "stream": true, "stream_options": {"include_usage": true},
            "tools": [{"type": "function", "function": function}],
            "tool_choice": {"type": "function", "function": {"name": "f"}}, "parallel_tool_calls": false,
            "reasoning_effort": "high", "verbosity": "medium", "service_tier": "auto", "user": "u",
            "prompt_cache_key": "k",
            "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": true}},
        })
    );
    assert_eq!(
        messages(body),
        json!({
            "model": "claude-haiku", "messages": [{"role": "user", "content": [text("Hi.")]}], "max_tokens": 100,
            "temperature": 0.5, "top_p": 0.9, "stream": true,
            "tools": [{"name": "f", "description": "F.", "input_schema": schema, "strict": false}],
            "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": true},
            "service_tier": "auto", "metadata": {"user_id": "u"},
            "output_config": {"format": {"type": "json_schema", "schema": schema}},
        })
    );
}

#[test]
fn a_summary_is_asked_for_only_if_the_client_does() {
    let thinking = |reasoning: Value| {
        to_messages(json!({"input": "Hi.", "reasoning": reasoning}), "claude-sonnet-5", &LIMITS).unwrap()["thinking"]
            .clone()
    };
    assert_eq!(thinking(json!({"effort": "low"})), json!({"type": "adaptive"}));
    let shown = json!({"type": "adaptive", "display": "summarized"});
    assert_eq!(thinking(json!({"effort": "low", "summary": "detailed"})), shown);
}

#[test]
fn a_choice_without_tools_is_left_out() {
    let body = json!({"input": "Hi.", "tools": [], "tool_choice": "auto", "parallel_tool_calls": true});
    assert_eq!(chat(body), json!({"model": "m", "messages": [{"role": "user", "content": "Hi."}]}));
    let tool = json!({"type": "function", "name": "f"});
    let choice = json!({"type": "allowed_tools", "mode": "required", "tools": [tool]});
    let body = json!({"input": "Hi.", "tools": [tool], "tool_choice": choice});
    let function = json!({"type": "function", "function": {"name": "f"}});
    assert_eq!(
        chat(body.clone())["tool_choice"],
        json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [function]}})
    );
    assert_eq!(places(to_messages(body, "m", &LIMITS).unwrap_err()), ["#/tool_choice/type"]);
}

#[test]
fn what_has_no_counterpart_is_refused_by_its_place() {
    for (member, value) in [
        ("store", json!(true)),
        ("background", json!(true)),
        ("previous_response_id", json!("resp_1")),
        ("conversation", json!("conv_1")),
        ("prompt", json!({"id": "p"})),
        ("truncation", json!("auto")),
        ("top_logprobs", json!(2)),
        ("context_management", json!([])),
        ("max_tool_calls", json!(2)),
        ("stop", json!("x")),
    ] {
        let mut body = json!({"input": "Hi."});
        body[member] = value;
        let place = [format!("#/{member}")];
        assert_eq!(places(to_chat(body.clone(), "m").unwrap_err()), place);
        assert_eq!(places(to_messages(body, "m", &LIMITS).unwrap_err()), place);
    }
    let body = json!({
        "input": [
            {"role": "user", "content": [{"type": "input_audio"}, {"type": "input_image", "file_id": "f"},
                                         {"type": "input_file", "file_url": "https://example.com"}]},
            {"type": "item_reference", "id": "i"},
            {"type": "web_search_call", "id": "w"},
            {"type": "function_call", "name": "f", "arguments": "{}", "namespace": "n"},
            "what",
        ],
        "tools": [{"type": "web_search"}, {"type": "custom", "name": "c"}, {"type": "mcp"}],
        "tool_choice": {"type": "web_search"},
        "reasoning": {"mode": "pro"},
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
    });
    let expected = [
        "#/input/0/content/0",
        "#/input/0/content/1/file_id",
        "#/input/0/content/2/file_url",
        "#/input/1/type",
        "#/input/2/type",
        "#/input/3/namespace",
        "#/input/3/call_id",
        "#/input/4",
        "#/tools/0/type",
        "#/tools/1/type",
        "#/tools/2/type",
        "#/tool_choice/type",
        "#/reasoning/mode",
        "#/include/1",
    ];
    assert_eq!(places(to_chat(body.clone(), "m").unwrap_err()), expected);
    assert_eq!(places(to_messages(body, "m", &LIMITS).unwrap_err()), expected);
}

#[test]
fn faults_name_the_members_of_the_client() {
    let body = json!({
        "temperature": 2,
        "max_output_tokens": "many",
        "reasoning": {"effort": "enormous"},
        "text": {"format": {"type": "json_object"}, "verbosity": "high"},
        "tools": [{"type": "function", "name": 7}],
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "x"},
                                         {"type": "input_file", "file_data": "x"}]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "d", "name": "f", "arguments": "nothing"},
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "image_url": "x"}]},
        ],
    });
    let mut found = places(to_messages(body, "m", &LIMITS).unwrap_err());
    found.sort();
    assert_eq!(
        found,
        [
            "#/input/0/content/1/image_url",
            "#/input/0/content/2/file_data",
            "#/input/2/arguments",
            "#/input/3/output/0/image_url",
            "#/max_output_tokens",
            "#/reasoning/effort",
            "#/temperature",
            "#/text/format/type",
            "#/text/verbosity",
            "#/tools/0/name",
        ]
    );
}
