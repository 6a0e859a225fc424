//! The memory of this instance.

/// The size of a page of Wasm's memory, in bytes.
#[cfg(target_arch = "wasm32")]
const PAGE_BYTES: u64 = 65_536;

/// The memory of the Wasm instance in bytes, which never shrinks: the most that it has needed since its start. 0 in
/// native tests.
pub fn bytes() -> u64 {
    #[cfg(target_arch = "wasm32")]
    {
        core::arch::wasm32::memory_size(0) as u64 * PAGE_BYTES
    }
    #[cfg(not(target_arch = "wasm32"))]
    {
        0
    }
}
