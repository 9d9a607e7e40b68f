//! The bench of the fix loop, small: its table, its exit code, and that a seed gives the same result twice.

use serde_json::Value;

use crate::support::pi::skipped;
use crate::support::profile::Profile;

#[test]
fn a_seed_gives_the_same_table_twice_and_the_figures_are_met() {
    let profile = Profile::empty();
    let args = ["bench", "stuck", "--seed", "3", "--seeds", "1", "--kind", "no change,progressing", "--json"];
    let first = profile.looop(&args).ok();
    let value = first.json();
    let kind = |at: usize| &value["kinds"][at];
    assert_eq!(
        (kind(0)["kind"].as_str(), kind(1)["kind"].as_str()),
        (Some("no change"), Some("progressing"))
    );
    assert_eq!(
        (kind(0)["halted_at"]["3"].as_u64(), kind(1)["halted"].as_u64()),
        (Some(1), Some(0)),
        "{value}"
    );
    let tokens = |which: &str| kind(0)["tokens"][which].as_u64().unwrap();
    assert!(tokens("to_halt") < tokens("on") && tokens("on") < tokens("off"), "{value}");
    assert_eq!(kind(1)["solved"], serde_json::json!({ "on": 1, "off": 1 }));
    assert!(value["figures"].as_array().unwrap().iter().all(|one| one["met"] == true), "{value}");
    assert_eq!(profile.looop(&args).ok().stdout, first.stdout);
}

#[test]
fn what_does_not_exist_is_no_kind_and_a_report_keeps_what_is_around_it() {
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
