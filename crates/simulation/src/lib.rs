//! A deterministic simulation of the core: stores, hub, workers, services and clients in one thread, on one clock,
//! with all that can go wrong between them drawn from one seed.
//!
//! Objects crash between any two effects, workers at any step; messages and replies are lost, doubled and late; alarms
//! are late and doubled, and die; clocks leap and step aside; services lie low, break, take work on. The witness looks
//! after every step. A seed that violates anything is printed, and replays alone, step by step:
//! `NARTHEX_SEED=N cargo test -p narthex-simulation -- --nocapture`.

#![cfg(test)]

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
