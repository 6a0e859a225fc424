//! The codes with which the gateway closes connections of services.

use crate::base::close_codes::close_codes;

close_codes! {
    /// Why a connection is closed.
    ConnectionCloseCode {
        BadMessage = 1008 "bad message" "messages are text",
        TooLarge = 1009 "too large" "messages have at most 1 MiB",
        /// The service's transport was changed.
        Changed = 1012 "changed" "the service was changed: connect again",
        /// A report could not be stored.
        TryAgain = 1013 "try again" "the report could not be stored: connect again",
        CredentialsEnded = 4401 "credentials ended" "the credentials have ended",
        Gone = 4404 "gone" "the service was deleted",
        Silent = 4408 "silent" "no message for 75 s: send ping every 20 s",
        TooMany = 4429 "too many" "too many connections of this service",
    }
}
