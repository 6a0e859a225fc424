//! Calls of tools that a provider interleaves.

use proptest::prelude::*;

use super::*;

/// The calls of a client's stream of Messages. Panics where blocks are not one after the other.
fn calls(stream: &str) -> Vec<(String, String)> {
    let (mut calls, mut open) = (Vec::new(), None);
    for event in read(stream) {
        let index = event["index"].as_u64();
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert_eq!(open.replace(index.unwrap()), None);
                assert_eq!(index, Some(calls.len() as u64));
                calls.push((event["content_block"]["id"].as_str().unwrap_or_default().into(), String::new()));
            }
            "content_block_delta" => {
                assert_eq!(open, index);
                let delta = &event["delta"];
                let text = delta["partial_json"].as_str().or(delta["text"].as_str()).unwrap();
                calls.last_mut().unwrap().1.push_str(text);
            }
            "content_block_stop" => assert_eq!(open.take(), index),
            _ => assert_eq!(open, None),
        }
    }
    calls
}

fn made(deltas: &[Value]) -> Vec<(String, String)> {
    let mut choices: Vec<Value> = deltas.iter().map(|value| delta(value.clone())).collect();
    choices.push(finish("tool_calls"));
    calls(&stream(Endpoint::Messages, Endpoint::Chat, &json!({}), &chunks(&choices, None)))
}

fn call(index: Value, id: &str, name: &str, arguments: &str) -> Value {
    json!({"index": index, "id": id, "function": {"name": name, "arguments": arguments}})
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(id, text)| ((*id).into(), (*text).into())).collect()
}

#[test]
fn interleaved_calls_come_one_after_the_other() {
    let deltas = [
        json!({"tool_calls": [call(json!(0), "a", "f", ""), call(json!(1), "b", "g", "")]}),
        json!({"tool_calls": [call(json!(1), "", "", "{\"y\":\"}")]}),
        json!({"tool_calls": [call(json!(0), "", "", "{\"x\":")]}),
        json!({"content": "Wait."}),
        json!({"tool_calls": [call(json!(1), "", "", "\"}"), call(json!(0), "", "", "[1]}")]}),
    ];
    assert_eq!(made(&deltas), pairs(&[("a", "{\"x\":[1]}"), ("b", "{\"y\":\"}\"}"), ("", "Wait.")]));
}

#[test]
fn calls_without_arguments_have_empty_ones() {
    let deltas = [
        json!({"tool_calls": [call(json!(0), "a", "f", "")]}),
        json!({"tool_calls": [call(json!(1), "b", "g", "")]}),
        json!({"tool_calls": [call(json!(2), "c", "h", "{\"cut")]}),
    ];
    assert_eq!(made(&deltas), pairs(&[("a", "{}"), ("b", "{}"), ("c", "{\"cut")]));
}

#[test]
fn calls_with_one_index_or_none_are_distinguished_by_their_ids() {
    for index in [json!(0), json!(null)] {
        let deltas = [
            json!({"tool_calls": [call(index.clone(), "a", "f", "{}")]}),
            json!({"tool_calls": [call(index.clone(), "b", "f", "{}")]}),
        ];
        assert_eq!(made(&deltas), pairs(&[("a", "{}"), ("b", "{}")]));
    }
    let both = [json!({"tool_calls": [call(json!(null), "a", "f", "{}"), call(json!(null), "b", "f", "{}")]})];
    assert_eq!(made(&both), pairs(&[("a", "{}"), ("b", "{}")]));
    // An id that is repeated is that of the same call.
    let repeated = [
        json!({"tool_calls": [call(json!(0), "a", "f", "{")]}),
        json!({"tool_calls": [call(json!(0), "a", "f", "}")]}),
        json!({"tool_calls": [call(json!(0), "a", "f", " ")]}),
    ];
    assert_eq!(made(&repeated), pairs(&[("a", "{} ")]));
}

proptest! {
    #[test]
    fn any_order_of_pieces_gives_the_same_calls(order in prop::collection::vec(0usize..3, 0..60)) {
        let texts = ["{\"a\":{\"b\":\"\\\"}\"}}", "{\"list\":[1,{\"c\":2}]}", "{}"];
        let mut rest: Vec<(usize, std::str::Chars)> = texts.iter().map(|text| text.chars()).enumerate().collect();
        let mut deltas: Vec<Value> = Vec::new();
        for at in 0..3 {
            deltas.push(json!({"tool_calls": [call(json!(at), ["a", "b", "c"][at], "f", "")]}));
        }
        for at in order.into_iter().chain((0..3).flat_map(|at| std::iter::repeat_n(at, 30))) {
            if let Some(letter) = rest[at].1.next() {
                deltas.push(json!({"tool_calls": [call(json!(at), "", "", &letter.to_string())]}));
            }
        }
        prop_assert_eq!(made(&deltas), pairs(&[("a", texts[0]), ("b", texts[1]), ("c", texts[2])]));
    }
}
