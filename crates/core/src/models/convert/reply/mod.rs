//! Responses of providers, whole and streamed: a reader for each provider's format makes [`piece::Piece`]s of them, a
//! writer for each client's format makes its events, or its whole response, of these.

mod chat_reader;
mod chat_writer;
mod error;
mod messages_reader;
mod messages_writer;
mod piece;
mod responses_writer;
mod stream;
#[cfg(test)]
mod tests;

pub use error::error;
pub use stream::{StreamConverter, response};
