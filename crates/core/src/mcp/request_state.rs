//! `requestState`: what a client carries from a question to the call that answers it. It is sealed, so that it comes back
//! as it went, and says whose call it is of, so that nobody else's call is answered by it.

use serde::{Deserialize, Serialize};

use super::responses::quoted;
use crate::access::oauth::signed_state::{SealKey, Use};
use crate::base::canonical::fingerprint;
use crate::base::time::Timestamp;

/// Who calls what, with what: a call that is repeated is the same in all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Called {
    tenant: String,
    principal: String,
    /// Of the door, the tool and its arguments.
    call: String,
}

impl Called {
    /// `arguments` is an object's text. Nothing when it cannot be told from others.
    pub fn new(tenant: &str, principal: &str, door: &str, tool: &str, arguments: &str) -> Option<Self> {
        let call = fingerprint(&format!("[{},{},{arguments}]", quoted(door), quoted(tool)))?;
        Some(Self { tenant: tenant.into(), principal: principal.into(), call })
    }
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    #[serde(flatten)]
    called: Called,
    pub context: String,
    /// The number of the question.
    pub question: usize,
}

impl State {
    pub fn new(called: &Called, context: &str, question: usize) -> Self {
        Self { called: called.clone(), context: context.into(), question }
    }

    pub fn seal(&self, key: &SealKey, until: Timestamp) -> Option<String> {
        key.seal(Use::Question, self, until)
    }

    /// What was sealed for this very call and is still good.
    pub fn open(key: &SealKey, sealed: &str, called: &Called, now: Timestamp) -> Option<Self> {
        key.open::<Self>(Use::Question, sealed, now).filter(|state| state.called == *called)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T: Timestamp = Timestamp(1_800_000_000_000);

    fn called(principal: &str, tool: &str, arguments: &str) -> Called {
        Called::new("default", principal, "", tool, arguments).unwrap()
    }

    #[test]
    fn it_is_good_for_the_same_call_of_the_same_principal_in_its_time() {
        let key = SealKey::new(b"secret");
        let mine = called("key:a", "words__ask", r#"{"a":1,"b":[true]}"#);
        let state = State::new(&mine, "ctx_1", 2);
        let sealed = state.seal(&key, T.plus_ms(60_000)).unwrap();
        let open = |called: &Called, at| State::open(&key, &sealed, called, at);
        assert_eq!(open(&called("key:a", "words__ask", r#"{ "b":[true], "a":1.0 }"#), T), Some(state));
        assert_eq!(open(&mine, T.plus_ms(61_000)), None);
        assert_eq!(open(&called("key:b", "words__ask", r#"{"a":1,"b":[true]}"#), T), None);
        assert_eq!(open(&called("key:a", "words__other", r#"{"a":1,"b":[true]}"#), T), None);
        assert_eq!(open(&called("key:a", "words__ask", r#"{"a":2,"b":[true]}"#), T), None);
        let elsewhere = Called::new("other", "key:a", "", "words__ask", r#"{"a":1,"b":[true]}"#).unwrap();
        assert_eq!(open(&elsewhere, T), None);
        let door = Called::new("default", "key:a", "words", "words__ask", r#"{"a":1,"b":[true]}"#).unwrap();
        assert_eq!(open(&door, T), None);
        assert_eq!(State::open(&SealKey::new(b"other"), &sealed, &mine, T), None);
    }

    proptest! {
        #[test]
        fn what_was_changed_is_nothing(at in 0usize..400, to in "[A-Za-z0-9._=-]") {
            let key = SealKey::new(b"secret");
            let mine = called("key:a", "words__ask", "{}");
            let mut text = State::new(&mine, "ctx_1", 1).seal(&key, T.plus_ms(60_000)).unwrap();
            let at = at % text.len();
            prop_assume!(text[at..=at] != to);
            text.replace_range(at..=at, &to);
            prop_assert_eq!(State::open(&key, &text, &mine, T), None);
        }
    }
}
