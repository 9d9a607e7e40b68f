//! Expands a shortened name.

use anyhow::Result;

use crate::rules::fault::Fault;

/// Finds one of all things by its full name, else by a unique beginning of it.
pub fn pick<T>(
    kind: &str,
    wanted: &str,
    all: impl IntoIterator<Item = T>,
    name: impl Fn(&T) -> &str,
) -> Result<T> {
    let mut all: Vec<T> = all.into_iter().collect();
    if let Some(exact) = all.iter().position(|one| name(one) == wanted) {
        return Ok(all.swap_remove(exact));
    }
    let known: Vec<&str> = all.iter().map(&name).collect();
    let hits: Vec<usize> =
        (0..known.len()).filter(|at| !wanted.is_empty() && known[*at].starts_with(wanted)).collect();
    let fault = match hits.as_slice() {
        [one] => return Ok(all.swap_remove(*one)),
        [] if all.is_empty() => Fault::usage(format!("could not find {kind} {wanted:?}: none exists")),
        [] => Fault::usage(format!("could not find {kind} {wanted:?}"))
            .hint(format!("there are: {}", known.join(", "))),
        many => {
            let names: Vec<&str> = many.iter().map(|at| known[*at]).collect();
            Fault::usage(format!("{wanted:?} is not unique"))
                .hint(format!("it could be: {}", names.join(", ")))
        }
    };
    Err(fault.into())
}
