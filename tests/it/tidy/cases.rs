//! Each rule of the tidy test, broken once and kept once: a rule whose wire is cut fails here.

use super::{IGNORE, MARKS, PLACES, REASONS, check};
use std::collections::BTreeSet;

/// The rules that a tree of one file breaks. The file gets a proper first line.
fn broken(path: &str, rest: &str) -> Vec<&'static str> {
    broken_tree(&[(path, &format!("//! A made-up file.\n{rest}"))])
}

fn broken_tree(tree: &[(&str, &str)]) -> Vec<&'static str> {
    let tree: Vec<_> = tree.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    let rules: BTreeSet<_> = check(&tree).into_iter().map(|violation| violation.rule).collect();
    rules.into_iter().collect()
}

/// `lines` lines that no other rule minds.
fn filler(lines: usize) -> String {
    "    go();\n".repeat(lines)
}

const NONE: [&str; 0] = [];

#[test]
fn layers_look_left() {
    for bad in [
        ("src/os/proc.rs", "use crate::store::Store;\n"),
        ("src/rules.rs", "fn f() { crate::cli::run() }\n"),
        ("src/tick/apply.rs", "use crate::{\n    rules::World,\n    config::{Config, Limits},\n};\n"),
        ("src/tick/mod.rs", "use super::cli;\n"),
        ("src/tick/apply.rs", "use super::super::map::{Map, Name};\n"),
        ("src/worker/wire/frame.rs", "use super::super::super::tick;\n"),
        ("src/tick/apply_tests.rs", "use crate::cli as front;\n"),
        ("src/os/proc.rs", "use crate::{rules, cli as front};\n"),
        ("src/helpers.rs", "fn f() {}\n"),
    ] {
        assert_eq!(broken(bad.0, bad.1), ["layers"], "{bad:?}");
    }
    for good in [
        ("src/tick/apply.rs", "use crate::rules::World;\nuse crate::{os, tick::diff, worker};\n"),
        (
            "src/tick/apply.rs",
            "//! See [`crate::cli`].\n// crate::cli::run does more\nconst A: &str = \"crate::cli::x\";\n",
        ),
        ("src/tick/apply.rs", "use super::{diff, decide};\nuse super::map_of_names;\n"),
        ("src/worker/wire/frame.rs", "use super::super::tick;\n"),
        ("src/worker/wire/frame.rs", "use super::super::attach;\n"),
        ("src/cli/run.rs", "use crate::{config, fix, map, tick};\n"),
        ("src/rules/beat/state.rs", "use crate::rules::fixture;\nuse crate::VERSION;\n"),
        ("src/main.rs", "use crate::cli;\n"),
        ("src/lib.rs", "pub use crate::cli::run;\n"),
        ("tests/it/main.rs", "use crate::cli;\n"),
    ] {
        assert_eq!(broken(good.0, good.1), NONE, "{good:?}");
    }
}

#[test]
fn files_of_a_folder_import_each_other_in_one_direction() {
    let file = |path, code: &str| (path, format!("//! A made-up file.\n{code}"));
    let broken = |files: &[(&'static str, String)]| {
        let tree: Vec<_> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        broken_tree(&tree)
    };
    let one = || file("src/tick/one.rs", "use super::two::Two;\n");
    let two = || file("src/tick/two.rs", "use crate::tick::{\n    three,\n};\n");
    let circle = [one(), two(), file("src/tick/three.rs", "fn f() { super::one::run() }\n")];
    assert_eq!(broken(&circle), ["circles"]);
    assert_eq!(broken(&circle[..2]), NONE);
    let in_a_test = "#[cfg(test)]\nmod tests {\n    use crate::tick::one;\n}\n";
    assert_eq!(broken(&[one(), two(), file("src/tick/three.rs", in_a_test)]), NONE);
    // What the parent passes on belongs to the file that has it.
    let parent = || file("src/tick/mod.rs", "pub mod one;\npub mod two;\npub use one::One;\n");
    let by_parent = |name: &str| file("src/tick/two.rs", &format!("use super::{name};\n"));
    assert_eq!(broken(&[parent(), one(), by_parent("One")]), ["circles"]);
    assert_eq!(broken(&[parent(), one(), by_parent("Other")]), NONE);
}

#[test]
fn a_violation_says_where() {
    let text = "//! A made-up file.\n\nuse crate::{\n    rules::{\n        World,\n    },\n    cli,\n};\n";
    let found = check(&[("src/os/proc.rs".to_owned(), text.to_owned())]);
    let [only] = &found[..] else { panic!("{found:?}") };
    assert_eq!((&*only.path, only.line, &*only.text), ("src/os/proc.rs", 7, "os imports cli"));
}

#[test]
fn pure_files_touch_nothing() {
    for (mark, code) in [
        ("//! Pure.", "use std::fs;\n"),
        ("//! Pure. The rules of time.", "use std::{collections::BTreeMap, env};\n"),
        ("//! The rules of time. Pure.", "fn f() { std::thread::yield_now() }\n"),
        ("//!\n//! Pure.", "type T = SystemTime;\n"),
        ("//! Pure.", "use rustix::fs;\n"),
        ("//! Pure.", "fn f(a: std::net::IpAddr) {}\n"),
        ("//! Pure.", "use std::process::ExitCode;\n"),
    ] {
        assert_eq!(
            broken("src/rules/beat/state.rs", &format!("{mark}\n\n{code}")),
            ["pure"],
            "{mark} {code}"
        );
        assert_eq!(broken("src/rules/beat/state.rs", &format!("//! Not so.\n\n{code}")), NONE, "{code}");
    }
    for clock in ["Instant::now()", "Timestamp::now()", "jiff::Zoned::now()"] {
        let code = format!("//! Pure.\n\nfn f() {{ {clock} }}\n");
        assert_eq!(broken("src/rules/beat/state.rs", &code), ["doors", "pure"], "{clock}");
    }
    let prose = "//! Pure.\n\n/// Unlike std::fs.\nconst A: &str = \"std::fs\";\nconst B: &str = r#\"\"std::env\"\"#;\n";
    assert_eq!(broken("src/rules/beat/state.rs", prose), NONE);
}

#[test]
fn each_door_has_one_owner() {
    for (call, owner) in [
        ("SystemTime::now()", "src/os/clock.rs"),
        ("std::time::Instant::now()", "src/os/clock.rs"),
        ("jiff::Timestamp::now()", "src/os/clock.rs"),
        ("TimeZone::system()", "src/os/clock.rs"),
        ("clock_gettime(ClockId::Monotonic)", "src/os/clock.rs"),
        ("std::env::var(name)", "src/config.rs"),
        ("env::vars_os()", "src/config.rs"),
        ("std::env::set_var(name, value)", "src/config.rs"),
        ("std::env::remove_var(name)", "src/config.rs"),
        ("Command::new(name)", "src/os/process/command.rs"),
        ("#[cfg(target_os = \"linux\")] go()", "src/os/proc.rs"),
        ("print!()", "src/cli/print.rs"),
        ("println!()", "src/cli/print.rs"),
        ("eprint!()", "src/cli/print.rs"),
        ("eprintln!()", "src/cli/print.rs"),
    ] {
        let code = format!("fn f() {{ {call}; }}\n");
        assert_eq!(broken("src/tick/log.rs", &code), ["doors"], "{call}");
        assert_eq!(broken(owner, &code), NONE, "{call}");
        assert_eq!(broken("tests/it/log.rs", &code), NONE, "{call}");
    }
    assert_eq!(broken("src/config.rs", "use std::{\n    env::var_os,\n    fs,\n};\n"), NONE);
    assert_eq!(broken("src/tick/log.rs", "use std::{\n    env::{args, var_os},\n    fs,\n};\n"), ["doors"]);
    let alike = "fn f() { CommandLine::new(); MyCommand::new(); writeln!(out).ok(); std::env::args(); }\n";
    assert_eq!(broken("src/tick/log.rs", alike), NONE);
}

#[test]
fn crates_stay_behind_their_fences() {
    let user = |path, code| (path, code);
    let gix = "//! A user of it.\nuse gix::Repository;\n";
    let two = [user("src/vcs/history.rs", gix), user("src/vcs/history/edits.rs", gix)];
    assert_eq!(broken_tree(&two), NONE);
    assert_eq!(broken_tree(&[two[0], two[1], user("src/vcs/clone.rs", gix)]), ["fences"]);
    assert_eq!(
        broken_tree(&[two[0], two[1], user("src/map/mod.rs", "//! It is not gix that names it.\n")]),
        NONE
    );
    let code = "//! A user of it.\nuse rustix::pty::All;\nfn f(a: rustix::pty::One) {}\n";
    assert_eq!(broken_tree(&[("src/worker/a.rs", code)]), NONE);
    assert_eq!(broken_tree(&[("src/worker/a.rs", code), ("src/worker/b.rs", code)]), ["fences"]);
    for (path, rules) in [
        ("src/cli/tick.rs", &NONE[..]),
        ("src/main.rs", &NONE),
        ("src/config.rs", &["fences"]),
        ("src/lib.rs", &["fences"]),
    ] {
        assert_eq!(broken(path, "use clap::Parser;\n"), rules, "{path}");
    }
}

#[test]
fn first_lines_say_what_for() {
    for bad in [
        "fn f() {}\n",
        "//! no sentence\n",
        "//!\n//! Too late.\n",
        "// Not for the reader.\n",
        "",
        "\n//! Too late.\n",
    ] {
        assert_eq!(broken_tree(&[("src/os/tty.rs", bad)]), ["first-line"], "{bad:?}");
        assert_eq!(broken_tree(&[("xtask/src/beat.rs", bad)]), ["first-line"], "{bad:?}");
    }
    for good in [
        "//! Terminals.",
        "//! Terminals. And more of\n//! them",
        "//! What a terminal\n//! can do.\n//!\n//! More",
    ] {
        assert_eq!(broken_tree(&[("src/os/tty.rs", good)]), NONE, "{good:?}");
    }
    assert_eq!(broken_tree(&[("notes.txt", "as you like")]), NONE);
}

#[test]
fn one_type_name_has_one_meaning() {
    let a = ("src/rules/a.rs", "//! A file.\npub struct Report;\nstruct Args;\n");
    let b = ("src/rules/b.rs", "//! A file.\npub(crate) enum Report {}\nstruct Args;\n");
    assert_eq!(broken_tree(&[a, b]), ["unique-types"]);
    let tests = ("src/rules/c.rs", "//! A file.\n#[cfg(test)]\nmod tests {\n    struct Report;\n}\n");
    assert_eq!(broken_tree(&[a, tests]), NONE);
}

#[test]
fn private_words_are_banned_from_identifiers() {
    for code in ["fn end_strays() {}\n", "struct SandboxInmate;\n", "fn f() { let desk = 1; }\n"] {
        assert_eq!(broken("src/rules/a.rs", &format!("//! A file.\n{code}")), ["banned-words"], "{code}");
    }
    let fine = "//! A desk, said the deed.\nfn f() { g(\"told\"); astray(); }\n";
    assert_eq!(broken("src/rules/a.rs", fine), NONE);
}

#[test]
fn the_pipeline_is_one_screen() {
    assert_eq!(broken("src/tick/mod.rs", &filler(79)), NONE);
    assert_eq!(broken("src/tick/mod.rs", &filler(80)), ["pipeline"]);
    assert_eq!(broken("src/map/mod.rs", &filler(80)), NONE);
}

#[test]
fn nothing_is_left_unfinished() {
    for mark in MARKS {
        for path in ["src/os/tty.rs", "tests/it/tty.rs"] {
            assert_eq!(broken(path, &format!("// {mark}(me): this\n")), ["marks"], "{path} {mark}");
        }
        assert_eq!(broken_tree(&[("tests/it/fixtures/a.txt", mark)]), ["marks"], "{mark}");
        assert_eq!(broken_tree(&[("README.md", mark)]), NONE, "{mark}");
    }
}

#[test]
fn a_test_is_left_to_the_gate_for_a_listed_reason_only() {
    for reason in REASONS {
        let code = format!("#[test]\n{IGNORE} = \"{reason}\"]\nfn f() {{}}\n");
        assert_eq!(broken("tests/it/tty.rs", &code), NONE, "{reason}");
    }
    for bad in ["]", " = \"\"]", " = \"later\"]", " = \"slow\"] // and why"] {
        for path in ["src/os/tty_tests.rs", "tests/it/tty.rs", "xtask/tests/bench.rs"] {
            let code = format!("#[test]\n{IGNORE}{bad}\nfn f() {{}}\n");
            assert_eq!(broken(path, &code), ["reasons"], "{path} {bad}");
        }
    }
}

#[test]
fn each_area_has_a_test_that_runs_daily() {
    let main = ("tests/it/main.rs", "//! A made-up file.\nmod tty;\nmod support;\n");
    let daily = "//! A made-up file.\n#[test]\nfn f() {}\n";
    let slow = format!("//! A made-up file.\n#[test]\n{IGNORE} = \"slow\"]\nfn f() {{}}\n");
    assert_eq!(broken_tree(&[main, ("tests/it/tty.rs", daily)]), NONE);
    assert_eq!(broken_tree(&[main, ("tests/it/tty.rs", &slow), ("tests/it/tty/keys.rs", daily)]), NONE);
    assert_eq!(broken_tree(&[main, ("tests/it/tty.rs", &slow)]), ["areas"]);
    assert_eq!(broken_tree(&[main]), ["areas"]);
}

#[test]
fn no_place_of_one_machine_is_named() {
    for place in PLACES {
        for path in ["src/os/tty.rs", "README.md", ".ci/run"] {
            let text = format!("//! A made-up file.\n// see {place}here\n");
            assert_eq!(broken_tree(&[(path, &text)]), ["places"], "{path} {place}");
        }
    }
    assert_eq!(broken_tree(&[("README.md", "a network, ~/work and https://crates.io/crates/looop")]), NONE);
}

#[test]
fn results_are_seldom_thrown_away() {
    let drops = |count: usize| format!("fn f() {{\n{}}}\n", "    let _ = go();\n".repeat(count));
    let half = format!("//! Half of them.\n{}", drops(5));
    assert_eq!(broken_tree(&[("src/os/a.rs", &half), ("src/os/b.rs", &half)]), NONE);
    let more = format!("//! More than half of them.\n{}", drops(6));
    assert_eq!(broken_tree(&[("src/os/a.rs", &half), ("src/os/b.rs", &more)]), ["dropped-results"]);
    assert_eq!(broken("tests/it/a.rs", &drops(11)), NONE);
}

#[test]
fn each_page_is_linked() {
    let page = |path, text| (path, text);
    let lonely =
        [page("README.md", "[a](docs/a.md)"), page("docs/a.md", "a"), page("docs/b.md", "[b](b.md)")];
    assert_eq!(broken_tree(&lonely), ["docs-linked"]);
    for (from, link) in [
        ("README.md", "[b](docs/b.md#why)"),
        ("README.md", "[b](./docs/b.md \"why\")"),
        ("README.md", "see [b]\n\n[b]: docs/b.md\n"),
        ("docs/a.md", "[b](b.md)"),
        ("docs/more/a.md", "[b](../b.md)"),
    ] {
        let mut tree = vec![page("docs/b.md", "b"), page(from, link)];
        if from != "README.md" {
            tree.push(page("README.md", "[a](docs/a.md) [a](docs/more/a.md)"));
        }
        assert_eq!(broken_tree(&tree), NONE, "{from} {link}");
    }
    assert_eq!(broken_tree(&[page("seed/PLAYBOOK.md", "no page of ours")]), NONE);
}
