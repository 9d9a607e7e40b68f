//! Tests of leanfiles.

use super::source::LeanfileOrigin;
use super::*;

/// Reads these leanfiles over this static config.
fn merged(fixed: &str, own: &[&str]) -> Result<Read> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, fixed).unwrap();
    let files: Vec<PathBuf> = (0..own.len()).map(|at| dir.path().join(format!("{at}.toml"))).collect();
    files.iter().zip(own).for_each(|(file, text)| std::fs::write(file, text).unwrap());
    read(&path, &files, dir.path())
}

fn read(fixed: &Path, own: &[PathBuf], here: &Path) -> Result<Read> {
    let all = own.iter().map(|file| (file.clone(), LeanfileOrigin::Named));
    let all: Vec<_> = std::iter::once((fixed.to_owned(), LeanfileOrigin::Usual)).chain(all).collect();
    combined(&source::open(&all, here)?, here)
}

#[test]
fn every_key_has_its_default() {
    let Read { leanfile, warnings, .. } = merged("", &[""]).unwrap();
    assert_eq!(leanfile, Leanfile::default());
    assert!(warnings.is_empty());
    let Leanfile { lean, health, defaults, runner, tasks, .. } = leanfile;
    assert_eq!((lean.timeout, health.max_wait, runner.timeout, runner.shell), (600, 60, 30, false));
    assert_eq!((defaults.source_window, defaults.error_tail_lines, defaults.max_iters_per_task), (30, 40, 5));
    assert_eq!((defaults.after_command_timeout, defaults.project_root.as_str()), (600, "."));
    assert!(defaults.summarize_errors && defaults.log_token_savings && defaults.global_message.is_empty());
    assert_eq!(defaults.test_prefix, ["tests/", "test_", "scripts/"]);
    assert!(tasks.is_empty() && runner.args.is_empty() && runner.env.is_empty());
}

#[test]
fn a_leanfile_of_every_key_is_read_as_it_is() {
    let text = r#"
health = { check_url = "http://127.0.0.1:1/health", max_wait = 3 }
prompts = { summary = "why {error}" }
runner = { command = "pytest", args = ["-q"], timeout = 9, shell = false, env = { A = "1", B = "2" } }
[lean]
binary = "./agent"
base_url = "http://127.0.0.1:1/v1"
api_key = "k"
model = "m"
approval_mode = "yolo"
auth_type = "openai"
timeout = 5
[defaults]
project_root = "app"
source_window = 4
error_tail_lines = 5
max_iters_per_task = 6
after_command_timeout = 7
summarize_errors = false
log_token_savings = false
global_message = "be brief"
test_prefix = "spec/"
[[tasks]]
name = "one"
prompt = "do it"
files = ["a.py"]
context_budget = 100
after = ["true"]
skip_tests = true
test_files = ["spec/a.py"]
runner = { args = ["-x"], env = { B = "3", C = "4" } }
"#;
    let Read { leanfile, root, warnings, .. } = merged("", &[text]).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert!(root.ends_with("app"));
    assert_eq!(leanfile.lean.approval_mode.as_deref(), Some("yolo"));
    assert_eq!(leanfile.defaults.test_prefix, ["spec/"], "one or more");
    let task = &leanfile.tasks[0];
    assert_eq!((task.context_budget, task.skip_tests, task.after.len()), (Some(100), true, 1));
    // The task's runner is merged into the common one: tables by key, lists as a whole.
    assert_eq!((task.runner.command.as_str(), task.runner.timeout), ("pytest", 9));
    assert_eq!(task.runner.args, ["-x"]);
    let env: Vec<(&str, &str)> = task.runner.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(env, [("A", "1"), ("B", "3"), ("C", "4")]);
}

#[test]
fn leanfiles_go_over_the_static_config_and_over_each_other() {
    let fixed = "[lean]\nbinary = \"fixed\"\nmodel = \"small\"\n[defaults]\ntest_prefix = [\"a/\", \"b/\"]\nmax_iters_per_task = 9\n[runner]\ncommand = \"make\"\nenv = { A = \"1\" }\n";
    let one = "[lean]\nmodel = \"middle\"\n[defaults]\ntest_prefix = [\"c/\"]\n[runner]\nenv = { B = \"2\" }\n[[tasks]]\nname = \"x\"\nprompt = \"p\"\n[[tasks]]\nname = \"y\"\nprompt = \"p\"\n";
    let two = "[lean]\nmodel = \"large\"\n[[tasks]]\nname = \"z\"\nprompt = \"p\"\n";
    let leanfile = merged(fixed, &[one, two]).unwrap().leanfile;
    assert_eq!(leanfile.lean.binary.as_deref(), Some("fixed"));
    assert_eq!(leanfile.lean.model.as_deref(), Some("large"));
    assert_eq!((leanfile.defaults.test_prefix.len(), leanfile.defaults.max_iters_per_task), (1, 9));
    assert_eq!(leanfile.runner.env.keys().collect::<Vec<_>>(), ["A", "B"]);
    let names: Vec<&str> = leanfile.tasks.iter().map(|task| task.name.as_str()).collect();
    assert_eq!(names, ["z"], "a list is replaced as a whole");
    assert_eq!(leanfile.tasks[0].runner.command, "make");
}

#[test]
fn unknown_keys_are_named_with_the_nearest_known_one() {
    let text = "[lean]\nbinry = \"x\"\n[helth]\nx = 1\n[defaults]\nsource_prefix = \"src/\"\n[[tasks]]\nname = \"a\"\nprompt = \"p\"\nfile = []\nrunner = { zzzz = 1 }\n";
    let warnings = merged("", &[text]).unwrap().warnings.join("\n");
    for part in [
        "`lean.binry`",
        "`binary`?",
        "`helth`",
        "`health`?",
        "`defaults.source_prefix` has no effect",
        "`tasks[1].file`",
        "`files`?",
        "runner.zzzz",
    ] {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
    assert!(!warnings.contains("zzzz` has no effect; did you mean"), "nothing is near: {warnings}");
}

#[test]
fn an_error_names_file_and_line_and_how_to_fix_it() {
    for (text, parts) in [
        ("[lean]\nmodel = \"open\n", vec!["0.toml:2: ", "double quotes"]),
        ("[lean\n", vec!["0.toml:1: "]),
        ("[[tasks]]\nprompt = \"p\"\ncontext_budget = -1\n", vec!["0.toml:3: "]),
        ("[runner]\ntimeout = \"soon\"\n", vec!["0.toml:2: "]),
        (
            "[[tasks]]\nname = \"a\"\nprompt = \"p\"\n[[tasks]]\nname = \"a\"\nprompt = \"p\"\n",
            vec!["two tasks", "\"a\""],
        ),
        ("[[tasks]]\nname = \"a\"\nprompt = \" \"\n", vec!["no prompt"]),
        ("[[tasks]]\nprompt = \"p\"\nrunner = { timeout = \"x\" }\n", vec!["0.toml:3: "]),
    ] {
        let error = merged("", &[text]).unwrap_err();
        let fault = error.downcast_ref::<Fault>().map(|fault| format!("{} {:?}", fault.what, fault.hints));
        let reply = format!("{error:#} {}", fault.unwrap_or_default());
        for part in parts {
            assert!(reply.contains(part), "{part}: {reply}");
        }
    }
    let none =
        read(Path::new("/nowhere"), &[PathBuf::from("/nowhere/leanfile.toml")], Path::new("/")).unwrap_err();
    assert!(format!("{none:#}").contains("does not exist"));
}

#[test]
fn the_sample_is_right() {
    let Read { leanfile, warnings, .. } = merged("", &[SAMPLE]).unwrap();
    assert!(warnings.is_empty() && leanfile.tasks.len() == 1, "{warnings:?}");
}

#[test]
fn files_of_a_task_never_lead_out_of_the_project() {
    for bad in ["../x", "/etc/passwd", "a/../../x", "a/.."] {
        for key in ["files", "test_files"] {
            let text = format!("[[tasks]]\nname = \"n\"\nprompt = \"p\"\n{key} = [{bad:?}]\n");
            let error = merged("", &[&text]).unwrap_err().to_string();
            let is_named = error.contains("leads out of the project") && error.contains(key);
            assert!(is_named, "{key} {bad}: {error}");
        }
    }
    let text = "[[tasks]]\nname = \"n\"\nprompt = \"p\"\nfiles = [\"./a\", \"b/**/*.rs\", \"..c\"]\n";
    assert!(merged("", &[text]).is_ok());
}

/// One leanfile in a project at `dir`.
fn of_project(dir: &Path, text: &str) -> LeanfileSource {
    let place = dir.join("leanfile.toml");
    let (text, project) = (text.to_owned(), Some(dir.to_owned()));
    LeanfileSource { path: place.clone(), place, text, project, is_muted: false }
}

#[test]
fn the_root_of_a_file_in_a_project_stays_in_the_project() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().canonicalize().unwrap().join("project");
    std::fs::create_dir_all(dir.join("sub")).unwrap();
    std::os::unix::fs::symlink("/", dir.join("link")).unwrap();
    for bad in ["..", "/", "sub/../..", "link/etc", "link"] {
        let source = of_project(&dir, &format!("[defaults]\nproject_root = {bad:?}\n"));
        let error = combined(std::slice::from_ref(&source), &dir).unwrap_err().to_string();
        assert!(error.contains("leads out of"), "{bad}: {error}");
        let muted = combined(&[LeanfileSource { is_muted: true, ..source.clone() }], &dir).unwrap();
        assert_eq!(muted.root, dir.join("."), "{bad}");
        // The user's own file may name any directory.
        assert!(combined(&[LeanfileSource { project: None, ..source }], &dir).is_ok());
    }
    let good = of_project(&dir, "[defaults]\nproject_root = \"sub\"\n");
    assert_eq!(combined(&[good], &dir).unwrap().inside, Some(dir));
}

#[test]
fn a_file_belongs_to_a_project_by_its_place_and_its_origin() {
    let tmp = tempfile::tempdir().unwrap();
    let top = tmp.path().canonicalize().unwrap();
    let write = |path: &str| {
        let path = top.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "").unwrap();
        path
    };
    std::fs::create_dir_all(top.join("repo/.git")).unwrap();
    let (deep, beside) = (write("repo/a/b/leanfile.toml"), write("plain/leanfile.toml"));
    std::os::unix::fs::symlink(top.join("repo/a"), top.join("plain/link")).unwrap();
    let project = |path: &Path, origin, here: &str| {
        source::open(&[(path.to_owned(), origin)], &top.join(here)).unwrap()[0].project.clone()
    };
    let repo = Some(top.join("repo"));
    assert_eq!(project(&deep, LeanfileOrigin::Named, "plain"), repo);
    assert_eq!(project(&top.join("plain/link/b/leanfile.toml"), LeanfileOrigin::Named, "plain"), repo);
    assert_eq!(project(&deep, LeanfileOrigin::Static, "repo/a"), repo);
    assert_eq!(project(&deep, LeanfileOrigin::Static, "plain"), None);
    assert_eq!(project(&deep, LeanfileOrigin::Usual, "repo/a"), None);
    assert_eq!(project(&beside, LeanfileOrigin::Named, "plain"), None);
    assert_eq!(project(&beside, LeanfileOrigin::Found, "plain"), Some(top.join("plain")));
    for system in [".hg", ".jj", ".svn"] {
        let file = write(&format!("other{system}/a/leanfile.toml"));
        std::fs::create_dir_all(top.join(format!("other{system}")).join(system)).unwrap();
        assert_eq!(project(&file, LeanfileOrigin::Named, "plain"), Some(top.join(format!("other{system}"))));
    }
    let mut sources = source::open(&[(beside, LeanfileOrigin::Named)], &top).unwrap();
    source::claim(&mut sources, None, &top.join("repo"));
    assert_eq!(sources[0].project, None);
    source::claim(&mut sources, None, &top.join("plain"));
    assert_eq!(sources[0].project, Some(top.join("plain")), "it lies in what is worked on");
}

#[test]
fn a_fresh_leanfile_names_the_tests_of_the_project() {
    let npm = ("package.json", r#"{"scripts":{"test":"vitest run"}}"#);
    for (files, command, args) in [
        (&[("Cargo.toml", "")][..], "cargo", &["test"][..]),
        (&[("go.mod", "")], "go", &["test", "./..."]),
        (&[npm], "npm", &["test"]),
        (&[npm, ("pnpm-lock.yaml", "")], "pnpm", &["test"]),
        (&[npm, ("yarn.lock", "")], "yarn", &["test"]),
        (&[("package.json", "{}"), ("setup.cfg", "")], "pytest", &["-q"]),
        (&[("pyproject.toml", ""), ("Makefile", "test:\n")], "pytest", &["-q"]),
        (&[("Makefile", "all: x\ntest: all\n\tprove\n")], "make", &["test"]),
    ] {
        let read =
            |name: &str| files.iter().find(|(file, _)| *file == name).map(|(_, text)| (*text).to_owned());
        let text = sample_for(read);
        let Read { leanfile, warnings, .. } = merged("", &[&text]).unwrap();
        assert_eq!(
            (leanfile.runner.command.as_str(), leanfile.runner.args),
            (command, args.iter().map(|arg| (*arg).to_owned()).collect()),
            "{files:?}"
        );
        assert!(leanfile.tasks.is_empty() && warnings.is_empty() && text.contains("# [[tasks]]"), "{text}");
    }
    for none in ["Makefile", "README.md"] {
        assert_eq!(sample_for(|name| (name == none).then(|| "all:\n".to_owned())), SAMPLE);
    }
}
