//! looop: placeholder map.
pub mod cli;
pub mod config;
pub mod model;
pub mod runner;
pub mod store;
pub mod sys;
pub mod tick;
pub mod worker;
