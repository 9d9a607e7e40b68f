//! Workers that wait for a human, shown in a real tmux server: once per flag, found by label, gone with the flag.

mod notices;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use looop::model::worker::Phase;
use looop::store::layout::Layout;
use looop::worker::surface::{lines, unshown};

use crate::support::desk::{Desk, Human};
use crate::support::profile::wait_until;

#[test]
fn a_flag_opens_one_window_and_its_end_closes_it() {
    let desk = Desk::new("data");
    desk.worker("fix-ci").flag(1, "it is red");
    desk.surface().ok();
    assert_eq!(desk.flags(), ["⚑fix-ci"]);
    let of = |format| desk.of("⚑fix-ci", format);
    assert_eq!(of("#{automatic-rename} #{allow-rename} #{window_active}"), "0 0 0");
    assert!(of("#{@looop}").contains("/fix-ci@"), "{}", of("#{@looop}"));
    desk.surface().ok();
    assert_eq!(desk.flags(), ["⚑fix-ci"]);
    desk.worker("fix-ci").unflag();
    desk.surface().ok();
    assert_eq!(desk.flags(), [] as [&str; 0]);
    desk.worker("fix-ci").flag(2, "red again");
    desk.surface().ok();
    assert_eq!(desk.flags(), ["⚑fix-ci"]);
    assert_eq!(desk.windows(), ["mine", "⚑fix-ci"], "the human's own window is where it was");
}

#[test]
fn an_ended_worker_sets_no_flag() {
    let desk = Desk::new("data");
    desk.worker("a").flag(1, "help");
    desk.surface().ok();
    assert_eq!(desk.flags(), ["⚑a"]);
    desk.worker("a").change(|state| state.phase = Phase::Failed);
    desk.surface().ok();
    assert_eq!(desk.flags(), [] as [&str; 0]);
    let gone = desk.worker("b");
    gone.flag(1, "help");
    gone.die();
    desk.surface().ok();
    assert_eq!(desk.flags(), [] as [&str; 0], "the supervisor is gone");
}

#[test]
fn a_window_that_the_human_closed_stays_closed() {
    let desk = Desk::new("data");
    desk.worker("a").flag(1, "help");
    desk.surface().ok();
    desk.tmux(&["kill-window", "-t", "=mine:⚑a"]);
    desk.surface().ok();
    assert_eq!(desk.flags(), [] as [&str; 0]);
    desk.worker("a").flag(2, "help again");
    desk.surface().ok();
    assert_eq!(desk.flags(), ["⚑a"]);
    desk.tmux(&["kill-window", "-t", "=mine:⚑a"]);
    desk.worker("a").change(|state| state.ask = Some("q-1".parse().unwrap()));
    desk.surface().ok();
    assert_eq!(desk.flags(), ["⚑a"], "an ask is a call of its own");
}

#[test]
fn seven_flags_are_five_windows_and_one_that_counts() {
    let desk = Desk::new("data");
    for n in 1..=7 {
        desk.worker(&format!("w{n}")).flag_at(1, "help", n);
    }
    desk.surface().ok();
    assert_eq!(desk.flags(), ["⚑w1", "⚑w2", "⚑w3", "⚑w4", "⚑w5", "⚑ +2"]);
    assert!(desk.of("⚑ +2", "#{pane_start_command}").ends_with("ls --watch"), "it stays open");
    desk.worker("w8").flag_at(1, "help", 8);
    desk.surface().ok();
    assert_eq!(desk.flags()[5..], ["⚑ +3"], "the same window under another name");
    desk.worker("w1").unflag();
    desk.worker("w2").unflag();
    desk.surface().ok();
    assert_eq!(desk.flags(), ["⚑w6", "⚑w7", "⚑w3", "⚑w4", "⚑w5", "⚑ +1"]);
    for n in 3..=8 {
        desk.worker(&format!("w{n}")).unflag();
    }
    desk.surface().ok();
    assert_eq!(desk.windows(), ["mine"]);
}

/// The window's program runs in the profile, whatever its path holds, and no shell reads any of it.
#[test]
fn the_profile_reaches_the_window_through_no_shell() {
    let desk = Desk::new("da ta'\"$(touch x)#(touch y)#{pid};");
    desk.worker("日本語").flag(1, "help");
    desk.surface_in("C").ok();
    assert_eq!(desk.flags(), ["⚑日本語"]);
    let start = desk.of("⚑日本語", "#{pane_start_command}");
    assert!(start.ends_with(" attach 日本語"), "{start}");
    desk.surface_in("C").ok();
    assert_eq!(desk.flags(), ["⚑日本語"], "the label is read back in any locale");
    desk.worker("日本語").unflag();
    desk.surface_in("C").ok();
    assert_eq!(desk.windows(), ["mine"]);
    assert_eq!(desk.touched(), [] as [PathBuf; 0]);
}

/// The program may be replaced while it runs; the window then runs the one that took its place.
#[test]
fn the_window_gets_data_dir_and_config_as_they_are() {
    let desk = Desk::new("da ta'\"$(touch x);");
    desk.worker("a").flag(1, "help");
    let seen = desk.data().join("seen");
    let script = "#!/bin/sh
        env > \"$LOOOP_DATA_DIR/new\" && mv \"$LOOOP_DATA_DIR/new\" \"$LOOOP_DATA_DIR/seen\"
        exec sleep 1000";
    desk.surface_replaced_by(script);
    wait_until("the window's program runs", || seen.exists());
    let env = fs::read_to_string(seen).unwrap();
    for line in [
        format!("LOOOP_DATA_DIR={}", desk.data().display()),
        format!("LOOOP_CONFIG={}", desk.profile.config_file().display()),
    ] {
        assert!(env.lines().any(|one| one == line), "{line} in {env}");
    }
    wait_until("tmux marks the window", || desk.of("⚑a", "#{window_bell_flag}") == "1");
    assert_eq!(desk.touched(), [] as [PathBuf; 0]);
}

#[test]
fn hostile_text_runs_nothing_and_hostile_names_do_nothing() {
    let desk = Desk::new("data");
    let evil = "#(touch x)$(touch y)`touch z`;touch x\n#{l:%9} \u{1b}]0;t\u{7}";
    desk.tmux(&["new-session", "-d", "-s", "$1;kill-server ##(touch x)", "-n", "⚑a"]);
    desk.tmux(&["set-option", "-g", "@looop", "client 99999999999 %0"]);
    desk.tmux(&["set-option", "-p", "-t", "=mine:mine", "@looop", "ffffffffffffffff/a@1"]);
    // The human's status line is drawn, with all that it names.
    let sessions = desk.tmux(&["list-sessions", "-F", "#{session_id} #{session_name}"]);
    assert!(sessions.contains(" $1;kill-server #(touch x)\n"), "{sessions}");
    let human = Human::attach(&desk, "$1");
    wait_until("the status line is drawn", || human.screen().contains("⚑a"));
    let before = desk.windows();
    desk.worker("a").flag(1, evil);
    desk.surface().ok();
    assert_eq!(desk.windows().len(), before.len() + 1, "a window of that name is no window of ours");
    wait_until("the new window is drawn", || human.screen().matches("⚑a").count() == 2);
    desk.worker("a").unflag();
    desk.surface().ok();
    assert_eq!(desk.windows(), before, "and is left alone");
    drop(human);
    assert_eq!(desk.touched(), [] as [PathBuf; 0]);
}

#[test]
fn two_at_once_open_one_window() {
    let desk = Desk::new("data");
    for n in 1..=3 {
        desk.worker(&format!("w{n}")).flag_at(1, "help", n);
    }
    let running: Vec<_> = (0..4).map(|_| desk.start_surface()).collect();
    for mut child in running {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(desk.flags(), ["⚑w1", "⚑w2", "⚑w3"]);
}

#[test]
fn without_a_server_there_is_nothing_to_do_and_none_is_started() {
    let desk = Desk::new("data");
    desk.tmux(&["kill-server"]);
    desk.worker("a").flag(1, "help");
    let ran = desk.surface().ok();
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
    assert!(!desk.is_served());
    assert!(!desk.data().join("workers/a/surfaced").exists(), "nobody was shown anything");
    desk.serve();
    desk.surface().ok();
    assert_eq!(desk.flags(), ["⚑a"], "the first server that is there shows it");
}

#[test]
fn without_a_flag_nothing_is_written() {
    let desk = Desk::new("data");
    desk.worker("a");
    desk.surface().ok();
    assert!(!desk.data().join("surface.lock").exists());
}

#[test]
fn a_window_opens_in_the_users_session_without_taking_the_focus() {
    let desk = Desk::new("data");
    desk.tmux(&["new-session", "-d", "-s", "other", "-n", "other"]);
    let human = Human::attach(&desk, "=mine");
    wait_until("the human is there", || desk.tmux(&["list-clients"]).contains("mine"));
    desk.worker("a").flag(1, "help");
    desk.surface().ok();
    assert_eq!(desk.of("⚑a", "#{session_name}"), "mine");
    assert_eq!(desk.of("mine", "#{window_active}"), "1", "no focus taken");
    drop(human);
}

/// What the human types next would go to another program.
#[test]
fn a_window_that_the_human_looks_at_is_closed_once_they_leave_it() {
    let desk = Desk::new("data");
    let human = Human::attach(&desk, "=mine");
    wait_until("the human is there", || desk.tmux(&["list-clients"]).contains("mine"));
    desk.worker("a").flag(1, "help");
    desk.surface().ok();
    desk.tmux(&["select-window", "-t", "=mine:⚑a"]);
    desk.worker("a").unflag();
    desk.surface().ok();
    assert_eq!(desk.flags(), ["⚑a"]);
    desk.tmux(&["select-window", "-t", "=mine:mine"]);
    desk.surface().ok();
    assert_eq!(desk.windows(), ["mine"]);
    drop(human);
}

#[test]
fn panes_that_the_human_made_live_on() {
    let desk = Desk::new("data");
    desk.worker("a").flag(1, "help");
    desk.surface().ok();
    let own = desk.tmux(&["split-window", "-d", "-P", "-F", "#{pane_id}", "-t", "=mine:⚑a", "sleep 1000"]);
    desk.worker("a").unflag();
    desk.surface().ok();
    let left = desk.tmux(&["list-panes", "-a", "-F", "#{pane_id} #{window_name}"]);
    assert!(left.contains(own.trim()), "{left}");
    assert_eq!(left.lines().count(), 2, "{left}");
}

#[test]
fn two_profiles_do_not_touch_each_other() {
    let desk = Desk::new("data");
    let other = desk.beside("other");
    desk.worker("a").flag(1, "help");
    other.worker("a").flag(1, "help");
    desk.surface().ok();
    other.surface().ok();
    assert_eq!(desk.flags(), ["⚑a", "⚑a"]);
    other.worker("a").unflag();
    other.surface().ok();
    desk.surface().ok();
    assert_eq!(desk.flags(), ["⚑a"]);
}

#[test]
fn the_server_of_the_worker_comes_first() {
    let desk = Desk::new("data");
    let far = Desk::new("far");
    desk.worker("a").in_tmux(&far.tmux_value()).flag(1, "help");
    desk.surface().ok();
    assert_eq!((desk.flags(), far.flags()), (vec![], vec!["⚑a".to_owned()]));
    desk.worker("a").unflag();
    desk.surface().ok();
    assert_eq!(far.windows(), ["mine"]);
}

#[test]
fn a_terminal_without_tmux_gets_a_line_per_call() {
    let desk = Desk::new("data");
    desk.worker("a").flag(1, "red\u{1b}[2J\nnow");
    let mut told = BTreeMap::new();
    let first = lines(&desk.workers(), &mut told);
    assert_eq!(first, ["⚑ a: red\\u{1b}[2J\\u{a}now — looop attach a"]);
    assert_eq!(lines(&desk.workers(), &mut told), [] as [&str; 0]);
    desk.worker("a").change(|state| state.ask = Some("q-1".parse().unwrap()));
    assert_eq!(lines(&desk.workers(), &mut told), ["⚑ a: asks q-1 — looop attach a"]);
    desk.worker("a").unflag();
    assert_eq!(lines(&desk.workers(), &mut told), [] as [&str; 0]);
    desk.worker("a").flag(2, "again");
    assert_eq!(lines(&desk.workers(), &mut told).len(), 1);
}

#[test]
fn what_a_window_has_shown_needs_no_line() {
    let desk = Desk::new("data");
    let layout = Layout::new(desk.data().to_owned(), desk.profile.path("cache"));
    let silent = || unshown(&layout, desk.workers()).len();
    desk.worker("calm");
    desk.worker("a").flag(1, "help");
    assert_eq!(silent(), 1);
    desk.surface().ok();
    assert_eq!(silent(), 0);
    desk.worker("a").flag(2, "help again");
    assert_eq!(silent(), 1);
}
