//! What must hold for whatever bytes come from outside: one property check for each target. cargo-fuzz runs them on what
//! it makes up, and the plain tests on the corpora beside this file.

mod runners;
mod strict;
mod terminal;
mod texts;

use looop::agents::http::Protocol;

/// A target and what checks it.
type Target = (&'static str, fn(&[u8]));

/// Every target by its name, which is also its corpus' folder and its binary's name.
pub const ALL: [Target; 17] = [
    ("anthropic", |bytes| runners::endpoint(Protocol::Anthropic, bytes)),
    ("asks", texts::asks),
    ("claude", |bytes| runners::cli("claude", bytes)),
    ("codex", |bytes| runners::cli("codex", bytes)),
    ("config", texts::config),
    ("frames", terminal::frames),
    ("gemini", |bytes| runners::cli("gemini", bytes)),
    ("leanfile", texts::leanfile),
    ("openai", |bytes| runners::endpoint(Protocol::Openai, bytes)),
    ("opencode", |bytes| runners::cli("opencode", bytes)),
    ("pi", |bytes| runners::cli("pi", bytes)),
    ("qwen", |bytes| runners::cli("qwen", bytes)),
    ("records", texts::records),
    ("reply", texts::reply),
    ("screen", terminal::screen),
    ("sensor", texts::sensor),
    ("transcript", terminal::transcript),
];

/// The first byte as a size of pieces, and the rest as what comes in them.
fn pieces(bytes: &[u8]) -> (usize, &[u8]) {
    bytes.split_first().map_or((1, bytes), |(cut, rest)| (usize::from(*cut).max(1), rest))
}
