//! Applies the edits in the answer of a model without tools to the clone: all of them or none.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::edits;
use super::land::is_inside;
use crate::store::file::{self, Durability, ReadError};
use crate::sys::beneath::{self, Parents};

const MAX_FILE_BYTES: usize = 4 << 20;

/// Applies the edits of an answer below `top`; the model sees paths relative to `dir`.
///
/// # Errors
/// A file cannot be written, and the earlier edits cannot be undone. The inner error says, in words for the
/// model, why none of its edits was made.
pub(super) fn edit(top: &Path, dir: &Path, answer: &str) -> Result<Result<(), String>> {
    let below = |path: &str| dir.join(path);
    let from_top = |path: &str| below(path).strip_prefix(top).map(Path::to_owned).unwrap_or_default();
    let read = |path: &str| -> Result<Option<String>, String> {
        let full = below(path);
        let from_top = full.strip_prefix(top).map_err(|_| outside())?;
        let is_plain = path.trim() == path && !path.contains(char::is_control);
        if !is_plain || !is_inside(top, from_top) {
            return Err(outside());
        }
        let place = match beneath::find(top, from_top, Parents::Existing) {
            Ok(place) => place,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(_) => return Err(outside()),
        };
        match file::read(place.path(), MAX_FILE_BYTES) {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) => String::from_utf8(bytes)
                .map(Some)
                .map_err(|_| "it is not UTF-8 text and cannot be edited".to_owned()),
            Err(ReadError::TooLarge(_)) => Err(format!("it is larger than {} MiB", MAX_FILE_BYTES >> 20)),
            Err(error) => Err(error.to_string()),
        }
    };
    let wanted = edits::parse(answer).and_then(|edits| edits::apply(&edits, &read));
    let files = match wanted {
        Ok(files) => files,
        Err(why) => return Ok(Err(format!("none of its edits was made: {why}"))),
    };
    let mut done: Vec<(&str, Option<Kept>)> = Vec::new();
    for (path, text) in &files {
        // A directory may have become a link a moment ago; neither it nor the file is followed.
        let place = beneath::find(top, &from_top(path), Parents::Created);
        let full = place.as_ref().map_or_else(|_| below(path), |place| place.path().to_owned());
        let old = file::read(&full, MAX_FILE_BYTES).ok().flatten();
        let old = old.map(|bytes| Kept { bytes, mode: mode(&full) });
        let made = place.map_err(anyhow::Error::from).and_then(|_place| {
            let mode = old.as_ref().map_or(0o644, |old| old.mode);
            file::write(&full, text.as_bytes(), mode, Durability::Whole)
        });
        done.push((path, old));
        if let Err(error) = made {
            take_back(top, &from_top, &done)?;
            return Ok(Err(format!("none of its edits was made: {path}: {error:#}")));
        }
    }
    Ok(Ok(()))
}

/// A file's state before the edits.
struct Kept {
    bytes: Vec<u8>,
    mode: u32,
}

fn outside() -> String {
    "it is not a path inside the project".to_owned()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).map_or(0o644, |meta| meta.permissions().mode() & 0o777)
}

fn take_back(top: &Path, from_top: &dyn Fn(&str) -> PathBuf, done: &[(&str, Option<Kept>)]) -> Result<()> {
    for (path, old) in done {
        let Ok(place) = beneath::find(top, &from_top(path), Parents::Existing) else { continue };
        match old {
            Some(Kept { bytes, mode }) => file::write(place.path(), bytes, *mode, Durability::Whole)?,
            None => drop(fs::remove_file(place.path())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(path: &str) -> String {
        format!("FILE: {path}\n<<<<<<< WHOLE\nnew\n>>>>>>> WHOLE\n")
    }

    #[test]
    fn nothing_is_written_if_one_edit_leads_out_of_the_project() {
        let tmp = tempfile::tempdir().unwrap();
        let top = tmp.path().join("work");
        let dir = top.join("sub");
        fs::create_dir_all(dir.join("folder")).unwrap();
        fs::write(dir.join("a"), "old\n").unwrap();
        fs::write(dir.join("bin"), [0xff, 0xfe]).unwrap();
        std::os::unix::fs::symlink(tmp.path(), dir.join("link")).unwrap();
        std::os::unix::fs::symlink(tmp.path().join("aim"), dir.join("leaf")).unwrap();
        let absolute = tmp.path().join("out").to_string_lossy().into_owned();
        for bad in [
            "../../out",
            absolute.as_str(),
            "x/../../../out",
            ".git/hooks/pre-commit",
            "folder/.GIT/config",
            "link/out",
            "leaf",
            "folder",
            "bin",
            "a/b",
            "x\ty",
        ] {
            let answer = format!("{}{}", whole("a"), whole(bad));
            let made = edit(&top, &dir, &answer).unwrap();
            assert!(made.clone().is_err_and(|why| why.contains("none of its edits")), "{bad}: {made:?}");
            assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "old\n", "{bad}");
            assert!(!tmp.path().join("out").exists() && !tmp.path().join("aim").exists(), "{bad}");
        }
        fs::set_permissions(dir.join("a"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(edit(&top, &dir, &(whole("a") + &whole("deep/er/b"))).unwrap(), Ok(()));
        assert_eq!(fs::read_to_string(dir.join("deep/er/b")).unwrap(), "new\n");
        assert_eq!(
            (fs::read_to_string(dir.join("a")).unwrap().as_str(), mode(&dir.join("a"))),
            ("new\n", 0o755)
        );
    }

    #[test]
    fn a_write_error_undoes_the_other_edits() {
        let tmp = tempfile::tempdir().unwrap();
        fs::write(tmp.path().join("a"), "old\n").unwrap();
        // Neither file exists before, so that the error appears only when the second one is written.
        let answer = whole("a") + &whole("b") + &whole("b/c");
        assert!(edit(tmp.path(), tmp.path(), &answer).unwrap().is_err());
        assert_eq!(fs::read_to_string(tmp.path().join("a")).unwrap(), "old\n");
        assert!(!tmp.path().join("b").exists());
    }
}
