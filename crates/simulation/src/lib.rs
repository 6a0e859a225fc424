//! A deterministic simulation of the core: stores, hub, workers, services and clients in one thread with one clock. A
//! seed determines all faults.
//!
//! Objects crash between any two effects, and workers at any step. Messages and replies are lost, duplicated and
//! delayed; alarms are late, duplicated and lost; clocks jump and drift apart; services are slow, fail, or accept work
//! in the background. The invariant checker runs after every step. A seed that violates an invariant is printed, and
//! can be replayed alone, step by step: `NARTHEX_SEED=N cargo test -p narthex-simulation -- --nocapture`.

#![cfg(test)]

mod administrator;
mod calling;
mod client;
mod connections;
mod consumer;
mod deliveries;
mod dice;
mod faults;
mod hub;
mod invariants;
mod isolate;
mod lane_actor;
mod lane_effects;
mod lane_reports;
mod messages;
mod mutants;
mod network;
mod permit_waits;
mod questions;
mod recipients;
mod registry_effects;
mod registry_object;
mod replies;
mod router;
mod runs;
mod service;
mod store;
mod stream;
mod worker;
mod worker_invariants;
mod world;
