//! What the model tests of leases and of workers share: the search for a property that a mutant of a rule breaks.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::Hash;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

/// Returns the properties that a mutant breaks; fails if it breaks none.
pub fn broken_by<M>(mutant: &impl Debug, model: M) -> BTreeSet<&'static str>
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
{
    let checked = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let mut wrong = checked.discoveries();
    wrong.retain(|name, _| checked.model().property(name).expectation == Expectation::Always);
    assert!(!wrong.is_empty(), "{mutant:?} was not found");
    wrong.into_keys().collect()
}
