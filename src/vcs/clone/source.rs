//! The user's repository: what a path refers to, and the few refs that looop writes there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::rules::name::Name;
use crate::rules::worker::Repo;
use crate::store::Denied;
use crate::store::file::{Doing, pointed};
use crate::vcs::git::dir::{RepoFormat, plain_way, read_plain};
use crate::vcs::git::{Git, GitCommand, GitDir, RepoLink, fault};
use crate::vcs::history::repository::{RepoForm, borrow_objects, borrowed};

/// How often a ref update is tried again after another process was faster.
const ATTEMPTS: usize = 10;

/// Files that git leaves in a git directory during an operation, and the name of the operation.
pub(super) const MIDDLES: [(&str, &str); 6] = [
    ("rebase-merge", "a rebase"),
    ("rebase-apply", "a rebase"),
    ("MERGE_HEAD", "a merge"),
    ("CHERRY_PICK_HEAD", "a cherry-pick"),
    ("REVERT_HEAD", "a revert"),
    ("BISECT_START", "a bisection"),
];

/// A repository that can be cloned. Git works on its refs and objects through links made by looop, so that its config
/// and hooks are ignored.
#[derive(Clone, Debug)]
pub struct Source {
    /// The top of its files, or the repository itself if it is bare.
    pub repo: PathBuf,
    /// Where its refs and objects are; a worktree shares them with others. A sandbox lets the clone read `objects`
    /// below it.
    pub common: PathBuf,
    /// The commit of its HEAD.
    pub head: String,
    /// Notes for the user, one line each.
    pub notes: Vec<String>,
    /// True if another repository has some of its objects. A worker then gets a pack of those that it needs.
    pub borrows: bool,
    pub(super) format: RepoFormat,
    git_dir: PathBuf,
    link: Arc<RepoLink>,
}

/// The longest HEAD that is read, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Lists a store of objects, and the stores from which it borrows: a clone reads all of them.
pub fn stores(objects: PathBuf) -> Vec<PathBuf> {
    let mut stores = vec![objects];
    let mut at = 0;
    while let Some(store) = stores.get(at) {
        let more = borrowed(store).unwrap_or_default();
        let new = more.into_iter().filter(|dir| dir.is_dir() && !stores.contains(dir)).collect::<Vec<_>>();
        stores.extend(new);
        at += 1;
    }
    stores
}

/// A ref, and whether a worktree has it checked out.
pub(super) struct RefAt {
    pub oid: String,
    pub in_use: bool,
}

fn is_git_dir(dir: &Path) -> bool {
    let has = |name: &str| fs::symlink_metadata(dir.join(name)).is_ok();
    has("HEAD") && (has("commondir") || (dir.join("objects").is_dir() && dir.join("refs").is_dir()))
}

/// Returns true if a git directory says that these are its files: a linked worktree says so in a file, a submodule in
/// its config.
fn names_back(git_dir: &Path, repo: &Path, form: &RepoForm) -> bool {
    let is = |path: PathBuf, of: &Path| fs::canonicalize(path).is_ok_and(|path| path == of);
    pointed(&git_dir.join("gitdir"), b"")
        .is_some_and(|file| file.parent().is_some_and(|top| is(top.to_owned(), repo)))
        || form.files.as_ref().is_some_and(|files| is(git_dir.join(files), repo))
}

/// Finds the repository of a folder as git does, by the names of files alone: the top of its files, and its git directory.
fn place_of(dir: &Path) -> Result<(PathBuf, PathBuf), &'static str> {
    for top in dir.ancestors() {
        let inner = top.join(".git");
        let git_dir = match fs::symlink_metadata(&inner) {
            Ok(meta) if meta.is_file() => {
                let named = pointed(&inner, b"gitdir: ").filter(|git_dir| is_git_dir(git_dir));
                named.ok_or("is not a git repository: its `.git` is a file that names none")?
            }
            Ok(_) if is_git_dir(&inner) => inner,
            _ if is_git_dir(top) => top.to_owned(),
            _ => continue,
        };
        return Ok((top.to_owned(), git_dir));
    }
    Err("is not a git repository")
}

/// Returns the top of the repository of a folder; `None` outside of a repository, or in the git directory itself.
pub fn top_of(dir: &Path) -> Option<PathBuf> {
    place_of(dir).ok().filter(|(top, git_dir)| top != git_dir).map(|(top, _)| top)
}

/// A repository that cannot be cloned.
#[derive(Debug)]
pub struct Unclonable {
    /// Its path and the reason.
    pub why: String,
    /// True if it only lacks a first commit.
    pub is_unborn: bool,
}

impl Denied<Unclonable> {
    /// Makes the error for an action that needs the repository.
    pub fn during(self, doing: &str) -> anyhow::Error {
        self.refusal().map_or_else(|failed| failed, |refused| fault(doing, &refused.why))
    }
}

/// Finds out what can be cloned at a path: the top of a repository or of a linked worktree, a submodule, or a bare
/// repository.
///
/// # Errors
/// When it cannot be cloned, or cannot be read.
pub fn inspect(git: &Git, repo: &Path) -> Result<Source, Denied<Unclonable>> {
    git.check()?;
    let shown = repo.display();
    let refused =
        |why: &str| Denied::Refused(Unclonable { why: format!("`{shown}` {why}"), is_unborn: false });
    let repo = match fs::canonicalize(repo) {
        Ok(path) if path.to_str().is_none() => return Err(refused("has a path that is not UTF-8")),
        Ok(path) if path.is_dir() => path,
        Ok(_) => return Err(refused("is not a directory")),
        Err(error) => return Err(refused(&format!("cannot be opened: {error}"))),
    };
    // A repository of another user may have a config that runs that user's programs, so git refuses it, and so does
    // looop, even for root.
    let check_owner = |path: &Path| -> Result<(), Denied<Unclonable>> {
        let (uid, own) = (fs::metadata(path).doing("open", path)?.uid(), git.owner);
        let why = format!("belongs to user {uid} and you are {own}; name a repository of yours");
        if uid == own { Ok(()) } else { Err(refused(&why)) }
    };
    check_owner(&repo)?;
    let (top, git_dir) = place_of(&repo).map_err(refused)?;
    if top != repo {
        return Err(refused("is a directory inside a git repository, not its top"));
    }
    let open = |path: &Path| fs::canonicalize(path).doing("open", path);
    let git_dir = open(&git_dir)?;
    let common = open(&pointed(&git_dir.join("commondir"), b"").unwrap_or_else(|| git_dir.clone()))?;
    check_owner(&git_dir)?;
    check_owner(&common)?;
    if common != git_dir && git_dir.parent() != Some(&common.join("worktrees")) {
        let why = "has a git directory that takes its refs from elsewhere, and is not a linked worktree";
        return Err(refused(why));
    }
    let form = RepoForm::read(&common).map_err(|why| refused(&why))?;
    if git_dir.parent() != Some(&repo) && git_dir != repo && !names_back(&git_dir, &repo, &form) {
        let shown = git_dir.display();
        let why = format!("has a `.git` file that leads to `{shown}`, which belongs to another folder");
        return Err(refused(&why));
    }
    if form.is_partial {
        return Err(refused("is a partial clone, so what it lacks cannot be borrowed"));
    }
    let borrows = !borrowed(&common.join("objects"))?.is_empty();
    let link = Arc::new(RepoLink::open(&common, form.format)?);
    // The name by which every worktree knows the HEAD of a linked one.
    let head = match git_dir.strip_prefix(common.join("worktrees")) {
        Ok(name) => format!("worktrees/{}/HEAD^{{commit}}", name.display()),
        Err(_) => "HEAD^{commit}".to_owned(),
    };
    let Some(head) = git.answer(&link.dir, &GitCommand::Resolve(&head))? else {
        let why = format!("`{shown}` has no commit yet");
        return Err(Denied::Refused(Unclonable { why, is_unborn: true }));
    };
    let middle = MIDDLES.iter().find(|(mark, _)| git_dir.join(mark).exists());
    let mut notes: Vec<String> = Vec::new();
    notes.extend(middle.map(|(_, what)| format!("{what} is in progress there; the clone starts at HEAD")));
    if common.join("shallow").exists() {
        notes.push("its history is cut off; so is the clone's".to_owned());
    }
    Ok(Source { repo, common, head, notes, borrows, format: form.format, git_dir, link })
}

/// Returns a worker's name as a part of a ref's name, which must not end with `.lock`.
pub(super) fn ref_word(id: &Name) -> String {
    id.as_str().strip_suffix(".lock").map_or(id.to_string(), |stem| format!("{stem}-lock"))
}

/// Returns the name, then the name with `-2`, `-3` and so on.
pub(super) fn numbered(name: &str) -> impl Iterator<Item = String> {
    std::iter::once(name.to_owned()).chain((2..).map(move |n| format!("{name}-{n}")))
}

impl Source {
    /// Returns the repository's refs and objects, for git.
    pub(super) fn git_dir(&self) -> &GitDir {
        &self.link.dir
    }

    /// Returns how its objects are stored, with refs in files.
    pub(super) fn objects_format(&self) -> RepoFormat {
        RepoFormat { reftable: false, ..self.format }
    }

    /// Returns the full name of HEAD's branch; `None` if HEAD is detached.
    pub(super) fn branch(&self) -> Result<Option<String>> {
        let head = read_plain(&self.git_dir.join("HEAD"), MAX_HEAD_BYTES).context("could not read HEAD")?;
        let head = String::from_utf8(head.unwrap_or_default()).unwrap_or_default();
        Ok(head.strip_prefix("ref: ").map(|name| name.trim_end().to_owned()))
    }

    /// Lends its objects to a repository of looop: by their path, or, if some of them belong to another repository, as
    /// a pack of what a commit needs.
    pub(super) fn lend(&self, git: &Git, to: &GitDir, commit: &str) -> Result<()> {
        to.cut_off_as(&self.common)?;
        if !self.borrows {
            return borrow_objects(to, &self.common.join("objects"));
        }
        match git.holds(to, &GitCommand::Resolve(&format!("{commit}^{{commit}}"))) {
            Ok(true) => Ok(()),
            _ => self.give_pack(git, to, commit),
        }
    }

    /// Copies what a commit reaches into a repository of looop, as a pack.
    pub(super) fn give_pack(&self, git: &Git, to: &GitDir, commit: &str) -> Result<()> {
        to.cut_off_as(&self.common)?;
        let stem = to.path().join("objects/pack/pack");
        super::pack(git, self.git_dir(), &format!("{commit}\n"), &stem).map(drop)
    }

    /// Stores a pack after a check of each object. Returns the file that keeps the pack from `gc` until it is removed.
    pub(super) fn take_pack(&self, git: &Git, pack: &Path) -> Result<PathBuf> {
        plain_way(&self.common, "objects/pack")?;
        let file = File::open(pack).doing("open", pack)?;
        let printed = git.run_with(self.git_dir(), &GitCommand::TakePack, Some(file), None)?;
        let name = String::from_utf8_lossy(&printed);
        let name = name.split_whitespace().last().unwrap_or_default();
        Ok(self.common.join(format!("objects/pack/pack-{name}.keep")))
    }

    /// Lists the refs below these names.
    pub(super) fn refs(&self, git: &Git, names: &[&str]) -> Result<BTreeMap<String, RefAt>> {
        let text = String::from_utf8_lossy(&git.run(self.git_dir(), &GitCommand::Refs(names))?).into_owned();
        let parse = |line: &str| {
            let mut parts = line.splitn(3, '\0');
            let (name, oid, path) = (parts.next()?, parts.next()?, parts.next()?);
            Some((name.to_owned(), RefAt { oid: oid.to_owned(), in_use: !path.is_empty() }))
        };
        // A path with a line break continues in a line that is not a ref.
        Ok(text.split('\n').filter_map(parse).collect())
    }

    /// Returns true while git is in the middle of an operation in any worktree: a branch may then be in use unseen.
    pub(super) fn is_busy(&self) -> bool {
        let worktrees = fs::read_dir(self.common.join("worktrees")).into_iter().flatten().flatten();
        let mut dirs = worktrees.map(|entry| entry.path()).chain([self.common.clone()]);
        dirs.any(|dir| MIDDLES.iter().any(|(mark, _)| dir.join(mark).exists()))
    }

    /// Points a ref at a commit. The caller picks name and old value (`None`: it must not exist) from the current refs,
    /// and picks again if another process was faster.
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
            plain_way(&self.common, &name)?;
            match git.run(self.git_dir(), &GitCommand::SetRef { name: &name, to, old: Some(&old) }) {
                Ok(_) => return Ok(name),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| fault("write a ref", "it was never tried")))
    }

    /// Removes a ref that has this value.
    pub(super) fn delete_ref(&self, git: &Git, name: &str, oid: &str) -> Result<()> {
        plain_way(&self.common, name)?;
        git.run(self.git_dir(), &GitCommand::DeleteRef { name, old: oid }).map(drop)
    }

    /// Keeps the base of a clone from `gc`. Each clone has a ref of its own, so that two workers of one name, even if
    /// one ended long ago, do not release each other's base.
    pub(super) fn keep_base(&self, git: &Git, repo: &Repo) -> Result<String> {
        let first = format!("refs/{}/base", repo.branch);
        self.set_ref(git, &repo.base, || {
            let taken = self.refs(git, &[&format!("refs/{}/", repo.branch)])?;
            Ok((numbered(&first).find(|name| !taken.contains_key(name)).unwrap_or_default(), None))
        })
    }

    /// Releases one ref that keeps a base. Refs of the same base are interchangeable.
    pub(super) fn release_base(&self, git: &Git, repo: &Repo) -> Result<()> {
        let refs = self.refs(git, &[&format!("refs/{}/", repo.branch)])?;
        match refs.iter().rfind(|(_, at)| at.oid == repo.base) {
            Some((name, at)) => self.delete_ref(git, name, &at.oid),
            None => Ok(()),
        }
    }
}
