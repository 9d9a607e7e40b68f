//! What no map can read: it is said, and the rest is mapped.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use looop::map::{self, MapLimits, Question};

use super::{many, project};
use crate::support::profile::Profile;

#[test]
fn files_that_cannot_be_read_are_reported_and_the_rest_is_mapped() {
    let profile = Profile::home_only();
    let dir = project(&[
        ("broken.py", "def good():\n    return 1\n\ndef bad(:\n  ((\n"),
        ("data.unknown", "good good good"),
        ("wide.js", &format!("var a = [{}];\n", "1,".repeat(20_000))),
        ("latin.py", ""),
    ]);
    fs::write(dir.path().join("latin.py"), b"# caf\xe9\n").unwrap();
    // Fifty megabytes without holes would say no more about it.
    fs::File::create(dir.path().join("huge.py")).unwrap().set_len(50 << 20).unwrap();
    symlink(dir.path(), dir.path().join("loop")).unwrap();
    symlink(dir.path().join("broken.py"), dir.path().join("link.py")).unwrap();
    let root = dir.path().to_str().unwrap();
    let ran = profile.looop(&["map", "--root", root, "--query", "good data", "--json"]).ok();
    let answer = ran.json();
    let index = &answer["index"];
    assert_eq!(
        (&index["files"], &index["skipped"], &index["partial"]),
        (&5.into(), &3.into(), &1.into()),
        "{index}"
    );
    let paths: Vec<&str> =
        answer["files"].as_array().unwrap().iter().map(|row| row["path"].as_str().unwrap()).collect();
    assert!(paths.contains(&"broken.py") && paths.contains(&"data.unknown"), "{paths:?}");
    let messages = profile.looop(&["map", "--root", root]).ok().stderr;
    assert!(messages.contains("3 files are too large, generated or not text"), "{messages}");
    assert!(messages.contains("1 files could be parsed only in part"), "{messages}");
    let late = profile.looop(&["map", "--root", root, "--timeout", "0"]).ok().stderr;
    assert!(late.contains("warning: only the first 0 files were looked at"), "{late}");
}

#[test]
fn outside_a_project_it_says_how_to_name_one() {
    let profile = Profile::home_only();
    let ran = profile.looop(&["map"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("could not find a project") && ran.stderr.contains("--root DIR"),
        "{}",
        ran.stderr
    );
    let ran = profile.looop(&["map", "--root", "none/such"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    let ran = profile.looop(&["map", "--root", ".", "--failure", "none.log"]);
    assert!(ran.code == 2 && ran.stderr.contains("none.log"), "{}", ran.stderr);
    let empty = profile.looop(&["map", "--root", "."]).ok();
    assert!(empty.stdout.contains("the map can read none"), "{}", empty.stdout);
}

#[test]
fn a_torn_index_or_one_of_another_version_is_rebuilt() {
    let (dir, cache) = (many(5), tempfile::tempdir().unwrap());
    let cache = cache.path().join("map.json");
    let open = || map::open(dir.path(), Some(&cache), &MapLimits::default()).unwrap().1.parsed;
    assert_eq!((open(), open()), (5, 0));
    let text = fs::read_to_string(&cache).unwrap();
    fs::write(&cache, text.replacen("\"version\":2", "\"version\":1", 1)).unwrap();
    assert_eq!((open(), open()), (5, 0));
    fs::write(&cache, &text[..text.len() / 2]).unwrap();
    assert_eq!((open(), open()), (5, 0));
    fs::write(&cache, "[]").unwrap();
    assert_eq!((open(), open()), (5, 0));
}

#[test]
fn limits_bound_the_work_and_the_next_time_goes_on() {
    let (dir, cache) = (many(30), tempfile::tempdir().unwrap());
    let cache = cache.path().join("map.json");
    let open = |limits: &MapLimits| map::open(dir.path(), Some(&cache), limits).unwrap().1;
    let few = open(&MapLimits { files: 10, ..MapLimits::default() });
    assert_eq!((few.files, few.all, few.parsed), (10, false, 10));
    assert!(few.gaps()[0].contains("only the first 10 files"), "{:?}", few.gaps());
    let began = Instant::now();
    let late = open(&MapLimits { timeout_ms: 0, ..MapLimits::default() });
    assert!(began.elapsed() < Duration::from_secs(20) && late.parsed == 0 && !late.all, "{late:?}");
    let rest = open(&MapLimits::default());
    assert_eq!((rest.files, rest.all, rest.late), (30, true, 0));
    let (index, _) = map::open(dir.path(), Some(&cache), &MapLimits::default()).unwrap();
    assert_eq!(map::ask(&index, &Question { words: "f29", ..Question::default() }).files[0].path, "m29.py");
}
