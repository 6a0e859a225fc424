//! Reading Server-Sent Events as they arrive (HTML Living Standard §9.2): what `data` says, and where to go on.

/// Takes bytes in pieces of any size and gives the data of each event that is whole.
#[derive(Debug, Default)]
pub struct Events {
    line: Vec<u8>,
    data: String,
    has_data: bool,
    after_return: bool,
    id: Option<String>,
    retry_ms: Option<u64>,
}

/// The longest id that is remembered, in bytes.
const MAX_ID_BYTES: usize = 1024;

impl Events {
    /// Bytes that wait for the rest of their event.
    pub fn held(&self) -> usize {
        self.line.len() + self.data.len()
    }

    /// The id of the last event that had one, and how long to wait before asking for what comes after it.
    pub fn resumption(&self) -> Option<(&str, Option<u64>)> {
        Some((self.id.as_deref().filter(|id| !id.is_empty())?, self.retry_ms))
    }

    pub fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut whole = Vec::new();
        for byte in bytes {
            let after_return = std::mem::take(&mut self.after_return);
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => {
                    self.after_return = *byte == b'\r';
                    whole.extend(self.end_line());
                }
                byte => self.line.push(*byte),
            }
        }
        whole
    }

    fn end_line(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            let data = std::mem::take(&mut self.data);
            return std::mem::take(&mut self.has_data).then_some(data);
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
    use proptest::prelude::*;

    fn read(text: &str) -> Vec<String> {
        Events::default().push(text.as_bytes())
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
    fn what_is_not_whole_is_held() {
        let mut events = Events::default();
        assert!(events.push(b"data: abc\n").is_empty());
        assert_eq!(events.held(), 3);
        assert_eq!(events.push(b"\n"), ["abc"]);
        assert_eq!(events.held(), 0);
    }

    #[test]
    fn where_to_go_on_is_remembered() {
        let mut events = Events::default();
        assert_eq!(events.resumption(), None);
        events.push(b"id: 7\nretry: 500\ndata:\n\nretry: soon\ndata: a\n\n");
        assert_eq!(events.resumption(), Some(("7", Some(500))));
        events.push(b"id\n\n");
        assert_eq!(events.resumption(), None);
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_say_the_same(
            lines in prop::collection::vec("(data: ?[a-zé:]{0,5}|id: 1|:|)(\n|\r\n|\r)", 0..20),
            cuts in prop::collection::vec(0usize..7, 1..40),
        ) {
            let text = lines.concat();
            let whole = read(&text);
            let (mut events, mut pieces, mut rest) = (Events::default(), Vec::new(), text.as_bytes());
            for cut in cuts {
                let (piece, left) = rest.split_at(cut.min(rest.len()));
                pieces.extend(events.push(piece));
                rest = left;
            }
            pieces.extend(events.push(rest));
            prop_assert_eq!(pieces, whole);
        }

        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            Events::default().push(&bytes);
        }
    }
}
