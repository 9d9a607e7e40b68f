//! The bench of the fix loop: scripted agents on seeded bugs, run through the loop that ships, in two processes at a time.

pub mod agents;
mod bodies;
mod dice;
mod project;
mod shop;
pub mod shown;
pub mod stuck;
pub mod table;
mod trial;
