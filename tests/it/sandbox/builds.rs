//! What a build needs in a full sandbox: real test runners pass as checks of a worker that committed in its clone, caches
//! are read, and what is written into them is the worker's own.

use std::path::{Path, PathBuf};
use std::{env, fs, process::Command};

use serde_json::json;

use super::profile;
use crate::support::pi::skipped;
use crate::support::profile::{Profile, git_in, wait_until};

const SYSTEM: &str = "/usr/local/bin:/usr/bin:/bin";

/// A small project with one wrong file, and the check that finds it.
struct Project<'a> {
    files: &'a [(&'a str, &'a str)],
    /// The shell line by which the worker mends it.
    mend: &'a str,
    check: &'a [&'a str],
    path: &'a str,
    /// What the check prints when it has passed.
    says: &'a str,
}

fn has(program: &str, args: &[&str]) -> bool {
    Command::new(program).args(args).output().is_ok_and(|output| output.status.success())
}

fn write(dir: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// Has a worker mend the project and commit in its clone; the check decides.
#[track_caller]
fn mends(profile: &Profile, project: &Project) {
    write(&profile.path("repo"), project.files);
    let repo = profile.repository("repo", "README", "A small project.\n");
    profile.config_more(json!({ "path": project.path, "verify": { "tests": project.check } }));
    let line = format!("{} && git commit -qam mended", project.mend);
    let args = ["worker", "start", "w1", "--repo", repo.to_str().unwrap(), "--verify", "tests", "--"];
    profile.looop(&[&args[..], &["sh", "-c", &line]].concat()).ok();
    let row = profile.wait_worker("w1", &["done", "failed"]);
    let tail = row["verify"]["tail"].as_str().unwrap_or_default();
    assert!(tail.contains(project.says), "{row}\n{}", profile.looop(&["logs", "w1"]).stdout);
    assert_eq!((&row["state"], &row["sandbox"]), (&json!("done"), &json!("full")), "{row}");
    assert_eq!(profile.read_json("workers/w1/spec.json")["checks_sandbox"]["access"]["net"], "off");
    assert_eq!(git_in(&repo, &["log", "-1", "--format=%s", "looop/w1"]).trim(), "mended");
}

#[test]
#[ignore = "needs toolchains"]
fn pytest_passes_as_a_check_in_a_full_box() {
    let Some(profile) = profile() else { return };
    if !has("/usr/bin/python3", &["-m", "pytest", "--version"]) {
        return skipped("no pytest");
    }
    let project = Project {
        files: &[
            ("calc.py", "def add(a, b):\n    return a - b\n"),
            (
                "tests/test_calc.py",
                "import sys\nsys.path.insert(0, '.')\nfrom calc import add\n\n\ndef test_add(tmp_path):\n    (tmp_path / 'f').write_text('x')\n    assert add(2, 3) == 5\n",
            ),
        ],
        mend: "sed -i 's/a - b/a + b/' calc.py",
        check: &["/usr/bin/python3", "-m", "pytest", "-q"],
        path: SYSTEM,
        says: "1 passed",
    };
    mends(&profile, &project);
}

#[test]
#[ignore = "needs toolchains"]
fn go_test_passes_as_a_check_in_a_full_box() {
    let Some(profile) = profile() else { return };
    if !has("go", &["version"]) {
        return skipped("no go");
    }
    // The cache of modules has what the project needs, and is written into all the same: its lock.
    let cache = profile.path("home/go/pkg/mod/cache/download/example.invalid/sum/@v");
    fs::create_dir_all(&cache).unwrap();
    write(
        &cache,
        &[
            ("list", "v1.0.0\n"),
            ("v1.0.0.info", r#"{"Version":"v1.0.0","Time":"2020-01-01T00:00:00Z"}"#),
            ("v1.0.0.mod", "module example.invalid/sum\n"),
        ],
    );
    let zipped = "import sys, zipfile\nz = zipfile.ZipFile(sys.argv[1], 'w')\np = 'example.invalid/sum@v1.0.0/'\nz.writestr(p + 'go.mod', 'module example.invalid/sum\\n')\nz.writestr(p + 'sum.go', 'package sum\\n\\nfunc Of(a, b int) int { return a + b }\\n')\nz.close()\n";
    assert!(has("/usr/bin/python3", &["-c", zipped, cache.join("v1.0.0.zip").to_str().unwrap()]));
    let project = Project {
        files: &[
            ("go.mod", "module calc\n\ngo 1.19\n\nrequire example.invalid/sum v1.0.0\n"),
            (
                "calc.go",
                "package calc\n\nimport \"example.invalid/sum\"\n\nfunc Add(a, b int) int { return sum.Of(a, -b) }\n",
            ),
            (
                "calc_test.go",
                "package calc\n\nimport \"testing\"\n\nfunc TestAdd(t *testing.T) {\n\tif got := Add(2, 3); got != 5 {\n\t\tt.Errorf(\"Add(2, 3) = %d\", got)\n\t}\n}\n",
            ),
        ],
        mend: "sed -i 's/-b/b/' calc.go",
        check: &["sh", "-c", "GOFLAGS=-mod=mod GOPROXY=off GOSUMDB=off CGO_ENABLED=0 go test -vet=off -v"],
        path: SYSTEM,
        says: "PASS: TestAdd",
    };
    mends(&profile, &project);
    // Unpacked by the check, into what is the worker's own.
    assert!(!profile.path("home/go/pkg/mod/example.invalid").exists());
    assert!(
        profile.data().join("workers/w1/caches/go/up/pkg/mod/example.invalid/sum@v1.0.0/sum.go").exists()
    );
}

#[test]
#[ignore = "needs toolchains"]
fn npm_test_passes_as_a_check_in_a_full_box() {
    let Some(profile) = profile() else { return };
    let Some(node) = env::var_os("LOOOP_TEST_NODE_BIN").filter(|_| has("npm", &["--version"])) else {
        return skipped("no npm, or LOOOP_TEST_NODE_BIN is not set");
    };
    let project = Project {
        files: &[
            ("package.json", r#"{"name":"calc","version":"1.0.0","scripts":{"test":"node --test"}}"#),
            ("calc.js", "exports.add = (a, b) => a - b;\n"),
            (
                "calc.test.js",
                "const test = require('node:test');\nconst assert = require('node:assert');\nconst { add } = require('./calc.js');\ntest('it adds', () => { assert.strictEqual(add(2, 3), 5); });\n",
            ),
        ],
        mend: "sed -i 's/a - b/a + b/' calc.js",
        check: &["npm", "test"],
        path: &format!("{}:{SYSTEM}", node.to_str().unwrap()),
        says: "pass 1",
    };
    mends(&profile, &project);
}

/// Where cargo has put what was downloaded for this project.
fn cargo_home() -> Option<PathBuf> {
    let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".cargo"));
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home)
}

/// Copies what was downloaded of one crate into a home, still packed.
fn with_crate(home: &Path, name: &str, index: &str) -> Option<()> {
    let from = cargo_home()?;
    let cache = fs::read_dir(from.join("registry/cache")).ok()?.flatten().next()?;
    let registry = cache.file_name().into_string().ok()?;
    let packed: Vec<_> = fs::read_dir(cache.path()).ok()?.flatten().map(|entry| entry.file_name()).collect();
    let packed = packed.iter().filter_map(|file| file.to_str());
    let packed: Vec<&str> = packed.filter(|file| file.starts_with(&format!("{name}-1"))).collect();
    let copy = |part: &str| -> Option<()> {
        let to = home.join(".cargo").join(part);
        fs::create_dir_all(to.parent()?).ok()?;
        fs::copy(from.join(part), to).ok().map(drop)
    };
    for file in &packed {
        copy(&format!("registry/cache/{registry}/{file}"))?;
    }
    copy(&format!("registry/index/{registry}/config.json"))?;
    copy(&format!("registry/index/{registry}/.cache/{index}"))?;
    // Which registry stands for the usual one, where another one does.
    let _plain = copy("config.toml");
    (!packed.is_empty()).then_some(())
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let found = Command::new("find").arg(dir).args(["-type", "f"]).output().unwrap();
    let mut all: Vec<PathBuf> = String::from_utf8(found.stdout).unwrap().lines().map(PathBuf::from).collect();
    all.sort();
    all
}

#[test]
#[ignore = "needs toolchains"]
fn cargo_test_passes_in_a_full_box_and_unpacks_into_what_is_the_workers_own() {
    let Some(profile) = profile() else { return };
    let home = profile.path("home");
    if with_crate(&home, "cfg-if", "cf/g-/cfg-if").is_none() {
        return skipped("no downloaded crate in the home of cargo");
    }
    let before = files_below(&home.join(".cargo"));
    // The toolchain itself, and not a proxy that looks for one in the home.
    let cargo = env::var_os("CARGO").map_or_else(|| PathBuf::from(env!("CARGO")), PathBuf::from);
    let toolchain = fs::canonicalize(cargo).unwrap().parent().unwrap().display().to_string();
    let project = Project {
        files: &[
            (
                "Cargo.toml",
                "[package]\nname = \"calc\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[profile.test]\ndebug = 0\n\n[dependencies]\ncfg-if = \"1\"\n",
            ),
            (".gitignore", "target\nCargo.lock\n"),
            (
                "src/lib.rs",
                "pub fn add(a: i32, b: i32) -> i32 {\n    cfg_if::cfg_if! { if #[cfg(unix)] { a - b } else { 0 } }\n}\n\n#[cfg(test)]\nmod tests {\n    #[test]\n    fn adds() {\n        assert_eq!(super::add(2, 3), 5);\n    }\n}\n",
            ),
        ],
        mend: "sed -i 's/a - b/a + b/' src/lib.rs",
        check: &["cargo", "test", "--offline", "--lib"],
        path: &format!("{toolchain}:{SYSTEM}"),
        says: "1 passed",
    };
    mends(&profile, &project);
    assert_eq!(files_below(&home.join(".cargo")), before, "the human's cache is as it was");
    let own = files_below(&profile.data().join("workers/w1/caches/.cargo+registry/up/src"));
    assert!(own.iter().any(|path| path.ends_with("src/lib.rs")), "{own:?}");
}

#[test]
#[ignore = "needs toolchains"]
fn what_a_worker_writes_into_a_cache_its_checks_and_no_other_worker_find() {
    let Some(profile) = profile() else { return };
    write(&profile.path("home"), &[(".npm/_cacache/kept", "human\n"), (".npm/_cacache/gone", "human\n")]);
    let check = "cd ~/.npm/_cacache && cat kept added && ! cat gone && grep CapEff:.*0000000000000000 /proc/self/status";
    profile.config_more(json!({ "verify": { "sees": ["sh", "-c", check] } }));
    let line = "cd ~/.npm/_cacache && echo worker >kept && echo new >added && rm gone";
    profile.looop(&["worker", "start", "w1", "--verify", "sees", "--", "sh", "-c", line]).ok();
    let row = profile.wait_worker("w1", &["done", "failed"]);
    assert_eq!(row["state"], "done", "{row}");
    let cache = profile.path("home/.npm/_cacache");
    assert_eq!(files_below(&cache), [cache.join("gone"), cache.join("kept")]);
    assert_eq!(fs::read_to_string(cache.join("kept")).unwrap(), "human\n");
    let line = "cat ~/.npm/_cacache/kept ~/.npm/_cacache/gone; ls ~/.npm/_cacache; exit 3";
    profile.looop(&["worker", "start", "w2", "--", "sh", "-c", line]).ok();
    wait_until("the other one to end", || profile.worker("w2").to_string().contains("exit code 3"));
    let printed = profile.looop(&["logs", "w2"]).ok().prints(&["human"]).stdout;
    assert!(!printed.contains("worker") && !printed.contains("added"), "{printed}");
    profile.looop(&["prune", "w1", "--force"]).ok();
    assert!(!profile.data().join("workers/w1/caches").exists());
}
