//! `looop fix` with real projects, real tests and scripted agents.

mod agents;
mod basics;
mod yard;
