//! What the config says about workers: runners that can work, checks, limits.

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

/// What every worker runner is told first: the brief is a file, because it may be long.
const READ_BRIEF: &str =
    "Read the file {brief} and do what it says. When all of it is done, run `looop done`, which ends you.";

/// The variables by which claude finds its login, however it is called.
pub(super) const CLAUDE_ENV: &[&str] = &[
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_BASE_URL",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CONFIG_DIR",
];
/// Those of pi.
pub(super) const PI_ENV: &[&str] = &[
    "ANTHROPIC_API_KEY",
    "OPENAI_API_KEY",
    "GEMINI_API_KEY",
    "OPENROUTER_API_KEY",
    "PI_CODING_AGENT_DIR",
    "PI_OFFLINE",
];

/// A runner that looop knows. None is told to skip its own questions: those are noticed and flagged.
struct BuiltIn {
    name: &'static str,
    argv: &'static [&'static str],
    env: &'static [&'static str],
    /// Variables that are set for it.
    set: &'static [(&'static str, &'static str)],
    /// What makes it tell how it fares, where it does not by itself.
    status: Option<StatusFile>,
    /// The option that says how hard it thinks.
    effort: fn(&str) -> Vec<String>,
}

/// A program without such an option.
const NO_EFFORT: fn(&str) -> Vec<String> = |_| Vec::new();

const BUILT_IN: [BuiltIn; 6] = [
    BuiltIn {
        name: "claude",
        // Its brief and looop are all that it need not ask for. The option takes words to the end of the line.
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
        // A daemon would outlive the worker. Its box lets a command reach looop's socket only together with the
        // network; without that it could not even say that it is done.
        argv: &[
            "codex",
            "--no-daemon",
            "-s",
            "{box}",
            "-a",
            "on-request",
            "-c",
            "sandbox_workspace_write.network_access=true",
            // A login shell would set its PATH anew, and looop may not be on that.
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
        // The settings of a machine's owner stand there; a human's own are in the home and still count.
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
        // Its title says it.
        status: None,
        effort: NO_EFFORT,
    },
    BuiltIn {
        name: "opencode",
        // Its first word is a directory; the prompt has an option.
        argv: &["opencode", "--prompt", READ_BRIEF],
        env: &[
            "ANTHROPIC_API_KEY",
            "OPENAI_API_KEY",
            "GEMINI_API_KEY",
            "OPENROUTER_API_KEY",
            "OPENCODE_CONFIG",
        ],
        // It is merged with the human's own config. Nothing may be downloaded behind anybody's back.
        set: &[
            ("OPENCODE_CONFIG_CONTENT", "{\"plugin\":[\"file://{status}\"]}"),
            ("OPENCODE_DISABLE_AUTOUPDATE", "1"),
        ],
        status: Some(StatusFile { name: "status.js", text: include_str!("../../seed/opencode-status.js") }),
        effort: NO_EFFORT,
    },
];

/// The part of the settings that is about workers.
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
                    "could not use the config `{}`: runners.{name}.worker has no `{{brief}}`, so it would not know what to do",
                    path.display()
                );
                return Err(Fault::usage(what)
                    .hint("put \"{brief}\" where it shall get the path of its brief")
                    .into());
            }
            let write = paths(env, &own.write, &format!("runners.{name}.write"), path)?;
            // A command of one's own for a program that is known may load what tells how it fares.
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

/// Says which runners are told how hard to think and have no option for it.
pub(super) fn without_effort(parsed: &ConfigFile) -> impl Iterator<Item = String> {
    let told = ["gemini", "qwen"].into_iter().filter(|name| {
        parsed.runners.get(*name).is_some_and(|own| own.effort.is_some() && own.http.is_none())
    });
    told.map(|name| format!("runners.{name}.effort has no effect: {name} has no such option"))
}

/// The entries of `verify`, each with its commands.
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
