//! Patterns: their meaning, compared with Node's `RegExp`, and their cost.

use std::io::Write;
use std::process::{Command, Stdio};

use super::patterns::MAX_STATES;
use super::*;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::json;

fn schema(text: &Value) -> Schema {
    Schema::compile(&text.to_string()).unwrap_or_else(|faults| panic!("{text}: {faults:?}"))
}

fn accepts(pattern: &str, text: &str) -> bool {
    schema(&json!({"pattern": pattern})).validate(&json!(text)).is_ok()
}

fn refused(text: &Value) -> Vec<Fault> {
    Schema::compile(&text.to_string()).err().unwrap_or_else(|| panic!("{text} is accepted"))
}

#[test]
fn patterns_mean_what_ecma_262_says() {
    for (pattern, fits, fits_not) in [
        // A [ within a class is an ordinary character, and so are two of &, - and ~.
        (r"^[^[\]]+$", vec!["abc", "&&"], vec!["a[b", "]", ""]),
        ("^[a-z&&x]$", vec!["a", "x", "&"], vec!["-", "&&"]),
        ("^[+--]$", vec!["+", ",", "-"], vec!["a", "."]),
        ("^[~~a]$", vec!["~", "a"], vec!["b"]),
        ("^[[:alpha:]]$", vec!["a]", ":]", "[]"], vec!["b]", "a"]),
        ("^[[a]+$", vec!["[a["], vec!["]"]),
        ("[]", vec![], vec!["", "a", "]"]),
        ("^[^]$", vec!["a", "\n", "\u{10ffff}"], vec!["", "ab"]),
        (r"^[\w-.]+$", vec!["a-b.c"], vec!["a b"]),
        (r"^[\b]$", vec!["\u{8}"], vec!["b"]),
        (r"^\d+$", vec!["12"], vec!["١", "", "1a"]),
        (
            r"^\s$",
            vec!["\u{feff}", "\u{2028}", "\u{2003}", "\u{1680}", "\u{b}"],
            vec!["\u{180e}", "\u{200b}", "\u{85}"],
        ),
        (r"^\W$", vec!["é", " "], vec!["_", "a"]),
        (r"\bé", vec!["aé"], vec!["é", " é"]),
        ("^.$", vec!["a", "\u{85}", "😀"], vec!["\n", "\r", "\u{2028}", "\u{2029}"]),
        ("a$", vec!["ba"], vec!["a\n"]),
        (r"^\cJ\x41\u0042\u{43}\0$", vec!["\nABC\0"], vec!["\nABC"]),
        (r"^\ud83d\ude00$", vec!["😀"], vec!["😁"]),
        (r"^[\u{1f600}-\u{1f64f}]{2}$", vec!["😀😁"], vec!["😀"]),
        ("^a{,2}$", vec!["a{,2}"], vec!["a", "aa"]),
        ("^{a}$", vec!["{a}"], vec!["a"]),
        ("^a]}$", vec!["a]}"], vec!["a"]),
        (r"^\p{Lu}\p{Script=Greek}\P{L}$", vec!["Aα1"], vec!["aα1", "AA1"]),
        (r"^\/\-\.\_$", vec!["/-._"], vec!["a"]),
        ("^(?:a|)(?<n>b)??(c{0}d)+?$", vec!["ad", "abd", "dd"], vec!["", "acd"]),
        ("^(?i:straße)ß$", vec!["STRAẞEß", "straßeß"], vec!["STRAẞEẞ"]),
        ("(?i)^k$", vec!["K", "k", "\u{212a}"], vec!["q"]),
        ("(?m:^a$)", vec!["b\na\nc", "a"], vec!["ba"]),
        ("^(?s:.)$", vec!["\n"], vec![""]),
        ("^(a*)*(b|a*)+$", vec!["", "aab", "b"], vec!["c"]),
    ] {
        for text in fits {
            assert!(accepts(pattern, text), "{pattern} refuses {text:?}");
        }
        for text in fits_not {
            assert!(!accepts(pattern, text), "{pattern} takes {text:?}");
        }
    }
}

/// Sources of realistic patterns, and strings that nearly match.
fn piece() -> impl Strategy<Value = String> {
    let atom = prop_oneof![
        "[a-cA-C0-2 _&~\\[\\]{},:-]",
        prop::sample::select(vec![
            "\\d", "\\D", "\\w", "\\W", "\\s", "\\S", "\\b", "\\B", "^", "$", ".", "\\.", "\\-", "\\[", "\\]", "\\/",
            "\\n", "\\t", "\\0", "\\x61", "\\u0062", "\\u{63}", "\\cA", "é", "😀", "\\p{L}", "\\P{Lu}", "[^]", "[]",
            "[", "]", "{", "}", "{2}", "{1,}", "{,3}", "-", "a-c",
        ])
        .prop_map(String::from),
        "\\[\\^?[a-c0-2&~:\\[-]{0,4}\\]",
        "\\[\\^?[a-c](\\\\w|\\\\d|-|\\\\-|&&|--|\\\\\\]|\\[|\\\\s|~~|\\\\b){0,3}[x-z]\\]",
    ];
    let repeated = (atom, prop::sample::select(vec!["", "", "", "*", "+", "?", "{2}", "{1,3}", "{0,2}?", "*?"]));
    let repeated = repeated.prop_map(|(atom, count)| format!("{atom}{count}"));
    let sequence = prop::collection::vec(repeated, 0..4).prop_map(|parts| parts.concat());
    let group = (sequence.clone(), sequence.clone(), prop::sample::select(vec!["(", "(?:", "(?<n>"]));
    let group = group.prop_map(|(one, other, open)| format!("{open}{one}|{other})"));
    (sequence, prop::option::of(group), prop::sample::select(vec!["", "+", "*", "{2}"]), any::<[bool; 2]>()).prop_map(
        |(sequence, group, count, [begins, ends])| {
            let group = group.map_or_else(String::new, |group| format!("{group}{count}"));
            format!("{}{sequence}{group}{}", if begins { "^" } else { "" }, if ends { "$" } else { "" })
        },
    )
}

/// Node's result for each pattern: which of the strings match, by code points where the pattern allows it, and whether
/// it does; `None` for an invalid pattern.
const REFEREE: &str = r#"
let input = ""; process.stdin.on("data", (data) => input += data).on("end", () => {
  const made = (pattern, flags) => { try { return new RegExp(pattern, flags); } catch { return undefined; } };
  const said = JSON.parse(input).map(([pattern, texts]) => {
    const strict = made(pattern, "u");
    const loose = strict ?? made(pattern, "");
    return loose ? { strict: !!strict, matches: texts.map((text) => loose.test(text)) } : null;
  });
  process.stdout.write(JSON.stringify(said));
});"#;

#[test]
fn node_and_the_gateway_agree_on_patterns() {
    let mut runner = TestRunner::deterministic();
    let texts = prop::collection::vec("[a-cA-C0-2x-z \\n\\t&~\\[\\]{},:._/é😀\u{2028}\u{feff}-]{0,6}", 6);
    let cases: Vec<(String, Vec<String>)> =
        (0..4_000).map(|_| (piece(), &texts).new_tree(&mut runner).unwrap().current()).collect();
    let node = Command::new("node").args(["-e", REFEREE]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut node) = node else { panic!("node is needed, as for all tests") };
    node.stdin.take().unwrap().write_all(serde_json::to_string(&cases).unwrap().as_bytes()).unwrap();
    let said: Vec<Option<Value>> = serde_json::from_slice(&node.wait_with_output().unwrap().stdout).unwrap();
    let (mut agreed, mut differ) = (0, Vec::new());
    for ((pattern, texts), said) in cases.iter().zip(said) {
        let ours = Schema::compile(&json!({"pattern": pattern}).to_string());
        match (ours, said) {
            (Ok(ours), Some(said)) => {
                // Without the flag u, a character beyond the first plane counts as two.
                let strict = said["strict"] == true;
                let one_plane = |text: &str| text.chars().all(|c| (c as u32) < 0x1_0000);
                for (text, theirs) in texts.iter().zip(said["matches"].as_array().unwrap()) {
                    if !(strict
                        || one_plane(text)
                            && one_plane(pattern)
                            && !pattern.contains("\\p")
                            && !pattern.contains("\\P"))
                    {
                        continue;
                    }
                    agreed += 1;
                    if json!(ours.validate(&json!(text)).is_ok()) != *theirs {
                        differ.push(format!("{pattern} on {text:?}: Node says {theirs}"));
                    }
                }
            }
            (Err(faults), Some(said)) if said["strict"] == true => differ.push(format!("{pattern}: {faults:?}")),
            // `\u{…}` needs the flag u, next to something that is only valid without it.
            (Ok(_), None) if pattern.contains("\\u{") => {}
            (Ok(_), None) => differ.push(format!("{pattern} is not a pattern, says Node")),
            (Err(_), Some(_) | None) => {}
        }
    }
    assert!(differ.is_empty(), "{} differ: {:#?}", differ.len(), &differ[..differ.len().min(20)]);
    assert!(agreed > 5_000, "{agreed}");
}

#[test]
fn common_patterns_are_taken_however_many_there_are() {
    let properties = |count: usize, pattern: &dyn Fn(usize) -> String| -> Value {
        let all = (0..count).map(|n| (format!("p{n}"), json!({"type": "string", "pattern": pattern(n)})));
        json!({"properties": all.collect::<serde_json::Map<_, _>>()})
    };
    for text in [
        properties(40, &|_| "^.{1,255}$".into()),
        properties(60, &|_| r"^[\w+=,.@-]{1,128}$".into()),
        properties(60, &|n| format!(r"^[\w+=,.@-]{{1,{}}}$", 128 + n)),
        properties(100, &|n| format!(r"^[\p{{L}}\p{{M}}' -]{{1,{}}}$", 100 + n)),
        properties(200, &|n| format!("^([a-z0-9]([a-z0-9-]{{0,61}}[a-z0-9])?\\.)+{n}[a-z]{{2,63}}$")),
    ] {
        let schema = schema(&text);
        let names = text["properties"].as_object().unwrap().keys();
        let value: Value =
            names.map(|name| (name.clone(), json!("a".repeat(60)))).collect::<serde_json::Map<_, _>>().into();
        let faults = schema.validate(&value).err().unwrap_or_default();
        assert!(faults.iter().all(|fault| fault.detail.starts_with("must match")), "{faults:?}");
    }
}

#[test]
fn a_pattern_with_too_many_states_is_named_with_its_bound() {
    let faults = refused(&json!({"items": {"pattern": "((a{100}){100}){100}"}}));
    assert_eq!(faults[0].pointer, "/items/pattern");
    let detail = "must not repeat too much: it has 1000001 states, and one pattern may have 20000";
    assert_eq!(faults[0].detail, detail);
    schema(&json!({"pattern": format!("a{{{}}}", MAX_STATES - 1)}));
    refused(&json!({"pattern": format!("a{{{MAX_STATES}}}")}));
    refused(&json!({"patternProperties": {"(?:.|a){4294967295}": true}}));
    // All together, however they are distributed.
    let many: Vec<Value> = (0..60).map(|n| json!({"pattern": format!("{n}[a-z]{{2000}}")})).collect();
    let faults = refused(&json!({"anyOf": many}));
    assert_eq!(faults[0].pointer, "");
    assert!(
        faults[0].detail.contains("too many patterns") && faults[0].detail.contains("limit is 100000"),
        "{faults:?}"
    );
}

#[test]
fn a_text_that_is_too_long_for_a_pattern_is_refused_by_name() {
    // It may have begun at any of the last 200 characters, so hardly any position is like another.
    let mut seed = 7_u64;
    let mut letter = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if seed >> 63 == 0 { 'a' } else { 'b' }
    };
    let long: String = (0..100_000).map(|_| letter()).collect();
    let items = schema(&json!({"properties": {"a": {"items": {"pattern": "a[ab]{200}c"}}}}));
    let faults = items.validate(&json!({"a": ["short", long]})).unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].pointer, "/a/1");
    let detail = &faults[0].detail;
    assert!(detail.contains("the pattern a[ab]{200}c with a text of 100000 characters"), "{detail}");
    // Member names are strings, too.
    let named = schema(&json!({"patternProperties": {"a[ab]{200}c": true}}));
    let faults = named.validate(&json!({"b": 1, &long: 1})).unwrap_err();
    assert!(faults.len() == 1 && faults[0].detail.contains("100000 characters"), "{faults:?}");
    // So are many strings together.
    let many: Vec<String> = long.as_bytes().chunks(50).map(|part| String::from_utf8_lossy(part).into()).collect();
    let items = schema(&json!({"items": {"pattern": "a[ab]{1,200}c"}}));
    assert_eq!(items.validate(&json!(many)).unwrap_err().len(), 1);
    // A long but cheap pattern is accepted, however often it may begin.
    let all: Vec<Value> = (0..2).map(|n| json!({"pattern": format!("\\w{{0,200}}{n}")})).collect();
    let faults = schema(&json!({"allOf": all})).validate(&json!("x".repeat(100_000))).unwrap_err();
    assert!(faults.len() == 2 && faults[0].detail.starts_with("must match"), "{faults:?}");
    let cheap = schema(&json!({"pattern": "^[A-Za-z0-9+/]*={0,2}$"}));
    assert_eq!(cheap.validate(&json!("A".repeat(250_000))), Ok(()));
    let counted = schema(&json!({"pattern": "^[A-Za-z0-9+/]{1,4000}={0,2}$"}));
    assert_eq!(counted.validate(&json!("A".repeat(4_000))), Ok(()));
}

#[test]
fn the_length_beside_a_pattern_is_looked_at_first() {
    let text = json!({"maxLength": 10, "pattern": "(\\w{0,200}0){3}"});
    let faults = schema(&text).validate(&json!("x".repeat(200_000))).unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].detail, "must have at most 10 characters, has 200000");
    assert_eq!(
        schema(&text).validate(&json!("xxxxxxxxxx")).unwrap_err()[0].detail,
        "must match the pattern (\\w{0,200}0){3}"
    );
    // By characters, not bytes.
    assert_eq!(schema(&json!({"maxLength": 2, "pattern": "^é+$"})).validate(&json!("éé")), Ok(()));
    assert_eq!(schema(&json!({"maxLength": 2, "pattern": "^a+$"})).validate(&json!("éé")).unwrap_err().len(), 1);
}

#[test]
fn pointers_and_references_through_patterns_are_as_they_were_written() {
    let text = json!({
        "patternProperties": {"^a/b": {"type": "integer"}, "^~": {"patternProperties": {"c$": {"type": "null"}}}},
        "properties": {
            "x": {"$ref": "#/patternProperties/%5Ea~1b"},
            "y": {"$ref": "#/patternProperties/%5E~0/patternProperties/c$"},
            "patternProperties": {"pattern": "^d"}
        }
    });
    let faults = schema(&text).validate(&json!({
        "a/bc": "no", "~1": {"c": 1}, "x": "no", "y": 7, "patternProperties": "e"
    }));
    let pointers: Vec<String> = faults.unwrap_err().into_iter().map(|fault| fault.pointer).collect();
    assert_eq!(pointers, ["/a~1bc", "/patternProperties", "/x", "/y", "/~01/c"]);
    let breach = refused(&json!({"patternProperties": {"^a/b": {"minLength": -1}}}));
    assert_eq!(breach[0].pointer, "/patternProperties/^a~1b/minLength");
    let circle = refused(&json!({"patternProperties": {"^a": {"$ref": "#/patternProperties/%5Ea"}}}));
    assert_eq!(circle[0].pointer, "/patternProperties/^a");
    let inside = json!({
        "$id": "https://acme.com/a", "$defs": {"n": {"$id": "n", "patternProperties": {"^p": {"type": "null"}}}},
        "$ref": "n#/patternProperties/%5Ep"
    });
    assert_eq!(schema(&inside).validate(&json!(null)), Ok(()));
    assert!(schema(&inside).validate(&json!(1)).is_err());
}

/// Schemas and values whose sizes multiply; each is answered without doing all the work.
#[test]
fn no_keyword_multiplies_a_schema_by_a_value() {
    let numbers = |count: usize| (0..count).collect::<Vec<usize>>();
    let members = |count: usize| -> Value {
        (0..count).map(|n| (format!("m{n}"), json!(1))).collect::<serde_json::Map<_, _>>().into()
    };
    let names: Vec<String> = (0..6_000).map(|n| format!("n{n}")).collect();
    // Arrays of arrays that only differ in their structure.
    let nested = |mut bits: usize| {
        let (mut open, mut text) = (0, String::from("["));
        for _ in 0..14 {
            let opens = bits & 1 == 1;
            bits >>= 1;
            if opens {
                text.push_str(if text.ends_with(']') { ",[" } else { "[" });
                open += 1;
            } else if open > 0 {
                text.push(']');
                open -= 1;
            }
        }
        serde_json::from_str::<Value>(&(text + &"]".repeat(open + 1))).unwrap()
    };
    for (text, value) in [
        (json!({"items": {"enum": numbers(9_000)}}), json!(vec![9_999; 20_000])),
        (json!({"items": {"required": names}}), json!(vec![json!({}); 2_000])),
        (
            json!({"items": {"dependentRequired": names.iter().map(|n| (n.clone(), json!([]))).collect::<serde_json::Map<_, _>>()}}),
            json!(vec![json!({}); 4_000]),
        ),
        (json!({"allOf": vec![json!({}); 900]}), members(20_000)),
        (json!({"allOf": vec![json!({"maxLength": 1_000_000}); 900]}), json!("x".repeat(250_000))),
        (
            json!({"allOf": vec![json!({"properties": {"a": true}}); 300], "unevaluatedProperties": true}),
            members(5_000),
        ),
        (json!({"uniqueItems": true}), json!((0..16_384).map(nested).collect::<Vec<_>>())),
        (json!({"$ref": Dialect::Draft2020.url()}), json!({"allOf": vec![json!({}); 20_000]})),
        (
            json!({"items": (0..6_000).map(|n| (format!("x-{n}"), json!(1))).collect::<serde_json::Map<_, _>>()}),
            json!(numbers(60_000)),
        ),
    ] {
        let schema = schema(&text);
        let faults = schema.validate(&value).unwrap_err();
        assert_eq!(faults[0].detail, "is too large or too deep to be checked against this schema", "{faults:?}");
    }
    // A schema is not rejected merely for its length.
    assert_eq!(schema(&json!({"items": {"type": "integer"}})).validate(&json!(numbers(100_000))), Ok(()));
    assert_eq!(schema(&json!({"uniqueItems": true})).validate(&json!(numbers(60_000))), Ok(()));
    let faults = schema(&json!({"additionalProperties": false})).validate(&members(30_000)).unwrap_err();
    assert_eq!((faults.len(), faults[0].pointer.as_str()), (50, "/m0"));
    let objects = json!((0..10_000).map(|n| json!({format!("k{n}"): 1})).collect::<Vec<_>>());
    let faults = schema(&json!({"items": {"propertyNames": false}})).validate(&objects).unwrap_err();
    assert_eq!((faults.len(), faults[0].pointer.as_str()), (50, "/0/k0"));
}
