//! The member `content` of a service: what is kept of the calls of its capabilities.

use super::capability::{Capability, TaskSupport};
use super::transport::Transport;
use crate::base::content::Content;
use crate::base::json::{Fault, Object};

const NOT_FOR_SOCKETS: &str =
    "cannot be none with transport.kind socket: a connected service hands in its results later, and they are stored";

/// Reads the member. Faults: what cannot be without kept content, namely the work of connected services, and calls that
/// are always tasks.
pub fn read(document: &mut Object<'_>, transport: Option<&Transport>, capabilities: &[Capability]) -> Option<Content> {
    let service = document.parsed("content", "full or none", Content::parse);
    let connects = transport.is_some_and(Transport::connects);
    let mut faults = Vec::new();
    if connects && service == Some(Content::None) {
        faults.push(Fault::new("#/content", NOT_FOR_SOCKETS));
    }
    for (index, capability) in capabilities.iter().enumerate() {
        let pointer = |name: &str| format!("#/capabilities/{index}/{name}");
        if connects && capability.content == Some(Content::None) {
            faults.push(Fault::new(pointer("content"), NOT_FOR_SOCKETS));
        }
        if capability.content.or(service) == Some(Content::None) && capability.task_support == TaskSupport::Required {
            let detail = "cannot be required with content none: the result of a task is fetched later";
            faults.push(Fault::new(pointer("task_support"), detail));
        }
    }
    document.faults(faults);
    service
}
