use super::*;

fn converted(body: Value) -> Value {
    request(body, "gpt-5").unwrap()
}

fn with(members: Value) -> Value {
    let mut expected = json!({"model": "gpt-5", "messages": []});
    expected.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    expected
}

fn faults(body: Value) -> Vec<String> {
    let faults = request(body, "gpt-5").unwrap_err();
    faults.into_iter().map(|fault| fault.pointer).collect()
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text, "cache_control": {"type": "ephemeral"}})
}

#[test]
fn a_conversation_becomes_messages() {
    let body = json!({"model": "claude", "max_tokens": 100, "system": "Be kind.", "messages": [
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "s"},
            {"type": "redacted_thinking", "data": "d"},
            text("Hi"), text(", you."),
        ]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm.", "signature": "s"}]},
        {"role": "user", "content": [text("A"), text("B")]},
        {"role": "system", "content": [text("Rhyme.")]},
    ]});
    let plain = |text: &str| json!({"type": "text", "text": text});
    assert_eq!(
        converted(body),
        with(json!({"max_completion_tokens": 100, "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Hello."},
            {"role": "assistant", "content": "Hi, you."},
            {"role": "user", "content": [plain("A"), plain("B")]},
            {"role": "system", "content": "Rhyme."},
        ]}))
    );
    let body = json!({"messages": [], "system": [text("x-anthropic-billing-header: cch=1;"), text("A"), text("B")]});
    assert_eq!(
        converted(body)["messages"],
        json!([{"role": "system", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]}])
    );
    assert_eq!(converted(json!({"messages": [], "system": ""})), with(json!({})));
}

#[test]
fn pictures_and_documents_become_parts() {
    let body = json!({"messages": [{"role": "user", "content": [
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0="}},
        {"type": "document", "title": "a.pdf", "citations": {"enabled": false},
         "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}},
    ]}]});
    assert_eq!(
        converted(body)["messages"][0]["content"],
        json!([
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0="}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
        ])
    );
}

#[test]
fn calls_and_their_results_become_messages() {
    let body = json!({"messages": [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": [
            text("Let me see."),
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Berlin"}},
            {"type": "tool_use", "id": "toolu_2", "name": "weather", "input": {}, "caller": {"type": "direct"}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "Sunny"},
            {"type": "tool_result", "tool_use_id": "toolu_2", "is_error": true, "content": [
                text("Failed"), {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
            ]},
            {"type": "tool_result", "tool_use_id": "toolu_3"},
            text("Well?"),
        ]},
    ]});
    let messages = converted(body)["messages"].clone();
    let arguments = |at: usize| -> Value {
        let pointer = format!("/1/tool_calls/{at}/function/arguments");
        serde_json::from_str(messages.pointer(&pointer).unwrap().as_str().unwrap()).unwrap()
    };
    assert_eq!(arguments(0), json!({"city": "Berlin"}));
    assert_eq!(messages[1]["tool_calls"][1]["function"], json!({"name": "weather", "arguments": "{}"}));
    assert_eq!(messages[1]["content"], "Let me see.");
    assert_eq!(messages[1]["tool_calls"][0]["type"], "function");
    let picture = json!({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}});
    assert_eq!(
        messages.as_array().unwrap()[2..],
        [
            json!({"role": "tool", "tool_call_id": "toolu_1", "content": "Sunny"}),
            json!({"role": "tool", "tool_call_id": "toolu_2", "content": "Failed"}),
            json!({"role": "tool", "tool_call_id": "toolu_3", "content": ""}),
            json!({"role": "user", "content": [picture, {"type": "text", "text": "Well?"}]}),
        ]
    );
}

#[test]
fn tools_and_the_choice_between_them_are_converted() {
    let schema = json!({"type": "object", "properties": {}});
    let tools = json!([{"name": "f", "description": "F.", "input_schema": schema, "strict": true, "type": "custom",
                        "cache_control": {"type": "ephemeral"}, "eager_input_streaming": true,
                        "allowed_callers": ["direct"], "defer_loading": false, "input_examples": []}]);
    let function = json!({"name": "f", "description": "F.", "parameters": schema, "strict": true});
    let named = json!({"type": "function", "function": {"name": "f"}});
    for (choice, expected, parallel) in [
        (json!(null), json!(null), json!(null)),
        (json!({"type": "auto", "disable_parallel_tool_use": true}), json!("auto"), json!(false)),
        (json!({"type": "any", "disable_parallel_tool_use": false}), json!("required"), json!(null)),
        (json!({"type": "none"}), json!("none"), json!(null)),
        (json!({"type": "tool", "name": "f"}), named, json!(null)),
    ] {
        let made = converted(json!({"messages": [], "tools": tools, "tool_choice": choice}));
        assert_eq!(made["tools"], json!([{"type": "function", "function": function}]));
        assert_eq!((&made["tool_choice"], &made["parallel_tool_calls"]), (&expected, &parallel));
    }
    let body = json!({"messages": [], "tools": [], "tool_choice": {"type": "auto"}});
    assert_eq!(converted(body), with(json!({})));
}

#[test]
fn sampling_and_bounds_are_converted() {
    let body = json!({
        "messages": [], "max_tokens": 10, "temperature": 0.5, "top_p": 0.9, "stop_sequences": ["a", "b"],
        "stream": true,
        "metadata": {"user_id": "u"}, "service_tier": "standard_only", "speed": "standard", "container": null,
        "cache_control": {"type": "ephemeral"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    });
    assert_eq!(
        converted(body),
        with(json!({
            "max_completion_tokens": 10, "temperature": 0.5, "top_p": 0.9, "stop": ["a", "b"], "stream": true,
            "stream_options": {"include_usage": true}, "user": "u", "service_tier": "default",
        }))
    );
    assert_eq!(converted(json!({"messages": [], "stream": false})), with(json!({"stream": false})));
}

#[test]
fn a_long_user_id_becomes_its_digest() {
    let user = |id: &str| converted(json!({"messages": [], "metadata": {"user_id": id}}))["user"].clone();
    assert_eq!(user(&"a".repeat(64)), "a".repeat(64));
    assert_eq!(user(&"a".repeat(65)), "635361c48bb9eab14198e76ea8ab7f1a41685d6ad62aa9146d301d4f17eb0ae0");
}

#[test]
fn thinking_becomes_an_effort() {
    for (thinking, config, effort) in [
        (json!({"type": "enabled", "budget_tokens": 1024}), json!(null), json!("low")),
        (json!({"type": "enabled", "budget_tokens": 10000}), json!({}), json!("medium")),
        (json!({"type": "enabled", "budget_tokens": 31999, "display": "omitted"}), json!(null), json!("high")),
        (json!({"type": "adaptive", "display": "summarized"}), json!({"effort": "xhigh"}), json!("xhigh")),
        (json!({"type": "enabled", "budget_tokens": 1024}), json!({"effort": "max"}), json!("max")),
        (json!({"type": "adaptive"}), json!(null), json!(null)),
        (json!({"type": "disabled"}), json!(null), json!(null)),
        (json!(null), json!({"effort": "low"}), json!("low")),
    ] {
        let made = converted(json!({"messages": [], "thinking": thinking, "output_config": config}));
        assert_eq!(made["reasoning_effort"], effort, "{thinking} {config}");
    }
}

#[test]
fn structured_output_is_converted() {
    let schema = json!({"type": "object", "additionalProperties": false});
    let format = json!({"type": "json_schema", "schema": schema});
    let expected =
        json!({"type": "json_schema", "json_schema": {"name": "response", "strict": true, "schema": schema}});
    for body in
        [json!({"messages": [], "output_config": {"format": format}}), json!({"messages": [], "output_format": format})]
    {
        assert_eq!(converted(body)["response_format"], expected);
    }
}

#[test]
fn what_has_no_counterpart_is_refused_by_its_place() {
    for (member, value) in [
        ("top_k", json!(5)),
        ("container", json!("c")),
        ("mcp_servers", json!([])),
        ("context_management", json!({"edits": [{"type": "clear_tool_uses_20250919"}]})),
        ("context_management", json!({"edits": [], "compact": true})),
        ("inference_geo", json!("eu")),
        ("speed", json!("fast")),
        ("diagnostics", json!({})),
        ("service_tier", json!("batch")),
        ("stop_sequences", json!(["a", "b", "c", "d", "e"])),
        ("unheard_of", json!(0)),
    ] {
        let mut body = json!({"messages": []});
        body[member] = value;
        assert_eq!(faults(body), [format!("#/{member}")]);
    }
    for (body, place) in [
        (json!({"thinking": {"type": "between_tools"}}), "#/thinking/type"),
        (json!({"thinking": {"type": "enabled"}}), "#/thinking/budget_tokens"),
        (json!({"output_config": {"task_budget": {}}}), "#/output_config/task_budget"),
        (json!({"output_config": {"format": {"type": "xml"}}}), "#/output_config/format/type"),
        (json!({"metadata": {"other": "x"}}), "#/metadata/other"),
        (json!({"tool_choice": {"type": "some"}}), "#/tool_choice/type"),
        (json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}), "#/tools/0/type"),
        (json!({"tools": [{"name": "f", "input_schema": {}, "defer_loading": true}]}), "#/tools/0/defer_loading"),
    ] {
        assert_eq!(faults(body), [place]);
    }
}

#[test]
fn all_faults_of_a_request_are_reported() {
    let body = json!({
        "top_k": 1,
        "system": [{"type": "image", "source": {}}],
        "messages": [
            {"role": "user", "content": [
                {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
                {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": ""},
                 "citations": {"enabled": true}, "context": "c"},
                {"type": "image", "source": {"type": "file", "file_id": "f"}},
                {"type": "search_result", "content": [], "source": "s", "title": "t"},
                {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "tool_reference", "tool_name": "f"}]},
            ]},
            {"role": "assistant", "content": [
                {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
                {"type": "tool_use", "id": "s", "name": "f", "input": {},
                 "caller": {"type": "code_execution_20250825"}},
            ]},
            {"role": "robot", "content": ""},
            {"role": "assistant", "content": "The answer is ("},
        ],
    });
    assert_eq!(
        faults(body),
        [
            "#/top_k",
            "#/system/0",
            "#/messages/3/role",
            "#/messages/0/content/0/source/type",
            "#/messages/0/content/1/context",
            "#/messages/0/content/1/citations",
            "#/messages/0/content/2/source/type",
            "#/messages/0/content/3",
            "#/messages/0/content/4/content/0",
            "#/messages/1/content/0",
            "#/messages/1/content/1/caller",
            "#/messages/2/role",
        ]
    );
}
