//! The table: each property, how often it was tried to break it, and how often that worked.

use std::panic::catch_unwind;

use super::hostile;
use crate::{crash, escape, fuzz, leases, races, sim, support::pi::skipped, support::tally::Tally};

/// A part: what must hold, and its trials; none where a tool for them is missing.
type Part = (&'static str, fn() -> Option<Tally>);

/// One row each. A row is made by the same function as the plain test of its property, and once in a process.
const PARTS: &[Part] = &[
    ("untrusted text makes nothing that needs an approval", || Some(hostile::injected().clone())),
    ("nothing gets out of a full sandbox", || escape::from_full_sandboxes().cloned()),
    ("a beat that is killed anywhere is made whole", crash::swept),
    ("a beat that loses power anywhere is made whole", crash::replayed),
    ("in no simulated beat a promise is broken", || Some(sim::simulated().clone())),
    ("bytes of strangers are read within their bounds", || Some(fuzz::replayed().clone())),
    ("of two beats at once one beats", || Some(races::two_ticks_at_once().clone())),
    ("of many claims at once one wins", || Some(leases::many_claims_at_once().clone())),
];

#[test]
#[ignore = "long search"]
fn table() {
    let mut lines = vec![format!("{:<52} {:>9} {:>11}", "property", "attempts", "violations")];
    let mut wrong = Vec::new();
    for (property, part) in PARTS {
        // A part that cannot even be tried must not keep the others from being shown.
        let (attempts, violations) = match catch_unwind(part) {
            Ok(Some(came)) => {
                wrong.extend(came.violations.iter().map(|what| format!("{property}: {what}")));
                wrong.extend((came.attempts == 0).then(|| format!("{property}: nothing was tried")));
                (came.attempts.to_string(), came.violations.len().to_string())
            }
            Ok(None) => {
                skipped(&format!("{property}: a tool is missing"));
                ("skipped".to_owned(), "-".to_owned())
            }
            Err(_) => {
                wrong.push(format!("{property}: it could not be tried"));
                ("-".to_owned(), "-".to_owned())
            }
        };
        lines.push(format!("{property:<52} {attempts:>9} {violations:>11}"));
    }
    println!("\n{}\n", lines.join("\n"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
