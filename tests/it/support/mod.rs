//! What the tests stand on: a data dir of their own, the real program, a scripted runner, a scripted model server, a tmux server.

pub mod claude;
pub mod codex;
pub mod decider;
pub mod lived;
pub mod model_server;
pub mod pi;
pub mod profile;
pub mod rows;
pub mod tally;
pub mod terminal;
pub mod web;
