//! The sensors that look at this machine: files, git, the system's figures, and whether addresses answer.

use std::fs;

use serde_json::json;

use super::{Bench, HOSTILE, TOOLS, has};
use crate::support::profile::git_in;
use crate::support::web::{Answer, Web};

/// A name that a file can have, by somebody who means harm.
fn hostile_name() -> String {
    HOSTILE.replace('/', "_")
}

#[test]
fn the_disk_is_read_in_steps() {
    let mut bench = Bench::new("disk", &[("PATHS", "/ /tmp"), ("STEP", "100")]);
    assert_eq!(bench.reads()["signal"]["used_percent"]["/tmp"], 0);
    assert!(bench.reads()["detail"]["/"]["total_bytes"].as_u64().unwrap() > 0);
    bench.set(&[("PATHS", "/nowhere")]);
    assert!(bench.fails().contains("/nowhere"));
    bench.set(&[("PATHS", "")]);
    assert!(bench.fails().contains("PATHS"));
    bench.set(&[("STEP", "0")]);
    bench.fails();
    bench.set(&[("PATHS", "/"), ("STEP", "5")]);
    let df = |used: u32, free: u64| {
        let names = HOSTILE.replace('\n', " ").replace('\'', "");
        format!("#!/bin/sh\necho Filesystem\nprintf '%s\\n' '{names} 1000 {used} {free} {used}% /x y'\n")
    };
    bench.stand_in("df", &df(61, 390));
    let first = bench.reads();
    assert_eq!(first["signal"], json!({ "used_percent": { "/": 60 } }));
    bench.stand_in("df", &df(64, 360));
    bench.moves_in_detail(&first);
    for broken in
        ["exit 1", "echo garbage", "printf '\\000\\377'", "head -c 1000000 /dev/zero | tr '\\0' '%'"]
    {
        bench.stand_in("df", &format!("#!/bin/sh\n{broken}\n"));
        bench.fails();
    }
}

#[test]
#[ignore = "slow"]
fn without_one_of_the_usual_tools_nothing_is_guessed() {
    let cases = [
        ("disk", vec![("STEP", "100")]),
        ("folder", vec![("FOLDER", "in")]),
        ("maildir", vec![("MAILDIR", "mail")]),
        ("todo-txt", vec![("TASKS_FILE", "todo")]),
        ("load", vec![("BUSY", "1000000"), ("OVERLOADED", "2000000")]),
        ("memory", vec![("HIGH", "200"), ("FULL", "200")]),
        ("git-repos", vec![("REPOS", "repo")]),
    ];
    for (name, settings) in cases {
        let mut bench = Bench::new(name, &settings);
        for dir in ["in", "mail/new", "repo"] {
            fs::create_dir_all(bench.path("home").join(dir)).unwrap();
        }
        fs::write(bench.path("home/in/a"), "").unwrap();
        fs::write(bench.path("home/mail/new/1"), "From: a\nSubject: b\n\n").unwrap();
        fs::write(bench.path("home/todo"), "(A) b due:2020-01-01\n").unwrap();
        git_in(&bench.path("home/repo"), &["init", "-q"]);
        let tools = format!("{TOOLS} git");
        bench.only(&tools);
        let whole = bench.reads();
        for lacking in tools.split(' ') {
            bench.only(&tools.split(' ').filter(|tool| *tool != lacking).collect::<Vec<_>>().join(" "));
            if let Ok(reading) = bench.run() {
                assert_eq!(reading["signal"], whole["signal"], "{name} without {lacking}");
            }
        }
    }
}

#[test]
fn memory_has_levels() {
    let mut bench = Bench::new("memory", &[]);
    if std::path::Path::new("/proc/meminfo").exists() {
        bench.reads();
    }
    let file = bench.path("meminfo");
    bench.set(&[("MEMINFO", file.to_str().unwrap())]);
    let write = |available: u32, swap: u32| {
        let text = format!(
            "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: {available} kB\nSwapTotal: 0 kB\nSwapFree: {swap} kB\n"
        );
        fs::write(&file, text).unwrap();
    };
    write(500, 0);
    let first = bench.reads();
    assert_eq!(first["signal"], json!({ "memory": "ok", "swap": "ok" }));
    write(450, 0);
    let second = bench.reads();
    assert_eq!((&second["signal"], &second["detail"]["memory_percent"]), (&first["signal"], &json!(55)));
    write(20, 0);
    assert_eq!(bench.reads()["signal"]["memory"], "full");
    for broken in
        ["", "MemTotal: 0 kB\n", "garbage\u{0}", "MemTotal: x\nMemAvailable: 1\nSwapTotal: 1\nSwapFree: 1"]
    {
        fs::write(&file, broken).unwrap();
        bench.fails();
    }
    fs::remove_file(&file).unwrap();
    assert!(bench.fails().contains("Linux"));
}

#[test]
fn the_load_has_levels() {
    let mut bench = Bench::new("load", &[("BUSY", "1000000"), ("OVERLOADED", "2000000")]);
    assert_eq!(bench.reads()["signal"], json!({ "level": "idle" }));
    bench.set(&[("BUSY", "0"), ("OVERLOADED", "1000000")]);
    assert_eq!(bench.reads()["signal"], json!({ "level": "busy" }));
    bench.stand_in("cat", "#!/bin/sh\necho garbage\n");
    bench.stand_in("uptime", "#!/bin/sh\necho garbage\n");
    assert!(bench.fails().contains("no load average"));
}

#[test]
fn a_folder_is_counted_whatever_its_files_are_called() {
    let mut bench = Bench::new("folder", &[]);
    assert!(bench.fails().contains("no folder"));
    let dir = bench.path("home/in");
    fs::create_dir(&dir).unwrap();
    bench.set(&[("FOLDER", dir.to_str().unwrap())]);
    let empty = bench.reads();
    assert_eq!(empty["signal"]["files"], 0);
    fs::write(dir.join("a"), "").unwrap();
    let one = bench.reads();
    assert_eq!((&one["signal"]["files"], &one["detail"]["names"]), (&json!(1), &json!(["a"])));
    fs::write(dir.join("a"), "longer").unwrap();
    fs::write(dir.join(".hidden"), "").unwrap();
    fs::create_dir(dir.join("folder")).unwrap();
    assert_eq!(bench.reads()["signal"], one["signal"]);
    fs::rename(dir.join("a"), dir.join("b")).unwrap();
    assert_ne!(bench.reads()["signal"], one["signal"], "another file is a change, though there is one still");
    fs::write(dir.join(hostile_name()), "").unwrap();
    for n in 0..60 {
        fs::write(dir.join(format!("{n}{}", "\u{1}\"\u{65e5}".repeat(40))), "").unwrap();
    }
    assert_eq!(bench.reads()["signal"]["files"], 62);
}

#[test]
fn new_mail_is_counted_and_reported() {
    let mut bench = Bench::new("maildir", &[]);
    assert!(bench.fails().contains("no maildir"));
    let dir = bench.path("home/mail");
    fs::create_dir_all(dir.join("new")).unwrap();
    bench.set(&[("MAILDIR", dir.to_str().unwrap())]);
    assert_eq!(bench.reads()["signal"]["new"], 0);
    let mail = |name: &str, text: &str| fs::write(dir.join("new").join(name), text).unwrap();
    let ada = "Received: x\nFrom: Ada <ada@example.org>\r\nSubject: the tag\r\n\r\nSubject: no\n";
    mail("1700000000.a.host", ada);
    let one = bench.reads();
    assert_eq!(one["detail"]["newest"], json!(["Ada <ada@example.org> | the tag"]));
    mail("1700000000.a.host", "From: Bob\nSubject: other\n\n");
    assert_eq!(bench.reads()["signal"], one["signal"]);
    mail("1700000001.b.host", &format!("From: {HOSTILE}\nSubject: {}\n\n", HOSTILE.repeat(10_000)));
    mail("1700000002.c.host", &"x".repeat(1_000_000));
    mail("1700000003.d.host", "");
    mail(&format!("1700000004.{}", hostile_name()), "From: x\n");
    for n in 0..30 {
        mail(&format!("18{n}"), &format!("From: {0}\nSubject: {0}\n\n", "\"\u{e9}".repeat(500)));
    }
    let many = bench.reads();
    assert_eq!(many["signal"]["new"], 35);
    assert_eq!(many["detail"]["newest"].as_array().unwrap().len(), 10);
    fs::remove_dir_all(dir.join("new")).unwrap();
    fs::write(dir.join("new"), "").unwrap();
    bench.fails();
}

#[test]
fn tasks_are_counted() {
    let mut bench = Bench::new("todo-txt", &[]);
    assert!(bench.fails().contains("no todo.txt"));
    let file = bench.path("home/my todo.txt");
    bench.set(&[("TASKS_FILE", file.to_str().unwrap())]);
    fs::write(&file, "").unwrap();
    assert_eq!(bench.reads()["signal"]["open"], 0);
    fs::write(&file, "(A) tag it due:2020-01-01\nx done\nwrite\n").unwrap();
    let first = bench.reads();
    let signal = &first["signal"];
    assert_eq!((&signal["open"], &signal["priority_a"], &signal["due"]), (&json!(2), &json!(1), &json!(1)));
    fs::write(&file, "x another\n(A) tag it due:2020-01-01\n\nwrite\n").unwrap();
    assert_eq!(bench.reads()["signal"], *signal, "done ones do not count");
    fs::write(&file, format!("{HOSTILE}\n{}\n{}", "y".repeat(1_000_000), "(A) \u{1}\"\u{e9}\n".repeat(100)))
        .unwrap();
    bench.reads();
    fs::write(&file, [0xff, 0xfe, 0, b'\n', 0x80]).unwrap();
    bench.reads();
}

#[test]
fn checkouts_are_distinguished() {
    let mut bench = Bench::new("git-repos", &[]);
    assert!(bench.fails().contains("no git checkout"));
    let (one, two) = (bench.path("one"), bench.path("two 'dir'"));
    for repo in [&one, &two] {
        fs::create_dir(repo).unwrap();
        git_in(repo, &["init", "-q"]);
    }
    let paths = format!("{}:{}", one.display(), two.display());
    bench.set(&[("REPOS", &paths)]);
    let (one_key, two_key) = (one.to_str().unwrap(), two.to_str().unwrap());
    assert_eq!(bench.reads()["signal"][two_key]["dirty_files"], 0, "no commit yet is no failure");
    fs::write(one.join("a"), "1").unwrap();
    git_in(&one, &["add", "."]);
    git_in(&one, &["commit", "-q", "-m", "", "--allow-empty-message"]);
    git_in(&one, &["branch", "old"]);
    fs::write(one.join("b"), "1").unwrap();
    let first = bench.reads();
    let state =
        json!({ "branch": "main", "dirty_files": 1, "ahead": null, "behind": null, "stale_branches": 0 });
    assert_eq!(first["signal"][one_key], state);
    fs::rename(one.join("b"), one.join("c")).unwrap();
    bench.moves_in_detail(&first);
    bench.set(&[("REPOS", &paths), ("STALE_DAYS", "-1")]);
    assert_eq!(bench.reads()["signal"][one_key]["stale_branches"], 2);
    // Names and subjects of strangers, and a config that would run a program.
    git_in(&one, &["commit", "-q", "--allow-empty", "-m", HOSTILE]);
    let branch = format!("x\"$(id)'{}", "\u{e9}".repeat(80));
    git_in(&one, &["checkout", "-q", "-b", &branch]);
    let trap = bench.path("ran");
    for key in ["core.fsmonitor", "core.hooksPath", "log.showSignature", "gpg.program"] {
        git_in(&one, &["config", key, &format!("touch {}", trap.display())]);
    }
    for n in 0..40 {
        fs::write(one.join(format!("{n}{}", hostile_name())), "").unwrap();
    }
    assert_eq!(bench.reads()["signal"][one_key]["dirty_files"], 41);
    assert!(!trap.exists(), "reading a repository ran what its config names");
    let all = [one_key; 12].join(":");
    bench.set(&[("REPOS", &all)]);
    bench.reads();
    fs::remove_dir_all(one.join(".git")).unwrap();
    bench.fails();
}

#[test]
fn failed_units_are_named() {
    let bench = Bench::new("systemd-units", &[]);
    // The real one says how it is on this machine: a list where systemd runs, an error where it does not.
    if std::path::Path::new("/usr/bin/systemctl").exists()
        && let Err(printed) = bench.run()
    {
        assert!(printed.contains("systemctl could not list"), "{printed}");
    }
    // What it prints, as recorded with these flags.
    let lists = |text: &str| bench.stand_in("systemctl", &format!("#!/bin/sh\ncat <<'END'\n{text}\nEND\n"));
    lists("");
    assert_eq!(bench.reads()["signal"], json!({ "count": 0, "failed": [] }));
    lists("b.service loaded failed failed B\na.service loaded failed failed \"A\" $(id)");
    let first = bench.reads();
    assert_eq!(first["signal"], json!({ "count": 2, "failed": ["a.service", "b.service"] }));
    lists("a.service loaded failed failed told otherwise\nb.service loaded failed failed B");
    bench.moves_in_detail(&first);
    let row = format!("{} loaded failed failed {}\n", "u\"\u{1}".repeat(100), HOSTILE.replace('\n', " "));
    lists(&row.repeat(500));
    assert_eq!(bench.reads()["signal"]["count"], 500);
    bench.stand_in("systemctl", "#!/bin/sh\necho partial\nexit 1\n");
    bench.fails();
}

#[test]
fn a_webhooks_file_is_read_by_subject() {
    if !has("jq") {
        return;
    }
    let mut bench = Bench::new("webhook-inbox", &[]);
    assert!(bench.fails().contains("no file"));
    let file = bench.path("in.jsonl");
    bench.set(&[("FILE", file.to_str().unwrap())]);
    fs::write(&file, "").unwrap();
    assert_eq!(bench.reads()["signal"], json!({ "subjects": {} }));
    // The shapes of Sentry's issue and event webhooks, and a plain one.
    let issue = |seen: &str, action: &str| {
        let issue =
            json!({ "shortId": "APP-1", "title": "TypeError", "status": "unresolved", "lastSeen": seen });
        json!({ "action": action, "data": { "issue": issue }, "installation": { "uuid": "u" } }).to_string()
    };
    let event = json!({ "action": "triggered", "data": { "event": { "issue_id": "42", "title": "slow" } } });
    let plain = json!({ "title": "deploy", "status": "done", "date": "2026-11-22" });
    fs::write(&file, format!("{}\n{event}\n{plain}\n", issue("t1", "created"))).unwrap();
    let first = bench.reads();
    let subjects = json!({ "APP-1": "created", "42": "triggered", "deploy": "done" });
    assert_eq!(first["signal"], json!({ "subjects": subjects }));
    let again = fs::read_to_string(&file).unwrap() + &issue("t2", "created") + "\n{\"torn\":";
    fs::write(&file, &again).unwrap();
    let second = bench.reads();
    assert_eq!(second["signal"], first["signal"], "the same issue again is no reason to think");
    assert_eq!(second["detail"]["items"][0]["times"], 2);
    fs::write(&file, again.replace("{\"torn\":", &issue("t3", "resolved"))).unwrap();
    assert_eq!(bench.reads()["signal"]["subjects"]["APP-1"], "resolved");
    let odd =
        json!({ "title": HOSTILE, "signal": { "forged": 1 }, "message": "m".repeat(1_000_000), "action": 7 });
    let wide: String = (0..300)
        .map(|n| json!({ "title": format!("{n}{}", "\"\u{1}".repeat(60)) }).to_string() + "\n")
        .collect();
    fs::write(&file, format!("{odd}\n[1]\n3\n\"x\"\n{{\"data\":[]}}\n{{\"data\":{{\"issue\":5}}}}\n{wide}"))
        .unwrap();
    bench.reads();
    for broken in [&b"\xff\xfe\x00\x01\n"[..], b"<html>\n", b"[1]\n[2]\n"] {
        fs::write(&file, broken).unwrap();
        bench.fails();
    }
}

#[test]
#[ignore = "slow"]
fn addresses_that_are_down_are_a_reading() {
    if !(has("curl") && has("jq")) {
        return;
    }
    let (up, down) = (Web::start(Answer::Page(200, "{}".to_owned())), Web::start(Answer::Hang).url());
    let url = up.url();
    let mut bench = Bench::new("http-health", &[("URLS", &format!("{url} {down}"))]);
    let first = bench.reads();
    assert_eq!(first["signal"], json!({ url.as_str(): "200", down.as_str(): "refused" }));
    assert_eq!(bench.reads()["signal"], first["signal"]);
    let cases = [
        (Answer::Page(503, String::new()), "503"),
        (Answer::Page(404, HOSTILE.repeat(40_000)), "404"),
        (Answer::Hang, "too slow"),
        (Answer::Endless, "too slow"),
    ];
    bench.set(&[("URLS", &url), ("WAIT", "1")]);
    for (answer, word) in cases {
        up.answer(answer);
        assert_eq!(bench.reads()["signal"][&url], word);
    }
    for bad in ["nonsense://x", "http://"] {
        bench.set(&[("URLS", bad)]);
        bench.fails();
    }
    bench.set(&[("URLS", &format!("{url}/?q=\"$(id)'*{}", "x".repeat(700))), ("WAIT", "1")]);
    up.answer(Answer::Page(200, String::new()));
    bench.reads();
}

#[test]
#[ignore = "slow"]
fn a_calendar_tells_today_and_tomorrow() {
    if !has("python3") {
        return;
    }
    let mut bench = Bench::new("calendar-ics", &[]);
    bench.var("TZ", "UTC");
    assert!(bench.fails().contains("no such file"));
    let file = bench.path("c.ics");
    bench.set(&[("CALENDAR", file.to_str().unwrap())]);
    let day = std::process::Command::new("date").args(["-u", "+%Y%m%d"]).output().unwrap().stdout;
    let day = String::from_utf8(day).unwrap().trim().to_owned();
    let write = |events: &str| {
        fs::write(&file, format!("BEGIN:VCALENDAR\r\nVERSION:2.0\r\n{events}END:VCALENDAR\r\n")).unwrap();
    };
    let event = |start: &str, more: &str| {
        format!("BEGIN:VEVENT\r\nUID:u1\r\nDTSTART{start}\r\n{more}\r\nEND:VEVENT\r\n")
    };
    write("");
    assert_eq!(bench.reads()["signal"], json!({ "count": 0, "events": [] }));
    let stand = |place: &str| {
        event(&format!(":{day}T100000Z"), &format!("SUMMARY:Stand\\, \r\n up\r\nLOCATION:{place}"))
    };
    write(&stand("here"));
    let first = bench.reads();
    let signal = &first["signal"];
    assert_eq!((&signal["count"], &signal["events"][0]["what"]), (&json!(1), &json!("Stand, up")));
    write(&stand("there"));
    bench.moves_in_detail(&first);
    let count = |events: &str| {
        write(events);
        bench.reads()["signal"]["count"].as_u64().unwrap()
    };
    let (whole_day, nine) = (";VALUE=DATE:20200101", ":20200101T090000");
    let (this_day, today) = (format!(":2020{}T090000", &day[4..]), format!(":{day}T090000"));
    for (start, rule, wanted) in [
        (whole_day, "RRULE:FREQ=DAILY", 2),
        (whole_day, &format!("RRULE:FREQ=DAILY\r\nEXDATE;VALUE=DATE:{day}"), 1),
        (nine, "RRULE:FREQ=DAILY;COUNT=3", 0),
        (nine, "RRULE:FREQ=DAILY;UNTIL=20200201T000000Z", 0),
        (nine, "RRULE:FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR,SA,SU", 2),
        (&this_day, "RRULE:FREQ=YEARLY", 1),
        (&today, "STATUS:CANCELLED", 0),
    ] {
        assert_eq!(count(&event(start, rule)), wanted, "{start} {rule}");
    }
    let moved = event(&format!(":{day}T110000"), &format!("RECURRENCE-ID:{day}T090000"));
    let both = event(nine, "RRULE:FREQ=DAILY") + &moved;
    assert_eq!(count(&both), 2, "one was moved, not doubled");
    write(&event(&format!(";TZID=\"Europe/Berlin\":{day}T120000"), "SUMMARY:x"));
    let start = bench.reads()["signal"]["events"][0]["start"].as_str().unwrap().to_owned();
    assert!(start.ends_with("T10:00") || start.ends_with("T11:00"), "{start}");
    write(&event(&format!(";TZID=W. Europe Standard Time:{day}T120000"), "SUMMARY:x"));
    assert_eq!(bench.reads()["detail"]["unknown_zones"], json!(["W. Europe Standard Time"]));
    // What is not understood is counted, and the rest still told.
    let odd = "MONTHLY;BYDAY=2MO SECONDLY DAILY;INTERVAL=x DAILY;INTERVAL=99999999999".split(' ');
    let mut events: String = odd.map(|rule| event(nine, &format!("RRULE:FREQ={rule}"))).collect();
    events += &event(":20200101T250000", "SUMMARY:never");
    events += &event(";TZID=/etc/passwd:20200101T090000", "SUMMARY:zone");
    events += &event(":00010101T000000Z", "SUMMARY:early");
    let (what, place) = (HOSTILE.replace('\n', "\\n").repeat(500), "\"\u{e9}".repeat(100));
    let hostile = event(&format!(":{day}T100000Z"), &format!("SUMMARY:{what}\r\nLOCATION:{place}"));
    events += &hostile.repeat(60);
    write(&events);
    let many = bench.reads();
    assert_eq!(many["signal"]["count"], 60);
    assert!(many["detail"]["not_understood"].as_u64().unwrap() >= 5, "{many}");
    for broken in [&b""[..], b"<html>", b"\xff\x00", b"{}"] {
        fs::write(&file, broken).unwrap();
        bench.fails();
    }
    fs::write(&file, vec![b'x'; 8_100_000]).unwrap();
    assert!(bench.fails().contains("larger"));
    // From an address, too.
    write(&stand("here"));
    let web = Web::start(Answer::Page(200, fs::read_to_string(&file).unwrap()));
    bench.set(&[("CALENDAR", &web.url())]);
    assert_eq!(bench.reads()["signal"], first["signal"]);
    web.answer(Answer::Page(500, String::new()));
    bench.fails();
}
