//! Random bytes of the platform's generator, fetched in batches: a crossing is expensive, a byte is not.

use std::cell::RefCell;

const PORTION: usize = 1024;

struct Pool {
    bytes: [u8; PORTION],
    used: usize,
}

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; PORTION], used: PORTION }) };
}

/// Fresh random bytes. `N` is at most 64.
pub fn bytes<const N: usize>() -> [u8; N] {
    POOL.with_borrow_mut(|pool| {
        if pool.used + N > PORTION {
            if getrandom::fill(&mut pool.bytes).is_err() {
                // The generator does not fail, and ids must never be made of stale bytes.
                std::process::abort();
            }
            pool.used = 0;
        }
        let mut taken = [0; N];
        if let Some(fresh) = pool.bytes.get_mut(pool.used..pool.used + N) {
            taken.copy_from_slice(fresh);
            // Used once, then forgotten.
            fresh.fill(0);
        }
        pool.used += N;
        taken
    })
}

pub fn number() -> u64 {
    u64::from_le_bytes(bytes())
}
