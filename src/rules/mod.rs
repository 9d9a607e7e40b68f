//! Pure. Values and rules: the data of looop and its decisions, without files, clock or processes.

pub mod argument;
pub mod beat;
pub mod cost;
pub mod digest;
pub mod exchange;
pub mod fault;
pub mod fix;
pub mod json;
pub mod json_edit;
pub mod lease;
pub mod name;
pub mod process;
pub mod sandbox;
#[cfg(test)]
mod search_tests;
pub mod secret;
pub mod sequences;
pub mod service;
pub mod strip_ansi;
pub mod terminal;
pub mod text;
pub mod time;
pub mod user_side;
pub mod worker;
pub mod world;
