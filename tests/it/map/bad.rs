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
    assert_eq!(["files", "skipped", "partial"].map(|key| &index[key]), [5, 3, 1], "{index}");
    let paths: Vec<&str> =
        answer["files"].as_array().unwrap().iter().map(|row| row["path"].as_str().unwrap()).collect();
    assert!(paths.contains(&"broken.py") && paths.contains(&"data.unknown"), "{paths:?}");
    let gaps = ["3 files are too large, generated or not text", "1 files could be parsed only in part"];
    profile.looop(&["map", "--root", root]).ok().warns(&gaps);
    let late = profile.looop(&["map", "--root", root, "--timeout", "0"]).ok();
    late.warns(&["warning: only the first 0 files were looked at"]);
}

#[test]
fn outside_a_project_it_says_how_to_name_one() {
    let profile = Profile::home_only();
    profile.looop(&["map"]).exits(2).warns(&["could not find a project", "--root DIR"]);
    profile.looop(&["map", "--root", "none/such"]).exits(2);
    profile.looop(&["map", "--root", ".", "--failure", "none.log"]).exits(2).warns(&["none.log"]);
    profile.looop(&["map", "--root", "."]).ok().prints(&["the map can read none"]);
}

#[test]
fn a_torn_index_or_one_of_another_version_is_rebuilt() {
    let (dir, cache) = (many(5), tempfile::tempdir().unwrap());
    let cache = cache.path().join("map.json");
    let open = || map::open(dir.path(), Some(&cache), &MapLimits::default()).unwrap().1.parsed;
    assert_eq!((open(), open()), (5, 0));
    let text = fs::read_to_string(&cache).unwrap();
    for bad in [&text.replacen("\"version\":2", "\"version\":1", 1), &text[..text.len() / 2], "[]"] {
        fs::write(&cache, bad).unwrap();
        assert_eq!((open(), open()), (5, 0), "{bad}");
    }
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
