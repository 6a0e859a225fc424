//! A reader of Server-Sent Events (HTML Living Standard §9.2): events as they arrive, and where to resume.

/// A complete event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The event type; empty if none was given.
    pub name: String,
    pub data: String,
}

/// Parses bytes in chunks of any size.
#[derive(Debug, Default)]
pub struct EventReader {
    line: Vec<u8>,
    /// The current line is a comment, whose bytes are not stored.
    is_comment: bool,
    name: String,
    data: String,
    has_data: bool,
    after_return: bool,
    id: Option<String>,
    retry_ms: Option<u64>,
}

/// The longest id that is stored, in bytes.
const MAX_ID_BYTES: usize = 1024;
/// The longest event type that is stored, in bytes.
const MAX_NAME_BYTES: usize = 256;

impl EventReader {
    /// The number of buffered bytes of an incomplete event.
    pub fn held(&self) -> usize {
        self.line.len() + self.data.len()
    }

    /// The id of the latest event with one, and the delay in milliseconds before a reconnection.
    pub fn resumption(&self) -> Option<(&str, Option<u64>)> {
        Some((self.id.as_deref().filter(|id| !id.is_empty())?, self.retry_ms))
    }

    /// Adds a chunk and returns the events it completes.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut whole = Vec::new();
        let mut rest = bytes;
        while let Some(first) = rest.first() {
            // The second half of a CRLF.
            if std::mem::take(&mut self.after_return) && *first == b'\n' {
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (line, after) = rest.split_at(end.unwrap_or(rest.len()));
            self.is_comment |= self.line.is_empty() && line.first() == Some(&b':');
            if !self.is_comment {
                self.line.extend_from_slice(line);
            }
            let Some((ending, after)) = after.split_first() else { break };
            self.after_return = *ending == b'\r';
            whole.extend(self.end_line());
            rest = after;
        }
        whole
    }

    /// The event in which a stream ends. The standard discards it; some servers do not send the final empty line.
    pub fn take_unfinished(&mut self) -> Option<Event> {
        self.end_line().or_else(|| self.end_line())
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.is_comment) {
            return None;
        }
        if line.is_empty() {
            let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
            return std::mem::take(&mut self.has_data).then_some(Event { name, data });
        }
        let text = String::from_utf8_lossy(&line);
        let (name, value) = text.split_once(':').unwrap_or((&text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name.trim_start_matches('\u{feff}') {
            "data" => {
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(value);
                self.has_data = true;
            }
            "event" if value.len() <= MAX_NAME_BYTES => self.name = value.into(),
            "id" if !value.contains('\0') && value.len() <= MAX_ID_BYTES => self.id = Some(value.into()),
            "retry" => self.retry_ms = value.parse().ok().or(self.retry_ms),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::pieces::cut;
    use proptest::prelude::*;

    fn read(text: &str) -> Vec<String> {
        EventReader::default().push(text.as_bytes()).into_iter().map(|event| event.data).collect()
    }

    #[test]
    fn events_end_at_an_empty_line_however_lines_end() {
        for end in ["\n", "\r", "\r\n"] {
            let text =
                [": hello", "data: a", "data:b", "id: 1", "", "event: x", "", "data", "", "data: half"].join(end);
            assert_eq!(read(&text), ["a\nb", ""], "{end:?}");
        }
    }

    #[test]
    fn an_event_has_the_type_it_names_and_the_next_has_none() {
        let events = EventReader::default().push("\u{feff}event: error\ndata: busy\n\ndata: a\n\n".as_bytes());
        let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
        assert_eq!(names, ["error", ""]);
    }

    #[test]
    fn what_is_not_whole_is_held() {
        let mut events = EventReader::default();
        assert!(events.push(b"data: abc\n").is_empty());
        assert_eq!(events.held(), 3);
        assert_eq!(events.push(b"\n"), [Event { name: String::new(), data: "abc".into() }]);
        assert_eq!(events.held(), 0);
    }

    #[test]
    fn a_comment_is_not_held_however_long_it_is() {
        let mut events = EventReader::default();
        assert!(events.push(b": a").is_empty());
        for _ in 0..100 {
            assert!(events.push(&[b'x'; 1000]).is_empty());
        }
        assert_eq!(events.held(), 0);
        assert_eq!(events.push(b"\ndata: b\n\n").len(), 1);
    }

    #[test]
    fn an_event_without_its_end_is_there_when_it_is_asked_for() {
        for text in ["data: a", "data: a\n", "data: a\r", ": x\ndata: a"] {
            let mut events = EventReader::default();
            assert!(events.push(text.as_bytes()).is_empty());
            assert_eq!(events.take_unfinished().map(|event| event.data).as_deref(), Some("a"), "{text:?}");
            assert_eq!(events.take_unfinished(), None);
        }
        assert_eq!(EventReader::default().take_unfinished(), None);
    }

    #[test]
    fn the_position_for_a_resumption_is_kept() {
        let mut events = EventReader::default();
        assert_eq!(events.resumption(), None);
        events.push(b"id: 7\nretry: 500\ndata:\n\nretry: soon\ndata: a\n\n");
        assert_eq!(events.resumption(), Some(("7", Some(500))));
        events.push(b"id\n\n");
        assert_eq!(events.resumption(), None);
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_say_the_same(
            lines in prop::collection::vec("(data: ?[a-zé:]{0,5}|id: 1|event: a|:|:x)(\n|\r\n|\r)", 0..20),
            cuts in prop::collection::vec(0usize..7, 1..40),
        ) {
            let text = lines.concat();
            let whole = EventReader::default().push(text.as_bytes());
            let mut events = EventReader::default();
            let pieces = cut(text.as_bytes(), &cuts);
            let read: Vec<Event> = pieces.into_iter().flat_map(|piece| events.push(piece)).collect();
            prop_assert_eq!(read, whole);
        }

        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            EventReader::default().push(&bytes);
        }
    }
}
