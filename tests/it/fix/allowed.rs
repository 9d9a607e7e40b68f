//! Leanfiles inside projects: what they ask for counts only after a person allowed them, keys stay with their addresses,
//! and nothing leads out of the project.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::adder::{self, CHECK, FIXED, LIB, TESTS};
use super::fixture::{Fixture, of, program};
use crate::support::model_server::{ModelServer, Reply};
use crate::support::pi::skipped;
use crate::support::profile::{LOOOP, git_in};

const TASK: &str = "[[tasks]]\nname = \"add\"\nprompt = \"add must add\"\nfiles = [\"lib.sh\"]\n";
const GOOD: &str = "FILE: lib.sh\n<<<<<<< WHOLE\nadd() { echo $(($1 + $2)); }\n>>>>>>> WHOLE\n";

/// A project that has a leanfile inside, with this in `[lean]`.
fn with_inner(lean: &str, rest: &str) -> (Fixture, String) {
    let scene = Fixture::new(&[("lib.sh", LIB), ("check.sh", CHECK)]);
    let text = format!(
        "[lean]\n{lean}\ntimeout = 60\n[runner]\n{TESTS}\n[defaults]\nsummarize_errors = false\n{rest}{TASK}"
    );
    scene.write("leanfile.toml", &text);
    let path = scene.project().join("leanfile.toml").canonicalize().unwrap();
    (scene, path.to_str().unwrap().to_owned())
}

fn agent_of(scene: &Fixture) -> PathBuf {
    scene.profile.path("agent.sh")
}

#[test]
fn a_leanfile_in_a_project_counts_only_after_a_person_allowed_its_bytes() {
    let (scene, path) = with_inner("model = \"m\"", "");
    let agent = agent_of(&scene);
    let text = scene
        .read("leanfile.toml")
        .replace("model = \"m\"", &format!("binary = {agent:?}\napi_key = \"sk-hidden\""));
    scene.write("leanfile.toml", &text);
    scene.agent(FIXED);
    let (project, before) = (scene.project(), scene.fingerprint());
    let repo = project.to_str().unwrap();
    // Found in the named project, and named itself.
    for args in
        [vec!["fix", "--repo", repo], vec!["fix", "-c", &path], vec!["fix", "--repo", repo, "-c", &path]]
    {
        let ran = scene.profile.looop(&args);
        assert_eq!((ran.code, scene.calls()), (2, 0), "{args:?}: {}", ran.stderr);
        for part in [
            format!("lean.binary = {agent:?}"),
            "lean.api_key = (a key, not shown)".to_owned(),
            "runner.command = \"sh\"".to_owned(),
            "runner.args = [\"check.sh\"]".to_owned(),
            "tasks[1].files = [\"lib.sh\"]".to_owned(),
            format!("run `looop trust {path}`"),
        ] {
            assert!(ran.stderr.contains(&part), "{part}: {}", ran.stderr);
        }
        assert!(!ran.stderr.contains("sk-hidden"), "{}", ran.stderr);
    }
    assert_eq!(scene.fingerprint(), before);
    let output = scene.profile.looop(&["trust", &path]).ok().stdout;
    assert!(output.contains("lean.binary = ") && output.contains("trusted: "), "{output}");
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
    let ran = scene.profile.looop(&["fix", "--repo", repo, "--fresh"]);
    assert!(ran.code == 2 && ran.stderr.contains("has changed since you trusted it"), "{}", ran.stderr);
    assert_eq!((state().as_str(), scene.calls()), ("changed", 1));
    scene.write("leanfile.toml", &text);
    scene.profile.looop(&["leanfile", "distrust", &path]).ok();
    assert_eq!(state(), "none");
    assert_eq!(scene.profile.looop(&["fix", "--repo", repo, "--fresh"]).code, 2);
    assert_eq!(scene.profile.looop(&["leanfile", "distrust", &path]).code, 2);
    assert_eq!(scene.profile.looop(&["trust", "nowhere.toml"]).code, 2);
}

#[test]
fn a_leanfile_that_asks_for_nothing_needs_no_yes() {
    let scene = Fixture::new(&[("lib.sh", LIB), ("check.sh", CHECK)]);
    scene.write(
        "leanfile.toml",
        "[defaults]\nmax_iters_per_task = 2\n[[tasks]]\nname = \"add\"\nprompt = \"add must add\"\n",
    );
    scene.agent(FIXED);
    let fixed = scene.leanfile(TESTS, "");
    let text = fs::read_to_string(&fixed).unwrap();
    fs::write(&fixed, text.replace("project_root = \"project\"", "")).unwrap();
    let (repo, fixed) = (scene.project(), fixed.to_str().unwrap().to_owned());
    scene.profile.looop(&["fix", "-g", &fixed, "--repo", repo.to_str().unwrap()]).ok();
    assert!(scene.read("lib.sh").contains("$1 + $2"));
}

#[test]
fn a_person_at_a_terminal_can_approve_at_once() {
    let can = Command::new("script").args(["-qec", "true", "/dev/null"]).stdin(Stdio::null()).output();
    if !can.is_ok_and(|output| output.status.success()) {
        return skipped("there is no `script` to make a terminal with");
    }
    let (scene, path) = with_inner("model = \"m\"", "");
    let agent = agent_of(&scene);
    scene.write(
        "leanfile.toml",
        &scene.read("leanfile.toml").replace("model = \"m\"", &format!("binary = {agent:?}")),
    );
    scene.agent(FIXED);
    let answer = |word: &str| {
        use std::io::Write;
        let looop = scene.profile.command(&[]);
        let mut command = Command::new("script");
        command.args(["-qec", &format!("{LOOOP} fix -c {path}"), "/dev/null"]).env_clear();
        command.envs(looop.get_envs().filter_map(|(key, value)| Some((key, value?))));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(format!("{word}\n").as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        drop(stdin);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, output) = answer("n");
    assert!(code == Some(2) && output.contains("Allow this file as it is now?"), "{output}");
    assert_eq!(scene.calls(), 0);
    let (code, output) = answer("y");
    assert!(code == Some(0) && scene.read("lib.sh").contains("$1 + $2"), "{output}");
    scene.profile.looop(&["leanfile", "distrust", &path]).ok();
}

#[test]
fn an_agent_of_a_fix_cannot_allow_a_file() {
    let scene = adder::fixture(TASK);
    scene.write("leanfile.toml", "[lean]\nbinary = \"/bin/true\"\n");
    let path = scene.project().join("leanfile.toml");
    let output = scene.profile.path("said");
    scene.agent(&format!(
        "LOOOP_DATA_DIR={} LOOOP_CONFIG={} {LOOOP} trust {} >{} 2>&1; {FIXED}",
        scene.profile.data().display(),
        scene.profile.config_file().display(),
        path.display(),
        output.display()
    ));
    scene.fix(&[]).ok();
    let output = fs::read_to_string(&output).unwrap();
    assert!(output.contains("this is for the user") && output.contains("looop fix"), "{output}");
    assert!(scene.profile.looop(&["leanfile", "list"]).ok().stdout.contains("no file is trusted"));
}

/// All that a server was sent, headers and bodies.
fn sent(server: &ModelServer) -> String {
    server.requests().iter().map(|one| format!("{}\n{}\n{}\n", one.path, one.headers, one.body)).collect()
}

#[test]
#[ignore = "slow"]
fn a_key_never_goes_to_an_address_of_another_file_or_of_the_environment() {
    let (own, stranger) =
        (ModelServer::start(vec![Reply::text(GOOD)]), ModelServer::start(vec![Reply::text(GOOD)]));
    // The static config has the key; a file of the project, a person's own file, and a chain of files have the address.
    for door in ["project", "own", "chain"] {
        let lean = format!("base_url = \"{}/v1\"\nmodel = \"m\"", stranger.url());
        let (mut scene, path) = with_inner(&lean, "");
        let fixed = scene.profile.path("static.toml");
        fs::write(&fixed, format!("[lean]\nbase_url = \"{}/v1\"\napi_key = \"sk-own-key\"\n", own.url()))
            .unwrap();
        scene.profile.var("LEAN_API_KEY", "sk-of-the-shell");
        let mut args = vec!["fix".to_owned(), "-g".to_owned(), fixed.to_str().unwrap().to_owned()];
        let outer = scene.profile.path("outer.toml");
        fs::write(
            &outer,
            scene.read("leanfile.toml").replace("[defaults]", "[defaults]\nproject_root = \"project\""),
        )
        .unwrap();
        match door {
            "project" => {
                scene.profile.looop(&["trust", &path]).ok();
                args.extend(["-c".to_owned(), path]);
            }
            "own" => args.extend(["-c".to_owned(), outer.to_str().unwrap().to_owned()]),
            _ => {
                let keyed = scene.profile.path("keyed.toml");
                fs::write(&keyed, "[lean]\napi_key = \"sk-own-key\"\n").unwrap();
                args.extend(["-c".to_owned(), keyed.to_str().unwrap().to_owned()]);
                args.extend(["-c".to_owned(), outer.to_str().unwrap().to_owned()]);
            }
        }
        let ran = scene.profile.looop(&args.iter().map(String::as_str).collect::<Vec<_>>()).ok();
        assert!(
            ran.stderr.contains("`api_key` of ") && ran.stderr.contains("is not used"),
            "{door}: {}",
            ran.stderr
        );
        assert!(scene.read("lib.sh").contains("$1 + $2"), "{door}: the address itself was asked");
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
        program(
            &agent_of(&scene),
            &format!(
                "#!/bin/sh\necho \"$LEAN_BASE_URL/$LEAN_API_KEY\" >{}\n{FIXED}\necho done\n",
                seen.display()
            ),
        );
        let path = scene.profile.path("leanfile.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen("[lean]\n", &format!("[lean]\n{lean}\n"), 1)).unwrap();
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
        let ran = scene.profile.looop(&["fix", "-c", &path]);
        assert!(ran.code == 2 && ran.stderr.contains("leads out of"), "{bad}: {}", ran.stderr);
    }
    // The repository's own config can name another folder as well.
    let scene = adder::fixture(TASK);
    let home = scene.profile.path("home").display().to_string();
    scene.agent(FIXED);
    git_in(&scene.project(), &["config", "core.worktree", &home]);
    // It does not count.
    scene.fix(&[]).ok();
    assert!(scene.read("lib.sh").contains("$1 + $2"));
    assert_eq!(
        fs::read_dir(home).unwrap().filter(|entry| entry.as_ref().unwrap().file_name() == "lib.sh").count(),
        0
    );
}

#[test]
fn a_folder_of_tests_that_became_a_link_is_restored_without_following_it() {
    let scene = Fixture::new(&[("lib.sh", LIB), ("tests/check.sh", CHECK)]);
    scene.leanfile(
        "command = \"sh\"\nargs = [\"tests/check.sh\"]",
        &format!("summarize_errors = false\n{TASK}"),
    );
    let outside = scene.profile.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("check.sh"), "mine\n").unwrap();
    scene.agent(&format!(
        "if [ $n = 1 ]; then rm -r tests; ln -s {} tests; else [ -L tests ] || {FIXED}; fi",
        outside.display()
    ));
    scene.fix(&[]).ok();
    assert_eq!(fs::read_to_string(outside.join("check.sh")).unwrap(), "mine\n");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    let lines = scene.ledger("add");
    let outcomes: Vec<_> = of(&lines, "attempt").iter().map(|one| one["outcome"].clone()).collect();
    assert_eq!(outcomes, ["tests_changed", "passed"]);
    assert!(scene.read("lib.sh").contains("$1 + $2") && !scene.project().join("tests").is_symlink());
}

#[test]
fn a_clone_that_became_a_link_counts_as_gone() {
    let scene = adder::fixture(&format!("{TASK}after = [\"true\"]\n"));
    let outside = scene.profile.path("outside");
    fs::create_dir(&outside).unwrap();
    for name in ["lib.sh", "check.sh"] {
        fs::write(outside.join(name), "exit 0\n").unwrap();
    }
    scene.agent(&format!(
        "if [ $n = 1 ]; then d=$PWD; cd ..; mv $d gone; ln -s {} $d; else {FIXED}; fi",
        outside.display()
    ));
    scene.fix(&[]).ok();
    let lines = scene.ledger("add");
    let outcomes: Vec<_> = of(&lines, "attempt").iter().map(|one| one["outcome"].clone()).collect();
    assert_eq!(outcomes, ["deleted", "passed"]);
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
    let lines = scene.ledger("add");
    assert_eq!(of(&lines, "attempt").len(), 2, "the second attempt has a repository of its own: {lines:?}");
}
