//! The hub and clients in memory: scripts that read like sentences, and simulations beside a naive model.

mod chain;
mod client;
mod closing;
mod commands;
mod deflate;
mod goodbye;
mod memory;
mod order;
mod policies;
mod policy_simulation;
mod publications;
mod random;
mod rates;
mod recovery;
mod recovery_simulation;
mod script;
mod show;
mod simulation;
mod slow;
mod slow_simulation;
mod subscriptions;
mod time;
mod users;
mod world;
