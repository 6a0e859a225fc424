//! `requestState`: what a client carries from a question to the call that answers it. It is signed, so that it comes
//! back as it went, and says whose call it is of, so that nobody else's call is answered by it.

use serde::{Deserialize, Serialize};

use super::responses::quoted;
use crate::access::oauth::signed_state::{StateKey, Use};
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

    pub fn sign(&self, key: &StateKey, until: Timestamp) -> Option<String> {
        key.sign(Use::Question, self, until)
    }

    /// What was signed for this very call and is still good.
    pub fn verify(key: &StateKey, signed: &str, called: &Called, now: Timestamp) -> Option<Self> {
        key.verify::<Self>(Use::Question, signed, now).filter(|state| state.called == *called)
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
        let key = StateKey::new(b"secret");
        let mine = called("key:a", "words__ask", r#"{"a":1,"b":[true]}"#);
        let state = State::new(&mine, "ctx_1", 2);
        let signed = state.sign(&key, T.plus_ms(60_000)).unwrap();
        let verified = |called: &Called, at| State::verify(&key, &signed, called, at);
        assert_eq!(verified(&called("key:a", "words__ask", r#"{ "b":[true], "a":1.0 }"#), T), Some(state));
        assert_eq!(verified(&mine, T.plus_ms(61_000)), None);
        assert_eq!(verified(&called("key:b", "words__ask", r#"{"a":1,"b":[true]}"#), T), None);
        assert_eq!(verified(&called("key:a", "words__other", r#"{"a":1,"b":[true]}"#), T), None);
        assert_eq!(verified(&called("key:a", "words__ask", r#"{"a":2,"b":[true]}"#), T), None);
        let elsewhere = Called::new("other", "key:a", "", "words__ask", r#"{"a":1,"b":[true]}"#).unwrap();
        assert_eq!(verified(&elsewhere, T), None);
        let door = Called::new("default", "key:a", "words", "words__ask", r#"{"a":1,"b":[true]}"#).unwrap();
        assert_eq!(verified(&door, T), None);
        assert_eq!(State::verify(&StateKey::new(b"other"), &signed, &mine, T), None);
    }

    proptest! {
        #[test]
        fn what_was_changed_is_nothing(at in 0usize..400, to in "[A-Za-z0-9._=-]") {
            let key = StateKey::new(b"secret");
            let mine = called("key:a", "words__ask", "{}");
            let mut text = State::new(&mine, "ctx_1", 1).sign(&key, T.plus_ms(60_000)).unwrap();
            let at = at % text.len();
            prop_assume!(text[at..=at] != to);
            text.replace_range(at..=at, &to);
            prop_assert_eq!(State::verify(&key, &text, &mine, T), None);
        }
    }
}
