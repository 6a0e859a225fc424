//! The pauses of work that waits for an object and asks again after failed calls.

/// The pauses double, because the object may be overloaded.
#[derive(Debug, Clone, Copy, Default)]
pub struct Backoff {
    doublings: u32,
}

impl Backoff {
    const MAX_DOUBLINGS: u32 = 5;

    /// The next pause, where the first one is `first_ms`.
    pub fn next_ms(&mut self, first_ms: u64) -> u64 {
        let pause_ms = first_ms << self.doublings;
        self.doublings = Self::MAX_DOUBLINGS.min(self.doublings + 1);
        pause_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_32_times_the_first() {
        let mut backoff = Backoff::default();
        assert_eq!([(); 8].map(|()| backoff.next_ms(10)), [10, 20, 40, 80, 160, 320, 320, 320]);
    }
}
