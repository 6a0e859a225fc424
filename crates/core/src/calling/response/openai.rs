//! Answers of endpoints that speak OpenAI's API.

use serde_json::value::RawValue;

use super::super::openai::fault;
use super::words::{self, Words};
use super::{Answer, Failure, Verdict, fitting, not_json, read, refusal, unacceptable};
use crate::base::json_repair;
use crate::context::http_status::Again;
use crate::context::status::ErrorCode;
use crate::services::schema::Schema;

/// Reads an answer of an endpoint that speaks OpenAI's API: all of it is the result, or its `error`.
pub fn read_openai(service: &str, answer: Answer, schema: Option<&Schema>) -> Verdict {
    let Answer::Http { status, is_json, body, .. } = &answer else { return read(service, answer, schema) };
    match status {
        200 => {}
        // Nothing it could say would be a result; least of all that it goes on with it later.
        201..300 => return refusal(service, *status, b"", None),
        _ => return read(service, answer, schema),
    }
    if !is_json {
        return not_json(service, body);
    }
    // A list of models is a bare array with some; what has a schema is an object.
    let is_whole = |text: &str| text.starts_with('{') || (schema.is_none() && text.starts_with('['));
    let text = json_repair::json(body);
    let Some(text) = text.as_deref().map(str::trim).filter(|text| is_whole(text)) else {
        return unacceptable(service, "The service's answer is not acceptable JSON.");
    };
    if let Some(error) = fault::of(text) {
        let Words { message, details, retryable, again: said } = words::of_error(&error);
        let again = match retryable {
            Some(false) => Again::Nowhere,
            // It may have done a part of the work; asked again it does all of it.
            _ => said.unwrap_or(Again::Anywhere),
        };
        let message = match message {
            Some(message) => format!("The service reported an error in its answer: {message}"),
            None => "The service reported an error in its answer.".into(),
        };
        return Failure { details, again, ..Failure::new(service, ErrorCode::UpstreamError, message) }.verdict();
    }
    match RawValue::from_string(text.into()) {
        Ok(result) => fitting(service, &result, schema),
        Err(_) => unacceptable(service, "The service's answer is not acceptable JSON."),
    }
}
