//! The benchmarks of the fix loop with few seeds, and the figures in the docs: each figure is met, each benchmark is run by
//! the gate, and a seed gives the same result twice.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::process::{Command, Output};
use std::{fs, path::Path};

use serde_json::Value;

/// How many kinds there are, and how many of them circle.
const KINDS: (usize, usize) = (13, 7);

fn xtask(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask")).arg("bench").args(args).output().unwrap()
}

fn json(args: &[&str]) -> Value {
    let output = xtask(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

#[test]
fn every_kind_comes_out_as_it_must_and_a_seed_is_one_result() {
    let value = json(&["stuck", "--seed", "3", "--seeds", "1", "--json"]);
    let runs = value["runs"].as_array().unwrap();
    let loops = value["kinds"].as_array().unwrap().iter().filter(|kind| kind["loop"] == true).count();
    assert_eq!((runs.len(), loops), KINDS);
    assert!(value["figures"].as_array().unwrap().iter().all(|one| one["met"] == true), "{value}");
    for run in runs {
        let [on, off] = ["on", "off"].map(|which| run[which].clone());
        let like = |of: &Value| of["like"].as_array().unwrap().clone();
        // Up to its halt a run knows nothing of the breaker: the same seed is the same run, whichever kind it is.
        match on["halted"].as_u64() {
            None => assert_eq!(on, off, "{run}"),
            Some(at) => {
                let at = usize::try_from(at).unwrap();
                assert_eq!(like(&on)[..at], like(&off)[..at], "{run}");
                let tokens = |of: &Value, what: &str| of[what].as_u64().unwrap();
                assert!(tokens(&on, "tokens_to_halt") < tokens(&on, "tokens"), "{run}");
                assert!(tokens(&on, "tokens") < tokens(&off, "tokens"), "{run}");
            }
        }
        assert_eq!(on["solved"], off["solved"], "{run}");
    }
    // Again, in another company: what is most likely to differ.
    let few =
        ["stuck", "--seed", "3", "--seeds", "1", "--json", "--kind", "flaky signature,waits on a process"];
    for again in json(&few)["runs"].as_array().unwrap() {
        assert!(runs.contains(again), "{again}");
    }
}

/// The first table of a page: its rows behind the head, by their cells.
fn rows(table: &str) -> Vec<Vec<&str>> {
    let lines = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

#[test]
fn the_tables_in_the_docs_meet_the_figures() {
    let page = read("docs/stuck.md");
    let (_, rest) = page.split_once("<!-- bench stuck: begin -->").unwrap();
    let (tables, _) = rest.split_once("<!-- bench stuck: end -->").unwrap();
    assert!(tables.contains("cargo xtask bench stuck --seed 1 --seeds 20") && !tables.contains("missed"));
    let (table, _) = tables.split_once("| agent | must be |").unwrap();
    let rows = rows(table);
    assert_eq!(rows.len(), KINDS.0);
    for (at, row) in rows.iter().enumerate() {
        let number = |cell: usize| row[cell].parse::<u32>().unwrap_or_else(|_| panic!("{row:?}"));
        assert_eq!(number(1), 20, "{row:?}");
        match row[0] {
            _ if at < KINDS.1 => assert!(number(4) >= 19, "by attempt 4: {row:?}"),
            "slow but different" => assert!(number(2) <= 2, "halted: {row:?}"),
            _ => assert_eq!(number(2), 0, "halted: {row:?}"),
        }
    }
}

#[test]
fn the_measure_in_the_docs_tells_tweaks_from_work() {
    let page = read("docs/stuck.md");
    let (_, table) = page.split_once("| pairs | count |").unwrap();
    let histories = page.split("| history | commits |").nth(1).unwrap().lines().skip(2);
    assert!(histories.take_while(|line| line.starts_with("| ")).count() >= 3);
    let table = format!("| pairs | count |{table}");
    let rows = rows(&table);
    assert_eq!(rows.len(), 7);
    for row in rows {
        let number = |cell: usize| row[cell].split(' ').next().unwrap().parse::<u32>().unwrap();
        let (pairs, similarity) = (number(1), number(3));
        match row[2] {
            "alike" => assert!(similarity * 100 >= pairs * 95, "{row:?}"),
            _ => assert!(similarity * 100 <= pairs * 2, "{row:?}"),
        }
        // What is compared with it: equal text sees no tweak, the same failure takes all work for a loop.
        assert_eq!((number(4), number(5)), (0, pairs), "{row:?}");
    }
}

#[test]
fn an_unknown_kind_is_refused_and_a_report_keeps_the_rest_of_its_page() {
    let output = xtask(&["stuck", "--kind", "tweek"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && error.contains("there are: tweak"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page.md");
    fs::write(&page, "# Before\n\n<!-- bench stuck: begin -->\nold\n<!-- bench stuck: end -->\n\nafter\n")
        .unwrap();
    let args = ["stuck", "--seeds", "1", "--kind", "progressing", "--report", page.to_str().unwrap()];
    assert!(xtask(&args).status.success());
    let text = fs::read_to_string(&page).unwrap();
    assert!(text.starts_with("# Before\n") && text.ends_with("\nafter\n") && !text.contains("old"), "{text}");
    assert!(text.contains("| progressing | 1 | 0 | 1 |"), "{text}");
}

#[test]
fn a_terminal_shows_how_many_cases_are_done() {
    let line = format!("{} bench stuck --seeds 2 --kind progressing", env!("CARGO_BIN_EXE_xtask"));
    let output = Command::new("script").args(["-qefc", &line, "/dev/null"]).output().unwrap();
    let screen = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && screen.contains("1 of 2 cases") && screen.contains("4 runs in"),
        "{screen}"
    );
}

#[test]
fn with_the_map_an_agent_is_shown_the_file_with_the_bug() {
    let value = json(&["map", "--json"]);
    let bugs = value["bugs"].as_array().unwrap();
    assert_eq!(bugs.len(), 5);
    for bug in bugs {
        let solved = |which: &str| bug[which]["outcome"]["solved"].as_bool().unwrap();
        assert!(solved("with") && !solved("without"), "{bug}");
        assert!(bug["with"]["bytes"].as_u64() < bug["bytes"].as_u64(), "{bug}");
    }
}

#[test]
fn each_benchmark_is_run_by_the_gate_and_the_docs_show_its_figures() {
    let help = String::from_utf8(xtask(&["help"]).stdout).unwrap();
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let names = commands.lines().map_while(|line| line.strip_prefix("  ")?.split(' ').next());
    let names: Vec<&str> = names.filter(|name| !name.is_empty() && *name != "help").collect();
    assert_eq!(names, ["beat", "workers", "index", "measure", "stuck", "map"]);
    let gate = read(".ci/run");
    let docs = ["docs/performance.md", "docs/stuck.md", "docs/map.md"].map(read).concat();
    for name in names {
        let command = format!("cargo xtask bench {name}");
        assert!(gate.contains(&command), "{name} is not in the gate");
        assert!(docs.contains(&command), "no page shows the figures of {name}");
    }
}
