//! Connected services: the messages on a connection, and which connection gets which work.
//!
//! A service behind a NAT opens a WebSocket and receives its work there. Each piece of work is a *delivery*: a context
//! and its lease number, which is one attempt. A delivery is kept until its attempt is over, even if the connection
//! drops, so that it can be reported on another connection.

pub mod close_code;
pub mod frame;
pub mod pool;
