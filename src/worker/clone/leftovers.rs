//! What of a clone is nowhere else; and the removal of a clone, which asks that first.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::fault;
use super::git::Git;
use super::source::{MIDDLES, Source, inspect};
use super::view::{self, View};
use crate::model::leftovers::{Leftovers, Paths, Tip};
use crate::model::worker::Repo;
use crate::store::file;

/// How many tips and stashes are named with their commits.
const MAX_TIPS: usize = 20;
/// How many refs that are no commits are looked at.
const MAX_ODD_REFS: usize = 100;

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
    let head = head(git, &view)?;
    let own = commits(git, &source, &view, head.as_deref())?;
    let mut others: Vec<String> = view.others.iter().map(|what| (*what).to_owned()).collect();
    let in_git = |mark: &str| fs::symlink_metadata(clone.join(".git").join(mark)).is_ok();
    let middle = MIDDLES.iter().find(|(mark, _)| in_git(mark));
    others.extend(middle.map(|(_, what)| format!("{what} that is not finished")));
    others.extend(head.is_none().then(|| "a branch without a commit is checked out".to_owned()));
    // Files are compared with what the clone began with where nothing was committed.
    let head = head.unwrap_or_else(|| repo.base.clone());
    let (changed, untracked) = files(git, &view, &head)?;
    others.extend(submodules(git, &view, &head, clone)?);
    let stashes = match git.asks(&view.place, &["rev-parse", "-q", "--verify", "refs/stash"])? {
        true => lines(&git.run(&view.place, &["rev-list", "-g", "refs/stash"])?),
        false => Vec::new(),
    };
    let mut tips = own.tips;
    tips.extend(stashes.iter().enumerate().map(|(nth, oid)| Tip::new(&format!("stash@{{{nth}}}"), oid)));
    tips.truncate(MAX_TIPS);
    let (commits, refs, stashes) = (own.count, own.refs, stashes.len() as u64);
    Ok(Leftovers { commits, refs, stashes, changed, untracked, others, unclear: None, tips })
}

/// The commit of HEAD; none while its branch has no commit.
pub(super) fn head(git: &Git, view: &View) -> Result<Option<String>> {
    let verify = |what: &str| git.answer(&view.place, &["rev-parse", "-q", "--verify", what]);
    if let Some(commit) = verify("HEAD^{commit}")? {
        return Ok(Some(commit.trim_end().to_owned()));
    }
    let branch = git.answer(&view.place, &["symbolic-ref", "-q", "HEAD"]).ok().flatten().unwrap_or_default();
    let branch = branch.trim_end();
    let is_there = |name: &str| view.file(".git").join(name).exists();
    // A branch that is there and leads nowhere is an error, and not a worker without commits.
    if branch.starts_with("refs/heads/") && !is_there(branch) && verify(branch)?.is_none() {
        return Ok(None);
    }
    git.line(&view.place, &["rev-parse", "--verify", "HEAD^{commit}"]).map(Some)
}

/// Commits that only a clone has.
struct OwnCommits {
    count: u64,
    /// The refs that hold them, or other objects of the clone's own.
    refs: Paths,
    /// Those of them that lead to commits.
    tips: Vec<Tip>,
}

fn lines(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect()
}

/// Names that end with NUL.
fn names(bytes: &[u8]) -> Vec<String> {
    let parts = bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty());
    parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

fn commits(git: &Git, source: &Source, view: &View, head: Option<&str>) -> Result<OwnCommits> {
    let format = "--format=%(objectname) %(objecttype) %(refname)";
    let mut tips: Vec<(String, String)> =
        head.iter().map(|head| ((*head).to_owned(), "HEAD".to_owned())).collect();
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
    tips.retain(|(oid, _)| own.contains(oid));
    let named = tips.iter().map(|(oid, name)| Tip::new(name, oid)).collect();
    let mut holding: Vec<String> = tips.into_iter().map(|(_, name)| name).collect();
    for (at, (oid, name)) in odd.into_iter().enumerate() {
        if at >= MAX_ODD_REFS || git.run(source.place(), &["cat-file", "-e", &oid]).is_err() {
            holding.push(name);
        }
    }
    Ok(OwnCommits { count: own.len() as u64, refs: holding.into_iter().collect(), tips: named })
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
