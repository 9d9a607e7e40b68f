//! Expands a shortened id.

use anyhow::Result;

use crate::model::fault::{ErrorKind, Fault};

/// Finds one id by its full text, else by a unique prefix.
pub fn pick<'a>(kind: &str, wanted: &str, all: impl Iterator<Item = &'a str>) -> Result<&'a str> {
    let all: Vec<&str> = all.collect();
    if let Some(exact) = all.iter().find(|id| **id == wanted) {
        return Ok(exact);
    }
    let hits: Vec<&str> =
        all.iter().copied().filter(|id| !wanted.is_empty() && id.starts_with(wanted)).collect();
    match hits.as_slice() {
        [one] => Ok(one),
        [] if all.is_empty() => {
            Err(Fault::usage(format!("could not find {kind} {wanted:?}: none exists")).into())
        }
        [] => {
            let fault = Fault::usage(format!("could not find {kind} {wanted:?}"));
            Err(fault.hint(format!("there are: {}", all.join(", "))).into())
        }
        many => {
            let fault = Fault {
                kind: ErrorKind::Usage,
                what: format!("{wanted:?} is not unique"),
                hints: Vec::new(),
            };
            Err(fault.hint(format!("it could be: {}", many.join(", "))).into())
        }
    }
}
