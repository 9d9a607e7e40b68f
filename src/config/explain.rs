//! Error messages for a bad config file.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Result;

use crate::rules::fault::Fault;
use crate::rules::text::nearest;

/// Refuses a config file that other users can write.
pub(super) fn refuse_shared(path: &Path) -> Result<()> {
    let Ok(meta) = std::fs::metadata(path) else { return Ok(()) };
    if meta.mode() & 0o022 == 0 {
        return Ok(());
    }
    let shown = path.display();
    let what =
        format!("could not use the config `{shown}`: others can write it (mode {:o})", meta.mode() & 0o777);
    Err(Fault::usage(what).hint(format!("chmod go-w {shown}")).into())
}

/// The keys that 0.1 named differently.
const RENAMED: [(&str, &str); 1] = [("nudge", "warn")];

/// Turns a JSON error into a message with its place and the nearest known key.
pub(super) fn explain(path: &Path, error: &serde_json::Error) -> anyhow::Error {
    let text = error.to_string();
    let cause = text.split(" at line ").next().unwrap_or(&text);
    let place = format!("{}:{}:{}", path.display(), error.line(), error.column());
    // serde's text is: unknown field `a`, expected one of `b`, `c`
    let quoted: Vec<&str> = cause.split('`').skip(1).step_by(2).collect();
    match quoted.split_first() {
        Some((key, known)) if cause.starts_with("unknown field") => {
            let fault =
                Fault::usage(format!("could not read the config: {place}: `{key}` is not a key here"));
            let renamed =
                RENAMED.iter().find(|(old, new)| old == key && known.contains(new)).map(|(_, new)| new);
            match renamed.or_else(|| nearest(key, known, 0.0)) {
                Some(near) => {
                    fault.hint(format!("did you mean `{near}`? Keys here are: {}", known.join(", "))).into()
                }
                None => fault.into(),
            }
        }
        _ => Fault::usage(format!("could not read the config: {place}: {cause}")).into(),
    }
}
