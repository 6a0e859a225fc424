//! Refusals in the formats of model clients, what is read of their requests, and the names of models.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::OPENAPI;
use super::shape::Shape;
use crate::access::permission;
use crate::base::model_name::MAX_MODEL_NAME;
use crate::http::problem::Code;
use crate::models::endpoint::{Format, format_of_path};
use crate::models::refusal;
use crate::models::request_body::{BodyFault, BodyReader, RequestHead};

fn shape(name: &str) -> Shape {
    Shape::of(&OPENAPI.root, &OPENAPI.schema(name))
}

/// Asserts that an object has all members of its schema, which are all required, and no others.
fn assert_members(value: &Value, shape: &Shape) {
    let members: BTreeSet<String> = value.as_object().unwrap().keys().cloned().collect();
    assert_eq!(members, shape.required, "{value}");
    assert_eq!(members, shape.members.keys().cloned().collect(), "{value}");
    assert!(shape.others.is_none());
}

#[test]
fn refusals_are_as_the_contract_describes_them() {
    for (format, name) in [(Format::OpenAi, "OpenAiError"), (Format::Anthropic, "AnthropicError")] {
        let whole = shape(name);
        let inner = Shape::of(&OPENAPI.root, &whole.members["error"]);
        let words = Shape::of(&OPENAPI.root, &inner.members["type"]).words.unwrap();
        let mut seen = BTreeSet::new();
        let statuses = Code::ALL.iter().map(|code| (code.status(), code.as_str()));
        let upstream = [(502, "upstream_error"), (504, "upstream_timeout"), (529, "upstream_error")];
        for (status, code) in statuses.chain(upstream) {
            for param in [None, Some("model")] {
                let text = refusal::body(format, status, code, "Not now.", param, "req_1");
                let body: Value = serde_json::from_str(&text).unwrap();
                assert_members(&body, &whole);
                assert_members(&body["error"], &inner);
                seen.insert(body["error"]["type"].as_str().unwrap().to_string());
            }
        }
        assert_eq!(seen, words, "list them in {name} of api/schemas/model-format.yaml, then `npm run api`");
    }
}

#[test]
fn refusals_of_a_path_are_described_in_its_format() {
    let paths = OPENAPI.at("/paths").as_object().unwrap();
    let mut count = 0;
    for (path, item) in paths {
        let Some(format) = format_of_path(path, false) else { continue };
        let operations = item.as_object().unwrap().values();
        let responses = operations.flat_map(|operation| operation["responses"].as_object().into_iter().flatten());
        for (status, response) in responses.filter(|(status, _)| !status.starts_with('2')) {
            let schema = &OPENAPI.follow(response)["content"]["application/json"]["schema"]["$ref"];
            let name = schema.as_str().and_then(|reference| reference.rsplit('/').next()).unwrap_or_default();
            let expected = match (path.starts_with("/v1/models"), format) {
                // With the header `anthropic-version` in Anthropic's format, which alone has a query.
                (true, _) if status == "400" => "AnthropicError",
                (true, _) => "ModelListError",
                // Of these statuses, none is a provider's.
                (false, Format::OpenAi) if ["401", "431"].contains(&status.as_str()) => "OpenAiError",
                (false, Format::OpenAi) => "OpenAiFailure",
                (false, Format::Anthropic) if ["401", "431"].contains(&status.as_str()) => "AnthropicError",
                (false, Format::Anthropic) => "AnthropicFailure",
            };
            assert_eq!(name, expected, "{path} {status}");
            count += 1;
        }
    }
    assert!(count > 50, "{count} refusals");
}

fn head(body: &Value) -> Result<RequestHead, BodyFault> {
    let mut reader = BodyReader::default();
    reader.push(body.to_string().as_bytes())?;
    reader.finish()?;
    reader.head()
}

#[test]
fn members_of_requests_are_read_as_the_contract_describes_them() {
    for name in ["ChatRequest", "ResponsesRequest", "EmbeddingsRequest", "MessagesRequest", "CountTokensRequest"] {
        for (member, schema) in shape(name).members {
            let shape = Shape::of(&OPENAPI.root, &schema);
            let types = shape.types.unwrap();
            let found = head(&json!({ member.as_str(): null })).unwrap();
            let found = RequestHead { store_at: None, ..found };
            assert_eq!(found, RequestHead::default(), "{name}.{member}: null is as good as nothing");
            let value = match types.contains("string") {
                true => json!("given"),
                false if types.contains("boolean") => json!(true),
                false => json!(1),
            };
            match head(&json!({ member.as_str(): value })) {
                Ok(head) => assert_ne!(head, RequestHead::default(), "{name}.{member} is not read"),
                Err(fault) => assert_eq!(fault.member(), Some(member.as_str()), "{name}.{member}"),
            }
        }
    }
}

#[test]
fn a_permission_to_use_a_model_is_as_the_contract_describes_it() {
    let pattern = OPENAPI.at("/components/schemas/Permission/pattern").as_str().unwrap();
    let pattern = regex::Regex::new(pattern).unwrap();
    let name = regex::Regex::new(OPENAPI.at("/components/schemas/ModelName/pattern").as_str().unwrap()).unwrap();
    let longest = "m".repeat(MAX_MODEL_NAME);
    for model in ["gpt-5", "meta/llama-3:8b@x", "*", "gpt-*", &longest, "a b", "a,b", "ä", "", "a\u{7f}", "~!"] {
        let text = permission::to_use(model);
        assert_eq!(pattern.is_match(&text), permission::valid(&text), "{text}");
        assert_eq!(name.is_match(model), permission::valid(&text), "{model}");
    }
    let too_long = format!("{longest}:");
    assert!(!name.is_match(&too_long) && !pattern.is_match(&permission::to_use(&too_long)));
}
