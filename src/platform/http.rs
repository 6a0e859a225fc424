//! Incoming requests, and their responses.

use js_sys::Uint8Array;
use wasm_bindgen::prelude::*;

use super::Failure;
use super::tasks::PlatformCall;

#[wasm_bindgen(module = "/src/platform/http.js")]
extern "C" {
    fn describe(request: &JsValue) -> String;
    #[wasm_bindgen(js_name = readBody)]
    fn read_body(token: u32, request: &JsValue, limit: f64);
    #[wasm_bindgen(js_name = whenLeft)]
    fn when_left(token: u32, request: &JsValue);
    fn respond(status: u16, headers: &str, body: Option<&str>) -> JsValue;
    #[wasm_bindgen(js_name = addHeaders)]
    fn add_headers(response: &JsValue, headers: &str) -> JsValue;
    fn asset(token: u32, request: &JsValue);
}

/// Why a body could not be read.
pub enum BodyError {
    TooLarge,
    TooSlow,
    /// The client has gone, or its stream failed.
    Broken(Failure),
}

/// The line at which the headers begin in the text of a request.
const HEADERS_AT: usize = 4;

/// The request line and headers. The body is read on demand.
pub struct Request {
    raw: JsValue,
    text: String,
}

impl Request {
    pub fn new(raw: JsValue) -> Self {
        let text = describe(&raw);
        Self { raw, text }
    }

    /// The platform's request.
    pub fn raw(&self) -> &JsValue {
        &self.raw
    }

    fn line(&self, at: usize) -> &str {
        self.text.split('\n').nth(at).unwrap_or_default()
    }

    pub fn method(&self) -> &str {
        self.line(0)
    }

    pub fn url(&self) -> &str {
        self.line(1)
    }

    /// The continent as two letters. Empty if the platform does not know it.
    pub fn continent(&self) -> &str {
        self.line(2)
    }

    /// The other end of the TCP connection, with its port. Empty if the platform does not state it.
    pub fn peer(&self) -> &str {
        self.line(3)
    }

    /// A header by its lower-case name. Repeated headers are joined by `, `.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.text.split('\n').skip(HEADERS_AT);
        while let (Some(key), Some(value)) = (lines.next(), lines.next()) {
            if key == name {
                return Some(value);
            }
        }
        None
    }

    /// All headers, by their lower-case names.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let lines: Vec<&str> = self.text.split('\n').skip(HEADERS_AT).collect();
        let pairs = lines.chunks(2).filter_map(|pair| Some((*pair.first()?, *pair.get(1)?))).collect::<Vec<_>>();
        pairs.into_iter()
    }

    /// The size of all headers, in bytes.
    pub fn header_bytes(&self) -> usize {
        self.text.len() - self.method().len() - self.url().len()
    }

    /// The whole body, of at most `limit` bytes, which must arrive within `timeout_ms`.
    pub async fn body(&self, limit: usize, timeout_ms: u64) -> Result<Vec<u8>, BodyError> {
        let begun = |token| read_body(token, &self.raw, limit as f64);
        let bytes =
            PlatformCall::within(timeout_ms as f64, begun).await.map_err(|error| match error.is_undefined() {
                true => BodyError::TooSlow,
                false => BodyError::Broken(error.into()),
            })?;
        if bytes.is_undefined() {
            return Err(BodyError::TooLarge);
        }
        Ok(bytes.unchecked_into::<Uint8Array>().to_vec())
    }

    /// The platform's signal for a client that leaves.
    pub fn signal(&self) -> JsValue {
        js_sys::Reflect::get(&self.raw, &"signal".into()).unwrap_or(JsValue::UNDEFINED)
    }

    /// Ends when the client has left, as far as the platform notices that before a write fails.
    pub fn left(&self) -> PlatformCall {
        PlatformCall::new(|token| when_left(token, &self.raw))
    }

    /// The file of the console at this path.
    pub async fn asset(&self) -> Result<JsValue, Failure> {
        Ok(PlatformCall::new(|token| asset(token, &self.raw)).await?)
    }
}

/// Headers of a request or response to send, stored flat.
#[derive(Debug, Default, Clone)]
pub struct Headers(String);

impl Headers {
    pub fn set(&mut self, name: &str, value: &str) {
        // A line break in a value would create another header.
        let clean = |text: &str| !text.bytes().any(|b| b == b'\n' || b == b'\r' || b == 0);
        if clean(name) && clean(value) {
            self.0.push_str(name);
            self.0.push('\n');
            self.0.push_str(value);
            self.0.push('\n');
        }
    }

    /// Adds other headers.
    pub fn append(&mut self, others: &Headers) {
        self.0.push_str(&others.0);
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

pub fn answer(status: u16, headers: &Headers, body: Option<&str>) -> JsValue {
    respond(status, headers.as_str(), body)
}

pub fn with_headers(response: &JsValue, headers: &Headers) -> JsValue {
    add_headers(response, headers.as_str())
}
