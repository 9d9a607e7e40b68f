//! The human's repository: what a path stands for, and the few refs that looop writes there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::fault;
use super::git::{Git, Place};
use crate::model::name::Name;
use crate::model::worker::Repo;
use crate::store::file;

/// How often a ref is tried again after someone else was faster.
const ATTEMPTS: usize = 10;

/// What git leaves in a git directory while it is in the middle of something, and what that is.
pub(super) const MIDDLES: [(&str, &str); 6] = [
    ("rebase-merge", "a rebase"),
    ("rebase-apply", "a rebase"),
    ("MERGE_HEAD", "a merge"),
    ("CHERRY_PICK_HEAD", "a cherry-pick"),
    ("REVERT_HEAD", "a revert"),
    ("BISECT_START", "a bisection"),
];

/// A repository that can be cloned.
#[derive(Clone, Debug)]
pub struct Source {
    /// The top of its files, or the repository itself where it is bare.
    pub repo: PathBuf,
    /// Where its refs and objects are; a worktree shares them with others. A sandbox lets the clone read
    /// `objects` below it.
    pub common: PathBuf,
    /// The commit of its HEAD.
    pub head: String,
    /// What a human may want to know, one line each.
    pub notes: Vec<String>,
    pub(super) format: String,
    place: Place,
}

/// How long a list of borrowed objects may be, in bytes.
const MAX_ALTERNATES_BYTES: usize = 64 * 1024;

/// A store of objects, and those that it borrows from itself: a clone reads all of them.
pub fn stores(objects: PathBuf) -> Vec<PathBuf> {
    let mut stores = vec![objects];
    let mut at = 0;
    while let Some(store) = stores.get(at) {
        let list = file::read_text(&store.join("info/alternates"), MAX_ALTERNATES_BYTES).ok().flatten();
        let more: Vec<PathBuf> = list.unwrap_or_default().lines().map(|line| store.join(line)).collect();
        let new = more.into_iter().filter(|dir| dir.is_dir() && !stores.contains(dir)).collect::<Vec<_>>();
        stores.extend(new);
        at += 1;
    }
    stores
}

/// A ref and whether a worktree has it checked out.
pub(super) struct RefAt {
    pub oid: String,
    pub in_use: bool,
}

/// Finds out what can be cloned at a path: the top of a repository or of a linked worktree, a submodule, or a
/// bare repository. The inner value says why it cannot be.
///
/// # Errors
/// When git cannot be run.
pub fn inspect(git: &Git, repo: &Path) -> Result<Result<Source, String>> {
    git.check()?;
    let refused = |why: String| Ok(Err(format!("`{}` {why}", repo.display())));
    let repo = match fs::canonicalize(repo) {
        Ok(path) if path.to_str().is_none() => return refused("has a path that is not UTF-8".to_owned()),
        Ok(path) if path.is_dir() => path,
        Ok(_) => return refused("is not a directory".to_owned()),
        Err(error) => return refused(format!("cannot be opened: {error}")),
    };
    if let Some(why) = foreign(&repo, git.owner)? {
        return refused(why);
    }
    let here = Place::none(&repo);
    // Each path in an answer of its own, since it may have any byte in it.
    let Ok(git_dir) = git.line(&here, &["rev-parse", "--absolute-git-dir"]) else {
        git.check()?;
        return refused(format!("is not a git repository{}", unusable(git, &here)));
    };
    let common = git.line(&here, &["rev-parse", "--git-common-dir"])?;
    let told =
        git.line(&here, &["rev-parse", "--show-object-format", "--is-inside-work-tree", "--show-cdup"])?;
    let mut told = told.lines().map(str::to_owned);
    let (format, is_inside, up) = (told.next().unwrap_or_default(), told.next(), told.next());
    let git_dir = fs::canonicalize(&git_dir).with_context(|| format!("could not open `{git_dir}`"))?;
    let common =
        fs::canonicalize(repo.join(&common)).with_context(|| format!("could not open `{common}`"))?;
    for dir in [&git_dir, &common] {
        if let Some(why) = foreign(dir, git.owner)? {
            return refused(why);
        }
    }
    let is_top = match is_inside.as_deref() {
        Some("true") => up.is_none_or(|up| up.is_empty()),
        _ => git_dir == repo,
    };
    if !is_top {
        return refused("is a directory inside a git repository, not its top".to_owned());
    }
    let (at_head, mut place) = (Place::of(&git_dir)?, Place::of(&common)?);
    let promised = r"^(extensions\.partialclone|remote\..*\.promisor)$";
    if git.asks(&at_head, &["config", "--name-only", "--get-regexp", promised])? {
        return refused("is a partial clone, so what it lacks cannot be borrowed".to_owned());
    }
    let Some(head) = git.answer(&at_head, &["rev-parse", "-q", "--verify", "HEAD^{commit}"])? else {
        return refused("has no commit yet".to_owned());
    };
    let head = head.trim_end().to_owned();
    place.settings = configured_hooks(git, &place)?;
    let middle = MIDDLES.iter().find(|(mark, _)| git_dir.join(mark).exists());
    let mut notes: Vec<String> = Vec::new();
    notes.extend(middle.map(|(_, what)| format!("{what} is in progress there; the clone begins at HEAD")));
    if common.join("shallow").exists() {
        notes.push("its history is cut off; so is the clone's".to_owned());
    }
    Ok(Ok(Source { repo, common, head, notes, format, place }))
}

/// A repository of another user may have a config that runs that user's programs, so git refuses it, and so
/// does looop; root is no exception.
fn foreign(path: &Path, owner: u32) -> Result<Option<String>> {
    let uid = fs::metadata(path).with_context(|| format!("could not open `{}`", path.display()))?.uid();
    Ok((uid != owner)
        .then(|| format!("belongs to user {uid} and you are {owner}; name a repository of yours")))
}

/// Why git will not have a repository, where it says more than that there is none.
fn unusable(git: &Git, here: &Place) -> String {
    let error = git.run(here, &["rev-parse", "--git-dir"]).err().map(|error| error.to_string());
    error.filter(|text| !text.contains("not a git repository")).map_or(String::new(), |e| format!(": {e}"))
}

/// Settings that turn off each hook that the repository's config defines.
fn configured_hooks(git: &Git, place: &Place) -> Result<Vec<(String, String)>> {
    let args = ["config", "-z", "--name-only", "--get-regexp", r"^hook\..*\..*"];
    let keys = git.answer(place, &args)?.unwrap_or_default();
    let names = keys.split('\0').filter_map(|key| Some(key.rsplit_once('.')?.0));
    Ok(names.map(|name| (format!("{name}.enabled"), "false".to_owned())).collect())
}

/// A worker's name as a part of a ref's name, where `.lock` at the end is not allowed.
pub(super) fn ref_word(id: &Name) -> String {
    id.as_str().strip_suffix(".lock").map_or(id.to_string(), |stem| format!("{stem}-lock"))
}

/// The name, then the name with `-2`, `-3` and so on.
pub(super) fn numbered(name: &str) -> impl Iterator<Item = String> {
    std::iter::once(name.to_owned()).chain((2..).map(move |n| format!("{name}-{n}")))
}

impl Source {
    /// The repository's refs and objects as a place for git.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The refs below these names.
    pub(super) fn refs(&self, git: &Git, names: &[&str]) -> Result<BTreeMap<String, RefAt>> {
        let mut args = vec!["for-each-ref", "--format=%(refname)%00%(objectname)%00%(worktreepath)"];
        args.extend(names);
        let text = String::from_utf8_lossy(&git.run(&self.place, &args)?).into_owned();
        let parse = |line: &str| {
            let mut parts = line.splitn(3, '\0');
            let (name, oid, path) = (parts.next()?, parts.next()?, parts.next()?);
            Some((name.to_owned(), RefAt { oid: oid.to_owned(), in_use: !path.is_empty() }))
        };
        // A path with a line break goes on in a line that is no ref.
        Ok(text.split('\n').filter_map(parse).collect())
    }

    /// True while git is in the middle of something in any worktree, where a branch may be in use unseen.
    pub(super) fn is_busy(&self) -> bool {
        let worktrees = fs::read_dir(self.common.join("worktrees")).into_iter().flatten().flatten();
        let mut dirs = worktrees.map(|entry| entry.path()).chain([self.common.clone()]);
        dirs.any(|dir| MIDDLES.iter().any(|(mark, _)| dir.join(mark).exists()))
    }

    /// Points a ref at a commit: the caller picks name and old value (none: it must not exist) from what it
    /// finds, and is asked again when someone else was faster.
    pub(super) fn set_ref(
        &self,
        git: &Git,
        to: &str,
        mut pick: impl FnMut() -> Result<(String, Option<String>)>,
    ) -> Result<String> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let (name, old) = pick()?;
            if old.as_deref() == Some(to) {
                return Ok(name);
            }
            let old = old.unwrap_or_else(|| "0".repeat(to.len()));
            match git.run(&self.place, &["update-ref", "-m", "looop", &name, to, &old]) {
                Ok(_) => return Ok(name),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| fault("write a ref", "it was never tried")))
    }

    /// Removes a ref that has this value.
    pub(super) fn delete_ref(&self, git: &Git, name: &str, oid: &str) -> Result<()> {
        git.run(&self.place, &["update-ref", "-d", name, oid]).map(drop)
    }

    /// Keeps the base of a clone from `gc`: each clone has a ref of its own, so that two workers of one name,
    /// one of them long ended, do not release each other's.
    pub(super) fn keep_base(&self, git: &Git, repo: &Repo) -> Result<String> {
        let (below, first) = base_refs(repo);
        self.set_ref(git, &repo.base, || {
            let taken = self.refs(git, &[&below])?;
            let name = numbered(&first).find(|name| !taken.contains_key(name)).unwrap_or_default();
            Ok((name, None))
        })
    }

    /// Lets go of one ref that keeps a base. Those of the same base are interchangeable.
    pub(super) fn release_base(&self, git: &Git, repo: &Repo) -> Result<()> {
        let (below, _) = base_refs(repo);
        let refs = self.refs(git, &[&below])?;
        match refs.iter().rfind(|(_, at)| at.oid == repo.base) {
            Some((name, at)) => self.delete_ref(git, name, &at.oid),
            None => Ok(()),
        }
    }
}

fn base_refs(repo: &Repo) -> (String, String) {
    let below = format!("refs/{}/", repo.branch);
    let first = format!("{below}base");
    (below, first)
}
