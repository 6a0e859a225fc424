//! A write that fails in tests, as on a full disk.

use super::storage_error::StorageError;

/// Which writes fail.
#[derive(Debug, Default)]
pub enum WriteFault {
    #[default]
    None,
    /// One, counted from the next.
    Nth(u32),
    Every,
}

impl WriteFault {
    /// `None` stands for no write.
    pub fn at(nth: Option<u32>) -> Self {
        nth.map_or(Self::None, Self::Nth)
    }

    /// Counts a write, and fails if it is the one.
    ///
    /// # Errors
    /// The write must change nothing.
    pub fn count(&mut self) -> Result<(), StorageError> {
        let fails = match self {
            Self::None => return Ok(()),
            Self::Nth(0) => {
                *self = Self::None;
                true
            }
            Self::Nth(more) => {
                *more -= 1;
                false
            }
            Self::Every => true,
        };
        if fails { Err(StorageError("the disk is full".into())) } else { Ok(()) }
    }
}
