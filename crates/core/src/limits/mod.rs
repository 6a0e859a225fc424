//! Rate limits and concurrency limits: policies, the quota pools that objects keep, the leases that isolates hold, and
//! concurrency permits. A service's own `max_concurrency` belongs to `lane`, the sizes of documents to `registry`.

pub mod concurrency;
pub mod policy;
pub mod quota_lease;
pub mod quota_pool;
