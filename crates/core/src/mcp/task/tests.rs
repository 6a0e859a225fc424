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
    let words = Status::ALL.map(|status| (status.as_str(), word(status, None)));
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
fn a_running_call_is_a_handle() {
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
    let error = json!({"error": {"code": "upstream_timeout", "message": "It \"broke\"."}});
    let failed = detailed(&view("failed", error), None);
    assert_eq!(failed["error"], json!({"code": -32603, "message": "upstream_timeout: It \"broke\"."}));
    assert!(detailed(&view("cancelled", json!({})), None).get("error").is_none());
    assert!(detailed(&view("queued", json!({})), None).get("result").is_none());
}

#[test]
fn a_tool_error_is_a_result_and_a_failure_in_2025() {
    let text = view("failed", json!({"error": {"code": "upstream_error", "message": "It broke."}}));
    let done = detailed(&text, None);
    assert_eq!((&done["status"], &done["result"]["isError"]), (&json!("completed"), &json!(true)));
    assert!(done.get("error").is_none());
    let of_2025 = |text: &str, given: Option<&str>| -> Value {
        serde_json::from_str(&format!("{{{}}}", Task::read(text).unwrap().of_2025(given, 9))).unwrap()
    };
    let task = of_2025(&text, None);
    assert_eq!((&task["status"], &task["ttl"]), (&json!("failed"), &json!(9)));
    assert!(task["pollInterval"].is_u64() && task.get("ttlMs").is_none() && task.get("pollIntervalMs").is_none());
    let passed = view("completed", json!({"tool_result": true}));
    assert_eq!(of_2025(&passed, Some(r#"{"isError":true}"#))["status"], json!("failed"));
    assert_eq!(of_2025(&passed, Some("{}"))["status"], json!("completed"));
}

#[test]
fn each_question_has_a_number_of_its_own() {
    let steps = json!([{"status": "input_required"}, {"status": "queued"}, {"status": "input_required"}]);
    let request = json!({"message": "Go on?", "schema": {"type": "boolean"}});
    let text = view("input_required", json!({"history": steps, "input_request": request}));
    let asked = detailed(&text, None)["inputRequests"]["input-2"].clone();
    assert_eq!(asked["params"]["message"], json!("Go on?"));
    assert_eq!(Task::read(&text).unwrap().question().number, 2);
}

proptest! {
    /// Whatever a service reports, what a client receives is JSON.
    #[test]
    fn the_description_of_a_task_is_json(message in "\\PC{0,40}", code in "\\PC{0,10}") {
        let broke = json!({"error": {"code": code, "message": message}});
        detailed(&view("failed", broke), None);
        let asks = json!({"input_request": {"message": message, "schema": {"title": code}}, "history": [{"status": "input_required"}]});
        let text = view("input_required", asks);
        let described = detailed(&text, None);
        prop_assert_eq!(described["inputRequests"]["input-1"]["params"]["message"].as_str(), Some(message.as_str()));
        let task = Task::read(&text).unwrap();
        task.question().evaluate(&message);
        prop_assert!(serde_json::from_str::<Value>(&task.created(1)).is_ok());
    }
}
