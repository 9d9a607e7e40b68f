//! Every git command line that looop runs, and the only way to run one.
//!
//! # Guarantees
//! - Git reads one config file: the one that looop wrote into a [`GitDir`]. Files of the user, of the system and of the
//!   inspected repository are ignored, and so are hooks, attributes files and variables of the caller.
//! - Git runs no command in a nested repository: no command here walks through untrusted files. If a command has a
//!   folder of files, [`GitCommand::files`] says so, and looop or git made the list of files before.
//! - A command has a deadline, and limits on its output and its memory.

pub mod dir;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::os::clock::Deadline;
use crate::os::process::{self, Job, OutputLimit, ProcessCommand, ProcessExit, Sink, Stream};
use crate::os::program;
use crate::os::signal::Cancel;
use crate::rules::fault::Fault;
use crate::rules::json::clip;
use crate::rules::text::visible;
use crate::rules::user_side::TreeDifference;

pub use dir::{GitDir, RepoLink};

/// The most that one command may print, in bytes.
const MAX_OUTPUT_BYTES: usize = 128 << 20;
/// The most memory of its own that one git process may have, in KiB. Mapped packs do not count.
const MAX_MEMORY_KIB: u64 = 2 << 20;
/// The most files and folders that a commit may have.
pub const MAX_ENTRIES: usize = 500_000;

/// Sets the limit on memory, then becomes git. A lower limit of the caller stays.
const LIMITED: &str = "ulimit -d \"$1\" 2>/dev/null; shift; exec \"$@\"";

/// The whole environment besides PATH and the variables of a [`GitDir`]. Without HOME git finds no files of the user.
const ENV: [(&str, &str); 9] = [
    ("LC_ALL", "C"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_OPTIONAL_LOCKS", "0"),
    ("GIT_NO_LAZY_FETCH", "1"),
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    // An empty list of transports: no command here contacts another repository.
    ("GIT_ALLOW_PROTOCOL", ""),
];

/// Settings that override any config file.
const SETTINGS: [(&str, &str); 13] = [
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.untrackedCache", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.excludesFile", "/dev/null"),
    ("core.fsync", "objects,derived-metadata,reference"),
    ("core.protectNTFS", "false"),
    ("gc.auto", "0"),
    ("gc.recentObjectsHook", ""),
    ("maintenance.auto", "false"),
    // A hook can also be a setting, which `core.hooksPath` does not cover.
    ("hook.reference-transaction.enabled", "false"),
    ("pack.threads", "2"),
    ("pack.windowMemory", "256m"),
];

/// One git command. Each variant says which data it reads besides the config of its [`GitDir`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GitCommand<'a> {
    /// Returns the id that a name resolves to; exit code 1 if there is none. Reads refs, and the object.
    Resolve(&'a str),
    /// Checks whether an object exists. Reads objects.
    HasObject(&'a str),
    /// Lists refs below these names, with their ids and the worktree that has each checked out. Reads refs and
    /// worktrees.
    Refs(&'a [&'a str]),
    /// Lists all refs with the ids and kinds of their objects. Reads refs and objects.
    RefKinds,
    /// Points a ref at a commit if it has the old value: zeros mean that it must not exist, `None` means any value. Reads
    /// and writes refs.
    SetRef { name: &'a str, to: &'a str, old: Option<&'a str> },
    /// Removes a ref that has this value. Reads and writes refs.
    DeleteRef { name: &'a str, old: &'a str },
    /// Lists commits that the lines on stdin reach, except those behind `^`. Reads commits.
    Commits,
    /// Counts the commits in a range. Reads commits.
    CountCommits(&'a str),
    /// Lists the stashes. Reads the log of `refs/stash`.
    Stashes,
    /// Checks whether one commit is an ancestor of another; exit code 1 if not. Reads commits.
    IsAncestor(&'a str, &'a str),
    /// Lists every file and folder of a tree. Reads trees.
    Entries(&'a str),
    /// Fills the folder of a clone that looop just made with the files of its HEAD. Reads objects and the attributes in
    /// the tree; the config has no filter that they could name.
    CheckOut,
    /// Fills an index of looop with a tree. Reads trees.
    ReadTree(&'a str),
    /// Fills an index of looop with the entries on stdin. Reads nothing else.
    FillIndex,
    /// Stores an index of looop as trees. Reads the index.
    WriteTree,
    /// Lists paths in which an index differs from a commit. Reads the index and trees; no file and no nested
    /// repository.
    Staged(&'a str),
    /// Computes the git ids of the files on stdin, of their unchanged bytes if raw. Reads these files; if not raw, also
    /// the attributes in the folder, and the config has no filter that they could name.
    HashFiles { raw: bool },
    /// Stores the blobs of a stream on stdin, and prints the ids for which the stream asks. Reads the stream.
    Import,
    /// Makes a commit of a tree. Reads objects.
    Commit { tree: &'a str, parent: Option<&'a str>, message: &'a str },
    /// Prints the difference of two trees as text, with so many lines of context. Reads trees and blobs.
    Diff { from: &'a str, to: &'a str, context: u32 },
    /// Lists the paths in which two trees differ. Reads trees.
    Changes(&'a str, &'a str),
    /// Prints the size of one object, in bytes. Reads it.
    Size(&'a str),
    /// Prints the bytes of one blob. Reads it.
    Blob(&'a str),
    /// Prints the bytes of the blobs whose ids are on stdin. Reads them.
    Blobs,
    /// Packs the objects that the lines on stdin reach, except those behind `^`; the names of the pack's files begin with
    /// `stem`. Reads objects.
    Pack { stem: &'a str },
    /// Stores the pack on stdin after a check of each object. Reads the pack, and the objects on which it builds.
    TakePack,
    /// Packs a history of looop. Reads and writes objects and refs, reads logs, worktrees and the index.
    CollectGarbage,
}

impl GitCommand<'_> {
    /// Returns the arguments of git.
    pub fn args(&self) -> Vec<String> {
        let words = |words: &str, more: &[&str]| -> Vec<String> {
            words.split(' ').chain(more.iter().copied()).map(str::to_owned).collect()
        };
        match *self {
            GitCommand::Resolve(name) => words("rev-parse -q --verify", &[name]),
            GitCommand::HasObject(oid) => words("cat-file -e", &[oid]),
            GitCommand::Refs(below) => {
                let format = "--format=%(refname)%00%(objectname)%00%(worktreepath)";
                words("for-each-ref", &[&[format], below].concat())
            }
            GitCommand::RefKinds => {
                words("for-each-ref", &["--format=%(objectname) %(objecttype) %(refname)"])
            }
            GitCommand::SetRef { name, to, old } => {
                let mut args = words("update-ref -m looop", &[name, to]);
                args.extend(old.map(str::to_owned));
                args
            }
            GitCommand::DeleteRef { name, old } => words("update-ref -d", &[name, old]),
            // Objects of this repository that the other one cannot see are useless here.
            GitCommand::Commits => words("rev-list --ignore-missing --stdin", &[]),
            GitCommand::CountCommits(range) => words("rev-list --count", &[range]),
            GitCommand::Stashes => words("rev-list -g refs/stash", &[]),
            GitCommand::IsAncestor(old, new) => words("merge-base --is-ancestor", &[old, new]),
            // Folders too: a tree of nothing but folders can also be huge.
            GitCommand::Entries(tree) => words("ls-tree -r -t -z --full-tree", &[tree]),
            GitCommand::CheckOut => words("reset -q --hard", &[]),
            GitCommand::ReadTree(tree) => words("read-tree", &[tree]),
            GitCommand::FillIndex => words("update-index -z --index-info", &[]),
            GitCommand::WriteTree => words("write-tree", &[]),
            GitCommand::Staged(head) => {
                let fixed = "diff-index --cached --name-only -z --no-renames --no-ext-diff";
                words(fixed, &["--ignore-submodules=all", head])
            }
            GitCommand::HashFiles { raw: true } => words("hash-object --no-filters --stdin-paths", &[]),
            GitCommand::HashFiles { raw: false } => words("hash-object --stdin-paths", &[]),
            GitCommand::Import => words("fast-import --quiet", &[]),
            GitCommand::Commit { tree, parent, message } => {
                let mut args = words("commit-tree --no-gpg-sign", &["-m", message]);
                args.extend(parent.iter().flat_map(|parent| ["-p".to_owned(), (*parent).to_owned()]));
                args.push(tree.to_owned());
                args
            }
            GitCommand::Diff { from, to, context } => {
                let fixed = "diff --no-color --no-ext-diff --no-textconv --no-renames";
                words(fixed, &[&format!("-U{context}"), from, to])
            }
            GitCommand::Changes(from, to) => {
                words("diff-tree -r -z --no-renames --no-ext-diff --raw", &[from, to])
            }
            GitCommand::Size(oid) => words("cat-file -s", &[oid]),
            GitCommand::Blob(oid) => words("cat-file blob", &[oid]),
            GitCommand::Blobs => words("cat-file --batch --buffer", &[]),
            GitCommand::Pack { stem } => words("pack-objects -q --revs", &[stem]),
            GitCommand::TakePack => words("index-pack --stdin --strict --keep=looop", &[]),
            GitCommand::CollectGarbage => words("gc --quiet", &[]),
        }
    }

    /// Returns true for a command that opens files in the folder of its [`GitDir`].
    pub fn files(&self) -> bool {
        matches!(self, GitCommand::CheckOut | GitCommand::HashFiles { .. })
    }

    fn word(&self) -> String {
        self.args().swap_remove(0)
    }
}

/// Git with a deadline and a cancellation.
#[derive(Debug)]
pub struct Git<'a> {
    /// The user whose repositories are accepted; those of other users are refused.
    pub owner: u32,
    program: PathBuf,
    path: String,
    deadline: Deadline,
    cancel: &'a Cancel,
}

/// Makes the error for a failed action on a repository.
pub fn fault(doing: &str, why: &str) -> anyhow::Error {
    Fault::failed(format!("could not {doing}: {why}")).into()
}

/// Returns a path as an argument.
///
/// # Errors
/// When it is not UTF-8.
pub fn text(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| fault(&format!("use the path `{}`", path.display()), "it is not UTF-8"))
}

impl<'a> Git<'a> {
    /// Finds git on a PATH.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn find(path: &str, timeout_ms: i64, cancel: &'a Cancel) -> Result<Git<'a>> {
        let program = program::find_program("git", path, Path::new("/")).ok_or_else(|| {
            Fault::failed("could not work on a repository: `git` is not on the PATH")
                .hint("install git, or name its directory in `path` of the config")
        })?;
        let deadline = Deadline::after_ms(timeout_ms);
        let owner = rustix::process::geteuid().as_raw();
        Ok(Git { owner, program, path: path.to_owned(), deadline, cancel })
    }

    /// Fails once the deadline has passed or the user has interrupted.
    pub fn check(&self) -> Result<()> {
        match (self.deadline.passed(), self.cancel.is_set()) {
            (_, true) => Err(fault("continue", "it was interrupted")),
            (true, _) => Err(fault("continue", "it ran into its timeout")),
            _ => Ok(()),
        }
    }

    /// Runs git, which must exit with code 0, and returns its output.
    ///
    /// # Errors
    /// Says what failed, with the message of git.
    pub fn run(&self, dir: &GitDir, command: &GitCommand) -> Result<Vec<u8>> {
        self.run_with(dir, command, None, None)
    }

    /// As [`Git::run`], with a file on stdin. If there is a sink, the output goes there piece by piece, and git is ended
    /// once that returns false.
    pub fn run_with(
        &self,
        dir: &GitDir,
        command: &GitCommand,
        input: Option<File>,
        sink: Option<Sink>,
    ) -> Result<Vec<u8>> {
        match self.start(dir, command, input, sink)? {
            (ProcessExit::Code(0), stdout, _) => Ok(stdout),
            (exit, _, stderr) => Err(failed(dir, command, &exit, &stderr)),
        }
    }

    /// As [`Git::run`], with these bytes on stdin.
    pub fn feed(&self, dir: &GitDir, command: &GitCommand, input: &[u8]) -> Result<Vec<u8>> {
        self.run_with(dir, command, Some(input_of(dir, input)?), None)
    }

    /// Returns the output of git as one line, without the line break at its end.
    ///
    /// # Errors
    /// As [`Git::run`], and when the line is not UTF-8.
    pub fn line(&self, dir: &GitDir, command: &GitCommand) -> Result<String> {
        let text = String::from_utf8(self.run(dir, command)?);
        let text =
            text.map_err(|_| fault(&format!("run git {}", command.word()), "its output is not UTF-8"))?;
        Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
    }

    /// Returns true for exit code 0, false for 1.
    ///
    /// # Errors
    /// As [`Git::run`], for any other exit code.
    pub fn holds(&self, dir: &GitDir, command: &GitCommand) -> Result<bool> {
        Ok(self.answer(dir, command)?.is_some())
    }

    /// Returns the line that git printed with exit code 0; `None` for exit code 1.
    ///
    /// # Errors
    /// As [`Git::run`], for any other exit code.
    pub fn answer(&self, dir: &GitDir, command: &GitCommand) -> Result<Option<String>> {
        match self.start(dir, command, None, None)? {
            (ProcessExit::Code(0), stdout, _) => {
                Ok(Some(String::from_utf8_lossy(&stdout).trim_end().to_owned()))
            }
            (ProcessExit::Code(1), ..) => Ok(None),
            (exit, _, stderr) => Err(failed(dir, command, &exit, &stderr)),
        }
    }

    /// Lists every file and folder of a tree: its path from the top, its mode (`0o40000` for a folder) and object. Counts
    /// them while git prints: a small commit can name any number.
    ///
    /// # Errors
    /// As [`Git::run`], and when there are more than [`MAX_ENTRIES`].
    pub fn entries(&self, dir: &GitDir, tree: &str) -> Result<Vec<(Vec<u8>, u32, String)>> {
        let mut listed = Vec::new();
        let mut count = 0;
        let sink: Sink = Box::new(|bytes| {
            count += bytes.iter().filter(|byte| **byte == 0).count();
            listed.extend_from_slice(bytes);
            count <= MAX_ENTRIES && listed.len() <= MAX_OUTPUT_BYTES
        });
        let ended = self.run_with(dir, &GitCommand::Entries(tree), None, Some(sink));
        if count > MAX_ENTRIES || listed.len() > MAX_OUTPUT_BYTES {
            let what = format!("could not read the files of {tree}: it has more than {MAX_ENTRIES}");
            return Err(Fault::failed(what).hint("looop does not work on a commit of that size").into());
        }
        ended?;
        listed.split(|byte| *byte == 0).filter(|line| !line.is_empty()).map(entry_of).collect()
    }

    /// Lists the paths in which two trees differ.
    ///
    /// # Errors
    /// When a tree does not exist.
    pub fn changes(&self, dir: &GitDir, from: &str, to: &str) -> Result<Vec<TreeDifference>> {
        let raw = self.run(dir, &GitCommand::Changes(from, to))?;
        let mut parts = raw.split(|byte| *byte == 0);
        let mut changes = Vec::new();
        while let (Some(head), Some(path)) = (parts.next().filter(|head| !head.is_empty()), parts.next()) {
            let head = String::from_utf8_lossy(head);
            let fields: Vec<&str> = head.trim_start_matches(':').split(' ').collect();
            let side = |mode: usize, oid: usize| {
                let mode = u32::from_str_radix(fields.get(mode)?, 8).ok().filter(|mode| *mode != 0)?;
                Some((mode, (*fields.get(oid)?).to_owned()))
            };
            let path = PathBuf::from(OsStr::from_bytes(path));
            changes.push(TreeDifference { path, old: side(0, 2), new: side(1, 3) });
        }
        Ok(changes)
    }

    fn start(
        &self,
        dir: &GitDir,
        command: &GitCommand,
        input: Option<File>,
        sink: Option<Sink>,
    ) -> Result<(ProcessExit, Vec<u8>, String)> {
        self.check()?;
        let mut args: Vec<String> =
            ["-c", LIMITED, "sh", &MAX_MEMORY_KIB.to_string()].map(str::to_owned).into();
        args.push(text(&self.program)?);
        args.extend(command.args());
        let keep = if sink.is_some() { OutputLimit::Head(0) } else { OutputLimit::All(MAX_OUTPUT_BYTES) };
        let timeout_ms = i64::try_from(self.deadline.left().as_millis()).unwrap_or(i64::MAX);
        let cwd = dir.cwd(command.files());
        let stdin = input.map_or(Stream::Null, Stream::from);
        let process = ProcessCommand { stdin, ..ProcessCommand::new("/bin/sh", args, self.env(dir), cwd) };
        let job = Job { sink, ..Job::new(process, keep, timeout_ms) };
        let ended = process::run_one(job, self.cancel, None).context("could not run git")?;
        Ok((ended.exit, ended.stdout, String::from_utf8_lossy(&ended.stderr).into_owned()))
    }

    fn env(&self, dir: &GitDir) -> Vec<(String, String)> {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let mut env: Vec<(String, String)> = ENV.iter().map(own).collect();
        env.push(("PATH".to_owned(), self.path.clone()));
        env.extend(dir.vars.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        env.push(("GIT_CONFIG_COUNT".to_owned(), SETTINGS.len().to_string()));
        for (n, (key, value)) in SETTINGS.iter().enumerate() {
            env.push((format!("GIT_CONFIG_KEY_{n}"), (*key).to_owned()));
            env.push((format!("GIT_CONFIG_VALUE_{n}"), (*value).to_owned()));
        }
        env
    }
}

/// Writes input into a file, so that git never waits for looop.
pub(super) fn input_of(dir: &GitDir, bytes: &[u8]) -> Result<File> {
    let path = dir.path().join("input");
    let written = fs::write(&path, bytes).and_then(|()| File::open(&path));
    written.context("could not write the input of git")
}

/// The name of the git directory is left out: it may be temporary. The state of a worker keeps the reason for which its
/// branch could not be fetched, and another reason at each beat would make each beat ask for a decision.
fn failed(dir: &GitDir, command: &GitCommand, exit: &ProcessExit, stderr: &str) -> anyhow::Error {
    let stderr = stderr.replace(&*dir.path().to_string_lossy(), "GIT_DIR");
    let words = clip(&visible(stderr.trim(), false), 400);
    let why = match exit {
        ProcessExit::Timeout => "it ran into its timeout".to_owned(),
        ProcessExit::Cancelled => "it was interrupted".to_owned(),
        exit if words.is_empty() => exit.to_string(),
        exit => format!("{exit} ({words})"),
    };
    let what = format!("could not run git {}: {why}", command.word());
    if ["ut of memory", "annot allocate memory"].iter().any(|sign| stderr.contains(sign)) {
        let most = MAX_MEMORY_KIB >> 20;
        let hint = format!("looop gives git {most} GiB of memory: the repository needs more than that");
        return Fault::failed(what).hint(hint).into();
    }
    Fault::failed(what).into()
}

fn entry_of(line: &[u8]) -> Result<(Vec<u8>, u32, String)> {
    let tab = line.iter().position(|byte| *byte == b'\t');
    let parsed = tab.and_then(|tab| {
        let mut fields = std::str::from_utf8(&line[..tab]).ok()?.split(' ');
        let mode = u32::from_str_radix(fields.next()?, 8).ok()?;
        Some((line[tab + 1..].to_vec(), mode, fields.nth(1)?.to_owned()))
    });
    parsed.ok_or_else(|| fault("read a tree", "git lists it in an unknown format"))
}
