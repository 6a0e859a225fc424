//! From a provider's response to a client's.

use serde_json::Value;

use super::super::super::endpoint::{Endpoint, Format};
use super::super::super::stream::SIGNS_OF_LIFE;
use super::super::Echo;
use super::chat_reader::ChatReader;
use super::chat_writer::{self, ChatWriter};
use super::messages_reader::MessagesReader;
use super::messages_writer::{self, MessagesWriter};
use super::piece::{Meta, Piece, Pieces};
use super::responses_writer::ResponsesWriter;

#[derive(Debug)]
enum Reader {
    Chat(ChatReader),
    Messages(MessagesReader),
}

impl Reader {
    fn new(to: Endpoint) -> Self {
        match to.format() {
            Format::OpenAi => Self::Chat(ChatReader::default()),
            Format::Anthropic => Self::Messages(MessagesReader::default()),
        }
    }
}

#[derive(Debug)]
enum Writer {
    Chat(ChatWriter),
    Messages(MessagesWriter),
    Responses(ResponsesWriter),
}

/// Converts a provider's streamed response, event by event.
#[derive(Debug)]
pub struct StreamConverter {
    reader: Reader,
    writer: Writer,
    meta: Meta,
    pieces: Pieces,
    is_over: bool,
}

impl StreamConverter {
    /// `from`: the client's format, `to`: the provider's, as for its request.
    pub fn new(from: Endpoint, to: Endpoint, echo: Echo, now_seconds: u64) -> Self {
        let writer = match from {
            Endpoint::Chat | Endpoint::Embeddings => Writer::Chat(ChatWriter::new(echo)),
            Endpoint::Messages | Endpoint::CountTokens => Writer::Messages(MessagesWriter::default()),
            Endpoint::Responses => Writer::Responses(ResponsesWriter::new(echo, false)),
        };
        let meta = Meta { created: now_seconds, ..Meta::default() };
        Self { reader: Reader::new(to), writer, meta, pieces: Pieces::default(), is_over: false }
    }

    /// Takes one event of the provider's: its type, which may be empty, and its data. Returns the client's events.
    pub fn event(&mut self, name: &str, data: &str) -> String {
        if self.is_over || SIGNS_OF_LIFE.contains(&name) {
            return String::new();
        }
        match &mut self.reader {
            Reader::Chat(reader) => reader.event(name, data, &mut self.meta, &mut self.pieces),
            Reader::Messages(reader) => reader.event(name, data, &mut self.meta, &mut self.pieces),
        }
        self.written()
    }

    /// The provider's stream has ended. Returns what the client's format still needs, if the response is whole.
    pub fn end(&mut self) -> String {
        if self.is_over {
            return String::new();
        }
        match &mut self.reader {
            Reader::Chat(reader) => reader.end(&mut self.pieces),
            Reader::Messages(reader) => reader.end(&mut self.pieces),
        }
        self.written()
    }

    /// Whether an event of the provider's was not JSON. The client's last event says so.
    pub fn is_unreadable(&self) -> bool {
        self.pieces.is_unreadable
    }

    fn written(&mut self) -> String {
        let mut text = String::new();
        for piece in self.pieces.drain() {
            self.is_over |= matches!(piece, Piece::Stop(_) | Piece::Error(_));
            match &mut self.writer {
                Writer::Chat(writer) => writer.piece(piece, &self.meta, &mut text),
                Writer::Messages(writer) => writer.piece(piece, &self.meta, &mut text),
                Writer::Responses(writer) => writer.piece(piece, &self.meta, &mut text),
            }
        }
        text
    }
}

/// Converts a provider's whole response, in the format of `to`, for a client of `from`.
pub fn response(from: Endpoint, to: Endpoint, body: &Value, echo: &Echo, now_seconds: u64) -> Value {
    let (mut meta, mut pieces) = (Meta { created: now_seconds, ..Meta::default() }, Pieces::default());
    match &mut Reader::new(to) {
        Reader::Chat(reader) => reader.whole(body, &mut meta, &mut pieces),
        Reader::Messages(reader) => reader.whole(body, &mut meta, &mut pieces),
    }
    let pieces = pieces.drain();
    match from {
        Endpoint::Chat | Endpoint::Embeddings => chat_writer::whole(pieces, &meta),
        Endpoint::Messages | Endpoint::CountTokens => messages_writer::whole(pieces, &meta),
        Endpoint::Responses => ResponsesWriter::new(echo.clone(), true).whole(pieces, &meta),
    }
}
