//! The `type` of every event.

use serde::{Deserialize, Serialize};

use crate::context::status::Status;

/// Defines [`RegistryEvent`]: each variant with its CloudEvents `type`.
macro_rules! registry_events {
    ($($variant:ident = $word:literal,)*) => {
        /// Events of a registry, by their CloudEvents `type`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum RegistryEvent {
            $(#[serde(rename = $word)] $variant,)*
        }

        impl RegistryEvent {
            pub const ALL: &[RegistryEvent] = &[$(RegistryEvent::$variant),*];

            fn as_str(self) -> &'static str {
                match self {
                    $(RegistryEvent::$variant => $word,)*
                }
            }
        }
    };
}

registry_events! {
    ServiceRegistered = "service.registered",
    ServiceUpdated = "service.updated",
    ServiceDeregistered = "service.deregistered",
    ServiceStatus = "service.status",
    ServiceToolChanged = "service.tool_changed",
    KeyCreated = "key.created",
    KeyRevoked = "key.revoked",
    WebhookDisabled = "webhook.disabled",
    RegistryFilling = "registry.filling",
}

/// The CloudEvents `type` of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    Status(Status),
    Attempt,
    Progress,
    Registry(RegistryEvent),
    /// An event of a later version. No subscriber receives it.
    Unknown,
    /// Outside the log: events that a client asked for have been deleted.
    StreamGap,
    /// Outside the log: a webhook is tested.
    WebhookTest,
}

impl EventType {
    /// The types of all events.
    pub fn all() -> impl Iterator<Item = EventType> {
        let others = [EventType::Attempt, EventType::Progress, EventType::StreamGap, EventType::WebhookTest];
        let registry = RegistryEvent::ALL.iter().copied().map(EventType::Registry);
        Status::ALL.into_iter().map(EventType::Status).chain(others).chain(registry)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            EventType::Status(Status::Created) => "context.created",
            EventType::Status(Status::Validated) => "context.validated",
            EventType::Status(Status::Queued) => "context.queued",
            EventType::Status(Status::Executing) => "context.executing",
            EventType::Status(Status::InputRequired) => "context.input_required",
            EventType::Status(Status::Completed) => "context.completed",
            EventType::Status(Status::Failed) => "context.failed",
            EventType::Status(Status::Cancelled) => "context.cancelled",
            EventType::Status(Status::TimedOut) => "context.timed_out",
            EventType::Attempt => "context.attempt",
            EventType::Progress => "context.progress",
            EventType::Registry(event) => event.as_str(),
            EventType::Unknown => "unknown",
            EventType::StreamGap => "stream.gap",
            EventType::WebhookTest => "webhook.test",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_events_are_stored_by_their_types() {
        for event in RegistryEvent::ALL {
            assert_eq!(serde_json::to_value(event).unwrap(), event.as_str());
        }
    }
}
