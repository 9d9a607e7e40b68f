//! The code map: the file that matters is found though nothing names it, and only what changed is read again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use looop::map::{self, MapLimits, Question};
use serde_json::json;
use tempfile::TempDir;

use crate::fix::fixture::Fixture;
use crate::support::profile::{Profile, git_in};

mod bad;
mod trees;

use trees::{DB, Tree, trees};

/// A project of these files.
fn project(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_all(dir.path(), files);
    dir
}

fn write_all(dir: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// The paths of the answer, the most important first.
fn ask(root: &Path, question: &Question) -> Vec<String> {
    let (index, _) = map::open(root, None, &MapLimits::default()).unwrap();
    map::ask(&index, question).files.into_iter().map(|file| file.path).collect()
}

/// The files in which most of a text's words are, as a search would list them.
fn searched(files: &[(&str, &str)], text: &str) -> Vec<String> {
    let words = |text: &str| -> BTreeSet<String> {
        text.split(|c: char| !c.is_alphanumeric()).filter(|w| w.len() > 2).map(str::to_lowercase).collect()
    };
    let wanted = words(text);
    let hits = |(path, text): &&(&str, &str)| words(&format!("{path} {text}")).intersection(&wanted).count();
    let mut order: Vec<_> = files.iter().filter(|file| hits(file) > 0).collect();
    order.sort_by_key(|file| std::cmp::Reverse(hits(file)));
    order.into_iter().map(|(path, _)| (*path).to_owned()).collect()
}

#[test]
fn a_bug_that_only_imports_lead_to_is_among_the_first_five() {
    for Tree { name, files, failure } in trees() {
        let dir = project(&files);
        let found = ask(dir.path(), &Question { failure, ..Question::default() });
        let is_db = |path: &&String| path.contains(DB);
        assert!(found.iter().take(5).any(|path| is_db(&path)), "{name}: {found:?}");
        let searched = searched(&files, failure);
        assert!(searched.len() >= 5, "{name}: the search has to have something to find: {searched:?}");
        assert!(!searched.iter().take(5).any(|path| is_db(&path)), "{name}: {searched:?}");
    }
}

#[test]
fn without_its_imports_the_bug_is_not_found() {
    let [Tree { files, failure, .. }, ..] = trees();
    let dir = project(&files);
    for (path, text) in files {
        let lines = text.lines().filter(|line| !line.contains("import") && !line.contains("store.fetch_row"));
        fs::write(dir.path().join(path), lines.collect::<Vec<_>>().join("\n")).unwrap();
    }
    let found = ask(dir.path(), &Question { failure, ..Question::default() });
    assert!(!found.iter().take(5).any(|path| path.contains(DB)), "{found:?}");
}

fn many(count: usize) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for at in 0..count {
        let text = format!("from m{} import f{}\n\ndef f{at}():\n    return f{}()\n", at / 2, at / 2, at / 2);
        fs::write(dir.path().join(format!("m{at}.py")), text).unwrap();
    }
    dir
}

#[test]
fn only_what_changed_is_read_again() {
    let (dir, cache) = (many(60), tempfile::tempdir().unwrap());
    let cache = cache.path().join("map.json");
    let open = || map::open(dir.path(), Some(&cache), &MapLimits::default()).unwrap();
    let (first, printed) = open();
    assert_eq!((printed.files, printed.parsed), (60, 60));
    let (again, printed) = open();
    assert_eq!(printed.parsed, 0);
    let question = Question { words: "f7", ..Question::default() };
    assert_eq!(map::ask(&first, &question), map::ask(&again, &question));
    // The same bytes under a new stamp are known by their digest.
    let path = dir.path().join("m7.py");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, &text).unwrap();
    assert_eq!(open().1.parsed, 0);
    fs::write(&path, text + "\ndef seventh():\n    pass\n").unwrap();
    fs::remove_file(dir.path().join("m59.py")).unwrap();
    fs::rename(dir.path().join("m58.py"), dir.path().join("m_58.py")).unwrap();
    let (index, printed) = open();
    assert_eq!((printed.files, printed.parsed), (59, 2), "the edited one and the renamed one");
    let found = map::ask(&index, &Question { words: "seventh", ..Question::default() });
    assert_eq!((found.aimed, found.files[0].path.as_str()), (true, "m7.py"));
    let paths: Vec<String> =
        map::ask(&index, &Question::default()).files.into_iter().map(|f| f.path).collect();
    assert!(!paths.contains(&"m58.py".to_owned()) && !paths.contains(&"m59.py".to_owned()), "{paths:?}");
}

#[test]
fn vendored_and_ignored_files_are_left_out() {
    let text = "def helper():\n    pass\n";
    let dir = project(&[
        (".gitignore", "generated/\n"),
        ("generated/a.py", text),
        ("node_modules/x/index.js", "function helper() {}\n"),
        ("vendor/y/helper.go", "package y\nfunc helper() {}\n"),
        ("jquery.min.js", "function helper() {}\n"),
        ("own.py", text),
    ]);
    let found = ask(dir.path(), &Question { words: "helper", ..Question::default() });
    assert_eq!(found, ["own.py"]);
}

#[test]
fn the_command_ranks_says_why_and_renders_into_a_budget() {
    let profile = Profile::home_only();
    let [Tree { files, failure, .. }, ..] = trees();
    let dir = project(&files);
    git_in(dir.path(), &["init", "-q"]);
    let root = dir.path().to_str().unwrap();
    let args = ["map", "--root", root, "--failure", "-", "--tokens", "60", "--json"];
    let answer = profile.looop_with(&args, failure).ok().json();
    assert_eq!((&answer["schema_version"], &answer["aimed"]), (&json!(1), &json!(true)));
    let rows = answer["files"].as_array().unwrap();
    let db = rows.iter().find(|row| row["path"].as_str().unwrap().contains(DB)).unwrap();
    assert!(db["why"][0].as_str().unwrap().contains("uses its `fetch_row`"), "{db}");
    assert_eq!(db["defines"][0]["name"], "fetch_row");
    assert!(answer["tokens"].as_u64().unwrap() <= 60 && !answer["text"].as_str().unwrap().is_empty());
    assert_eq!(answer["index"]["files"], files.len());
    let shown = profile.looop(&["map", "--root", root, "--query", "pad_left", "--files", "3"]).ok().stdout;
    assert_eq!(shown.lines().count(), 3, "{shown}");
    assert!(shown.lines().next().unwrap().contains("defines `pad_left`"), "{shown}");
    assert!(!profile.data().exists(), "a map makes no data dir");
}

#[test]
#[ignore = "slow"]
fn a_fix_is_shown_what_the_failure_leads_to_and_the_agent_knows() {
    let session = "from app.db import fetch_row\n\ndef open_session(name):\n    return fetch_row(name)\n";
    let files = [
        (
            "app/auth.py",
            "from app.session import open_session\n\ndef login(name):\n    return open_session(name)\n",
        ),
        ("app/session.py", session),
        ("app/db.py", "def fetch_row(key):\n    return None  # THE-BUG\n"),
        ("check.py", "from app.auth import login\nassert login('ann') == 'ann', 'login gave nothing'\n"),
    ];
    let fixture = Fixture::new(&files);
    let task = "[[tasks]]\nname = \"log in\"\nprompt = \"make it pass\"\nfiles = [\"app/auth.py\"]\n";
    fixture.leanfile("command = \"python3\"\nargs = [\"-B\", \"check.py\"]", task);
    // It can repair only what it is shown.
    fixture.agent("case \"$2\" in *THE-BUG*) sed -i 's/None  # THE-BUG/key/' app/db.py;; *) echo \"# $n\" >>app/auth.py;; esac");
    fixture.fix(&[]).ok();
    let prompt = fixture.prompt(1);
    let [listed, found] =
        ["### app/auth.py\n", "### app/db.py (retrieved: "].map(|title| prompt.find(title).unwrap());
    assert!(listed < found, "{prompt}");
    assert_eq!(fixture.read("app/db.py"), "def fetch_row(key):\n    return key\n");
    assert!(fixture.read("app/auth.py").lines().count() == 4, "the first attempt was the one");
    fixture.profile.config(json!({ "fix": { "map": false } }));
    fixture.write("app/db.py", files[2].1);
    fixture.fix(&["--fresh"]);
    assert!(!fixture.prompt(2).contains("retrieved"), "{}", fixture.prompt(2));
}

#[test]
fn a_workers_brief_says_where_its_words_lead() {
    let profile = Profile::scripted(&[]);
    let repo: PathBuf = profile.path("repo");
    write_all(&repo, &trees()[0].files);
    for args in [&["init", "-q"][..], &["add", "-A"], &["commit", "-qm", "one"]] {
        git_in(&repo, args);
    }
    profile.config_more(json!({ "worker": "own", "runners": { "own": { "worker": ["cat", "{brief}"] } } }));
    let repo = repo.to_str().unwrap();
    profile.looop(&["worker", "start", "w1", "repair open_session", "--repo", repo]).ok();
    let brief = profile.read("workers/w1/brief.md");
    let (_, leads) = brief.split_once("## Where to look").unwrap();
    assert!(leads.contains("session.py: defines `open_session`, which the question names"), "{brief}");
    assert!(leads.contains(DB) && leads.contains("uses its `fetch_row`"), "{brief}");
    profile.looop(&["worker", "start", "w2", "zzz qqq", "--repo", repo]).ok();
    assert!(!profile.read("workers/w2/brief.md").contains("Where to look"));
}
