//! What a context store replies to the workers that run its contexts.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::base::service_id::ServiceId;
use crate::context::Admission;
use crate::context::lease::Hold;

/// An attempt to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Work {
    pub admission: Admission,
    pub parameters: Box<RawValue>,
    #[serde(rename = "lease")]
    pub hold: Hold,
    /// Number of this attempt, from 1.
    pub attempt: u64,
    /// Services that already failed this context.
    #[serde(default)]
    pub tried: Vec<ServiceId>,
    /// The subset of these that would fail it again in the same way.
    #[serde(default)]
    pub hopeless: Vec<ServiceId>,
    /// The answer to the service's input request.
    #[serde(default)]
    pub input: Option<Box<RawValue>>,
    /// State that the service wants returned with the answer.
    #[serde(default)]
    pub input_state: Option<String>,
}
