//! Trust settings of agents, written only into the private copies of a sandbox: an agent that looop puts into a sandbox
//! then need not ask whether it may work there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use crate::store::file::{self, Keep};

/// Marks a directory as trusted in the private home of a sandbox, for the agent with one of these names.
pub(super) fn say_trusted(names: &[&str], home: &Path, cwd: &Path) -> Result<()> {
    let mut dirs = vec![cwd.to_owned()];
    dirs.extend(cwd.canonicalize().ok().filter(|real| real != cwd));
    let is = |name: &str| names.contains(&name);
    if is("claude") {
        // If the agent's directory was moved, the file is inside that directory.
        let places = [".claude.json", ".claude/.claude.json"].map(|place| home.join(place));
        for place in places.iter().filter(|place| place.is_file()) {
            change(place, |text| claude(text, &dirs))?;
        }
    }
    if is("codex") {
        change(&home.join(".codex/config.toml"), |text| codex(text, &dirs))?;
    }
    for name in ["gemini", "qwen"].into_iter().filter(|name| is(name)) {
        change(&home.join(format!(".{name}/trustedFolders.json")), |text| folders(text, &dirs))?;
    }
    Ok(())
}

/// Edits a file; a file that cannot be parsed stays as it is.
fn change(file: &Path, to: impl FnOnce(&str) -> Option<String>) -> Result<()> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(_) => return Ok(()),
    };
    let Some(text) = to(&text) else { return Ok(()) };
    if let Some(dir) = file.parent() {
        file::make_dir(dir)?;
    }
    file::write(file, text.as_bytes(), 0o600, Keep::Whole)
}

fn claude(text: &str, dirs: &[PathBuf]) -> Option<String> {
    let mut all: Value = serde_json::from_str(text).ok()?;
    let projects = all.as_object_mut()?.entry("projects").or_insert_with(|| json!({}));
    for dir in dirs {
        let project = projects.as_object_mut()?.entry(dir.to_string_lossy()).or_insert_with(|| json!({}));
        project.as_object_mut()?.insert("hasTrustDialogAccepted".to_owned(), json!(true));
    }
    serde_json::to_string_pretty(&all).ok()
}

fn codex(text: &str, dirs: &[PathBuf]) -> Option<String> {
    let known: toml::Table = toml::from_str(text).ok()?;
    let projects = known.get("projects").and_then(toml::Value::as_table);
    let mut text = text.to_owned();
    for dir in dirs {
        let dir = dir.to_string_lossy();
        if projects.is_none_or(|projects| !projects.contains_key(dir.as_ref())) {
            // A JSON string is also a TOML string.
            let key = serde_json::to_string(dir.as_ref()).ok()?;
            text.push_str(&format!("\n[projects.{key}]\ntrust_level = \"trusted\"\n"));
        }
    }
    toml::from_str::<toml::Table>(&text).is_ok().then_some(text)
}

fn folders(text: &str, dirs: &[PathBuf]) -> Option<String> {
    let mut all: Value = if text.trim().is_empty() { json!({}) } else { serde_json::from_str(text).ok()? };
    for dir in dirs {
        all.as_object_mut()?.insert(dir.to_string_lossy().into_owned(), json!("TRUST_FOLDER"));
    }
    serde_json::to_string_pretty(&all).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_agent_trusts_its_directory_and_other_settings_stay() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path();
        for made in [".codex", ".gemini", ".claude"] {
            fs::create_dir(home.join(made)).unwrap();
        }
        let write = |name: &str, text: &str| fs::write(home.join(name), text).unwrap();
        write(".codex/config.toml", "model = \"m\"\n[projects.\"/other\"]\ntrust_level = \"untrusted\"");
        write(
            ".claude.json",
            r#"{"hasCompletedOnboarding":true,"projects":{"/work":{"allowedTools":["x"]}}}"#,
        );
        write(".gemini/trustedFolders.json", r#"{"/other":"DO_NOT_TRUST"}"#);
        let cwd = Path::new("/work");
        say_trusted(&["codex", "claude", "gemini", "qwen"], home, cwd).unwrap();
        let read = |name: &str| fs::read_to_string(home.join(name)).unwrap();
        let codex: toml::Table = toml::from_str(&read(".codex/config.toml")).unwrap();
        assert_eq!(codex["model"].as_str(), Some("m"));
        assert_eq!(codex["projects"]["/work"]["trust_level"].as_str(), Some("trusted"));
        assert_eq!(codex["projects"]["/other"]["trust_level"].as_str(), Some("untrusted"));
        let claude: Value = serde_json::from_str(&read(".claude.json")).unwrap();
        assert_eq!(
            claude["projects"]["/work"],
            json!({ "allowedTools": ["x"], "hasTrustDialogAccepted": true })
        );
        assert_eq!(claude["hasCompletedOnboarding"], true);
        let gemini: Value = serde_json::from_str(&read(".gemini/trustedFolders.json")).unwrap();
        assert_eq!(gemini, json!({ "/other": "DO_NOT_TRUST", "/work": "TRUST_FOLDER" }));
        assert!(home.join(".qwen/trustedFolders.json").exists());
        // A second call changes nothing, and an invalid file is left alone.
        let before = read(".codex/config.toml");
        say_trusted(&["codex"], home, cwd).unwrap();
        assert_eq!(read(".codex/config.toml"), before);
        write(".codex/config.toml", "broken = [");
        say_trusted(&["codex"], home, cwd).unwrap();
        assert_eq!(read(".codex/config.toml"), "broken = [");
    }
}
