//! The scope of an approval for a command: its program, the files that it names or that these read, and its folder.
//!
//! Files are found by searching text: no program is asked what it will read. So the folder of the command is covered as
//! a whole, and so is the folder of each file outside it. What is too large for that, and what the system installs, is
//! listed in words, so that the user sees what is not covered.

use std::collections::{BTreeSet, VecDeque};

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::Denied;
use super::file::{self, Doing, Durability, ReadError};
use super::layout::Layout;
use crate::os::program;
use crate::os::sealed::{self, Sealed};
use crate::rules::argument;
use crate::rules::beat::scope::{CommandScope, FileScope, FolderScope};
use crate::rules::beat::settings::Settings;
use crate::store::identity;

/// The most bytes that the files named by a command may hold together, including the program: all of them are read
/// while the beat's lock is held.
const MAX_NAMED_BYTES: usize = 1 << 30;
/// The most files that are covered one by one.
const MAX_FILES: usize = 128;
/// The largest file that is searched for names of other files, in bytes.
const MAX_READ_BYTES: u64 = 256 * 1024;
/// How far the search follows names: from the command to a file that it reads, to a file that this one reads, and so
/// on.
const MAX_DEPTH: usize = 4;
/// The most names that are looked up while files are searched.
const MAX_LOOKUPS: usize = 20_000;
/// How many folders up the search looks for a repository.
const MAX_UP: usize = 64;
/// The most paths of one argument that are looked up.
const MAX_PARTS: usize = 2048;
/// Folders of the system, which only an administrator changes.
const SYSTEM: [&str; 14] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/etc",
    "/nix/store",
    "/snap",
    "/proc",
    "/sys",
    "/dev",
    "/System",
    "/Library",
];

/// What an approval of a command covers, and what it does not.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// Files, the program first.
    pub files: Vec<FileScope>,
    /// Folders, with their whole contents.
    pub folders: Vec<FolderScope>,
    /// What the approval does not cover, one sentence each.
    pub beyond: Vec<String>,
}

/// A command whose scope is computed.
pub struct CoverageScan<'a> {
    pub layout: &'a Layout,
    pub settings: &'a Settings,
    /// The folder that it runs in, without symbolic links; `None` for a folder that is made later.
    pub cwd: Option<&'a Path>,
    /// The most entries of a folder that is covered.
    pub most: usize,
    /// Called again and again; true ends the search.
    pub stop: &'a dyn Fn() -> bool,
}

/// The state of a search.
#[derive(Default)]
struct Search {
    /// The files that are to be covered: the role, the path and the depth of each.
    pending: VecDeque<(String, PathBuf, usize)>,
    seen: BTreeSet<PathBuf>,
    dirs: BTreeSet<PathBuf>,
    /// The folders that are covered.
    covered: Vec<PathBuf>,
    lookups: usize,
    beyond: BTreeSet<String>,
}

fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn is_system(path: &Path) -> bool {
    SYSTEM.iter().any(|dir| path.starts_with(dir))
}

impl CoverageScan<'_> {
    /// Computes the scope of a command whose program is `exe`.
    ///
    /// # Errors
    /// When the command is too large for an approval, when a file cannot be read, or when `stop` ends the search.
    pub fn run(&self, argv: &[String], exe: &Path) -> Result<Coverage, Denied<String>> {
        let mut search = Search::default();
        search.add("program", exe.to_owned(), 0);
        for arg in argv.iter().skip(1) {
            self.named_by(arg, &mut search);
        }
        let mut out = Coverage::default();
        let mut left = MAX_NAMED_BYTES;
        while let Some((role, path, depth)) = search.pending.pop_front() {
            if out.files.len() == MAX_FILES {
                search.leave_out(format!("files after the first {MAX_FILES}: it names or reads more"));
                break;
            }
            let real = std::fs::canonicalize(&path).doing("open", &path)?;
            if real.starts_with(self.layout.workers()) {
                continue;
            }
            let content = match file::digest_within(&real, &mut left, self.stop) {
                Err(ReadError::TooLarge(_)) => {
                    let most = MAX_NAMED_BYTES >> 20;
                    return Err(Denied::Refused(format!(
                        "the files that it names hold more than {most} MiB, and an approval would have to cover each byte of them"
                    )));
                }
                read => read.doing("read", &real)?,
            };
            let place = identity::place(&real).doing("look at", &real)?;
            self.read_by(&real, depth, &mut search);
            let (path, real) = (text_of(&path), text_of(&real));
            out.files.push(FileScope { role, path, real, place, content: content.unwrap_or_default() });
        }
        self.folders(&mut search, &mut out)?;
        out.beyond.extend(search.beyond);
        Ok(out)
    }

    /// Describes the command itself as a part of a scope.
    ///
    /// # Errors
    /// When the folder cannot be inspected, or the profile's key cannot be read or made.
    pub fn command(
        &self,
        argv: Vec<String>,
        exe: &Path,
        cwd: &Path,
        env: &[(String, String)],
    ) -> Result<CommandScope> {
        Ok(CommandScope {
            argv,
            program: text_of(exe),
            cwd: text_of(cwd),
            place: self.cwd.map(|cwd| identity::place(cwd).doing("look at", cwd)).transpose()?,
            env: env.iter().map(|(name, _)| name.clone()).collect(),
            values: self.private_digest(env)?,
        })
    }

    /// Computes a keyed digest of variables with their values. The key is kept outside of git, so that a digest does
    /// not reveal a short value.
    ///
    /// # Errors
    /// When the key cannot be read or made.
    pub fn private_digest(&self, env: &[(String, String)]) -> Result<String> {
        let mut env = env.to_vec();
        env.sort();
        let text = serde_json::to_string(&env).context("could not write an environment as JSON")?;
        Ok(blake3::keyed_hash(&key(self.layout)?, text.as_bytes()).to_hex().to_string())
    }

    /// Adds the files, folders and programs that one argument names.
    fn named_by(&self, arg: &str, search: &mut Search) {
        let home = self.settings.home.as_deref();
        let parts = argument::parts(arg);
        if parts.len() > MAX_PARTS {
            search.leave_out("further files in a very long argument");
        }
        for part in parts.iter().take(MAX_PARTS) {
            let below_home = part.strip_prefix("~/").and_then(|rest| Some(home?.join(rest)));
            let path = below_home.unwrap_or_else(|| self.cwd.unwrap_or(Path::new("")).join(part));
            if path.is_absolute() {
                search.named("file", path, 0);
            }
        }
        if argument::is_expanded(arg) {
            search.leave_out("places that a program takes from a variable or from `~` in an argument");
        }
        for found in argument::programs(arg).into_iter().filter_map(|name| self.program(name)) {
            search.add("program", found, 0);
        }
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        program::find_program(name, &self.settings.path, self.cwd.unwrap_or(Path::new("/")))
    }

    /// Adds the interpreter of a script, and the files that its text names. Files of the system are not searched.
    fn read_by(&self, real: &Path, depth: usize, search: &mut Search) {
        let Some(text) = text_in(real) else { return };
        if let Some((first, name)) = program::interpreter_in(&text).filter(|(first, _)| first.is_absolute()) {
            let looked_up = name.and_then(|name| self.program(name));
            for found in [first].into_iter().chain(looked_up).filter(|path| path.is_file()) {
                search.add("interpreter", found, depth);
            }
        }
        if depth == MAX_DEPTH || is_system(real) {
            return;
        }
        let beside = real.parent().unwrap_or(Path::new("/"));
        let bases: BTreeSet<&Path> = [Some(beside), self.cwd].into_iter().flatten().collect();
        let role = format!("read by {}", text_of(Path::new(real.file_name().unwrap_or_default())));
        let plain = |c: char| c.is_alphanumeric() || "/._-+%~".contains(c);
        let words: BTreeSet<&str> = text.split(|c| !plain(c)).filter(|word| word.len() < 256).collect();
        for word in words.into_iter().filter(|word| word.contains(char::is_alphabetic)) {
            for base in &bases {
                search.lookups += 1;
                if search.lookups > MAX_LOOKUPS {
                    return search.leave_out("further files that long files name: the search has a limit");
                }
                search.named(&role, base.join(word), depth + 1);
                // A module is named without the extension of its file.
                if let Some(end) = real.extension().filter(|_| !word.contains(['/', '.'])) {
                    let mut name = word.to_owned();
                    name.push('.');
                    search.named(&role, base.join(name + &end.to_string_lossy()), depth + 1);
                }
            }
        }
    }

    /// Covers the folder of the command, the folders that it names, and those of files that are elsewhere.
    fn folders(&self, search: &mut Search, out: &mut Coverage) -> Result<()> {
        if let Some(cwd) = self.cwd {
            let top = cwd.ancestors().take(MAX_UP).find(|dir| dir.join(".git").symlink_metadata().is_ok());
            let whole = top.map(|top| self.folder(top, out, search)).transpose()?;
            if whole != Some(true) {
                self.folder(cwd, out, search)?;
                if let Some(git) = top.map(|top| top.join(".git")).filter(|git| git.is_dir()) {
                    self.folder(&git, out, search)?;
                }
            }
            for dir in top.map(git_dirs).unwrap_or_default() {
                self.folder(&dir, out, search)?;
            }
        }
        let named: Vec<PathBuf> =
            search.dirs.iter().filter_map(|dir| std::fs::canonicalize(dir).ok()).collect();
        // A worker's program is updated by its vendor; the files beside it are not part of the worker's input.
        let files = out.files.iter().filter(|_| self.cwd.is_some());
        let beside = files.filter_map(|file| Path::new(&file.real).parent().map(Path::to_owned));
        let beside: BTreeSet<PathBuf> = beside.filter(|dir| !is_system(dir)).collect();
        for dir in named.into_iter().chain(beside) {
            if is_system(&dir) || self.holds_all(&dir) {
                if !search.covered.iter().any(|other| dir.starts_with(other)) {
                    search.leave_out(format!("{}: its contents", dir.display()));
                }
            } else {
                self.folder(&dir, out, search)?;
            }
        }
        search.leave_out("programs of the system, libraries, the network, files that no text names");
        Ok(())
    }

    /// Returns true for a folder that holds the home directory or the data dir: it changes all the time.
    fn holds_all(&self, dir: &Path) -> bool {
        self.layout.root().starts_with(dir)
            || self.settings.home.as_deref().is_some_and(|home| home.starts_with(dir))
    }

    /// Covers one folder, unless a covered folder contains it; returns true if it is covered.
    fn folder(&self, dir: &Path, out: &mut Coverage, search: &mut Search) -> Result<bool> {
        if search.covered.iter().any(|other| dir.starts_with(other)) {
            return Ok(true);
        }
        let (entries, content) = match folder_content(self.layout, dir, self.most, self.stop) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                search.leave_out(format!("{}: it cannot be read", dir.display()));
                return Ok(false);
            }
            looked => looked.doing("look at the folder", dir)?,
        };
        let Some(content) = content else {
            search.leave_out(format!("{}: it has more than {} entries", dir.display(), self.most));
            return Ok(false);
        };
        search.covered.push(dir.to_owned());
        out.folders.push(FolderScope { path: text_of(dir), entries: entries as u64, content });
        Ok(true)
    }
}

/// Returns the number of entries of a folder, and the digest of its place and its contents; no digest for a folder with
/// more entries than `most`. The files of looop's own state do not count.
fn folder_content(
    layout: &Layout,
    dir: &Path,
    most: usize,
    stop: &dyn Fn() -> bool,
) -> io::Result<(usize, Option<String>)> {
    let (entries, digest) = identity::folder(dir, most, &|path| layout.is_state(path), stop)?;
    let place = identity::place(dir)?;
    let content = digest.map(|digest| blake3::hash(format!("{digest} {place}").as_bytes()));
    Ok((entries, content.map(|content| content.to_hex().to_string())))
}

/// Approved folders, which are checked again right before a command begins.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedFolders {
    pub root: PathBuf,
    pub cache: PathBuf,
    /// Path and digest of each folder.
    pub folders: Vec<Sealed>,
}

impl SealedFolders {
    /// Checks each folder again, from outside of the command's sandbox.
    ///
    /// # Errors
    /// Names the folder that was changed, or that cannot be read.
    pub fn check(&self) -> io::Result<()> {
        let layout = Layout::new(self.root.clone(), self.cache.clone());
        for (path, digest) in &self.folders {
            let looked = folder_content(&layout, Path::new(path), identity::MAX_ENTRIES, &|| false);
            let (_, content) =
                looked.map_err(|e| io::Error::new(e.kind(), format!("`{path}` cannot be read: {e}")))?;
            if content.as_ref() != Some(digest) {
                return Err(sealed::changed(path));
            }
        }
        Ok(())
    }
}

impl Coverage {
    /// Adds the scope of another command of the same move; duplicates are dropped.
    pub fn add(&mut self, more: Coverage) {
        let Coverage { files, folders, beyond } = more;
        self.files.extend(files.into_iter().filter(|file| !self.files.contains(file)).collect::<Vec<_>>());
        self.folders
            .extend(folders.into_iter().filter(|dir| !self.folders.contains(dir)).collect::<Vec<_>>());
        self.beyond.extend(beyond.into_iter().filter(|text| !self.beyond.contains(text)).collect::<Vec<_>>());
    }
}

impl Search {
    /// Adds a file or a folder, if this path exists.
    fn named(&mut self, role: &str, path: PathBuf, depth: usize) {
        match path.metadata() {
            Ok(meta) if meta.is_file() => self.add(role, path, depth),
            Ok(meta) if meta.is_dir() && depth == 0 => drop(self.dirs.insert(path)),
            _ => {}
        }
    }

    fn add(&mut self, role: &str, path: PathBuf, depth: usize) {
        if self.seen.insert(path.clone()) {
            self.pending.push_back((role.to_owned(), path, depth));
        }
    }

    fn leave_out(&mut self, what: impl Into<String>) {
        self.beyond.insert(what.into());
    }
}

/// Reads the text of a file that is short and holds no NUL character.
fn text_in(path: &Path) -> Option<String> {
    let file = file::open(path).ok()??;
    let mut bytes = Vec::new();
    file.take(MAX_READ_BYTES + 1).read_to_end(&mut bytes).ok()?;
    let is_long = bytes.len() as u64 > MAX_READ_BYTES;
    if bytes.contains(&0) {
        return None;
    }
    // A long file is read up to its first line, which names its interpreter.
    let end = if is_long { bytes.iter().position(|byte| *byte == b'\n')? } else { bytes.len() };
    Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
}

/// Returns the git directory of a linked worktree or of a submodule, and the one that it shares.
pub fn git_dirs(top: &Path) -> Vec<PathBuf> {
    let real = |dir: PathBuf| std::fs::canonicalize(dir).ok();
    let own = file::pointed(&top.join(".git"), b"gitdir: ").and_then(real);
    let shared = own.as_ref().and_then(|own| file::pointed(&own.join("commondir"), b"")).and_then(real);
    own.into_iter().chain(shared).collect()
}

/// Returns the key of this profile for digests of values, kept in the cache. A new key voids each open approval.
fn key(layout: &Layout) -> Result<[u8; 32]> {
    let path = layout.approval_key();
    let known = file::read(&path, 64).doing("read", &path)?;
    if let Some(key) = known.and_then(|bytes| bytes.try_into().ok()) {
        return Ok(key);
    }
    let mut key = [0_u8; 32];
    let random = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut key));
    random.context("could not read /dev/urandom")?;
    file::make_dir(layout.cache())?;
    file::write(&path, &key, 0o600, Durability::Durable)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, write};

    fn scan(root: &Path, argv: &[&str], most: usize) -> Coverage {
        let layout = Layout::new(root.join("data"), root.join("cache"));
        let path = format!("{}:/usr/bin:/bin", root.join("bin").display());
        let settings = Settings { path, ..Settings::default() };
        let cwd = root.join("work");
        let scan =
            CoverageScan { layout: &layout, settings: &settings, cwd: Some(&cwd), most, stop: &|| false };
        let argv: Vec<String> = argv.iter().map(|arg| (*arg).to_owned()).collect();
        scan.run(&argv, Path::new("/bin/sh")).unwrap()
    }

    /// A folder with these files, and its path without links.
    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        create_dir_all(root.join("work")).unwrap();
        for (file, text) in files {
            create_dir_all(root.join(file).parent().unwrap()).unwrap();
            write(root.join(file), text).unwrap();
        }
        (dir, root)
    }

    fn paths(found: &Coverage, root: &Path) -> Vec<String> {
        let below = |path: &str| Some(Path::new(path).strip_prefix(root).ok()?.display().to_string());
        found.folders.iter().filter_map(|folder| below(&folder.path)).collect()
    }

    #[test]
    fn a_folder_that_is_too_large_is_reported_and_the_smaller_one_is_covered() {
        let (_dir, root) =
            tree(&["work/deep/a", "far/x", "work/deep/b", "work/c"].map(|file| (file, "text")));
        let far = root.join("far").display().to_string();
        assert_eq!(paths(&scan(&root, &["sh", &far], 100), &root), ["work", "far"]);
        let small = scan(&root, &["sh", "deep", &far], 3);
        assert_eq!(paths(&small, &root), ["far", "work/deep"]);
        let stated = format!("{}: it has more than 3 entries", root.join("work").display());
        assert!(small.beyond.contains(&stated), "{:?}", small.beyond);
        // The whole repository is covered if it is small enough.
        create_dir_all(root.join(".git")).unwrap();
        write(root.join(".git/HEAD"), "ref: x").unwrap();
        assert_eq!(paths(&scan(&root, &["sh"], 100), &root), [""]);
        assert_eq!(paths(&scan(&root, &["sh"], 4), &root), ["work", ".git"]);
    }

    #[test]
    fn the_git_directories_of_a_linked_worktree_are_covered() {
        let (_dir, root) = tree(&[
            ("work/.git", "gitdir: ../main/.git/worktrees/linked\n"),
            ("main/.git/worktrees/linked/commondir", "../..\n"),
            ("main/.git/config", ""),
        ]);
        let found = paths(&scan(&root, &["sh"], 100), &root);
        for wanted in ["work", "main/.git/worktrees/linked", "main/.git"] {
            assert!(found.iter().any(|path| path == wanted), "{wanted}: {found:?}");
        }
    }

    #[test]
    fn files_beyond_the_limit_are_reported() {
        let (_dir, root) = tree(&[]);
        let names: Vec<String> = (0..=MAX_FILES).map(|nth| format!("file-{nth}")).collect();
        names.iter().for_each(|name| write(root.join("work").join(name), "").unwrap());
        let argv: Vec<&str> = std::iter::once("sh").chain(names.iter().map(String::as_str)).collect();
        let found = scan(&root, &argv, 1000);
        let stated = format!("files after the first {MAX_FILES}: it names or reads more");
        assert!(found.files.len() == MAX_FILES && found.beyond.contains(&stated), "{:?}", found.beyond);
        assert!(!scan(&root, &argv[..MAX_FILES], 1000).beyond.contains(&stated));
    }

    #[test]
    fn a_program_that_an_argument_names_is_covered() {
        let (_dir, root) = tree(&[("bin/tool", "")]);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(root.join("bin/tool"), mode).unwrap();
        let tool = root.join("bin/tool").display().to_string();
        for (argv, is_covered) in [
            (&["sh", "tool"][..], true),
            (&["sh", "-c", "cd sub && tool all"], true),
            (&["sh", "-c", "echo tool"], false),
        ] {
            let found = scan(&root, argv, 100);
            let is_there = found.files.iter().any(|file| file.role == "program" && file.real == tool);
            assert_eq!(is_there, is_covered, "{argv:?}: {:?}", found.files);
        }
    }

    #[test]
    fn files_that_a_file_names_are_covered_with_the_interpreter() {
        let (_dir, root) = tree(&[
            ("far/run.py", "#!/usr/bin/env sh\nimport helper\nopen('lib/data.txt')\n"),
            ("far/helper.py", ""),
            ("far/lib/data.txt", "../../more"),
            ("more", ""),
        ]);
        let found = scan(&root, &["sh", &root.join("far/run.py").display().to_string()], 100);
        let role = |file: &FileScope| (file.role.clone(), file.path.rsplit('/').next().unwrap().to_owned());
        let roles: Vec<(String, String)> = found.files.iter().map(role).collect();
        for pair in [
            ("file", "run.py"),
            ("interpreter", "env"),
            ("interpreter", "sh"),
            ("read by run.py", "helper.py"),
            ("read by run.py", "data.txt"),
            ("read by data.txt", "more"),
        ] {
            assert!(roles.iter().any(|(role, name)| (&**role, &**name) == pair), "{pair:?}: {roles:?}");
        }
    }
}
