//! The effects of the registry's decisions: its messages, with their replies, its timer and its alarm.

use narthex_core::base::time::Timestamp;
use narthex_core::registry::followers::Push;
use narthex_core::registry::notifications::Notification;
use narthex_core::registry::{Delivery, Effects};

use crate::messages::{Actor, Ask, Batch, Call, Event, RegistryEvent, Reply};
use crate::mutants::Mutant;
use crate::network::REPLY_TIMEOUT_MS;
use crate::registry_object::{REGISTRY, Sent};
use crate::world::World;

/// How long the registry waits for the reply to a push or a notification.
const PUSH_TIMEOUT_MS: u64 = 2_000;

impl World {
    /// Carries out at most `most` effects. Returns how many there were.
    pub fn carry_out_for_registry(&mut self, effects: Effects, most: u64) -> u64 {
        let Effects { pushes, batch, notifications, .. } = effects;
        let mut done = 0;
        let mut may = || {
            done += 1;
            done <= most
        };
        for push in pushes {
            if may() {
                self.send_push(push);
            }
        }
        for (number, notification) in notifications {
            if may() {
                self.send_notification(number, &notification);
            }
        }
        if let Some(batch) = batch.filter(|_| may()) {
            let sending = self.number();
            self.registry.sent.insert(sending, Sent::Batch);
            self.time_out(sending, REPLY_TIMEOUT_MS);
            let bundles = batch.bundles.get().to_string();
            let batch = Batch { first: batch.first, last: batch.last, count: batch.count, bundles };
            self.send_batch(REGISTRY, sending, &batch);
        }
        done
    }

    fn send_push(&mut self, push: Push) {
        self.statistics.count("push");
        let store = self.stores.iter().position(|store| store.id == push.store);
        let Some(store) = store else { return };
        let number = if store == 0 && self.is_cut_off() {
            self.number()
        } else {
            self.ask(Actor::Registry, store, push.revision, Ask::LearnRevision)
        };
        self.time_out(number, PUSH_TIMEOUT_MS);
        self.registry.sent.insert(number, Sent::Push(push));
    }

    fn send_notification(&mut self, number: u64, notification: &Notification) {
        self.statistics.count("notification");
        let content = self.content(notification);
        let call = Call { actor: Actor::Registry, number: self.number() };
        self.registry.sent.insert(call.number, Sent::Notification(number));
        self.time_out(call.number, PUSH_TIMEOUT_MS);
        let travels = if self.is_cut_off() { Vec::new() } else { self.travel() };
        for delay in travels {
            self.schedule(
                self.now + delay,
                Event::Registry(RegistryEvent::Notified { call, content: content.clone() }),
            );
        }
    }

    /// Whether a message of the registry is lost because it is cut off.
    fn is_cut_off(&mut self) -> bool {
        let (from, until) = self.cut;
        (from..until).contains(&self.now) && self.dice.chance(self.faults.cut)
    }

    /// The registry does not wait for longer than this for the reply to a message. Some failures show at once.
    fn time_out(&mut self, number: u64, after_ms: u64) {
        let (patience, fault) = self.patience();
        let call = Call { actor: Actor::Registry, number };
        let after_ms = if self.dice.chance(self.faults.lose) { patience.min(after_ms) } else { after_ms };
        self.schedule(self.now + after_ms, Event::Replied { call, reply: Reply::Failed(fault) });
    }

    /// A reply to one of the registry's messages.
    pub fn registry_replied(&mut self, number: u64, reply: &Reply) {
        let Some(sent) = self.registry.sent.remove(&number) else { return };
        let was_received = !matches!(reply, Reply::Failed(_));
        match sent {
            Sent::Push(push) => {
                if !was_received {
                    self.statistics.count("push failed");
                }
                let confirmed = was_received || self.mutant == Some(Mutant::PushesCountAsConfirmed);
                self.registry_turn(|registry, turn| registry.pushed(push, confirmed, turn.now));
            }
            Sent::Notification(sent) => {
                let confirmed = was_received || self.mutant == Some(Mutant::NotifiesOnce);
                let delivery = if confirmed { Delivery::Confirmed } else { Delivery::Failed };
                self.registry_turn(|registry, turn| registry.notified(sent, delivery, turn.now));
            }
            Sent::Batch => self.batch_answered(None),
        }
    }

    pub fn registry_published(&mut self, sending: u64, head: Option<u64>) {
        if self.registry.sent.remove(&sending).is_some() {
            self.batch_answered(head);
        }
    }

    fn batch_answered(&mut self, head: Option<u64>) {
        let head = match self.mutant {
            Some(Mutant::RegistryDropsEvents) => Some(u64::MAX >> 12),
            _ => head,
        };
        self.registry_turn(|registry, turn| registry.published(head, turn.now));
    }

    pub fn wake_registry_later(&mut self, at: Option<Timestamp>) {
        let Some(at) = at.filter(|at| self.registry.timer.is_none_or(|set| *at < set)) else { return };
        self.registry.timer = Some(at);
        let by_world = at.0.saturating_add_signed(-self.registry.offset).max(self.now);
        self.schedule(by_world, Event::Registry(RegistryEvent::Ticks { life: self.registry.life }));
    }

    pub fn registry_ticks(&mut self, life: u64) {
        if self.registry.life == life && self.registry.registry.is_some() {
            self.registry.timer = None;
            self.registry_turn(|_, _| ());
        }
    }

    pub fn set_registry_alarm(&mut self, at: Timestamp) {
        self.registry.storage.set_alarm(Some(at));
        let late = self.alarm_delay();
        let by_world = at.0.saturating_add_signed(-self.registry.offset).max(self.now);
        self.schedule(by_world + late, Event::Registry(RegistryEvent::Alarm { at }));
    }

    /// The platform fires the alarm, unless it was replaced.
    pub fn registry_alarm(&mut self, at: Timestamp) {
        if self.registry.storage.alarm() != Some(at) {
            return;
        }
        self.registry.storage.set_alarm(None);
        if self.has_cron && self.dice.chance(self.faults.crash / 4) {
            self.statistics.dead_alarms += 1;
            self.note(|| "the alarm of the registry is lost".into());
            // The instance may live on.
            if self.dice.chance(500) {
                self.registry_dies();
            }
            self.registry.asleep = true;
            return;
        }
        self.note(|| "the alarm of the registry rings".into());
        if self.registry_turn(|registry, turn| registry.alarm(turn.now)).is_none() {
            // The platform repeats an alarm that failed.
            let again = self.registry_clock().plus_ms(1_000);
            if self.registry.storage.alarm().is_none() {
                self.set_registry_alarm(again);
            }
        } else if self.registry.storage.alarm() == Some(at) {
            // The platform takes it for the running one, and removes it.
            self.registry.storage.set_alarm(None);
        }
    }
}
