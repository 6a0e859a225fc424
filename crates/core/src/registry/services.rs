//! Services in the registry: creation, update, deletion, rotation of secrets.

use serde::Serialize;
use serde_json::json;

use super::audit::Change;
use super::later::ServiceNeeds;
use super::messages::{
    DeleteService, PatchService, PutService, StoredService, WriteRefusal, WriteRules, WrittenService,
};
use super::notifications::{LaneSettings, Notification};
use super::secrets::NewSecrets;
use super::size::Reach;
use super::storage::{self, Storage};
use super::writes::{after, check_precondition};
use super::{Registry, Turn, WriteError, as_value};
use crate::access::audit::changes;
use crate::access::encrypted_secret::EncryptedSecret;
use crate::base::json::{Fault, MAX_DEPTH, check};
use crate::base::json_parts::members;
use crate::base::order;
use crate::base::service_id::ServiceId;
use crate::base::storage_error::StorageError;
use crate::base::time::Timestamp;
use crate::base::version::VersionNumber;
use crate::events::bundle::RegistryEvent;
use crate::http::merge_patch::merged;
use crate::lane::observed::ObservedStatus;
use crate::registry::records::SERVICE;
use crate::services::credentials::{
    Credential, CredentialPlace, Credentials, EncryptedCredential, EncryptedCredentials,
};
use crate::services::transport::Rules;
use crate::services::{self, Registration, RetiringSecret, Service};

/// What a write of a service needs beside the request.
pub struct ServiceInputs<'a> {
    pub fresh: NewSecrets,
    /// The service bindings that the tenant's services may name; `None` if none may.
    pub bindings: Option<&'a [String]>,
}

/// A document to store in place of the known one.
struct ServiceWrite<'a> {
    id: &'a ServiceId,
    document: &'a str,
    inputs: ServiceInputs<'a>,
    known: Option<StoredService>,
    /// Credentials that are not in the document stay as they were.
    keeps: bool,
}

/// One of a service's credentials as the audit log shows it.
#[derive(Serialize)]
struct CredentialView {
    #[serde(flatten)]
    place: CredentialPlace,
    value: String,
}

fn event_data(registered: &StoredService, measured: &ObservedStatus) -> serde_json::Value {
    let service = &registered.service;
    json!({
        "id": service.id, "name": service.name, "type": service.kind,
        "status": service.status(measured), "version": registered.version,
    })
}

/// The service to store, and the plaintext of its signing secret if that is new. `keeps`: credentials that are not in
/// the document stay as they were.
fn registered(
    known: Option<&StoredService>,
    registration: Registration,
    fresh: NewSecrets,
    keeps: bool,
    now: Timestamp,
) -> (StoredService, String) {
    let Registration { service, credentials, signing_secret } = registration;
    let (plain, given) = fresh.signing;
    let (signing_secret, retiring) = match known {
        Some(known) if signing_secret.is_none() => (known.signing_secret.clone(), known.retiring.clone()),
        _ => (given, None),
    };
    let stored = known.and_then(|known| known.credentials.as_ref());
    let credentials = match credentials {
        Some(Credentials { each, client }) => {
            let fresh = |plain: &str| fresh.credentials.iter().find(|(known, _)| known == plain);
            let each = each.into_iter().filter_map(|Credential { place, value }| {
                let value = match value {
                    Some(plain) => &fresh(&plain)?.1,
                    None => stored?.of(&place)?,
                };
                Some(EncryptedCredential { value: value.clone(), place })
            });
            EncryptedCredentials::new(each.collect(), client)
        }
        None => stored.filter(|_| keeps).cloned(),
    };
    let stays = known.filter(|known| known.service.transport == service.transport);
    let registered = StoredService {
        moved_at: stays.map_or_else(|| after(known.map(|known| known.moved_at), now), |known| known.moved_at),
        credentials,
        signing_secret,
        retiring,
        version: known.map_or(VersionNumber::FIRST, |known| known.version.next()),
        created_at: known.map_or(now, |known| known.created_at),
        updated_at: after(known.map(|known| known.updated_at), now),
        needs: ServiceNeeds::of(&service),
        service,
    };
    (registered, plain)
}

/// Whether a service's lane has work or state independent of requests.
pub fn needs_lane(service: &Service) -> bool {
    service.health.is_some() || service.limits.max_concurrency.is_some() || service.transport.connects()
}

impl StoredService {
    /// What every message to its lane says of it.
    pub fn lane_settings(&self) -> LaneSettings {
        let Self { service, updated_at, moved_at, .. } = self;
        LaneSettings::new(&service.id, (*updated_at, *moved_at), &service.limits, service.transport.grace_ms())
    }
}

/// Validates a service's document; returns all faults.
fn read_service(write: &ServiceWrite<'_>, rules: &WriteRules) -> Result<Registration, Vec<Fault>> {
    let known = write.known.as_ref();
    let text = check(write.document.as_bytes(), MAX_DEPTH).map_err(|invalid| vec![invalid.fault()])?;
    let own_hosts = rules.own_hosts();
    let bindings = write.inputs.bindings;
    let stored = known.and_then(|known| known.credentials.as_ref());
    let rules = Rules { addresses: rules.addresses(), own_hosts: &own_hosts, demo: rules.demo, bindings, stored };
    let mut registration = services::read(write.id, text, rules)?;
    let Registration { service, credentials, .. } = &mut registration;
    // A Worker reads the tools afterwards; until then, the tools known at this address stay.
    let known_tools = known.map(|known| &known.service).filter(|known| {
        known.transport.upstream().map(|upstream| &upstream.url)
            == service.transport.upstream().map(|upstream| &upstream.url)
    });
    if let Some(known) = known_tools.filter(|_| service.transport.upstream().is_some()) {
        service.capabilities.clone_from(&known.capabilities);
        service.catalogue.clone_from(&known.catalogue);
    }
    let moved_away = known.is_some_and(|known| !known.service.transport.same_origin(&service.transport));
    let keeps = write.keeps && credentials.is_none() && stored.is_some();
    let keeps_any = credentials.iter().flat_map(|given| &given.each).any(|credential| credential.value.is_none());
    if (keeps || keeps_any) && moved_away {
        // Otherwise a writer could read the credentials by changing the address.
        let detail = "must be sent again, or be null: the new address has another origin";
        return Err(vec![Fault::new("#/credentials", detail)]);
    }
    Ok(registration)
}

impl<S: Storage> Registry<S> {
    /// A registered service.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub fn service(&self, id: &ServiceId) -> Result<Option<StoredService>, StorageError> {
        storage::get(&self.storage, SERVICE, id.as_str())
    }

    pub(super) fn service_to_write(&self, id: &ServiceId) -> Result<Option<StoredService>, WriteError> {
        self.known(SERVICE, id.as_str())
    }

    /// Creates or replaces a service.
    ///
    /// # Errors
    /// The storage fails, or the write is refused.
    pub fn put_service(
        &mut self,
        request: &PutService,
        inputs: ServiceInputs<'_>,
        turn: &Turn<'_>,
    ) -> Result<WrittenService, WriteError> {
        let PutService { id, document, condition, rules } = request;
        let known = self.service_to_write(id)?;
        check_precondition(known.as_ref().map(|known| known.version), condition)?;
        let write = ServiceWrite { id, document, inputs, known, keeps: false };
        self.store_service(write, rules, turn)
    }

    /// Changes a service by a merge patch.
    ///
    /// # Errors
    /// The storage fails, or the write is refused.
    pub fn patch_service(
        &mut self,
        request: &PatchService,
        inputs: ServiceInputs<'_>,
        turn: &Turn<'_>,
    ) -> Result<WrittenService, WriteError> {
        let PatchService { id, patch, condition, rules } = request;
        let known = self.service_to_write(id)?.ok_or(WriteRefusal::Absent)?;
        check_precondition(Some(known.version), condition)?;
        let Some(named) = members(patch) else {
            return Err(WriteRefusal::Faults(vec![Fault::new("#", "must be a JSON object")]).into());
        };
        let removes_credentials = named.iter().any(|member| member.name == "credentials" && member.value == "null");
        let view = known.service.view(&self.measured_of(id), known.created_at, known.updated_at);
        let document = merged(&serde_json::to_string(&view)?, patch);
        let write = ServiceWrite { id, document: &document, inputs, known: Some(known), keeps: !removes_credentials };
        self.store_service(write, rules, turn)
    }

    fn store_service(
        &mut self,
        write: ServiceWrite<'_>,
        rules: &WriteRules,
        turn: &Turn<'_>,
    ) -> Result<WrittenService, WriteError> {
        let registration = read_service(&write, rules).map_err(WriteRefusal::Faults)?;
        let ServiceWrite { id, inputs, known, keeps, .. } = write;
        // The gateway generates a secret only for a new service.
        let made = known.is_none() && registration.signing_secret.is_none();
        let (registered, plain) = registered(known.as_ref(), registration, inputs.fresh, keeps, turn.now);
        let known_measured = self.measured_of(id);
        let moved = known.as_ref().is_some_and(|known| known.moved_at != registered.moved_at);
        let measured = if moved { ObservedStatus::default() } else { known_measured };
        let had_lane = known_measured.version > 0 || known.as_ref().is_some_and(|known| needs_lane(&known.service));
        let has_lane = had_lane || needs_lane(&registered.service);
        let kind = if known.is_none() { RegistryEvent::ServiceRegistered } else { RegistryEvent::ServiceUpdated };
        let data = event_data(&registered, &measured);
        let change = Change {
            by: turn.by,
            action: if known.is_none() { "service.created" } else { "service.updated" },
            object: &format!("services/{id}"),
            changes: changes(&self.service_audit_view(known.as_ref()), &self.service_audit_view(Some(&registered))),
        };
        self.write(&change, turn, |registry| {
            registry.put_service_document(&registered)?;
            if moved {
                registry.storage.delete_measured(id)?;
            }
            if has_lane {
                registry.notify(Notification::ConfigureLane { service: id.clone() })?;
            }
            registry.queue_event(id.as_str(), kind, &data, turn.now)
        })?;
        let signing_secret = made.then_some(plain);
        let service = Box::new(registered);
        Ok(WrittenService { created: known.is_none(), service, measured, has_lane, signing_secret })
    }

    /// A service as the audit log shows it: with fingerprints in place of its secrets.
    fn service_audit_view(&self, registered: Option<&StoredService>) -> serde_json::Value {
        let Some(registered) = registered else { return serde_json::Value::Null };
        let mut document = as_value(&registered.service);
        if let Some(members) = document.as_object_mut() {
            members.insert("signing_secret".into(), self.audit_fingerprint(&registered.signing_secret).into());
            if let Some(known) = &registered.credentials {
                let view = |(place, value)| match &known.client {
                    Some(client) => json!({"client": client, "client_secret": self.audit_fingerprint(value)}),
                    None => json!(CredentialView { place, value: self.audit_fingerprint(value) }),
                };
                let mut each: Vec<serde_json::Value> = known.each().map(view).collect();
                let credentials = if each.len() == 1 { each.remove(0) } else { each.into() };
                members.insert("credentials".into(), credentials);
            }
        }
        document
    }

    /// Replaces a service's signing secret; the previous one also signs until `overlap_seconds` have passed. `secret`:
    /// as it is shown, and encrypted.
    ///
    /// # Errors
    /// The storage fails, or the write is refused.
    pub fn rotate_secret(
        &mut self,
        id: &ServiceId,
        overlap_seconds: u64,
        secret: (String, EncryptedSecret),
        turn: &Turn<'_>,
    ) -> Result<WrittenService, WriteError> {
        let mut registered = self.service_to_write(id)?.ok_or(WriteRefusal::Absent)?;
        let (plain, secret) = secret;
        let old = std::mem::replace(&mut registered.signing_secret, secret);
        let from_to =
            json!({"from": self.audit_fingerprint(&old), "to": self.audit_fingerprint(&registered.signing_secret)});
        let overlap = json!({"from": null, "to": overlap_seconds});
        let retiring = RetiringSecret { secret: old, until: turn.now.plus_ms(overlap_seconds * 1000) };
        registered.retiring = (overlap_seconds > 0).then_some(retiring);
        registered.version = registered.version.next();
        registered.updated_at = after(Some(registered.updated_at), turn.now);
        let changes = [("signing_secret", from_to), ("overlap_seconds", overlap)];
        let change = Change {
            by: turn.by,
            action: "service.secret_rotated",
            object: &format!("services/{id}"),
            changes: order::insert_all(changes.map(|(name, value)| (name.to_string(), value))),
        };
        let measured = self.measured_of(id);
        let data = event_data(&registered, &measured);
        let has_lane = measured.version > 0 || needs_lane(&registered.service);
        self.write_within(Reach::Reserve, &change, turn, |registry| {
            registry.put_service_document(&registered)?;
            if has_lane {
                registry.notify(Notification::ConfigureLane { service: id.clone() })?;
            }
            registry.queue_event(id.as_str(), RegistryEvent::ServiceUpdated, &data, turn.now)
        })?;
        let service = Box::new(registered);
        Ok(WrittenService { created: false, service, measured, has_lane, signing_secret: Some(plain) })
    }

    /// Deletes a service.
    ///
    /// # Errors
    /// The storage fails, or the write is refused.
    pub fn delete_service(&mut self, request: &DeleteService, turn: &Turn<'_>) -> Result<(), WriteError> {
        let DeleteService { id, condition } = request;
        let known = self.service_to_write(id)?.ok_or(WriteRefusal::Absent)?;
        check_precondition(Some(known.version), condition)?;
        let had_lane = needs_lane(&known.service) || self.measured_of(id).version > 0;
        let change = Change {
            by: turn.by,
            action: "service.deleted",
            object: &format!("services/{id}"),
            changes: changes(&self.service_audit_view(Some(&known)), &serde_json::Value::Null),
        };
        self.write(&change, turn, |registry| {
            registry.remove_service_document(id)?;
            registry.storage.delete_measured(id)?;
            if had_lane {
                registry.notify(Notification::ForgetLane(known.lane_settings()))?;
            }
            registry.queue_event(id.as_str(), RegistryEvent::ServiceDeregistered, &json!({"id": id}), turn.now)
        })
    }
}
