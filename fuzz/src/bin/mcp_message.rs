//! JSON-RPC messages: what is passed on is part of what was sent, and an answer can always be addressed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use narthex_core::mcp::message::{Body, Message, Rejection, read};
use narthex_fuzz::tree;
use serde_json::value::RawValue;

fn is_id(id: &RawValue) {
    let value = tree(id.get());
    assert!(value.is_string() || value.is_number(), "{id}");
    assert!(id.get().len() <= 256);
}

fn holds(input: &[u8], message: &Result<Message<'_>, Rejection<'_>>) {
    let inside = |raw: &RawValue| input.as_ptr_range().contains(&raw.get().as_ptr());
    match message {
        Ok(Message::Request(request)) => {
            is_id(request.id);
            assert!((1..=128).contains(&request.method.len()));
            assert!(request.params.is_none_or(|params| inside(params) && tree(params.get()).is_object()));
        }
        Ok(Message::Notification { method, params }) => {
            assert!((1..=128).contains(&method.len()));
            assert!(params.is_none_or(|params| inside(params) && tree(params.get()).is_object()));
        }
        Ok(Message::Response { id, result }) => {
            is_id(id);
            assert!(result.is_none_or(inside));
        }
        Err(refusal) => refusal.id.into_iter().for_each(is_id),
    }
}

fuzz_target!(|input: &[u8]| match read(input) {
    Ok(Body::One(message)) => holds(input, &Ok(message)),
    Ok(Body::Batch(messages)) => {
        assert!((1..=32).contains(&messages.len()));
        messages.iter().for_each(|message| holds(input, message));
    }
    Err(refusal) => holds(input, &Err(refusal)),
});
