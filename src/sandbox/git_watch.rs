//! Git directories that appear while a sandboxed child runs. No mount can keep a child from making a `.git` in a
//! writable folder, and the next git command of the user there would obey it. So looop checks before the child begins
//! and after it has ended. It renames the files that make a folder a git directory, if these are new and can run
//! commands. This works at every level.
//!
//! A new git directory that can run nothing is left alone: its configuration has only the keys that `git init` and `git
//! clone` write, and its hooks are samples.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{self, File, Metadata, Permissions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::text;
use crate::rules::sandbox::Access;
use crate::rules::user_side::UserSidePath;

/// The most folders that are searched, those nearest to the top first.
const MAX_FOLDERS: usize = 5_000;
/// The largest configuration that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 64 * 1024;
/// How many names are tried for a renamed file.
const MAX_NAMES: u32 = 100;
/// Folders with very many files, which are searched last.
const LAST: [&str; 3] = ["node_modules", "target", ".venv"];
/// Keys that cannot run a program, by section.
const PLAIN_KEYS: [(&str, &str); 3] = [
    ("core", "repositoryformatversion filemode bare logallrefupdates ignorecase precomposeunicode symlinks"),
    ("remote", "url fetch tagopt mirror"),
    ("branch", "remote merge"),
];

/// The git directories that existed before a child began.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GitWatch {
    /// The folders that the child may write.
    dirs: Vec<PathBuf>,
    /// The paths in them that it may not write.
    skip: Vec<PathBuf>,
    /// The files and folders that make a git directory, each by device, inode and birth time.
    known: BTreeSet<String>,
    /// True if there were more folders than are searched.
    is_cut: bool,
}

/// A file or folder that makes git take a folder for a git directory, or take its configuration from elsewhere.
struct GitMark {
    path: PathBuf,
    key: String,
    /// The git directory whose configuration counts; `None` if the mark leads elsewhere.
    git_dir: Option<PathBuf>,
}

impl GitWatch {
    /// Searches the folders that a child may write.
    pub fn begin(access: &Access) -> GitWatch {
        let skip = access.masks.iter().chain(&access.read).cloned().collect();
        let mut watch = GitWatch { dirs: access.write.clone(), skip, ..GitWatch::default() };
        let (marks, is_cut) = watch.marks();
        watch.known = marks.into_iter().map(|mark| mark.key).collect();
        GitWatch { is_cut, ..watch }
    }

    /// Searches again when the child has ended, and renames new marks that could run commands.
    pub fn end(&self) -> Vec<UserSidePath> {
        let (marks, is_cut) = self.marks();
        let is_new = |mark: &GitMark| !self.known.contains(&mark.key);
        let is_plain = |mark: &GitMark| mark.git_dir.as_deref().is_some_and(is_plain_git_dir);
        let found = marks.into_iter().filter(|mark| is_new(mark) && !is_plain(mark));
        let mut found: Vec<UserSidePath> = found.map(|mark| set_aside(mark.path)).collect();
        if is_cut && !self.is_cut {
            let path = text(self.dirs.first().map_or(Path::new(""), PathBuf::as_path));
            let reason =
                format!("it has more than {MAX_FOLDERS} folders now: not all were searched for a new `.git`");
            found.push(UserSidePath { path, reason });
        }
        found
    }

    /// Returns all marks below the folders, and whether there are more folders than are searched. Follows no link.
    fn marks(&self) -> (Vec<GitMark>, bool) {
        let mut found = Vec::new();
        let mut queue: VecDeque<PathBuf> = self.dirs.iter().filter(|dir| dir.is_dir()).cloned().collect();
        let mut late = VecDeque::new();
        let mut left = MAX_FOLDERS;
        while let Some(dir) = queue.pop_front().or_else(|| late.pop_front()) {
            if left == 0 {
                return (found, true);
            }
            left -= 1;
            found.extend(bare_marks(&dir));
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
                let (name, path) = (entry.file_name(), entry.path());
                if name.eq_ignore_ascii_case(".git") && is_dir {
                    found.extend(marks_in(&path));
                } else if name.eq_ignore_ascii_case(".git") {
                    // A link or a file that names the git directory.
                    found.extend(mark(path.clone(), &path, None));
                } else if is_dir && !self.skip.contains(&path) {
                    let is_late = LAST.iter().any(|last| name == *last);
                    if is_late { &mut late } else { &mut queue }.push_back(path);
                }
            }
        }
        (found, false)
    }
}

fn set_aside(path: PathBuf) -> UserSidePath {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let names = (1..=MAX_NAMES).map(|n| match n {
        1 => format!("{name}.set-aside"),
        n => format!("{name}.set-aside-{n}"),
    });
    let free = names.map(|name| path.with_file_name(name)).find(|to| to.symlink_metadata().is_err());
    // The child may have removed write permission from the folder. If it cannot be restored, the rename below fails.
    if let Some(parent) = path.parent() {
        let mode = parent.symlink_metadata().map_or(0, |meta| meta.mode() & 0o7777);
        drop(fs::set_permissions(parent, Permissions::from_mode(0o700 | mode)));
    }
    let renamed = free.ok_or("all names are taken".to_owned()).and_then(|to| {
        fs::rename(&path, &to).map_err(|error| error.to_string())?;
        Ok(to)
    });
    let reason = match renamed {
        Ok(to) => format!("it is new and can make git run commands: it is `{}` now", to.display()),
        Err(why) => format!("it is new and can make git run commands, and it could not be renamed: {why}"),
    };
    UserSidePath { path: text(&path), reason }
}

/// Makes a mark at `path`, identified by the file or folder `key`.
fn mark(path: PathBuf, key: &Path, git_dir: Option<PathBuf>) -> Option<GitMark> {
    path.symlink_metadata().ok()?;
    let key = identity(&key.symlink_metadata().ok()?);
    Some(GitMark { path, key, git_dir })
}

/// Returns the marks of a folder that may be a bare repository.
fn bare_marks(dir: &Path) -> Vec<GitMark> {
    let has = |name: &str| dir.join(name).exists();
    if has("commondir") || has("objects") && has("refs") { marks_in(dir) } else { Vec::new() }
}

/// Returns the marks of a git directory: its HEAD, without which git does not accept the directory, and the file that
/// makes it take configuration and hooks from another one. git replaces HEAD often, so the directory identifies it.
fn marks_in(git: &Path) -> Vec<GitMark> {
    let commondir = git.join("commondir");
    let head = mark(git.join("HEAD"), git, Some(git.to_owned()));
    head.into_iter().chain(mark(commondir.clone(), &commondir, None)).collect()
}

/// An inode may be reused; the birth time distinguishes the two files if the file system records it.
fn identity(meta: &Metadata) -> String {
    let birth = meta.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    format!("{}:{}:{}", meta.dev(), meta.ino(), birth.map_or(0, |birth| birth.as_nanos()))
}

/// Returns true for a git directory that cannot make git run anything.
fn is_plain_git_dir(git: &Path) -> bool {
    let is_absent = |name: &str| git.join(name).symlink_metadata().is_err();
    ["commondir", "config.worktree", "modules", "worktrees"].into_iter().all(is_absent)
        && holds_only(&git.join("hooks"), |name| name.ends_with(".sample"))
        && holds_only(&git.join("info"), |name| name == "exclude")
        && has_plain_config(&git.join("config"))
}

/// Returns true for a folder that is absent, or that holds only files with allowed names.
fn holds_only(dir: &Path, allowed: fn(&str) -> bool) -> bool {
    match dir.symlink_metadata() {
        Err(_) => true,
        Ok(meta) if !meta.is_dir() => false,
        Ok(_) => fs::read_dir(dir).is_ok_and(|mut entries| {
            entries.all(|entry| entry.is_ok_and(|entry| entry.file_name().to_str().is_some_and(allowed)))
        }),
    }
}

fn has_plain_config(path: &Path) -> bool {
    let Ok(meta) = path.symlink_metadata() else { return true };
    let mut text = String::new();
    meta.is_file()
        && meta.len() <= MAX_CONFIG_BYTES
        && File::open(path).is_ok_and(|file| file.take(MAX_CONFIG_BYTES).read_to_string(&mut text).is_ok())
        && is_plain_config(&text)
}

/// Returns true for a configuration of plain keys. An unknown line is not plain.
fn is_plain_config(text: &str) -> bool {
    let mut keys = "";
    text.lines().map(str::trim).filter(|line| !line.is_empty()).all(|line| {
        if let Some(header) = line.strip_prefix('[') {
            let Some(header) = header.strip_suffix(']').filter(|header| !header.contains(']')) else {
                return false;
            };
            let section = header.split([' ', '"']).next().unwrap_or_default();
            let known = PLAIN_KEYS.iter().find(|(name, _)| section.eq_ignore_ascii_case(name));
            keys = known.map_or("", |(_, keys)| keys);
            return known.is_some();
        }
        let Some((key, value)) = line.split_once('=') else { return false };
        // `ext::` and similar prefixes name a program. A backslash at the end joins two lines.
        let is_plain_value = !value.contains("::") && !value.contains(['\\', '"', '#', ';']);
        is_plain_value && keys.split_whitespace().any(|known| key.trim().eq_ignore_ascii_case(known))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, write};
    use std::os::unix::fs::symlink;

    fn git_dir(git: &Path, config: &str) {
        for part in ["objects", "refs", "hooks", "info"] {
            create_dir_all(git.join(part)).unwrap();
        }
        write(git.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        write(git.join("hooks/pre-commit.sample"), "").unwrap();
        write(git.join("info/exclude"), "").unwrap();
        write(git.join("config"), config).unwrap();
    }

    const PLAIN: &str = "[core]\n\trepositoryformatversion = 0\n\tbare = false\n[remote \"origin\"]\n\turl = https://example.org/a\n";

    fn begin(dir: &Path) -> GitWatch {
        GitWatch::begin(&Access { write: vec![dir.to_owned()], ..Access::default() })
    }

    fn paths(found: &[UserSidePath]) -> Vec<PathBuf> {
        found.iter().map(|new| PathBuf::from(&new.path)).collect()
    }

    /// A way to make git obey something new below a folder.
    type Trap = fn(&Path);

    #[test]
    fn a_new_git_directory_that_can_run_commands_is_renamed() {
        let traps: [(&str, Trap); 15] = [
            (".git/HEAD", |d| git_dir(&d.join(".git"), "[core]\n\tfsmonitor = ./x\n")),
            ("sub/.git/HEAD", |d| git_dir(&d.join("sub/.git"), "[include]\n\tpath = /tmp/x\n")),
            ("new/a/b/c/d/e/f/g/.git/HEAD", |d| {
                git_dir(&d.join("new/a/b/c/d/e/f/g/.git"), PLAIN);
                write(d.join("new/a/b/c/d/e/f/g/.git/hooks/pre-commit"), "").unwrap();
            }),
            ("sub/.git/HEAD", |d| {
                git_dir(&d.join("sub/.git"), PLAIN);
                write(d.join("sub/.git/info/attributes"), "* filter=x").unwrap();
            }),
            ("sub/.git/HEAD", |d| {
                git_dir(&d.join("sub/.git"), "[remote \"x\"]\n\turl = ext::sh -c x\n");
            }),
            ("sub/.git/HEAD", |d| {
                git_dir(&d.join("sub/.git"), "[core]\n\tbare = \\\n[core]\n fsmonitor = x\n");
            }),
            ("sub/.git/HEAD", |d| git_dir(&d.join("sub/.git"), "= x\n")),
            ("sub/.git", |d| write(d.join("sub/.git"), "gitdir: /tmp/x\n").unwrap()),
            ("sub/.git", |d| symlink("/tmp/x", d.join("sub/.git")).unwrap()),
            ("sub/.GIT/HEAD", |d| git_dir(&d.join("sub/.GIT"), "[core]\n\tfsmonitor = ./x\n")),
            ("node_modules/.git/HEAD", |d| git_dir(&d.join("node_modules/.git"), "[alias]\n\tst = !x\n")),
            ("sub/HEAD", |d| git_dir(&d.join("sub"), "[core]\n\tfsmonitor = ./x\n")),
            ("plain/src/.git/HEAD", |d| {
                git_dir(&d.join("plain"), PLAIN);
                git_dir(&d.join("plain/src/.git"), "[core]\n\tpager = ./x\n");
            }),
            ("sub/.git/HEAD", |d| {
                create_dir_all(d.join("sub/.git/worktrees")).unwrap();
                write(d.join("sub/.git/HEAD"), "ref: refs/heads/main\n").unwrap();
            }),
            ("known/.git/commondir", |d| write(d.join("known/.git/commondir"), "/tmp/x").unwrap()),
        ];
        for (at, trap) in traps {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path();
            create_dir_all(root.join("sub")).unwrap();
            git_dir(&root.join("known/.git"), "[core]\n\tfsmonitor = of-the-user\n");
            let watch = begin(root);
            assert_eq!(watch.end(), [], "{at}: nothing is new");
            trap(root);
            let found = watch.end();
            assert_eq!(paths(&found), [root.join(at)]);
            assert!(root.join(at).symlink_metadata().is_err(), "{at}");
            assert!(found[0].reason.contains(&format!("{at}.set-aside")), "{found:?}");
            write(root.join("known/.git/HEAD.new"), "ref: refs/heads/other\n").unwrap();
            fs::rename(root.join("known/.git/HEAD.new"), root.join("known/.git/HEAD")).unwrap();
            assert!(root.join("known/.git/HEAD").exists(), "the repository of the user stays");
            assert_eq!(watch.end(), [], "{at}: once");
        }
    }

    #[test]
    fn a_new_git_directory_that_runs_nothing_stays() {
        let dir = tempfile::tempdir().unwrap();
        let watch = begin(dir.path());
        git_dir(&dir.path().join("clone/.git"), PLAIN);
        git_dir(&dir.path().join("bare.git"), PLAIN);
        assert_eq!(watch.end(), []);
    }

    #[test]
    fn a_repository_that_replaced_another_is_new() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        git_dir(&root.join("nested/.git"), "[core]\n\tfsmonitor = of-the-user\n");
        let watch = begin(root);
        fs::rename(root.join("nested"), root.join("moved")).unwrap();
        git_dir(&root.join("nested/.git"), "[core]\n\tfsmonitor = ./x\n");
        let found = watch.end();
        assert_eq!(paths(&found), [root.join("nested/.git/HEAD")]);
        assert!(root.join("moved/.git").exists(), "the repository of the user is known where it is now");
    }

    #[test]
    fn too_many_new_folders_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let watch = begin(dir.path());
        for n in 0..MAX_FOLDERS {
            fs::create_dir(dir.path().join(n.to_string())).unwrap();
        }
        let found = watch.end();
        assert!(found.len() == 1 && found[0].reason.contains("not all were searched"), "{found:?}");
    }
}
