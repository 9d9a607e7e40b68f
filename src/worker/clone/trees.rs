//! A repository of looop's own that keeps states of files which are no commits of the human's: each attempt of a fix.
//!
//! It lies beside the clone in which an agent works, not in it, so that what an agent does to its `.git` is nothing to
//! what is kept. Files are stored as they are: no filter, no end-of-line conversion, no attribute of the repository.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::fault;
use super::git::{Git, Place, text};
use super::source::Source;

/// What wins over every attribute in a tree: bytes are bytes.
const ATTRIBUTES: &str = "* -text -eol -ident -filter -working-tree-encoding !diff\n";
/// The branch that a clone of the states is made from.
const BRANCH: &str = "base";

/// The repository of states.
#[derive(Clone, Debug)]
pub struct Trees {
    dir: PathBuf,
    place: Place,
    excludes: Option<PathBuf>,
}

/// Makes the repository elsewhere and moves it to its place: one that is half made would look like a whole one.
fn make(git: &Git, dir: &Path, source: Option<&Source>) -> Result<()> {
    let new = dir.with_extension("new");
    let failed = || format!("could not make `{}`", new.display());
    for old in [&new, dir] {
        match fs::remove_dir_all(old) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(failed);
            }
            _ => {}
        }
    }
    fs::create_dir_all(&new).with_context(failed)?;
    match source {
        Some(source) => super::init(git, source, &new, BRANCH)?,
        None => {
            let place = Place::none(&new);
            drop(git.run(&place, &["init", "-q", "--template=", "-b", BRANCH, "--", &text(&new)?])?);
        }
    }
    fs::rename(&new, dir).with_context(|| format!("could not make `{}`", dir.display()))
}

/// The tree without a file, in both formats of objects.
const EMPTY: [&str; 2] = [
    "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
];

/// True for the tree without a file.
pub fn is_empty(tree: &str) -> bool {
    EMPTY.contains(&tree)
}

/// What a directory holds that the state before does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grown {
    /// How many files are new or others.
    pub files: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// The directories among them that are repositories of their own: git keeps a link to one, and none of its files.
    pub nested: Vec<String>,
}

/// One path in which two trees differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The path, from the top, with `/`.
    pub path: String,
    /// What was there: mode and blob; none where nothing was.
    pub old: Option<(u32, String)>,
    /// What is there.
    pub new: Option<(u32, String)>,
}

impl Trees {
    /// Opens the repository in `dir`, or makes it: with the objects of the source at hand, where there is one.
    ///
    /// # Errors
    /// When git cannot make it.
    pub fn open(git: &Git, dir: &Path, source: Option<&Source>) -> Result<Trees> {
        let inside = dir.join(".git");
        if !inside.join("HEAD").exists() {
            make(git, dir, source)?;
        }
        let info = inside.join("info");
        let written = fs::create_dir_all(&info).and_then(|()| fs::write(info.join("attributes"), ATTRIBUTES));
        written.with_context(|| format!("could not write into `{}`", info.display()))?;
        let mut place = Place::of(&inside)?;
        for (key, value) in [("user.name", "looop"), ("user.email", "looop@looop.invalid")] {
            place.settings.push((key.to_owned(), value.to_owned()));
        }
        let excludes = source.map(|source| source.common.join("info/exclude")).filter(|file| file.is_file());
        Ok(Trees { dir: dir.to_owned(), place, excludes })
    }

    /// Where it lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Git over the files in `tree`, with an index that remembers what it has looked at under this word.
    fn over(&self, tree: &Path, word: &str) -> Result<Place> {
        let index = self.dir.join(".git").join(format!("index-{word}"));
        let mut place = self.place.clone().with_tree(tree)?.with_index(&index)?;
        place.settings.push(("core.bare".to_owned(), "false".to_owned()));
        if let Some(excludes) = &self.excludes {
            place.settings.push(("core.excludesFile".to_owned(), text(excludes)?));
        }
        Ok(place)
    }

    /// What [`Trees::snapshot`] would have to store. Nothing is written.
    ///
    /// # Errors
    /// When git cannot list the files.
    pub fn grown(&self, git: &Git, files: &Path, word: &str) -> Result<Grown> {
        let place = self.over(files, word)?;
        let listed = git.run(&place, &["ls-files", "-z", "--others", "--modified", "--exclude-standard"])?;
        let mut grown = Grown::default();
        for name in listed.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            // What was deleted is listed, too.
            let Ok(meta) = fs::symlink_metadata(files.join(OsStr::from_bytes(name))) else { continue };
            if meta.is_dir() {
                let name = String::from_utf8_lossy(name);
                grown.nested.push(name.trim_end_matches('/').to_owned());
            }
            grown.files += 1;
            grown.bytes = grown.bytes.saturating_add(meta.len());
        }
        Ok(grown)
    }

    /// The files in a directory as a tree, ignored ones left out. The directory is only read.
    ///
    /// # Errors
    /// When a file cannot be read or stored.
    pub fn snapshot(&self, git: &Git, files: &Path, word: &str) -> Result<String> {
        let place = self.over(files, word)?;
        git.run(&place, &["add", "-A", "--", "."])?;
        git.line(&place, &["write-tree"])
    }

    /// Makes the files in a directory those of a tree. Ignored files stay.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn restore(&self, git: &Git, files: &Path, word: &str, tree: &str) -> Result<()> {
        let place = self.over(files, word)?;
        git.run(&place, &["read-tree", "--reset", "-u", tree])?;
        git.run(&place, &["clean", "-ffdq"])?;
        Ok(())
    }

    /// A commit of a tree.
    ///
    /// # Errors
    /// When git cannot make it.
    pub fn commit(&self, git: &Git, tree: &str, parent: Option<&str>, message: &str) -> Result<String> {
        let mut args = vec!["commit-tree", "-m", message];
        args.extend(parent.iter().flat_map(|parent| ["-p", parent]));
        args.push(tree);
        git.line(&self.place, &args)
    }

    /// Points a ref at a commit, whatever it pointed at.
    ///
    /// # Errors
    /// When git cannot write it.
    pub fn point(&self, git: &Git, name: &str, to: &str) -> Result<()> {
        git.run(&self.place, &["update-ref", "-m", "looop", name, to]).map(drop)
    }

    /// Makes a commit the one that a clone of this repository begins with.
    ///
    /// # Errors
    /// When git cannot write it.
    pub fn begin_at(&self, git: &Git, commit: &str) -> Result<()> {
        self.point(git, &format!("refs/heads/{BRANCH}"), commit)
    }

    /// The commit of a ref; none where there is none.
    ///
    /// # Errors
    /// When git cannot be run.
    pub fn find(&self, git: &Git, name: &str) -> Result<Option<String>> {
        let found = git.answer(&self.place, &["rev-parse", "-q", "--verify", name])?;
        Ok(found.map(|line| line.trim_end().to_owned()))
    }

    /// The tree of a commit.
    ///
    /// # Errors
    /// When there is no such commit.
    pub fn tree_of(&self, git: &Git, commit: &str) -> Result<String> {
        git.line(&self.place, &["rev-parse", "--verify", &format!("{commit}^{{tree}}")])
    }

    /// The difference of two trees as a unified diff with so many lines of context.
    ///
    /// # Errors
    /// When a tree is not there.
    pub fn diff(&self, git: &Git, from: &str, to: &str, context: u32) -> Result<String> {
        if from == to {
            return Ok(String::new());
        }
        let context = format!("-U{context}");
        let args =
            ["diff", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", &context, from, to];
        let bytes = git.run(&self.place, &args)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The paths in which two trees differ.
    ///
    /// # Errors
    /// When a tree is not there, or a path is not UTF-8.
    pub fn changes(&self, git: &Git, from: &str, to: &str) -> Result<Vec<Change>> {
        if from == to {
            return Ok(Vec::new());
        }
        let raw = git.run(&self.place, &["diff-tree", "-r", "-z", "--no-renames", "--raw", from, to])?;
        let raw = String::from_utf8(raw).map_err(|_| fault("compare files", "a path is not UTF-8"))?;
        let mut parts = raw.split('\0');
        let mut changes = Vec::new();
        while let (Some(head), Some(path)) = (parts.next().filter(|head| !head.is_empty()), parts.next()) {
            let fields: Vec<&str> = head.trim_start_matches(':').split(' ').collect();
            let side = |mode: usize, oid: usize| {
                let mode = u32::from_str_radix(fields.get(mode)?, 8).ok().filter(|mode| *mode != 0)?;
                Some((mode, (*fields.get(oid)?).to_owned()))
            };
            changes.push(Change { path: path.to_owned(), old: side(0, 2), new: side(1, 3) });
        }
        Ok(changes)
    }

    /// The bytes of a blob.
    ///
    /// # Errors
    /// When it is not there.
    pub fn blob(&self, git: &Git, oid: &str) -> Result<Vec<u8>> {
        git.run(&self.place, &["cat-file", "blob", oid])
    }

    /// The paths of all files in a tree.
    ///
    /// # Errors
    /// When the tree is not there.
    pub fn paths(&self, git: &Git, tree: &str) -> Result<Vec<String>> {
        let raw = git.run(&self.place, &["ls-tree", "-r", "-z", "--name-only", "--full-tree", tree])?;
        let text = String::from_utf8_lossy(&raw).into_owned();
        Ok(text.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
    }
}

/// Commits all that differs in a worker's own clone, as the worker would.
///
/// # Errors
/// When git cannot do it.
pub fn commit_all(git: &Git, clone: &Path, message: &str) -> Result<()> {
    let place = Place::of(&clone.join(".git"))?.with_tree(clone)?;
    git.run(&place, &["add", "-A", "--", "."])?;
    if git.asks(&place, &["diff", "--cached", "--quiet"])? {
        return Ok(());
    }
    git.run(&place, &["commit", "-q", "--no-verify", "-m", message]).map(drop)
}

/// The top of the repository that a directory lies in, or none where it lies in none.
///
/// # Errors
/// When git cannot be run.
pub fn top_of(git: &Git, dir: &Path) -> Result<Option<PathBuf>> {
    git.check()?;
    let found = git.line(&Place::none(dir), &["rev-parse", "--show-toplevel"]);
    Ok(found.ok().map(PathBuf::from).filter(|top| top.is_absolute()))
}
