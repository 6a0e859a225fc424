//! What a response consists of, whatever its format.

use serde_json::{Value, json};

use super::super::super::token_usage::TokenUsage;

/// A block of a response. One is open at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    Text,
    Refusal,
    Thinking,
    /// Thinking that only its provider can read.
    Redacted(String),
    Tool {
        id: String,
        name: String,
    },
}

/// Why a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    End,
    Length,
    ToolUse,
    /// The model itself refused.
    Refused,
    /// The provider's filter ended it.
    Filtered,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// Its [`Meta`] has an id and a model from here on.
    Start,
    Open(Block),
    /// More text of the open block, or of the arguments of its tool.
    Delta(String),
    /// The signature of the open block.
    Signature(String),
    Close,
    /// The end. The usage is known.
    Stop(StopReason),
    /// The end by an error: the provider's.
    Error(Value),
}

/// What is known of a response beside its content.
#[derive(Debug, Clone, Default)]
pub struct Meta {
    pub id: String,
    pub model: String,
    /// Unix time, in seconds.
    pub created: u64,
    /// In OpenAI's words.
    pub service_tier: Option<String>,
    pub usage: Option<TokenUsage>,
}

/// Pieces in their order, as readers find them.
#[derive(Debug, Default)]
pub struct Pieces {
    list: Vec<Piece>,
    is_open: bool,
    /// The open block is a tool without arguments so far.
    lacks_arguments: bool,
    /// An event was not JSON.
    pub is_unreadable: bool,
}

impl Pieces {
    pub fn push(&mut self, piece: Piece) {
        self.list.push(piece);
    }

    /// Opens a block, and closes the one before.
    pub fn open(&mut self, block: Block) {
        self.close();
        self.is_open = true;
        self.lacks_arguments = matches!(block, Block::Tool { .. });
        self.list.push(Piece::Open(block));
    }

    pub fn delta(&mut self, text: &str) {
        if !text.is_empty() {
            self.lacks_arguments = false;
            self.list.push(Piece::Delta(text.into()));
        }
    }

    /// Closes the open block. The arguments of a tool are a JSON object in every format.
    pub fn close(&mut self) {
        if std::mem::take(&mut self.lacks_arguments) {
            self.list.push(Piece::Delta("{}".into()));
        }
        if std::mem::take(&mut self.is_open) {
            self.list.push(Piece::Close);
        }
    }

    pub fn stop(&mut self, reason: StopReason) {
        self.close();
        self.list.push(Piece::Stop(reason));
    }

    /// An event's data is not JSON. If it was to be, the response ends here, as without it the rest would mean
    /// something else. Other text is passed over.
    pub fn unreadable(&mut self, data: &str) {
        if data.trim_start().starts_with(['{', '[']) {
            self.is_unreadable = true;
            let message = "An event of the provider's stream is not JSON.";
            self.list.push(Piece::Error(json!({"type": "server_error", "message": message})));
        }
    }

    pub fn drain(&mut self) -> Vec<Piece> {
        std::mem::take(&mut self.list)
    }
}
