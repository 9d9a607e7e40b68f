//! What an approval to a command covers: each kind of swap between the approval and the move voids it, each time.

use std::fs::{self, Permissions, create_dir_all, hard_link, rename, write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::{NOOP, Swap, executable, waiting};
use crate::support::profile::{LOOOP, Profile, Ran, git_in};
use crate::{support::pi::skipped, support::rows::copy_all};

const VOID: &str = "something that the approval covered has changed since";

/// A profile whose decider wants `tool` with these arguments in `work`, again and again. `far` lies outside of `work`, and
/// so does what is in `home`.
fn scene(args: &[&str]) -> Profile {
    let profile = Profile::scripted(&[NOOP]);
    let tool = format!("#!/usr/bin/env interp\necho ran >> {}\n", profile.path("work/sink").display());
    create_dir_all(profile.path("home/bin1")).unwrap();
    executable(&profile.path("home/bin2/tool"), &tool);
    executable(&profile.path("home/interp/interp"), "#!/bin/sh\nexec sh \"$@\"\n");
    let dirs = ["home/bin1", "home/bin2", "home/interp"].map(|dir| profile.path(dir).display().to_string());
    let next = profile.path("home/next/y.mk").display().to_string();
    for (file, text) in [
        ("work/input.txt", "text\n"),
        ("work/caf\u{e9}", "text\n"),
        ("work/sub/lib.sh", "text\n"),
        ("home/dir/m.py", "text\n"),
        ("home/next/z.mk", "text\n"),
        ("home/far/x.mk", &format!("include {next}\n")),
        ("home/next/y.mk", "all:\n"),
    ] {
        create_dir_all(profile.path(file).parent().unwrap()).unwrap();
        write(profile.path(file), text).unwrap();
    }
    git_in(&profile.path("work"), &["init", "-q"]);
    git_in(&profile.path("work"), &["commit", "-qm", "one", "--allow-empty"]);
    let home = profile.path("home").display().to_string();
    let args: Vec<String> = args.iter().map(|arg| arg.replace("HOME", &home)).collect();
    let argv: Vec<&str> = std::iter::once("tool").chain(args.iter().map(String::as_str)).collect();
    profile.script(&[&super::run(&profile, &argv)]);
    profile.config_more(json!({ "path": format!("{}:/usr/bin:/bin", dirs.join(":")) }));
    profile
}

#[track_caller]
fn assert_void(profile: &Profile, what: &str, ran: &Ran) {
    assert!(ran.stdout.contains(VOID), "{what}: {ran:?}");
    assert!(!profile.path("work/sink").exists(), "{what}: it ran");
}

#[test]
#[ignore = "slow"]
fn each_kind_of_swap_voids_an_approval() {
    let profile = scene(&["input.txt", "--file=HOME/far/x.mk", "HOME/dir", "caf\u{e9}"]);
    // The program and what it is run by lie where a sandbox has a private temporary folder.
    profile.without_sandbox(&["run"]);
    let swaps: [(&str, Swap); 17] = [
        ("content", |p| {
            write(p.path("home/far/x.mk"), format!("include {}\n#", p.path("home/next/y.mk").display()))
                .unwrap()
        }),
        ("a file read by a read file", |p| write(p.path("home/next/y.mk"), "evil:\n").unwrap()),
        ("a file beside a named one", |p| write(p.path("home/far/other"), "new").unwrap()),
        ("a file that no argument names", |p| write(p.path("work/sub/lib.sh"), "evil\n").unwrap()),
        ("directory", |p| write(p.path("home/dir/m.py"), "evil\n").unwrap()),
        ("symlink", |p| {
            rename(p.path("home/far/x.mk"), p.path("home/x.mk")).unwrap();
            symlink("../x.mk", p.path("home/far/x.mk")).unwrap();
        }),
        ("hard link", |p| {
            let text = fs::read(p.path("home/far/x.mk")).unwrap();
            write(p.path("home/copy"), text).unwrap();
            fs::remove_file(p.path("home/far/x.mk")).unwrap();
            hard_link(p.path("home/copy"), p.path("home/far/x.mk")).unwrap();
        }),
        ("parent", |p| {
            rename(p.path("home/far"), p.path("home/old")).unwrap();
            fs::create_dir(p.path("home/far")).unwrap();
            for name in ["x.mk", "other"] {
                rename(p.path("home/old").join(name), p.path("home/far").join(name)).unwrap();
            }
        }),
        ("mode", |p| fs::set_permissions(p.path("home/far/x.mk"), Permissions::from_mode(0o755)).unwrap()),
        ("time", |p| {
            let past = SystemTime::now() - Duration::from_secs(9000);
            fs::File::open(p.path("work/input.txt")).unwrap().set_modified(past).unwrap();
        }),
        ("letter case", |p| rename(p.path("work/input.txt"), p.path("work/INPUT.txt")).unwrap()),
        ("Unicode form", |p| rename(p.path("work/caf\u{e9}"), p.path("work/cafe\u{301}")).unwrap()),
        ("a branch", |p| drop(git_in(&p.path("work"), &["commit", "-qm", "two", "--allow-empty"]))),
        ("folder", |p| {
            rename(p.path("work"), p.path("was")).unwrap();
            copy_all(&p.path("was"), &p.path("work"));
        }),
        ("executable", |p| {
            let tool = fs::read_to_string(p.path("home/bin2/tool")).unwrap();
            executable(&p.path("home/bin2/tool"), &(tool + "#"));
        }),
        ("interpreter", |p| executable(&p.path("home/interp/interp"), "#!/bin/sh\nexec sh \"$@\" #\n")),
        ("PATH order", |p| {
            fs::copy(p.path("home/bin2/tool"), p.path("home/bin1/tool")).map(drop).unwrap();
        }),
    ];
    for (what, swap) in swaps {
        let ask = waiting(&profile, what);
        profile.approve(&ask).ok();
        swap(&profile);
        assert_void(&profile, what, &profile.looop(&["tick"]).ok());
    }
    let ask = waiting(&profile, "none");
    profile.approve(&ask).ok();
    let ran = profile.looop(&["tick"]).ok();
    assert!(ran.stdout.contains("exit 0") && profile.path("work/sink").exists(), "without a swap: {ran:?}");
}

#[test]
fn a_no_holds_when_the_folder_changes() {
    let profile = scene(&[]);
    let ask = waiting(&profile, "a no");
    profile.looop(&["reject", ask["id"].as_str().unwrap()]).ok();
    for text in ["one", "two"] {
        write(profile.path("work/sub/lib.sh"), text).unwrap();
        profile.looop(&["tick"]).ok().prints(&["refused: the user rejected exactly this"]);
    }
}

#[test]
fn another_value_of_a_variable_voids_an_approval() {
    let profile = scene(&[]);
    let ask = waiting(&profile, "a variable");
    assert!(ask["scope"]["command"]["env"].as_array().unwrap().contains(&json!("LANG")), "{ask}");
    profile.approve(&ask).ok();
    let ran = profile.command(&["tick"]).env("LANG", "de_DE.UTF-8").output().unwrap();
    assert_void(&profile, "a variable", &ran.into());
}

#[test]
fn an_index_counts_by_what_is_staged() {
    let profile = scene(&[]);
    profile.without_sandbox(&["run"]);
    let work = profile.path("work");
    git_in(&work, &["add", "input.txt"]);
    let ask = waiting(&profile, "an index");
    profile.approve(&ask).ok();
    git_in(&work, &["add", "sub/lib.sh"]);
    assert_void(&profile, "an index", &profile.looop(&["tick"]).ok());
    let ask = waiting(&profile, "an index that is written again");
    profile.approve(&ask).ok();
    let before = fs::read(work.join(".git/index")).unwrap();
    for _ in 0..2 {
        git_in(&work, &["update-index", "--force-write-index", "--index-version", "3"]);
        git_in(&work, &["update-index", "--force-write-index", "--untracked-cache"]);
    }
    assert_ne!(before, fs::read(work.join(".git/index")).unwrap());
    let ran = profile.looop(&["tick"]).ok();
    assert!(ran.stdout.contains("exit 0"), "the same is staged: {ran:?}");
}

#[test]
fn another_sandbox_voids_an_approval() {
    let profile = scene(&[]);
    let ask = waiting(&profile, "a sandbox");
    if ask["scope"]["sandbox"]["level"] == "none" {
        return skipped("no sandbox");
    }
    profile.approve(&ask).ok();
    profile.without_sandbox(&["run"]);
    assert_void(&profile, "a sandbox", &profile.looop(&["tick"]).ok());
}

#[test]
fn a_mount_over_the_folder_voids_an_approval() {
    let can = Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|status| status.success());
    if !can {
        return skipped("no namespace to mount in");
    }
    let profile = scene(&["input.txt"]);
    copy_all(&profile.path("work"), &profile.path("copy"));
    let ask = waiting(&profile, "mount");
    profile.approve(&ask).ok();
    let line = "mount --bind copy work && exec \"$0\" tick";
    let ran = profile.other_command("unshare", &["-rm", "sh", "-c", line, LOOOP]).output().unwrap();
    assert_void(&profile, "mount", &ran.into());
}

/// A clock that was set back would keep an approval alive.
#[test]
fn a_yes_from_the_future_is_void() {
    let profile = scene(&[]);
    let ask = waiting(&profile, "clock");
    let file = format!("asks/{}.json", ask["id"].as_str().unwrap());
    let mut text = profile.read_json(&file);
    text["created_ms"] = (text["created_ms"].as_i64().unwrap() + 3_600_000).into();
    write(profile.data().join(file), text.to_string()).unwrap();
    profile.approve(&ask).ok();
    profile.looop(&["tick"]).ok().prints(&["the clock was set back"]);
    assert!(!profile.path("work/sink").exists());
}

/// Ways to name the file `F` in an argument, or in two.
const SPELLINGS: [&[&str]; 30] = [
    &["F"],
    &["--file=F"],
    &["--file", "F"],
    &["-fF"],
    &["-f", "F"],
    &["-f=F"],
    &["-rfF"],
    &["+aF"],
    &["@F"],
    &["k=@F"],
    &["k:=@F"],
    &["key:@F"],
    &["a:F"],
    &["F:b"],
    &["a,F,b"],
    &["{a,F}"],
    &["[F]"],
    &["if=F"],
    &["file://F"],
    &["-Wl,-T,F"],
    &["-javaagent:F"],
    &["--define=a=F"],
    &["--eval=load \"F\""],
    &["'F'"],
    &["F;G"],
    &["a|F"],
    &["cat <F"],
    &["sh -c 'cat -fF'"],
    &["--file=~/F"],
    &["../home/F"],
];

/// The files lie in the home directory, which no approval covers as a folder: so each must be found by its spelling.
#[test]
#[ignore = "slow"]
fn a_file_that_is_swapped_voids_an_approval_in_each_way_of_naming_it() {
    let name = |n: usize, part: &str| {
        let file = if part.contains("/F") && !part.contains("//") { "F" } else { "HOME/F" };
        part.replace('F', &file.replace('F', &format!("f{n}")))
    };
    let args: Vec<String> = SPELLINGS
        .iter()
        .enumerate()
        .flat_map(|(n, parts)| parts.iter().map(move |part| name(n, part)))
        .chain(["--file=HOME/%66a.mk", "--file=HOME/my file", "@HOME/response"].map(str::to_owned))
        .collect();
    let profile = scene(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let mut files: Vec<(String, String)> =
        SPELLINGS.iter().enumerate().map(|(n, parts)| (parts.join(" "), format!("f{n}"))).collect();
    let others = [
        ("a name with `%66`", "fa.mk"),
        ("a name with a space", "my file"),
        ("a response file", "response"),
        ("a file that a response file names", "inner"),
    ];
    files.extend(others.map(|(what, file)| (what.to_owned(), file.to_owned())));
    for (_, file) in &files {
        write(profile.path("home").join(file), "text\n").unwrap();
    }
    write(profile.path("home/response"), format!("-f {}\n", profile.path("home/inner").display())).unwrap();
    let first = waiting(&profile, "spellings");
    let shown = profile.looop(&["asks"]).ok().stdout;
    let folders = first["scope"]["folders"].to_string();
    assert!(!folders.contains(&format!("{}\"", fs::canonicalize(profile.path("home")).unwrap().display())));
    let mut ask = first;
    for (what, file) in &files {
        let path = profile.path("home").join(file);
        let real = fs::canonicalize(&path).unwrap().display().to_string();
        assert!(shown.contains(&real), "{what}: {shown}");
        profile.approve(&ask).ok();
        let text = fs::read_to_string(&path).unwrap();
        write(&path, text + "#").unwrap();
        let ran = profile.looop(&["tick"]).ok();
        assert_void(&profile, what, &ran);
        assert!(ran.stdout.contains("has changed since: a file"), "{what}: {ran:?}");
        ask = waiting(&profile, what);
    }
}

#[test]
fn what_is_not_covered_is_on_the_screen() {
    let profile = scene(&["HOME", "$X/y"]);
    waiting(&profile, "a folder that is not covered");
    let home = profile.path("home").canonicalize().unwrap();
    profile.looop(&["asks"]).ok().prints(&[
        &format!("beyond   the approval does not cover {}: its contents", home.display()),
        "beyond   the approval does not cover places that a program takes from a variable",
        "beyond   the approval does not cover programs of the system, libraries, the network",
    ]);
}

/// A profile as [`scene`] makes it, with a rule that frees `tool` with these arguments.
fn freed(args: &[&str], rule: &[&str]) -> Profile {
    let profile = scene(args);
    let argv: Vec<&str> = std::iter::once("tool").chain(rule.iter().copied()).collect();
    let rule = json!({ "argv": argv, "cwd": [profile.path("work")] });
    profile.config_more(json!({ "policy": { "allow": [rule] } }));
    profile.without_sandbox(&["run"]);
    profile
}

/// looop cannot tell whether a command reads or writes what it names.
#[test]
#[ignore = "slow"]
fn a_path_that_executes_on_the_users_side_is_on_the_card_and_no_wildcard_frees_it() {
    let profile = freed(&["--output=sub/.envrc", "HOME/proj/.vscode/tasks.json"], &["**"]);
    let ask = waiting(&profile, "a wildcard");
    profile.looop(&["asks"]).ok().prints(&[
        "beware   sub/.envrc executes on your side: the shell runs it when you enter the folder",
        "home/proj/.vscode/tasks.json executes on your side: an editor runs or obeys it",
    ]);
    assert_eq!(ask["scope"]["user_side"][0]["path"], "sub/.envrc");
    let profile = freed(&["-o", "sub/link"], &["**"]);
    symlink("../.envrc", profile.path("work/sub/link")).unwrap();
    waiting(&profile, "a link");
    profile.looop(&["asks"]).ok().prints(&["executes on your side", "which no wildcard frees"]);
    for (args, rule) in [(["-o", ".envrc"], ["-o", ".envrc"]), (["-o", "plain"], ["-o", "*"])] {
        let ran = freed(&args, &rule).looop(&["tick"]).ok();
        assert!(ran.stdout.contains("exit 0"), "{args:?}: {ran:?}");
    }
}
