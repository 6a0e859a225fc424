//! The recipients of the registry's notifications: lanes with their configuration, and a hub with sockets.

use std::collections::{BTreeMap, BTreeSet};

use narthex_core::access::revocation::Revocation;
use narthex_core::access::tenant::Retention;
use narthex_core::base::principal_id::PrincipalId;
use narthex_core::base::service_id::ServiceId;
use narthex_core::registry::messages::StoredService;
use narthex_core::registry::needs_lane;
use narthex_core::registry::notifications::{LaneSettings, Notification, Recipient};
use narthex_core::registry::revision::Revision;

use crate::administrator::{EVENTS, ROLE};
use crate::isolate::Snapshot;
use crate::lane_actor::LaneAsk;
use crate::messages::{Actor, Call, Event, RegistryEvent, Reply};
use crate::registry_object::REGISTRY;
use crate::world::World;

/// A notification as it is sent.
#[derive(Debug, Clone)]
pub enum Content {
    Configure(LaneSettings),
    Forget(LaneSettings),
    RevokePrincipal(PrincipalId),
    Revoke(Revocation),
    Retain(Revision, Retention),
    /// The service was deleted since.
    Nothing,
}

/// A socket of the hub.
#[derive(Debug, Clone)]
struct Socket {
    key: String,
    /// What it depends on was revoked after it was opened.
    must_close: bool,
}

/// Who may open sockets, as the registry stores it.
#[derive(Debug, PartialEq, Eq)]
pub struct Access {
    keys: BTreeSet<String>,
    role_permits: bool,
}

#[derive(Debug, Default)]
pub struct Recipients {
    lanes: BTreeMap<ServiceId, LaneSettings>,
    sockets: Vec<Socket>,
    /// How long data is kept, by which revision.
    retention: (Revision, Retention),
}

impl Recipients {
    /// A lane knows its service from the beginning.
    pub fn configure(&mut self, text: &str) {
        if let Some((settings, true)) = settings(text) {
            self.lanes.insert(settings.service.clone(), settings);
        }
    }
}

fn settings(text: &str) -> Option<(LaneSettings, bool)> {
    let stored: StoredService = serde_json::from_str(text).ok()?;
    Some((stored.lane_settings(), needs_lane(&stored.service)))
}

impl World {
    /// What a notification says when it is sent.
    pub fn content(&self, notification: &Notification) -> Content {
        match notification {
            Notification::ConfigureLane { service } => {
                let found = self.stored_settings(service);
                found.map_or(Content::Nothing, |(settings, _)| Content::Configure(settings))
            }
            Notification::ForgetLane(settings) => Content::Forget(settings.clone()),
            Notification::RevokePrincipal { principal, at: Recipient::Hub } => {
                Content::RevokePrincipal(principal.clone())
            }
            Notification::RevokeDependents { revocation, at: Recipient::Hub } => Content::Revoke(revocation.clone()),
            // The connections of lanes have no credentials here, and there is one tenant.
            Notification::RevokePrincipal { at: Recipient::Lane(_), .. }
            | Notification::RevokeDependents { at: Recipient::Lane(_), .. }
            | Notification::Relay { .. } => Content::Nothing,
            Notification::Retain => Content::Retain(self.registry.revision(), self.stored_retention()),
        }
    }

    fn stored_retention(&self) -> Retention {
        let stored = self.registry.storage.read(|disk| disk.meta.get("retention").cloned());
        stored.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// A notification arrives.
    pub fn notified(&mut self, call: Call, content: &Content) {
        self.note(|| format!("a notification arrives: {content:?}"));
        let is_late = matches!(content, Content::Configure(settings) if !self.is_about_present(settings));
        let recipients = &mut self.recipients;
        match content {
            // The lane reports its status, and learns that its service was deleted.
            Content::Configure(_) if is_late => {}
            Content::Configure(settings) => {
                let known = recipients.lanes.entry(settings.service.clone()).or_insert_with(|| settings.clone());
                if known.configured_at <= settings.configured_at {
                    known.clone_from(settings);
                }
            }
            Content::Forget(settings) => {
                recipients.lanes.retain(|id, known| *id != settings.service || known.moved_at > settings.moved_at);
            }
            Content::RevokePrincipal(principal) => {
                self.statistics.count("sockets closed");
                recipients.sockets.retain(|socket| PrincipalId::of_key(&socket.key) != *principal);
            }
            Content::Revoke(Revocation::Permissions { role, lost }) if role == ROLE => {
                let is_lost = lost.iter().any(|permission| permission == EVENTS);
                recipients.sockets.retain(|_| !is_lost);
            }
            Content::Retain(revision, retention) if *revision >= recipients.retention.0 => {
                recipients.retention = (*revision, *retention);
            }
            Content::Retain(..) | Content::Revoke(_) | Content::Nothing => {}
        }
        match content {
            Content::Configure(settings) => self.tell_lane(call, settings, LaneAsk::Configure),
            Content::Forget(settings) => self.tell_lane(call, settings, LaneAsk::Forget),
            _ => self.reply(call, Reply::Done),
        }
    }

    /// Whether settings are about the service as it is registered now, perhaps with other values.
    fn is_about_present(&self, settings: &LaneSettings) -> bool {
        let stored = self.stored_settings(&settings.service);
        stored.is_some_and(|(stored, _)| stored.moved_at == settings.moved_at)
    }

    fn tell_lane(&mut self, call: Call, settings: &LaneSettings, ask: LaneAsk) {
        let at = self.service_called(&settings.service);
        self.reach_lane(at, call, settings.clone(), ask);
    }

    pub fn access(&self) -> Access {
        self.registry.storage.read(|disk| {
            let of = |kind: &'static str| disk.documents.iter().filter(move |((other, _), _)| other == kind);
            let keys = of("key").map(|((_, id), _)| id.clone()).collect();
            let role_permits = of("role").any(|(_, text)| text.contains(EVENTS));
            Access { keys, role_permits }
        })
    }

    /// After a turn that was stored: the sockets that depend on what is gone must be closed.
    pub fn access_changed(&mut self, before: &Access) {
        let after = self.access();
        let is_lost = before.role_permits && !after.role_permits;
        for socket in &mut self.recipients.sockets {
            let is_revoked = before.keys.contains(&socket.key) && !after.keys.contains(&socket.key);
            socket.must_close |= is_lost || is_revoked;
        }
    }

    /// A client opens sockets: its gateway reads the registry first.
    pub fn open_sockets(&mut self, isolate: usize) {
        self.read_registry(Actor::Viewer, isolate);
    }

    /// The gateway opens a socket for each key that the registry has.
    pub fn viewer_fetched(&mut self, snapshot: &Snapshot) {
        for key in snapshot.keys.iter().filter(|_| snapshot.may_read_events) {
            let delay = self.dice.between(1, 200);
            self.schedule(self.now + delay, Event::Registry(RegistryEvent::SocketOpens { key: key.clone() }));
        }
    }

    /// A socket that is opened after its key was revoked, because that was under way, is closed by the hub's own
    /// checks.
    pub fn socket_opens(&mut self, key: String) {
        self.statistics.count("socket opened");
        self.recipients.sockets.push(Socket { key, must_close: false });
    }

    /// The answer to a change is sent: without faults, those that it concerns have learned of it.
    pub fn check_settled(&mut self, call: Call) {
        let Actor::Administrator(change) = call.actor else { return };
        if !self.was_quiet() || self.is_calm() {
            return;
        }
        // Others wait for their own answers.
        if self.changes.iter().filter(|other| other.is_pending()).count() > 1 {
            return;
        }
        let lane = self.changes[change].lane().and_then(|id| Some((id.clone(), self.stored_settings(id)?)));
        let knows = lane.is_none_or(|(id, (settings, needs))| {
            !needs || self.recipients.lanes.get(&id).is_some_and(|known| known.configured_at >= settings.configured_at)
        });
        if let Some(socket) = self.recipients.sockets.iter().find(|socket| socket.must_close) {
            let text = format!("a change is answered before a socket of {} is closed", socket.key);
            self.violate(text);
        } else if !knows {
            self.violate("a change is answered before a lane knows of it".into());
        }
    }

    pub fn stored_settings(&self, service: &ServiceId) -> Option<(LaneSettings, bool)> {
        settings(&self.stored_service_text(service)?)
    }

    /// At the end: everything that was to be learned is known.
    pub fn check_recipients(&mut self) {
        let disk = self.registry_disk();
        let Recipients { lanes, sockets, retention } = std::mem::take(&mut self.recipients);
        let stale = sockets.iter().find(|socket| socket.must_close);
        let expected: BTreeMap<ServiceId, (LaneSettings, bool)> = disk
            .documents
            .iter()
            .filter(|((kind, _), _)| kind == "service")
            .filter_map(|(_, text)| settings(text))
            .map(|(settings, needs)| (settings.service.clone(), (settings, needs)))
            .collect();
        let wrong =
            expected.values().find(|(settings, needs)| *needs && lanes.get(&settings.service) != Some(settings));
        let stray = lanes.keys().find(|id| !expected.contains_key(*id));
        let violation = if let Some(Socket { key, .. }) = stale {
            Some(format!("a socket of {key} is open at the end"))
        } else if let Some((settings, _)) = wrong {
            Some(format!("the lane of {} knows {:?}", settings.service, lanes.get(&settings.service)))
        } else if let Some(stray) = stray {
            Some(format!("the lane of {stray} exists, and its service does not"))
        } else if retention.1 != self.stored_retention() {
            Some(format!("the hub keeps data for {retention:?}"))
        } else if !disk.notifications.is_empty() || !disk.outbox.is_empty() {
            let (notifications, events) = (&disk.notifications, &disk.outbox);
            Some(format!("the registry still has {notifications:?} and {events:?}"))
        } else {
            None
        };
        if let Some(violation) = violation {
            self.violate(violation);
        }
    }

    /// At the end: each write has its audit entry, and its event is in the hub's log.
    pub fn check_registry_log(&mut self) {
        let (entries, last_event) = self.registry.storage.read(|disk| (disk.audit.len(), disk.last_event));
        let revision = self.registry.revision();
        if entries.to_string() != revision.to_string() {
            self.violate(format!("the registry has {entries} audit entries at revision {revision}"));
        }
        let logged = self.hub.log.get(&REGISTRY).map_or(0, Vec::len) as u64;
        if logged != last_event {
            self.violate(format!("the registry has queued {last_event} events, and the hub has {logged}"));
        }
    }
}
