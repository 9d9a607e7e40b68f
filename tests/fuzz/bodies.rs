//! What must hold for whatever bytes come from outside: one property check for each target. cargo-fuzz runs them on what
//! it makes up, and the plain tests on the corpora beside this file.

mod runners;
mod strict;
mod terminal;
mod texts;

/// A target and what checks it.
type Target = (&'static str, fn(&[u8]));

/// Every target by its name, which is also its corpus' folder and its binary's name.
pub const ALL: [Target; 17] = [
    ("anthropic", runners::anthropic),
    ("asks", texts::asks),
    ("claude", runners::claude),
    ("codex", runners::codex),
    ("config", texts::config),
    ("frames", terminal::frames),
    ("gemini", runners::gemini),
    ("leanfile", texts::leanfile),
    ("openai", runners::openai),
    ("opencode", runners::opencode),
    ("pi", runners::pi),
    ("qwen", runners::qwen),
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
