use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn view(status: &str, more: Value) -> String {
    let mut view = json!({"id": "ctx_1", "status": status, "error": null, "history": [{"status": "created"}],
        "created_at": "2026-11-24T00:00:00.000Z", "updated_at": "2026-11-24T00:00:01.000Z"});
    for (name, value) in more.as_object().unwrap() {
        view[name] = value.clone();
    }
    view.to_string()
}

fn detailed(view: &str, given: Option<&str>) -> Value {
    serde_json::from_str(&Task::read(view).unwrap().detailed(view, given, 9)).unwrap()
}

#[test]
fn every_status_has_its_word() {
    let words = Status::ALL.map(|status| (status.as_str(), word(status)));
    let expected = [
        ("created", "working"),
        ("validated", "working"),
        ("queued", "working"),
        ("executing", "working"),
        ("input_required", "input_required"),
        ("completed", "completed"),
        ("failed", "failed"),
        ("cancelled", "cancelled"),
        ("timed_out", "failed"),
    ];
    assert_eq!(words, expected);
}

#[test]
fn a_call_that_goes_on_is_a_handle() {
    let text = view("executing", json!({"progress": {"at": "x", "data": {"percent": 4}}}));
    let task: Value = serde_json::from_str(&Task::read(&text).unwrap().created(9)).unwrap();
    assert_eq!((&task["resultType"], &task["taskId"]), (&json!("task"), &json!("ctx_1")));
    assert_eq!((&task["status"], &task["ttlMs"]), (&json!("working"), &json!(9)));
    assert_eq!(task["statusMessage"], json!(r#"{"percent":4}"#));
    assert_eq!(task["createdAt"], json!("2026-11-24T00:00:00.000Z"));
}

#[test]
fn an_end_is_inlined() {
    let done = detailed(&view("completed", json!({})), Some("[1]"));
    assert_eq!((&done["resultType"], &done["status"]), (&json!("complete"), &json!("completed")));
    assert_eq!(done["result"]["structuredContent"], json!([1]));
    let error = json!({"error": {"code": "upstream_error", "message": "It \"broke\"."}});
    let failed = detailed(&view("failed", error), None);
    assert_eq!(failed["error"], json!({"code": -32603, "message": "upstream_error: It \"broke\"."}));
    assert!(detailed(&view("cancelled", json!({})), None).get("error").is_none());
    assert!(detailed(&view("queued", json!({})), None).get("result").is_none());
}

#[test]
fn a_question_is_a_form_and_its_answer_the_input() {
    let asking = |schema: Value| {
        let steps = json!([{"status": "input_required"}, {"status": "queued"}, {"status": "input_required"}]);
        view("input_required", json!({"history": steps, "input_request": {"message": "Go on?", "schema": schema}}))
    };
    let form = json!({"type": "object", "properties": {"name": {"type": "string"}}});
    for (schema, shown, content, input) in [
        (form.clone(), form, json!({"name": "Ada"}), r#"{"name":"Ada"}"#),
        (
            json!({"type": "boolean"}),
            json!({"type": "object", "properties": {"input": {"type": "boolean"}}, "required": ["input"]}),
            json!({"input": false}),
            "false",
        ),
        (
            json!(null),
            json!({"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}),
            json!({"input": "yes"}),
            r#""yes""#,
        ),
    ] {
        let text = asking(schema);
        let task = Task::read(&text).unwrap();
        let request = detailed(&text, None)["inputRequests"]["input-2"].clone();
        assert_eq!(request["method"], json!("elicitation/create"));
        assert_eq!((&request["params"]["message"], &request["params"]["requestedSchema"]), (&json!("Go on?"), &shown));
        let says = |key: &str, response: Value| task.answered(&json!({key: response}).to_string());
        let accepted = json!({"action": "accept", "content": content});
        assert_eq!(says("input-2", accepted.clone()), Answered::With(input.into()));
        assert_eq!(says("input-1", accepted), Answered::Not);
        assert_eq!(says("input-2", json!({"action": "decline"})), Answered::Declined);
        assert_eq!(says("input-2", json!({"action": "accept"})), Answered::Not);
        assert_eq!(task.answered("[]"), Answered::Not);
    }
}

proptest! {
    /// Whatever a service says, what a client is told is JSON.
    #[test]
    fn what_is_told_of_a_task_is_json(message in "\\PC{0,40}", code in "\\PC{0,10}") {
        let broke = json!({"error": {"code": code, "message": message}});
        detailed(&view("failed", broke), None);
        let asks = json!({"input_request": {"message": message, "schema": {"title": code}}, "history": [{"status": "input_required"}]});
        let text = view("input_required", asks);
        let told = detailed(&text, None);
        prop_assert_eq!(told["inputRequests"]["input-1"]["params"]["message"].as_str(), Some(message.as_str()));
        let task = Task::read(&text).unwrap();
        task.answered(&message);
        prop_assert!(serde_json::from_str::<Value>(&task.created(1)).is_ok());
    }
}
