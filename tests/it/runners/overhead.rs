//! What looop adds to the time that a runner takes: a table of real beats, to be read with `--nocapture`.

use std::fs;
use std::time::Instant;

use serde_json::json;

use super::{ALL, NOOP, profile, shim};
use crate::support::model_server::{ModelServer, Reply};
use crate::support::profile::Profile;

/// How many beats a figure is the least of: what else the machine does makes some of them longer and none shorter.
const BEATS: usize = 5;

/// The walls of some beats that decide, in milliseconds.
fn walls(profile: &Profile) -> Vec<u64> {
    let beat = |n: usize| {
        profile.goal("g", &format!("---\ngoal: number {n}\n---\n"));
        let began = Instant::now();
        profile.looop(&["tick"]).ok();
        u64::try_from(began.elapsed().as_millis()).unwrap()
    };
    fs::create_dir_all(profile.path("noted")).unwrap();
    // The first one in a home sets it up.
    beat(BEATS);
    fs::write(profile.path("noted/took"), "").unwrap();
    (0..BEATS).map(beat).collect()
}

#[test]
#[ignore = "needs agent CLIs"]
fn what_a_beat_adds_to_its_runner() {
    let cat = Profile::scripted(&[NOOP]);
    fs::write(cat.path("reply"), NOOP).unwrap();
    let argv = json!(["cat", cat.path("reply")]);
    cat.config(json!({ "decide": "cat", "runners": { "cat": { "decide": argv } } }));
    let least = walls(&cat).into_iter().min().unwrap();
    println!("{:<10} {:>8} {:>12} {:>10}", "runner", "beat ms", "its own ms", "looop ms");
    println!("{:<10} {least:>8} {:>12} {least:>10}", "cat", "-");
    for decider in ALL {
        let server = ModelServer::start(vec![Reply::text(NOOP)]);
        let Some(profile) = profile(decider, &server.url()) else { continue };
        let took = profile.path("noted/took");
        let watch = format!(
            "began=$(date +%s%N); \"$real\" \"$@\"; code=$?; echo $((($(date +%s%N) - began) / 1000000)) >> {}; exit $code",
            took.display()
        );
        shim(&profile, decider, &watch);
        let name = format!("{decider:?}").to_lowercase();
        let mut config = profile.config_value();
        if let Some(runner) = config["runners"].get_mut(&name) {
            // Its sandbox lets it write down what it took.
            runner["write"] = json!([profile.path("noted")]);
            profile.config(config);
        }
        let beats = walls(&profile);
        let own: Vec<u64> = fs::read_to_string(&took).unwrap().lines().map(|n| n.parse().unwrap()).collect();
        assert_eq!(own.len(), if decider.is_program() { beats.len() } else { 0 }, "{decider:?}: {own:?}");
        let own = own.into_iter().chain(std::iter::repeat(0));
        let pairs = beats.into_iter().zip(own).map(|(beat, own)| (beat.saturating_sub(own), beat, own));
        let (added, beat, own) = pairs.min().unwrap();
        println!("{name:<10} {beat:>8} {own:>12} {added:>10}");
        // What it adds is the same for each of them; the rest is room for a loaded machine.
        assert!(added < 4 * least + 1000, "{name}: {added} ms beside {least} ms");
    }
}
