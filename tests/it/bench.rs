//! The bench of the fix loop, small: its figures, its exit code, its pages, and that a seed gives the same result twice.

use serde_json::Value;

use crate::attach::Outer;
use crate::support::pi::skipped;
use crate::support::profile::{Profile, wait_until};

/// How many kinds there are, and how many of them circle.
const KINDS: (usize, usize) = (13, 7);

fn bench(kinds: &[&str]) -> Value {
    let kinds = kinds.join(",");
    let mut args = vec!["bench", "stuck", "--seed", "3", "--seeds", "1", "--json"];
    if !kinds.is_empty() {
        args.extend(["--kind", kinds.as_str()]);
    }
    Profile::empty().looop(&args).ok().json()
}

#[test]
fn every_kind_comes_out_as_it_must_and_a_seed_is_one_result() {
    let value = bench(&[]);
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
    for again in bench(&["flaky signature", "waits on a process"])["runs"].as_array().unwrap() {
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
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/stuck.md")).unwrap();
    let (_, rest) = page.split_once("<!-- bench stuck: begin -->").unwrap();
    let (tables, _) = rest.split_once("<!-- bench stuck: end -->").unwrap();
    assert!(tables.contains("looop bench stuck --seed 1 --seeds 20") && !tables.contains("missed"));
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
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/stuck.md")).unwrap();
    let (_, table) = page.split_once("| pairs | count |").unwrap();
    let histories = page.split("| history | commits |").nth(1).unwrap().lines().skip(2);
    assert!(histories.take_while(|line| line.starts_with("| ")).count() >= 3);
    let table = format!("| pairs | count |{table}");
    let rows = rows(&table);
    assert_eq!(rows.len(), 7);
    for row in rows {
        let number = |cell: usize| row[cell].split(' ').next().unwrap().parse::<u32>().unwrap();
        let (pairs, alike) = (number(1), number(3));
        match row[2] {
            "alike" => assert!(alike * 100 >= pairs * 95, "{row:?}"),
            _ => assert!(alike * 100 <= pairs * 2, "{row:?}"),
        }
        // What is compared with it: equal text sees no tweak, the same failure takes all work for a loop.
        assert_eq!((number(4), number(5)), (0, pairs), "{row:?}");
    }
}

#[test]
fn an_unknown_kind_is_refused_and_a_report_keeps_the_surrounding_text() {
    let profile = Profile::empty();
    let ran = profile.looop(&["bench", "stuck", "--kind", "tweek"]);
    assert!(ran.code == 2 && ran.stderr.contains("there are: tweak"), "{}", ran.stderr);
    let page = profile.path("page.md");
    std::fs::write(
        &page,
        "# Before\n\n<!-- bench stuck: begin -->\nold\n<!-- bench stuck: end -->\n\nafter\n",
    )
    .unwrap();
    let args =
        ["bench", "stuck", "--seeds", "1", "--kind", "progressing", "--report", page.to_str().unwrap()];
    profile.looop(&args).ok();
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.starts_with("# Before\n") && text.ends_with("\nafter\n") && !text.contains("old"), "{text}");
    assert!(text.contains("| progressing | 1 | 0 | 1 |"), "{text}");
}

#[test]
fn a_terminal_sees_how_far_it_is() {
    let profile = Profile::empty();
    let args = ["bench", "stuck", "--seeds", "4", "--kind", "progressing"];
    let terminal = Outer::start(&profile, &args, 90, 40);
    terminal.wait_for("0 of 4 cases");
    wait_until("some are done", || {
        let screen = terminal.screen().contents();
        (1..4).any(|n| screen.contains(&format!("{n} of 4 cases")))
    });
    let (code, screen) = terminal.end();
    assert!(code == 0 && screen.contains("8 runs in") && !screen.contains("of 4 cases"), "{screen}");
}

#[test]
fn with_the_map_an_agent_is_shown_what_it_has_to_mend() {
    if !std::path::Path::new("/usr/bin/python3").exists() {
        return skipped("no python3");
    }
    let profile = Profile::empty();
    let value: Value = profile.looop(&["bench", "map", "--json"]).ok().json();
    let bugs = value["bugs"].as_array().unwrap();
    assert_eq!(bugs.len(), 5);
    for bug in bugs {
        let solved = |which: &str| bug[which]["came"]["solved"].as_bool().unwrap();
        assert!(solved("with") && !solved("without"), "{bug}");
        assert!(bug["with"]["bytes"].as_u64() < bug["bytes"].as_u64(), "{bug}");
    }
}
