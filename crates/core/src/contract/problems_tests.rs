//! Problem codes and their statuses.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::OPENAPI;
use crate::http::problem::Code;
use crate::models::endpoint::format_of_path;

#[test]
fn codes_are_those_of_the_contract() {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    let listed = OPENAPI.at("/components/schemas/ProblemCode/enum");
    assert_eq!(*listed, json!(codes), "list them in ProblemCode of api/schemas/problem.yaml, then `npm run api`");
    assert_eq!(codes.iter().collect::<BTreeSet<_>>().len(), codes.len(), "each has a word of its own");
    let description = OPENAPI.at("/components/schemas/ProblemCode/description").as_str().unwrap();
    for code in Code::ALL {
        let item = format!("* `{}` ({}): ", code.as_str(), code.status());
        assert!(description.contains(&item), "describe \"{item}\" in ProblemCode of api/schemas/problem.yaml");
    }
}

#[test]
fn problem_responses_have_the_statuses_of_their_codes() {
    let status_of: BTreeMap<&str, u16> = Code::ALL.iter().map(|code| (code.as_str(), code.status())).collect();
    // Every path has it, for the methods that are not described.
    let mut seen = BTreeSet::from([Code::MethodNotAllowed.as_str().to_string()]);
    let paths = OPENAPI.at("/paths").as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, item)| item.as_object().unwrap().iter().map(move |it| (path, it)));
    for (path, (method, operation)) in operations {
        for (status, response) in operation["responses"].as_object().into_iter().flatten() {
            let content = &OPENAPI.follow(response)["content"];
            let schema = &content["application/problem+json"]["schema"];
            if schema.is_null() {
                // OAuth, MCP and model clients have errors of their own.
                let others = path.starts_with("/oauth/") || path.starts_with("/mcp");
                let others = others || format_of_path(path, false).is_some();
                assert!(status.as_str() < "400" || others, "{method} {path}: {status} is not a problem");
                continue;
            }
            let code = &schema["properties"]["code"];
            let words = code["enum"].as_array().cloned().unwrap_or_else(|| vec![code["const"].clone()]);
            let status: u16 = status.parse().unwrap();
            assert_eq!(schema["properties"]["status"]["const"], status, "{method} {path}");
            for word in words.iter().map(|word| word.as_str().unwrap_or_default()) {
                let wanted = status_of.get(word);
                assert_eq!(wanted, Some(&status), "{method} {path}: {word} in api/responses/ has another status");
                seen.insert(word.to_string());
            }
        }
    }
    let unused = status_of.keys().filter(|word| !seen.contains(**word)).collect::<Vec<_>>();
    assert!(unused.is_empty(), "no operation in api/paths/ has a response with {unused:?}");
}
