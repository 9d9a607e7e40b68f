//! Pure. The known keys of a leanfile, and warnings for unknown ones.

use crate::model::text::{nearest, visible};

const TOP: [&str; 6] = ["lean", "health", "defaults", "prompts", "runner", "tasks"];
const LEAN: [&str; 7] = ["binary", "base_url", "api_key", "model", "approval_mode", "auth_type", "timeout"];
const HEALTH: [&str; 2] = ["check_url", "max_wait"];
const DEFAULTS: [&str; 10] = [
    "project_root",
    "source_window",
    "error_tail_lines",
    "max_iters_per_task",
    "after_command_timeout",
    "summarize_errors",
    "log_token_savings",
    "global_message",
    "source_prefix",
    "test_prefix",
];
const PROMPTS: [&str; 1] = ["summary"];
const RUNNER: [&str; 5] = ["command", "args", "timeout", "shell", "env"];
const TASK: [&str; 8] =
    ["name", "prompt", "files", "context_budget", "after", "skip_tests", "runner", "test_files"];

/// One warning for each unknown key, with the nearest known one.
pub(super) fn unknown(table: &toml::Table) -> Vec<String> {
    let mut odd = Vec::new();
    look(table, "", &TOP, &mut odd);
    let known: [(&str, &[&str]); 5] = [
        ("lean", &LEAN),
        ("health", &HEALTH),
        ("defaults", &DEFAULTS),
        ("prompts", &PROMPTS),
        ("runner", &RUNNER),
    ];
    for (name, keys) in known {
        if let Some(inner) = table.get(name).and_then(toml::Value::as_table) {
            look(inner, &format!("{name}."), keys, &mut odd);
        }
    }
    let tasks = table.get("tasks").and_then(toml::Value::as_array).into_iter().flatten();
    for (at, task) in tasks.filter_map(toml::Value::as_table).enumerate() {
        let place = format!("tasks[{}].", at + 1);
        look(task, &place, &TASK, &mut odd);
        if let Some(runner) = task.get("runner").and_then(toml::Value::as_table) {
            look(runner, &format!("{place}runner."), &RUNNER, &mut odd);
        }
    }
    odd
}

fn look(table: &toml::Table, place: &str, known: &[&str], odd: &mut Vec<String>) {
    for key in table.keys().filter(|key| !known.contains(&key.as_str())) {
        let meant =
            nearest(key, known, 0.7).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        odd.push(format!("unknown key `{place}{}` has no effect{meant}", visible(key, false)));
    }
}
