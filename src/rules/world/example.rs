//! Pure. Reads the header of a ready-made sensor: its description, its requirements, and its settings.
//!
//! A setting is two lines: a comment `# setting: description` (or `# needed setting: …` if no default makes sense), and
//! below it the assignment with the default. A new value replaces the default as one quoted literal of the script's
//! language, so that nothing in it is ever run.

use std::collections::BTreeMap;

use crate::rules::text::in_shell;
use schemars::JsonSchema;
use serde::Serialize;
/// The longest value, in bytes. With this limit, the settings stay within the part of the file that is searched for
/// directives.
const VALUE_BYTES: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Setting {
    /// The variable, in capitals.
    pub name: String,
    /// The description, for the user.
    pub about: String,
    /// The default as written in the script, without its quotes.
    pub default: String,
    /// True if the sensor does not work without a value.
    pub needed: bool,
    /// The line of the assignment, from 0.
    #[serde(skip)]
    line: usize,
}

/// Returns the description of the script: its first comment.
pub fn about(script: &str) -> &str {
    let comments = script.lines().skip(1).filter_map(|line| line.strip_prefix("# "));
    comments.into_iter().find(|text| !text.starts_with("looop:")).unwrap_or_default()
}

/// Returns the requirements from its `# Needs:` line.
pub fn needs(script: &str) -> &str {
    script.lines().find_map(|line| line.strip_prefix("# Needs: ")).unwrap_or_default()
}

pub fn settings(script: &str) -> Vec<Setting> {
    let lines: Vec<&str> = script.lines().collect();
    let marked = |line: &str| {
        let rest = line.strip_prefix("# ")?;
        let needed = rest.starts_with("needed ");
        let about = rest.strip_prefix("needed ").unwrap_or(rest).strip_prefix("setting: ")?;
        Some((needed, about.to_owned()))
    };
    let mut found = Vec::new();
    for (line, pair) in (1..).zip(lines.windows(2)) {
        let Some((needed, about)) = marked(pair[0]) else { continue };
        let Some((name, value)) = pair[1].split_once('=') else { continue };
        let name = name.trim_end();
        if !is_variable(name) {
            continue;
        }
        let default = value.trim().trim_matches(['\'', '"']).to_owned();
        found.push(Setting { name: name.to_owned(), about, default, needed, line });
    }
    found
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// Returns the script with these values in its settings; the others keep their defaults. As in a shell assignment, `~/`
/// at the start and after a colon is the home directory.
///
/// # Errors
/// Names a value that belongs to no setting, is too long or contains a control character, or a needed setting without a
/// value.
pub fn with_values(script: &str, values: &BTreeMap<String, String>, home: &str) -> Result<String, String> {
    let settings = settings(script);
    if let Some(unknown) = values.keys().find(|key| !settings.iter().any(|s| s.name == **key)) {
        let names: Vec<&str> = settings.iter().map(|s| s.name.as_str()).collect();
        let there = if names.is_empty() { "it has none".to_owned() } else { names.join(", ") };
        return Err(format!("it has no setting `{unknown}`; available: {there}"));
    }
    let mut lines: Vec<String> = script.lines().map(str::to_owned).collect();
    let is_python = lines.first().is_some_and(|first| first.contains("python"));
    for setting in &settings {
        match values.get(&setting.name) {
            Some(value) if !(setting.needed && value.is_empty()) => {
                check(value).map_err(|why| format!("the value of {} {why}", setting.name))?;
                let value = at_home(value, home);
                lines[setting.line] = match is_python {
                    true => format!("{} = {}", setting.name, python_literal(&value)),
                    false => format!("{}={}", setting.name, in_shell(&value)),
                };
            }
            _ if setting.needed => {
                return Err(format!("the setting {} is missing: {}", setting.name, setting.about));
            }
            _ => {}
        }
    }
    Ok(lines.join("\n") + "\n")
}

/// Checks a value. A line break could start a line with directives, and the user cannot check invisible characters.
///
/// # Errors
/// Says why the value is not allowed in a script.
pub fn check(value: &str) -> Result<(), String> {
    match value.chars().find(|c| c.is_control()) {
        Some(c) => Err(format!("contains the control character {c:?}")),
        None if value.len() > VALUE_BYTES => Err(format!("is longer than {VALUE_BYTES} bytes")),
        None => Ok(()),
    }
}

fn at_home(value: &str, home: &str) -> String {
    let parts = value.split(':').map(|part| match part.strip_prefix("~/") {
        Some(rest) => format!("{}/{rest}", home.trim_end_matches('/')),
        None => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join(":")
}

fn python_literal(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "#!/bin/sh\n# Tells things.\n# looop: timeout=5s\n#\n# Needs: a thing.\n\n\
                          # needed setting: the repository\nREPO=''\n# setting: the folder\nDIR=\"$HOME/x\"\n\
                          # setting: no assignment follows\n\nOTHER='y'\necho \"$REPO\"\n";

    fn set(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_header_is_read() {
        assert_eq!((about(SCRIPT), needs(SCRIPT)), ("Tells things.", "a thing."));
        let found = settings(SCRIPT);
        let row = |s: &Setting| format!("{} ({}): {:?}, needed: {}", s.name, s.about, s.default, s.needed);
        let rows: Vec<String> = found.iter().map(row).collect();
        let expected =
            ["REPO (the repository): \"\", needed: true", "DIR (the folder): \"$HOME/x\", needed: false"];
        assert_eq!(rows, expected);
    }

    #[test]
    fn values_become_literals_and_the_rest_is_unchanged() {
        let made =
            with_values(SCRIPT, &set(&[("REPO", "a'b\"$(c)`d`\\"), ("DIR", "~/u:~/v")]), "/home/a/").unwrap();
        let expected = SCRIPT.replace("REPO=''", r#"REPO='a'\''b"$(c)`d`\'"#);
        assert_eq!(made, expected.replace("DIR=\"$HOME/x\"", "DIR='/home/a/u:/home/a/v'"));
        let python = "#!/usr/bin/env python3\n# needed setting: x\nX = ''\n";
        let made = with_values(python, &set(&[("X", r#"a'\b"#)]), "/h").unwrap();
        assert_eq!(made, "#!/usr/bin/env python3\n# needed setting: x\nX = 'a\\'\\\\b'\n");
    }

    #[test]
    fn values_that_are_not_allowed_in_a_script_are_refused() {
        let long = "x".repeat(1025);
        for (key, value, why) in [
            ("REPO", "a\n# looop: env=SECRET", "control character '\\n'"),
            ("REPO", "a\0", "control character"),
            ("REPO", "a\u{1b}[2J", "control character"),
            ("REPO", long.as_str(), "longer than"),
            ("REPO", "", "the setting REPO is missing: the repository"),
            ("OTHER", "z", "it has no setting `OTHER`; available: REPO, DIR"),
        ] {
            let error = with_values(SCRIPT, &set(&[("REPO", "r"), (key, value)]), "/h").unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert!(with_values(SCRIPT, &set(&[]), "/h").unwrap_err().contains("REPO is missing"));
        assert!(with_values("#!/bin/sh\n", &set(&[("A", "b")]), "/h").unwrap_err().contains("it has none"));
    }
}
