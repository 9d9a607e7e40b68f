//! Agents that are too big or too restless to be run here for real: programs that say what the real ones said.

use std::env;
use std::fs;

use serde_json::json;

use crate::agents::{detach, go, row, wait_flag};
use crate::attach::Outer;
use crate::support::pi;
use crate::support::profile::{Profile, wait_until};

/// A profile with a worker that is an agent of this name, for which a script stands in.
fn at_work(name: &str, script: &str, path: &str) -> Profile {
    let profile = Profile::scripted(&[r#"{"move":"noop","why":"w"}"#]);
    profile.stand_in(name, script, path);
    profile.config_more(json!({ "worker": name }));
    profile.looop(&["worker", "start", "w1", "make it"]).ok();
    profile
}

#[test]
fn gemini_is_flagged_by_its_title() {
    // What gemini 0.61 printed when it asked, was answered, and stopped.
    let script = r#"#!/bin/sh
title() { printf '\033]0;%s (clone)\007' "$1"; }
case "$*" in "-i Read the file "*) ;; *) exit 9;; esac
title '◇  Ready'; title '✦  Working…'
printf '│ ? Shell  touch made │\r\n│ Allow execution of [Shell]? │\r\n│ ● 1. Allow once │\r\n'
title '✋  Action Required'
read -r yes; title '✦  Working…'
until [ -e go ]; do sleep 0.05; done
title '◇  Ready'
sleep 600
"#;
    let profile = at_work("gemini", script, "/usr/bin:/bin");
    wait_flag(&profile, "Allow execution of [Shell]? Shell  touch made");
    let mut user = Outer::start(&profile, &["attach"], 100, 30);
    user.wait_for("Allow once");
    user.type_in(b"\r");
    wait_until("it works on", || row(&profile)["flag"].is_null());
    go(&profile);
    wait_flag(&profile, "it stopped and did not say that its work is done");
    detach(user);
    profile.looop(&["kill", "w1"]).ok();
}

#[test]
fn opencode_is_flagged_by_its_plugin() {
    let Ok(node) = env::var("LOOOP_TEST_NODE_BIN") else {
        return pi::skipped("no node: LOOOP_TEST_NODE_BIN is not set");
    };
    // Loads the plugin as opencode does, and has it hear what opencode 1.18 said of a permission and a stop.
    let script = r#"#!/usr/bin/env node
const plugin = JSON.parse(process.env.OPENCODE_CONFIG_CONTENT).plugin[0];
if (process.argv[2] !== "--prompt" || process.env.OPENCODE_DISABLE_AUTOUPDATE !== "1") process.exit(9);
const parts = [{ type: "step-start" }, { type: "text", text: "Shall I go on?" }];
const client = { session: { messages: async ({ path }) => ({ data: path.id === "s1" ? [{ parts }] : [] }) } };
const { existsSync } = await import("node:fs");
const { Looop } = await import(plugin);
const { event } = await Looop({ client });
const hear = (type, properties) => event({ event: { type, properties: { sessionID: "s1", ...properties } } });
const until = async (file) => { while (!existsSync(file)) await new Promise((go) => setTimeout(go, 50)); };
await hear("session.status", { status: { type: "busy" } });
await hear("permission.asked", { permission: "bash", patterns: ["touch made"] });
await until("answered");
await hear("permission.replied", { reply: "once" });
await until("go");
await hear("session.idle", {});
await until("again");
await hear("session.status", { status: { type: "busy" } });
await hear("session.error", { error: { name: "APIError", data: { message: "no credit" } } });
await hear("session.idle", {});
await until("never");
"#;
    let profile = at_work("opencode", script, &format!("{node}:/usr/bin:/bin"));
    let touch = |name: &str| fs::write(profile.data().join("workers/w1/clone").join(name), "").unwrap();
    wait_flag(&profile, "bash: touch made");
    touch("answered");
    wait_until("it works on", || row(&profile)["flag"].is_null());
    touch("go");
    wait_flag(&profile, "it stopped: Shall I go on?");
    touch("again");
    wait_flag(&profile, "it stopped on an error: no credit");
    profile.looop(&["kill", "w1"]).ok();
}
