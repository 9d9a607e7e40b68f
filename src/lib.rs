//! looop: placeholder map.
pub mod model;
pub mod sys;
pub mod store;
pub mod runner;
pub mod worker;
pub mod tick;
pub mod config;
pub mod cli;
