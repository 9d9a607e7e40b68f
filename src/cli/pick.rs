//! Expands a shortened name.

use anyhow::Result;

use super::Fault;

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
    let is_hit = |one: &T| !wanted.is_empty() && name(one).starts_with(wanted);
    let hits: Vec<usize> = (0..all.len()).filter(|at| is_hit(&all[*at])).collect();
    let names: Vec<&str> = all.iter().map(&name).collect();
    let fault = match hits.as_slice() {
        [one] => return Ok(all.swap_remove(*one)),
        [] if all.is_empty() => Fault::usage(format!("could not find {kind} {wanted:?}: none exists")),
        [] => unknown(format!("could not find {kind} {wanted:?}"), names),
        many => ambiguous(wanted, many.iter().map(|at| names[*at])),
    };
    Err(fault.into())
}

/// The usage error for a name that is not among the known ones.
pub fn unknown<'a>(what: String, known: impl IntoIterator<Item = &'a str>) -> Fault {
    let known = known.into_iter().collect::<Vec<_>>().join(", ");
    Fault::usage(what).hint(format!("there are: {known}"))
}

/// The error for the beginning of several names.
pub fn ambiguous<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Fault {
    let names = names.collect::<Vec<_>>().join(", ");
    Fault::usage(format!("{wanted:?} is not unique")).hint(format!("it could be: {names}"))
}
