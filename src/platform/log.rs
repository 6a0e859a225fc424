//! The log: one JSON object per line, written by [`log_event!`].
//!
//! Every message and every field is listed here and documented in docs/operating.md; a test compares the two.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use narthex_core::base::id::{ContextId, StoreId};
use narthex_core::base::object_name::ObjectName;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::storage_error::StorageError;
use narthex_core::base::tenant_id::TenantId;

use super::Failure;
use super::objects::CallError;

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Info,
    Warn,
    Error,
}

macro_rules! messages {
    ($($name:ident: $level:ident $text:literal,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Message {
            $($name,)*
        }

        impl Message {
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$name,)*];

            pub(crate) fn level(self) -> Level {
                match self {
                    $(Self::$name => Level::$level,)*
                }
            }

            pub(crate) fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

messages! {
    // Its level depends on the status.
    Request: Info "request",
    AttemptNotCommitted: Error "attempt not committed",
    CallFailed: Warn "call failed",
    CallNotCancelled: Warn "call not cancelled",
    CallNotFollowed: Error "call not followed",
    CancellationNotSent: Warn "cancellation not sent",
    ChangeNotAnnounced: Warn "change not announced",
    ClientDocumentNotRead: Warn "client document not read",
    ContextNotRecorded: Error "context not recorded",
    ResultNotKept: Warn "result not kept",
    CredentialUseNotRecorded: Warn "credential use not recorded",
    DeliveryNotDeleted: Warn "delivery not deleted",
    DeliveryNotSaved: Warn "delivery not saved",
    EventsNotPublished: Warn "events not published",
    GrantNotListed: Warn "grant not listed",
    GrantNotUnlisted: Warn "grant not removed from the list",
    HubNotNotified: Warn "hub not notified",
    InputRequestNotMade: Warn "input request not made",
    KeySetNotFetched: Warn "key set not fetched",
    LaneNotConfigured: Warn "lane not configured",
    LaneNotDeleted: Warn "lane not deleted",
    LaneNotNotified: Warn "lane not notified",
    LaneNotReached: Warn "lane not reached",
    LaneNotSaved: Warn "lane not saved",
    LeaseNotRenewed: Warn "lease not renewed",
    LimitNotNotified: Warn "limit not notified",
    LimitNotSaved: Warn "limit not saved",
    OutcomeNotReported: Warn "outcome not reported",
    ProbeNotSaved: Warn "probe not saved",
    ProgressNotReported: Warn "progress not reported",
    PublishedEventsNotDeleted: Warn "published events not deleted",
    QueueMessageNotSent: Warn "queue message not sent",
    QueuedWorkNotRun: Warn "queued work not run",
    RefusalsNotCounted: Warn "refusals not counted",
    RegistrationsNotDeleted: Error "registrations not deleted",
    RegistryNearlyFull: Warn "registry nearly full",
    RegistryNotNotified: Warn "registry not notified",
    RegistryTooLarge: Error "registry too large",
    ServiceNotRead: Error "stored service not read",
    DocumentNotRead: Warn "service document not read",
    DocumentsUnreadable: Warn "documents of a later version",
    RemovalNotAnnounced: Error "removal not announced",
    RetentionNotPushed: Warn "retention not pushed",
    RevisionNotPushed: Warn "revision not pushed",
    SchedulerNotNotified: Warn "scheduler not notified",
    SecretsEncryptedAgain: Info "secrets encrypted again",
    SecretsNotDecrypted: Error "secrets not decrypted",
    SecretsNotEncryptedAgain: Error "secrets not encrypted again",
    SessionNotReached: Warn "session not reached",
    SessionNotWritten: Error "session not written",
    SettingNotValid: Error "setting not valid",
    ShardNotReached: Warn "shard not reached",
    SignInFailed: Warn "sign-in failed",
    SnapshotNotRefreshed: Warn "snapshot not refreshed",
    SocketsNotClosed: Warn "sockets not closed",
    StoreNotRegistered: Error "store not registered",
    StoreNotSwept: Warn "store not swept",
    SweepFailed: Error "sweep failed",
    TenantNotSwept: Warn "tenant not swept",
    TokenNotObtained: Warn "token not obtained",
    ToolsDoNotFit: Warn "tools do not fit",
    ToolsNotRead: Warn "tools not read",
    UsageLeftOut: Warn "usage left out",
    UsageNotRead: Warn "usage not read",
    WorkNotClaimed: Warn "work not claimed",
}

macro_rules! fields {
    ($($name:ident)*) => {
        /// Serialized under their own names.
        #[allow(non_camel_case_types, reason = "the names of the fields in the log")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
        pub(crate) enum Field {
            $($name,)*
        }

        impl Field {
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

fields! {
    request_id trace_id tenant principal region context store service
    method path status duration_ms memory_bytes code cause detail
    bucket bytes count done error grant issuer key left limit_bytes object queue shard url value variable
}

/// The value of a field. The ids of contexts and stores add their region.
pub(crate) enum Value<'a> {
    Absent,
    Text(&'a str),
    Owned(String),
    Number(u64),
    Context(&'a ContextId),
    Store(StoreId),
}

macro_rules! value_from {
    ($($type:ty: |$value:ident| $made:expr;)*) => {
        $(impl<'a> From<$type> for Value<'a> {
            fn from($value: $type) -> Self {
                $made
            }
        })*
    };
}

value_from! {
    &'a str: |text| Value::Text(text);
    &'a String: |text| Value::Text(text);
    String: |text| Value::Owned(text);
    &'a TenantId: |tenant| Value::Text(tenant.as_str());
    &'a ServiceId: |service| Value::Text(service.as_str());
    &'a PrincipalId: |principal| Value::Text(principal.as_str());
    &'a ObjectName: |name| Value::Text(name.as_str());
    &'a CallError: |error| Value::Owned(error.to_string());
    &'a Failure: |failure| Value::Text(&failure.0);
    &'a StorageError: |broken| Value::Text(&broken.0);
    u64: |number| Value::Number(number);
    u32: |number| Value::Number(number.into());
    u16: |number| Value::Number(number.into());
    usize: |number| Value::Number(number as u64);
    &'a ContextId: |id| Value::Context(id);
    StoreId: |store| Value::Store(store);
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Absent, Into::into)
    }
}

struct Line<'a> {
    level: Level,
    message: &'static str,
    fields: &'a [(Field, Value<'a>)],
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("level", &self.level)?;
        map.serialize_entry("message", self.message)?;
        map.serialize_entry("version", VERSION)?;
        for (field, value) in self.fields {
            let store = match value {
                Value::Absent => continue,
                Value::Text(text) => {
                    map.serialize_entry(field, text)?;
                    continue;
                }
                Value::Owned(text) => {
                    map.serialize_entry(field, text)?;
                    continue;
                }
                Value::Number(number) => {
                    map.serialize_entry(field, number)?;
                    continue;
                }
                Value::Context(id) => {
                    map.serialize_entry(field, id.as_str())?;
                    id.store()
                }
                Value::Store(store) => {
                    map.serialize_entry(field, &store.code())?;
                    Some(*store)
                }
            };
            if let Some(store) = store {
                map.serialize_entry(&Field::region, store.region.code())?;
            }
        }
        map.end()
    }
}

fn line(level: Level, message: Message, fields: &[(Field, Value<'_>)]) -> String {
    let line = Line { level, message: message.text(), fields };
    // A map of texts and numbers always serializes.
    serde_json::to_string(&line).unwrap_or_default()
}

pub(crate) fn write(message: Message, fields: &[(Field, Value<'_>)]) {
    write_at(message.level(), message, fields);
}

/// As [`write`], with an explicit level.
pub(crate) fn write_at(level: Level, message: Message, fields: &[(Field, Value<'_>)]) {
    worker::console_log!("{}", line(level, message, fields));
}

/// Writes one line: `log_event!(LaneNotReached, tenant = tenant, detail = &failure)`.
macro_rules! log_event {
    ($message:ident $(, $field:ident = $value:expr)* $(,)?) => {
        $crate::platform::log::write(
            $crate::platform::log::Message::$message,
            &[$(($crate::platform::log::Field::$field, $crate::platform::log::Value::from($value))),*],
        )
    };
}

pub(crate) use log_event;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use serde_json::Value as Json;

    use super::*;

    /// Messages of the entry guard itself, for when the Rust instance has died.
    const BY_THE_ENTRY_GUARD: &str = "request died";
    /// Messages of `narthex serve`: of its entry, and of its shell for what workerd says.
    const BY_NARTHEX_SERVE: [(&str, &str); 2] = [("clock set back", "warn"), ("runtime", "warn")];
    const EVERY_LINE: [&str; 3] = ["level", "message", "version"];

    /// The first cells of the rows of a table in docs/operating.md, without backticks.
    fn table(heading: &str) -> Vec<Vec<&'static str>> {
        let text = include_str!("../../docs/operating.md");
        let (_, rest) = text.split_once(heading).unwrap();
        let lines = rest.lines().skip_while(|line| !line.starts_with('|')).skip(2);
        let rows = lines.take_while(|line| line.starts_with('|'));
        rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect()).collect()
    }

    #[test]
    fn every_message_is_documented_with_its_level_and_no_other() {
        let level = |message: Message| match (message, message.level()) {
            (Message::Request, _) => "any",
            (_, Level::Info) => "info",
            (_, Level::Warn) => "warn",
            (_, Level::Error) => "error",
        };
        let mut known: BTreeSet<_> = Message::ALL.iter().map(|one| (one.text(), level(*one))).collect();
        assert_eq!(known.len(), Message::ALL.len(), "a message is listed twice");
        known.insert((BY_THE_ENTRY_GUARD, "error"));
        known.extend(BY_NARTHEX_SERVE);
        let rows = table("### Messages");
        assert_eq!(rows.len(), known.len());
        assert_eq!(rows.iter().map(|row| (row[0], row[1])).collect::<BTreeSet<_>>(), known);
    }

    #[test]
    fn every_field_is_documented_and_no_other() {
        let known = Field::ALL.iter().map(|field| format!("{field:?}"));
        let known: BTreeSet<_> = known.chain(EVERY_LINE.map(Into::into)).collect();
        let rows = table("### Fields");
        assert_eq!(rows.len(), known.len());
        assert_eq!(rows.iter().map(|row| row[0].to_string()).collect::<BTreeSet<_>>(), known);
    }

    #[test]
    fn the_entry_guard_writes_its_line_in_the_same_form() {
        let entry = include_str!("../../entry.mjs");
        assert!(entry.contains(&format!(r#"message: "{BY_THE_ENTRY_GUARD}""#)));
    }

    #[test]
    fn a_context_brings_its_region() {
        let store = StoreId::parse("eu03").unwrap();
        let id = ContextId::new(store, narthex_core::base::time::Timestamp(0), [0; 10]);
        let fields =
            [(Field::tenant, "acme".into()), (Field::context, (&id).into()), (Field::code, None::<&str>.into())];
        let line: Json = serde_json::from_str(&line(Level::Warn, Message::LeaseNotRenewed, &fields)).unwrap();
        let expected = serde_json::json!({
            "level": "warn", "message": "lease not renewed", "version": VERSION,
            "tenant": "acme", "context": id.as_str(), "region": "eu",
        });
        assert_eq!(line, expected);
    }

    proptest! {
        #[test]
        fn any_text_gives_one_line_of_json(text in "(\\PC|[\0-\u{1f}\u{7f}\"\\\\]|e\u{301}){0,40}", number: u64) {
            let fields = [(Field::detail, text.as_str().into()), (Field::count, number.into())];
            let line = line(Level::Warn, Message::LaneNotReached, &fields);
            prop_assert!(!line.contains('\n'));
            let read: Json = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(&read["detail"], &text);
            prop_assert_eq!(&read["count"], &number);
        }
    }
}
