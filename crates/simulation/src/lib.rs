//! A deterministic simulation of the core: stores, hub, workers, services and clients in one thread with one clock. A
//! seed determines all faults.
//!
//! Objects crash between any two effects, and workers at any step. Messages and replies are lost, duplicated and
//! delayed; alarms are late, duplicated and lost; clocks jump and drift apart; services are slow, fail, or accept work
//! in the background. The invariant checker runs after every step. A seed that violates an invariant is printed, and
//! can be replayed alone, step by step: `NARTHEX_SEED=N cargo test -p narthex-simulation -- --nocapture`.

#![cfg(test)]

mod answers;
mod client;
mod consumer;
mod dice;
mod faults;
mod gate;
mod hub;
mod invariants;
mod lane_actor;
mod messages;
mod mutants;
mod runs;
mod service;
mod store;
mod worker;
mod world;
