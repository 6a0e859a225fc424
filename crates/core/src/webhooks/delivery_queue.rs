//! The queue of webhook deliveries: what waits, for whom, and when it is retried.
//!
//! An event waits for each subscribed webhook until it is delivered or given up. A rejected delivery is retried after
//! growing pauses, independently of others. While the receiver is unreachable, the webhook backs off as a whole: after
//! growing pauses a single delivery probes for all, and when it gets a response the others follow at once. When a
//! delivery is given up and none succeeded since its first attempt, its webhook is disabled. A Worker claims some
//! deliveries at a time and reports their outcomes. A claim lasts [`LEASE_MS`] and is in memory only: after a restart a
//! delivery may be repeated, but none is lost.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::order;
use crate::base::principal_id::PrincipalId;
use crate::base::time::Timestamp;
use crate::base::version::Generation;
use crate::events::bundle::{Bundle, Item};
use crate::events::filter::Filter;
use crate::webhooks::delivery::{CoolDown, DeliveryAttempt, DisableReason, Disablement, WebhookState};

/// How long a claim is valid without a report, in milliseconds: longer than a delivery may take.
pub const LEASE_MS: u64 = 60_000;
/// The maximum number of concurrent deliveries to one webhook.
pub const MAX_CONCURRENT_DELIVERIES: usize = 8;
/// The maximum number of deliveries that wait for one webhook.
pub const MAX_WAITING: usize = 10_000;
/// The pauses between attempts, in milliseconds: those of the Standard Webhooks specification, limited to 24 hours in
/// all.
pub const PAUSES_MS: [u64; 7] = [5_000, 300_000, 1_800_000, 7_200_000, 18_000_000, 36_000_000, 23_095_000];

/// The longest pause that a receiver can request by `Retry-After`, in milliseconds.
const MAX_RETRY_AFTER_MS: u64 = 86_400_000;
/// The longest cool-down of a webhook, in milliseconds.
const MAX_COOL_DOWN_MS: u64 = 15 * 60_000;

/// A delivery that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingDelivery {
    pub attempts: usize,
    /// How many of the attempts the receiver rejected.
    pub rejected: usize,
    /// The last attempt was unreachable: it is due again after the cool-down.
    pub unreachable: bool,
    /// When the first attempt was made.
    pub first_at: Option<Timestamp>,
    pub due: Timestamp,
    claimed_until: Timestamp,
    /// Claimed as the probe of a cool-down.
    is_probe: bool,
}

impl PendingDelivery {
    /// A delivery after this many rejected attempts.
    pub fn new(attempts: usize, first_at: Option<Timestamp>, due: Timestamp) -> Self {
        let (rejected, claimed_until) = (attempts, Timestamp(0));
        Self { attempts, rejected, unreachable: false, first_at, due, claimed_until, is_probe: false }
    }
}

/// A delivery to be made now, with the number of the attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub webhook: String,
    pub number: u64,
    pub attempt: usize,
}

/// What happens to a delivery after a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// It is not waiting (any longer).
    Unknown,
    Delivered,
    Retry {
        due: Timestamp,
        first_at: Timestamp,
    },
    GivenUp,
}

/// The effect of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportEffect {
    pub disposition: Disposition,
    /// The webhook must be written.
    pub hook_changed: bool,
    pub disables: Option<DisableReason>,
}

/// A webhook with its waiting deliveries.
#[derive(Debug)]
struct WebhookQueue {
    hook: WebhookState,
    waiting: BTreeMap<u64, PendingDelivery>,
    /// When to notify again, while a notified Worker has not claimed anything.
    notify_again_at: Option<Timestamp>,
}

impl WebhookQueue {
    fn new(hook: WebhookState) -> Self {
        Self { hook, waiting: BTreeMap::new(), notify_again_at: None }
    }

    /// The earliest time of the next attempt, unless the delivery is claimed.
    fn ready_at(&self, one: &PendingDelivery) -> Timestamp {
        let due = if one.unreachable { Timestamp(0) } else { one.due };
        due.max(self.hook.cool_down.map_or(Timestamp(0), |rest| rest.until))
    }

    /// The deliveries that are due and not claimed.
    fn due(&self, now: Timestamp) -> impl Iterator<Item = (&u64, &PendingDelivery)> {
        self.waiting.iter().filter(move |(_, one)| one.claimed_until <= now && self.ready_at(one) <= now)
    }

    fn claimed(&self, now: Timestamp) -> usize {
        self.waiting.values().filter(|one| one.claimed_until > now).count()
    }

    fn needs_notification(&self, now: Timestamp) -> bool {
        self.hook.is_live()
            && self.notify_again_at.is_none_or(|at| now >= at)
            && self.claimed(now) == 0
            && self.due(now).next().is_some()
    }

    fn next_wakeup(&self, now: Timestamp) -> Option<Timestamp> {
        let claimed = self.waiting.values().map(|one| one.claimed_until).filter(|until| *until > now).min();
        let unclaimed = self.waiting.values().filter(|one| one.claimed_until <= now).map(|one| self.ready_at(one));
        let next = unclaimed.filter_map(|at| match (at > now, claimed) {
            (true, _) => Some(at),
            (false, None) => Some(self.notify_again_at.unwrap_or(at)),
            // The Worker with claims of this webhook takes it too.
            (false, Some(_)) => None,
        });
        claimed.into_iter().chain(next).min().filter(|_| self.hook.is_live())
    }
}

/// The deliveries of all webhooks of a tenant.
#[derive(Debug, Default)]
pub struct DeliveryQueue {
    pauses_ms: Vec<u64>,
    wakeup_retry_ms: u64,
    webhooks: BTreeMap<String, WebhookQueue>,
    /// Webhooks that only a later version can call: their deliveries wait for it.
    set_aside: BTreeSet<String>,
}

impl DeliveryQueue {
    /// An empty queue with these pauses between attempts, and this time until a Worker is notified again, in
    /// milliseconds.
    pub fn new(pauses_ms: Vec<u64>, wakeup_retry_ms: u64) -> Self {
        Self { pauses_ms, wakeup_retry_ms, ..Self::default() }
    }

    /// The state of a webhook.
    pub fn hook(&self, id: &str) -> Option<&WebhookState> {
        self.webhooks.get(id).map(|webhook| &webhook.hook)
    }

    /// The ids of all webhooks.
    pub fn ids(&self) -> Vec<String> {
        self.webhooks.keys().cloned().collect()
    }

    /// Whether no webhook receives events.
    pub fn is_idle(&self) -> bool {
        !self.webhooks.values().any(|webhook| webhook.hook.is_live())
    }

    /// Restores a webhook from storage.
    pub fn restore(&mut self, id: String, hook: WebhookState) {
        self.webhooks.insert(id, WebhookQueue::new(hook));
    }

    /// Applies a configuration; true if it is new. A webhook that was written again is neither disabled nor failing.
    pub fn configure(
        &mut self,
        id: &str,
        generation: Generation,
        filter: Filter,
        enabled: bool,
        owner: Option<PrincipalId>,
    ) -> bool {
        let hook =
            WebhookState { generation, filter, enabled, owner, disabled: None, failing_since: None, cool_down: None };
        match self.webhooks.get_mut(id) {
            Some(webhook) if webhook.hook.generation == generation => return false,
            Some(webhook) => webhook.hook = hook,
            None => self.restore(id.into(), hook),
        }
        true
    }

    /// Sets these webhooks aside, and no others.
    pub fn set_aside(&mut self, ids: impl IntoIterator<Item = String>) {
        self.set_aside = ids.into_iter().collect();
    }

    pub fn is_set_aside(&self, id: &str) -> bool {
        self.set_aside.contains(id)
    }

    /// The webhooks that are not set aside.
    fn active(&mut self) -> impl Iterator<Item = (&String, &mut WebhookQueue)> {
        let set_aside = &self.set_aside;
        self.webhooks.iter_mut().filter(|(id, _)| !set_aside.contains(*id))
    }

    /// Removes a webhook with its deliveries.
    pub fn remove(&mut self, id: &str) {
        self.webhooks.remove(id);
    }

    /// Marks a webhook as disabled.
    pub fn disable(&mut self, id: &str, at: Timestamp, reason: DisableReason) {
        if let Some(webhook) = self.webhooks.get_mut(id) {
            webhook.hook.disabled = Some(Disablement { at, reason });
        }
    }

    /// Removes all deliveries that wait for a webhook, and returns their numbers.
    pub fn give_up(&mut self, id: &str) -> Vec<u64> {
        self.webhooks
            .get_mut(id)
            .map(|webhook| std::mem::take(&mut webhook.waiting).into_keys().collect())
            .unwrap_or_default()
    }

    /// The webhooks that receive an event.
    pub fn subscribers<'c>(&'c self, bundle: &'c Bundle, item: &'c Item) -> impl Iterator<Item = &'c str> {
        let wants = |hook: &WebhookState| hook.is_live() && hook.filter.matches(bundle, item);
        self.webhooks.iter().filter(move |(_, webhook)| wants(&webhook.hook)).map(|(id, _)| id.as_str())
    }

    /// The number of deliveries that wait for a webhook.
    pub fn count(&self, id: &str) -> usize {
        self.webhooks.get(id).map_or(0, |webhook| webhook.waiting.len())
    }

    /// Adds a delivery of the event with this number.
    pub fn add(&mut self, id: &str, number: u64, waiting: PendingDelivery) {
        if let Some(webhook) = self.webhooks.get_mut(id) {
            webhook.waiting.insert(number, waiting);
        }
    }

    /// Claims up to `most` deliveries: webhooks in the order in which their deliveries became due, the oldest of each
    /// first, at most [`MAX_CONCURRENT_DELIVERIES`] of one at a time.
    pub fn claim(&mut self, most: usize, now: Timestamp) -> Vec<Claim> {
        let mut webhooks: Vec<(Timestamp, &String, &mut WebhookQueue)> = self
            .active()
            .filter(|(_, webhook)| webhook.hook.is_live())
            .filter_map(|(id, webhook)| {
                Some((webhook.due(now).map(|(_, one)| webhook.ready_at(one)).min()?, id, webhook))
            })
            .collect();
        order::sort_by_key(&mut webhooks, |(due, ..)| *due);
        let mut claims = Vec::new();
        for (_, id, webhook) in webhooks {
            let is_probe = webhook.hook.cool_down.is_some();
            let at_once = if is_probe { 1 } else { MAX_CONCURRENT_DELIVERIES };
            let room = at_once.saturating_sub(webhook.claimed(now)).min(most - claims.len());
            let numbers: Vec<u64> = webhook.due(now).map(|(number, _)| *number).take(room).collect();
            if !numbers.is_empty() {
                webhook.notify_again_at = None;
            }
            for number in numbers {
                if let Some(one) = webhook.waiting.get_mut(&number) {
                    one.claimed_until = now.plus_ms(LEASE_MS);
                    one.is_probe = is_probe;
                    claims.push(Claim { webhook: id.clone(), number, attempt: one.attempts + 1 });
                }
            }
        }
        claims
    }

    /// Records the outcome of an attempt. `random` spreads retries of deliveries that failed together.
    pub fn report(
        &mut self,
        id: &str,
        number: u64,
        attempt: &DeliveryAttempt,
        now: Timestamp,
        random: u64,
    ) -> ReportEffect {
        let mut report = ReportEffect { disposition: Disposition::Unknown, hook_changed: false, disables: None };
        let Some(WebhookQueue { hook, waiting: all, .. }) = self.webhooks.get_mut(id) else { return report };
        let Some(waiting) = all.get_mut(&number) else { return report };
        let was_probe = std::mem::take(&mut waiting.is_probe);
        waiting.attempts += 1;
        waiting.unreachable = attempt.unreachable();
        if attempt.succeeded() {
            report.hook_changed = hook.failing_since.take().is_some() | hook.cool_down.take().is_some();
            report.disposition = Disposition::Delivered;
            all.remove(&number);
            return report;
        }
        let first_at = *waiting.first_at.get_or_insert(attempt.at);
        report.hook_changed = hook.failing_since.is_none();
        // Several attempts run concurrently and are not reported in the order they began.
        let failing_since = hook.failing_since.map_or(attempt.at, |since| since.min(attempt.at));
        hook.failing_since = Some(failing_since);
        if attempt.status_code == Some(410) {
            report.disables = Some(DisableReason::Gone);
        }
        let spread = |pause: u64| {
            let pause = pause + random % (pause / 10 + 1);
            // A receiver may ask for more time, but not for more than the whole retry period.
            let retry_after = attempt.retry_after_ms.unwrap_or(0).min(MAX_RETRY_AFTER_MS);
            now.plus_ms(pause.max(retry_after))
        };
        let cool_down = hook.cool_down;
        let due = next_attempt(&self.pauses_ms, hook, waiting, was_probe, now, spread);
        report.hook_changed |= hook.cool_down != cool_down;
        match due {
            Some(due) if report.disables.is_none() => {
                waiting.due = due;
                waiting.claimed_until = Timestamp(0);
                report.disposition = Disposition::Retry { due, first_at };
            }
            _ => {
                report.disposition = Disposition::GivenUp;
                report.disables = report.disables.or((failing_since <= first_at).then_some(DisableReason::Failing));
                all.remove(&number);
            }
        }
        report
    }

    /// Whether a Worker must be notified now: deliveries are due at a webhook without claims.
    pub fn take_notification(&mut self, now: Timestamp) -> bool {
        let mut notify = false;
        let again_at = now.plus_ms(self.wakeup_retry_ms);
        for (_, webhook) in self.active().filter(|(_, webhook)| webhook.needs_notification(now)) {
            webhook.notify_again_at = Some(again_at);
            notify = true;
        }
        notify
    }

    /// When the next action is due, unless a report comes first.
    pub fn next_wakeup(&self, now: Timestamp) -> Option<Timestamp> {
        let active = self.webhooks.iter().filter(|(id, _)| !self.set_aside.contains(*id));
        active.filter_map(|(_, webhook)| webhook.next_wakeup(now)).min()
    }
}

/// When a failed delivery is tried again; `None` if it is given up. Begins, extends or ends the webhook's cool-down.
/// `spread` turns a pause into a time.
fn next_attempt(
    pauses_ms: &[u64],
    hook: &mut WebhookState,
    waiting: &mut PendingDelivery,
    was_probe: bool,
    now: Timestamp,
    spread: impl Fn(u64) -> Timestamp,
) -> Option<Timestamp> {
    if !waiting.unreachable {
        hook.cool_down = None;
        let pause = pauses_ms.get(waiting.rejected).copied();
        waiting.rejected += 1;
        return pause.map(spread);
    }
    let ends = waiting.first_at.unwrap_or(now).plus_ms(pauses_ms.iter().sum());
    // Attempts that were running when the cool-down began add no information.
    let cool_down = match hook.cool_down {
        Some(known) if !was_probe => known,
        known => {
            let tries = known.map_or(0, |known| known.tries + 1);
            let first = pauses_ms.first().copied().unwrap_or(0);
            let pause = first.saturating_mul(1 << tries.min(32)).min(MAX_COOL_DOWN_MS.max(first));
            // The last probe is at the time when it would be given up.
            CoolDown { until: spread(pause).min(ends.max(now)), tries }
        }
    };
    hook.cool_down = Some(cool_down);
    (now < ends).then_some(cool_down.until)
}

#[cfg(test)]
mod tests;
