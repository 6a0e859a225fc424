//! `requestState`: what a client carries from a question to the call that answers it. It is signed, so that it cannot
//! be changed, and bound to its call, so that it answers no other.

use serde::{Deserialize, Serialize};

use super::responses::quoted;
use crate::access::oauth::signed_state::{StateKey, Use};
use crate::base::canonical::fingerprint;
use crate::base::principal_id::PrincipalId;
use crate::base::tenant_id::TenantId;
use crate::base::time::Timestamp;

/// The identity of a call: a repeated call is equal in all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallIdentity {
    tenant: TenantId,
    principal: PrincipalId,
    /// A digest of the endpoint, the tool and its arguments.
    call: String,
}

impl CallIdentity {
    /// `arguments` is an object's text. `None` if it has no canonical form.
    pub fn new(
        tenant: &TenantId,
        principal: &PrincipalId,
        endpoint: &str,
        tool: &str,
        arguments: &str,
    ) -> Option<Self> {
        let call = fingerprint(&format!("[{},{},{arguments}]", quoted(endpoint), quoted(tool)))?;
        Some(Self { tenant: tenant.clone(), principal: principal.clone(), call })
    }
}

/// The content of a `requestState`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    #[serde(flatten)]
    called: CallIdentity,
    pub context: String,
    /// The number of the question.
    pub question: usize,
}

impl State {
    /// The state of a question of a context, bound to its call.
    pub fn new(called: &CallIdentity, context: &str, question: usize) -> Self {
        Self { called: called.clone(), context: context.into(), question }
    }

    /// The signed text, valid until `until`.
    pub fn sign(&self, key: &StateKey, until: Timestamp) -> Option<String> {
        key.sign(Use::Question, self, until)
    }

    /// A state that was signed for this call and is still valid.
    pub fn verify(key: &StateKey, signed: &str, called: &CallIdentity, now: Timestamp) -> Option<Self> {
        key.verify::<Self>(Use::Question, signed, now).filter(|state| state.called == *called)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T: Timestamp = Timestamp(1_800_000_000_000);

    fn called(key: &str, tool: &str, arguments: &str) -> CallIdentity {
        CallIdentity::new(&TenantId::first(), &PrincipalId::of_key(key), "", tool, arguments).unwrap()
    }

    #[test]
    fn it_is_good_for_the_same_call_of_the_same_principal_in_its_time() {
        let key = StateKey::new(b"secret");
        let mine = called("a", "words__ask", r#"{"a":1,"b":[true]}"#);
        let state = State::new(&mine, "ctx_1", 2);
        let signed = state.sign(&key, T.plus_ms(60_000)).unwrap();
        let verify = |called: &CallIdentity, at| State::verify(&key, &signed, called, at);
        assert_eq!(verify(&called("a", "words__ask", r#"{ "b":[true], "a":1.0 }"#), T), Some(state));
        assert_eq!(verify(&mine, T.plus_ms(61_000)), None);
        assert_eq!(verify(&called("b", "words__ask", r#"{"a":1,"b":[true]}"#), T), None);
        assert_eq!(verify(&called("a", "words__other", r#"{"a":1,"b":[true]}"#), T), None);
        assert_eq!(verify(&called("a", "words__ask", r#"{"a":2,"b":[true]}"#), T), None);
        let elsewhere = CallIdentity::new(
            &TenantId::parse("other").unwrap(),
            &PrincipalId::of_key("a"),
            "",
            "words__ask",
            r#"{"a":1,"b":[true]}"#,
        )
        .unwrap();
        assert_eq!(verify(&elsewhere, T), None);
        let endpoint = CallIdentity::new(
            &TenantId::first(),
            &PrincipalId::of_key("a"),
            "words",
            "words__ask",
            r#"{"a":1,"b":[true]}"#,
        )
        .unwrap();
        assert_eq!(verify(&endpoint, T), None);
        assert_eq!(State::verify(&StateKey::new(b"other"), &signed, &mine, T), None);
    }

    proptest! {
        #[test]
        fn a_changed_state_is_rejected(at in 0usize..400, to in "[A-Za-z0-9._=-]") {
            let key = StateKey::new(b"secret");
            let mine = called("a", "words__ask", "{}");
            let mut text = State::new(&mine, "ctx_1", 1).sign(&key, T.plus_ms(60_000)).unwrap();
            let at = at % text.len();
            prop_assume!(text[at..=at] != to);
            text.replace_range(at..=at, &to);
            prop_assert_eq!(State::verify(&key, &text, &mine, T), None);
        }
    }
}
