//! `subscriptions/listen`: the notifications that a modern client subscribes to, and their form.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use super::error::Error;
use crate::base::json::Object;
use crate::base::order;

const ID: &str = "io.modelcontextprotocol/subscriptionId";
/// The longest name of a forwarded notification without the common prefix, in bytes.
const MAX_NAME: usize = 128;
/// The maximum number of tasks, and of resources, of one subscription.
const MAX_WATCHED: usize = 50;

/// The requested notifications, or those that were accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionFilter {
    #[serde(skip_serializing_if = "is_false")]
    pub tools_list_changed: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub prompts_list_changed: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub resources_list_changed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_subscriptions: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub task_ids: Vec<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl SubscriptionFilter {
    /// Reads the request's parameters. Unknown notifications are ignored.
    pub fn read(params: Option<&RawValue>) -> Result<Self, Error> {
        let wrong = |detail: &str| Error::Params(detail.into());
        let params = params.ok_or_else(|| wrong("subscriptions/listen needs params"))?;
        let mut params = Object::new(params.get(), "#").map_err(|_| wrong("params must be an object"))?;
        let asked = params.raw("notifications").ok_or_else(|| wrong("notifications must be an object"))?;
        let mut asked = Object::new(asked.get(), "#").map_err(|_| wrong("notifications must be an object"))?;
        let mut list = |name: &str| -> Result<Vec<String>, Error> {
            let Some(raw) = asked.raw_or_null(name) else { return Ok(Vec::new()) };
            let list: Option<Vec<String>> = serde_json::from_str(raw.get()).ok();
            let list = list.filter(|list| list.len() <= MAX_WATCHED && list.iter().all(|text| text.len() <= 2048));
            let mut list =
                list.ok_or_else(|| Error::Params(format!("{name} must be at most {MAX_WATCHED} strings")))?;
            order::sort_by(&mut list, Ord::cmp);
            list.dedup();
            Ok(list)
        };
        let (resource_subscriptions, task_ids) = (list("resourceSubscriptions")?, list("taskIds")?);
        let mut flag = |name: &str| asked.boolean(name).unwrap_or(false);
        Ok(Self {
            tools_list_changed: flag("toolsListChanged"),
            prompts_list_changed: flag("promptsListChanged"),
            resources_list_changed: flag("resourcesListChanged"),
            resource_subscriptions,
            task_ids,
        })
    }

    /// The part that upstream servers publish; `None` if nothing of that is requested.
    pub fn upstream_part(&self) -> Option<Self> {
        let theirs = Self { task_ids: Vec::new(), ..self.clone() };
        (theirs != Self::default()).then_some(theirs)
    }

    /// Whether a server's notification is requested. `uri` is its subject.
    pub fn matches(&self, method: &str, uri: Option<&str>) -> bool {
        match method {
            "notifications/tools/list_changed" => self.tools_list_changed,
            "notifications/prompts/list_changed" => self.prompts_list_changed,
            "notifications/resources/list_changed" => self.resources_list_changed,
            // A server may report a change of something below the watched URI.
            "notifications/resources/updated" => uri
                .is_some_and(|uri| self.resource_subscriptions.iter().any(|watched| uri.starts_with(watched.as_str()))),
            _ => false,
        }
    }
}

/// Whether a legacy client receives this notification of a server in its session: any valid method name but those that
/// belong to a request, which have names of their own here.
pub fn passes_in_session(method: &str) -> bool {
    let is_name = |text: &str| {
        (1..=MAX_NAME).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-/.".contains(&byte))
    };
    method.strip_prefix("notifications/").is_some_and(|rest| {
        is_name(rest) && !matches!(rest, "cancelled" | "progress" | "initialized") && !rest.starts_with("tasks/")
    })
}

/// A notification outside of requests and subscriptions. `params` is an object's text.
pub fn notification_outside(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":{},"params":{params}}}"#, json!(method))
}

/// A notification of a subscription, identified by its request's id. `params` is an object's text.
pub fn notification(id: &RawValue, method: &str, params: &str) -> String {
    let mut params: BTreeMap<String, &RawValue> = serde_json::from_str(params).unwrap_or_default();
    let meta = to_raw_value(&json!({ID: id})).ok();
    params.remove("resultType");
    if let Some(meta) = &meta {
        params.insert("_meta".into(), meta);
    }
    let params = serde_json::to_string(&params).unwrap_or_else(|_| "{}".into());
    notification_outside(method, &params)
}

/// The first message: the accepted notifications.
pub fn acknowledged(id: &RawValue, notification_outside: &SubscriptionFilter) -> String {
    let params = json!({"notifications": notification_outside}).to_string();
    notification(id, "notifications/subscriptions/acknowledged", &params)
}

/// The last message, if the gateway ends the subscription.
pub fn closed(id: &RawValue) -> String {
    let id = id.get();
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"complete","_meta":{{"{ID}":{id}}}}}}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.into()).unwrap()
    }

    fn read(notifications: &Value) -> Result<SubscriptionFilter, Error> {
        SubscriptionFilter::read(Some(&raw(&json!({"notifications": notifications}).to_string())))
    }

    #[test]
    fn the_requested_filter_is_acknowledged() {
        let asked = json!({"toolsListChanged": true, "promptsListChanged": false, "taskIds": ["b", "a", "b"],
            "resourceSubscriptions": ["file:///x"], "unknown": true});
        let wanted = read(&asked).unwrap();
        let notification_outside: Value = serde_json::from_str(&acknowledged(&raw("7"), &wanted)).unwrap();
        assert_eq!(notification_outside["method"], "notifications/subscriptions/acknowledged");
        assert_eq!(notification_outside["params"]["_meta"][ID], 7);
        let expected = json!({"toolsListChanged": true, "taskIds": ["a", "b"], "resourceSubscriptions": ["file:///x"]});
        assert_eq!(notification_outside["params"]["notifications"], expected);
        assert!(wanted.upstream_part().is_some());
        assert_eq!(read(&json!({"taskIds": ["a"]})).unwrap().upstream_part(), None);
    }

    #[test]
    fn invalid_params_are_rejected() {
        let many: Vec<String> = (0..=MAX_WATCHED).map(|number| number.to_string()).collect();
        for notifications in
            [json!(null), json!([]), json!({"taskIds": "a"}), json!({"taskIds": [1]}), json!({"taskIds": many})]
        {
            assert!(matches!(read(&notifications), Err(Error::Params(_))), "{notifications}");
        }
        assert!(SubscriptionFilter::read(None).is_err() && SubscriptionFilter::read(Some(&raw("{}"))).is_err());
    }

    #[test]
    fn only_what_is_wanted_of_a_server_is_passed_on() {
        let wanted = read(&json!({"promptsListChanged": true, "resourceSubscriptions": ["a:b"]})).unwrap();
        assert!(wanted.matches("notifications/prompts/list_changed", None));
        assert!(wanted.matches("notifications/resources/updated", Some("a:b")));
        assert!(wanted.matches("notifications/resources/updated", Some("a:b/c")));
        assert!(!wanted.matches("notifications/resources/updated", Some("a:c")));
        assert!(!wanted.matches("notifications/resources/list_changed", None));
        assert!(!wanted.matches("notifications/tools/list_changed", None));
        assert!(!wanted.matches("notifications/message", None));
    }

    #[test]
    fn notifications_in_a_session_are_forwarded_by_valid_method_names_only() {
        for method in ["notifications/prompts/list_changed", "notifications/message", "notifications/com.example/new-1"]
        {
            assert!(passes_in_session(method), "{method}");
            let message: Value = serde_json::from_str(&notification_outside(method, r#"{"a":1}"#)).unwrap();
            assert_eq!(message, json!({"jsonrpc": "2.0", "method": method, "params": {"a": 1}}));
        }
        let long = format!("notifications/{}", "a".repeat(MAX_NAME + 1));
        for method in [
            "notifications/x\",\"id\":5,\"method\":\"sampling/createMessage",
            "notifications/a b",
            "notifications/a\n",
            "notifications/é",
            "notifications/",
            "notifications/progress",
            "notifications/cancelled",
            "notifications/initialized",
            "notifications/tasks/status",
            "sampling/createMessage",
            "ping",
            long.as_str(),
        ] {
            assert!(!passes_in_session(method), "{method}");
            // The text is one notification with this name, whatever the name is.
            let message: Value = serde_json::from_str(&notification_outside(method, "{}")).unwrap();
            assert_eq!((&message["method"], message.get("id")), (&json!(method), None));
        }
    }

    #[test]
    fn every_message_names_its_subscription() {
        let text = notification(
            &raw(r#""s""#),
            "notifications/tasks",
            r#"{"resultType":"complete","taskId":"t","_meta":{"x":1}}"#,
        );
        let notification_outside: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(notification_outside["params"], json!({"taskId": "t", "_meta": {ID: "s"}}));
        let end: Value = serde_json::from_str(&closed(&raw(r#""s""#))).unwrap();
        assert_eq!((&end["id"], &end["result"]["_meta"][ID]), (&json!("s"), &json!("s")));
    }

    proptest! {
        #[test]
        fn any_input_is_read_or_rejected(text in "[{}\\[\\]\":,a-zA-Z1]{0,60}") {
            if let Ok(raw) = RawValue::from_string(text) {
                let _ = SubscriptionFilter::read(Some(&raw));
                let _ = notification(&raw, "a", raw.get());
            }
        }
    }
}
