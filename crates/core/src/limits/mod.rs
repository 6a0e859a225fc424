//! Limits: policies, the quota pools that objects keep, the leases that isolates hold, and concurrency permits.

pub mod concurrency;
pub mod policy;
pub mod quota_lease;
pub mod quota_pool;
