//! What came of a call: the context it made, as a tool's result.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::response::RpcError;
use super::error::Error;
use super::passthrough;
use super::responses::{failed, given};
use super::tool::passed;
use crate::base::json::Fault;
use crate::context::status::Status;
use crate::http::problem::{Code, Problem};

#[derive(Deserialize)]
struct Seen<'a> {
    status: Status,
    #[serde(borrow, default)]
    error: Option<Broke<'a>>,
    #[serde(default)]
    tool_result: bool,
}

/// The error of a context, as it is shown.
#[derive(Deserialize)]
pub(super) struct Broke<'a> {
    #[serde(borrow)]
    pub code: Cow<'a, str>,
    #[serde(borrow)]
    pub message: Cow<'a, str>,
}

/// The result of a context that nobody waits for any more: it has ended, or it asks for input. `view` is the context as
/// it is shown. A context that failed is a result too: the call was served, the work was not.
pub fn of(legacy: bool, id: &str, view: &str, result: Option<&str>) -> String {
    let Ok(seen) = serde_json::from_str::<Seen<'_>>(view) else {
        return failed(legacy, "What came of it cannot be read.", Some(id));
    };
    let message = match (seen.status, &seen.error) {
        (Status::Completed, _) if seen.tool_result => return passed(legacy, result.unwrap_or("{}"), id),
        (Status::Completed, _) => return given(legacy, result, id),
        (Status::InputRequired, _) => {
            format!(
                "The service asks for input. Answer it with POST /v1/contexts/{id}/input; see input_request in GET /v1/contexts/{id}."
            )
        }
        (_, Some(error)) => format!("{}: {}", error.code, error.message),
        (status, None) => format!("The call ended as {}.", status.as_str()),
    };
    failed(legacy, &message, Some(id))
}

/// What an upstream refused a call with, where that is why the context failed: the error of JSON-RPC goes on as it is.
pub fn refusal_of(legacy: bool, view: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Ended<'a> {
        #[serde(borrow, default)]
        error: Option<Details<'a>>,
    }
    #[derive(Deserialize)]
    struct Details<'a> {
        #[serde(borrow, default)]
        details: Option<&'a RawValue>,
    }
    let details = serde_json::from_str::<Ended<'_>>(view).ok()?.error?.details?;
    // With an error status the whole message is what is kept.
    let error = RpcError::read(details).or_else(|| RpcError::of_body(details.get().as_bytes()));
    error.and_then(|error| passthrough::error(&error.whole, legacy))
}

/// A refusal that a model can do something about is a result; any other is an error.
pub fn refused(legacy: bool, problem: Problem) -> Result<String, Error> {
    match problem.code {
        Code::ValidationFailed => {
            let faults: Vec<String> = problem.errors.iter().map(fault).collect();
            Ok(failed(legacy, &format!("The arguments do not fit: {}", faults.join("; ")), None))
        }
        Code::NoServiceAvailable | Code::QueueFull => {
            Ok(failed(legacy, &format!("{}: {}", problem.code.as_str(), problem.detail), None))
        }
        _ => Err(problem.into()),
    }
}

/// Arguments are called parameters everywhere else.
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
    fn a_context_that_failed_is_a_result_that_says_so() {
        let error =
            json!({"code": "upstream_timeout", "message": "It took too long.", "service": "a", "details": null});
        let failed = result(&json!({"status": "timed_out", "error": error, "id": "ctx_1"}), None);
        assert_eq!(failed["isError"], json!(true));
        assert_eq!(failed["content"][0]["text"], json!("upstream_timeout: It took too long."));
        assert_eq!(failed["_meta"]["narthex/context"], json!("ctx_1"));
        let cancelled = result(&json!({"status": "cancelled", "error": null}), None);
        assert_eq!(cancelled["content"][0]["text"], json!("The call ended as cancelled."));
        let done = result(&json!({"status": "completed", "error": null}), Some(r#"{"a":1}"#));
        assert_eq!((&done["isError"], &done["structuredContent"]), (&json!(false), &json!({"a": 1})));
        assert_eq!(result(&json!({"status": "input_required"}), None)["isError"], json!(true));
        assert_eq!(result(&json!(7), None)["isError"], json!(true));
    }

    #[test]
    fn arguments_that_do_not_fit_are_named_all_of_them() {
        let faults =
            vec![Fault::new("#/parameters", "needs the member \"text\""), Fault::new("#/parameters/a", "must be 1")];
        let text = refused(true, Problem::invalid(faults)).unwrap();
        let result: Value = serde_json::from_str(&text).unwrap();
        let expected = "The arguments do not fit: needs the member \"text\"; /a must be 1";
        assert_eq!(result["content"][0]["text"], json!(expected));
        assert!(text.contains(r#""isError":true"#));
    }

    #[test]
    fn what_an_upstream_refused_goes_on_as_it_is() {
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
    fn what_a_model_cannot_mend_is_an_error() {
        for code in [Code::RateLimited, Code::PermissionDenied, Code::Unauthenticated, Code::Internal] {
            assert_eq!(refused(false, Problem::new(code, "no")).unwrap_err().status(), code.status());
        }
        for code in [Code::QueueFull, Code::NoServiceAvailable] {
            assert!(refused(false, Problem::new(code, "later")).is_ok());
        }
    }
}
