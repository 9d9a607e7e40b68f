//! Tests of leanfiles.

use super::*;

/// Reads these leanfiles over this static config.
fn merged(fixed: &str, own: &[&str]) -> Result<Read> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, fixed).unwrap();
    let files: Vec<PathBuf> = (0..own.len()).map(|at| dir.path().join(format!("{at}.toml"))).collect();
    files.iter().zip(own).for_each(|(file, text)| std::fs::write(file, text).unwrap());
    read(Some(&path), &files, dir.path())
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
[lean]
binary = "./agent"
base_url = "http://127.0.0.1:1/v1"
api_key = "k"
model = "m"
approval_mode = "yolo"
auth_type = "openai"
timeout = 5
[health]
check_url = "http://127.0.0.1:1/health"
max_wait = 3
[defaults]
project_root = "app"
source_window = 4
error_tail_lines = 5
max_iters_per_task = 6
after_command_timeout = 7
summarize_errors = false
log_token_savings = false
global_message = "be brief"
source_prefix = "src/"
test_prefix = ["spec/"]
[prompts]
summary = "why {error}"
[runner]
command = "pytest"
args = ["-q"]
timeout = 9
shell = false
env = { A = "1", B = "2" }
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
    let Read { leanfile, root, warnings } = merged("", &[text]).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert!(root.ends_with("app"));
    assert_eq!(leanfile.lean.approval_mode.as_deref(), Some("yolo"));
    assert_eq!(leanfile.defaults.source_prefix, ["src/"], "one or more");
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
    let text = "[lean]\nbinry = \"x\"\n[helth]\nx = 1\n[[tasks]]\nname = \"a\"\nprompt = \"p\"\nfile = []\nrunner = { zzzz = 1 }\n";
    let warnings = merged("", &[text]).unwrap().warnings.join("\n");
    for part in
        ["`lean.binry`", "`binary`?", "`helth`", "`health`?", "`tasks[1].file`", "`files`?", "runner.zzzz"]
    {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
    assert!(!warnings.contains("zzzz` has no effect; did you mean"), "nothing is near: {warnings}");
}

#[test]
fn what_cannot_be_used_says_file_line_and_how_to_mend_it() {
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
        ("[[tasks]]\nprompt = \"p\"\nrunner = { timeout = \"x\" }\n", vec!["runner of task"]),
    ] {
        let error = merged("", &[text]).unwrap_err();
        let fault = error.downcast_ref::<Fault>().map(|fault| format!("{} {:?}", fault.what, fault.hints));
        let said = format!("{error:#} {}", fault.unwrap_or_default());
        for part in parts {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
    let none = read(None, &[PathBuf::from("/nowhere/leanfile.toml")], Path::new("/")).unwrap_err();
    assert!(format!("{none:#}").contains("does not exist"));
}

#[test]
fn the_sample_is_right() {
    let Read { leanfile, warnings, .. } = merged("", &[SAMPLE]).unwrap();
    assert!(warnings.is_empty() && leanfile.tasks.len() == 1, "{warnings:?}");
}
