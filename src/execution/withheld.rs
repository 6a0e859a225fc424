//! What a service says of its failure and is not shown: its own credentials.

use crate::objects::secrets::DecryptedSecrets;
use narthex_core::context::ReportedOutcome;

/// Some services repeat what they were shown when they refuse it: that is nothing for their callers.
pub fn withhold(outcome: &mut ReportedOutcome, shown: Option<&DecryptedSecrets>) {
    let (ReportedOutcome::Failed { error, .. }, Some(secrets)) = (outcome, shown) else { return };
    let details = error.details.as_ref().map_or("", |details| details.get());
    if secrets.shows_in(details) || secrets.shows_in(&error.message) {
        error.message = "The service refused it. Its own words are left out: its credentials are in them.".into();
        error.details = None;
    }
}
