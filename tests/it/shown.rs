//! What commands print where: into a pipe that closes early, on a narrow and on a wide terminal, in any locale, in any colour.

use std::process::{Command, Stdio};

use crate::support::profile::{LOOOP, Profile, Ran};
use crate::support::{lived::lived_in, pi::skipped};

/// Every command that lists or shows, each with enough to say.
const LISTS: &str = "status|why|log|cost all --by beat|asks --all|ls --all|logs bad|screen waits|worker show waits|\
                     map --root project --query total|attempt list|attempt show sums|lease list|goal list|\
                     goal show release|sensor list|sensor show slow|playbook show|schedule list|doctor|\
                     prune --dry-run --older 0s|completions bash|man|schema|schema status|help|tick --dry-run";
/// Those of them that print a table.
const TABLES: &str = "ls --all|goal list|sensor list|schedule list|lease list|cost all --by beat|\
                      map --root project --query total|schema";

fn words(call: &str) -> Vec<&str> {
    call.split(' ').collect()
}

/// Runs a command on a terminal that is so wide; none where no terminal can be made.
pub fn on_terminal(profile: &Profile, columns: usize, call: &str) -> Option<Ran> {
    let line = format!("stty cols {columns} rows 50; exec {LOOOP} {call}");
    let looop = profile.command(&[]);
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env_clear().current_dir(profile.path("")).stdin(Stdio::null());
    command.envs(looop.get_envs().filter_map(|(key, value)| Some((key, value?)))).env("TERM", "xterm");
    match command.output() {
        Ok(output) => Some(output.into()),
        Err(error) => {
            skipped(&format!("there is no `script` to make a terminal with: {error}"));
            None
        }
    }
}

/// How many cells of a terminal a text takes, without what is painted.
fn cells(line: &str) -> usize {
    let mut plain = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    plain.trim_end_matches('\r').chars().count()
}

#[test]
#[ignore = "slow"]
fn a_pipe_that_closes_early_is_success_without_a_word() {
    let profile = lived_in();
    for call in LISTS.split('|') {
        let line = format!("{LOOOP} {call} 2>errors | head -n 1 >/dev/null; echo \"${{PIPESTATUS[0]}}\"");
        let ran: Ran = profile.other_command("bash", &["-c", &line]).output().unwrap().into();
        let whole = profile.looop(&words(call));
        assert!(!whole.stdout.is_empty(), "{call} says nothing: {whole:?}");
        // Output that fits into the pipe's buffer is written before anybody closes it; the code is its own then.
        let expected = if ran.stdout.trim() == "0" { 0 } else { whole.code };
        assert_eq!(ran.stdout.trim(), expected.to_string(), "{call}");
        let gone = closed(&profile, call);
        assert_eq!((gone.code, gone.stderr.as_str()), (0, ""), "{call}, with nobody at the other end");
    }
}

/// Runs a command whose stdout nobody reads any more.
fn closed(profile: &Profile, call: &str) -> Ran {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    profile.command(&words(call)).stdout(writer).stderr(Stdio::piped()).output().unwrap().into()
}

#[test]
fn a_table_fits_its_terminal_and_uses_it() {
    let profile = lived_in();
    for call in TABLES.split('|') {
        let Some(narrow) = on_terminal(&profile, 80, call) else { return };
        for line in narrow.stdout.lines() {
            assert!(cells(line) <= 80, "{call} at 80: {} cells: {line:?}", cells(line));
        }
    }
    let width = |columns: usize| {
        let ran = on_terminal(&profile, columns, "ls").unwrap();
        ran.stdout.lines().map(cells).max().unwrap()
    };
    assert!(width(200) > 80 && width(80) <= 80, "a wide terminal shows more");
}

#[test]
#[ignore = "slow"]
fn only_the_base_colours_are_used_and_no_background() {
    let profile = lived_in();
    let allowed = ["0", "1", "2", "31", "32", "33"];
    for call in LISTS.split('|').filter(|call| !["man", "logs bad", "screen waits"].contains(call)) {
        let ran = profile.looop(&[words(call), vec!["--color", "always"]].concat());
        for code in
            ran.stdout.split("\x1b[").skip(1).filter_map(|rest| rest.split_once('m')).map(|(code, _)| code)
        {
            assert!(allowed.contains(&code), "{call} paints with {code:?}");
        }
        let plain = profile.looop(&[words(call), vec!["--color", "never"]].concat());
        assert!(!plain.stdout.contains('\x1b'), "{call} paints though it must not");
    }
}

#[test]
#[ignore = "slow"]
fn the_locale_changes_nothing_and_stops_nothing() {
    let profile = lived_in();
    for call in ["ls --all", "status", "asks", "goal list", "schema", "doctor"] {
        let shapes = ["C.UTF-8", "C", "de_DE.ISO-8859-1", "nosuch"].map(|locale| {
            let mut command = profile.command(&words(call));
            let ran: Ran = command.env("LC_ALL", locale).output().unwrap().into();
            assert!(!ran.stderr.contains("panicked"), "{call} in {locale}: {}", ran.stderr);
            let signs = ran.stdout.chars().filter(|c| !c.is_ascii()).collect::<String>();
            (ran.code, ran.stdout.lines().count(), signs)
        });
        assert!(shapes.iter().all(|shape| *shape == shapes[0]), "{call}: {shapes:?}");
    }
}
