//! What of a clone is nowhere else, in words for a human; and the removal of a clone, which asks that first.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::fault;
use super::git::Git;
use super::source::{Source, inspect};
use super::view::{self, View};
use crate::model::ask::visible;
use crate::model::worker::Repo;
use crate::store::file;

/// How many names are kept of each kind.
const NAMED: usize = 20;
/// How many refs that are no commits are looked at.
const MAX_ODD_REFS: usize = 100;

/// What is in a clone alone. Names in it are the worker's: untrusted text.
///
/// Ignored files do not count, nor do commits that only a reflog remembers: builds and amended commits would keep
/// every clone for ever.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leftovers {
    /// Commits that no ref of the human's repository reaches; stashes are not among them.
    pub commits: u64,
    /// The refs that hold such commits or other objects.
    pub refs: Paths,
    /// Stashes.
    pub stashes: u64,
    /// Files that differ from the last commit, or whose staged text does.
    pub changed: Paths,
    /// Files that git does not know, as `git status` names them.
    pub untracked: Paths,
    /// Other things that no fetch brings back: submodules with files, linked worktrees, LFS files.
    pub others: Vec<String>,
    /// Why it is not known what is left; then everything counts as being so.
    pub unclear: Option<String>,
}

/// Some names, the first ones of them spelled out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paths {
    /// How many there are.
    pub count: u64,
    /// The first ones.
    pub first: Vec<String>,
}

impl FromIterator<String> for Paths {
    fn from_iter<T: IntoIterator<Item = String>>(names: T) -> Paths {
        let mut paths = Paths::default();
        for name in names {
            paths.count += 1;
            if paths.first.len() < NAMED {
                paths.first.push(name);
            }
        }
        paths
    }
}

impl Leftovers {
    /// True when the clone can go.
    pub fn is_empty(&self) -> bool {
        *self == Leftovers::default()
    }

    /// All of it in one line that is safe to show.
    pub fn words(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        let mut count = |count: u64, one: &str, many: &str, names: &Paths| match count {
            0 => {}
            count => {
                let word = if count == 1 { one } else { many };
                parts.push(format!("{count} {word}{}", names.words()));
            }
        };
        match self.commits {
            0 => count(self.refs.count, "ref", "refs", &self.refs),
            commits => {
                count(commits, "commit that is nowhere else", "commits that are nowhere else", &self.refs)
            }
        }
        let none = Paths::default();
        count(self.stashes, "stash", "stashes", &none);
        count(self.changed.count, "changed file", "changed files", &self.changed);
        count(self.untracked.count, "untracked file", "untracked files", &self.untracked);
        parts.extend(self.others.iter().map(|other| visible(other, false)));
        parts.extend(
            self.unclear.as_ref().map(|why| format!("it is not clear what: {}", visible(why, false))),
        );
        parts.join("; ")
    }
}

impl Paths {
    fn words(&self) -> String {
        let named: Vec<String> =
            self.first.iter().take(3).map(|name| format!("`{}`", visible(name, false))).collect();
        match named.len() {
            0 => String::new(),
            len if (len as u64) < self.count => format!(" ({}, …)", named.join(", ")),
            _ => format!(" ({})", named.join(", ")),
        }
    }
}

/// What is in the clone alone. Where that cannot be found out, the answer says so, and is not empty.
pub fn leftovers(git: &Git, repo: &Repo, clone: &Path) -> Leftovers {
    if matches!(fs::symlink_metadata(clone), Err(error) if error.kind() == std::io::ErrorKind::NotFound) {
        return Leftovers::default();
    }
    look(git, repo, clone)
        .unwrap_or_else(|error| Leftovers { unclear: Some(format!("{error:#}")), ..Leftovers::default() })
}

fn look(git: &Git, repo: &Repo, clone: &Path) -> Result<Leftovers> {
    let source = inspect(git, Path::new(&repo.source))?.map_err(|why| fault("look at the clone", &why))?;
    let view = View::open(git, &source, clone)?;
    let head = git.line(&view.place, &["rev-parse", "--verify", "HEAD^{commit}"])?;
    let (commits, refs) = commits(git, &source, &view, &head)?;
    let (changed, untracked) = files(git, &view, &head)?;
    let mut others: Vec<String> = view.others.iter().map(|what| (*what).to_owned()).collect();
    others.extend(submodules(git, &view, &head, clone)?);
    let stashes = match git.asks(&view.place, &["rev-parse", "-q", "--verify", "refs/stash"])? {
        true => lines(&git.run(&view.place, &["rev-list", "-g", "refs/stash"])?).len().max(1) as u64,
        false => 0,
    };
    Ok(Leftovers { commits, refs, stashes, changed, untracked, others, unclear: None })
}

fn lines(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect()
}

/// Names that end with NUL.
fn names(bytes: &[u8]) -> Vec<String> {
    let parts = bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty());
    parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

/// How many commits only the clone has, and the refs that hold them or other objects of its own.
fn commits(git: &Git, source: &Source, view: &View, head: &str) -> Result<(u64, Paths)> {
    let format = "--format=%(objectname) %(objecttype) %(refname)";
    let mut tips: Vec<(String, String)> = vec![(head.to_owned(), "HEAD".to_owned())];
    let mut odd = Vec::new();
    for line in lines(&git.run(&view.place, &["for-each-ref", format])?) {
        match line.splitn(3, ' ').collect::<Vec<_>>()[..] {
            [_, _, "refs/stash"] => {}
            [oid, "commit", name] => tips.push((oid.to_owned(), name.to_owned())),
            [oid, _, name] => odd.push((oid.to_owned(), name.to_owned())),
            _ => {}
        }
    }
    let mut wanted: Vec<String> = tips.iter().chain(&odd).map(|(oid, _)| oid.clone()).collect();
    let theirs = source.refs(git, &[])?;
    wanted.extend(theirs.values().map(|at| format!("^{}", at.oid)));
    wanted.push(format!("^{}", source.head));
    // What the human's repository has and the view cannot see is of no use here.
    let list = ["rev-list", "--ignore-missing", "--stdin"];
    let own: BTreeSet<String> =
        lines(&git.run_with(&view.place, &list, Some(view.input(&wanted)?))?).into_iter().collect();
    let mut holding: Vec<String> =
        tips.into_iter().filter(|(oid, _)| own.contains(oid)).map(|(_, name)| name).collect();
    for (at, (oid, name)) in odd.into_iter().enumerate() {
        if at >= MAX_ODD_REFS || git.run(source.place(), &["cat-file", "-e", &oid]).is_err() {
            holding.push(name);
        }
    }
    Ok((own.len() as u64, holding.into_iter().collect()))
}

/// Changed and untracked files. The files are compared by their content with the last commit through an index
/// of looop's own, since the worker's may say of any file that it need not be looked at; what was staged in
/// the worker's is compared by itself.
fn files(git: &Git, view: &View, head: &str) -> Result<(Paths, Paths)> {
    let fresh = view.tree.clone().with_index(&view.file("fresh"))?;
    git.run(&fresh, &["read-tree", head])?;
    let status = [
        "status",
        "--porcelain",
        "-z",
        "--untracked-files=normal",
        "--ignore-submodules=all",
        "--no-renames",
    ];
    let mut changed = BTreeSet::new();
    let mut untracked = Vec::new();
    for line in names(&git.run(&fresh, &status)?) {
        match line.split_at_checked(3) {
            Some(("?? ", name)) => untracked.push(name.to_owned()),
            Some((_, name)) => drop(changed.insert(name.to_owned())),
            None => drop(changed.insert(line)),
        }
    }
    if view.index().exists() {
        let staged = view.place.clone().with_index(&view.index())?;
        let args =
            ["diff-index", "--cached", "--name-only", "-z", "--no-renames", "--ignore-submodules=all", head];
        changed.extend(names(&git.run(&staged, &args)?));
    }
    Ok((changed.into_iter().collect(), untracked.into_iter().collect()))
}

/// Submodules with files in them: git itself would look into those only with their own config.
fn submodules(git: &Git, view: &View, head: &str, clone: &Path) -> Result<Vec<String>> {
    let listing = names(&git.run(&view.place, &["ls-tree", "-r", "-z", "--full-tree", head])?);
    let paths = listing.iter().filter_map(|line| line.strip_prefix("160000 ")?.split_once('\t'));
    let filled = paths.filter(|(_, path)| match fs::read_dir(clone.join(path)) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    });
    Ok(filled.map(|(_, path)| format!("the submodule `{path}` has files")).collect())
}

/// Removes a clone and lets go of its base, unless work in it is nowhere else: then nothing is changed and that work
/// comes back. Only a human may force it.
///
/// # Errors
/// When it could not be removed whole; it can be tried again then.
pub fn discard(git: &Git, repo: &Repo, clone: &Path, force: bool) -> Result<Option<Leftovers>> {
    let gone = clone.with_file_name(".gone");
    let is_there = |path: &Path| fs::symlink_metadata(path).is_ok();
    if is_there(clone) {
        let left = if force { Leftovers::default() } else { leftovers(git, repo, clone) };
        if !left.is_empty() {
            return Ok(Some(left));
        }
        file::remove_tree(&gone)?;
        // Half a clone under its own name would be taken for one with changes.
        fs::rename(clone, &gone).with_context(|| format!("could not move `{}`", clone.display()))?;
    }
    if is_there(&gone) {
        if let Ok(source) = inspect(git, Path::new(&repo.source))? {
            source.release_base(git, repo)?;
        }
        file::remove_tree(&gone)?;
    }
    let beside = clone.parent().and_then(|dir| fs::read_dir(dir).ok()).into_iter().flatten().flatten();
    for entry in beside.filter(|entry| entry.file_name().to_string_lossy().starts_with(view::NAME)) {
        file::remove_tree(&entry.path())?;
    }
    Ok(None)
}
