//! The endpoints that model clients know, and the formats that they speak.

/// The version of Anthropic's API that the gateway speaks, and for clients that name none.
pub const ANTHROPIC_VERSION: &str = "2023-06-01";

/// Whose format it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    OpenAi,
    Anthropic,
}

/// What a client asks a model for. Each is a capability of the services that have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    Chat,
    Responses,
    Embeddings,
    Messages,
    CountTokens,
}

impl Endpoint {
    /// The endpoints through which a model is used.
    pub const USING: [Self; 4] = [Self::Chat, Self::Responses, Self::Embeddings, Self::Messages];

    /// Whether calls of a capability use a model. The others are free.
    pub fn uses_model(capability: &str) -> bool {
        Self::USING.iter().any(|endpoint| endpoint.capability() == capability)
    }

    pub fn format(self) -> Format {
        match self {
            Self::Chat | Self::Responses | Self::Embeddings => Format::OpenAi,
            Self::Messages | Self::CountTokens => Format::Anthropic,
        }
    }

    /// The endpoints of providers that can serve it, best first: its own, and those that it is converted for.
    pub fn served_by(self) -> &'static [Endpoint] {
        match self {
            Self::Chat => &[Self::Chat, Self::Messages],
            Self::Responses => &[Self::Responses, Self::Chat, Self::Messages],
            Self::Embeddings => &[Self::Embeddings],
            Self::Messages => &[Self::Messages, Self::Chat],
            Self::CountTokens => &[Self::CountTokens],
        }
    }

    /// The capability.
    pub fn capability(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Responses => "respond",
            Self::Embeddings => "embed",
            Self::Messages => "messages",
            Self::CountTokens => "count_tokens",
        }
    }
}

/// The paths of OpenAI's API that the gateway does not have: they are refused in its format all the same.
const OTHER_PATHS: [&str; 11] = [
    "completions",
    "images",
    "audio",
    "moderations",
    "rerank",
    "files",
    "batches",
    "fine_tuning",
    "uploads",
    "vector_stores",
    "assistants",
];

const WITHOUT_VERSION: [&str; 7] =
    ["chat/completions", "responses", "embeddings", "messages", "messages/count_tokens", "completions", "models"];

/// The format of refusals below a path; `None` where they are problem details.
pub fn format_of_path(path: &str, has_anthropic_version: bool) -> Option<Format> {
    let rest = match path.strip_prefix("/v1/") {
        // A base URL with the version, for a library that adds it.
        Some(rest) => rest.strip_prefix("v1/").unwrap_or(rest),
        // One without the version, for a library that does not.
        None => WITHOUT_VERSION.into_iter().find(|known| path.strip_prefix('/') == Some(known))?,
    };
    let first = rest.split('/').next()?;
    match first {
        "messages" | "complete" => Some(Format::Anthropic),
        "models" if has_anthropic_version => Some(Format::Anthropic),
        "chat" | "responses" | "embeddings" | "models" => Some(Format::OpenAi),
        other => OTHER_PATHS.contains(&other).then_some(Format::OpenAi),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_the_format_of_their_path() {
        for (path, has_version, format) in [
            ("/v1/chat/completions", false, Some(Format::OpenAi)),
            ("/v1/messages", false, Some(Format::Anthropic)),
            ("/v1/messages/count_tokens", true, Some(Format::Anthropic)),
            ("/v1/messages/batches", false, Some(Format::Anthropic)),
            ("/v1/models", false, Some(Format::OpenAi)),
            ("/v1/models/a/b", true, Some(Format::Anthropic)),
            ("/v1/completions", false, Some(Format::OpenAi)),
            ("/v1/images/generations", false, Some(Format::OpenAi)),
            ("/v1/model-routes/a", true, None),
            ("/v1/v1/messages", true, Some(Format::Anthropic)),
            ("/chat/completions", false, Some(Format::OpenAi)),
            ("/messages", false, Some(Format::Anthropic)),
            ("/messages/count_tokens", false, Some(Format::Anthropic)),
            ("/models", false, Some(Format::OpenAi)),
            ("/models.json", false, None),
            ("/", false, None),
            ("/v1/contexts", false, None),
            ("/mcp", false, None),
        ] {
            assert_eq!(format_of_path(path, has_version), format, "{path}");
        }
    }
}
