//! The worker settings of the config: runners, checks and limits.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use super::boxes::paths;
use super::form::{ConfigFile, VerifyFile};
use super::{Env, dollars, usage};
use crate::model::fault::Fault;
use crate::model::lease::Ttl;
use crate::model::settings::{StatusFile, WorkerRunner, Workers};
use crate::model::worker::WorkerLimits;

/// The first prompt of every worker runner. The brief is a file, because it may be long.
const READ_BRIEF: &str =
    "Read the file {brief} and do what it says. When all of it is done, run `looop done`, which ends you.";

/// The variables with claude's login, for every use of claude.
pub(super) const CLAUDE_ENV: &[&str] = &[
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_BASE_URL",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CONFIG_DIR",
];
/// The variables with pi's login.
pub(super) const PI_ENV: &[&str] = &[
    "ANTHROPIC_API_KEY",
    "OPENAI_API_KEY",
    "GEMINI_API_KEY",
    "OPENROUTER_API_KEY",
    "PI_CODING_AGENT_DIR",
    "PI_OFFLINE",
];

/// A built-in worker runner. looop turns no agent's own permission questions off: it detects and flags them.
struct BuiltIn {
    name: &'static str,
    argv: &'static [&'static str],
    env: &'static [&'static str],
    /// Variables that looop sets for it.
    set: &'static [(&'static str, &'static str)],
    /// A file that makes the agent report its status, if it does not do that by itself.
    status: Option<StatusFile>,
    /// The option that sets its thinking effort.
    effort: fn(&str) -> Vec<String>,
}

/// For a program without such an option.
const NO_EFFORT: fn(&str) -> Vec<String> = |_| Vec::new();

const BUILT_IN: [BuiltIn; 6] = [
    BuiltIn {
        name: "claude",
        // Without asking, it may only read its brief and run looop. The option takes the words up to the end of
        // the line.
        argv: &["claude", READ_BRIEF, "--allowedTools", "Read(/{brief})", "Bash(looop:*)"],
        env: CLAUDE_ENV,
        set: &[],
        status: None,
        effort: |effort| vec!["--effort".to_owned(), effort.to_owned()],
    },
    BuiltIn {
        name: "pi",
        argv: &["pi", "--extension", "{status}", READ_BRIEF],
        env: PI_ENV,
        set: &[],
        status: Some(StatusFile { name: "pi-status.js", text: include_str!("../../seed/pi-status.js") }),
        effort: |effort| vec!["--thinking".to_owned(), effort.to_owned()],
    },
    BuiltIn {
        name: "codex",
        // A daemon would outlive the worker. The agent's own sandbox allows looop's socket only together with
        // the network; without it the worker could not even run `looop done`.
        argv: &[
            "codex",
            "--no-daemon",
            "-s",
            "{box}",
            "-a",
            "on-request",
            "-c",
            "sandbox_workspace_write.network_access=true",
            // A login shell would reset PATH, and looop may be missing on the new one.
            "-c",
            "allow_login_shell=false",
            "-c",
            "check_for_update_on_startup=false",
            READ_BRIEF,
        ],
        env: &["CODEX_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL", "CODEX_HOME"],
        set: &[],
        status: None,
        effort: |effort| vec!["-c".to_owned(), format!("model_reasoning_effort={effort:?}")],
    },
    BuiltIn {
        name: "qwen",
        argv: &["qwen", "-i", READ_BRIEF],
        env: &["OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL", "DASHSCOPE_API_KEY"],
        // These are the settings of the machine's owner; the user's own settings in the home directory still apply.
        set: &[("QWEN_CODE_SYSTEM_SETTINGS_PATH", "{status}")],
        status: Some(StatusFile { name: "hooks.json", text: include_str!("../../seed/qwen-hooks.json") }),
        effort: NO_EFFORT,
    },
    BuiltIn {
        name: "gemini",
        argv: &["gemini", "-i", READ_BRIEF],
        env: &[
            "GEMINI_API_KEY",
            "GOOGLE_API_KEY",
            "GOOGLE_GEMINI_BASE_URL",
            "GOOGLE_CLOUD_PROJECT",
            "GOOGLE_GENAI_USE_VERTEXAI",
        ],
        set: &[],
        // Its window title shows its status.
        status: None,
        effort: NO_EFFORT,
    },
    BuiltIn {
        name: "opencode",
        // Its first argument is a directory, so the prompt has an option.
        argv: &["opencode", "--prompt", READ_BRIEF],
        env: &[
            "ANTHROPIC_API_KEY",
            "OPENAI_API_KEY",
            "GEMINI_API_KEY",
            "OPENROUTER_API_KEY",
            "OPENCODE_CONFIG",
        ],
        // It is merged with the user's own config. The agent must download nothing unasked.
        set: &[
            ("OPENCODE_CONFIG_CONTENT", "{\"plugin\":[\"file://{status}\"]}"),
            ("OPENCODE_DISABLE_AUTOUPDATE", "1"),
        ],
        status: Some(StatusFile { name: "status.js", text: include_str!("../../seed/opencode-status.js") }),
        effort: NO_EFFORT,
    },
];

/// Builds the worker settings.
pub(super) fn of(env: &Env, parsed: &ConfigFile, path: &Path) -> Result<Workers> {
    let strings = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
    let mut runners: BTreeMap<String, WorkerRunner> = BTreeMap::new();
    for BuiltIn { name, argv, env: names, set, status, effort } in BUILT_IN {
        let set = set.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut runner =
            WorkerRunner { argv: strings(argv), env: strings(names), set, status, ..WorkerRunner::default() };
        if let Some(own) = parsed.runners.get(name) {
            let model = own.model.as_ref().map(|model| vec!["--model".to_owned(), model.clone()]);
            for option in [own.effort.as_deref().map(effort), model].into_iter().flatten() {
                runner.argv.splice(1..1, option);
            }
            runner.env.extend(own.env.iter().cloned());
            runner.free = own.free;
            runner.has_token_cmd = own.token_cmd.is_some();
            runner.write = paths(env, &own.write, &format!("runners.{name}.write"), path)?;
        }
        runners.insert(name.to_owned(), runner);
    }
    for (name, own) in &parsed.runners {
        if let Some(argv) = &own.worker {
            if argv.is_empty() {
                return Err(usage(format!(
                    "could not use the config `{}`: runners.{name}.worker is empty",
                    path.display()
                )));
            }
            if !argv.iter().any(|arg| arg.contains("{brief}")) {
                let what = format!(
                    "could not use the config `{}`: runners.{name}.worker has no `{{brief}}`, so the worker would not get its brief",
                    path.display()
                );
                return Err(Fault::usage(what)
                    .hint("put \"{brief}\" where the command expects the path of its brief")
                    .into());
            }
            let write = paths(env, &own.write, &format!("runners.{name}.write"), path)?;
            // The user's own command for a built-in agent may still load the file that makes the agent report
            // its status.
            let status = runners.get(name).and_then(|known| known.status);
            let runner = WorkerRunner {
                argv: argv.clone(),
                env: own.env.clone(),
                write,
                set: Vec::new(),
                status,
                free: own.free,
                has_token_cmd: own.token_cmd.is_some(),
            };
            runners.insert(name.clone(), runner);
        }
    }
    let verify = checks(parsed, path)?;
    let base = WorkerLimits::default();
    let limits = &parsed.limits;
    let ttl_s = limits.lease_ttl.map_or(base.ttl_s, |span| u64::try_from(span.0 / 1000).unwrap_or(0));
    Ttl::try_from(ttl_s).map_err(|why| {
        usage(format!("could not use the config `{}`: limits.lease_ttl: {why}", path.display()))
    })?;
    let runner = env.get("LOOOP_WORKER").map(str::to_owned).or_else(|| parsed.worker.clone());
    Ok(Workers {
        runner,
        runners,
        verify,
        objects: parsed.objects,
        notify: parsed.notify.clone(),
        limits: WorkerLimits {
            wall_ms: limits.worker_wall.map_or(base.wall_ms, |span| span.0.max(1)),
            idle_ms: limits.worker_idle.map_or(base.idle_ms, |span| span.0.max(1)),
            verify_ms: limits.verify_timeout.map_or(base.verify_ms, |span| span.0.max(1)),
            cost_micros: dollars(parsed.budget.worker_usd, "budget.worker_usd", path)?,
            ttl_s,
            ..base
        },
        tmux: env.get("TMUX").map(str::to_owned),
    })
}

/// Warnings for runners whose `effort` is set and that have no option for it.
pub(super) fn without_effort(parsed: &ConfigFile) -> impl Iterator<Item = String> {
    let told = ["gemini", "qwen"].into_iter().filter(|name| {
        parsed.runners.get(*name).is_some_and(|own| own.effort.is_some() && own.http.is_none())
    });
    told.map(|name| format!("runners.{name}.effort has no effect: {name} has no such option"))
}

/// The checks of `verify`, each with its commands.
fn checks(parsed: &ConfigFile, path: &Path) -> Result<BTreeMap<String, Vec<Vec<String>>>> {
    let mut verify = BTreeMap::new();
    for (name, entry) in &parsed.verify {
        let checks = match entry {
            VerifyFile::One(argv) => vec![argv.clone()],
            VerifyFile::All(all) => all.clone(),
        };
        if checks.is_empty() || checks.iter().any(|argv| argv.first().is_none_or(String::is_empty)) {
            return Err(usage(format!(
                "could not use the config `{}`: verify.{name} is an empty command",
                path.display()
            )));
        }
        verify.insert(name.clone(), checks);
    }
    Ok(verify)
}
