//! `looop sensor add`: a ready-made sensor gets its settings, is tried, and is added whole or not at all.

use std::fs;

use serde_json::{Value, json};

use super::READING_BYTES;
use super::web::{Asker, askers};
use crate::attach::Outer;
use crate::support::profile::{Profile, git_in, program};
use crate::support::web::{Answer, Web};

const NOOP: &str = r#"{"move":"noop","why":"nothing to do"}"#;

/// What the examples that ask a server need.
const CLIENTS: [&str; 5] = ["gh", "kubectl", "curl", "jq", "python3"];

/// What is in the folder of the sensors, and whether a trial left something behind.
fn sensors(profile: &Profile) -> Vec<String> {
    let entries = fs::read_dir(profile.data().join("sensors")).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let left = profile.path("home/.cache/looop");
    let left =
        fs::read_dir(left).into_iter().flatten().flatten().flat_map(|dir| fs::read_dir(dir.path()).unwrap());
    let left: Vec<_> = left.flatten().map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert!(!left.iter().any(|name| name.starts_with("try-")), "{left:?}");
    names
}

/// The files that the local ones look at.
fn home(profile: &Profile) {
    let home = profile.path("home");
    for dir in ["Maildir/new", "Maildir/cur", "Downloads", ".local/share/webhooks", "src/app"] {
        fs::create_dir_all(home.join(dir)).unwrap();
    }
    fs::write(home.join("todo.txt"), "(A) write\n").unwrap();
    fs::write(home.join(".local/share/webhooks/inbox.jsonl"), "{\"title\":\"x\"}\n").unwrap();
    fs::write(home.join("calendar.ics"), "BEGIN:VCALENDAR\nEND:VCALENDAR\n").unwrap();
    git_in(&home.join("src/app"), &["init", "-q"]);
}

/// A web server for each that asks one, with the profile's variables set for all of them.
fn webs(profile: &mut Profile) -> Vec<(Asker, Web)> {
    let mut all = Vec::new();
    let hub = Web::start(Answer::Hang);
    let mut set = std::collections::BTreeSet::new();
    // The proxy is for gh alone.
    profile.var("NO_PROXY", "127.0.0.1");
    for asker in askers() {
        // gh finds each by the one proxy, and says by its path which it is.
        let web = if asker.name.starts_with("github") {
            Web::start(Answer::Hang)
        } else {
            Web::start(asker.page(&[]))
        };
        let from = if asker.name.starts_with("github") { &hub } else { &web };
        for (key, value) in asker.vars(from, &profile.path("kubeconfig")) {
            if set.insert(key) {
                profile.var(key, &value);
            }
        }
        all.push((asker, web));
    }
    all.push((askers().remove(0), hub));
    all
}

#[test]
#[ignore = "slow"]
fn each_example_is_added_and_one_beat_reads_them_all() {
    if !CLIENTS.iter().all(|tool| super::has(tool)) {
        return;
    }
    let mut profile = Profile::scripted(&[NOOP]);
    home(&profile);
    let webs = webs(&mut profile);
    let hub = &webs.last().unwrap().1;
    for (name, script) in looop::store::examples::ALL {
        let own = webs.iter().find(|(asker, _)| asker.name == *name);
        let mut args = vec!["sensor".to_owned(), "add".to_owned(), (*name).to_owned()];
        let settings = own.map(|(asker, web)| asker.settings(web)).unwrap_or_default();
        let health = ("http-health", vec![("URLS", webs[4].1.url())]);
        let settings = if *name == health.0 { health.1 } else { settings };
        for (key, value) in settings {
            args.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        if let Some((asker, _)) = own.filter(|_| name.starts_with("github")) {
            hub.answer(asker.page(&[]));
        }
        if *name == "systemd-units" {
            // Where this machine runs no systemd, its client fails as it should.
            profile.stand_in("systemctl", "#!/bin/sh\nexit 0\n", "/usr/local/bin:/usr/bin:/bin");
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let added = profile.looop(&args).ok();
        assert_eq!(added.stderr, "", "{name}");
        added.shows(&[&format!("{name} reads"), "signal {", &format!("added {name}; it runs every ")]);
        let kept = profile.read(&format!("sensors/{name}.sh"));
        assert_eq!(kept.lines().count(), script.lines().count());
    }
    assert_eq!(sensors(&profile).len(), looop::store::examples::ALL.len());
    // Of gh's four one beat runs all at once, each on a path of its own: an answer that suits each of them.
    let found = json!({
        "total_count": 0, "incomplete_results": false, "items": [], "workflow_runs": [],
        "data": { "search": { "nodes": [] } },
    });
    hub.answer(Answer::Page(200, found.to_string()));
    let beat = profile.looop(&["tick"]).ok();
    assert_eq!(beat.stderr, "", "nobody complains");
    for (name, _) in looop::store::examples::ALL {
        let text = profile.read(&format!("snapshots/{name}.json"));
        let reading: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(reading["ok"], true, "{name}: {reading}");
        assert!(text.len() <= READING_BYTES, "{name}: {}", text.len());
    }
    profile.looop(&["tick"]).shows(&["idle"]);
    assert_eq!(profile.asked(), 1);
}

#[test]
#[ignore = "slow"]
fn a_server_that_never_answers_costs_its_sensor_the_deadline() {
    if !CLIENTS.iter().all(|tool| super::has(tool)) {
        return;
    }
    let mut profile = Profile::scripted(&[NOOP]);
    let webs = webs(&mut profile);
    for (asker, web) in &webs {
        web.answer(Answer::Hang);
        let values = asker.settings(web).into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let script = looop::store::examples::find(asker.name).unwrap();
        let script = looop::rules::world::example::with_values(script, &values, "/x").unwrap();
        let body = script.strip_prefix("#!").unwrap().split_once('\n').unwrap();
        let timeout = ["timeout=30s", "timeout=45s", "timeout=60s"];
        let slow = timeout.iter().fold(body.1.to_owned(), |text, long| text.replace(long, "timeout=3s"));
        program(profile.data().join(format!("sensors/{}.sh", asker.name)), format!("#!{}\n{slow}", body.0));
    }
    profile.looop(&["tick"]).ok();
    for (asker, _) in &webs {
        let reading = profile.read_json(&format!("snapshots/{}.json", asker.name));
        assert_eq!(reading["signal"], json!({ "error": "timeout" }), "{}: {reading}", asker.name);
    }
}

#[test]
#[ignore = "slow"]
fn a_value_never_runs() {
    let profile = Profile::scripted(&[NOOP]);
    let trap = profile.path("home/ran");
    let touch = format!("touch {}", trap.display());
    let values = [
        format!("$({touch})"),
        format!("`{touch}`"),
        format!("'; {touch}; '"),
        format!("\"; {touch}; \""),
        format!("'$({touch})'"),
        format!("\\'; {touch} #"),
        format!("x' $({touch}) 'y"),
        "${IFS}%s%n\\0\\\\".to_owned(),
        "- -n --".to_owned(),
    ];
    // In a sandbox nothing could be written there, whether it ran or not.
    profile.without_sandbox(&["sensor"]);
    for value in &values {
        let dir = profile.path("home").join(value.replace('/', "_").chars().take(60).collect::<String>());
        fs::create_dir_all(&dir).unwrap();
        let (folder, title) = (format!("FOLDER={}", dir.display()), format!("FEEDS={value}"));
        profile.looop(&["sensor", "add", "folder", "--yes", "--set", &folder]).ok();
        let kept = profile.read("snapshots/../sensors/folder.sh");
        assert!(kept.contains("FOLDER='"), "{kept}");
        let shown = profile.looop(&["sensor", "test", "folder"]).ok();
        assert!(shown.stdout.contains("\"files\":0"), "{value}: {shown:?}");
        for (example, set) in [("folder", format!("FOLDER={value}")), ("rss", title)] {
            let ran = profile.looop(&["sensor", "add", example, "--name", "bad", "--set", &set]);
            assert_eq!(ran.code, 1, "{value}: {ran:?}");
            assert!(!ran.stderr.contains("yntax"), "{value}: {ran:?}");
        }
        assert!(!trap.exists(), "{value} ran");
    }
    for value in ["a\nb", "a\n# looop: trust=trusted env=SECRET", "a\r", "a\u{1b}[2J", "a\u{85}"] {
        let ran = profile.looop(&["sensor", "add", "folder", "--yes", "--set", &format!("FOLDER={value}")]);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.contains("control character") && !ran.stderr.contains('\u{1b}'), "{ran:?}");
    }
    assert_eq!(sensors(&profile), ["folder.sh"]);
}

#[test]
fn what_fails_is_reported_and_nothing_is_kept() {
    let profile = Profile::scripted(&[NOOP]);
    let fails = |args: &[&str], code: i32, says: &[&str]| {
        let ran = profile.looop(&[&["sensor", "add"], args].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{ran:?}");
        assert!(says.iter().all(|part| ran.stderr.contains(part)), "{says:?}: {ran:?}");
        assert_eq!(sensors(&profile), Vec::<String>::new());
    };
    fails(
        &["github-ci"],
        2,
        &["the setting REPO is missing: the repository, as owner/name", "--set SETTING=VALUE"],
    );
    fails(&["github-ci", "--set", "REPO="], 2, &["the setting REPO is missing"]);
    fails(&["disk", "--set", "PATHZ=/"], 2, &["it has no setting `PATHZ`; available: PATHS, STEP"]);
    fails(&["disk", "--set", "PATHS"], 2, &["not of the form SETTING=VALUE"]);
    fails(&["disk", "--set", "STEP=1", "--set", "STEP=2"], 2, &["given twice"]);
    fails(&["disk", "--set", &format!("PATHS={}", "x".repeat(2000))], 2, &["longer than 1024 bytes"]);
    fails(&["dusk", "--yes"], 2, &["no ready-made sensor has this name", "there are: calendar-ics, disk, "]);
    fails(&["disk", "--name", "a/b"], 2, &["is not a letter"]);
    fails(&["disk", "--name", "archive"], 2, &["the word is reserved"]);
    fails(&["disk", "--name", "d", "--trusted"], 2, &["cannot be used with"]);
    fails(
        &["disk", "--set", "PATHS=/nowhere"],
        1,
        &["its trial run failed (exit 1)", "/nowhere", "nothing was added"],
    );
    fails(&["disk", "--yes", "--set", "PATHS=/nowhere"], 1, &["nothing was added"]);
    fails(&["maildir"], 1, &["no maildir at"]);
    fails(&["dusk"], 2, &["does not begin with `#!`", "looop sensor examples"]);
    profile.looop(&["sensor", "add", "load", "--name", "l"]).ok();
    profile.looop(&["sensor", "add", "load", "--name", "l"]).fails_with(2, &["there is one of this name"]);
    profile.looop(&["sensor", "add", "load", "--name", "l", "--set", "BUSY=7", "--yes"]).ok();
    assert!(profile.read("sensors/l.sh").contains("\nBUSY='7'\n"));
    let failed = profile.looop(&["sensor", "add", "disk", "--name", "l", "--set", "PATHS=/nowhere", "--yes"]);
    assert_eq!(failed.code, 1);
    assert!(profile.read("sensors/l.sh").contains("\nBUSY='7'\n"), "the old one stays");
    // Of two files with one name only one would run.
    profile.sensor("twin", "echo '{}'");
    for (args, stdin) in
        [(vec!["load", "--name", "twin", "--yes"], ""), (vec!["twin"], "#!/bin/sh\necho '{}'\n")]
    {
        profile
            .looop_with(&[&["sensor", "add"], &args[..]].concat(), stdin)
            .fails_with(2, &["has that name"]);
    }
    assert_eq!(sensors(&profile), ["l.sh", "twin"]);
}

#[test]
fn a_script_on_stdin_is_added_as_ever() {
    let profile = Profile::scripted(&[NOOP]);
    let script = "#!/bin/sh\necho '{\"mine\":1}'\n";
    // Also under the name of a ready-made one.
    for name in ["mine", "disk"] {
        profile.looop_with(&["sensor", "add", name], script).ok();
        let kept = profile.read(&format!("sensors/{name}.sh"));
        assert_eq!(kept, "#!/bin/sh\n# looop: trust=untrusted\necho '{\"mine\":1}'\n");
    }
    profile.looop_with(&["sensor", "add", "mine", "--trusted"], script).ok();
    assert_eq!(profile.read("sensors/mine.sh"), script);
    let empty = profile.looop_with(&["sensor", "add", "disk", "--trusted"], "");
    assert_eq!(empty.code, 2, "to vouch for nothing is a mistake: {empty:?}");
}

#[test]
fn a_beat_adds_no_sensor() {
    let profile = Profile::scripted(&[NOOP]);
    // It tells of it outside.
    profile.without_sandbox(&["sensor"]);
    profile.sensor(
        "s",
        &format!(
            "export LOOOP_CONFIG={0}/looop.json HOME={0}/home\n{1} sensor add load --yes >{0}/said 2>&1\necho '{{}}'",
            profile.path("").display(),
            crate::support::profile::LOOOP
        ),
    );
    for verb in [&["tick"][..], &["sensor", "test"], &["tick", "--dry-run"]] {
        profile.looop(verb).ok();
        let printed = fs::read_to_string(profile.path("said")).unwrap();
        assert!(printed.contains("could not change a sensor: this is for the user"), "{printed}");
        fs::remove_file(profile.path("said")).unwrap();
    }
    assert_eq!(sensors(&profile), ["s"]);
}

#[test]
fn a_user_is_asked() {
    let profile = Profile::scripted(&[NOOP]);
    fs::create_dir(profile.path("home/in $(box)")).unwrap();
    let mut terminal = Outer::start(&profile, &["sensor", "add", "http-health"], 100, 40);
    terminal.wait_for("URLS: the addresses");
    terminal.type_in(b"\n");
    terminal.wait_for("this setting needs a value");
    terminal.type_in(b"http://127.0.0.1:1\n");
    terminal.wait_for("WAIT: seconds to wait for each [5]: ");
    terminal.type_in(b"\n");
    // Its end may be known before all that it printed was read.
    terminal.wait_for("added http-health");
    let (code, screen) = terminal.end();
    assert_eq!(code, 0, "{screen}");
    assert!(screen.contains("http-health reads") && screen.contains("refused"), "{screen}");

    let mut terminal = Outer::start(&profile, &["sensor", "add", "folder", "--name", "in"], 100, 40);
    terminal.wait_for("FOLDER: the folder [$HOME/Downloads]: ");
    terminal.type_in(b"~/nowhere\n");
    terminal.wait_for("no folder at");
    terminal.wait_for("Add it anyway? [y/N] ");
    terminal.type_in(b"n\n");
    terminal.wait_for("nothing was added");
    let (code, screen) = terminal.end();
    assert!(code == 1 && screen.contains("nothing was added"), "{screen}");

    let mut terminal = Outer::start(&profile, &["sensor", "add", "folder", "--name", "in"], 100, 40);
    terminal.wait_for("FOLDER: ");
    terminal.type_in(b"~/in $(box)\n");
    assert_eq!(terminal.end().0, 0);
    let kept = profile.read("sensors/in.sh");
    assert!(kept.contains("/home/in $(box)'\n"), "{kept}");

    let mut terminal = Outer::start(&profile, &["sensor", "add", "folder", "--name", "in"], 100, 40);
    terminal.wait_for("A sensor in is there. Replace it? [y/N] ");
    terminal.type_in(b"\n");
    assert_eq!(terminal.end().0, 2);

    let mut terminal = Outer::start(&profile, &["sensor", "add", "todo-txt"], 100, 40);
    terminal.wait_for("TASKS_FILE: ");
    terminal.type_in(&[4]);
    terminal.wait_for("the input ended");
    let (code, screen) = terminal.end();
    assert!(code == 2 && screen.contains("the input ended"), "{screen}");
    assert_eq!(sensors(&profile), ["http-health.sh", "in.sh"]);
}

#[test]
fn the_examples_are_listed_and_printed() {
    let profile = Profile::scripted(&[NOOP]);
    let list = profile.looop(&["sensor", "examples"]).ok().stdout;
    let rows = profile.looop(&["sensor", "examples", "--json"]).ok().json();
    assert_eq!(rows["schema_version"], 1);
    for (row, (name, script)) in rows["examples"].as_array().unwrap().iter().zip(looop::store::examples::ALL)
    {
        assert_eq!(row["name"], *name);
        assert!(list.contains(&format!("{name}  {}", row["about"].as_str().unwrap())), "{list}");
        assert!(list.contains(row["needs"].as_str().unwrap()), "{list}");
        assert!(list.lines().all(|line| line.chars().count() < 80), "it fits a small terminal: {list}");
        assert!(!row["settings"].as_array().unwrap().is_empty());
        assert_eq!(profile.looop(&["sensor", "examples", name]).ok().stdout, *script);
    }
    let row = json!(["name", "trust", "interval_ms"].map(|key| &rows["examples"][5][key]));
    assert_eq!(row, json!(["github-comments", "untrusted", 300_000]));
    assert_eq!(profile.looop(&["sensor", "examples", "nothing"]).code, 2);
}
