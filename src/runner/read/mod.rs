//! Pure. How each agent CLI's stream of events is read: one file for each.

pub mod claude;
pub mod codex;
pub mod gemini;
pub mod opencode;
pub mod pi;
pub mod qwen;

#[cfg(test)]
mod fixture_tests;
