//! The outcome of a call: the context it created, as a tool result.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::response::RpcError;
use super::error::Error;
use super::passthrough;
use super::responses::{tool_error, tool_result};
use super::tool::forwarded_result;
use crate::base::content::Content;
use crate::base::json::Fault;
use crate::context::status::Status;
use crate::http::problem::{Code, Problem};

#[derive(Deserialize)]
struct ContextOutcome<'a> {
    status: Status,
    #[serde(borrow, default)]
    error: Option<FailureView<'a>>,
    #[serde(default)]
    tool_result: bool,
    #[serde(default)]
    content: Content,
}

/// The error of a context's public view.
#[derive(Deserialize)]
pub(super) struct FailureView<'a> {
    #[serde(borrow)]
    pub code: Cow<'a, str>,
    #[serde(borrow)]
    pub message: Cow<'a, str>,
}

/// The result of a context that has ended or requests input. `view` is its public view. A failed context is a result
/// too: the call was served, the work failed.
pub fn of(legacy: bool, id: &str, view: &str, result: Option<&str>) -> String {
    let Ok(outcome) = serde_json::from_str::<ContextOutcome<'_>>(view) else {
        return tool_error(legacy, "The gateway could not read the outcome of the call.", Some(id));
    };
    let message = match (outcome.status, &outcome.error) {
        (Status::Completed, _) if result.is_none() && !outcome.content.is_full() => {
            "content_not_kept: The call is complete. Its result was only the response to it, and is not kept.".into()
        }
        (Status::Completed, _) if outcome.tool_result => return forwarded_result(legacy, result.unwrap_or("{}"), id),
        (Status::Completed, _) => return tool_result(legacy, result, id),
        (Status::InputRequired, _) => {
            format!(
                "The service requests input: see input_request in GET /v1/contexts/{id}, and answer with POST /v1/contexts/{id}/input."
            )
        }
        (_, Some(error)) => format!("{}: {}", error.code, error.message),
        (status, None) => format!("The call ended with the status {}.", status.as_str()),
    };
    tool_error(legacy, &message, Some(id))
}

/// The JSON-RPC error with which an upstream rejected the call, if that is why the context failed: it is forwarded
/// unchanged.
pub fn refusal_of(legacy: bool, view: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct FailedContext<'a> {
        #[serde(borrow, default)]
        error: Option<Details<'a>>,
    }
    #[derive(Deserialize)]
    struct Details<'a> {
        #[serde(borrow, default)]
        details: Option<&'a RawValue>,
    }
    let details = serde_json::from_str::<FailedContext<'_>>(view).ok()?.error?.details?;
    // For an error status, the whole message is stored.
    let error = RpcError::read(details).or_else(|| RpcError::of_body(details.get().as_bytes()));
    error.and_then(|error| passthrough::error(&error.whole, legacy))
}

/// A rejection that a model can act on is a result; any other is an error.
pub fn rejection(legacy: bool, problem: Problem) -> Result<String, Error> {
    match problem.code {
        Code::ValidationFailed => {
            let faults: Vec<String> = problem.errors.iter().map(fault).collect();
            Ok(tool_error(legacy, &format!("Invalid arguments: {}", faults.join("; ")), None))
        }
        Code::NoServiceAvailable | Code::QueueFull => {
            Ok(tool_error(legacy, &format!("{}: {}", problem.code.as_str(), problem.detail), None))
        }
        _ => Err(problem.into()),
    }
}

/// In MCP, the parameters of a context are called arguments.
fn fault(fault: &Fault) -> String {
    let pointer = fault.pointer.strip_prefix("#/parameters").unwrap_or(&fault.pointer);
    if pointer.is_empty() { fault.detail.to_string() } else { format!("{pointer} {}", fault.detail) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn result(view: &Value, given: Option<&str>) -> Value {
        serde_json::from_str(&of(true, "ctx_1", &view.to_string(), given)).unwrap()
    }

    #[test]
    fn a_failed_context_is_an_error_result() {
        let error =
            json!({"code": "upstream_timeout", "message": "It took too long.", "service": "a", "details": null});
        let failed = result(&json!({"status": "timed_out", "error": error, "id": "ctx_1"}), None);
        assert_eq!(failed["isError"], json!(true));
        assert_eq!(failed["content"][0]["text"], json!("upstream_timeout: It took too long."));
        assert_eq!(failed["_meta"]["narthex/context"], json!("ctx_1"));
        let cancelled = result(&json!({"status": "cancelled", "error": null}), None);
        assert_eq!(cancelled["content"][0]["text"], json!("The call ended with the status cancelled."));
        let done = result(&json!({"status": "completed", "error": null}), Some(r#"{"a":1}"#));
        assert_eq!((&done["isError"], &done["structuredContent"]), (&json!(false), &json!({"a": 1})));
        assert_eq!(result(&json!({"status": "input_required"}), None)["isError"], json!(true));
        assert_eq!(result(&json!(7), None)["isError"], json!(true));
    }

    #[test]
    fn arguments_that_do_not_fit_are_named_all_of_them() {
        let faults =
            vec![Fault::new("#/parameters", "needs the member \"text\""), Fault::new("#/parameters/a", "must be 1")];
        let text = rejection(true, Problem::invalid(faults)).unwrap();
        let result: Value = serde_json::from_str(&text).unwrap();
        let expected = "Invalid arguments: needs the member \"text\"; /a must be 1";
        assert_eq!(result["content"][0]["text"], json!(expected));
        assert!(text.contains(r#""isError":true"#));
    }

    #[test]
    fn rejections_of_an_upstream_are_forwarded_unchanged() {
        let with = |details: Value| {
            let view =
                json!({"status": "failed", "error": {"code": "upstream_error", "message": "no", "details": details}});
            refusal_of(false, &view.to_string()).map(|text| serde_json::from_str::<Value>(&text).unwrap())
        };
        let error = json!({"code": -32021, "message": "no", "data": {"requiredCapabilities": {}}});
        assert_eq!(with(error.clone()), Some(error.clone()));
        assert_eq!(with(json!({"jsonrpc": "2.0", "id": 1, "error": error.clone()})), Some(error.clone()));
        assert_eq!(with(json!({"error": error})), None);
        assert_eq!(with(json!({"code": "busy", "message": "no"})), None);
        assert_eq!(with(json!(null)), None);
        assert_eq!(refusal_of(false, r#"{"status":"completed","error":null}"#), None);
    }

    #[test]
    fn what_a_model_cannot_correct_is_an_error() {
        for code in [Code::RateLimited, Code::PermissionDenied, Code::Unauthenticated, Code::Internal] {
            assert_eq!(rejection(false, Problem::new(code, "no")).unwrap_err().status(), code.status());
        }
        for code in [Code::QueueFull, Code::NoServiceAvailable] {
            assert!(rejection(false, Problem::new(code, "later")).is_ok());
        }
    }
}
