//! `looop config`: reads, changes and checks the config file. A change is checked as a whole before it is written.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::json_output::{ConfigCheckJson, ConfigGetJson, ConfigProblemJson, ConfigSetJson};
use super::{App, Fault, input, print, save};
use crate::config::{self, Problem};
use crate::os::path;
use crate::rules::digest::Digest;
use crate::rules::json_edit;
use crate::store::{file, lock};

#[derive(Debug, clap::Subcommand)]
pub enum ConfigVerb {
    /// Print the config, or the value of one key.
    #[command(after_help = "Examples:\n  looop config get\n  looop config get runners.pi.model")]
    Get(ConfigGetArgs),
    /// Set one key; the rest of the file stays as it is.
    #[command(
        after_help = "Examples:\n  looop config set decide claude\n  looop config set budget.day_usd 5\n  looop config set notify '[\"notify-send\"]'"
    )]
    Set(ConfigSetArgs),
    /// Change the config in your editor; a text with a problem is not taken.
    #[command(after_help = "Example:\n  looop config edit")]
    Edit,
    /// Name every problem of the config.
    #[command(after_help = "Example:\n  looop config check")]
    Check,
}

#[derive(Debug, clap::Args)]
pub struct ConfigGetArgs {
    /// The key with dots between its parts, as in `limits.workers` or `policy.allow[0].argv`.
    key: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct ConfigSetArgs {
    /// The key with dots between its parts, as in `limits.workers` or `policy.allow[0].argv`.
    key: String,
    /// The new value as JSON. What is not JSON is a text.
    #[arg(allow_hyphen_values = true)]
    value: String,
}

pub fn get(app: &App, args: &ConfigGetArgs) -> Result<u8> {
    let (path, text, _) = read(app)?;
    let key = args.key.as_deref().unwrap_or_default();
    let Some(value) = value_at(&text, key) else {
        let mut fault = Fault::failed(format!("could not find `{key}`: it is not set in {}", path.display()));
        // A key that cannot be set is a mistake, and not one that has its default.
        let tried = json_edit::set(&text, key, &Value::Null).unwrap_or_default();
        let problems = config::examine(&app.env, path, Some(&tried))?.1;
        match problems.into_iter().find(|problem| problem.key == key) {
            Some(Problem { hints, text, .. }) if text.contains("is not a key") => fault.hints = hints,
            _ => fault.hints.push("its default holds; docs/config.md lists the defaults".to_owned()),
        }
        return Err(fault.into());
    };
    match &value {
        _ if app.json => {
            let path = path.display().to_string();
            print::answer_whole(ConfigGetJson { path, key: args.key.clone(), value })
        }
        _ if key.is_empty() => print::page(text),
        Value::String(text) => print::done(text),
        value => print::done(&format!("{value:#}")),
    }
}

pub fn set(app: &App, args: &ConfigSetArgs) -> Result<u8> {
    let value = serde_json::from_str(&args.value).unwrap_or_else(|_| args.value.as_str().into());
    let change = ConfigChange::plan(app, &args.key, &value)?;
    change.write()?;
    let ConfigChange { path, key, value, before, .. } = change;
    if app.json {
        let path = path.display().to_string();
        return print::answer_whole(ConfigSetJson { path, key, before, value });
    }
    let was = before.map_or("was not set".to_owned(), |before| format!("was {before}"));
    print::done(&format!("{key} is {value} now; it {was}"))
}

pub fn edit(app: &App) -> Result<u8> {
    let (path, present, seen) = read(app)?;
    let draft = input::draft(app, "config.json")?;
    let kept = file::read_text(&draft, config::MAX_CONFIG_BYTES)?;
    if kept.is_some() {
        let draft = draft.display();
        print::note(&format!("looop: this continues with the text of your last edit, kept as {draft}"));
    }
    let text = input::edited(app, "the config", &draft, &present, kept.as_deref())?;
    let what = "change the config";
    let written = check(app, &text, what).and_then(|()| write(&path, &text, seen.as_ref(), what));
    if let Err(error) = written {
        let hint = format!("your text is kept as {}; `looop config edit` continues with it", draft.display());
        return Err(match error.downcast::<Fault>() {
            Ok(fault) => fault.hint(hint).into(),
            Err(error) => error.context(format!("could not {what}: {hint}")),
        });
    }
    file::remove(&draft)?;
    app.done(path.display(), &format!("wrote {}; the next beat uses it", path.display()))
}

pub fn check_all(app: &App) -> Result<u8> {
    let path = app.env.config_path();
    let text = config::text(&path)?;
    let (read, problems) = config::examine(&app.env, path.clone(), text.as_deref())?;
    let exit_code = u8::from(!problems.is_empty());
    if app.json {
        let problems = problems.into_iter().map(|Problem { key, text, hints, place }| ConfigProblemJson {
            key,
            problem: text,
            hints,
            line: place.map(|(line, _)| line),
            column: place.map(|(_, column)| column),
        });
        let path = path.display().to_string();
        let all = ConfigCheckJson { path, problems: problems.collect(), warnings: read.warnings };
        return print::answer_whole(all).map(|_| exit_code);
    }
    for Problem { text, hints, place, .. } in &problems {
        let place = place.map(|(line, column)| format!(":{line}:{column}")).unwrap_or_default();
        print::line(&format!("{}{place}: {text}", path.display()));
        hints.iter().for_each(|hint| print::line(&format!("  hint: {hint}")));
    }
    print::warn(&read.warnings);
    match (problems.len(), text) {
        (0, Some(_)) => print::line(&format!("{}: no problems", path.display())),
        (0, None) => print::line(&format!("there is no {}; every key has its default", path.display())),
        _ => {}
    }
    Ok(exit_code)
}

/// A change of one key of the config that was checked and is not written yet.
pub struct ConfigChange {
    /// The path of the config.
    pub path: PathBuf,
    pub key: String,
    pub value: Value,
    /// Its value before.
    before: Option<Value>,
    text: String,
    seen: Option<Digest>,
}

impl ConfigChange {
    /// Sets a key in the text of the config, and checks the whole result.
    ///
    /// # Errors
    /// The result would have a problem.
    pub fn plan(app: &App, key: &str, value: &Value) -> Result<ConfigChange> {
        let (path, text, seen) = read(app)?;
        let new = json_edit::set(&text, key, value);
        let refuse = |why| Fault::usage(format!("could not set {key} in {}: {why}", path.display()));
        let new = new.map_err(refuse)?;
        check(app, &new, &format!("set {key}"))?;
        let before = value_at(&text, key);
        Ok(ConfigChange { path, key: key.to_owned(), value: value.clone(), before, text: new, seen })
    }

    /// Writes the config.
    ///
    /// # Errors
    /// The file was changed since the plan, or it cannot be written.
    pub fn write(&self) -> Result<()> {
        write(&self.path, &self.text, self.seen.as_ref(), &format!("set {}", self.key))
    }
}

/// The path of the config, its text, which is an empty object if there is no file, and the digest of the file. A change
/// after this call is noticed by the digest.
fn read(app: &App) -> Result<(PathBuf, String, Option<Digest>)> {
    let path = app.env.config_path();
    let real = path::followed(&path);
    let seen = file::digest(&real).with_context(|| format!("could not read `{}`", real.display()))?;
    let text = config::text(&path)?.unwrap_or_else(|| "{}\n".to_owned());
    Ok((path, text, seen))
}

fn value_at(text: &str, key: &str) -> Option<Value> {
    serde_json::from_str(&text[json_edit::find(text, key)?]).ok()
}

/// Refuses a text of the config that has a problem.
fn check(app: &App, text: &str, what: &str) -> Result<()> {
    let (_, problems) = config::examine(&app.env, app.env.config_path(), Some(text))?;
    let Some(Problem { text, hints, place, .. }) = problems.into_iter().next() else { return Ok(()) };
    let place = place.map(|(line, column)| format!("line {line}, column {column}: ")).unwrap_or_default();
    let fault = Fault::usage(format!("could not {what}: {place}{text}"));
    Err(hints.into_iter().fold(fault, Fault::hint).hint("the config is unchanged").into())
}

/// Replaces the config file. A link stays, and the file that it leads to is replaced.
fn write(path: &Path, text: &str, seen: Option<&Digest>, what: &str) -> Result<()> {
    let real = path::followed(path);
    let dir = real.parent().unwrap_or(Path::new("/"));
    file::make_dir(dir)?;
    let _held = lock::dir(dir)?;
    let mode = fs::metadata(&real).map_or(0o600, |meta| meta.permissions().mode() & 0o777);
    save::replace(what, &real, text.as_bytes(), mode, seen)
}
