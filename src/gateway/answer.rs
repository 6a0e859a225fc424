//! Responses of the gateway.

use serde::Serialize;
use wasm_bindgen::JsValue;

use crate::execution::Timings;
use crate::platform::http::{self, Headers};
use narthex_core::base::id::ContextId;
use narthex_core::http::media_type::EVENT_STREAM;
use narthex_core::http::problem::Problem;

pub enum Body {
    None,
    Text {
        content_type: &'static str,
        text: String,
    },
    /// From the platform or an object: a file, an opened socket.
    Made(JsValue),
}

pub struct Answer {
    pub status: u16,
    pub headers: Headers,
    pub body: Body,
    pub timings: Timings,
    /// For the log: the reason of a refusal.
    pub code: Option<&'static str>,
    pub cause: Option<String>,
    /// For the log: its context, where the path does not name it.
    pub context: Option<ContextId>,
    /// For the log: the service of that context.
    pub service: Option<String>,
    /// Pages of every origin may read it, as it says nothing about a tenant.
    pub public: bool,
    /// It is read while it is written, so intermediaries must not buffer it.
    pub streams: bool,
}

pub const JSON: &str = "application/json";

impl Answer {
    pub fn new(status: u16, body: Body) -> Self {
        Self {
            status,
            headers: Headers::default(),
            body,
            timings: Timings::default(),
            code: None,
            cause: None,
            context: None,
            service: None,
            public: false,
            streams: false,
        }
    }

    pub fn empty(status: u16) -> Self {
        Self::new(status, Body::None)
    }

    pub fn text(status: u16, content_type: &'static str, text: String) -> Self {
        Self::new(status, Body::Text { content_type, text })
    }

    pub fn json<T: Serialize>(status: u16, value: &T) -> Result<Self, Problem> {
        let text = serde_json::to_string(value).map_err(|error| Problem::internal(error.to_string()))?;
        Ok(Self::text(status, JSON, text))
    }

    pub fn made(status: u16, response: JsValue) -> Self {
        Self::new(status, Body::Made(response))
    }

    /// A response that is written piece by piece.
    pub fn stream(response: JsValue) -> Self {
        Self { streams: true, ..Self::made(200, response) }
    }

    /// The response to a HEAD where a GET opens a stream.
    pub fn head_of_stream() -> Self {
        Self { streams: true, ..Self::text(200, EVENT_STREAM, String::new()) }
    }

    pub fn problem(problem: &Problem, instance: &str, request_id: &str) -> Self {
        let mut answer =
            Self::text(problem.code.status(), "application/problem+json", problem.body(instance, request_id));
        for (name, value) in &problem.headers {
            answer.headers.set(name, value);
        }
        answer.code = Some(problem.code.as_str());
        answer.cause.clone_from(&problem.cause);
        answer
    }

    /// Adds to the log what the request was about.
    pub fn about(mut self, context: ContextId, service: Option<&str>) -> Self {
        (self.context, self.service) = (Some(context), service.map(Into::into));
        self
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.set(name, value);
        self
    }

    /// The platform's response. One from elsewhere keeps its headers and gets these in addition.
    pub fn send(mut self) -> JsValue {
        match self.body {
            Body::None => http::answer(self.status, &self.headers, None),
            Body::Text { content_type, text } => {
                self.headers.set("content-type", content_type);
                http::answer(self.status, &self.headers, Some(&text))
            }
            // An opened socket cannot be copied: it received its headers when it was opened.
            Body::Made(response) if self.status == 101 => response,
            Body::Made(response) => http::with_headers(&response, &self.headers),
        }
    }
}

pub fn internal(failure: impl std::fmt::Display) -> Problem {
    Problem::internal(failure.to_string())
}
