//! Bodies of models' requests and responses: their bytes stay with the platform, and are read in pieces.

use std::cell::{Cell, RefCell};

use js_sys::{Array, Uint8Array};
use wasm_bindgen::prelude::*;

use super::super::Failure;
use super::super::http::Request;
use super::super::tasks::PlatformCall;

#[wasm_bindgen(module = "/src/platform/relay.js")]
extern "C" {
    #[wasm_bindgen(js_name = wholeBody)]
    fn whole_body(token: u32, request: &JsValue);
    #[wasm_bindgen(js_name = openBody)]
    fn open_body(request: &JsValue) -> JsValue;
    #[wasm_bindgen(js_name = nextOfBody)]
    fn next_of_body(token: u32, reader: &JsValue);
    #[wasm_bindgen(js_name = dropBody)]
    fn drop_body(reader: &JsValue);
    #[wasm_bindgen(js_name = openUpload)]
    fn open_upload(length: f64) -> Array;
    #[wasm_bindgen(js_name = writeUpload)]
    fn write_upload(token: u32, writer: &JsValue, part: &JsValue);
    #[wasm_bindgen(js_name = closeUpload)]
    fn close_upload(writer: &JsValue, is_whole: bool);
}

/// Pieces are read through a window of this size, in bytes.
const WINDOW: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that stay with the platform.
#[derive(Clone)]
pub struct Piece(pub(super) Uint8Array);

impl Piece {
    pub fn bytes(&self) -> usize {
        self.0.length() as usize
    }

    /// Reads the bytes, one window after the other.
    pub fn read<E>(&self, mut each: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut buffer = BUFFER.take();
        let (mut at, end) = (0, self.0.length());
        let mut result = Ok(());
        while at < end && result.is_ok() {
            let to = end.min(at + WINDOW as u32);
            let length = (to - at) as usize;
            if buffer.len() < length {
                buffer.resize(length, 0);
            }
            if let Some(window) = buffer.get_mut(..length) {
                self.0.subarray(at, to).copy_to(window);
                result = each(window);
            }
            at = to;
        }
        BUFFER.replace(buffer);
        result
    }

    /// As [`Piece::read`], to the end.
    pub fn each(&self, mut each: impl FnMut(&[u8])) {
        let _ = self.read(|bytes| {
            each(bytes);
            Ok::<_, ()>(())
        });
    }

    pub fn of_text(text: &str) -> Self {
        Self(Uint8Array::from(text.as_bytes()))
    }

    /// The bytes, which must be few.
    pub fn to_vec(&self) -> Vec<u8> {
        self.0.to_vec()
    }
}

/// The parts of a body, in order: what came, and texts in between.
pub struct Parts(pub(super) Array);

impl Default for Parts {
    fn default() -> Self {
        Self(Array::new())
    }
}

impl Parts {
    pub fn text(&self, text: &str) {
        self.0.push(&JsValue::from_str(text));
    }

    /// All of these.
    pub fn all(&self, parts: &Parts) {
        for part in parts.0.iter() {
            self.0.push(&part);
        }
    }

    /// The bytes of the pieces in a range of all of them together.
    pub fn range(&self, pieces: &[Piece], from: u64, to: u64) {
        let mut begins = 0;
        for piece in pieces {
            let ends = begins + piece.bytes() as u64;
            let (first, last) = (from.max(begins), to.min(ends));
            if first < last {
                self.0.push(&piece.0.subarray((first - begins) as u32, (last - begins) as u32));
            }
            begins = ends;
        }
    }
}

/// The body of a request, which is read in pieces.
pub struct BodySource {
    reader: JsValue,
    is_over: bool,
}

impl BodySource {
    /// The whole body at once, of a known size.
    pub async fn whole(request: &Request, timeout_ms: u64) -> Result<Piece, Option<Failure>> {
        let read = PlatformCall::within(timeout_ms as f64, |token| whole_body(token, request.raw())).await;
        read.map(|bytes| Piece(bytes.unchecked_into())).map_err(failure)
    }

    pub fn open(request: &Request) -> Self {
        let reader = open_body(request.raw());
        Self { is_over: reader.is_undefined(), reader }
    }

    /// The next piece. `None` at the end.
    ///
    /// # Errors
    /// The transfer broke, or (`None`) nothing came in this time.
    pub async fn next(&mut self, timeout_ms: u64) -> Result<Option<Piece>, Option<Failure>> {
        if self.is_over {
            return Ok(None);
        }
        let read = PlatformCall::within(timeout_ms as f64, |token| next_of_body(token, &self.reader)).await;
        let piece = read.map_err(failure)?;
        self.is_over = piece.is_undefined();
        Ok((!self.is_over).then(|| Piece(piece.unchecked_into())))
    }
}

impl Drop for BodySource {
    fn drop(&mut self) {
        if !self.is_over {
            drop_body(&self.reader);
        }
    }
}

/// `None`: a time-out.
pub(super) fn failure(error: JsValue) -> Option<Failure> {
    if error.is_undefined() { None } else { Some(error.into()) }
}

/// A body that is sent while it comes. Dropping it breaks it off.
pub struct Upload {
    pub(super) readable: JsValue,
    writer: JsValue,
    is_closed: Cell<bool>,
}

impl Upload {
    /// `bytes`: its length, or 0 if that is unknown.
    pub fn open(bytes: u64) -> Self {
        let ends = open_upload(bytes as f64);
        Self { readable: ends.get(0), writer: ends.get(1), is_closed: Cell::new(false) }
    }

    pub async fn write(&self, parts: Parts) -> Result<(), Failure> {
        for part in parts.0.iter() {
            PlatformCall::new(|token| write_upload(token, &self.writer, &part)).await?;
        }
        Ok(())
    }

    pub fn close(&self) {
        self.is_closed.set(true);
        close_upload(&self.writer, true);
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.is_closed.get() {
            close_upload(&self.writer, false);
        }
    }
}

pub(super) fn array(pieces: &[Piece]) -> Array {
    pieces.iter().map(|piece| &piece.0).collect()
}
