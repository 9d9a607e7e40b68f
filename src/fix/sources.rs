//! The files in the prompt: those that the task lists, read with a limit, why others are left out, and those that
//! the failure and the task's words point to.

use std::collections::BTreeSet;
use std::path::Path;

use super::Severity;
use super::context::{Shown, Sources};
use super::ctx::FixContext;
use super::leanfile::Task;
use crate::map::{self, MapLimits, Question};
use crate::os::beneath::{self, Parents};
use crate::rules::fix::signature;
use crate::store::file::{self, ReadError};
use crate::vcs::history::ignored::glob;

const MAX_FILE_BYTES: usize = 4 << 20;
/// The most files that are shown.
const MAX_FILES: usize = 200;
/// The most files that are added to the listed ones.
const MAX_RETRIEVED: usize = 6;
/// The timeout of the map, in milliseconds.
const MAP_MS: i64 = 10_000;

/// The files in a task's prompt. `paths` are all files that the agent may see, relative to the task's directory, and
/// `output` is that of the tests.
pub(super) fn of_task(ctx: &FixContext, task: &Task, output: &str, paths: &[String]) -> Sources {
    // Without a list of files, the tests that decide are shown.
    let listed = if task.files.is_empty() { &task.test_files } else { &task.files };
    let mut sources = read(&ctx.work(), &ctx.sub, listed, paths);
    retrieve(ctx, &mut sources, task, output, paths);
    sources
}

/// Reads the listed files of the directory `sub` below `root`. `paths` are all files there, relative to `sub`.
/// A listed directory means all files in it.
fn read(root: &Path, sub: &Path, listed: &[String], paths: &[String]) -> Sources {
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
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(*name));
    for (at, name) in names.into_iter().enumerate() {
        let text = match at < MAX_FILES {
            true => one(root, &sub.join(name)),
            false => Err(format!("more than {MAX_FILES} files")),
        };
        found.files.push(Shown { path: name.clone(), text, retrieved: None });
    }
    found
}

/// Adds files after the listed ones, so that the listed ones use the budget first. If the map fails, no file is
/// added.
fn retrieve(ctx: &FixContext, sources: &mut Sources, task: &Task, output: &str, paths: &[String]) {
    if !ctx.deps.settings.fixes.map || !map::IS_BUILT_IN {
        return;
    }
    let root = ctx.cwd();
    let limits = MapLimits { timeout_ms: MAP_MS, ..MapLimits::default() };
    let index = match map::open(&root, Some(&ctx.dir.map()), &limits) {
        Ok((index, _)) => index,
        Err(error) => return ctx.say(Severity::Warn, format!("no code map: {error:#}")),
    };
    let report = signature::read(output, Some("exit code 1"), &root.to_string_lossy());
    let answer = map::ask(&index, &Question { failure: output, frame: &report.frame, words: &task.prompt });
    let listed = |path: &str| sources.files.iter().any(|shown| shown.path == path);
    let wanted = answer.files.iter().filter(|_| answer.aimed);
    let wanted = wanted.filter(|file| !listed(&file.path) && paths.contains(&file.path));
    let mut left = task.context_chars();
    let mut added = Vec::new();
    for file in wanted.take(MAX_RETRIEVED) {
        // Files that cannot be read are skipped: the task did not ask for them.
        let Ok(text) = one(&ctx.work(), &ctx.sub.join(&file.path)) else { continue };
        let Some(rest) = left.checked_sub(text.len()) else { continue };
        left = rest;
        let why = file.why.first().cloned().unwrap_or_default();
        added.push(Shown { path: file.path.clone(), text: Ok(text), retrieved: Some(why) });
    }
    sources.files.extend(added);
}

/// Reads one file below `root`; links are not followed, neither the file nor a parent directory.
fn one(root: &Path, path: &Path) -> Result<String, String> {
    let place = match beneath::find(root, path, Parents::Existing) {
        Ok(place) => place,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err("it is gone".to_owned()),
        Err(error) => return Err(error.to_string()),
    };
    match file::read(&place.path, MAX_FILE_BYTES) {
        Ok(None) => Err("it is gone".to_owned()),
        Ok(Some(bytes)) if bytes.contains(&0) => Err("it is binary".to_owned()),
        Ok(Some(bytes)) => String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned()),
        Err(ReadError::TooLarge(_)) => {
            let size = std::fs::symlink_metadata(&place.path).map_or(0, |meta| meta.len());
            Err(format!("it is {} MiB large", size.div_ceil(1 << 20)))
        }
        Err(error) => Err(error.to_string()),
    }
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
            ("app/[id]/*.ts", "app/[id]/page.ts"),
        ] {
            assert!(glob(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in
            [("*.py", "src/a.py"), ("a?c", "ac"), ("src/*.rs", "src/x/a.rs"), ("*a*b", "xbxa"), ("[id]", "i")]
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
        for path in ["folder/key", "/etc/passwd", "../home/key"] {
            assert!(one(&root, Path::new(path)).is_err(), "{path}");
        }
    }
}
