//! What one decision sends to the model beside the prompt: `cargo bench --bench requests`.
//!
//! Real runners in front of a scripted model server, over a world of 20 goals and 20 sensors; the floor is the prompt
//! itself. A runner that is not installed has no row and says so: `.ci/run` installs them and names them in
//! `LOOOP_TEST_PI`, `LOOOP_TEST_CLAUDE`, `LOOOP_TEST_CODEX` and `LOOOP_TEST_NODE_BIN`.

#![allow(dead_code, unused_imports)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, clippy::disallowed_macros)]
#![allow(clippy::panic)]

#[path = "../tests/it/support/mod.rs"]
mod support;

use support::decider::{ALL, Decider, calls, large_world, newest_prompt, profile};
use support::model_server::{ModelServer, Reply};

fn main() {
    println!("cargo bench --bench requests");
    println!("{:<12} {:>14} {:>14} {:>8}  target", "runner", "request bytes", "prompt bytes", "ratio");
    let mut missed = 0;
    for decider in ALL {
        let server = ModelServer::start(vec![Reply::text(r#"{"move":"noop","why":"nothing to do"}"#)]);
        let Some(profile) = profile(decider, &server.url()) else { continue };
        large_world(&profile, 1);
        profile.looop(&["tick"]).ok();
        let sent = calls(&server);
        assert_eq!(sent.len(), 1, "{decider:?} asked more than once");
        let (bytes, prompt) = (sent[0].bytes, newest_prompt(&profile).len());
        let verdict = match decider {
            // What it sends about itself no option takes away.
            Decider::Codex => "measured only",
            _ if bytes <= prompt * 5 / 4 + 1024 => "1.25x and 1 KiB: met",
            _ => {
                missed += 1;
                "1.25x and 1 KiB: MISSED"
            }
        };
        let name = format!("{decider:?}").to_lowercase();
        println!("{name:<12} {bytes:>14} {prompt:>14} {:>8.3}  {verdict}", bytes as f64 / prompt as f64);
    }
    if missed > 0 {
        println!("{missed} targets missed");
        std::process::exit(1);
    }
    println!("all targets met");
}
