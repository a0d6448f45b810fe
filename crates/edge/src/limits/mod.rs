//! What an edge bounds, and what it does beyond that: the [table](table::TABLE), and the rooms that count what is open.

pub(crate) mod counter;
pub(crate) mod floods;
pub(crate) mod room;
pub mod table;

pub(crate) use floods::Floods;
pub(crate) use room::{Full, Guest, Place, Room};
pub use table::{Flags, Limit, TABLE};

#[cfg(test)]
mod tests;
