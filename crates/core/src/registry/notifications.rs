//! What other objects must learn of a change: lanes their configuration, hubs and lanes which sockets to close, stores
//! and hubs how long data is kept.
//!
//! A notification is a row of the write's transaction, and the row stays until every recipient has confirmed it. So
//! none is lost, whatever fails in between. A repeated one has no further effect.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::access::revocation::Revocation;
use crate::base::order;
use crate::base::principal_id::PrincipalId;
use crate::base::retries::doubling_pause_ms;
use crate::base::service_id::ServiceId;
use crate::base::tenant_id::TenantId;
use crate::base::time::Timestamp;
use crate::services::ServiceLimits;

/// The pause before the first repetition, in milliseconds; it doubles with each failure.
const FIRST_PAUSE_MS: u64 = 1_000;
const MAX_PAUSE_MS: u64 = 300_000;
/// Notifications sent at a time.
const MAX_IN_FLIGHT: usize = 50;
/// The pause before the next tenants are notified, in milliseconds: an invocation can only call so many objects.
const NEXT_TENANTS_MS: u64 = 500;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notification {
    /// To the lane of a service: how it is reached, as it is registered when the notification is sent.
    ConfigureLane { service: ServiceId },
    /// To the lane of a service that was deleted.
    ForgetLane(LaneSettings),
    /// Credentials were revoked: their sockets must be closed.
    RevokePrincipal { principal: PrincipalId, at: Recipient },
    /// Sockets must be closed whose credentials depend on what was revoked.
    RevokeDependents { revocation: Revocation, at: Recipient },
    /// To the registries of other tenants, which notify their own hubs and lanes.
    Relay { revocation: Revocation, tenants: Tenants },
    /// To the hub and the stores: how long data is kept.
    Retain,
}

/// An object that holds sockets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipient {
    Hub,
    /// The lane of a service that connects.
    Lane(LaneSettings),
}

impl Notification {
    /// Whether an earlier one need no longer be sent: the last word to a lane counts, and the last of equal ones.
    pub fn supersedes(&self, earlier: &Self) -> bool {
        let lane_of = |notification: &Self| match notification {
            Self::ConfigureLane { service } | Self::ForgetLane(LaneSettings { service, .. }) => Some(service.clone()),
            Self::RevokePrincipal { .. } | Self::RevokeDependents { .. } | Self::Relay { .. } | Self::Retain => None,
        };
        self == earlier || lane_of(self).is_some_and(|lane| lane_of(earlier) == Some(lane))
    }
}

/// What every message to a lane says of its service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneSettings {
    pub service: ServiceId,
    /// When this was written; the newest counts.
    pub configured_at: Timestamp,
    /// When the service was given its address.
    pub moved_at: Timestamp,
    #[serde(default)]
    pub max_concurrency: Option<u64>,
    #[serde(default)]
    pub max_queue: u64,
    #[serde(default)]
    pub grace_ms: Option<u64>,
}

impl LaneSettings {
    /// `times`: when the service was last written, and when it was given its address.
    pub fn new(
        service: &ServiceId,
        times: (Timestamp, Timestamp),
        limits: &ServiceLimits,
        grace_ms: Option<u64>,
    ) -> Self {
        let ((configured_at, moved_at), ServiceLimits { max_concurrency, max_queue }) = (times, limits.clone());
        Self { service: service.clone(), configured_at, moved_at, max_concurrency, max_queue, grace_ms }
    }
}

/// The other tenants that a revocation concerns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tenants {
    One(TenantId),
    /// All after this one, by id; at first all.
    After(String),
}

#[derive(Debug)]
struct Pending {
    notification: Notification,
    /// The numbers of those that it has made obsolete before they were tried.
    replaces: Vec<u64>,
    /// Those of them that are still under way: it is sent after them, so that it has the last word.
    blocked_by: Vec<u64>,
    in_flight: bool,
    /// It was sent, or its sending has failed, at least once.
    was_tried: bool,
    failures: u32,
    due: Timestamp,
}

impl Pending {
    fn new(notification: Notification, due: Timestamp) -> Self {
        Self {
            notification,
            replaces: Vec::new(),
            blocked_by: Vec::new(),
            in_flight: false,
            was_tried: false,
            failures: 0,
            due,
        }
    }

    fn may_be_sent(&self) -> bool {
        !self.in_flight && self.blocked_by.is_empty()
    }
}

/// The notifications that are not confirmed.
#[derive(Debug, Default)]
pub struct Notifications {
    pending: BTreeMap<u64, Pending>,
}

impl Notifications {
    /// Adds a notification that is stored under this number, in place of those that it makes obsolete. It is due at
    /// once.
    pub fn add(&mut self, number: u64, notification: Notification, now: Timestamp) {
        let mut pending = Pending::new(notification, now);
        for obsolete in self.obsoleted_by(&pending.notification) {
            let Some(earlier) = self.pending.remove(&obsolete) else { continue };
            if !earlier.was_tried {
                pending.replaces.push(obsolete);
                pending.replaces.extend(earlier.replaces);
            }
            pending.blocked_by.extend(earlier.blocked_by);
            pending.blocked_by.extend(Some(obsolete).filter(|_| earlier.in_flight));
        }
        self.pending.insert(number, pending);
    }

    /// The attempt to send a notification has ended.
    pub fn ended(&mut self, number: u64) {
        for pending in self.pending.values_mut() {
            pending.blocked_by.retain(|blocking| *blocking != number);
        }
    }

    /// The notifications that another one makes obsolete: earlier ones with the same subject.
    pub fn obsoleted_by(&self, notification: &Notification) -> Vec<u64> {
        let same = |(_, pending): &(&u64, &Pending)| notification.supersedes(&pending.notification);
        self.pending.iter().filter(same).map(|(number, _)| *number).collect()
    }

    pub fn remove(&mut self, number: u64) {
        self.pending.remove(&number);
    }

    pub fn get(&self, number: u64) -> Option<&Notification> {
        self.pending.get(&number).map(|pending| &pending.notification)
    }

    /// Takes the notifications to be sent now: first those that were never sent, so that a recipient that fails for
    /// long does not delay others.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<(u64, Notification)> {
        let in_flight = self.pending.values().filter(|pending| pending.in_flight).count();
        let is_due = |pending: &&mut Pending| pending.may_be_sent() && pending.due <= now;
        let mut due: Vec<(&u64, &mut Pending)> =
            self.pending.iter_mut().filter(|(_, pending)| is_due(pending)).collect();
        order::sort_by_key(&mut due, |(number, pending)| (pending.was_tried, pending.due, **number));
        let sent = due.into_iter().take(MAX_IN_FLIGHT.saturating_sub(in_flight));
        sent.map(|(number, pending)| {
            pending.in_flight = true;
            (*number, pending.notification.clone())
        })
        .collect()
    }

    /// A recipient has not confirmed a notification.
    pub fn failed(&mut self, number: u64, now: Timestamp) {
        if let Some(pending) = self.pending.get_mut(&number) {
            let pause_ms = doubling_pause_ms(FIRST_PAUSE_MS, pending.failures, MAX_PAUSE_MS);
            pending.failures += 1;
            (pending.in_flight, pending.was_tried) = (false, true);
            pending.due = now.plus_ms(pause_ms);
        }
    }

    /// The first recipients have confirmed; the rest follows.
    pub fn advance(&mut self, number: u64, notification: Notification, now: Timestamp) {
        if let Some(pending) = self.pending.get_mut(&number) {
            *pending = Pending { was_tried: true, ..Pending::new(notification, now.plus_ms(NEXT_TENANTS_MS)) };
        }
    }

    /// Whether each of these, or the one that has replaced it, was sent, if only in vain.
    pub fn were_tried(&self, numbers: &[u64]) -> bool {
        let is_of = |number: &u64, of: u64, pending: &Pending| *number == of || pending.replaces.contains(number);
        let waits =
            |number: &u64| self.pending.iter().any(|(of, pending)| is_of(number, *of, pending) && !pending.was_tried);
        !numbers.iter().any(waits)
    }

    /// When the next one after this time is due that is not under way.
    pub fn next_due(&self, after: Timestamp) -> Option<Timestamp> {
        let waiting = self.pending.values().filter(|pending| pending.may_be_sent());
        waiting.map(|pending| pending.due).filter(|due| *due > after).min()
    }

    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(id: &str) -> ServiceId {
        ServiceId::from_stored(id.to_string())
    }

    fn settings(id: &str) -> LaneSettings {
        LaneSettings {
            service: service(id),
            configured_at: Timestamp(1),
            moved_at: Timestamp(1),
            max_concurrency: None,
            max_queue: 0,
            grace_ms: None,
        }
    }

    fn configure(id: &str) -> Notification {
        Notification::ConfigureLane { service: service(id) }
    }

    #[test]
    fn it_is_sent_until_it_is_confirmed() {
        let mut all = Notifications::default();
        all.add(1, configure("a"), Timestamp(0));
        assert_eq!(all.take_due(Timestamp(0)), [(1, configure("a"))]);
        assert_eq!((all.take_due(Timestamp(9_000)), all.next_due(Timestamp(0))), (Vec::new(), None));
        assert!(!all.were_tried(&[1]));
        let mut now = Timestamp(0);
        for pause in [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 300_000, 300_000] {
            all.failed(1, now);
            assert!(all.were_tried(&[1]));
            assert_eq!(all.next_due(now), Some(now.plus_ms(pause)));
            assert_eq!(all.take_due(Timestamp(now.0 + pause - 1)), []);
            now = now.plus_ms(pause);
            assert_eq!(all.take_due(now).len(), 1);
        }
        all.remove(1);
        assert!(all.is_empty() && all.were_tried(&[1]));
    }

    #[test]
    fn only_the_last_one_about_a_lane_or_the_retention_counts() {
        let mut all = Notifications::default();
        all.add(1, configure("a"), Timestamp(0));
        all.add(2, configure("b"), Timestamp(0));
        all.add(3, Notification::Retain, Timestamp(0));
        assert_eq!(all.obsoleted_by(&Notification::ForgetLane(settings("a"))), [1]);
        assert_eq!(all.obsoleted_by(&configure("b")), [2]);
        assert_eq!(all.obsoleted_by(&Notification::Retain), [3]);
        let revoke = |principal: &str, at: Recipient| {
            let principal = PrincipalId::of_key(principal);
            Notification::RevokePrincipal { principal, at }
        };
        all.add(4, revoke("k", Recipient::Hub), Timestamp(0));
        all.add(5, revoke("k", Recipient::Lane(settings("a"))), Timestamp(0));
        assert_eq!(all.obsoleted_by(&revoke("k", Recipient::Hub)), [4]);
        assert!(all.obsoleted_by(&revoke("l", Recipient::Hub)).is_empty());
        // The service may be registered anew, and then its lane keeps its sockets.
        assert_eq!(all.obsoleted_by(&Notification::ForgetLane(settings("a"))), [1]);
        assert_eq!(all.obsoleted_by(&configure("a")), [1]);
    }

    #[test]
    fn the_write_of_an_obsolete_one_waits_for_the_attempt_of_the_other() {
        let mut all = Notifications::default();
        for number in 1..=3 {
            all.add(number, configure("a"), Timestamp(0));
        }
        assert_eq!(all.take_due(Timestamp(0)), [(3, configure("a"))]);
        assert!(!all.were_tried(&[1]) && !all.were_tried(&[2, 3]) && all.were_tried(&[]));
        all.failed(3, Timestamp(1));
        assert!(all.were_tried(&[1, 2, 3]));
        // A later one concerns only its own write.
        all.add(4, configure("a"), Timestamp(2));
        assert!(all.were_tried(&[1, 2, 3]) && !all.were_tried(&[4]));
    }

    #[test]
    fn the_last_word_to_a_lane_is_sent_after_the_word_before() {
        let mut all = Notifications::default();
        all.add(1, configure("a"), Timestamp(0));
        assert_eq!(all.take_due(Timestamp(0)).len(), 1);
        all.add(2, configure("a"), Timestamp(0));
        all.add(3, Notification::ForgetLane(settings("a")), Timestamp(0));
        assert_eq!((all.take_due(Timestamp(9_000)), all.next_due(Timestamp(0))), (Vec::new(), None));
        all.ended(1);
        assert_eq!(all.take_due(Timestamp(9_000)), [(3, Notification::ForgetLane(settings("a")))]);
    }

    #[test]
    fn those_that_were_never_sent_come_first() {
        let mut all = Notifications::default();
        all.add(1, configure("a"), Timestamp(0));
        let _ = all.take_due(Timestamp(0));
        all.failed(1, Timestamp(0));
        all.add(2, configure("b"), Timestamp(5_000));
        let numbers: Vec<u64> = all.take_due(Timestamp(5_000)).into_iter().map(|(number, _)| number).collect();
        assert_eq!(numbers, [2, 1]);
    }

    // The versions before and after read these rows too.
    #[test]
    fn a_notification_is_stored_in_this_form() {
        let settings = LaneSettings {
            service: service("a"),
            configured_at: Timestamp(2),
            moved_at: Timestamp(1),
            max_concurrency: Some(3),
            max_queue: 4,
            grace_ms: None,
        };
        let tenant = TenantId::first();
        let revocation = Revocation::Document("clients/a".into());
        let all = Tenants::After("acme".into());
        let forms = [
            (configure("a"), json!({"configure_lane": {"service": "a"}})),
            (
                Notification::ForgetLane(settings.clone()),
                json!({"forget_lane": {"service": "a", "configured_at": 2, "moved_at": 1, "max_concurrency": 3,
                    "max_queue": 4, "grace_ms": null}}),
            ),
            (
                Notification::RevokePrincipal { principal: PrincipalId::of_key("k"), at: Recipient::Hub },
                json!({"revoke_principal": {"principal": "key:k", "at": "hub"}}),
            ),
            (
                Notification::RevokeDependents { revocation: Revocation::Tenant, at: Recipient::Lane(settings) },
                json!({"revoke_dependents": {"revocation": "tenant", "at": {"lane": {"service": "a",
                    "configured_at": 2, "moved_at": 1, "max_concurrency": 3, "max_queue": 4, "grace_ms": null}}}}),
            ),
            (
                Notification::Relay { revocation: Revocation::Tenant, tenants: Tenants::One(tenant) },
                json!({"relay": {"revocation": "tenant", "tenants": {"one": "default"}}}),
            ),
            (
                Notification::Relay { revocation, tenants: all },
                json!({"relay": {"revocation": {"from": "clients/a"}, "tenants": {"after": "acme"}}}),
            ),
            (Notification::Retain, json!("retain")),
        ];
        for (notification, form) in forms {
            assert_eq!(serde_json::to_value(&notification).unwrap(), form);
            assert_eq!(serde_json::from_value::<Notification>(form).unwrap(), notification);
        }
    }
}
