//! Requests that an isolate refused, counted by tenant and code until the tenant's hub is told: the first at once, what
//! follows together, so that a flood of them costs the hub nothing.

use std::collections::{BTreeMap, HashMap};

use crate::base::time::Timestamp;

/// A tenant's hub is told again after this, in milliseconds, when another request is refused.
pub const EVERY_MS: u64 = 30_000;
/// Tenants that are counted for; of further ones each refusal is told at once.
const MAX_TENANTS: usize = 1_000;

/// How many requests were refused with which code.
pub type Codes = BTreeMap<String, u64>;

#[derive(Default)]
struct Tally {
    told_at: Timestamp,
    codes: Codes,
}

#[derive(Default)]
pub struct Refusals {
    tenants: HashMap<String, Tally>,
}

impl Refusals {
    /// Counts one; gives what the hub is to be told now.
    pub fn count(&mut self, tenant: &str, code: &str, now: Timestamp) -> Option<Codes> {
        if !self.tenants.contains_key(tenant) && self.tenants.len() >= MAX_TENANTS {
            self.tenants.retain(|_, tally| !tally.codes.is_empty() || now.since(tally.told_at) < EVERY_MS);
            if self.tenants.len() >= MAX_TENANTS {
                return Some(Codes::from([(code.into(), 1)]));
            }
        }
        let tally = self.tenants.entry(tenant.into()).or_default();
        *tally.codes.entry(code.into()).or_default() += 1;
        (now.since(tally.told_at) >= EVERY_MS).then(|| {
            tally.told_at = now;
            std::mem::take(&mut tally.codes)
        })
    }

    /// All that its hub was not told of yet; nothing when there is nothing.
    pub fn take(&mut self, tenant: &str) -> Option<Codes> {
        let codes = self.tenants.get_mut(tenant).map(|tally| std::mem::take(&mut tally.codes));
        codes.filter(|codes| !codes.is_empty())
    }

    /// It could not be told: next time.
    pub fn put_back(&mut self, tenant: &str, codes: Codes) {
        if let Some(tally) = self.tenants.get_mut(tenant) {
            for (code, count) in codes {
                *tally.codes.entry(code).or_default() += count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes<const N: usize>(codes: [(&str, u64); N]) -> Codes {
        codes.into_iter().map(|(code, count)| (code.to_string(), count)).collect()
    }

    #[test]
    fn the_first_refusal_is_told_at_once_and_the_rest_together() {
        let mut refusals = Refusals::default();
        let at = Timestamp(1_000_000);
        assert_eq!(refusals.count("a", "not_found", at), Some(codes([("not_found", 1)])));
        for more in 1..=5 {
            assert_eq!(refusals.count("a", "rate_limited", at.plus_ms(more)), None);
        }
        assert_eq!(refusals.count("b", "not_found", at), Some(codes([("not_found", 1)])), "each tenant by itself");
        let told = refusals.count("a", "not_found", at.plus_ms(EVERY_MS));
        assert_eq!(told, Some(codes([("not_found", 1), ("rate_limited", 5)])));
        assert_eq!(refusals.take("a"), None);
    }

    #[test]
    fn what_could_not_be_told_is_told_later() {
        let mut refusals = Refusals::default();
        let at = Timestamp(1_000_000);
        let told = refusals.count("a", "not_found", at).unwrap();
        refusals.put_back("a", told);
        assert_eq!(refusals.count("a", "not_found", at), None);
        assert_eq!(refusals.take("a"), Some(codes([("not_found", 2)])));
        assert_eq!(refusals.take("a"), None);
        assert_eq!(refusals.take("b"), None);
    }

    #[test]
    fn beyond_so_many_tenants_nothing_is_kept_and_nothing_lost() {
        let mut refusals = Refusals::default();
        let at = Timestamp(1_000_000);
        for tenant in 0..MAX_TENANTS {
            assert!(refusals.count(&tenant.to_string(), "not_found", at).is_some());
        }
        for _ in 0..2 {
            assert_eq!(refusals.count("one more", "not_found", at), Some(codes([("not_found", 1)])));
        }
        let later = at.plus_ms(EVERY_MS);
        assert!(refusals.count("one more", "not_found", later).is_some());
        assert_eq!(refusals.count("one more", "not_found", later), None, "the others were forgotten");
    }
}
