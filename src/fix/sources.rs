//! The files in the prompt: those that the task lists, read with a limit, and why others are left out.

use std::path::Path;

use super::context::Shown;
use crate::store::file::{self, ReadError};
use crate::sys::beneath::{self, Parents};

const MAX_FILE_BYTES: usize = 4 << 20;
/// The most files that are shown.
const MAX_FILES: usize = 200;

/// The files of a list.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub files: Vec<Shown>,
    /// Patterns and names that match nothing.
    pub unmatched: Vec<String>,
}

/// Reads the listed files of the directory `sub` below `root`. `paths` are all files there, relative to `sub`.
/// A listed directory means all files in it.
pub fn read(root: &Path, sub: &Path, listed: &[String], paths: &[String]) -> Sources {
    let mut found = Sources::default();
    let mut names: Vec<&String> = Vec::new();
    for pattern in listed {
        let before = names.len();
        let wanted = pattern.trim_start_matches("./").trim_end_matches('/');
        let fits = |path: &&String| glob(wanted, path) || path.starts_with(&format!("{wanted}/"));
        names.extend(paths.iter().filter(fits));
        if names.len() == before {
            found.unmatched.push(pattern.clone());
        }
    }
    names.dedup();
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    for name in names.iter().skip(MAX_FILES) {
        let text = Err(format!("more than {MAX_FILES} files"));
        found.files.push(Shown { path: (*name).clone(), text, retrieved: None });
    }
    for name in names.into_iter().take(MAX_FILES) {
        let text = one(root, &sub.join(name));
        found.files.push(Shown { path: name.clone(), text, retrieved: None });
    }
    found
}

/// Reads one file below `root`; links are not followed, neither the file nor a parent directory.
pub(super) fn one(root: &Path, path: &Path) -> Result<String, String> {
    let place = match beneath::find(root, path, Parents::Existing) {
        Ok(place) => place,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err("it is gone".to_owned()),
        Err(error) => return Err(error.to_string()),
    };
    match file::read(place.path(), MAX_FILE_BYTES) {
        Ok(None) => Err("it is gone".to_owned()),
        Ok(Some(bytes)) if bytes.contains(&0) => Err("it is binary".to_owned()),
        Ok(Some(bytes)) => String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned()),
        Err(ReadError::TooLarge(_)) => {
            let size = std::fs::symlink_metadata(place.path()).map_or(0, |meta| meta.len());
            Err(format!("it is {} MiB large", size.div_ceil(1 << 20)))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// True if a path matches a pattern: `?` is one character, `*` any characters within a part, `**` any number of parts.
fn glob(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    parts(&pattern, &path)
}

fn parts(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((&"**", rest)), _) => {
            parts(rest, path) || path.split_first().is_some_and(|(_, below)| parts(pattern, below))
        }
        (Some((first, rest)), Some((name, below))) => {
            let (first, name): (Vec<char>, Vec<char>) = (first.chars().collect(), name.chars().collect());
            chars(&first, &name) && parts(rest, below)
        }
        _ => false,
    }
}

/// Matches one part, without the exponential time of trying every length for every `*`.
fn chars(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, from)) => {
                    (p, n) = (at + 1, from + 1);
                    star = Some((at, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell_with_globstar() {
        for (pattern, path) in [
            ("a.py", "a.py"),
            ("*.py", "a.py"),
            ("src/**/*.rs", "src/a.rs"),
            ("src/**/*.rs", "src/x/y/a.rs"),
            ("**", "a/b"),
            ("a?c*e", "abcde"),
            ("*a*b*", "xxaxxbxx"),
        ] {
            assert!(glob(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in
            [("*.py", "src/a.py"), ("a?c", "ac"), ("src/*.rs", "src/x/a.rs"), ("*a*b", "xbxa")]
        {
            assert!(!glob(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn unreadable_files_are_listed_with_the_cause() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("bin"), [0_u8, 1]).unwrap();
        std::fs::write(dir.path().join("a.txt"), "text").unwrap();
        let huge = std::fs::File::create(dir.path().join("huge")).unwrap();
        huge.set_len(50 << 20).unwrap();
        let paths = ["a.txt", "bin", "huge"].map(str::to_owned);
        let listed = ["*", "a.txt", "none/*"].map(str::to_owned);
        let found = read(dir.path(), Path::new(""), &listed, &paths);
        let texts: Vec<_> = found.files.iter().map(|shown| shown.text.clone()).collect();
        assert_eq!(
            texts,
            [Ok("text".to_owned()), Err("it is binary".to_owned()), Err("it is 50 MiB large".to_owned())]
        );
        assert_eq!(found.unmatched, ["none/*"]);
    }

    #[test]
    fn links_are_not_followed_out_of_the_project() {
        let tmp = tempfile::tempdir().unwrap();
        let root = tmp.path().join("clone");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::create_dir(tmp.path().join("home")).unwrap();
        std::fs::write(tmp.path().join("home/key"), "SECRET").unwrap();
        std::os::unix::fs::symlink("../home", root.join("folder")).unwrap();
        std::os::unix::fs::symlink("../../home/key", root.join("sub/leaf")).unwrap();
        std::fs::write(root.join("sub/a"), "text").unwrap();
        // A directory in git's listing may have become a link.
        let paths = ["a", "leaf", "../folder/key"].map(str::to_owned);
        let found = read(&root, Path::new("sub"), &paths, &paths);
        let texts: Vec<_> = found.files.iter().map(|shown| shown.text.clone()).collect();
        assert_eq!(texts[0], Ok("text".to_owned()));
        assert!(texts[1].is_err() && texts[2].is_err(), "{texts:?}");
        assert!(one(&root, Path::new("folder/key")).is_err());
        assert!(
            one(&root, Path::new("/etc/passwd")).is_err() && one(&root, Path::new("../home/key")).is_err()
        );
    }
}
