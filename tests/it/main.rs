//! The integration tests: the real program in temporary profiles, one binary for all.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)]

mod agent_table;
mod agents;
mod approvals;
mod attach;
mod bad_data;
mod bad_runner;
mod beat;
mod broken;
mod clones;
mod complete;
mod crash;
mod descendants;
mod doctor;
mod edits;
mod ended;
mod escape;
mod examples;
mod first_start;
mod fix;
mod fuzz;
mod install;
mod leases;
mod lost;
mod map;
mod packages;
mod presets;
mod privacy;
mod prune;
mod pulse;
mod races;
mod readme;
mod runners;
mod sandbox;
mod schemas;
mod secrets;
mod sense;
mod service;
mod shown;
#[path = "../sim/mod.rs"]
mod sim;
mod speed;
mod stopped;
mod story;
mod supervisor;
mod support;
mod surface;
mod taint;
mod terminal;
mod tidy;
mod trust;
mod upgrade;
mod verbs;
mod workers;
