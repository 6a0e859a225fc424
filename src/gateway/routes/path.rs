//! From a path to the rows of the table that have it.
//!
//! A path matches one pattern at most, but for that of the console's files, which has the rest. Only the paths of MCP
//! and of the metadata of its resources may end in a slash that their patterns lack.

use super::route::{Features, Route};

/// The pattern of the console's files.
const FILES: &str = "/{file*}";
/// Before the metadata of a resource (RFC 9728 §3.1).
const RESOURCES: &str = "/.well-known/oauth-protected-resource/";

/// What a path matches: the rows of all its methods, and the parameter in it.
pub struct Match<'p> {
    rows: &'static [Route],
    pattern: &'static str,
    pub parameter: &'p str,
}

impl Match<'_> {
    /// The path's rows, one for each method.
    pub fn rows(&self) -> impl Iterator<Item = &'static Route> {
        let pattern = self.pattern;
        self.rows.iter().filter(move |row| row.path == pattern)
    }

    /// The row of a method; a HEAD is served as a GET, without the body (RFC 9110 §9.1).
    pub fn row(&self, method: &str) -> Option<&'static Route> {
        let method = if method == "HEAD" { "GET" } else { method };
        self.rows().find(|row| row.method == method)
    }

    /// The value of `Allow`.
    pub fn allowed(&self) -> String {
        let methods = self.rows().map(|row| if row.method == "GET" { "GET, HEAD" } else { row.method });
        methods.collect::<Vec<_>>().join(", ")
    }
}

/// The rows for a path.
pub fn find<'p>(rows: &'static [Route], path: &'p str, features: Features) -> Option<Match<'p>> {
    let path = without_slash(path, features);
    let matching = |row: &'static Route| Some((row.path, parameter(row.path, path)?));
    let (pattern, parameter) = rows.iter().filter(|row| features.has(row.feature)).find_map(matching)?;
    if pattern == FILES && is_reserved(path, features) {
        return None;
    }
    Some(Match { rows, pattern, parameter })
}

/// The parameter in a path that matches a pattern: empty where the pattern has none.
pub fn parameter<'p>(pattern: &str, path: &'p str) -> Option<&'p str> {
    let Some((before, rest)) = pattern.split_once('{') else { return (pattern == path).then_some("") };
    let path = path.strip_prefix(before)?;
    if takes_rest(pattern) {
        return Some(path);
    }
    let (_, after) = rest.split_once('}')?;
    path.strip_suffix(after).filter(|parameter| !parameter.contains('/'))
}

pub fn takes_rest(pattern: &str) -> bool {
    pattern.ends_with("*}")
}

/// Clients append a slash to the address of an MCP server; then there is one behind its metadata too.
pub fn without_slash(path: &str, features: Features) -> &str {
    let may_end_in_one =
        |before: &str| before == "/mcp" || before.starts_with("/mcp/") || features.oauth && path.starts_with(RESOURCES);
    path.strip_suffix('/').filter(|before| may_end_in_one(before)).unwrap_or(path)
}

/// Whether a path that matches no row is not one of the console's files: it is not found, whatever the method.
fn is_reserved(path: &str, features: Features) -> bool {
    match path.split('/').nth(1) {
        Some("v1" | "mcp") => true,
        Some(".well-known" | "oauth") => features.oauth,
        // It registers the demonstration, which a deployment may not want.
        _ => path == "/demo.json" && !features.demo,
    }
}
