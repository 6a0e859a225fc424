//! Rate limits: policies, the quota pools that objects keep, and the leases that isolates hold of them.

pub mod concurrency;
pub mod policy;
pub mod quota_lease;
pub mod quota_pool;
