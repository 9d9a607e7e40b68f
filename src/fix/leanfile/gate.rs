//! Pure. The keys of a project's leanfile that need the user's trust, and the address to which an API key belongs.

use super::AgentConfig;
use crate::rules::text::visible;

/// The tables of a leanfile, and their keys that name neither a file nor a command, and so need no trust.
const FREE_KEYS: [(&str, &str); 4] = [
    ("lean", ""),
    ("health", ""),
    (
        "defaults",
        "source_window error_tail_lines max_iters_per_task after_command_timeout summarize_errors log_token_savings \
         global_message source_prefix test_prefix",
    ),
    ("runner", FREE_RUNNER),
];
/// Keys of a task that need no trust.
const FREE_TASK: &str = "name prompt context_budget skip_tests";
/// Keys of a runner that need no trust.
const FREE_RUNNER: &str = "timeout";
/// The longest value that is shown in full, in characters.
const MAX_SHOWN: usize = 2000;

/// All requests of a leanfile for an agent, an address, a path or a command, in its order: the key with its table, and the
/// value, safe to print; API keys are hidden.
pub fn requests(table: &toml::Table) -> Vec<(String, String)> {
    let mut found = Vec::new();
    walk(&mut table.clone(), &mut |key, value| {
        let text = serde_json::to_string(value).unwrap_or_default();
        let value = match key.ends_with(".api_key") {
            true => "(a key, not shown)".to_owned(),
            false => cut(&visible(&text, false)),
        };
        found.push((visible(key, false), value));
        true
    });
    found
}

/// Removes all requests from a leanfile.
pub fn mute(table: &mut toml::Table) {
    walk(table, &mut |_, _| false);
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((at, _)) => format!("{}… ({} more characters)", &text[..at], text[at..].chars().count()),
        None => text.to_owned(),
    }
}

/// Calls `keep` for each request, and removes those for which it returns false.
fn walk(table: &mut toml::Table, keep: &mut dyn FnMut(&str, &toml::Value) -> bool) {
    for (name, free) in FREE_KEYS {
        if let Some(found) = table.get_mut(name).and_then(toml::Value::as_table_mut) {
            retain(found, &format!("{name}."), free, keep);
        }
    }
    let tasks = table.get_mut("tasks").and_then(toml::Value::as_array_mut).into_iter().flatten();
    for (at, task) in tasks.filter_map(toml::Value::as_table_mut).enumerate() {
        let place = format!("tasks[{}].", at + 1);
        if let Some(runner) = task.get_mut("runner").and_then(toml::Value::as_table_mut) {
            retain(runner, &format!("{place}runner."), FREE_RUNNER, keep);
        }
        task.retain(|key, value| {
            let is_free = is_in(FREE_TASK, key) || (key == "runner" && value.is_table());
            is_free || keep(&format!("{place}{key}"), value)
        });
    }
}

fn retain(
    table: &mut toml::Table,
    place: &str,
    free: &str,
    keep: &mut dyn FnMut(&str, &toml::Value) -> bool,
) {
    table.retain(|key, value| is_in(free, key) || keep(&format!("{place}{key}"), value));
}

fn is_in(keys: &str, key: &str) -> bool {
    keys.split_whitespace().any(|known| known == key)
}

/// One leanfile as the origin of the agent, its address and its key.
#[derive(Clone, Debug, Default)]
pub struct LeanfileKeys {
    /// The file, as messages name it.
    pub file: String,
    pub lean: AgentConfig,
    /// If true, the file is part of a project.
    pub in_project: bool,
}

impl LeanfileKeys {
    fn address(&self) -> Option<&str> {
        self.lean.base_url.as_deref().map(|url| url.trim().trim_end_matches('/'))
    }
}

/// The API key that may be used, of files in merge order, and a warning if a key is left out. A key belongs to
/// the `base_url` in its own file: it is sent neither to an address of another file nor to a program that a
/// project names.
pub fn bound_key(files: &[LeanfileKeys]) -> (Option<String>, Option<String>) {
    let address = files.iter().rev().find_map(LeanfileKeys::address);
    let program = files.iter().rev().find(|file| file.lean.binary.is_some());
    let fits = |file: &&LeanfileKeys| {
        let is_foreign = program.is_some_and(|program| program.in_project && program.file != file.file);
        file.lean.api_key.is_some() && file.address() == address && !is_foreign
    };
    let chosen = files.iter().rev().find(fits);
    if let Some(file) = chosen {
        return (file.lean.api_key.clone(), None);
    }
    let Some(left_out) =
        files.iter().rev().find(|file| file.lean.api_key.as_ref().is_some_and(|key| !key.is_empty()))
    else {
        return (None, None);
    };
    let warning = format!(
        "`api_key` of {} is not used: a key goes only to the `base_url` beside it, and another file names the address or the program",
        left_out.file
    );
    (None, Some(warning))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> toml::Table {
        toml::from_str(text).unwrap()
    }

    const ALL: &str = r#"
lean = { base_url = "http://x", api_key = "sk-secret", timeout = 5 }
health = { check_url = "http://y" }
defaults = { project_root = "..", max_iters_per_task = 3 }
runner = { command = "sh", timeout = 9, env = { A = "1" } }
[[tasks]]
name = "n"
prompt = "p"
files = ["a"]
after = ["x\u001B[2J"]
runner = { args = ["-q"], timeout = 4 }
"#;

    #[test]
    fn agents_addresses_paths_and_commands_are_requests_and_a_key_is_not_shown() {
        let mut found: Vec<String> =
            requests(&table(ALL)).iter().map(|(key, value)| format!("{key} = {value}")).collect();
        found.sort_unstable();
        let keys: Vec<&str> = found.iter().map(|line| line.split(" = ").next().unwrap()).collect();
        let expected = [
            "defaults.project_root",
            "health.check_url",
            "lean.api_key",
            "lean.base_url",
            "lean.timeout",
            "runner.command",
            "runner.env",
            "tasks[1].after",
            "tasks[1].files",
            "tasks[1].runner.args",
        ];
        assert_eq!(keys, expected);
        let all = found.join("\n");
        assert!(!all.contains("sk-secret") && all.contains("lean.base_url = \"http://x\""), "{all}");
        assert!(!all.contains('\u{1b}'), "{all}");
        let free = "[defaults]\nmax_iters_per_task = 1\n[[tasks]]\nname = \"n\"\nprompt = \"p\"\n";
        assert_eq!(requests(&table(free)), []);
        // A key of a later version is a request until it is listed as free.
        assert_eq!(requests(&table("[runner]\nnew_key = 1\n")).len(), 1);
        let long = format!("[runner]\ncommand = \"{}\"\n", "x".repeat(5000));
        assert!(requests(&table(&long))[0].1.ends_with("more characters)"));
    }

    #[test]
    fn a_key_without_effect_needs_no_trust() {
        let text = "[defaults]\nsource_prefix = \"src/\"\ntest_prefix = [\"t\"]\nsource_window = 3\n";
        assert_eq!(requests(&table(text)), []);
    }

    #[test]
    fn a_muted_leanfile_loses_its_requests_and_keeps_the_rest() {
        let mut muted = table(ALL);
        mute(&mut muted);
        assert!(requests(&muted).is_empty());
        assert_eq!(muted["defaults"]["max_iters_per_task"].as_integer(), Some(3));
        assert_eq!(muted["runner"]["timeout"].as_integer(), Some(9));
        assert_eq!(muted["tasks"][0]["prompt"].as_str(), Some("p"));
        assert_eq!(muted["tasks"][0]["runner"]["timeout"].as_integer(), Some(4));
    }

    fn keys(file: &str, text: &str, in_project: bool) -> LeanfileKeys {
        LeanfileKeys { file: file.to_owned(), lean: toml::from_str(text).unwrap(), in_project }
    }

    #[test]
    fn a_key_belongs_to_the_address_beside_it() {
        let own = keys("own", "base_url = \"http://a/\"\napi_key = \"k\"", false);
        let key = |files: &[LeanfileKeys]| bound_key(files).0;
        assert_eq!(key(std::slice::from_ref(&own)).as_deref(), Some("k"));
        for (other, wanted) in [
            // The address of another file, with and without a key of its own, in and out of a project.
            ("base_url = \"http://evil\"", None),
            ("base_url = \"http://evil\"\napi_key = \"e\"", Some("e")),
            ("base_url = \"http://evil\"\napi_key = \"\"", Some("")),
            ("base_url = \"\"", None),
            ("model = \"m\"", Some("k")),
            ("base_url = \"http://a\"", Some("k")),
            ("api_key = \"e\"", Some("k")),
        ] {
            for in_project in [true, false] {
                let files = [own.clone(), keys("other", other, in_project)];
                assert_eq!(key(&files).as_deref(), wanted, "{other}");
                assert_eq!(bound_key(&files).1.is_some(), wanted.is_none(), "{other}");
            }
        }
        // A project's program gets no key of another file; the user's own program does.
        let program = "binary = \"./x\"";
        assert_eq!(key(&[own.clone(), keys("other", program, true)]), None);
        assert_eq!(key(&[own, keys("other", program, false)]).as_deref(), Some("k"));
        // Without an address the key is only for the program.
        let bare = keys("bare", "api_key = \"k\"", false);
        assert_eq!(key(std::slice::from_ref(&bare)).as_deref(), Some("k"));
        assert_eq!(key(&[bare.clone(), keys("other", "base_url = \"http://evil\"", true)]), None);
        assert_eq!(key(&[keys("other", "base_url = \"http://evil\"", true), bare]), None);
    }
}
