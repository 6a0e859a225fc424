//! Rejected requests of one isolate, counted by tenant and code until they are reported to the tenant's hub: the first
//! at once, later ones together, so that a flood of them costs the hub nothing.

use std::collections::{BTreeMap, HashMap};

use crate::base::tenant_id::TenantId;
use crate::base::time::Timestamp;

/// The minimum interval between reports for a tenant, in milliseconds.
pub const REPORT_INTERVAL_MS: u64 = 30_000;
/// The maximum number of tenants with counts; rejections of further ones are reported at once.
const MAX_TENANTS: usize = 1_000;

/// The number of rejected requests by code.
pub type Codes = BTreeMap<String, u64>;

#[derive(Default)]
struct PendingCounts {
    reported_at: Timestamp,
    codes: Codes,
}

/// The unreported rejections of one isolate, by tenant.
#[derive(Default)]
pub struct RejectionCounter {
    tenants: HashMap<TenantId, PendingCounts>,
}

impl RejectionCounter {
    /// Counts a rejection; returns what must be reported now.
    pub fn count(&mut self, tenant: &TenantId, code: &str, now: Timestamp) -> Option<Codes> {
        if !self.tenants.contains_key(tenant) && self.tenants.len() >= MAX_TENANTS {
            self.tenants
                .retain(|_, tally| !tally.codes.is_empty() || now.since(tally.reported_at) < REPORT_INTERVAL_MS);
            if self.tenants.len() >= MAX_TENANTS {
                return Some(Codes::from([(code.into(), 1)]));
            }
        }
        let tally = self.tenants.entry(tenant.clone()).or_default();
        *tally.codes.entry(code.into()).or_default() += 1;
        (now.since(tally.reported_at) >= REPORT_INTERVAL_MS).then(|| {
            tally.reported_at = now;
            std::mem::take(&mut tally.codes)
        })
    }

    /// Takes all unreported counts, if there are any.
    pub fn take(&mut self, tenant: &TenantId) -> Option<Codes> {
        let codes = self.tenants.get_mut(tenant).map(|tally| std::mem::take(&mut tally.codes));
        codes.filter(|codes| !codes.is_empty())
    }

    /// Restores counts whose report failed.
    pub fn put_back(&mut self, tenant: &TenantId, codes: Codes) {
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

    fn tenant(id: &str) -> TenantId {
        TenantId::parse(id).unwrap()
    }

    fn codes<const N: usize>(codes: [(&str, u64); N]) -> Codes {
        codes.into_iter().map(|(code, count)| (code.to_string(), count)).collect()
    }

    #[test]
    fn the_first_rejection_is_reported_at_once_and_the_rest_together() {
        let mut rejections = RejectionCounter::default();
        let at = Timestamp(1_000_000);
        assert_eq!(rejections.count(&tenant("a"), "not_found", at), Some(codes([("not_found", 1)])));
        for more in 1..=5 {
            assert_eq!(rejections.count(&tenant("a"), "rate_limited", at.plus_ms(more)), None);
        }
        assert_eq!(
            rejections.count(&tenant("b"), "not_found", at),
            Some(codes([("not_found", 1)])),
            "each tenant by itself"
        );
        let reported = rejections.count(&tenant("a"), "not_found", at.plus_ms(REPORT_INTERVAL_MS));
        assert_eq!(reported, Some(codes([("not_found", 1), ("rate_limited", 5)])));
        assert_eq!(rejections.take(&tenant("a")), None);
    }

    #[test]
    fn counts_whose_report_failed_are_reported_later() {
        let mut rejections = RejectionCounter::default();
        let at = Timestamp(1_000_000);
        let reported = rejections.count(&tenant("a"), "not_found", at).unwrap();
        rejections.put_back(&tenant("a"), reported);
        assert_eq!(rejections.count(&tenant("a"), "not_found", at), None);
        assert_eq!(rejections.take(&tenant("a")), Some(codes([("not_found", 2)])));
        assert_eq!(rejections.take(&tenant("a")), None);
        assert_eq!(rejections.take(&tenant("b")), None);
    }

    #[test]
    fn beyond_so_many_tenants_nothing_is_kept_and_nothing_lost() {
        let mut rejections = RejectionCounter::default();
        let at = Timestamp(1_000_000);
        for number in 0..MAX_TENANTS {
            assert!(rejections.count(&tenant(&number.to_string()), "not_found", at).is_some());
        }
        for _ in 0..2 {
            assert_eq!(rejections.count(&tenant("one-more"), "not_found", at), Some(codes([("not_found", 1)])));
        }
        let later = at.plus_ms(REPORT_INTERVAL_MS);
        assert!(rejections.count(&tenant("one-more"), "not_found", later).is_some());
        assert_eq!(rejections.count(&tenant("one-more"), "not_found", later), None, "the others were forgotten");
    }
}
