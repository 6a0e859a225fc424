//! Services that connect: what is said on a connection, and who of those connected is given what.
//!
//! A service behind a NAT opens a WebSocket and takes its work there. Every piece of work that is handed over is a
//! *delivery*: a context and the number of its lease, which is one attempt. A delivery is kept until its attempt is
//! over, whatever becomes of the connection, so that it can be reported over another one.

pub mod frame;
pub mod pool;
