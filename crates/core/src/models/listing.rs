//! A provider's own list of its models.

use serde_json::Value;

use super::response_body::value_of;
use crate::base::model_name::is_model_name;

/// The most names that are read.
const MAX_NAMES: usize = 1_000;

/// The names in a list of models, sorted: those that can be named here. Some servers return a bare array. `None`: it is
/// no such list.
pub fn names(body: &[u8]) -> Option<Vec<String>> {
    let body = value_of(body)?;
    let models = body.get("data").unwrap_or(&body).as_array()?;
    let named = models.iter().filter_map(|model| model.get("id").and_then(Value::as_str));
    let mut names: Vec<String> = named.filter(|name| is_model_name(name)).take(MAX_NAMES).map(Into::into).collect();
    names.sort_unstable();
    names.dedup();
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_in_each_form_in_use() {
        let read = |text: &str| names(text.as_bytes()).map(|names| names.join(" "));
        for (text, expected) in [
            (r#"{"object":"list","data":[{"id":"b"},{"id":"a/b","object":"model"},{"id":"b"}]}"#, Some("a/b b")),
            (r#"[{"id":"a"}]"#, Some("a")),
            ("\u{feff}{\"data\":[]}", Some("")),
            (r#"{"data":[{"id":"two words"},{"id":7},{},null,{"id":"a,b"}]}"#, Some("")),
            (r#"{"data":{}}"#, None),
            ("<html>", None),
        ] {
            assert_eq!(read(text).as_deref(), expected, "{text}");
        }
        let many: Vec<String> = (0..2_000).map(|at| format!(r#"{{"id":"m{at}"}}"#)).collect();
        assert_eq!(names(format!("[{}]", many.join(",")).as_bytes()).map(|names| names.len()), Some(MAX_NAMES));
    }
}
