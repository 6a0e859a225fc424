//! Services in the registry: creation, update, deletion, rotation of secrets.

use serde::Serialize;
use serde_json::json;

use crate::platform::{clock, settings};
use narthex_core::access::audit::{Actor, changes};
use narthex_core::access::encrypted_secret::EncryptedSecret;
use narthex_core::base::json::{Fault, MAX_DEPTH, check};
use narthex_core::base::json_parts::members;
use narthex_core::base::order;
use narthex_core::base::service_id::ServiceId;
use narthex_core::base::version::VersionNumber;
use narthex_core::events::bundle::RegistryEvent;
use narthex_core::http::merge_patch::merged;
use narthex_core::lane::observed::ObservedStatus;
use narthex_core::registry::size::Reach;
use narthex_core::services::credentials::{CredentialPlace, Credentials, EncryptedCredential, EncryptedCredentials};
use narthex_core::services::transport::Rules;
use narthex_core::services::{self, Registration, RetiringSecret};

use super::audit::Change;
use super::encryption::NewSecrets;
use super::messages::{Condition, PatchService, PutService, StoredService, WriteRefusal, WriteRules, WrittenService};
use super::observed::needs_lane;
use super::tables::SERVICE;
use super::writes::WriteError;
use super::{Inner, as_value, check_precondition};

/// A document to store in place of the known one.
struct ServiceWrite<'a> {
    id: &'a ServiceId,
    document: &'a str,
    fresh: NewSecrets,
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
) -> (StoredService, String) {
    let Registration { service, credentials, signing_secret } = registration;
    let now = clock::now();
    let (plain, given) = fresh.signing;
    let (signing_secret, retiring) = match known {
        Some(known) if signing_secret.is_none() => (known.signing_secret.clone(), known.retiring.clone()),
        _ => (given, None),
    };
    let stored = known.and_then(|known| known.credentials.as_ref());
    let credentials = match credentials {
        Some(Credentials { each, client }) => {
            let each = each.into_iter().zip(fresh.credentials).filter_map(|(credential, fresh)| {
                let value = fresh.or_else(|| stored?.of(&credential.place).cloned())?;
                Some(EncryptedCredential { place: credential.place, value })
            });
            EncryptedCredentials::new(each.collect(), client)
        }
        None => stored.filter(|_| keeps).cloned(),
    };
    let stays = known.filter(|known| known.service.transport == service.transport);
    let registered = StoredService {
        moved_at: stays.map_or(now, |known| known.moved_at),
        credentials,
        signing_secret,
        retiring,
        version: known.map_or(VersionNumber::FIRST, |known| known.version.next()),
        created_at: known.map_or(now, |known| known.created_at),
        updated_at: now,
        service,
    };
    (registered, plain)
}

impl Inner {
    pub(super) fn put_service(
        &self,
        by: &Actor,
        request: &PutService,
        fresh: NewSecrets,
    ) -> Result<WrittenService, WriteError> {
        let PutService { id, document, condition, rules } = request;
        let known: Option<StoredService> = self.tables.get(SERVICE, id.as_str())?;
        check_precondition(known.as_ref().map(|known| known.version), condition)?;
        let write = ServiceWrite { id, document, fresh, known, keeps: false };
        self.store_service(by, write, rules)
    }

    pub(super) fn patch_service(
        &self,
        by: &Actor,
        request: &PatchService,
        fresh: NewSecrets,
    ) -> Result<WrittenService, WriteError> {
        let PatchService { id, patch, condition, rules } = request;
        let known = self.tables.get::<StoredService>(SERVICE, id.as_str())?.ok_or(WriteRefusal::Absent)?;
        check_precondition(Some(known.version), condition)?;
        let Some(named) = members(patch) else {
            return Err(WriteRefusal::Faults(vec![Fault::new("#", "must be a JSON object")]).into());
        };
        let removes_credentials = named.iter().any(|member| member.name == "credentials" && member.value == "null");
        let view = known.service.view(&self.measured_of(id), known.created_at, known.updated_at);
        let document = merged(&serde_json::to_string(&view)?, patch);
        let write = ServiceWrite { id, document: &document, fresh, known: Some(known), keeps: !removes_credentials };
        self.store_service(by, write, rules)
    }

    fn store_service(
        &self,
        by: &Actor,
        write: ServiceWrite<'_>,
        rules: &WriteRules,
    ) -> Result<WrittenService, WriteError> {
        let registration = self.read_service(&write, rules).map_err(WriteRefusal::Faults)?;
        let ServiceWrite { id, fresh, known, keeps, .. } = write;
        // The gateway generates a secret only for a new service.
        let made = known.is_none() && registration.signing_secret.is_none();
        let (registered, plain) = registered(known.as_ref(), registration, fresh, keeps);
        let known_measured = self.measured_of(id);
        let moved = known.as_ref().is_some_and(|known| known.moved_at != registered.moved_at);
        let measured = if moved { ObservedStatus::default() } else { known_measured };
        let had_lane = known_measured.version > 0 || known.as_ref().is_some_and(|known| needs_lane(&known.service));
        let has_lane = had_lane || needs_lane(&registered.service);
        let kind = if known.is_none() { RegistryEvent::ServiceRegistered } else { RegistryEvent::ServiceUpdated };
        let data = event_data(&registered, &measured);
        let change = Change {
            by,
            action: if known.is_none() { "service.created" } else { "service.updated" },
            object: &format!("services/{id}"),
            changes: changes(&self.service_audit_view(known.as_ref()), &self.service_audit_view(Some(&registered))),
        };
        self.write(&change, || {
            self.tables.put(SERVICE, id.as_str(), &registered)?;
            if moved {
                self.tables.delete_measured(id)?;
            }
            self.queue_event(id.as_str(), kind, &data)
        })?;
        let signing_secret = made.then_some(plain);
        let service = Box::new(registered);
        Ok(WrittenService { created: known.is_none(), service, measured, has_lane, signing_secret })
    }

    /// Validates a service's document; returns all faults.
    fn read_service(&self, write: &ServiceWrite<'_>, rules: &WriteRules) -> Result<Registration, Vec<Fault>> {
        let known = write.known.as_ref();
        let text = check(write.document.as_bytes(), MAX_DEPTH).map_err(|invalid| vec![invalid.fault()])?;
        let own_hosts = rules.own_hosts();
        let (settings, tenant) = (settings::current(), self.tenant());
        let bindings = settings.bindings_of(&tenant);
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

    /// Replaces a service's signing secret; the previous one also signs until `overlap_seconds` have passed.
    pub(super) fn rotate_secret(
        &self,
        by: &Actor,
        id: &ServiceId,
        overlap_seconds: u64,
        (plain, secret): (String, EncryptedSecret),
    ) -> Result<WrittenService, WriteError> {
        let mut registered = self.tables.get::<StoredService>(SERVICE, id.as_str())?.ok_or(WriteRefusal::Absent)?;
        let now = clock::now();
        let old = std::mem::replace(&mut registered.signing_secret, secret);
        let from_to =
            json!({"from": self.audit_fingerprint(&old), "to": self.audit_fingerprint(&registered.signing_secret)});
        let overlap = json!({"from": null, "to": overlap_seconds});
        let retiring = RetiringSecret { secret: old, until: now.plus_ms(overlap_seconds * 1000) };
        registered.retiring = (overlap_seconds > 0).then_some(retiring);
        registered.version = registered.version.next();
        registered.updated_at = now;
        let changes = [("signing_secret", from_to), ("overlap_seconds", overlap)];
        let change = Change {
            by,
            action: "service.secret_rotated",
            object: &format!("services/{id}"),
            changes: order::insert_all(changes.map(|(name, value)| (name.to_string(), value))),
        };
        let measured = self.measured_of(id);
        let data = event_data(&registered, &measured);
        self.write_within(Reach::Reserve, &change, || {
            self.tables.put(SERVICE, id.as_str(), &registered)?;
            self.queue_event(id.as_str(), RegistryEvent::ServiceUpdated, &data)
        })?;
        let has_lane = measured.version > 0 || needs_lane(&registered.service);
        let service = Box::new(registered);
        Ok(WrittenService { created: false, service, measured, has_lane, signing_secret: Some(plain) })
    }

    pub(super) async fn delete_service(
        &self,
        by: &Actor,
        id: &ServiceId,
        condition: &Condition,
    ) -> Result<(), WriteError> {
        let known = self.tables.get::<StoredService>(SERVICE, id.as_str())?.ok_or(WriteRefusal::Absent)?;
        check_precondition(Some(known.version), condition)?;
        let had_lane = needs_lane(&known.service) || self.measured_of(id).version > 0;
        let change = Change {
            by,
            action: "service.deleted",
            object: &format!("services/{id}"),
            changes: changes(&self.service_audit_view(Some(&known)), &serde_json::Value::Null),
        };
        self.write(&change, || {
            self.tables.delete(SERVICE, id.as_str())?;
            self.tables.delete_measured(id)?;
            self.queue_event(id.as_str(), RegistryEvent::ServiceDeregistered, &json!({"id": id}))
        })?;
        if had_lane {
            self.delete_lane(&known).await;
        }
        Ok(())
    }
}
