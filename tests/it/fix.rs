//! `looop fix` with real projects, real tests and scripted agents.

pub mod adder;
mod agents;
mod allowed;
mod bad;
mod basics;
mod crash;
mod endpoint;
pub mod fixture;
mod large;
mod leanfiles;
mod real_agents;
mod real_qwen;
mod stuck;
mod toolchains;
mod user_side;
mod worker;
