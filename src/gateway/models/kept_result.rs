//! Collects a response whose content is kept, while it passes to its client.

use serde_json::value::RawValue;

use narthex_core::base::json;
use narthex_core::calling::openai::stream::Reader;
use narthex_core::calling::response::{CallResult, MAX_ANSWER_BYTES};
use narthex_core::http::sse::EventReader;
use narthex_core::models::assembly::Assembly;
use narthex_core::models::endpoint::Endpoint;

/// The longest stream that is put together, in bytes: most of it is not the response.
const MAX_STREAM_BYTES: usize = 48 * 1024 * 1024;

/// A response, as far as it has come.
pub struct KeptResult {
    bytes: usize,
    form: Form,
}

enum Form {
    Document(Vec<u8>),
    Chat(Box<Reader>),
    Events(EventReader, Assembly),
    /// It is too large to be kept.
    TooLarge,
}

impl KeptResult {
    pub fn document() -> Self {
        Self { bytes: 0, form: Form::Document(Vec::new()) }
    }

    /// A stream of an endpoint.
    pub fn stream(endpoint: Endpoint) -> Self {
        let form = match Assembly::of(endpoint) {
            Some(assembly) => Form::Events(EventReader::default(), assembly),
            None => Form::Chat(Box::default()),
        };
        Self { bytes: 0, form }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        let most = if matches!(self.form, Form::Document(_)) { MAX_ANSWER_BYTES } else { MAX_STREAM_BYTES };
        if self.bytes > most {
            self.form = Form::TooLarge;
        }
        match &mut self.form {
            Form::Document(all) => all.extend_from_slice(bytes),
            Form::Chat(reader) => drop(reader.push(bytes, |_| {})),
            Form::Events(reader, assembly) => {
                for event in reader.push(bytes) {
                    assembly.event(&event.data);
                }
            }
            Form::TooLarge => {}
        }
    }

    /// The whole response; `None`: it has not come to its end, or is too large to be kept.
    pub fn whole(self) -> Option<Box<RawValue>> {
        let bytes = match self.form {
            Form::Document(bytes) => bytes,
            Form::Chat(reader) => match reader.end(None) {
                CallResult::Http { body, .. } => body,
                _ => return None,
            },
            Form::Events(mut reader, mut assembly) => {
                if let Some(last) = reader.take_unfinished() {
                    assembly.event(&last.data);
                }
                assembly.whole()?.to_string().into_bytes()
            }
            Form::TooLarge => return None,
        };
        let text = json::check(bytes.trim_ascii(), json::MAX_DEPTH).ok()?;
        if text.len() > MAX_ANSWER_BYTES { None } else { RawValue::from_string(text.into()).ok() }
    }
}
