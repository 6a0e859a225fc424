//! Removes a service's own credentials from its error texts.

use crate::objects::secrets::DecryptedSecrets;
use narthex_core::context::ReportedOutcome;

/// Some services repeat the credentials that they reject. Callers must not see them.
pub fn redact_credentials(outcome: &mut ReportedOutcome, shown: Option<&DecryptedSecrets>) {
    let (ReportedOutcome::Failed { error, .. }, Some(secrets)) = (outcome, shown) else { return };
    let details = error.details.as_ref().map_or("", |details| details.get());
    if secrets.shows_in(details) || secrets.shows_in(&error.message) {
        error.message =
            "The service rejected the request. Its error text contains its credentials and is omitted.".into();
        error.details = None;
    }
}
