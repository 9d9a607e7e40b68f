//! What must hold for whatever bytes come from outside. Run by cargo-fuzz and, over the corpora, by the plain tests.

/// Runs a target by its name.
pub fn run(_name: &str, bytes: &[u8]) {
    let _ = looop::model::decision::parse_reply(&String::from_utf8_lossy(bytes));
}
