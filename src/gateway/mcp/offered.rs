//! What the MCP servers behind an endpoint have beside tools, and who may use it.

use crate::objects::registry::snapshot::Entry;
use narthex_core::access::principal::Principal;

use super::super::call::Caller;
use super::Door;

/// The permission to use what a service has of this kind.
pub(super) fn permission(service: &str, kind: &str) -> String {
    format!("contexts:create:{service}.{kind}")
}

/// Whether a server says that it has this.
pub(super) fn declares(entry: &Entry, name: &str) -> bool {
    entry.service().catalogue.as_ref().is_some_and(|catalogue| catalogue.server.declares(name))
}

/// Whether the door is of one server, which has resources.
pub(super) fn has_resources(door: Door<'_>, caller: &Caller) -> bool {
    door.0.and_then(|id| caller.snapshot.service(id)).is_some_and(|entry| declares(entry, "resources"))
}

/// Whether a server behind the door keeps sessions: each client has its own there.
pub(super) fn has_sessions(door: Door<'_>, caller: &Caller) -> bool {
    let keeps = |entry: &Entry| entry.service().catalogue.as_ref().is_some_and(|known| known.server.sessions);
    match door.0 {
        Some(id) => caller.snapshot.service(id).is_some_and(keeps),
        None => caller.snapshot.services.iter().any(|entry| keeps(entry) && may_use(&caller.principal, entry)),
    }
}

/// Whether there is anything of this service that somebody may use.
pub(super) fn may_use(principal: &Principal, entry: &Entry) -> bool {
    let service = entry.service();
    let may = |kind: &&str| principal.may(&permission(&service.id, kind));
    ["prompts", "resources"].iter().any(may)
        || service
            .capabilities
            .iter()
            .any(|capability| principal.may_call(&service.id, &capability.name, &capability.permissions))
}

/// What the servers behind a door declare beside tools, as members of an object, each with a comma before it. What they
/// tell of changes is told at the door of one server; legacy clients are told of logging anyway.
pub fn declared(door: Door<'_>, caller: &Caller, legacy: bool) -> String {
    let entries = || {
        let all = caller.snapshot.services.iter().filter(|entry| entry.service().transport.upstream().is_some());
        all.filter(|entry| door.0.is_none_or(|id| id == entry.service().id))
    };
    let member = |name: &&str| {
        let entry = entries().find(|entry| declares(entry, name))?;
        let catalogue = entry.service().catalogue.as_ref().filter(|_| door.0.is_some());
        let value = catalogue.and_then(|known| known.server.declared(name)).unwrap_or_else(|| "{}".into());
        Some(format!(r#","{name}":{value}"#))
    };
    let asked = |name: &&&str| !(legacy && **name == "logging");
    ["prompts", "resources", "completions", "logging"].iter().filter(asked).filter_map(member).collect()
}
