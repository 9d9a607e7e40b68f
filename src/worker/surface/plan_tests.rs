//! Tests of the windows of waiting workers: each rule by itself, and all of them against a simulated tmux.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn wanted(n: u32, flag: u32) -> Wanted {
    let call = Call { flag, ask: None };
    Wanted { key: format!("w{n}@1"), call, since_ms: i64::from(n), past: Surfaced::default() }
}

fn pane(key: &str) -> Pane {
    let (id, tty) = (format!("%{key}"), String::new());
    Pane { id, tty, key: key.to_owned(), watched: false }
}

/// A simulated tmux server, and looop's records about the workers.
#[derive(Default)]
struct Desk {
    panes: Vec<Pane>,
    past: BTreeMap<String, Surfaced>,
    made: usize,
    rung: usize,
}

impl Desk {
    fn settle(&mut self, waiting: &[(u32, u32)]) -> Vec<Step> {
        let fill = |(n, flag): &(u32, u32)| {
            let one = wanted(*n, *flag);
            Wanted { past: self.past.get(&one.key).cloned().unwrap_or_default(), ..one }
        };
        let wanted: Vec<Wanted> = waiting.iter().map(fill).collect();
        let steps = plan(&wanted, &self.panes);
        for step in &steps {
            match step {
                Step::Open(key) => self.open(key),
                Step::Ring(..) => self.rung += 1,
                Step::Close(gone) => self.panes.retain(|pane| pane != gone),
                Step::Rest { pane, keys, ring } => {
                    self.panes.retain(|one| Some(one) != pane.as_ref());
                    self.open(&format!("+{}", keys.len()));
                    self.rung += usize::from(*ring);
                }
            }
            let (keys, own) = match step {
                Step::Open(key) | Step::Ring(_, key) => (vec![key.clone()], true),
                Step::Rest { keys, .. } => (keys.clone(), false),
                Step::Close(_) => continue,
            };
            for key in keys {
                let call = wanted.iter().find(|one| one.key == key).unwrap().call.clone();
                let past = self.past.entry(key).or_default();
                *past = Surfaced { shown: call.after(&past.shown), own, ..past.clone() };
            }
        }
        steps
    }

    fn open(&mut self, key: &str) {
        self.made += 1;
        self.panes.push(Pane { id: format!("%{}", self.made), ..pane(key) });
    }

    fn keys(&self) -> Vec<&str> {
        let mut keys: Vec<&str> = self.panes.iter().map(|pane| pane.key.as_str()).collect();
        keys.sort_unstable();
        keys
    }
}

#[test]
fn each_flag_opens_one_window_once() {
    let mut desk = Desk::default();
    desk.settle(&[(1, 1)]);
    assert_eq!(desk.keys(), ["w1@1"]);
    assert_eq!(desk.settle(&[(1, 1)]), []);
    desk.panes.clear();
    assert_eq!(desk.settle(&[(1, 1)]), [], "the human closed it");
    desk.settle(&[(1, 2)]);
    assert_eq!(desk.keys(), ["w1@1"], "a new flag is a new window");
    desk.settle(&[]);
    assert_eq!(desk.keys(), [] as [&str; 0]);
}

#[test]
fn a_new_flag_rings_in_the_existing_window() {
    let mut desk = Desk::default();
    desk.settle(&[(1, 1)]);
    assert!(matches!(desk.settle(&[(1, 2)])[..], [Step::Ring(..)]));
    assert_eq!((desk.made, desk.rung), (1, 1));
}

#[test]
fn workers_after_the_fifth_share_a_window_until_there_is_room() {
    let mut desk = Desk::default();
    let all: Vec<(u32, u32)> = (1..=7).map(|n| (n, 1)).collect();
    desk.settle(&all);
    assert_eq!(desk.keys(), ["+2", "w1@1", "w2@1", "w3@1", "w4@1", "w5@1"]);
    assert_eq!(desk.settle(&all), []);
    desk.panes.retain(|pane| pane.rest().is_none());
    assert_eq!(desk.settle(&all), [], "the human closed the shared one");
    desk.settle(&[&all[..], &[(8, 1)]].concat());
    assert_eq!(desk.keys()[0], "+3", "a new flag brings it back");
    desk.settle(&all[1..]);
    assert_eq!(desk.keys(), ["+1", "w2@1", "w3@1", "w4@1", "w5@1", "w6@1"]);
    desk.settle(&all[2..]);
    assert_eq!(desk.keys(), ["w3@1", "w4@1", "w5@1", "w6@1", "w7@1"]);
}

#[test]
fn a_watched_window_stays() {
    let watched = Pane { watched: true, ..pane("w1@1") };
    assert_eq!(plan(&[], std::slice::from_ref(&watched)), []);
    assert_eq!(plan(&[], &[pane("w1@1")]), [Step::Close(pane("w1@1"))]);
}

#[test]
fn an_ask_counts_separately() {
    let ask = Name::parse("q-1").unwrap();
    let call = Call { flag: 1, ask: Some(ask.clone()) };
    assert!(call.is_news(&Call { flag: 1, ask: None }));
    assert!(!call.is_news(&call));
    assert!(!Call { flag: 1, ask: None }.is_news(&call), "an answered ask is not new");
    assert_eq!(Call { flag: 2, ask: None }.after(&call), Call { flag: 2, ask: Some(ask) });
}

proptest! {
    #[test]
    fn any_history_settles(rounds in prop::collection::vec(
        (prop::collection::btree_map(0_u32..12, 1_u32..4, 0..12), any::<prop::sample::Index>()), 1..12)) {
        let mut desk = Desk::default();
        let mut flags: BTreeMap<u32, u32> = BTreeMap::new();
        for (waiting, closed) in rounds {
            // The number of a worker's flag only grows.
            let waiting: Vec<(u32, u32)> = waiting.into_iter().map(|(n, more)| {
                let flag = flags.entry(n).or_default();
                *flag += more - 1 + u32::from(*flag == 0);
                (n, *flag)
            }).collect();
            desk.settle(&waiting);
            prop_assert_eq!(desk.settle(&waiting), vec![], "a second look finds nothing to do");
            let (shared, own): (Vec<_>, Vec<_>) = desk.panes.iter().partition(|pane| pane.rest().is_some());
            prop_assert!(own.len() <= WINDOWS_MAX && shared.len() <= 1);
            for (n, flag) in &waiting {
                let past = &desk.past[&format!("w{n}@1")];
                prop_assert_eq!(past.shown.flag, *flag, "everybody was shown");
            }
            for pane in own {
                prop_assert!(waiting.iter().any(|(n, _)| pane.key == format!("w{n}@1")), "{}", &pane.key);
            }
            if !desk.panes.is_empty() {
                let gone = closed.index(desk.panes.len());
                desk.panes.remove(gone);
            }
        }
    }
}
