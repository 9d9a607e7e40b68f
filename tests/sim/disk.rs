//! A disk in memory that can lose what was not synced, tear what was appended last, and be full. The simulation and the
//! crash proof of the rules run on it.

use std::collections::BTreeMap;

/// What the system may still hold in memory only.
#[derive(Clone, Debug)]
pub enum Op {
    Create {
        path: String,
        file: usize,
    },
    Append {
        file: usize,
        bytes: String,
    },
    /// Durable when all of these directories are.
    Rename {
        from: String,
        to: String,
        unsynced: Vec<String>,
    },
    Remove {
        path: String,
    },
    /// Exchanges two names of one directory.
    Exchange {
        one: String,
        other: String,
    },
}

#[derive(Clone, Debug, Default)]
struct Image {
    names: BTreeMap<String, usize>,
    data: BTreeMap<usize, String>,
}

impl Image {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Create { path, file } => self.name(path, *file),
            Op::Append { file, bytes } => self.data.entry(*file).or_default().push_str(bytes),
            Op::Rename { from, to, .. } => {
                if let Some(file) = self.names.remove(from) {
                    self.name(to, file);
                }
            }
            Op::Remove { path } => {
                let old = self.names.remove(path);
                self.forget(old);
            }
            Op::Exchange { one, other } => {
                if let (Some(a), Some(b)) = (self.names.get(one).copied(), self.names.get(other).copied()) {
                    self.names.extend([(one.clone(), b), (other.clone(), a)]);
                }
            }
        }
    }

    fn name(&mut self, path: &str, file: usize) {
        let old = self.names.insert(path.to_owned(), file);
        self.forget(old);
    }

    /// A file without a name is no more.
    fn forget(&mut self, file: Option<usize>) {
        if let Some(file) = file
            && !self.names.values().any(|other| *other == file)
        {
            self.data.remove(&file);
        }
    }

    fn read(&self, path: &str) -> Option<&str> {
        self.names.get(path).map(|file| self.data.get(file).map_or("", String::as_str))
    }
}

fn dir(path: &str) -> &str {
    path.rsplit_once('/').map_or(".", |(dir, _)| dir)
}

/// Why an operation did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trouble {
    /// The power went.
    Power,
    /// There is no room.
    Full,
}

/// Names and bytes as they are seen, and as a power loss would leave them.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    durable: Image,
    seen: Image,
    pending: Vec<Op>,
    files: usize,
    /// Operations so far.
    pub steps: usize,
    /// After so many operations the power goes.
    pub fuse: usize,
    /// True: nothing can be written any more; what is appended is written in part.
    pub full: bool,
    /// False: a file is put in its place before its bytes are durable.
    pub syncs: bool,
}

impl Disk {
    /// A disk on which some files are durable.
    pub fn new(files: &[(&str, &str)]) -> Disk {
        let mut image = Image::default();
        for (file, (path, text)) in files.iter().enumerate() {
            image.apply(&Op::Create { path: (*path).to_owned(), file });
            image.apply(&Op::Append { file, bytes: (*text).to_owned() });
        }
        Disk {
            durable: image.clone(),
            seen: image,
            files: 100,
            fuse: usize::MAX,
            syncs: true,
            ..Disk::default()
        }
    }

    pub fn has(&self, path: &str) -> bool {
        self.seen.names.contains_key(path)
    }

    pub fn read(&self, path: &str) -> Option<&str> {
        self.seen.read(path)
    }

    pub fn text(&self, path: &str) -> &str {
        self.read(path).unwrap_or_default()
    }

    /// All paths that begin so.
    pub fn list<'a>(&'a self, start: &'a str) -> impl Iterator<Item = &'a str> {
        self.seen.names.keys().map(String::as_str).filter(move |path| path.starts_with(start))
    }

    /// A file that somebody else made and synced.
    pub fn place(&mut self, path: &str, text: &str) {
        self.settle_before(path);
        self.files += 1;
        for image in [&mut self.durable, &mut self.seen] {
            image.name(path, self.files);
            image.data.insert(self.files, text.to_owned());
        }
    }

    /// A file that somebody else took away.
    pub fn take(&mut self, path: &str) {
        self.settle_before(path);
        for image in [&mut self.durable, &mut self.seen] {
            image.apply(&Op::Remove { path: path.to_owned() });
        }
    }

    /// What is synced later never stands behind what was done to the same name before.
    fn settle_before(&mut self, path: &str) {
        let is_about = |op: &Op| match op {
            Op::Append { .. } => false,
            Op::Create { path: of, .. } | Op::Remove { path: of } => of == path,
            Op::Rename { from, to, .. } => from == path || to == path,
            Op::Exchange { one, other } => one == path || other == path,
        };
        if self.pending.iter().any(is_about) {
            self.settle();
        }
    }

    /// The system writes down what it held.
    pub fn settle(&mut self) {
        for op in std::mem::take(&mut self.pending) {
            self.durable.apply(&op);
        }
    }

    /// The power may go before each operation.
    pub fn point(&mut self) -> Result<(), Trouble> {
        self.steps += 1;
        if self.steps > self.fuse { Err(Trouble::Power) } else { Ok(()) }
    }

    fn op(&mut self, op: Op) -> Result<(), Trouble> {
        self.point()?;
        let (op, kept) = match op {
            Op::Append { file, bytes } if self.full => {
                let cut = bytes.floor_char_boundary(bytes.len() / 2);
                (Op::Append { file, bytes: bytes[..cut].to_owned() }, Err(Trouble::Full))
            }
            Op::Create { .. } if self.full => return Err(Trouble::Full),
            op => (op, Ok(())),
        };
        self.seen.apply(&op);
        self.pending.push(op);
        kept
    }

    fn sync(&mut self, done: impl Fn(&mut Op) -> bool) -> Result<(), Trouble> {
        self.point()?;
        for mut op in std::mem::take(&mut self.pending) {
            if done(&mut op) { self.durable.apply(&op) } else { self.pending.push(op) }
        }
        Ok(())
    }

    fn sync_file(&mut self, path: &str) -> Result<(), Trouble> {
        let Some(&synced) = self.seen.names.get(path) else { return Ok(()) };
        self.sync(|op| matches!(op, Op::Append { file, .. } if *file == synced))
    }

    fn sync_dir(&mut self, of: &str) -> Result<(), Trouble> {
        let synced = dir(of);
        self.sync(|op| match op {
            Op::Append { .. } => false,
            Op::Create { path, .. } | Op::Remove { path } | Op::Exchange { one: path, .. } => {
                dir(path) == synced
            }
            Op::Rename { unsynced, .. } => {
                unsynced.retain(|left| left != synced);
                unsynced.is_empty()
            }
        })
    }

    pub fn remove(&mut self, path: &str) -> Result<(), Trouble> {
        self.op(Op::Remove { path: path.to_owned() })?;
        self.sync_dir(path)
    }

    /// Writes a file durably and gives it a private name.
    pub fn stage(&mut self, private: &str, text: &str) -> Result<(), Trouble> {
        let temp = format!("{private}.part");
        self.create(&temp, text)?;
        if self.syncs {
            self.sync_file(&temp)?;
        }
        self.rename(&temp, private)
    }

    /// Exchanges two names of one directory.
    pub fn exchange(&mut self, one: &str, other: &str) -> Result<(), Trouble> {
        self.op(Op::Exchange { one: one.to_owned(), other: other.to_owned() })
    }

    /// Removes a name, which a power loss may bring back.
    pub fn unlink(&mut self, path: &str) -> Result<(), Trouble> {
        self.op(Op::Remove { path: path.to_owned() })
    }

    /// Makes the names of a file's directory durable.
    pub fn sync_names(&mut self, of: &str) -> Result<(), Trouble> {
        self.sync_dir(of)
    }

    /// Moves a file and makes both directories durable.
    pub fn move_synced(&mut self, from: &str, to: &str) -> Result<(), Trouble> {
        self.rename(from, to)?;
        self.sync_dir(to)?;
        self.sync_dir(from)
    }

    pub fn rename(&mut self, from: &str, to: &str) -> Result<(), Trouble> {
        let unsynced = vec![dir(from).to_owned(), dir(to).to_owned()];
        self.op(Op::Rename { from: from.to_owned(), to: to.to_owned(), unsynced })
    }

    fn create(&mut self, path: &str, text: &str) -> Result<usize, Trouble> {
        self.files += 1;
        let file = self.files;
        self.op(Op::Create { path: path.to_owned(), file })?;
        self.op(Op::Append { file, bytes: text.to_owned() })?;
        Ok(file)
    }

    pub fn write(&mut self, path: &str, text: &str, durable: bool) -> Result<(), Trouble> {
        let temp = format!("{path}.{}.tmp", self.files);
        self.create(&temp, text)?;
        if durable && self.syncs {
            self.sync_file(&temp)?;
        }
        self.rename(&temp, path)?;
        if durable { self.sync_dir(path) } else { Ok(()) }
    }

    pub fn append(&mut self, path: &str, line: &str) -> Result<(), Trouble> {
        let text = self.text(path);
        let torn = !text.is_empty() && !text.ends_with('\n');
        let file = self.seen.names[path];
        self.op(Op::Append { file, bytes: format!("{}{line}\n", if torn { "\n" } else { "" }) })?;
        self.sync_file(path)
    }

    /// Makes what stands in a file durable, and that it is there.
    pub fn sync_found(&mut self, path: &str) -> Result<(), Trouble> {
        self.sync_file(path)?;
        self.sync_dir(path)
    }

    /// What is not synced, in order.
    pub fn pending(&self) -> &[Op] {
        &self.pending
    }

    /// The disk after a power loss that let only these operations through of those that were not synced.
    pub fn wreck(&self, kept: &[Op]) -> Disk {
        let mut durable = self.durable.clone();
        kept.iter().for_each(|op| durable.apply(op));
        Disk {
            seen: durable.clone(),
            durable,
            files: self.files,
            fuse: usize::MAX,
            syncs: self.syncs,
            ..Disk::default()
        }
    }
}
