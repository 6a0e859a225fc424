//! Which request opens a link to a server, and which link is closed when an isolate has too many.

use std::collections::HashMap;

use crate::base::tenant_id::TenantId;
use crate::base::time::Timestamp;

/// How long one request has the turn before another may open a link as well, in milliseconds: it may have died.
pub const OPENING_MS: u64 = 10_000;

/// Which request has the turn, and until when others wait for it.
struct Opening {
    number: u64,
    until: Timestamp,
}

/// The turns that are taken, by link key.
#[derive(Default)]
pub struct Turns(HashMap<String, Opening>);

/// What a request that needs a link must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnDecision {
    /// It has the turn, under its number.
    Take,
    Wait,
    /// It has no time left to open a link.
    Late,
}

impl Turns {
    /// Takes the turn if it is free. A valid turn is never taken from its holder.
    pub fn step(&mut self, key: &str, number: u64, now: Timestamp, until: Timestamp) -> TurnDecision {
        if now >= until {
            return TurnDecision::Late;
        }
        if self.0.get(key).is_some_and(|opening| opening.until > now) {
            return TurnDecision::Wait;
        }
        self.0.insert(key.into(), Opening { number, until: now.plus_ms(OPENING_MS) });
        TurnDecision::Take
    }

    /// Ends the turn of this number. If another has taken the turn, it keeps it.
    pub fn end(&mut self, key: &str, number: u64) {
        if self.0.get(key).is_some_and(|opening| opening.number == number) {
            self.0.remove(key);
        }
    }
}

/// The key of the link to close: the least recently used one of the tenant with the most links, so that one tenant's
/// links do not displace another's.
pub fn link_to_close<'a>(links: impl Iterator<Item = (&'a TenantId, &'a str, Timestamp)> + Clone) -> Option<&'a str> {
    let mut counts: HashMap<&TenantId, usize> = HashMap::new();
    for (tenant, ..) in links.clone() {
        *counts.entry(tenant).or_default() += 1;
    }
    let (most, _) = counts.into_iter().max_by_key(|(tenant, count)| (*count, *tenant))?;
    let theirs = links.filter(|(tenant, ..)| *tenant == most);
    theirs.min_by_key(|(_, _, used_at)| *used_at).map(|(_, key, _)| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Timestamp {
        Timestamp(ms)
    }

    #[test]
    fn a_turn_that_has_not_run_out_is_not_taken_from_its_holder() {
        let mut turns = Turns::default();
        assert_eq!(turns.step("a", 1, at(0), at(60_000)), TurnDecision::Take);
        assert_eq!(turns.step("a", 2, at(5), at(60_000)), TurnDecision::Wait);
        // A request out of time cannot open a link, and takes nothing.
        assert_eq!(turns.step("a", 2, at(100), at(100)), TurnDecision::Late);
        turns.end("a", 2);
        assert_eq!(turns.step("a", 3, at(101), at(60_000)), TurnDecision::Wait);
        assert_eq!(turns.step("b", 3, at(101), at(60_000)), TurnDecision::Take);
        turns.end("a", 1);
        assert_eq!(turns.step("a", 4, at(102), at(60_000)), TurnDecision::Take);
    }

    #[test]
    fn a_holder_that_has_died_is_waited_for_only_so_long() {
        let mut turns = Turns::default();
        assert_eq!(turns.step("a", 1, at(0), at(60_000)), TurnDecision::Take);
        assert_eq!(turns.step("a", 2, at(OPENING_MS - 1), at(60_000)), TurnDecision::Wait);
        assert_eq!(turns.step("a", 2, at(OPENING_MS), at(60_000)), TurnDecision::Take);
        // The first one ends late: the second still has its turn.
        turns.end("a", 1);
        assert_eq!(turns.step("a", 3, at(OPENING_MS + 1), at(60_000)), TurnDecision::Wait);
    }

    #[test]
    fn the_tenant_with_the_most_links_makes_room() {
        let (a, b) = (&TenantId::from_stored("a"), &TenantId::from_stored("b"));
        let links = [(b, "b1", at(5)), (a, "a1", at(1)), (b, "b2", at(3)), (b, "b3", at(9))];
        assert_eq!(link_to_close(links.into_iter()), Some("b2"));
        assert_eq!(link_to_close(links.into_iter().take(2)), Some("b1"));
        assert_eq!(link_to_close(std::iter::empty()), None);
    }
}
