//! A repository of looop that keeps states of files which the user has not committed: each attempt of a fix.
//!
//! It is beside the clone in which an agent works, not in it, so that changes of the agent to its `.git` do not affect
//! the kept states. Files are stored unchanged: without filters, end-of-line conversion or attributes of the
//! repository.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::store::file::{self, Doing, Durability};
use anyhow::{Context, Result};

use super::files::{FileEntry, FileRecord, FileStat, Folder, Listing, Records, walk};
use super::source::{Source, inspect};
use crate::os::clock;
use crate::os::process::Sink;
use crate::rules::user_side::{GITLINK, LINK, TreeDifference};
use crate::vcs::git::dir::read_plain;
use crate::vcs::git::{Git, GitCommand, GitDir, fault, input_of};
use crate::vcs::history::ignored::Ignored;
use crate::vcs::history::repository::RepoForm;

/// The branch from which clones of the states are made.
const BRANCH: &str = "base";
/// How much is passed to git at once, in bytes and files.
const BATCH: (u64, usize) = (64 << 20, 5_000);
/// How old a file's last change must be before a new time alone proves the next change, in milliseconds.
const SETTLED_MS: i64 = 200;
/// The first line of the remembered list of a folder.
const FORM: &str = "looop files 2";
/// The longest such list, in bytes.
const MAX_LIST_BYTES: usize = 1 << 30;

/// The repository of states.
#[derive(Clone, Debug)]
pub struct Trees {
    pub dir: PathBuf,
    git_dir: GitDir,
    excludes: Option<PathBuf>,
    head: Option<String>,
}

/// Makes the repository elsewhere and moves it to its place: a half-made one would look complete.
fn make(dir: &Path, source: Option<&Source>) -> Result<()> {
    let new = dir.with_extension("new");
    let failed = || format!("could not make `{}`", new.display());
    for old in [&new, dir] {
        file::present(fs::remove_dir_all(old)).with_context(failed)?;
    }
    fs::create_dir_all(&new).with_context(failed)?;
    let format = source.map(|source| source.objects_format()).unwrap_or_default();
    GitDir::create(&new.join(".git"), format, BRANCH, "")?;
    fs::rename(&new, dir).doing("make", dir)
}

/// The empty tree, in both formats of objects.
const EMPTY: [&str; 2] = [
    "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
];

/// Returns true for the empty tree.
pub fn is_empty(tree: &str) -> bool {
    EMPTY.contains(&tree)
}

/// The growth of a directory since the state before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grown {
    /// How many files are new or changed.
    pub files: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// The directories that are nested repositories: their files are not stored.
    pub nested: Vec<String>,
}

impl Trees {
    /// Opens the repository in `dir`, or makes it; borrows the objects of the source, if there is one.
    pub fn open(git: &Git, dir: &Path, source: Option<&Source>) -> Result<Trees> {
        let inside = dir.join(".git");
        if !inside.join("HEAD").exists() {
            make(dir, source)?;
        }
        let format =
            RepoForm::read(&inside).map_err(|why| fault(&format!("open `{}`", dir.display()), &why))?;
        let git_dir = GitDir::create(&inside, format.format, BRANCH, "")?;
        let excludes = source.map(|source| source.common.join("info/exclude"));
        let head = source.map(|source| source.head.clone());
        let trees = Trees { dir: dir.to_owned(), git_dir, excludes, head };
        if let Some(source) = source {
            source.lend(git, &trees.git_dir, &source.head)?;
        }
        Ok(trees)
    }

    /// Returns the path of the remembered list of a folder; `word` identifies the folder.
    fn list_of(&self, word: &str) -> PathBuf {
        self.git_dir.path().join(format!("files-{word}"))
    }

    /// Forgets the remembered list of a folder: its files may have changed without a new time.
    pub fn forget(&self, word: &str) {
        // If the list stays, it is compared with the files.
        drop(fs::remove_file(self.list_of(word)));
    }

    /// Returns the known files of a folder: the remembered ones, otherwise the files of the source's HEAD.
    fn known(&self, git: &Git, word: &str) -> Result<FolderMemory> {
        let bytes = read_plain(&self.list_of(word), MAX_LIST_BYTES).ok().flatten();
        if let Some(remembered) = bytes.and_then(|bytes| FolderMemory::parse(&bytes)) {
            return Ok(remembered);
        }
        let records = self.head.as_ref().map(|head| records_of(git, &self.git_dir, head)).transpose()?;
        Ok(FolderMemory { tree: String::new(), records: records.unwrap_or_default() })
    }

    fn list(&self, git: &Git, files: &Path, known: &Records) -> Result<Listing> {
        walk(git, files, &mut Ignored::with(files, self.excludes.as_deref()), known)
    }

    /// Computes what [`Trees::snapshot`] would store. Writes nothing.
    pub fn grown(&self, git: &Git, files: &Path, word: &str) -> Result<Grown> {
        let known = self.known(git, word)?.records;
        let listing = self.list(git, files, &known)?;
        let mut grown = Grown::default();
        // Misses a change without a new time, because only sums matter here.
        let is_new = |file: &&FileEntry| {
            let record = known.get(&file.path);
            !record.is_some_and(|record| record.mode == file.mode && record.stat == Some(file.stat))
        };
        for file in listing.files.iter().filter(is_new) {
            grown.files += 1;
            grown.bytes = grown.bytes.saturating_add(file.stat.size);
        }
        grown.nested = listing.repos.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
        Ok(grown)
    }

    /// Stores the files in a directory as a tree, without ignored ones. Only reads the directory. A known nested
    /// repository keeps its old entry; a new one is left out.
    ///
    /// # Errors
    /// When a file cannot be read or stored.
    pub fn snapshot(&self, git: &Git, files: &Path, word: &str) -> Result<String> {
        let began_ms = clock::now().unix_ms;
        let known = self.known(git, word)?;
        let listing = self.list(git, files, &known.records)?;
        let is_new = |file: &&FileEntry| known_of(&known.records, file).is_none();
        let new: Vec<&FileEntry> = listing.files.iter().filter(is_new).collect();
        let oids = self.import(git, &Folder::open(files)?, &new)?;
        let mut oids: BTreeMap<&[u8], String> =
            new.iter().zip(oids).map(|(file, oid)| (file.path.as_slice(), oid)).collect();
        let mut records = Records::new();
        for path in &listing.gitlinks {
            records.extend(known.records.get(path).map(|record| (path.clone(), record.clone())));
        }
        for file in &listing.files {
            let oid = oids.remove(file.path.as_slice());
            let oid = oid.or_else(|| known_of(&known.records, file).map(str::to_owned)).unwrap_or_default();
            let (stat, is_settled) = (Some(file.stat), is_settled(&file.stat, began_ms));
            records.insert(file.path.clone(), FileRecord { mode: file.mode, oid, stat, is_settled });
        }
        let is_same = !known.tree.is_empty() && same_files(&known.records, &records);
        let tree = if is_same { known.tree.clone() } else { self.write_tree(git, &records)? };
        let next = FolderMemory { tree, records };
        if next != known {
            self.remember(word, &next)?;
        }
        Ok(next.tree)
    }

    /// Makes the files in a directory equal to a tree. Ignored files stay.
    pub fn restore(&self, git: &Git, files: &Path, word: &str, tree: &str) -> Result<()> {
        let target = records_of(git, &self.git_dir, tree)?;
        let known = self.known(git, word)?.records;
        let all: Records = known.clone().into_iter().chain(target.clone()).collect();
        let listing = self.list(git, files, &all)?;
        let folder = Folder::open(files)?;
        for path in listing.repos.iter().filter(|path| !listing.gitlinks.contains(path)) {
            folder.remove(path)?;
        }
        let mut same = Records::new();
        for file in &listing.files {
            match (target.get(&file.path), known_of(&known, file)) {
                (None, _) => folder.remove(&file.path)?,
                (Some(wanted), Some(oid)) if wanted.oid == oid && wanted.mode == file.mode => {
                    same.insert(file.path.clone(), wanted.clone());
                }
                _ => {}
            }
        }
        let is_missing =
            |(path, record): &(&Vec<u8>, &FileRecord)| record.mode != GITLINK && !same.contains_key(*path);
        let missing: Vec<(&Vec<u8>, &FileRecord)> = target.iter().filter(is_missing).collect();
        self.write_files(git, &folder, &missing)?;
        for (path, _) in target.iter().filter(|(_, record)| record.mode == GITLINK) {
            if !listing.gitlinks.contains(path) {
                folder.create_dir(path)?;
            }
        }
        for path in listing.dirs.iter().rev() {
            folder.prune(path);
        }
        // Inspect them again, so that the times of the files just written are known.
        let began_ms = clock::now().unix_ms;
        let mut records = target;
        for file in self.list(git, files, &records)?.files {
            if let Some(record) = records.get_mut(&file.path).filter(|record| record.mode == file.mode) {
                record.is_settled = is_settled(&file.stat, began_ms);
                record.stat = Some(file.stat);
            }
        }
        self.remember(word, &FolderMemory { tree: tree.to_owned(), records })
    }

    /// Restores one file of a directory to its state before a change. Follows no link on the way.
    pub fn put_back(&self, git: &Git, files: &Path, change: &TreeDifference) -> Result<()> {
        let folder = Folder::open(files)?;
        let path = change.path.as_os_str().as_bytes().to_vec();
        folder.remove(&path)?;
        match &change.old {
            None => Ok(()),
            Some((GITLINK, _)) => folder.create_dir(&path),
            Some((mode, oid)) => {
                let record = FileRecord { mode: *mode, oid: oid.clone(), stat: None, is_settled: false };
                self.write_files(git, &folder, &[(&path, &record)])
            }
        }
    }

    fn remember(&self, word: &str, what: &FolderMemory) -> Result<()> {
        file::write(&self.list_of(word), &what.bytes()?, 0o600, Durability::Atomic)
    }

    /// Stores files and links as blobs; returns their ids, in the same order.
    fn import(&self, git: &Git, folder: &Folder, files: &[&FileEntry]) -> Result<Vec<String>> {
        let mut oids = Vec::new();
        let mut rest = files;
        while !rest.is_empty() {
            let mut bytes = 0_u64;
            let fits = rest.iter().take(BATCH.1).take_while(|file| {
                let is_first = bytes == 0;
                bytes = bytes.saturating_add(file.stat.size);
                is_first || bytes <= BATCH.0
            });
            let (batch, later) = rest.split_at(fits.count().max(1));
            oids.extend(self.import_batch(git, folder, batch)?);
            rest = later;
        }
        Ok(oids)
    }

    fn import_batch(&self, git: &Git, folder: &Folder, files: &[&FileEntry]) -> Result<Vec<String>> {
        let stream = self.git_dir.path().join("stream");
        let failed = || format!("could not write `{}`", stream.display());
        let mut out = BufWriter::new(File::create(&stream).with_context(failed)?);
        for (n, file) in (1..).zip(files) {
            let (size, from): (u64, Box<dyn Read>) = if file.mode == LINK {
                let to = folder.read_link(&file.path)?;
                (to.len() as u64, Box::new(io::Cursor::new(to)))
            } else {
                let from = folder.read(&file.path)?;
                (from.metadata().with_context(failed)?.len(), Box::new(from))
            };
            write!(out, "blob\nmark :{n}\ndata {size}\n").with_context(failed)?;
            if io::copy(&mut from.take(size), &mut out).with_context(failed)? != size {
                let path = String::from_utf8_lossy(&file.path).into_owned();
                return Err(fault(&format!("read `{path}`"), "it changed in the meantime; try again"));
            }
            write!(out, "\nget-mark :{n}\n").with_context(failed)?;
        }
        out.into_inner().map_err(io::IntoInnerError::into_error).with_context(failed)?;
        let input = File::open(&stream).with_context(failed)?;
        let printed = git.run_with(&self.git_dir, &GitCommand::Import, Some(input), None)?;
        drop(fs::remove_file(&stream));
        let oids: Vec<String> = String::from_utf8_lossy(&printed).lines().map(str::to_owned).collect();
        match oids.len() == files.len() {
            true => Ok(oids),
            false => Err(fault("store files", "git did not say under which names")),
        }
    }

    fn write_tree(&self, git: &Git, records: &Records) -> Result<String> {
        let index = self.git_dir.path().join("index-write");
        drop(fs::remove_file(&index));
        let place = self.git_dir.clone().with_index(&index)?;
        let mut lines = Vec::new();
        for (path, record) in records {
            lines.extend(format!("{:o} {}\t", record.mode, record.oid).into_bytes());
            lines.extend_from_slice(path);
            lines.push(0);
        }
        git.feed(&place, &GitCommand::FillIndex, &lines)?;
        let tree = git.line(&place, &GitCommand::WriteTree)?;
        drop(fs::remove_file(&index));
        Ok(tree)
    }

    fn write_files(&self, git: &Git, folder: &Folder, files: &[(&Vec<u8>, &FileRecord)]) -> Result<()> {
        let blobs = self.git_dir.path().join("blobs");
        let failed = || format!("could not write `{}`", blobs.display());
        for batch in files.chunks(BATCH.1) {
            let oids: String = batch.iter().map(|(_, record)| format!("{}\n", record.oid)).collect();
            let mut out = File::create(&blobs).with_context(failed)?;
            let mut written = Ok(());
            let sink: Sink = Box::new(|bytes| {
                written = out.write_all(bytes);
                written.is_ok()
            });
            let input = input_of(&self.git_dir, oids.as_bytes())?;
            let ended = git.run_with(&self.git_dir, &GitCommand::Blobs, Some(input), Some(sink));
            written.with_context(failed)?;
            ended?;
            let mut from = BufReader::new(File::open(&blobs).with_context(failed)?);
            batch.iter().try_for_each(|(path, record)| write_file(folder, &mut from, path, record))?;
        }
        drop(fs::remove_file(&blobs));
        Ok(())
    }

    /// Makes a commit of a tree.
    pub fn commit(&self, git: &Git, tree: &str, parent: Option<&str>, message: &str) -> Result<String> {
        git.line(&self.git_dir, &GitCommand::Commit { tree, parent, message })
    }

    /// Points a ref at a commit, whatever its old value.
    pub fn point(&self, git: &Git, name: &str, to: &str) -> Result<()> {
        git.run(&self.git_dir, &GitCommand::SetRef { name, to, old: None }).map(drop)
    }

    /// Makes a commit the start of clones of this repository.
    pub fn begin_at(&self, git: &Git, commit: &str) -> Result<()> {
        self.point(git, &format!("refs/heads/{BRANCH}"), commit)
    }

    /// Returns the commit of a ref; `None` if there is no such ref.
    pub fn find(&self, git: &Git, name: &str) -> Result<Option<String>> {
        git.answer(&self.git_dir, &GitCommand::Resolve(name))
    }

    /// Returns the tree of a commit.
    ///
    /// # Errors
    /// When there is no such commit.
    pub fn tree_of(&self, git: &Git, commit: &str) -> Result<String> {
        git.line(&self.git_dir, &GitCommand::Resolve(&format!("{commit}^{{tree}}")))
    }

    /// Returns the difference of two trees as a unified diff with `context` lines of context.
    ///
    /// # Errors
    /// When a tree does not exist.
    pub fn diff(&self, git: &Git, from: &str, to: &str, context: u32) -> Result<String> {
        if from == to {
            return Ok(String::new());
        }
        let bytes = git.run(&self.git_dir, &GitCommand::Diff { from, to, context })?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Lists the paths in which two trees differ.
    ///
    /// # Errors
    /// When a tree does not exist.
    pub fn changes(&self, git: &Git, from: &str, to: &str) -> Result<Vec<TreeDifference>> {
        if from == to { Ok(Vec::new()) } else { git.changes(&self.git_dir, from, to) }
    }

    /// Returns the bytes of a blob.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn blob(&self, git: &Git, oid: &str) -> Result<Vec<u8>> {
        git.run(&self.git_dir, &GitCommand::Blob(oid))
    }

    /// Lists the paths of all files in a tree, for display and comparison.
    ///
    /// # Errors
    /// When the tree does not exist.
    pub fn paths(&self, git: &Git, tree: &str) -> Result<Vec<String>> {
        let records = records_of(git, &self.git_dir, tree)?;
        Ok(records.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect())
    }

    /// Commits the files of a worker's clone on the branch of its HEAD, as that worker. Git does not run in the clone:
    /// the commit is made here, and its objects, the branch and an index are copied there.
    ///
    /// # Errors
    /// When HEAD is not on a branch or moved in the meantime, or when a file cannot be written.
    pub fn commit_into(&self, git: &Git, clone: &Path, word: &str, message: &str) -> Result<()> {
        let doing = || format!("commit in `{}`", clone.display());
        let source = inspect(git, clone).map_err(|error| error.during(&doing()))?;
        let branch = source.branch()?.ok_or_else(|| fault(&doing(), "its HEAD is on no branch"))?;
        let tree = self.snapshot(git, clone, word)?;
        if self.tree_of(git, &source.head)? == tree {
            return Ok(());
        }
        let id = branch.rsplit('/').next().unwrap_or_default();
        let place = self.git_dir.clone().by(&super::author(id));
        let commit = GitCommand::Commit { tree: &tree, parent: Some(&source.head), message };
        let tip = git.line(&place, &commit)?;
        let stem = self.git_dir.path().join("out");
        let pack = super::pack(git, &self.git_dir, &format!("{tip}\n^{}\n", source.head), &stem)?;
        let kept = source.take_pack(git, &pack)?;
        drop((fs::remove_file(pack.with_extension("idx")), fs::remove_file(&pack)));
        let old = Some(source.head.clone());
        let moved = source.set_ref(git, &tip, || Ok((branch.clone(), old.clone())));
        drop(fs::remove_file(kept));
        moved?;
        let index = self.git_dir.path().join("index-commit");
        drop(fs::remove_file(&index));
        git.run(&self.git_dir.clone().with_index(&index)?, &GitCommand::ReadTree(&tip))?;
        fs::rename(&index, source.common.join("index")).with_context(|| format!("could not {}", doing()))
    }
}

/// Lists the files, links and nested repositories of a tree.
pub(super) fn records_of(git: &Git, dir: &GitDir, tree: &str) -> Result<Records> {
    let files = git.entries(dir, tree)?.into_iter().filter(|(_, mode, _)| *mode != 0o040_000);
    let record = |mode, oid| FileRecord { mode, oid, stat: None, is_settled: false };
    Ok(files.map(|(path, mode, oid)| (path, record(mode, oid))).collect())
}

/// Returns the object of a file that has not changed since it was stored.
fn known_of<'a>(known: &'a Records, file: &FileEntry) -> Option<&'a str> {
    let record = known.get(&file.path)?;
    let is_same = record.mode == file.mode && record.stat == Some(file.stat);
    (is_same && record.is_settled && !record.oid.is_empty()).then_some(record.oid.as_str())
}

/// Returns false if a file changed so recently that two changes may have the same time.
fn is_settled(stat: &FileStat, began_ms: i64) -> bool {
    let latest = i128::from(began_ms.saturating_sub(SETTLED_MS)) * 1_000_000;
    stat.ctime_ns < latest && stat.mtime_ns < latest
}

fn same_files(one: &Records, other: &Records) -> bool {
    let mut pairs = one.iter().zip(other);
    one.len() == other.len() && pairs.all(|((p, a), (q, b))| p == q && a.mode == b.mode && a.oid == b.oid)
}

/// What was seen of a folder: the tree of its files, and the stat data of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct FolderMemory {
    tree: String,
    records: Records,
}

impl FolderMemory {
    /// Formats it as lines: the form, the tree, and for each file its record, a tab, its path and a zero byte.
    fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = format!("{FORM}\n{}\n", self.tree).into_bytes();
        for (path, record) in &self.records {
            serde_json::to_writer(&mut bytes, record)?;
            bytes.extend([b"\t", path.as_slice(), b"\0"].concat());
        }
        Ok(bytes)
    }

    /// Returns `None` if another version wrote it or if it is torn.
    fn parse(bytes: &[u8]) -> Option<FolderMemory> {
        let mut lines = bytes.splitn(3, |byte| *byte == b'\n');
        if lines.next()? != FORM.as_bytes() {
            return None;
        }
        let tree = String::from_utf8(lines.next()?.to_vec()).ok()?;
        let files = lines.next()?.split(|byte| *byte == 0).filter(|file| !file.is_empty());
        let record = |file: &[u8]| {
            let tab = file.iter().position(|byte| *byte == b'\t')?;
            Some((file[tab + 1..].to_vec(), serde_json::from_slice(&file[..tab]).ok()?))
        };
        Some(FolderMemory { tree, records: files.map(record).collect::<Option<Records>>()? })
    }
}

/// Writes the file whose blob comes next in the output of git: a line with its id and size, its bytes and a line break.
fn write_file(folder: &Folder, from: &mut impl BufRead, path: &[u8], record: &FileRecord) -> Result<()> {
    let mut head = String::new();
    from.read_line(&mut head).context("could not read the output of git")?;
    let size = head.strip_prefix(&record.oid).and_then(|rest| rest.strip_prefix(" blob "));
    let Some(size) = size.and_then(|size| size.trim_end().parse().ok()) else {
        let path = String::from_utf8_lossy(path);
        return Err(fault(&format!("write `{path}`"), &format!("git says {head:?}")));
    };
    let mut blob = from.take(size);
    if record.mode == LINK {
        let mut to = Vec::new();
        blob.read_to_end(&mut to).context("could not read the output of git")?;
        folder.create_link(path, &to)?;
    } else {
        let mut file = folder.create(path, record.mode)?;
        io::copy(&mut blob, &mut file).context("could not write a file")?;
    }
    from.read_exact(&mut [0]).context("could not write files: git did not give all of them")
}
