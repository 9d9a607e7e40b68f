//! Workers that wait for a user, shown in a real tmux server: once per flag, found by label, gone with the flag.

mod notices;

use std::{collections::BTreeMap, fs, path::PathBuf};

use looop::alerts::{lines, unshown};
use looop::rules::worker::Phase;
use looop::store::layout::Layout;

use crate::support::profile::wait_until;
use crate::support::terminal::{Human, TmuxFixture};

#[test]
fn a_flag_opens_one_window_and_its_end_closes_it() {
    let terminal = TmuxFixture::new("data");
    terminal.worker("fix-ci").flag(1, "it is red");
    terminal.surfaces(&["⚑fix-ci"]);
    let of = |format| terminal.of("⚑fix-ci", format);
    assert_eq!(of("#{automatic-rename} #{allow-rename} #{window_active}"), "0 0 0");
    assert!(of("#{@looop}").contains("/fix-ci@"), "{}", of("#{@looop}"));
    terminal.surfaces(&["⚑fix-ci"]);
    terminal.worker("fix-ci").unflag();
    terminal.surfaces(&[]);
    terminal.worker("fix-ci").flag(2, "red again");
    terminal.surfaces(&["⚑fix-ci"]);
    assert_eq!(terminal.windows(), ["mine", "⚑fix-ci"], "the human's own window is where it was");
}

#[test]
fn an_ended_worker_sets_no_flag() {
    let terminal = TmuxFixture::new("data");
    terminal.worker("a").flag(1, "help");
    terminal.surfaces(&["⚑a"]);
    terminal.worker("a").change(|state| state.phase = Phase::Failed);
    terminal.surfaces(&[]);
    let gone = terminal.worker("b");
    gone.flag(1, "help");
    gone.die();
    // A child that another test starts holds the lock until it executes its program.
    wait_until("the supervisor to be gone", || {
        terminal.surface().ok();
        terminal.flags().is_empty()
    });
}

#[test]
fn a_window_that_the_user_closed_stays_closed() {
    let terminal = TmuxFixture::new("data");
    terminal.worker("a").flag(1, "help");
    terminal.surface().ok();
    terminal.tmux(&["kill-window", "-t", "=mine:⚑a"]);
    terminal.surfaces(&[]);
    terminal.worker("a").flag(2, "help again");
    terminal.surfaces(&["⚑a"]);
    terminal.tmux(&["kill-window", "-t", "=mine:⚑a"]);
    terminal.worker("a").change(|state| state.ask = Some("q-1".parse().unwrap()));
    terminal.surface().ok();
    assert_eq!(terminal.flags(), ["⚑a"], "an ask is a call of its own");
}

#[test]
fn seven_flags_are_five_windows_and_one_that_counts() {
    let terminal = TmuxFixture::new("data");
    for n in 1..=7 {
        terminal.worker(&format!("w{n}")).flag_at(1, "help", n);
    }
    terminal.surfaces(&["⚑w1", "⚑w2", "⚑w3", "⚑w4", "⚑w5", "⚑ +2"]);
    assert!(terminal.of("⚑ +2", "#{pane_start_command}").ends_with("ls --watch"), "it stays open");
    terminal.worker("w8").flag_at(1, "help", 8);
    terminal.surface().ok();
    assert_eq!(terminal.flags()[5..], ["⚑ +3"], "the same window under another name");
    terminal.worker("w1").unflag();
    terminal.worker("w2").unflag();
    terminal.surfaces(&["⚑w6", "⚑w7", "⚑w3", "⚑w4", "⚑w5", "⚑ +1"]);
    for n in 3..=8 {
        terminal.worker(&format!("w{n}")).unflag();
    }
    terminal.surface().ok();
    assert_eq!(terminal.windows(), ["mine"]);
}

/// The window's program runs in the profile, whatever its path holds, and no shell reads any of it.
#[test]
fn the_profile_reaches_the_window_through_no_shell() {
    let terminal = TmuxFixture::new("da ta'\"$(touch x)#(touch y)#{pid};");
    terminal.worker("日本語").flag(1, "help");
    terminal.surface_in("C").ok();
    assert_eq!(terminal.flags(), ["⚑日本語"]);
    let start = terminal.of("⚑日本語", "#{pane_start_command}");
    assert!(start.ends_with(" attach 日本語"), "{start}");
    terminal.surface_in("C").ok();
    assert_eq!(terminal.flags(), ["⚑日本語"], "the label is read back in any locale");
    terminal.worker("日本語").unflag();
    terminal.surface_in("C").ok();
    assert_eq!(terminal.windows(), ["mine"]);
    assert_eq!(terminal.touched(), [] as [PathBuf; 0]);
}

/// The program may be replaced while it runs; the window then runs the one that took its place.
#[test]
fn the_window_gets_data_dir_and_config_as_they_are() {
    let terminal = TmuxFixture::new("da ta'\"$(touch x);");
    terminal.worker("a").flag(1, "help");
    let seen = terminal.data().join("seen");
    let script = "#!/bin/sh
        env > \"$LOOOP_DATA_DIR/new\" && mv \"$LOOOP_DATA_DIR/new\" \"$LOOOP_DATA_DIR/seen\"
        exec sleep 1000";
    terminal.surface_replaced_by(script);
    wait_until("the window's program runs", || seen.exists());
    let env = fs::read_to_string(seen).unwrap();
    for line in [
        format!("LOOOP_DATA_DIR={}", terminal.data().display()),
        format!("LOOOP_CONFIG={}", terminal.profile.config_file().display()),
    ] {
        assert!(env.lines().any(|one| one == line), "{line} in {env}");
    }
    wait_until("tmux marks the window", || terminal.of("⚑a", "#{window_bell_flag}") == "1");
    assert_eq!(terminal.touched(), [] as [PathBuf; 0]);
}

#[test]
fn hostile_text_runs_nothing_and_hostile_names_do_nothing() {
    let terminal = TmuxFixture::new("data");
    let evil = "#(touch x)$(touch y)`touch z`;touch x\n#{l:%9} \u{1b}]0;t\u{7}";
    terminal.tmux(&["new-session", "-d", "-s", "$1;kill-server ##(touch x)", "-n", "⚑a"]);
    terminal.tmux(&["set-option", "-g", "@looop", "client 99999999999 %0"]);
    terminal.tmux(&["set-option", "-p", "-t", "=mine:mine", "@looop", "ffffffffffffffff/a@1"]);
    // The user's status line is drawn, with all that it names.
    let sessions = terminal.tmux(&["list-sessions", "-F", "#{session_id} #{session_name}"]);
    assert!(sessions.contains(" $1;kill-server #(touch x)\n"), "{sessions}");
    let user = Human::attach(&terminal, "$1");
    wait_until("the status line is drawn", || user.screen().contains("⚑a"));
    let before = terminal.windows();
    terminal.worker("a").flag(1, evil);
    terminal.surface().ok();
    assert_eq!(terminal.windows().len(), before.len() + 1, "a window of that name is no window of ours");
    wait_until("the new window is drawn", || user.screen().matches("⚑a").count() == 2);
    terminal.worker("a").unflag();
    terminal.surface().ok();
    assert_eq!(terminal.windows(), before, "and is left alone");
    drop(user);
    assert_eq!(terminal.touched(), [] as [PathBuf; 0]);
}

#[test]
fn two_at_once_open_one_window() {
    let terminal = TmuxFixture::new("data");
    for n in 1..=3 {
        terminal.worker(&format!("w{n}")).flag_at(1, "help", n);
    }
    let running: Vec<_> = (0..4).map(|_| terminal.start_surface()).collect();
    for mut child in running {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(terminal.flags(), ["⚑w1", "⚑w2", "⚑w3"]);
}

#[test]
fn without_a_server_there_is_nothing_to_do_and_none_is_started() {
    let terminal = TmuxFixture::new("data");
    terminal.tmux(&["kill-server"]);
    terminal.worker("a").flag(1, "help");
    let ran = terminal.surface().ok();
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
    assert!(!terminal.is_served());
    assert!(!terminal.data().join("workers/a/surfaced").exists(), "nobody was shown anything");
    terminal.serve();
    terminal.surface().ok();
    assert_eq!(terminal.flags(), ["⚑a"], "the first server that is there shows it");
}

#[test]
fn without_a_flag_nothing_is_written() {
    let terminal = TmuxFixture::new("data");
    terminal.worker("a");
    terminal.surface().ok();
    assert!(!terminal.data().join("surface.lock").exists());
}

#[test]
fn a_window_opens_in_the_users_session_without_taking_the_focus() {
    let terminal = TmuxFixture::new("data");
    terminal.tmux(&["new-session", "-d", "-s", "other", "-n", "other"]);
    let user = Human::attach(&terminal, "=mine");
    wait_until("the human is there", || terminal.tmux(&["list-clients"]).contains("mine"));
    terminal.worker("a").flag(1, "help");
    terminal.surface().ok();
    assert_eq!(terminal.of("⚑a", "#{session_name}"), "mine");
    assert_eq!(terminal.of("mine", "#{window_active}"), "1", "no focus taken");
    drop(user);
}

/// What the user types next would go to another program.
#[test]
fn a_window_that_the_user_looks_at_is_closed_once_they_leave_it() {
    let terminal = TmuxFixture::new("data");
    let user = Human::attach(&terminal, "=mine");
    wait_until("the human is there", || terminal.tmux(&["list-clients"]).contains("mine"));
    terminal.worker("a").flag(1, "help");
    terminal.surface().ok();
    terminal.tmux(&["select-window", "-t", "=mine:⚑a"]);
    terminal.worker("a").unflag();
    terminal.surfaces(&["⚑a"]);
    terminal.tmux(&["select-window", "-t", "=mine:mine"]);
    terminal.surface().ok();
    assert_eq!(terminal.windows(), ["mine"]);
    drop(user);
}

#[test]
fn panes_that_the_user_made_live_on() {
    let terminal = TmuxFixture::new("data");
    terminal.worker("a").flag(1, "help");
    terminal.surface().ok();
    let own =
        terminal.tmux(&["split-window", "-d", "-P", "-F", "#{pane_id}", "-t", "=mine:⚑a", "sleep 1000"]);
    terminal.worker("a").unflag();
    terminal.surface().ok();
    let left = terminal.tmux(&["list-panes", "-a", "-F", "#{pane_id} #{window_name}"]);
    assert!(left.contains(own.trim()), "{left}");
    assert_eq!(left.lines().count(), 2, "{left}");
}

#[test]
fn two_profiles_do_not_touch_each_other() {
    let terminal = TmuxFixture::new("data");
    let other = terminal.beside("other");
    terminal.worker("a").flag(1, "help");
    other.worker("a").flag(1, "help");
    terminal.surface().ok();
    other.surface().ok();
    assert_eq!(terminal.flags(), ["⚑a", "⚑a"]);
    other.worker("a").unflag();
    other.surface().ok();
    terminal.surfaces(&["⚑a"]);
}

#[test]
fn the_server_of_the_worker_comes_first() {
    let terminal = TmuxFixture::new("data");
    let far = TmuxFixture::new("far");
    terminal.worker("a").in_tmux(&far.tmux_value()).flag(1, "help");
    terminal.surface().ok();
    assert_eq!((terminal.flags(), far.flags()), (vec![], vec!["⚑a".to_owned()]));
    terminal.worker("a").unflag();
    terminal.surface().ok();
    assert_eq!(far.windows(), ["mine"]);
}

#[test]
fn a_terminal_without_tmux_gets_a_line_per_call() {
    let terminal = TmuxFixture::new("data");
    terminal.worker("a").flag(1, "red\u{1b}[2J\nnow");
    let mut messages = BTreeMap::new();
    let first = lines(&terminal.workers(), &mut messages);
    assert_eq!(first, ["⚑ a: red\\u{1b}[2J\\u{a}now — looop attach a"]);
    assert_eq!(lines(&terminal.workers(), &mut messages), [] as [&str; 0]);
    terminal.worker("a").change(|state| state.ask = Some("q-1".parse().unwrap()));
    assert_eq!(lines(&terminal.workers(), &mut messages), ["⚑ a: asks q-1 — looop attach a"]);
    terminal.worker("a").unflag();
    assert_eq!(lines(&terminal.workers(), &mut messages), [] as [&str; 0]);
    terminal.worker("a").flag(2, "again");
    assert_eq!(lines(&terminal.workers(), &mut messages).len(), 1);
}

#[test]
fn what_a_window_has_shown_needs_no_line() {
    let terminal = TmuxFixture::new("data");
    let layout = Layout::new(terminal.data().to_owned(), terminal.profile.path("cache"));
    let silent = || unshown(&layout, terminal.workers()).len();
    terminal.worker("calm");
    terminal.worker("a").flag(1, "help");
    assert_eq!(silent(), 1);
    terminal.surface().ok();
    assert_eq!(silent(), 0);
    terminal.worker("a").flag(2, "help again");
    assert_eq!(silent(), 1);
}
