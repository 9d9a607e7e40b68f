//! Pure. Diff: finds the items that changed since the last decision and the places in them; compares two texts as
//! patches do.

use serde_json::Value;

use crate::rules::digest::Items;
use crate::rules::json::{self, PathChange};
use crate::rules::world::{ChangeKind, WORKER_ITEM, WorldChange};

/// The maximum number of places of one item.
const PLACES_PER_ITEM: usize = 20;
/// The maximum number of places in total.
const PLACES: usize = 200;

/// Returns the items that differ, sorted by name.
pub fn items(baseline: &Items, now: &Items) -> Vec<(String, ChangeKind)> {
    let gone = baseline
        .keys()
        .filter(|item| !now.contains_key(*item) && !item.starts_with(WORKER_ITEM))
        .map(|item| (item.clone(), ChangeKind::Removed));
    let rest = now.iter().filter_map(|(item, digest)| match baseline.get(item) {
        None => Some((item.clone(), ChangeKind::Added)),
        Some(old) if old != digest => Some((item.clone(), ChangeKind::Changed)),
        Some(_) => None,
    });
    let mut all: Vec<(String, ChangeKind)> = gone.chain(rest).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// An item's content for a diff: JSON, or text.
#[derive(Clone, Debug, PartialEq)]
pub enum ItemContent {
    /// A reading's signal.
    Json(Value),
    /// A goal or the playbook.
    Text(String),
}

/// The old and the new content of an item, as far as known.
pub type BeforeAndNow = (Option<ItemContent>, Option<ItemContent>);

/// Returns the places at which changed items differ. `content` returns an item's old and new content, as far as known.
pub fn places(
    changed: &[(String, ChangeKind)],
    content: &mut dyn FnMut(&str) -> BeforeAndNow,
) -> Vec<WorldChange> {
    let mut left = PLACES;
    let mut changes = Vec::with_capacity(changed.len());
    for (item, kind) in changed {
        let (paths, total) = match content(item) {
            (Some(ItemContent::Json(old)), Some(ItemContent::Json(new))) => {
                json::diff(&old, &new, PLACES_PER_ITEM.min(left))
            }
            (Some(ItemContent::Text(old)), Some(ItemContent::Text(new))) => lines(&old, &new),
            _ => (Vec::new(), 0),
        };
        left -= paths.len().min(left);
        changes.push(WorldChange { item: item.clone(), kind: *kind, paths, total });
    }
    changes
}

/// Describes a text's change as the number of removed and added lines.
fn lines(old: &str, new: &str) -> (Vec<PathChange>, usize) {
    let diff = similar::TextDiff::from_lines(old, new);
    let count = |tag| diff.iter_all_changes().filter(|change| change.tag() == tag).count();
    let (gone, come) = (count(similar::ChangeTag::Delete), count(similar::ChangeTag::Insert));
    let [old, new] = [format!("{gone} removed"), format!("{come} added")].map(Some);
    (vec![PathChange { path: "lines".to_owned(), old, new }], gone + come)
}

/// Compares two texts in the unified format of patches; the result is empty if they are equal.
pub fn unified(old_name: &str, new_name: &str, old: &str, new: &str) -> String {
    similar::TextDiff::from_lines(old, new).unified_diff().header(old_name, new_name).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn items_of(pairs: &[(&str, &str)]) -> Items {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn added_removed_and_changed_items_are_named() {
        let old = items_of(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let new = items_of(&[("b", "2"), ("c", "1"), ("d", "1")]);
        let found = items(&old, &new);
        let expected = [("a", ChangeKind::Removed), ("b", ChangeKind::Changed), ("d", ChangeKind::Added)];
        assert_eq!(found, expected.map(|(item, kind)| (item.to_owned(), kind)));
        assert!(items(&new, &new).is_empty());
        let ended = items_of(&[("worker/w1", "1")]);
        assert!(items(&ended, &Items::new()).is_empty(), "archiving an ended worker does not wake the loop");
        assert_eq!(items(&Items::new(), &ended).len(), 1);
    }

    #[test]
    fn the_total_number_of_places_is_limited() {
        let changed: Vec<(String, ChangeKind)> =
            (0..50).map(|i| (format!("sensor/s{i}"), ChangeKind::Changed)).collect();
        let big = |n: i64| ItemContent::Json((0..100).map(|i| (format!("k{i}"), json!(i + n))).collect());
        let changes = places(&changed, &mut |_| (Some(big(0)), Some(big(1))));
        assert_eq!(changes.iter().map(|c| c.paths.len()).sum::<usize>(), PLACES);
        assert!(changes.iter().take(10).all(|c| c.total == 100));
        assert_eq!(changes.len(), 50);
    }

    #[test]
    fn a_changed_text_reports_its_lines() {
        let changed = [("goal/g".to_owned(), ChangeKind::Changed)];
        let text = |t: &str| Some(ItemContent::Text(t.to_owned()));
        let changes = places(&changed, &mut |_| (text("a\nb\n"), text("a\nc\nd\n")));
        assert_eq!(changes[0].paths[0].new.as_deref(), Some("2 added"));
    }
}
