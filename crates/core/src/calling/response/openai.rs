//! Responses of OpenAI-compatible endpoints.

use serde_json::value::RawValue;

use super::super::openai::fault;
use super::words::{self, FailureText};
use super::{CallResult, Failure, Verdict, fitting, not_json, read, refusal, unacceptable};
use crate::base::json_repair;
use crate::base::service_id::ServiceId;
use crate::context::http_status::RetryScope;
use crate::context::status::ErrorCode;
use crate::services::schema::Schema;

/// Reads a response of an OpenAI-compatible endpoint: the whole of it is the result, or its `error`.
pub fn read_openai(service: &ServiceId, result: CallResult, schema: Option<&Schema>) -> Verdict {
    let CallResult::Http { status, is_json, body, .. } = &result else { return read(service, result, schema) };
    match status {
        200 => {}
        // None of these can carry a result, or be continued later.
        201..300 => return refusal(service, *status, b"", None),
        _ => return read(service, result, schema),
    }
    if !is_json {
        return not_json(service, body);
    }
    // A list of models is a bare array at some endpoints; responses with a schema are objects.
    let is_whole = |text: &str| text.starts_with('{') || (schema.is_none() && text.starts_with('['));
    let text = json_repair::json(body);
    let Some(text) = text.as_deref().map(str::trim).filter(|text| is_whole(text)) else {
        return unacceptable(service, "The service's response is not acceptable JSON.");
    };
    if let Some(error) = fault::of(text) {
        let FailureText { message, details, retryable, again: said } = words::of_error(&error);
        let again = match retryable {
            Some(false) => RetryScope::Nowhere,
            // It may have done part of the work; a retry does all of it.
            _ => said.unwrap_or(RetryScope::Anywhere),
        };
        let message = match message {
            Some(message) => format!("The service reported an error in its response: {message}"),
            None => "The service reported an error in its response.".into(),
        };
        return Failure { details, again, ..Failure::new(service, ErrorCode::UpstreamError, message) }.verdict();
    }
    match RawValue::from_string(text.into()) {
        Ok(result) => fitting(service, &result, schema),
        Err(_) => unacceptable(service, "The service's response is not acceptable JSON."),
    }
}
