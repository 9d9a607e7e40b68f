//! Tests each order of looop's steps, the user's saves and one crash, over the two names in memory: no text of the user
//! is lost.

use std::collections::BTreeSet;

use super::*;

const NEW: &str = "looop's";
const SEEN: &str = "seen";

fn hash(text: &str) -> Digest {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// A file: its text, and whether a program of the user has it open.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Inode {
    text: &'static str,
    is_open: bool,
}

/// looop's next step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum LoopPoint {
    #[default]
    Begin,
    Look {
        is_back: bool,
    },
    Act {
        step: u8,
        is_back: bool,
    },
    Compare,
    Done,
}

/// An act of the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum UserAct {
    /// Writes another file and renames it to the name.
    SaveByRename(&'static str),
    /// Opens the file, to write to it later.
    Open,
    /// Writes to the open file.
    Write(&'static str),
    Close,
    Delete,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Names {
    inodes: Vec<Inode>,
    here: Option<usize>,
    aside: Option<usize>,
    kept: Vec<usize>,
    opened: Option<usize>,
    place: LoopPoint,
    acts: Vec<UserAct>,
    crashes: u8,
    is_removal: bool,
    lost: Vec<&'static str>,
}

const STEPS: [NextStep; 5] =
    [NextStep::Finish, NextStep::Remove, NextStep::Exchange, NextStep::Restore, NextStep::Keep];

impl Names {
    fn new(acts: &[UserAct], is_removal: bool) -> Names {
        let inode = |text| Inode { text, is_open: false };
        let inodes = vec![inode(SEEN), inode(NEW)];
        let (here, aside) = (Some(0), (!is_removal).then_some(1));
        Names { inodes, here, aside, acts: acts.to_vec(), crashes: 1, is_removal, ..Names::default() }
    }

    fn change(&self) -> FileChange {
        FileChange { new: (!self.is_removal).then(|| hash(NEW)), seen: hash(SEEN) }
    }

    fn content(&self, name: Option<usize>) -> Option<FileContent> {
        let inode = &self.inodes[name?];
        Some(FileContent { digest: hash(inode.text), is_open: inode.is_open })
    }

    fn exchange(&mut self) -> bool {
        let both = self.here.is_some() && self.aside.is_some();
        if both {
            std::mem::swap(&mut self.here, &mut self.aside);
        }
        both
    }

    /// Returns the state after looop's next step.
    fn step(&self) -> Names {
        let mut next = self.clone();
        next.place = match self.place {
            LoopPoint::Begin if self.is_removal => {
                next.aside = next.here.take();
                LoopPoint::Look { is_back: false }
            }
            LoopPoint::Begin => match next.exchange() {
                true => LoopPoint::Look { is_back: false },
                false => {
                    next.aside = None;
                    LoopPoint::Done
                }
            },
            LoopPoint::Look { is_back } => {
                let (here, aside) = (self.content(self.here), self.content(self.aside));
                let step = next_step(&self.change(), here.as_ref(), aside.as_ref());
                let step = STEPS.iter().position(|known| *known == step).unwrap() as u8;
                LoopPoint::Act { step, is_back }
            }
            LoopPoint::Act { step, is_back } => match STEPS[usize::from(step)] {
                NextStep::Finish => LoopPoint::Done,
                NextStep::Remove => {
                    let gone = &self.inodes[next.aside.take().unwrap()];
                    let is_theirs = gone.is_open || ![NEW, SEEN].contains(&gone.text);
                    next.lost.extend(is_theirs.then_some(gone.text));
                    LoopPoint::Look { is_back }
                }
                NextStep::Exchange if !is_back && next.exchange() => LoopPoint::Compare,
                NextStep::Exchange if !is_back => LoopPoint::Look { is_back },
                NextStep::Restore => {
                    if next.here.is_none() {
                        next.here = next.aside.take();
                    }
                    LoopPoint::Look { is_back }
                }
                NextStep::Exchange | NextStep::Keep => {
                    next.kept.extend(next.aside.take());
                    LoopPoint::Look { is_back }
                }
            },
            LoopPoint::Compare => {
                let aside = self.content(self.aside);
                if aside.is_some_and(|aside| !self.change().is_new(&aside)) {
                    next.exchange();
                }
                LoopPoint::Look { is_back: true }
            }
            LoopPoint::Done => LoopPoint::Done,
        };
        next
    }

    /// Returns the state after the user's next act.
    fn act(&self) -> Option<Names> {
        let mut next = self.clone();
        let (act, rest) = self.acts.split_first()?;
        next.acts = rest.to_vec();
        match *act {
            UserAct::SaveByRename(text) => {
                next.inodes.push(Inode { text, is_open: false });
                next.here = Some(next.inodes.len() - 1);
            }
            UserAct::Open => {
                next.opened = self.here;
                if let Some(here) = self.here {
                    next.inodes[here].is_open = true;
                }
            }
            UserAct::Write(text) => next.inodes[self.opened?].text = text,
            UserAct::Close => next.inodes[self.opened?].is_open = false,
            UserAct::Delete => next.here = None,
        }
        Some(next)
    }

    fn crash(&self) -> Option<Names> {
        let place = LoopPoint::Look { is_back: false };
        (self.crashes > 0).then(|| Names { place, crashes: self.crashes - 1, ..self.clone() })
    }

    fn has(&self, text: &str) -> bool {
        self.here.iter().chain(&self.kept).any(|at| self.inodes[*at].text == text)
    }
}

/// Returns the final states of all orders of the steps.
fn ends(acts: &[UserAct], is_removal: bool) -> BTreeSet<Names> {
    let (mut seen, mut ends) = (BTreeSet::new(), BTreeSet::new());
    let mut todo = vec![Names::new(acts, is_removal)];
    while let Some(names) = todo.pop() {
        if !seen.insert(names.clone()) {
            continue;
        }
        if names.place == LoopPoint::Done && names.acts.is_empty() {
            ends.insert(names);
            continue;
        }
        todo.extend(names.act());
        todo.extend(names.crash());
        if names.place != LoopPoint::Done {
            todo.push(names.step());
        }
        assert!(seen.len() < 100_000, "the search does not end");
    }
    ends
}

#[test]
fn a_save_at_any_moment_of_a_change_is_kept() {
    use UserAct::{Close, Delete, Open, SaveByRename, Write};
    let rows: [&[UserAct]; 7] = [
        &[SaveByRename("mine")],
        &[Open, Write("mine"), Close],
        &[Open, Write("mine")],
        &[SaveByRename("first"), SaveByRename("mine")],
        &[SaveByRename("first"), Open, Write("mine"), Close],
        &[Delete, SaveByRename("mine")],
        &[Open, SaveByRename("mine"), Close],
    ];
    for (acts, is_removal) in rows.into_iter().flat_map(|acts| [(acts, false), (acts, true)]) {
        let ends = ends(acts, is_removal);
        assert!(!ends.is_empty());
        for end in ends {
            // If the file did not exist, the user could not open it or write to it.
            let wrote = end.opened.is_some() || !acts.contains(&Open) || !acts.contains(&Write("mine"));
            assert!(end.has("mine") || !wrote, "{acts:?}: {end:#?}");
            assert_eq!((&end.lost, end.aside), (&Vec::new(), None), "{acts:?}: {end:#?}");
        }
    }
}

#[test]
fn a_change_without_a_save_is_made_and_leaves_nothing_behind() {
    for is_removal in [false, true] {
        for end in ends(&[], is_removal) {
            let text = end.here.map(|here| end.inodes[here].text);
            // After a crash before the exchange, the change is not made yet.
            let expected: &[Option<&str>] = match (is_removal, end.crashes) {
                (false, 1) => &[Some(NEW)],
                (true, 1) => &[None],
                (false, _) => &[Some(NEW), Some(SEEN)],
                (true, _) => &[None, Some(SEEN)],
            };
            assert!(expected.contains(&text), "{end:#?}");
            assert_eq!((end.aside, end.kept.len()), (None, 0));
        }
    }
}

#[test]
fn a_private_name_encodes_its_change() {
    let change = FileChange { new: Some(hash(NEW)), seen: hash(SEEN) };
    for change in [change.clone(), FileChange { new: None, ..change }] {
        for name in [&b"g.md"[..], b".hidden", b"caf\xe9", b"a.b-c.tmp"] {
            let private = change.private_name(name).unwrap();
            let (of, parsed) = FileChange::parse(&private).unwrap();
            assert_eq!((of, parsed.new.is_some()), (name, change.new.is_some()));
            assert!(same(&parsed.seen, &change.seen) && parsed.private_name(name).as_ref() == Some(&private));
            let unfinished = change.unfinished_name(name).unwrap();
            assert_eq!(FileChange::parse_unfinished(&unfinished), Some(name));
            assert_eq!(
                (FileChange::parse(&unfinished), FileChange::parse_unfinished(&private)),
                (None, None)
            );
        }
        assert!(change.unfinished_name(&[b'x'; MAX_NAME_BYTES]).unwrap().len() <= 255);
        assert_eq!(change.private_name(&[b'x'; MAX_NAME_BYTES + 1]), None);
    }
    for other in ["g.md", ".g.md.tmp", ".tmp", ".x.removal-1.tmp", ".removal-0123456789abcdef.tmp"] {
        assert_eq!(FileChange::parse(other.as_bytes()), None, "{other}");
    }
}
