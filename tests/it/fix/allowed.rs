//! Leanfiles inside projects: what they ask for counts only after a person allowed them, keys stay with their addresses,
//! and nothing leads out of the project.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use super::adder::{self, CHECK, FIXED, FIXED_LIB, LIB, TASK, TESTS};
use super::fixture::Fixture;
use crate::support::model_server::{ModelServer, Reply};
use crate::support::pi::skipped;
use crate::support::profile::{LOOOP, Ran, git_in, program};

const GOOD: &str = "FILE: lib.sh\n<<<<<<< WHOLE\nadd() { echo $(($1 + $2)); }\n>>>>>>> WHOLE\n";

/// A project that has a leanfile inside, with this in `[lean]`.
fn with_inner(lean: &str, rest: &str) -> (Fixture, String) {
    let scene = adder::project(&[]);
    let text = format!(
        "[lean]\n{lean}\ntimeout = 60\n[runner]\n{TESTS}\n[defaults]\nsummarize_errors = false\n{rest}{TASK}"
    );
    scene.write("leanfile.toml", &text);
    let path = scene.project().join("leanfile.toml").canonicalize().unwrap();
    (scene, path.to_str().unwrap().to_owned())
}

/// The same with the scripted agent, which fixes it, and these lines in `[lean]`.
fn with_agent(lean: &str) -> (Fixture, String) {
    let (scene, path) = with_inner("model = \"m\"", "");
    let lean = format!("binary = {:?}\n{lean}", scene.profile.path("agent.sh"));
    scene.write("leanfile.toml", &scene.read("leanfile.toml").replace("model = \"m\"", &lean));
    scene.agent(FIXED);
    (scene, path)
}

#[test]
fn a_leanfile_in_a_project_counts_only_after_a_person_allowed_its_bytes() {
    let (scene, path) = with_agent("api_key = \"sk-hidden\"");
    let (project, before, text) = (scene.project(), scene.fingerprint(), scene.read("leanfile.toml"));
    let repo = project.to_str().unwrap();
    // Found in the named project, and named itself.
    for args in
        [vec!["fix", "--repo", repo], vec!["fix", "-c", &path], vec!["fix", "--repo", repo, "-c", &path]]
    {
        let ran = scene.profile.looop(&args).exits(2).warns(&[
            &format!("lean.binary = {:?}", scene.profile.path("agent.sh")),
            "lean.api_key = (a key, not shown)",
            "runner.command = \"sh\"",
            "runner.args = [\"check.sh\"]",
            "tasks[1].files = [\"lib.sh\"]",
            &format!("run `looop trust {path}`"),
        ]);
        assert_eq!(scene.calls(), 0, "{args:?}");
        assert!(!ran.stderr.contains("sk-hidden"), "{}", ran.stderr);
    }
    assert_eq!(scene.fingerprint(), before);
    scene.profile.looop(&["trust", &path]).ok().prints(&["lean.binary = ", "trusted: "]);
    scene.profile.looop(&["fix", "--repo", repo]).ok();
    assert_eq!(scene.calls(), 1);
    let state = || {
        let listed = scene.profile.looop(&["leanfile", "list", "--json"]).ok().json();
        let found = listed["trusted"].as_array().unwrap().first().cloned().unwrap_or_default();
        found["state"].as_str().unwrap_or("none").to_owned()
    };
    assert_eq!(state(), "valid");
    // One byte more, and it is another file.
    scene.write("leanfile.toml", &format!("{text}\n"));
    let ran = scene.profile.looop(&["fix", "--repo", repo, "--fresh"]).exits(2);
    ran.warns(&["has changed since you trusted it"]);
    assert_eq!((state().as_str(), scene.calls()), ("changed", 1));
    scene.write("leanfile.toml", &text);
    scene.profile.looop(&["leanfile", "distrust", &path]).ok();
    assert_eq!(state(), "none");
    for args in [
        &["fix", "--repo", repo, "--fresh"][..],
        &["leanfile", "distrust", &path],
        &["trust", "nowhere.toml"],
    ] {
        scene.profile.looop(args).exits(2);
    }
}

#[test]
fn a_leanfile_that_asks_for_nothing_needs_no_yes() {
    let scene = adder::project(&[]);
    let text = "[defaults]\nmax_iters_per_task = 2\n[[tasks]]\nname = \"add\"\nprompt = \"p\"\n";
    scene.write("leanfile.toml", text);
    scene.agent(FIXED);
    let fixed = scene.leanfile(TESTS, "");
    let text = fs::read_to_string(&fixed).unwrap();
    fs::write(&fixed, text.replace("project_root = \"project\"", "")).unwrap();
    let (repo, fixed) = (scene.project(), fixed.to_str().unwrap().to_owned());
    scene.profile.looop(&["fix", "-g", &fixed, "--repo", repo.to_str().unwrap()]).ok();
    assert_eq!(scene.read("lib.sh"), FIXED_LIB);
}

#[test]
fn a_person_at_a_terminal_can_approve_at_once() {
    let can = Command::new("script").args(["-qec", "true", "/dev/null"]).stdin(Stdio::null()).output();
    if !can.is_ok_and(|output| output.status.success()) {
        return skipped("there is no `script` to make a terminal with");
    }
    let (scene, path) = with_agent("");
    let answer = |word: &str| {
        let line = format!("{LOOOP} fix -c {path}");
        let mut command = scene.profile.other_command("script", &["-qec", &line, "/dev/null"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(format!("{word}\n").as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        drop(stdin);
        Ran::from(output)
    };
    answer("n").exits(2).prints(&["Allow this file as it is now?"]);
    assert_eq!(scene.calls(), 0);
    answer("y").ok();
    assert_eq!(scene.read("lib.sh"), FIXED_LIB);
    scene.profile.looop(&["leanfile", "distrust", &path]).ok();
}

#[test]
fn an_agent_of_a_fix_cannot_allow_a_file() {
    let scene = adder::fixture(TASK);
    scene.write("leanfile.toml", "[lean]\nbinary = \"/bin/true\"\n");
    let path = scene.project().join("leanfile.toml");
    scene.agent(&format!("{}; {FIXED}", scene.as_user(&format!("trust {}", path.display()))));
    scene.fix(&[]).ok();
    let output = scene.agents_output();
    assert!(output.contains("this is for the user") && output.contains("looop fix"), "{output}");
    scene.profile.looop(&["leanfile", "list"]).ok().prints(&["no file is trusted"]);
}

/// All that a server was sent, headers and bodies.
fn sent(server: &ModelServer) -> String {
    server.requests().iter().map(|one| format!("{}\n{}\n{}\n", one.path, one.headers, one.body)).collect()
}

#[test]
#[ignore = "slow"]
fn a_key_never_goes_to_an_address_of_another_file_or_of_the_environment() {
    let [own, stranger] = [(); 2].map(|()| ModelServer::start(vec![Reply::text(GOOD)]));
    // The static config has the key; a file of the project, a person's own file, and a chain of files have the address.
    for door in ["project", "own", "chain"] {
        let lean = format!("base_url = \"{}/v1\"\nmodel = \"m\"", stranger.url());
        let (mut scene, path) = with_inner(&lean, "");
        scene.profile.var("LEAN_API_KEY", "sk-of-the-shell");
        // looop starts in the profile's directory, where these files are.
        let write = |name: &str, text: String| fs::write(scene.profile.path(name), text).unwrap();
        let keyed = "[lean]\napi_key = \"sk-own-key\"\n";
        write("static.toml", format!("{keyed}base_url = \"{}/v1\"\n", own.url()));
        write("keyed.toml", keyed.to_owned());
        let inner = scene.read("leanfile.toml");
        write("outer.toml", inner.replace("[defaults]", "[defaults]\nproject_root = \"project\""));
        let files: &[&str] = match door {
            "project" => &["-c", &path],
            "own" => &["-c", "outer.toml"],
            _ => &["-c", "keyed.toml", "-c", "outer.toml"],
        };
        if door == "project" {
            scene.profile.looop(&["trust", &path]).ok();
        }
        let ran = scene.profile.looop(&[&["fix", "-g", "static.toml"], files].concat()).ok();
        ran.warns(&["`api_key` of ", "is not used"]);
        assert_eq!(scene.read("lib.sh"), FIXED_LIB, "{door}: the address itself was asked");
    }
    let all = sent(&stranger);
    assert!(stranger.requests().len() >= 3 && own.requests().is_empty());
    assert!(!all.contains("sk-own-key") && !all.contains("sk-of-the-shell"), "{all}");
    // A key beside its address goes there, whatever the variable of its name holds.
    let lean = format!("base_url = \"{}/v1\"\nmodel = \"m\"\napi_key = \"sk-beside\"", stranger.url());
    let (mut scene, path) = with_inner(&lean, "");
    scene.profile.var("LEAN_API_KEY", "sk-of-the-shell");
    scene.profile.looop(&["trust", &path]).ok();
    scene.profile.looop(&["fix", "-c", &path]).ok();
    let all = sent(&stranger);
    assert!(all.contains("sk-beside") && !all.contains("sk-of-the-shell"), "{all}");
}

#[test]
#[ignore = "slow"]
fn a_wrapper_gets_address_and_key_from_one_place() {
    for (lean, wanted) in [
        ("base_url = \"http://x\"", "http://x/"),
        ("base_url = \"http://x\"\napi_key = \"sk-file\"", "http://x/sk-file"),
        ("api_key = \"sk-file\"", "/sk-file"),
        ("model = \"m\"", "http://shell/sk-shell"),
    ] {
        let mut scene = adder::fixture(TASK);
        scene.profile.var("LEAN_API_KEY", "sk-shell");
        scene.profile.var("LEAN_BASE_URL", "http://shell");
        let seen = scene.profile.path("seen");
        let agent = scene.profile.path("agent.sh");
        let note = format!("echo \"$LEAN_BASE_URL/$LEAN_API_KEY\" >{}", seen.display());
        program(&agent, format!("#!/bin/sh\n{note}\n{FIXED}\necho done\n"));
        scene.leanfile_of(&format!("{lean}\nbinary = {agent:?}"), TESTS, TASK);
        scene.fix(&[]).ok();
        assert_eq!(fs::read_to_string(&seen).unwrap().trim(), wanted, "{lean}");
    }
}

#[test]
#[ignore = "slow"]
fn a_redirect_takes_no_key_to_another_host() {
    let stranger = ModelServer::start(vec![Reply::text(GOOD)]);
    for status in [301, 302, 307, 308] {
        let away = Reply::status(status, "{}")
            .header("location", &format!("{}/v1/chat/completions", stranger.url()));
        let own = ModelServer::start(vec![away]);
        let lean = format!("base_url = \"{}/v1\"\nmodel = \"m\"\napi_key = \"sk-own\"", own.url());
        let (scene, path) = with_inner(&lean, "max_iters_per_task = 1\n");
        scene.profile.looop(&["trust", &path]).ok();
        assert_eq!(scene.profile.looop(&["fix", "-c", &path]).code, 1, "{status}");
        assert!(sent(&own).contains("sk-own"), "{status}");
    }
    assert!(stranger.requests().is_empty(), "{}", sent(&stranger));
}

#[test]
fn the_root_of_a_trusted_leanfile_stays_in_its_project() {
    for bad in ["..", "/", "link", "sub/../.."] {
        let (scene, path) = with_inner("model = \"m\"", &format!("project_root = {bad:?}\n"));
        fs::create_dir(scene.profile.path("outside")).unwrap();
        fs::create_dir(scene.project().join("sub")).unwrap();
        symlink("../outside", scene.project().join("link")).unwrap();
        scene.profile.looop(&["trust", &path]).ok();
        scene.profile.looop(&["fix", "-c", &path]).exits(2).warns(&["leads out of"]);
    }
    // The repository's own config can name another folder as well.
    let scene = adder::fixture(TASK);
    let home = scene.profile.path("home").display().to_string();
    scene.agent(FIXED);
    git_in(&scene.project(), &["config", "core.worktree", &home]);
    // It does not count.
    scene.fix(&[]).ok();
    assert_eq!(scene.read("lib.sh"), FIXED_LIB);
    assert!(!scene.profile.path("home/lib.sh").exists());
}

#[test]
fn a_folder_of_tests_that_became_a_link_is_restored_without_following_it() {
    let scene = Fixture::new(&[("lib.sh", LIB), ("tests/check.sh", CHECK)]);
    let tests = TESTS.replace("check.sh", "tests/check.sh");
    scene.leanfile(&tests, &format!("summarize_errors = false\n{TASK}"));
    let outside = scene.outside("check.sh", "mine\n");
    scene.agent(&format!(
        "if [ $n = 1 ]; then rm -r tests; ln -s {} tests; else [ -L tests ] || {FIXED}; fi",
        outside.display()
    ));
    scene.fix(&[]).ok();
    assert_eq!(fs::read_to_string(outside.join("check.sh")).unwrap(), "mine\n");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(scene.attempted("add", "outcome"), ["tests_changed", "passed"]);
    assert_eq!(scene.read("lib.sh"), FIXED_LIB);
    assert!(!scene.project().join("tests").is_symlink());
}

#[test]
fn a_clone_that_became_a_link_counts_as_gone() {
    let scene = adder::fixture(&format!("{TASK}after = [\"true\"]\n"));
    let outside = scene.outside("lib.sh", "exit 0\n");
    scene.outside("check.sh", "exit 0\n");
    scene.agent(&format!(
        "if [ $n = 1 ]; then d=$PWD; cd ..; mv $d gone; ln -s {} $d; else {FIXED}; fi",
        outside.display()
    ));
    scene.fix(&[]).ok();
    assert_eq!(scene.attempted("add", "outcome"), ["deleted", "passed"]);
    assert_eq!(fs::read_to_string(outside.join("lib.sh")).unwrap(), "exit 0\n");
}

#[test]
#[ignore = "slow"]
fn a_clone_whose_repository_became_a_link_is_made_again() {
    let scene = adder::fixture(TASK);
    let outside = scene.profile.path("outside");
    fs::create_dir(&outside).unwrap();
    scene.agent(&format!(
        "if [ $n = 1 ]; then mv .git ../gone; ln -s {} .git; echo '# no' >>lib.sh; elif [ ! -L .git ]; then {FIXED}; fi",
        outside.display()
    ));
    scene.fix(&[]).ok();
    let attempts = scene.attempts("add");
    assert_eq!(attempts.len(), 2, "the second attempt has a repository of its own: {attempts:?}");
}
