//! `looop backup` writes a whole profile into one tar file, and `looop restore` makes a profile of such a file.
//!
//! The file holds the data dir as it is, with what git does not hold, and the config. A manifest comes first and a count of
//! the files last. They tell a whole backup from another file, and from one that was cut off.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tar::{Archive, Builder, EntryType, Header};
use tempfile::NamedTempFile;

use super::json_output::{BackupJson, RestoreJson};
use super::{App, Cancel, Fault, print};
use crate::os::clock::Deadline;
use crate::rules::beat::observed::Paused;
use crate::store::file::{self, Doing, Durability};
use crate::store::{json_file, layout, lock};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  looop backup looop.tar\n  looop backup --json looop.tar")]
pub struct BackupArgs {
    /// The file to write, which must not exist, or `-` for stdout.
    file: PathBuf,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  looop restore looop.tar")]
pub struct RestoreArgs {
    /// The file that `looop backup` wrote, or `-` for stdin.
    file: PathBuf,
}

/// The manifest and the count, as files in the archive.
const MANIFEST: &str = "looop-backup.json";
const COUNT: &str = "looop-backup-end.json";
/// The longest of both, in bytes.
const MAX_NOTE_BYTES: u64 = 64 * 1024;
/// The longest config, in bytes.
const MAX_CONFIG_BYTES: usize = 1 << 20;
/// How long a backup waits for the current beat to end, in milliseconds.
const WAIT_LIMIT_MS: i64 = 600_000;
/// How often the progress is shown, in milliseconds.
const FRAME_MS: i64 = 200;

/// What a backup says of itself.
#[derive(Serialize, Deserialize)]
struct Manifest {
    /// The version of the archive's own form.
    backup: u32,
    /// The version of looop that wrote it.
    looop: String,
    /// The format of the data dir.
    format: u32,
    /// When it was made, in milliseconds since the Unix epoch.
    at_ms: i64,
}

/// The version of [`Manifest::backup`] that this program writes and reads.
const FORM: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Count {
    files: u64,
}

/// Writes a backup. A beat that runs is waited for, so that the loop state fits the journal.
pub fn backup(app: &App, args: &BackupArgs) -> Result<u8> {
    let cancel = Cancel::on_signals()?;
    let _beat = lock::tick_patiently(&app.layout.tick_lock(), WAIT_LIMIT_MS, &cancel)?;
    let to_stdout = args.file == Path::new("-");
    let shown = args.file.display();
    if to_stdout {
        if app.json || print::stdout_is_tty() {
            let fault =
                Fault::usage("could not write a backup to stdout: it is a terminal, or --json prints there");
            return Err(fault.hint("name a file").into());
        }
        write(app, io::stdout().lock(), &cancel)?;
        return Ok(0);
    }
    let path = app.env.here(&args.file);
    let refused =
        |why: &str, hint: &str| Fault::usage(format!("could not write `{shown}`: {why}")).hint(hint);
    let exists = || refused("it exists", "name another file");
    ensure!(
        !path.starts_with(app.layout.root()),
        refused("it would be a part of itself", "choose another folder")
    );
    // Checked again below, but the user need not wait for the whole backup.
    ensure!(fs::symlink_metadata(&path).is_err(), exists());
    let folder = path.parent().unwrap_or(Path::new("/"));
    // Only the user may read it: it holds prompts, and keys of the config.
    let made = NamedTempFile::with_prefix_in(".looop-backup-", folder).doing("make a file in", folder)?;
    let (files, bytes) = write(app, made.as_file(), &cancel)?;
    made.as_file().sync_all().doing("write", &path)?;
    if let Err(error) = made.persist_noclobber(&path) {
        ensure!(error.error.kind() != io::ErrorKind::AlreadyExists, exists());
        return Err(error.error).doing("make", &path);
    }
    file::sync_dir(&path)?;
    let made = BackupJson { file: path.display().to_string(), files, bytes };
    match app.json {
        true => print::answer_whole(made),
        false => print::done(&format!("{} files, {} MiB in {}", files, bytes >> 20, made.file)),
    }
}

/// Writes the archive. Returns the numbers of its files and bytes.
fn write(app: &App, out: impl Write, cancel: &Cancel) -> Result<(u64, u64)> {
    let mut writer =
        Writer { tar: Builder::new(out), files: 0, bytes: 0, cancel, frame: Deadline::after_ms(0) };
    let manifest = Manifest {
        backup: FORM,
        looop: env!("CARGO_PKG_VERSION").to_owned(),
        format: layout::format(&app.layout)?,
        at_ms: app.now.unix_ms,
    };
    writer.note(MANIFEST, &manifest)?;
    writer.add(app.layout.root(), Path::new("data"))?;
    let config = app.env.config_path();
    if config.exists() {
        writer.add(&fs::canonicalize(&config).doing("find", &config)?, Path::new("config/looop.json"))?;
    }
    let files = writer.files;
    writer.note(COUNT, &Count { files })?;
    writer.tar.finish().context("could not write the backup")?;
    if print::stderr_is_tty() {
        print::redraw("");
    }
    Ok((files, writer.bytes))
}

/// An archive that is written, with what is in it so far.
struct Writer<'a, W: Write> {
    tar: Builder<W>,
    files: u64,
    bytes: u64,
    cancel: &'a Cancel,
    frame: Deadline,
}

impl<W: Write> Writer<'_, W> {
    fn note(&mut self, name: &str, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_vec(value)?;
        let mut header = Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        self.tar.append_data(&mut header, name, text.as_slice()).context("could not write the backup")
    }

    /// Adds a file or a directory with its contents. Leaves out sockets and pipes, which belong to processes.
    fn add(&mut self, path: &Path, name: &Path) -> Result<()> {
        self.show()?;
        // A worker may remove a file of its own at any time.
        let Some(meta) = file::present(fs::symlink_metadata(path)).doing("read", path)? else {
            return Ok(());
        };
        let mut header = Header::new_gnu();
        header.set_metadata(&meta);
        if meta.is_dir() {
            header.set_size(0);
            self.tar.append_data(&mut header, name, io::empty()).doing("write", path)?;
            let mut names: Vec<_> =
                fs::read_dir(path).doing("list", path)?.flatten().map(|entry| entry.file_name()).collect();
            names.sort();
            return names.iter().try_for_each(|child| self.add(&path.join(child), &name.join(child)));
        }
        if meta.is_symlink() {
            let target = fs::read_link(path).doing("read", path)?;
            header.set_size(0);
            self.tar.append_link(&mut header, name, target).doing("write", path)?;
        } else if meta.is_file() {
            let Some(file) = file::present(File::open(path)).doing("open", path)? else { return Ok(()) };
            // Its length is written before it: what is added in the meantime is left out, what is missing is zero.
            let whole = file.chain(io::repeat(0)).take(meta.len());
            self.tar.append_data(&mut header, name, whole).doing("write", path)?;
            self.bytes += meta.len();
        } else {
            return Ok(());
        }
        self.files += 1;
        Ok(())
    }

    /// Shows the progress, and ends when the user interrupts.
    fn show(&mut self) -> Result<()> {
        ensure!(!self.cancel.is_set(), "could not write the backup: it was interrupted");
        if self.frame.passed() && print::stderr_is_tty() {
            self.frame = Deadline::after_ms(FRAME_MS);
            print::redraw(&format!("{} files, {} MiB", self.files, self.bytes >> 20));
        }
        Ok(())
    }
}

/// Makes a profile of a backup, in a place without a profile. It pauses the loop, because the loop does not know what was
/// done after the backup.
pub fn restore(app: &App, args: &RestoreArgs) -> Result<u8> {
    let root = app.layout.root();
    let shown = args.file.display().to_string();
    let is_free = match fs::read_dir(root) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    if !is_free {
        let fault = Fault::failed(format!("could not restore `{shown}`: `{}` exists", root.display()));
        return Err(fault.hint("move it away, or name another place with LOOOP_DATA_DIR").into());
    }
    let parent = root.parent().context("could not restore: the data dir has no parent")?;
    file::make_dir(parent)?;
    // Beside the data dir, so that it gets its name in one step.
    let aside =
        tempfile::Builder::new().prefix(".looop-restore-").tempdir_in(parent).doing("make", parent)?;
    let archive: Box<dyn Read> = match args.file == Path::new("-") {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(&args.file).doing("open", &args.file)?),
    };
    let (manifest, files) =
        unpack(archive, aside.path()).with_context(|| format!("could not restore `{shown}`"))?;
    let data = aside.path().join("data");
    let paused = Paused {
        since_ms: app.now.unix_ms,
        why: format!("restored from a backup of {}", app.now.at(manifest.at_ms).stamp()),
    };
    json_file::write_json(&data.join("paused.json"), &paused, Durability::Durable)?;
    fs::rename(&data, root).doing("rename", &data)?;
    file::sync_dir(root)?;
    let config = app.env.config_path();
    let from = aside.path().join("config/looop.json");
    let config_made = match file::read(&from, MAX_CONFIG_BYTES).doing("read", &from)? {
        Some(bytes) => {
            config.parent().map_or(Ok(()), file::make_dir)?;
            file::create(&config, &bytes, 0o600)?
        }
        None => false,
    };
    let made = RestoreJson {
        data_dir: root.display().to_string(),
        config: config.display().to_string(),
        config_made,
        files,
        made_ms: manifest.at_ms,
    };
    if app.json {
        return print::answer_whole(made);
    }
    print::line(&format!("{files} files in {}, {}", made.data_dir, paused.why));
    let kept = if config_made { "made" } else { "kept as it was" };
    print::line(&format!("config {} ({kept})", made.config));
    print::done("the loop is paused: look with `looop status` and `looop doctor`, then `looop resume`")
}

/// Unpacks an archive into a directory. Returns its manifest and the number of its files.
///
/// # Errors
/// The archive is not a backup, is of a newer looop, was cut off, or names a place outside of itself.
fn unpack(archive: impl Read, into: &Path) -> Result<(Manifest, u64)> {
    let mut archive = Archive::new(archive);
    archive.set_preserve_permissions(true);
    let mut entries = archive.entries()?;
    let not_one = || Fault::failed("it is not a backup of looop");
    let mut first = entries.next().and_then(Result::ok).ok_or_else(not_one)?;
    ensure!(first.path()? == Path::new(MANIFEST), not_one());
    let manifest: Manifest = note(&mut first)?;
    ensure!(
        manifest.backup == FORM && manifest.format <= layout::FORMAT,
        Fault::failed(format!(
            "looop {} wrote it, and this is {}",
            manifest.looop,
            env!("CARGO_PKG_VERSION")
        ))
        .hint("restore it with that version or a newer one")
    );
    let mut files = 0;
    let mut dirs: Vec<(PathBuf, u32)> = Vec::new();
    for entry in entries {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        if path == Path::new(COUNT) {
            let Count { files: counted } = note(&mut entry)?;
            ensure!(counted == files, "it holds {files} files and counts {counted}");
            // The inner ones first: an outer one may be read-only.
            for (dir, mode) in dirs.into_iter().rev() {
                set_mode(&dir, mode)?;
            }
            return Ok((manifest, files));
        }
        let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        let kind = entry.header().entry_type();
        if !inside || !(path.starts_with("data") || path == Path::new("config/looop.json")) {
            bail!("it names the place `{}`, which is not in a backup", path.display());
        }
        // A link in one of these two places would lead out of the archive.
        let fits = match kind {
            EntryType::Directory => true,
            EntryType::Regular => path != Path::new("data"),
            EntryType::Symlink => path.starts_with("data") && path != Path::new("data"),
            _ => false,
        };
        ensure!(fits, not_one());
        ensure!(entry.unpack_in(into)?, "it names the place `{}`, which is not in a backup", path.display());
        if kind == EntryType::Directory {
            // Its contents are still to come.
            let (dir, mode) = (into.join(&path), entry.header().mode()?);
            ensure!(fs::symlink_metadata(&dir).is_ok_and(|meta| meta.is_dir()), not_one());
            set_mode(&dir, mode | 0o700)?;
            dirs.push((dir, mode));
        } else {
            files += 1;
        }
    }
    bail!("it was cut off: its end is missing")
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o7777)).doing("set the mode of", path)
}

fn note<T: for<'a> Deserialize<'a>>(entry: &mut impl Read) -> Result<T> {
    serde_json::from_reader(entry.take(MAX_NOTE_BYTES)).context("it is not a backup of looop")
}
