//! Services: what `looop service` writes is read by those who are to read it, and nothing of a user's is overwritten.

use std::path::{Path, PathBuf};
use std::{fs, io::Write, process::Command, str::FromStr};

use crate::support::pi::skipped;
use crate::support::profile::{LOOOP, Profile, Ran, program};

const NOOP: &str = r#"{"move":"noop","why":"nothing"}"#;

/// A profile in which the program lies in a folder with an odd name, and is found there.
fn odd(folder: &str) -> (Profile, PathBuf) {
    let mut profile = Profile::scripted(&[NOOP]);
    let bin = profile.path(folder);
    fs::create_dir(&bin).unwrap();
    let program = bin.join("looop");
    fs::hard_link(LOOOP, &program).or_else(|_| fs::copy(LOOOP, &program).map(drop)).unwrap();
    profile.var("PATH", &format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()));
    (profile, program)
}

fn run(profile: &Profile, program: &Path, args: &[&str]) -> Ran {
    profile.other_command(program.to_str().unwrap(), args).output().unwrap().into()
}

#[test]
fn systemd_understands_the_unit() {
    let (profile, program) = odd("it's");
    run(&profile, &program, &["service", "print", "--kind", "systemd"])
        .fails_with(1, &["systemd cannot start the program"]);
    let (profile, program) = odd("100%h $b");
    let unit = run(&profile, &program, &["service", "print", "--kind", "systemd"]).ok().stdout;
    assert!(unit.lines().any(|line| line == "KillMode=process"), "{unit}");
    let data = format!("Environment=\"LOOOP_DATA_DIR={}\"", profile.data().display());
    assert!(unit.contains(&data) && unit.contains("Environment=\"LOOOP_CONFIG="), "{unit}");
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return skipped("service: no systemd-analyze");
    }
    let verify = |text: &str| -> String {
        let file = profile.path("looop.service");
        fs::write(&file, text).unwrap();
        let mut verify = Command::new("systemd-analyze");
        verify.args(["verify", "--user", "--man=no"]).arg(&file);
        let runtime = profile.path("run");
        fs::create_dir_all(&runtime).unwrap();
        verify.env("XDG_RUNTIME_DIR", runtime).env("HOME", profile.path("home"));
        let ran: Ran = verify.output().unwrap().into();
        ran.stderr.lines().filter(|line| line.contains("looop")).map(|line| format!("{line}\n")).collect()
    };
    assert_eq!(verify(&unit), "");
    // A word that is not quoted for it would be seen.
    let bare = unit.replace("%%", "%");
    assert_ne!(verify(&bare), "");
}

#[test]
fn a_property_list_holds_what_was_meant() {
    let (profile, program) = odd("it's 100% \"b\"");
    let plist = run(&profile, &program, &["service", "print", "--kind", "launchd"]).ok().stdout;
    let file = profile.path("a.plist");
    fs::write(&file, plist).unwrap();
    let script = "import json, plistlib, sys; print(json.dumps(plistlib.load(open(sys.argv[1], 'rb'))))";
    let ran: Ran = Command::new("python3").args(["-c", script]).arg(&file).output().unwrap().into();
    let read = ran.ok().json();
    assert_eq!(read["ProgramArguments"][0].as_str(), program.to_str());
    assert_eq!(read["EnvironmentVariables"]["LOOOP_DATA_DIR"].as_str(), profile.data().to_str());
    assert_eq!(read["Label"], "local.looop-data");
    assert_eq!((&read["RunAtLoad"], &read["AbandonProcessGroup"]), (&true.into(), &true.into()));
}

#[test]
fn a_cron_line_runs_a_beat() {
    let (profile, program) = odd("it's 100% \"b\"");
    let text = run(&profile, &program, &["service", "print", "--kind", "cron"]).ok().stdout;
    let line = text.lines().find(|line| !line.starts_with('#')).unwrap();
    let fields: Vec<&str> = line.splitn(6, ' ').collect();
    croner::Cron::from_str(&fields[..5].join(" ")).unwrap();
    assert_eq!(fields[5].matches('%').count(), fields[5].matches("\\%").count(), "{line}");
    // As cron runs it, from a bare environment.
    let mut sh = Command::new("/bin/sh");
    sh.arg("-c").arg(fields[5].replace("\\%", "%")).env_clear().env("HOME", profile.path("home"));
    let ran: Ran = sh.env("PATH", "/usr/bin:/bin").output().unwrap().into();
    ran.ok();
    assert_eq!(profile.asked(), 1);
    run(&profile, &program, &["service", "install", "--kind", "cron"])
        .fails_with(1, &["looop does not edit your crontab"]);
}

#[test]
fn a_unit_is_written_renewed_and_removed() {
    let mut profile = Profile::empty();
    fs::create_dir(profile.path("bin")).unwrap();
    let printed = profile.path("said");
    let fake = format!("#!/bin/sh\necho \"$@\" >> {}\n", printed.display());
    program(profile.path("bin/systemctl"), fake);
    profile.var("PATH", &format!("{}:/usr/bin:/bin", profile.path("bin").display()));
    let systemd = |args: &[&str]| profile.looop(&[&["service"], args, &["--kind", "systemd"]].concat());
    let unit = profile.path("home/.config/systemd/user/looop-data.service");

    for args in [&["install"][..], &["print"]] {
        systemd(args).fails_with(1, &["there is no profile"]);
        assert!(!unit.exists() && !profile.data().exists());
    }
    profile.looop(&["init"]).ok();
    systemd(&["install"]).shows(&["systemctl --user enable --now looop-data"]);
    assert_eq!(fs::read_to_string(&unit).unwrap(), systemd(&["print"]).ok().stdout);
    assert!(systemd(&["install"]).ok().stdout.contains("exists already"));

    let edited = fs::read_to_string(&unit).unwrap().replace("RestartSec=10", "RestartSec=60");
    fs::write(&unit, &edited).unwrap();
    let refused = systemd(&["install", "--now"]).fails_with(1, &["has other content"]);
    assert!(refused.stdout.contains("-RestartSec=60\n+RestartSec=10"), "{refused:?}");
    assert_eq!((fs::read_to_string(&unit).unwrap(), printed.exists()), (edited, false));
    systemd(&["install", "--force", "--now"]).ok();
    let commands = "--user daemon-reload\n--user enable --now looop-data\n";
    assert_eq!(fs::read_to_string(&printed).unwrap(), commands);

    let other = profile.path("home/.config/systemd/user/looop-mine.service");
    fs::write(&other, "[Unit]\n").unwrap();
    systemd(&["uninstall", "--name", "looop-mine"]).fails_with(1, &["looop did not write it"]);
    systemd(&["uninstall", "--now"]).ok();
    assert!(!unit.exists() && other.exists());
    assert_eq!(fs::read_to_string(&printed).unwrap(), format!("{commands}--user disable --now looop-data\n"));
    assert!(systemd(&["uninstall"]).ok().stdout.contains("does not exist"));
    let bad = systemd(&["print", "--name", "../x"]);
    assert_eq!(bad.code, 2, "{bad:?}");
}

#[test]
fn a_unit_that_an_editor_has_open_is_neither_replaced_nor_removed() {
    let profile = Profile::empty();
    profile.looop(&["init"]).ok();
    let systemd = |args: &[&str]| profile.looop(&[&["service"], args, &["--kind", "systemd"]].concat());
    systemd(&["install"]).ok();
    let unit = profile.path("home/.config/systemd/user/looop-data.service");
    for verb in [&["install", "--force"][..], &["uninstall"]] {
        let edited = fs::read_to_string(&unit).unwrap() + "# edited\n";
        fs::write(&unit, &edited).unwrap();
        let mut editor = fs::File::options().append(true).open(&unit).unwrap();
        systemd(verb).fails_with(1, &["changed by someone else"]);
        editor.write_all(b"# late\n").unwrap();
        drop(editor);
        assert_eq!(fs::read_to_string(&unit).unwrap(), format!("{edited}# late\n"), "{verb:?}");
    }
    systemd(&["install", "--force"]).ok();
    systemd(&["uninstall"]).ok();
    assert!(!unit.exists());
}

/// The unit of a package is for everybody, and else the same.
#[test]
fn the_packaged_unit_says_the_same() {
    let packaged = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/looop.service")).unwrap();
    let mine = Profile::home_only().looop(&["service", "print", "--kind", "systemd"]).ok().stdout;
    let own = ["# Written", "# The unit", "ExecStart=", "Environment=", "EnvironmentFile=", "Description="];
    let common = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !own.iter().any(|own| line.starts_with(own))).map(str::to_owned).collect()
    };
    assert_eq!(common(&packaged), common(&mine));
    assert!(packaged.contains("ExecStart=/usr/bin/looop --color never\n"));
}
