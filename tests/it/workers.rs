//! Workers: they outlive whoever started them, are told apart, end whole, and write only under leases that they hold.

use std::{fs, path::Path, process::Stdio};

use serde_json::{Value, json};

use crate::support::profile::{NOOP, Profile, git_in, wait_until};
use crate::support::rows::kill;

fn wait_state(profile: &Profile, id: &str, wanted: &str) {
    profile.wait_worker(id, &[wanted]);
}

/// A shell line that calls the program under test.
fn looop(line: &str) -> String {
    line.replace("looop ", &format!("{} ", env!("CARGO_BIN_EXE_looop")))
}

/// Starts a worker that runs this shell script.
#[track_caller]
fn start(profile: &Profile, id: &str, more: &[&str], script: &str) {
    let ran = profile.looop(&[&["worker", "start", id], more, &["--", "sh", "-c", script]].concat()).ok();
    assert_eq!(ran.stdout, format!("{id}\n"), "stdout carries the id alone");
}

fn is_alive(pid: u32) -> bool {
    looop::os::process::tree::start_of(pid).is_some()
}

/// How many processes run this command, in whatever sandbox.
fn count(command: &str) -> usize {
    let found = std::process::Command::new("pgrep").args(["-fc", &format!("^{command}$")]).output().unwrap();
    String::from_utf8_lossy(&found.stdout).trim().parse().unwrap()
}

/// A command that sleeps and that no other test has.
fn sleep(seconds: u32) -> String {
    format!("sleep {seconds}.{}", std::process::id())
}

#[test]
fn a_worker_flags_asks_reports_and_ends() {
    let profile = Profile::scripted(&[NOOP]);
    let script = r#"
        looop flag "look at me" && while [ ! -e go ]; do sleep 0.02; done; looop unflag
        answer=$(looop ask "which one?" --options red,blue --ref issue-7) && echo "answer=$answer"
        echo "told=$(looop inbox)"
        printf 'a report' | looop report out.md
        looop spend --usd 0.25 --tokens-in 100 --model m
        exit 0"#;
    start(&profile, "w1", &[], script);
    wait_state(&profile, "w1", "waiting");
    assert_eq!(profile.worker("w1")["flag"]["text"], "look at me");
    profile.looop(&["wait", "--timeout", "5s"]).exits(3).prints(&["⚑ w1: look at me"]);
    let cwd = profile.read_json("workers/w1/spec.json")["cwd"].as_str().unwrap().to_owned();
    fs::write(Path::new(&cwd).join("go"), "").unwrap();
    wait_until("the question", || profile.worker("w1")["ask"].is_string());
    let ask = profile.looop(&["asks", "--json"]).ok().json()["asks"][0].clone();
    assert_eq!(
        (&ask["worker"], &ask["options"], &ask["ref"]),
        (&json!("w1"), &json!(["red", "blue"]), &json!("issue-7"))
    );
    profile.looop(&["tell", "w1", "mind the gap"]).ok();
    // An answer that cannot be read is none, and stands in nobody's way.
    let torn = format!("asks/{}.answer.json", ask["id"].as_str().unwrap());
    fs::write(profile.data().join(&torn), "{\"ask\":").unwrap();
    assert_eq!(profile.looop(&["asks", "--json"]).ok().json()["asks"][0]["id"], ask["id"]);
    profile.looop(&["answer", "w1", "2"]).ok();
    let aside = fs::read_dir(profile.data().join("asks")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(aside.filter(|name| name.to_string_lossy().contains(".corrupt-")).count(), 1);
    wait_state(&profile, "w1", "exited");
    let transcript = profile.read("workers/w1/transcript.raw");
    assert!(transcript.contains("answer=blue\r\n"), "{transcript}");
    assert!(transcript.contains("told=mind the gap\r\n"), "{transcript}");
    assert_eq!(profile.read("reports/w1/out.md"), "a report");
    assert_eq!(profile.worker("w1")["cost_usd"], 0.25);
    assert!(profile.looop(&["cost", "--by", "worker"]).ok().stdout.contains("w1"));
    assert!(profile.read("journal.md").contains("worker w1 — exited"));
}

#[test]
fn one_worker_is_shown_whole() {
    let profile = Profile::scripted(&[NOOP]);
    let long = "which one? ".repeat(40);
    let script = looop(&format!("looop flag '{long}\u{1b}[2J'; exec sleep 600"));
    start(&profile, "w1", &["--claim", "db", "--goal", "release"], &script);
    wait_state(&profile, "w1", "waiting");
    let mut one = profile.looop(&["worker", "show", "w", "--json"]).ok().json()["worker"].take();
    let mut row = profile.worker("w1");
    for worker in [&mut one, &mut row] {
        worker.as_object_mut().unwrap().remove("idle_s");
    }
    assert_eq!(one, row, "it is the row of the list");
    let text = profile.looop(&["worker", "show", "w1"]).ok();
    let pid = row["pid"].as_u64().unwrap();
    text.prints(&["worker   w1", "state    waiting for ", "goal     release", "runner   command"])
        .prints(&["leases   ", "db (epoch 1)"])
        .prints(&[&format!("process  {pid}"), &format!("flag     {long}\\u{{1b}}[2J")]);
    profile.looop(&["worker", "show", "x"]).exits(2).warns(&["there are: w1"]);
    profile.looop(&["kill", "w1"]).ok();
    profile.looop(&["worker", "show", "w1"]).ok().prints(&["state    killed for ", "reason   "]);
}

#[test]
fn a_worker_outlives_the_shell_and_the_session_that_started_it() {
    let profile = Profile::scripted(&[NOOP]);
    let line =
        &looop("looop worker start w1 -- sh -c 'while :; do date +%N; sleep 0.02; done' && exec sleep 600");
    let mut shell =
        profile.other_command("setsid", &["sh", "-c", line]).stdout(Stdio::null()).spawn().unwrap();
    wait_until("the worker runs", || profile.data().join("workers/w1/state.json").exists());
    wait_state(&profile, "w1", "running");
    shell.kill().unwrap();
    shell.wait().unwrap();
    let length =
        || fs::metadata(profile.data().join("workers/w1/transcript.raw")).map_or(0, |meta| meta.len());
    let before = length();
    wait_until("it prints on", || length() > before + 100);
    assert_eq!(profile.worker("w1")["state"], "running");
    assert_eq!(profile.looop(&["kill", "w1"]).ok().stdout, "w1: killed\n");
}

#[test]
fn the_starter_does_not_wait_for_the_worker_and_leaks_nothing_into_it() {
    let profile = Profile::scripted(&[NOOP]);
    // A command substitution ends when nobody holds its pipe any more.
    let line = &looop(
        "id=$(exec 7</dev/null; looop worker start w1 -- sh -c 'ls -l /proc/self/fd >fds; sleep 600'); echo \"got $id\"",
    );
    let output = profile.other_command("sh", &["-c", line]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "got w1\n");
    let fds = profile.data().join("workers/w1").join("clone/fds");
    wait_until("the list of descriptors", || fs::read_to_string(&fds).is_ok_and(|text| text.contains("fds")));
    let listed = fs::read_to_string(&fds).unwrap();
    let numbers: Vec<&str> =
        listed.lines().filter_map(|l| l.split(" -> ").next()?.split_whitespace().last()).collect();
    assert!(numbers.iter().all(|n| !n.parse::<u32>().is_ok_and(|n| n > 3)), "{listed}");
    assert!(listed.lines().filter(|line| line.contains("/dev/pts/")).count() >= 2, "{listed}");
}

#[test]
#[ignore = "slow"]
fn fifty_megabytes_of_output_are_kept_byte_for_byte() {
    let profile = Profile::scripted(&[NOOP]);
    let script = "stty raw -echo; i=0; while [ $i -lt 50 ]; do head -c 1000000 /dev/urandom | tee -a copy; i=$((i+1)); done";
    start(&profile, "w1", &[], script);
    wait_state(&profile, "w1", "exited");
    let dir = profile.data().join("workers/w1");
    let (kept, copy) =
        (fs::read(dir.join("transcript.raw")).unwrap(), fs::read(dir.join("clone/copy")).unwrap());
    assert_eq!(copy.len(), 50_000_000);
    assert!(kept == copy, "the transcript has {} bytes and differs", kept.len());
}

#[test]
#[ignore = "slow"]
fn exit_check_and_limit_decide_how_a_worker_stands() {
    let profile = Profile::scripted(&[NOOP]);
    profile.config_more(json!({
        "verify": {
            "good": ["test", "-e", "made"],
            "both": [["test", "-e", "made"], ["sh", "-c", "echo broken; exit 9"]],
            "hang": ["sh", "-c", "trap '' TERM; sleep 600"],
            "flood": ["sh", "-c", "yes | head -c 3000000; exit 1"],
            "none": ["no-such-program-anywhere"],
        },
    }));
    for (id, verify, script, wanted, words) in [
        ("a", "good", "touch made", "done", "the check `good` passed"),
        ("b", "both", "touch made", "failed", "broken"),
        ("c", "hang", "true", "failed", "ended at its deadline"),
        ("d", "flood", "true", "failed", "exit code 1"),
        ("e", "none", "true", "failed", "could not be started"),
        ("f", "good", "touch made; exit 7", "failed", "exit code 7"),
        ("g", "good", "touch made; kill -9 $$", "failed", "signal 9"),
    ] {
        let limit = if verify == "hang" { "2s" } else { "2m" };
        profile.config_more(json!({ "limits": { "verify_timeout": limit, "workers": 20 } }));
        start(&profile, id, &["--verify", verify], script);
        wait_state(&profile, id, wanted);
        let row = profile.worker(id);
        assert!(
            format!("{} {}", row["why"], row["verify"]).replace("\",\"status\":\"", " ").contains(words)
                || profile.read("journal.md").contains(words),
            "{id}: {row}"
        );
        assert_eq!(row["verify"].is_null(), matches!(id, "f" | "g"), "{row}");
    }
}

#[test]
fn all_that_a_worker_started_ends_with_it() {
    let profile = Profile::scripted(&[NOOP]);
    let commands = [sleep(601), sleep(602), sleep(603)];
    let [stubborn, fled, twice] = &commands;
    let script = format!(
        r#"
        (trap '' TERM HUP; exec {stubborn}) &
        setsid sh -c 'trap "" TERM HUP; {fled} & touch fled; wait' &
        (setsid sh -c '({twice} & touch twice) &' &)
        while [ ! -e twice ] || [ ! -e fled ]; do sleep 0.02; done
        touch ready; sleep 600"#
    );
    start(&profile, "w1", &["--goal", "g1"], &script);
    let file = |name: &str| profile.worker_file("w1", name);
    wait_until("all of them run", || file("ready").exists());
    wait_until("each is what it is to be", || commands.iter().all(|command| count(command) == 1));
    assert!(profile.data().join("claims/goal.g1.json").exists());
    profile.looop(&["kill", "w1"]).ok();
    assert!(commands.iter().all(|command| count(command) == 0), "a process is left");
    assert!(!profile.data().join("claims/goal.g1.json").exists(), "the lease is given back");
    profile.looop(&["kill", "w1"]).exits(1).warns(&["it has ended already (killed)"]);
}

#[test]
fn a_worker_without_its_supervisor_is_lost_and_nothing_of_it_runs_on() {
    let profile = Profile::scripted(&[NOOP]);
    let fled = sleep(604);
    let script = format!(
        r#"echo "before the end"
        setsid sh -c 'trap "" TERM HUP; {fled} & touch fled; wait' &
        while [ ! -e fled ]; do sleep 0.02; done; touch ready; trap "" HUP; sleep 600"#
    );
    start(&profile, "w1", &["--goal", "g1"], &script);
    let file = |name: &str| profile.worker_file("w1", name);
    wait_until("it runs", || file("ready").exists());
    wait_until("it has fled", || count(&fled) == 1);
    let child = profile.worker_pid("w1", "child");
    kill("-KILL", profile.worker_pid("w1", "supervisor"));
    wait_state(&profile, "w1", "lost");
    profile.looop(&["tick"]).ok();
    assert!(count(&fled) == 0 && !is_alive(child), "the beat has ended what was left");
    let shown = profile.read_json("world.json")["own"]["workers"][0].clone();
    assert_eq!((&shown["id"], &shown["state"]), (&json!("w1"), &json!("lost")), "the decision has seen it");
    // Put away with its transcript, and the goal is free at once.
    let mut past = fs::read_dir(profile.data().join("workers/past")).unwrap().flatten();
    let past = past.find(|entry| entry.path().is_dir()).unwrap();
    assert!(fs::read_to_string(past.path().join("transcript.raw")).unwrap().contains("before the end"));
    start(&profile, "w2", &["--goal", "g1"], "sleep 600");
    assert_eq!(profile.worker("w2")["state"], "running");
}

#[test]
fn a_recycled_process_number_is_never_signalled() {
    let profile = Profile::scripted(&[NOOP]);
    start(&profile, "w1", &[], "sleep 600");
    kill("-KILL", profile.worker_pid("w1", "supervisor"));
    wait_state(&profile, "w1", "lost");
    // Somebody else's process has the number now, as far as the file can tell.
    let mut other = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let mut state: Value = profile.read_json("workers/w1/state.json");
    state["supervisor"]["pid"] = other.id().into();
    state["child"]["pid"] = other.id().into();
    fs::write(profile.data().join("workers/w1/state.json"), state.to_string()).unwrap();
    profile.looop(&["kill", "w1"]).exits(1);
    profile.looop(&["tick"]).ok();
    assert!(other.try_wait().unwrap().is_none(), "the other process was signalled");
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn of_many_starters_of_one_name_one_wins_and_the_limit_holds() {
    let profile = Profile::scripted(&[NOOP]);
    profile.config_more(json!({ "limits": { "workers": 4 } }));
    let same = ["same"; 6].map(str::to_owned).to_vec();
    for (names, winners) in [(same, 1), ((0..8).map(|n| format!("m{n}")).collect(), 3)] {
        let start = |name: &String| profile.spawn(&["worker", "start", name, "--", "sleep", "600"]);
        let children: Vec<_> = names.iter().map(start).collect();
        let code = |child: std::process::Child| child.wait_with_output().unwrap().status.code().unwrap();
        let codes: Vec<i32> = children.into_iter().map(code).collect();
        assert_eq!(codes.iter().filter(|code| **code == 0).count(), winners, "{names:?}: {codes:?}");
    }
    let rows = profile.looop(&["ls", "--json"]).ok().json();
    assert_eq!(rows["workers"].as_array().unwrap().len(), 4);
    let mut left = fs::read_dir(profile.data().join("workers")).unwrap().flatten();
    assert!(left.all(|entry| !entry.file_name().to_string_lossy().starts_with(".new")));
}

#[test]
fn bad_names_commands_and_briefs_start_nothing() {
    let profile = Profile::scripted(&[NOOP]);
    let long = "x".repeat(300);
    for bad in ["a/b", "..", "a b", "", "pulse", "past", "archive", "-x", &long] {
        let ran = profile.looop(&["worker", "start", "--", bad, "x"]);
        assert_ne!(ran.code, 0, "{bad:?}");
        let ran = profile.looop(&["worker", "start", bad, "brief"]);
        assert!(ran.code == 1 || ran.code == 2, "{bad:?}: {ran:?}");
    }
    let ran = profile.looop(&["worker", "start", "w1", "--", "no-such-program-anywhere"]);
    assert!(ran.code == 1 && ran.stderr.contains("is not an executable"), "{ran:?}");
    fs::write(profile.path("plain"), "text").unwrap();
    let plain = profile.path("plain");
    let ran = profile.looop(&["worker", "start", "w1", "--", plain.to_str().unwrap()]);
    assert!(ran.code == 1 && ran.stderr.contains("is not an executable"), "{ran:?}");
    let ran = profile.looop_with(&["worker", "start", "w1", "-", "--", "true"], &"b".repeat(5 << 20));
    assert!(ran.code == 2 && ran.stderr.contains("larger than"), "{ran:?}");
    for brief in [&[][..], &[" \n"], &["", "--goal", "g"]] {
        let args = [&["worker", "start", "w1"], brief].concat();
        profile.looop(&args).fails_with(2, &["it has neither a brief nor a command"]);
    }
    let ran = profile.looop(&["worker", "start", "w1", "x", "--verify", "nope", "--runner", "claude"]);
    assert!(ran.code == 1 && ran.stderr.contains("is not an entry of `verify`"), "{ran:?}");
    let ran = profile.looop(&["worker", "start", "w1", "--cwd", "/no/such/dir", "--", "true"]);
    assert!(ran.code == 1 && ran.stderr.contains("is not a directory"), "{ran:?}");
    fs::write(profile.path("odd"), "#!/no/such/interpreter\n").unwrap();
    let odd = profile.path("odd");
    fs::set_permissions(&odd, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let ran = profile.looop(&["worker", "start", "w1", "--", odd.to_str().unwrap()]);
    assert!(ran.code == 1 && ran.stderr.contains(r#"names "/no/such/interpreter""#), "{ran:?}");
    start(&profile, "日本-1.x", &[], "true");
    wait_state(&profile, "日本-1.x", "exited");
}

#[test]
fn what_a_worker_starts_cannot_use_the_humans_verbs() {
    let profile = Profile::scripted(&[NOOP]);
    let script = r#"
        looop pause 2>a; echo $? >>a
        env -i PATH="$PATH" HOME="$HOME" LOOOP_DATA_DIR="$LOOOP_DATA_DIR" LOOOP_CONFIG="$LOOOP_CONFIG" setsid looop pause 2>b; echo $? >>b
        looop backup x.tar 2>d; echo $? >>d
        LOOOP_DATA_DIR="$PWD/other" looop restore x.tar 2>e; echo $? >>e
        looop doctor --fix 2>f >&2; echo $? >>f
        looop config set decide pi 2>g; echo $? >>g
        EDITOR=true looop config edit 2>h; echo $? >>h
        (setsid sh -c '(looop worker start w2 -- true 2>c; echo $? >>c; touch done) &' &)
        sleep 600"#;
    start(&profile, "w1", &[], script);
    let file = |name: &str| profile.worker_file("w1", name);
    wait_until("all were tried", || file("done").exists() && file("b").exists());
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        let printed = fs::read_to_string(file(name)).unwrap();
        // Who forgets its own name finds no data dir in a full sandbox.
        let is_lost = name == "b" && printed.contains("there is no profile");
        let words = "this is for the user, and a worker started this process";
        assert!(is_lost || printed.contains(words) && printed.ends_with("1\n"), "{name}: {printed}");
    }
    assert!(!profile.data().join("paused.json").exists());
}

#[test]
fn two_workers_never_own_one_goal() {
    let profile = Profile::scripted(&[NOOP]);
    start(&profile, "w1", &["--goal", "g1", "--claim", "thing"], "sleep 600");
    let second = profile.looop(&["worker", "start", "w2", "--goal", "g1", "--", "true"]);
    assert!(second.code == 1 && second.stderr.contains("worker w1 has it"), "{second:?}");
    let third = profile.looop(&["worker", "start", "w3", "--claim", "thing", "--", "true"]);
    assert!(third.code == 1 && third.stderr.contains("worker w1 has it"), "{third:?}");
}

/// The holder is stopped for longer than twice its lease's lifetime, another takes over, and the first goes on.
#[test]
#[ignore = "slow"]
fn a_worker_that_lost_its_lease_writes_nothing_any_more() {
    let profile = Profile::scripted(&[NOOP]);
    profile.config_more(json!({ "limits": { "lease_ttl": "5s" }, "verify": { "ok": ["true"] } }));
    let script = r#"
        touch ready; while [ ! -e go ]; do sleep 0.02; done
        for verb in 'report late' 'ask hello' 'claim more' 'release thing' 'spend --usd 1' inbox; do
            looop $verb </dev/null >>out 2>&1; echo "$verb: $?" >>codes
        done; touch tried; sleep 600"#;
    start(&profile, "w1", &["--goal", "g1", "--claim", "thing", "--verify", "ok"], script);
    let file = |name: &str| profile.worker_file("w1", name);
    wait_until("it runs", || file("ready").exists());
    let supervisor = profile.worker_pid("w1", "supervisor");
    kill("-STOP", supervisor);
    let first = profile.read_json("claims/goal.g1.json")["epoch"].as_u64().unwrap();
    let takes = ["worker", "start", "w2", "--goal", "g1", "--claim", "thing", "--", "sleep", "600"];
    wait_until("another takes over", || profile.looop(&takes).code == 0);
    let taken = profile.read_json("claims/goal.g1.json");
    assert!(taken["epoch"].as_u64().unwrap() > first && taken["holder"] == "w2", "{taken}");
    let ledger = profile.looop(&["cost", "--json"]).ok().stdout;
    fs::write(file("go"), "").unwrap();
    kill("-CONT", supervisor);
    let row = profile.wait_worker("w1", &["failed"]);
    assert!(row["why"].as_str().unwrap().contains("went to worker w2"), "{row}");
    assert!(row["verify"].is_null(), "{row}");
    assert!(!profile.data().join("reports/w1").exists());
    assert_eq!(profile.looop(&["cost", "--json"]).ok().stdout, ledger);
    assert!(profile.looop(&["asks", "--json"]).ok().json()["asks"].as_array().unwrap().is_empty());
    let now = profile.read_json("claims/goal.g1.json");
    assert_eq!(
        (&now["holder"], &now["epoch"]),
        (&taken["holder"], &taken["epoch"]),
        "the new one is unharmed"
    );
    assert_eq!(profile.worker("w2")["state"], "running");
}

#[test]
fn commits_come_back_as_a_branch_when_the_check_has_passed() {
    let profile = Profile::scripted(&[NOOP]);
    let repo = profile.repository("repo", "a.txt", "one\n");
    profile.config_more(json!({ "verify": { "two": ["grep", "-q", "two", "a.txt"] } }));
    let head = git_in(&repo, &["rev-parse", "HEAD"]);
    let more = ["--repo", repo.to_str().unwrap(), "--verify", "two"];
    start(&profile, "fix", &more, "echo two >>a.txt; git commit -qam 'second'");
    wait_state(&profile, "fix", "done");
    assert_eq!(profile.worker("fix")["branch"], "looop/fix");
    assert_eq!(git_in(&repo, &["log", "--format=%s", "looop/fix"]), "second\nfirst\n");
    assert_eq!(git_in(&repo, &["rev-parse", "HEAD"]), head);
    assert_eq!(git_in(&repo, &["status", "--porcelain"]), "");
    let bad =
        profile.looop(&["worker", "start", "w9", "--repo", profile.path("").to_str().unwrap(), "--", "true"]);
    assert!(bad.code == 1 && bad.stderr.contains("could not clone it"), "{bad:?}");
}
