//! The codes with which the gateway closes event streams.

use crate::base::close_codes::close_codes;

close_codes! {
    /// Why an event stream is closed.
    StreamCloseCode {
        BadMessage = 1008 "bad message" "messages are text",
        TooLarge = 1009 "too large" "messages have at most 64 KiB",
        Internal = 1011 "internal" "the log could not be read",
        TooSlow = 1013 "too slow" "too slow: send ping as you read, and resume",
        CredentialsEnded = 4401 "credentials ended" "the credentials have ended",
        /// Events that the client asked for are no longer retained. Its reason names where to resume.
        Gap = 4410 "gap" "resume after",
        TooMany = 4429 "too many" "too many sockets; try again later",
    }
}
