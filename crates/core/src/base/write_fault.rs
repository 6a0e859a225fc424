//! A write that fails in tests, as on a full disk.

use super::storage_error::StorageError;

/// Which write fails, counted from the next one.
#[derive(Debug, Default)]
pub struct WriteFault(Option<u32>);

impl WriteFault {
    /// `None` stands for no write.
    pub fn at(nth: Option<u32>) -> Self {
        Self(nth)
    }

    /// Counts a write, and fails if it is the one.
    ///
    /// # Errors
    /// The write must change nothing.
    pub fn count(&mut self) -> Result<(), StorageError> {
        match self.0.take() {
            Some(0) => return Err(StorageError("the disk is full".into())),
            Some(more) => self.0 = Some(more - 1),
            None => {}
        }
        Ok(())
    }
}
