//! The table and the contract agree, and paths are matched exactly.

use narthex_core::models::endpoint::format_of_path;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::Value;

use crate::auth::Age;

use super::path::{find, parameter, takes_rest, without_slash};
use super::route::{Access, Features, Permission, Route, filled};
use super::table::ROUTES;

const CONTRACT: &str = include_str!("../../../console/openapi.json");
const ALL: Features = Features { costs: true, oauth: true, demo: true };
const NONE: Features = Features { costs: false, oauth: false, demo: false };
/// Served to the console only, among whose files the contract counts it.
const UNDOCUMENTED: [&str; 1] = ["/console.json"];

/// The contract's operations, by method and path.
fn operations() -> BTreeMap<String, Value> {
    let contract: Value = serde_json::from_str(CONTRACT).unwrap();
    let paths = contract["paths"].as_object().unwrap();
    let methods = ["get", "head", "post", "put", "patch", "delete", "options", "trace"];
    let all = paths.iter().flat_map(|(path, item)| {
        let here = methods.into_iter().filter(|method| item.get(method).is_some());
        here.map(move |method| (format!("{} {path}", method.to_uppercase()), item[method].clone()))
    });
    all.collect()
}

/// The rows that the contract describes, by method and path as it writes them.
fn rows() -> BTreeMap<String, &'static Route> {
    let documented = ROUTES.iter().filter(|row| !UNDOCUMENTED.contains(&row.path));
    documented.map(|row| (format!("{} {}", row.method, row.path.replace('*', "")), row)).collect()
}

#[test]
fn every_row_is_an_operation_of_the_contract_and_the_other_way_round() {
    let (operations, rows) = (operations(), rows());
    let described: BTreeSet<&String> = operations.keys().collect();
    let served: BTreeSet<&String> = rows.keys().collect();
    assert_eq!(served.difference(&described).collect::<Vec<_>>(), Vec::<&&String>::new(), "not in the contract");
    assert_eq!(described.difference(&served).collect::<Vec<_>>(), Vec::<&&String>::new(), "not in the table");
    assert_eq!(ROUTES.len(), rows.len() + UNDOCUMENTED.len(), "a row is there twice");
}

#[test]
fn every_row_has_the_permission_that_the_contract_names() {
    let rows = rows();
    for (name, operation) in operations() {
        let permission = match rows[&name].access {
            Access::Public(_) | Access::Caller(Permission::None, _) => None,
            Access::Handler(permission, _) => permission,
            Access::Caller(Permission::Required(permission) | Permission::ByHandler(permission), _) => Some(permission),
        };
        assert_eq!(operation["x-permission"].as_str(), permission, "{name}");
    }
}

/// The rows that a condition holds for, by method and path.
fn rows_where(condition: impl Fn(&Route) -> bool) -> Vec<String> {
    let fitting = ROUTES.iter().filter(|row| condition(row));
    fitting.map(|row| format!("{} {}", row.method, row.path)).collect()
}

#[test]
fn only_stores_confirm_a_snapshot_that_may_be_old() {
    let confirmed = [
        "POST /v1/contexts",
        "GET /v1/contexts/{id}",
        "POST /v1/contexts/{id}/cancel",
        "POST /v1/contexts/{id}/replay",
        "POST /v1/contexts/{id}/input",
    ];
    assert_eq!(rows_where(|row| row.age == Age::Any), confirmed);
    let recent = [
        "POST /v1/chat/completions",
        "POST /v1/responses",
        "POST /v1/embeddings",
        "POST /v1/messages",
        "POST /v1/messages/count_tokens",
    ];
    assert_eq!(rows_where(|row| row.age == Age::Recent), recent);
}

#[test]
fn rows_that_make_something_anew_refuse_an_idempotency_key() {
    let anew = [
        "POST /v1/tickets",
        "POST /v1/services/{id}/rotate-secret",
        "POST /v1/keys",
        "POST /v1/keys/{id}/rotate",
        "POST /v1/webhooks/{id}/test",
        "POST /v1/webhooks/{id}/redeliver",
        "POST /v1/webhooks/{id}/rotate-secret",
    ];
    assert_eq!(rows_where(|row| row.makes_anew), anew);
}

#[test]
fn rows_of_the_configuration_need_all_of_it() {
    let kinds = [
        "services",
        "keys",
        "roles",
        "limits",
        "issuers",
        "clients",
        "tenants",
        "schedules",
        "webhooks",
        "model-routes",
    ];
    let configures = |row: &Route| row.path.split('/').nth(2).is_some_and(|kind| kinds.contains(&kind));
    let others = [
        "POST /v1/services/{id}/heartbeat",
        "POST /v1/services/{id}/check",
        "GET /v1/services/{id}/connect",
        "POST /v1/webhooks/{id}/test",
        "POST /v1/webhooks/{id}/redeliver",
        "GET /v1/webhooks/{id}/deliveries",
    ];
    assert_eq!(rows_where(|row| configures(row) && !row.complete), others);
    assert_eq!(rows_where(|row| row.complete && !configures(row)), Vec::<String>::new());
}

#[test]
fn the_query_of_the_api_has_no_repeated_parameters() {
    // Clients of models send whatever query their provider knows.
    let is_of_models = |path: &str| format_of_path(path, false).is_some();
    let has_rules_of_the_api = |path: &str| path.starts_with("/v1/") && !is_of_models(path) || path == "/metrics";
    assert_eq!(rows_where(|row| row.reads_query != has_rules_of_the_api(row.path)), Vec::<String>::new());
}

#[test]
fn public_rows_are_the_operations_without_security() {
    let rows = rows();
    for (name, operation) in operations() {
        let needs_none = operation["security"].as_array().is_some_and(Vec::is_empty);
        assert_eq!(matches!(rows[&name].access, Access::Public(_)), needs_none, "{name}");
        assert!(!rows[&name].any_origin || needs_none, "{name} is for every origin, but not public");
    }
}

#[test]
fn a_405_lists_the_methods_of_the_contract() {
    let mut methods: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in operations().into_keys() {
        let (method, path) = name.split_once(' ').unwrap();
        let listed = methods.entry(path.into()).or_default();
        listed.push(method.into());
        if method == "GET" {
            listed.push("HEAD".into());
        }
    }
    for (path, listed) in methods {
        let example = path.replace("{file}", "style.css").replace(['{', '}'], "");
        let found = find(ROUTES, &example, ALL).unwrap();
        let allowed: BTreeSet<String> = found.allowed().split(", ").map(Into::into).collect();
        assert_eq!(allowed, listed.iter().cloned().collect(), "{path}");
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            assert_eq!(found.row(method).is_some(), allowed.contains(method), "{method} {path}");
        }
    }
}

#[test]
fn allow_is_in_the_usual_order() {
    let allowed = |path| find(ROUTES, path, ALL).unwrap().allowed();
    assert_eq!(allowed("/v1/keys"), "GET, HEAD, POST");
    assert_eq!(allowed("/v1/services/x"), "GET, HEAD, PUT, PATCH, DELETE");
    assert_eq!(allowed("/mcp"), "GET, HEAD, POST, DELETE");
    assert_eq!(allowed("/v1/tickets"), "POST");
}

#[test]
fn rows_of_one_path_follow_each_other_and_agree_on_what_a_path_decides() {
    let mut seen: Vec<&Route> = Vec::new();
    for row in ROUTES {
        if let Some(before) = seen.iter().find(|before| before.path == row.path) {
            assert_eq!(seen.last().unwrap().path, row.path, "{} is in two places", row.path);
            assert_eq!(before.feature, row.feature, "{}", row.path);
            assert_eq!(before.checks_origin, row.checks_origin, "{}", row.path);
        }
        seen.push(row);
    }
    assert!(takes_rest(ROUTES.last().unwrap().path));
    let rests: BTreeSet<&str> = ROUTES.iter().map(|row| row.path).filter(|path| takes_rest(path)).collect();
    assert_eq!(rests.into_iter().collect::<Vec<_>>(), ["/v1/model-routes/{name*}", "/v1/models/{name*}", "/{file*}"]);
}

/// The pattern and the parameter of a path.
fn matched(path: &str, features: Features) -> Option<(&'static str, &str)> {
    let found = find(ROUTES, path, features)?;
    Some((found.rows().next()?.path, found.parameter))
}

#[test]
fn a_path_is_matched_segment_by_segment() {
    for (path, pattern) in [
        ("/v1/keys", Some(("/v1/keys", ""))),
        ("/v1/keys/", Some(("/v1/keys/{id}", ""))),
        ("/v1/keys/k1", Some(("/v1/keys/{id}", "k1"))),
        ("/v1/keys/rotate", Some(("/v1/keys/{id}", "rotate"))),
        ("/v1/keys/k1/rotate", Some(("/v1/keys/{id}/rotate", "k1"))),
        ("/v1/keys//rotate", Some(("/v1/keys/{id}/rotate", ""))),
        ("/v1/keys/k1/rotate/", None),
        ("/v1/keys/k1/other", None),
        ("/v1//keys", None),
        ("/v1", None),
        ("/v1/", None),
        ("/v1/nothing", None),
        ("/v1x", Some(("/{file*}", "v1x"))),
        ("/health", Some(("/health", ""))),
        ("/health/", Some(("/{file*}", "health/"))),
        ("/", Some(("/", ""))),
        ("/style.css", Some(("/{file*}", "style.css"))),
        ("/a/b.css", Some(("/{file*}", "a/b.css"))),
        ("/metrics", Some(("/metrics", ""))),
    ] {
        assert_eq!(matched(path, ALL), pattern, "{path}");
    }
}

#[test]
fn only_mcp_and_the_metadata_of_its_resources_may_end_in_a_slash() {
    let resource = "/.well-known/oauth-protected-resource";
    for (path, pattern) in [
        ("/mcp/", Some("/mcp")),
        ("/mcp/search", Some("/mcp/{id}")),
        ("/mcp/search/", Some("/mcp/{id}")),
        ("/mcp//", Some("/mcp/{id}")),
        ("/mcp/search/x", None),
        ("/mcp/search/x/", None),
        (&format!("{resource}/"), Some(resource)),
        (&format!("{resource}/mcp/"), Some("/.well-known/oauth-protected-resource/mcp")),
        (&format!("{resource}/mcp/search/"), Some("/.well-known/oauth-protected-resource/mcp/{id}")),
        (&format!("{resource}/other"), None),
        ("/.well-known/oauth-authorization-server/", None),
        ("/oauth/token/", None),
    ] {
        assert_eq!(matched(path, ALL).map(|(pattern, _)| pattern), pattern, "{path}");
    }
}

#[test]
fn what_is_left_out_is_not_there() {
    assert_eq!(matched("/v1/costs", NONE), None);
    assert_eq!(matched("/demo.json", NONE), None);
    assert_eq!(matched("/demo.json", ALL), Some(("/{file*}", "demo.json")));
    // Without an authorization server its paths are those of any file.
    for path in ["/oauth/token", "/.well-known/oauth-protected-resource/", "/oauth/nothing"] {
        assert_eq!(matched(path, NONE).map(|(pattern, _)| pattern), Some("/{file*}"), "{path}");
    }
    assert_eq!(matched("/oauth/nothing", ALL), None);
    assert_eq!(matched("/.well-known/nothing", ALL), None);
}

#[test]
fn a_permission_is_filled_in_from_the_path() {
    assert_eq!(filled("services:heartbeat:{service}", "search"), "services:heartbeat:search");
    assert_eq!(filled("keys:read", "k1"), "keys:read");
}

/// Paths that are close to those of the table.
fn near_paths() -> impl Strategy<Value = String> {
    let words: Vec<&str> = ROUTES.iter().flat_map(|row| row.path.split('/')).filter(|word| !word.is_empty()).collect();
    let segment = prop_oneof![prop::sample::select(words).prop_map(Into::into), "[a-z{}*%.]{0,4}"];
    prop::collection::vec(segment, 0..6).prop_map(|segments| format!("/{}", segments.join("/")))
}

proptest! {
    #[test]
    fn a_path_never_matches_two_patterns(path in prop_oneof![any::<String>(), near_paths()]) {
        for features in [ALL, NONE] {
            let _ = find(ROUTES, &path, features);
        }
        let patterns: BTreeSet<&str> = ROUTES.iter().map(|row| row.path).filter(|path| !takes_rest(path)).collect();
        let served = without_slash(&path, ALL);
        let matching: Vec<&str> = patterns.into_iter().filter(|pattern| parameter(pattern, served).is_some()).collect();
        prop_assert!(matching.len() <= 1, "{matching:?}");
        if let (Some(pattern), Some((found, _))) = (matching.first(), matched(&path, ALL)) {
            prop_assert_eq!(*pattern, found);
        }
    }

    #[test]
    fn a_pattern_matches_with_its_parameter_filled_in(row in 0..ROUTES.len(), id in "[a-z0-9_-]{1,8}") {
        let pattern = ROUTES[row].path;
        let path = filled(pattern, &id).into_owned();
        let expected = if pattern.contains('{') { id.as_str() } else { "" };
        if !takes_rest(pattern) {
            prop_assert_eq!(matched(&path, ALL), Some((pattern, expected)));
        }
    }
}
