//! JSON on one line, as required in Server-Sent Events (HTML Living Standard §9.2).

use std::borrow::Cow;

/// Replaces line breaks by spaces. Valid JSON has none within strings.
pub fn one_line(json: &str) -> Cow<'_, str> {
    if json.contains(['\n', '\r']) { Cow::Owned(json.replace(['\n', '\r'], " ")) } else { Cow::Borrowed(json) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::cloud_event::frame;
    use crate::events::sequence::Sequence;
    use crate::mcp::responses::event;

    #[test]
    fn json_that_was_laid_out_is_one_line_of_an_event() {
        for text in ["{\"a\": \"\\n\"}", "{\n  \"a\": \"\\n\"\n}", "{\r\n\"a\":\r\"\\n\"}\r", "\n{\"a\":\"\\n\"}"] {
            for event in [frame(text, Sequence::FIRST), event(text)] {
                let data: Vec<&str> = event.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
                let [data] = data.as_slice() else { panic!("{event:?}") };
                let read: serde_json::Value = serde_json::from_str(data).unwrap();
                assert_eq!(read, serde_json::json!({"a": "\n"}), "{text:?}");
                assert_eq!(event.lines().count(), 3, "{event:?}");
            }
        }
        assert!(matches!(one_line("{}"), Cow::Borrowed("{}")));
    }
}
