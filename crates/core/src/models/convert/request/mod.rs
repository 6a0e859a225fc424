//! Requests: one folder for each direction. Responses become Chat Completions first, message by message.

mod chat_messages;
mod chat_to_messages;
mod messages_to_chat;
mod responses;

pub use chat_to_messages::request as chat_to_messages;
pub use messages_to_chat::request as messages_to_chat;
pub use responses::{to_chat as responses_to_chat, to_messages as responses_to_messages};

/// The format names that faults mention.
const CHAT: &str = "OpenAI's Chat Completions";
const MESSAGES: &str = "Anthropic's Messages";
