//! The git history of the data dir, through gix: init, list of changes, commit, read back.
//!
//! The `git` program is never started, and a git config cannot make this module run a program: the repository is opened
//! isolated (its own config only, no `GIT_*` variables), contents are compared and stored as the raw bytes of the files
//! (no filters), and gix runs no hooks.

mod edits;
mod heal;
pub mod ignored;
pub mod locks;
pub mod repository;
mod scan;

use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context, Result, ensure};
use gix::ObjectId;
use gix::bstr::ByteSlice;
use gix::index::entry::Mode;
use gix::state::InProgress;

use crate::rules::text::quote_argv;
use crate::store::file::{self, Doing, Durability};
use edits::{Edits, actor};
use scan::Scan;

/// Name of the directory in which a repository is made before it is moved into its place.
pub(super) const ASIDE: &str = ".git-init";

/// The change of one file in a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEdit {
    /// The path relative to the data dir, with `/` between its parts.
    pub path: String,
    /// The new content, stored unchanged; `None` deletes the file.
    pub bytes: Option<Vec<u8>>,
    pub executable: bool,
}

/// The author or committer of a commit, with a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Not empty, without `<`, `>` and control characters.
    pub name: String,
    /// May be empty; without `<`, `>` and control characters.
    pub email: String,
    /// Seconds since 1970-01-01T00:00:00Z, not negative.
    pub unix_s: i64,
    /// Offset of the local time in seconds east of UTC; git keeps whole minutes of it.
    pub utc_offset_s: i32,
}

/// One commit as [`History::log`] returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// The full commit id, 40 hex digits.
    pub id: String,
    pub author: String,
    /// The author's time, in seconds since 1970-01-01T00:00:00Z.
    pub unix_s: i64,
    pub message: String,
}

/// The git history of the data dir. Not `Send`: open one for each thread that needs it.
pub struct History {
    repo: gix::Repository,
    dir: PathBuf,
}

impl History {
    /// Opens the history of `dir`. If `dir` has no `.git`, makes it first: a repository of mode 0700 on the unborn
    /// branch `main`, without hooks and without the user's templates. It appears whole or not at all; an existing one
    /// is not changed.
    ///
    /// # Errors
    /// When `dir` is not a writable directory, and as for [`History::open`].
    pub fn init(dir: &Path) -> Result<Self> {
        let git = dir.join(".git");
        if fs::symlink_metadata(&git).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
            make(dir, &git)
                .with_context(|| format!("could not make the git history in {}", dir.display()))?;
        }
        // The directory is empty if a crash came right after the move; anything else in it does not belong to looop.
        drop(fs::remove_dir(dir.join(ASIDE)));
        Self::open(dir)
    }

    /// Names the merge driver of `.gitattributes` in git's config, which git does not clone: it keeps the file that is here.
    pub fn name_merge_driver(&self) -> Result<()> {
        if self.repo.config_snapshot().string("merge.looop.driver").is_some() {
            return Ok(());
        }
        let lines = "[merge \"looop\"]\n\tname = keep the readings of this machine\n\tdriver = true";
        file::append_line(&self.repo.git_dir().join("config"), lines, Durability::Durable)
    }

    /// Opens the history of `dir`, and of no directory above it.
    ///
    /// # Errors
    /// When `dir/.git` is absent, is not a plain directory (a link, or a file that points elsewhere), shares its
    /// objects with another checkout, or is not a git repository.
    pub fn open(dir: &Path) -> Result<Self> {
        let cause = || format!("could not open the git history in {}", dir.display());
        let git = dir.join(".git");
        let meta = fs::symlink_metadata(&git).with_context(cause)?;
        ensure!(meta.is_dir(), "{}: .git is not a plain directory", cause());
        let options = gix::open::Options::isolated().lossy_config(true);
        let mut repo = options.open(git).with_context(cause)?.to_thread_local();
        ensure!(repo.common_dir() == repo.git_dir(), "{}: .git is part of another repository", cause());
        // A core.worktree in the config must not move the files somewhere else.
        repo.set_workdir(dir.to_path_buf()).with_context(cause)?;
        Ok(Self { repo, dir: dir.to_path_buf() })
    }

    /// Returns the id of HEAD's commit, 40 hex digits; `None` before the first commit.
    pub fn head(&self) -> Result<Option<String>> {
        Ok(self.head_id()?.map(|id| id.to_string()))
    }

    /// Returns why a commit must not be made now; `None` if it may.
    pub fn blocked(&self) -> Result<Option<Blocked>> {
        if let Some(lock) = locks::find(&self.dir)?.into_iter().next() {
            return Ok(Some(Blocked::Locked { lock }));
        }
        self.blocked_but_for_the_lock()
    }

    /// Lists the files whose content, kind or executable bit on disk differs from HEAD, sorted and relative to the data
    /// dir: changed, deleted and new files. It does not matter whether a change is staged. `.gitignore` and
    /// `.git/info/exclude` hide new files. Like git, this leaves out repositories inside the data dir, empty
    /// directories, and new files that are neither regular files nor links; it also leaves out names that are not
    /// UTF-8. A listed path may be a link, or it may be missing or a directory if the file of HEAD was deleted: check
    /// before opening it.
    ///
    /// # Errors
    /// When HEAD, the index, a directory or a file with new stat data cannot be read.
    pub fn changed(&self) -> Result<Vec<String>> {
        let head = self.head_id()?.map(|id| self.files_of(id)).transpose()?.unwrap_or_default();
        let index = self.index()?;
        Scan::run(&self.dir, &head, &index)
    }

    /// Removes the locks that a killed commit of looop left. Call it only while no other process commits through this
    /// type; a lock of another git stays.
    ///
    /// If the newest commit cannot be read, as after a power loss, the branch goes back to the newest readable one.
    /// Returns messages about what was given up and which locks of other programs were removed.
    ///
    /// # Errors
    /// When a lock could not be removed, or if no commit can be read.
    pub fn heal(&self) -> Result<Vec<String>> {
        let lost = match self.check_tip() {
            Ok(()) => None,
            Err(why) => Some(heal::go_back(&self.dir, &why, |id| self.is_whole(id))?),
        };
        let tree = self.head_id()?.map(|id| self.tree_of(id)).transpose()?;
        let mut notes = heal::heal(&self.dir, tree.map(|tree| tree.to_string()))?;
        notes.extend(lost);
        Ok(notes)
    }

    /// Tries a commit of HEAD's content up to the last step, and undoes it: stores and removes the object, locks and
    /// unlocks the branch. Call it only while no other process commits through this type.
    ///
    /// # Errors
    /// Says why a commit cannot be made.
    pub fn try_commit(&self, who: &Signature) -> Result<()> {
        use gix::refs::transaction::{PreviousValue, RefEdit};
        let who = actor(who)?;
        let (lock, _) = self.lock_index()?;
        self.refuse_blocked()?;
        self.refuse_at_work()?;
        let parent = self.head_id()?;
        let tree = parent.map_or_else(|| Ok(self.empty_tree()), |id| self.tree_of(id))?;
        let (mut a, mut c) = Default::default();
        let message = "looop doctor: a trial commit, undone at once\n";
        let made = self.repo.new_commit_as(who.to_ref(&mut c), who.to_ref(&mut a), message, tree, parent);
        let id = made.context("could not store a commit")?.id;
        let expected = parent.map_or(PreviousValue::MustNotExist, |id| {
            PreviousValue::MustExistAndMatch(gix::refs::Target::Object(id))
        });
        let head = "HEAD".try_into().context("could not name the branch")?;
        let edit = RefEdit::update(head, id, expected, "looop doctor").with_deref(true);
        let fail = gix::lock::acquire::Fail::Immediately;
        let prepared = self.repo.refs.transaction().prepare([edit], fail, fail);
        let taken = prepared.map(drop).context("could not lock the branch");
        // If the branch is packed, this directory was empty, and gix removed it with the lock.
        let heads = self.repo.git_dir().join("refs/heads");
        fs::create_dir_all(&heads).doing("make", &heads)?;
        let object =
            self.repo.git_dir().join("objects").join(&id.to_string()[..2]).join(&id.to_string()[2..]);
        let removed = fs::remove_file(&object).context("could not remove a commit that was made on trial");
        // The directory existed before, or it is empty.
        drop(object.parent().map(fs::remove_dir));
        drop(lock);
        taken.and(removed)
    }

    /// Reads the newest commit and its directories.
    pub fn check_tip(&self) -> Result<()> {
        self.head_id()?.map(|id| self.files_of(id)).transpose().map(|_| ())
    }

    /// Commits `edits` on top of HEAD's files and moves HEAD's branch, if HEAD is still the commit to which the edits were
    /// applied. Of two edits of one path the last one counts. The message is stored unchanged, and the reflog names the
    /// committer. Returns the id of the commit; returns `None` and writes nothing if HEAD already has these
    /// files.
    ///
    /// Files that git has staged otherwise stay staged. A committed file whose content on disk differs from the commit
    /// shows as modified in `git status`.
    ///
    /// # Errors
    /// [`Blocked`] (found by `downcast_ref`) when a commit must not be made now. Otherwise when git cannot store a
    /// path, a name or the message, when another process moved the branch, or when a file could not be read or written.
    /// HEAD and the index are then unchanged, unless the last step failed, which puts the written index in place.
    pub fn commit(
        &self,
        message: &str,
        author: &Signature,
        committer: &Signature,
        edits: &[FileEdit],
    ) -> Result<Option<String>> {
        let (author, committer) = (actor(author)?, actor(committer)?);
        ensure!(!message.contains('\0'), "could not commit: the message has a NUL byte");
        let edits = Edits::new(edits)?;
        let marker = heal::Marker::set(&self.dir)?;
        // In this order, a git command that changes branches cannot come in between.
        let (mut lock, since) = self.lock_index()?;
        self.refuse_blocked()?;
        let parent = self.head_id()?;
        let base = parent.map_or_else(|| Ok(self.empty_tree()), |id| self.tree_of(id))?;
        let (tree, blobs) = self.write_tree(base, &edits)?;
        if tree == base {
            return Ok(None);
        }
        self.write_index(&mut lock, since, base, &edits, &blobs).context("could not write the git index")?;
        marker.index_is_written(&tree.to_string())?;
        self.refuse_at_work()?;
        let (mut a, mut c) = Default::default();
        let id = self
            .repo
            .commit_as(committer.to_ref(&mut c), author.to_ref(&mut a), "HEAD", message, tree, parent)
            .context("could not commit")?;
        // Last, so that the index stays unchanged if the branch could not be moved.
        lock.commit().map_err(|e| e.error).context("could not put the new git index in place")?;
        Ok(Some(id.to_string()))
    }

    /// Reads the content of the file (or the target of the link) at `path` in `commit`, a full commit id; `None` if the
    /// commit has no file there.
    ///
    /// # Errors
    /// When there is no such commit, or the file has more than `cap_bytes` bytes.
    pub fn read(&self, commit: &str, path: &str, cap_bytes: usize) -> Result<Option<Vec<u8>>> {
        let cause = || format!("could not read {path} of commit {commit}");
        let tree = self.commit_at(commit)?.tree().with_context(cause)?;
        let entry = match tree.lookup_entry(path.split('/').map(str::as_bytes)).with_context(cause)? {
            Some(entry) if entry.mode().is_blob_or_symlink() => entry,
            _ => return Ok(None),
        };
        let size = self.repo.find_header(entry.object_id()).with_context(cause)?.size();
        ensure!(size <= cap_bytes as u64, "{}: it has {size} bytes, more than {cap_bytes}", cause());
        Ok(Some(self.repo.find_blob(entry.object_id()).with_context(cause)?.take_data()))
    }

    /// Lists the paths of all files and links of `commit` (a full commit id) below the directory `prefix` (`""` means
    /// all), sorted and relative to the data dir. Empty if there is no such directory; leaves out names that are not
    /// UTF-8.
    ///
    /// # Errors
    /// When there is no such commit.
    pub fn list(&self, commit: &str, prefix: &str) -> Result<Vec<String>> {
        let below = format!("{}/", prefix.trim_matches('/'));
        let files = self.files_of(self.commit_at(commit)?.id)?.into_iter();
        let files = files
            .filter(|(path, leaf)| leaf.mode != Mode::COMMIT && (below == "/" || path.starts_with(&below)));
        Ok(files.map(|(path, _)| path).collect())
    }

    /// Lists the paths of all files of the newest commit, sorted.
    ///
    /// # Errors
    /// When HEAD or its files cannot be read.
    pub fn tracked(&self) -> Result<Vec<String>> {
        self.head()?.map_or_else(|| Ok(Vec::new()), |head| self.list(&head, ""))
    }

    /// Returns the full id of the commit that `rev` names: `HEAD`, a branch, or a commit id of 4 to 40 hex digits;
    /// `None` if there is no such commit.
    ///
    /// # Errors
    /// When `rev` is the start of more than one commit id, or the repository cannot be read.
    pub fn resolve(&self, rev: &str) -> Result<Option<String>> {
        let cause = || format!("could not look up the commit {rev}");
        if rev == "HEAD" {
            return self.head();
        }
        if let Ok(name) = gix::refs::FullName::try_from(format!("refs/heads/{rev}"))
            && let Some(mut branch) = self.repo.try_find_reference(&name).with_context(cause)?
        {
            return Ok(Some(branch.peel_to_commit().with_context(cause)?.id.to_string()));
        }
        let Ok(prefix) = gix::hash::Prefix::from_hex(rev) else {
            return Ok(None);
        };
        let mut ids = HashSet::new();
        self.repo.objects.lookup_prefix(prefix, Some(&mut ids)).with_context(cause)?;
        let mut commits = Vec::new();
        for id in ids {
            if self.repo.find_header(id).with_context(cause)?.kind() == gix::objs::Kind::Commit {
                commits.push(id.to_string());
            }
        }
        ensure!(commits.len() < 2, "{}: {} commit ids start so", cause(), commits.len());
        Ok(commits.pop())
    }

    /// Returns the whole message of `commit`, a full commit id.
    ///
    /// # Errors
    /// When there is no such commit.
    pub fn message(&self, commit: &str) -> Result<String> {
        let commit = self.commit_at(commit)?;
        Ok(commit.message_raw().context("could not read a commit")?.to_str_lossy().into_owned())
    }

    /// Lists the newest `limit` commits, newest first, along first parents from HEAD.
    ///
    /// # Errors
    /// When HEAD or a commit cannot be read.
    pub fn log(&self, limit: usize) -> Result<Vec<LogEntry>> {
        let mut next = self.head_id()?;
        let mut entries = Vec::new();
        while entries.len() < limit
            && let Some(id) = next
        {
            let cause = || format!("could not read commit {id}");
            let commit = self.repo.find_commit(id).with_context(cause)?;
            let commit = commit.decode().with_context(cause)?;
            let author = commit.author().with_context(cause)?;
            entries.push(LogEntry {
                id: id.to_string(),
                author: author.name.to_str_lossy().into_owned(),
                unix_s: author.seconds(),
                message: commit.message.to_str_lossy().into_owned(),
            });
            next = commit.parents().next();
        }
        Ok(entries)
    }

    /// Estimates the number of loose objects as `git gc --auto` does: from one of the 256 directories that hold them.
    ///
    /// # Errors
    /// When that directory exists but cannot be read.
    pub fn loose_objects(&self) -> Result<usize> {
        let listed = file::present(fs::read_dir(self.repo.git_dir().join("objects/17")));
        Ok(listed.context("could not count the git objects")?.map_or(0, |listed| listed.count() * 256))
    }
}

/// Why no commit may be made now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Blocked {
    /// Another git holds a lock, or died while it held it.
    #[error("could not commit: {} exists", lock.display())]
    Locked { lock: PathBuf },
    /// A git command of another program, named with its process, may be about to move the branch.
    #[error("could not commit: {command} is running in the data dir")]
    AtWork { command: String },
    /// HEAD is not on a branch, so a commit would be lost.
    #[error("could not commit: HEAD of {} is on no branch", dir.display())]
    DetachedHead { dir: PathBuf },
    /// A git command is unfinished: `merge`, `rebase`, `cherry-pick`, `revert`, `bisect` or `am`.
    #[error("could not commit: a git {what} is in progress in {}", dir.display())]
    InProgress { dir: PathBuf, what: &'static str },
}

impl Blocked {
    /// Returns what the user can do about it, as one line without a final stop.
    pub fn hint(&self) -> String {
        match self {
            Self::Locked { lock } => format!(
                "if no git command is running in the data dir, run `rm {}`; a beat removes the lock once it is a minute old",
                quoted(lock)
            ),
            Self::AtWork { .. } => "let it finish: the next beat commits what is missing".to_owned(),
            Self::DetachedHead { dir } => format!("run `git -C {} switch main`", quoted(dir)),
            Self::InProgress { dir, what } => {
                let end = if *what == "bisect" { "reset" } else { "--abort" };
                format!("finish the {what}, or abort it with `git -C {} {what} {end}`", quoted(dir))
            }
        }
    }
}

/// Quotes `path` as one word of a shell command.
fn quoted(path: &Path) -> String {
    quote_argv(&[path.display().to_string()])
}

/// The files of a commit by path.
type Leaves = BTreeMap<String, Leaf>;

/// A file of a tree: its kind and its blob.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Leaf {
    mode: Mode,
    id: ObjectId,
}

impl History {
    fn head_id(&self) -> Result<Option<ObjectId>> {
        let head = self.repo.head().and_then(gix::Head::try_into_peeled_id);
        Ok(head.context("could not read HEAD")?.map(gix::Id::detach))
    }

    /// Refuses a commit that must not be made now. The index is locked by then.
    fn refuse_blocked(&self) -> Result<()> {
        self.blocked_but_for_the_lock()?.map_or(Ok(()), |blocked| Err(blocked.into()))
    }

    /// Refuses a commit while another command may need the branch as it is: git read it before it opened its editor,
    /// and refuses its own commit if the branch has moved since. Checked last, because a command that read the branch
    /// just before the index was locked has begun its message by then.
    fn refuse_at_work(&self) -> Result<()> {
        // Scanning all processes is slow, so do it only if there may be such a command.
        let command = locks::may_hold_branch(&self.dir).then(|| locks::at_work(&self.dir)).flatten();
        command
            .map_or(Ok(()), |command| Err(Blocked::AtWork { command: locks::command_words(&command) }.into()))
    }

    fn blocked_but_for_the_lock(&self) -> Result<Option<Blocked>> {
        let dir = self.dir.clone();
        // A rebase detaches HEAD, so check for it first to name it.
        if let Some(state) = self.repo.state() {
            let what = match state {
                InProgress::ApplyMailbox => "am",
                InProgress::ApplyMailboxRebase | InProgress::Rebase | InProgress::RebaseInteractive => {
                    "rebase"
                }
                InProgress::Bisect => "bisect",
                InProgress::CherryPick | InProgress::CherryPickSequence => "cherry-pick",
                InProgress::Merge => "merge",
                InProgress::Revert | InProgress::RevertSequence => "revert",
            };
            return Ok(Some(Blocked::InProgress { dir, what }));
        }
        let head = self.repo.head().context("could not read HEAD")?;
        Ok(head.is_detached().then_some(Blocked::DetachedHead { dir }))
    }

    /// Reads the index from disk: gix refreshes its own copy only when the file's time changes, and `commit` may set
    /// the same time twice.
    fn index(&self) -> Result<gix::index::File> {
        let options = gix::index::decode::Options { thread_limit: Some(1), ..Default::default() };
        gix::index::File::at_or_default(self.repo.index_path(), self.repo.object_hash(), false, options)
            .context("could not read the git index")
    }

    fn commit_at(&self, id: &str) -> Result<gix::Commit<'_>> {
        let cause = || format!("could not read commit {id}");
        self.repo.find_commit(ObjectId::from_hex(id.as_bytes()).with_context(cause)?).with_context(cause)
    }

    fn tree_of(&self, commit: ObjectId) -> Result<ObjectId> {
        let tree = self.repo.find_commit(commit).and_then(|c| Ok(c.tree_id()?.detach()));
        tree.with_context(|| format!("could not read commit {commit}"))
    }

    /// Lists all files of a commit.
    fn files_of(&self, commit: ObjectId) -> Result<Leaves> {
        let tree = self.repo.find_tree(self.tree_of(commit)?).context("could not read a git tree")?;
        let entries = tree.traverse().breadthfirst.files().context("could not read a git tree")?;
        let files = entries.into_iter().filter(|entry| !entry.mode.is_tree()).filter_map(|entry| {
            let path = entry.filepath.to_str().ok()?.to_owned();
            Some((path, Leaf { mode: Mode::from(entry.mode.kind()), id: entry.oid }))
        });
        Ok(files.collect())
    }
}

/// Makes the repository beside its place and moves it in, so that a crash leaves none or a whole one. Removes the rest
/// of an earlier try first.
fn make(dir: &Path, git: &Path) -> Result<()> {
    let aside = dir.join(ASIDE);
    file::present(fs::remove_dir_all(&aside))?;
    fs::create_dir(&aside)?;
    let made = aside.join(".git");
    let options = gix::open::Options::isolated();
    gix::ThreadSafeRepository::init_opts(
        &aside,
        gix::create::Kind::WithWorktree,
        Default::default(),
        options,
    )?;
    // gix adds git's sample hooks; a data dir does not need them.
    fs::remove_dir_all(made.join("hooks"))?;
    fs::set_permissions(&made, fs::Permissions::from_mode(0o700))?;
    fs::rename(&made, git)?;
    Ok(())
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
