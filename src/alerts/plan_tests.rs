//! Tests of the windows of waiting workers: each rule by itself, and all of them against a simulated tmux.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn flag(flag: u32) -> Attention {
    Attention { flag, ..Attention::default() }
}

fn wanted(n: u32, nth: u32) -> DesiredWindow {
    DesiredWindow {
        key: format!("w{n}@1"),
        call: flag(nth),
        since_ms: i64::from(n),
        past: ShownState::default(),
    }
}

fn pane(key: &str) -> Pane {
    let (id, tty) = (format!("%{key}"), String::new());
    Pane { id, tty, key: key.to_owned(), watched: false }
}

/// A simulated tmux server, and looop's records about the workers.
#[derive(Default)]
struct FakeTmux {
    panes: Vec<Pane>,
    past: BTreeMap<String, ShownState>,
    made: usize,
    rung: usize,
}

impl FakeTmux {
    fn settle(&mut self, waiting: &[(u32, u32)]) -> Vec<WindowStep> {
        let fill = |(n, flag): &(u32, u32)| {
            let one = wanted(*n, *flag);
            DesiredWindow { past: self.past.get(&one.key).cloned().unwrap_or_default(), ..one }
        };
        let wanted: Vec<DesiredWindow> = waiting.iter().map(fill).collect();
        let steps = plan(&wanted, &self.panes);
        for step in &steps {
            match step {
                WindowStep::Open(key) => self.open(key),
                WindowStep::Ring(..) => self.rung += 1,
                WindowStep::Close(gone) => self.panes.retain(|pane| pane != gone),
                WindowStep::Rest { pane, keys, ring } => {
                    self.panes.retain(|one| Some(one) != pane.as_ref());
                    self.open(&format!("+{}", keys.len()));
                    self.rung += usize::from(*ring);
                }
            }
            let (keys, own) = match step {
                WindowStep::Open(key) | WindowStep::Ring(_, key) => (vec![key.clone()], true),
                WindowStep::Rest { keys, .. } => (keys.clone(), false),
                WindowStep::Close(_) => continue,
            };
            for key in keys {
                let call = wanted.iter().find(|one| one.key == key).unwrap().call.clone();
                let past = self.past.entry(key).or_default();
                *past = ShownState { shown: call.after(&past.shown), own, ..past.clone() };
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
    let mut server = FakeTmux::default();
    server.settle(&[(1, 1)]);
    assert_eq!(server.keys(), ["w1@1"]);
    assert_eq!(server.settle(&[(1, 1)]), []);
    server.panes.clear();
    assert_eq!(server.settle(&[(1, 1)]), [], "the human closed it");
    server.settle(&[(1, 2)]);
    assert_eq!(server.keys(), ["w1@1"], "a new flag is a new window");
    server.settle(&[]);
    assert_eq!(server.keys(), [] as [&str; 0]);
}

#[test]
fn a_new_flag_rings_in_the_existing_window() {
    let mut server = FakeTmux::default();
    server.settle(&[(1, 1)]);
    assert!(matches!(server.settle(&[(1, 2)])[..], [WindowStep::Ring(..)]));
    assert_eq!((server.made, server.rung), (1, 1));
}

#[test]
fn workers_after_the_fifth_share_a_window_until_there_is_room() {
    let mut server = FakeTmux::default();
    let all: Vec<(u32, u32)> = (1..=7).map(|n| (n, 1)).collect();
    server.settle(&all);
    assert_eq!(server.keys(), ["+2", "w1@1", "w2@1", "w3@1", "w4@1", "w5@1"]);
    assert_eq!(server.settle(&all), []);
    server.panes.retain(|pane| pane.rest().is_none());
    assert_eq!(server.settle(&all), [], "the human closed the shared one");
    server.settle(&[&all[..], &[(8, 1)]].concat());
    assert_eq!(server.keys()[0], "+3", "a new flag brings it back");
    server.settle(&all[1..]);
    assert_eq!(server.keys(), ["+1", "w2@1", "w3@1", "w4@1", "w5@1", "w6@1"]);
    server.settle(&all[2..]);
    assert_eq!(server.keys(), ["w3@1", "w4@1", "w5@1", "w6@1", "w7@1"]);
}

#[test]
fn a_watched_window_stays() {
    let watched = Pane { watched: true, ..pane("w1@1") };
    assert_eq!(plan(&[], std::slice::from_ref(&watched)), []);
    assert_eq!(plan(&[], &[pane("w1@1")]), [WindowStep::Close(pane("w1@1"))]);
}

#[test]
fn an_ask_counts_separately() {
    let ask = Name::parse("q-1").unwrap();
    let call = Attention { ask: Some(ask.clone()), ..flag(1) };
    assert!(call.is_news(&flag(1)));
    assert!(!call.is_news(&call));
    assert!(!flag(1).is_news(&call), "an answered ask is not new");
    assert_eq!(flag(2).after(&call), Attention { ask: Some(ask), ..flag(2) });
}

proptest! {
    #[test]
    fn any_history_settles(rounds in prop::collection::vec(
        (prop::collection::btree_map(0_u32..12, 1_u32..4, 0..12), any::<prop::sample::Index>()), 1..12)) {
        let mut server = FakeTmux::default();
        let mut flags: BTreeMap<u32, u32> = BTreeMap::new();
        for (waiting, closed) in rounds {
            // The number of a worker's flag only grows.
            let waiting: Vec<(u32, u32)> = waiting.into_iter().map(|(n, more)| {
                let flag = flags.entry(n).or_default();
                *flag += more - 1 + u32::from(*flag == 0);
                (n, *flag)
            }).collect();
            server.settle(&waiting);
            prop_assert_eq!(server.settle(&waiting), vec![], "a second look finds nothing to do");
            let (shared, own): (Vec<_>, Vec<_>) = server.panes.iter().partition(|pane| pane.rest().is_some());
            prop_assert!(own.len() <= WINDOWS_MAX && shared.len() <= 1);
            for (n, flag) in &waiting {
                let past = &server.past[&format!("w{n}@1")];
                prop_assert_eq!(past.shown.flag, *flag, "everybody was shown");
            }
            for pane in own {
                prop_assert!(waiting.iter().any(|(n, _)| pane.key == format!("w{n}@1")), "{}", &pane.key);
            }
            if !server.panes.is_empty() {
                let gone = closed.index(server.panes.len());
                server.panes.remove(gone);
            }
        }
    }
}
