//! The documents hold: their commands run or at least parse, their tables fit the program, their links lead somewhere.
//!
//! A fenced block of `sh` is executed (`readme/blocks.rs`). Every command line of a `sh` or `console` block, and every
//! inline `looop …`, must name a command and flags that exist.

mod blocks;
mod playbooks;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::{fs, path::Path};

use looop::rules::{beat::settings::Limits, time::parse_ms};
use serde_json::Value;

use crate::support::profile::Profile;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// A page of the documents.
struct Page {
    path: String,
    text: String,
}

/// A fenced block of a page.
struct Block<'a> {
    line: usize,
    info: &'a str,
    text: String,
}

fn pages() -> Vec<Page> {
    let docs = fs::read_dir(Path::new(ROOT).join("docs")).unwrap();
    let mut paths: Vec<String> = docs
        .map(|entry| format!("docs/{}", entry.unwrap().file_name().to_str().unwrap()))
        .filter(|path| path.ends_with(".md"))
        .chain(["README.md".to_owned(), "CHANGELOG.md".to_owned(), "CONTRIBUTING.md".to_owned()])
        .collect();
    paths.sort();
    let read = |path: String| Page { text: fs::read_to_string(Path::new(ROOT).join(&path)).unwrap(), path };
    paths.into_iter().map(read).collect()
}

impl Page {
    /// The fenced blocks, and the lines outside of them with their numbers.
    fn parts(&self) -> (Vec<Block<'_>>, Vec<(usize, &str)>) {
        let (mut blocks, mut prose) = (Vec::<Block>::new(), Vec::new());
        let mut open = false;
        for (line, text) in (1..).zip(self.text.lines()) {
            match (text.strip_prefix("```"), open) {
                (Some(info), false) => blocks.push(Block { line, info, text: String::new() }),
                (Some(_), true) => {}
                (None, true) => blocks.last_mut().unwrap().text.push_str(&format!("{text}\n")),
                (None, false) => prose.push((line, text)),
            }
            open ^= text.starts_with("```");
        }
        assert!(!open, "{}: a block does not end", self.path);
        (blocks, prose)
    }

    /// What stands between backticks in the prose.
    fn spans(&self) -> Vec<(usize, String)> {
        let spans = |(line, text): (usize, &str)| -> Vec<(usize, String)> {
            text.split('`').skip(1).step_by(2).map(|span| (line, span.to_owned())).collect()
        };
        self.parts().1.into_iter().flat_map(spans).collect()
    }

    /// Every command line: where it is, and its words.
    fn commands(&self) -> Vec<(String, Vec<String>)> {
        let place = |line: usize| format!("{}:{line}", self.path);
        let mut found = Vec::new();
        for block in self.parts().0 {
            let lines = (block.line + 1..).zip(block.text.lines());
            for (number, line) in lines {
                let command = match block.info.split(' ').next() {
                    Some("sh") => Some(line),
                    Some("console") => line.strip_prefix("$ "),
                    _ => None,
                };
                found.extend(
                    command.into_iter().flat_map(simple_commands).map(|words| (place(number), words)),
                );
            }
        }
        let inline = self.spans().into_iter().filter(|(_, span)| span.starts_with("looop "));
        for (line, span) in inline {
            found.extend(simple_commands(&span).into_iter().map(|words| (place(line), words)));
        }
        found
    }
}

/// The simple commands of a shell line, without assignments, redirections and comments.
fn simple_commands(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut skip = false;
    for word in words(line) {
        match word.as_str() {
            "|" | ";" | "&" => commands.push(Vec::new()),
            "<" | ">" => skip = true,
            _ if skip => skip = false,
            _ => commands.last_mut().unwrap().push(word),
        }
    }
    for command in &mut commands {
        let assignments = command.iter().take_while(|word| word.starts_with(|c: char| c.is_uppercase()));
        let count = assignments.filter(|word| word.contains('=')).count();
        command.drain(..count);
    }
    commands.retain(|command| !command.is_empty());
    commands
}

/// The words of a shell line; an operator is a word of its own, and a comment ends the line.
fn words(line: &str) -> Vec<String> {
    let (mut all, mut word, mut quote, mut quoted) = (Vec::new(), String::new(), None, false);
    for c in line.chars().chain(['\n']) {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => word.push(c),
            (None, '\'' | '"') => (quote, quoted) = (Some(c), true),
            (None, '#') if word.is_empty() => break,
            (None, '|' | ';' | '&' | '<' | '>') | (None, ' ' | '\n') => {
                if !word.is_empty() || quoted {
                    all.push(std::mem::take(&mut word));
                }
                quoted = false;
                all.extend((!c.is_whitespace()).then(|| c.to_string()));
            }
            (None, _) => word.push(c),
        }
    }
    all
}

/// The manual: the help of each command by its full name.
fn manual() -> BTreeMap<String, String> {
    let text = Profile::empty().looop(&["help"]).ok().stdout;
    let lines: Vec<&str> = text.lines().collect();
    let mut all = BTreeMap::new();
    let mut name = "looop".to_owned();
    for (i, line) in lines.iter().enumerate() {
        let under = lines.get(i + 1).is_some_and(|next| next.starts_with("---"));
        match under && line.starts_with("looop ") {
            true => name = (*line).to_owned(),
            false => all.entry(name.clone()).or_insert_with(String::new).push_str(&format!("{line}\n")),
        }
    }
    all
}

/// Why these arguments of looop cannot be meant; none when command and flags exist.
fn complaint(manual: &BTreeMap<String, String>, args: &[String]) -> Option<String> {
    let plain = |n: usize| args.get(n).filter(|arg| !arg.starts_with('-')).cloned();
    let mut name = "looop".to_owned();
    for n in 0..2 {
        let Some(arg) = plain(n) else { break };
        let longer = format!("{name} {arg}");
        let has_commands = name == "looop" || manual[&name].contains("\nCommands:\n");
        match manual.contains_key(&longer) {
            true => name = longer,
            false if has_commands => return Some(format!("`{name}` has no command `{arg}`")),
            false => break,
        }
    }
    let help = &manual[&name];
    let known = |flag: &str| {
        let ends = |c: char| !(c.is_alphanumeric() || c == '-');
        help.match_indices(flag).any(|(at, _)| {
            let before = help[..at].ends_with([' ', '[', '|']);
            before && help[at + flag.len()..].starts_with(ends)
        })
    };
    // Behind `--` stands somebody else's command.
    let ours = args.iter().take_while(|arg| *arg != "--");
    let flags = ours.filter(|arg| arg.len() > 1 && arg.starts_with('-'));
    let mut names = flags.map(|flag| flag.split('=').next().unwrap());
    names.find(|flag| !known(flag)).map(|flag| format!("`{name}` has no flag `{flag}`"))
}

#[test]
fn every_documented_command_exists() {
    let manual = manual();
    let install = fs::read_to_string(Path::new(ROOT).join("install.sh")).unwrap();
    let mut checked = 0;
    for (place, words) in pages().iter().flat_map(Page::commands) {
        let args = match words[0].as_str() {
            "looop" => &words[1..],
            "cargo" if words[1] == "run" => &words[words.iter().position(|w| w == "--").unwrap() + 1..],
            "./install.sh" => {
                let unknown =
                    words[1..].iter().find(|word| word.starts_with('-') && !install.contains(*word));
                assert_eq!(unknown, None, "{place}: {words:?}");
                continue;
            }
            _ => continue,
        };
        let complaint = complaint(&manual, args);
        assert_eq!(complaint, None, "{place}: {words:?}");
        checked += 1;
    }
    assert!(checked > 50, "only {checked} commands were found");
}

#[test]
fn a_wrong_command_would_be_seen() {
    let manual = manual();
    let check = |line: &str| complaint(&manual, &simple_commands(line)[0][1..]).is_none();
    for good in
        ["looop", "looop tick --dry-run", "looop log -n 5", "A=b looop goal write x 'a # b' < f # --bad"]
    {
        assert!(check(good), "{good}");
    }
    for bad in ["looop tock", "looop tick --dry", "looop log -q", "looop goal wirte x", "looop status --all"]
    {
        assert!(!check(bad), "{bad}");
    }
}

/// The keys that a schema allows, as `limits.workers` and `policy.allow[].argv`; a free name is `NAME`.
fn keys(schema: &Value, root: &Value, path: &str, found: &mut BTreeSet<String>) {
    let here = |part: &str| if path.is_empty() { part.to_owned() } else { format!("{path}.{part}") };
    let schema = match schema["$ref"].as_str() {
        Some(name) => &root["$defs"][name.rsplit('/').next().unwrap()],
        None => schema,
    };
    let inner = schema["properties"].as_object();
    let in_items = schema["items"]["$ref"].as_str().is_some_and(|name| name.ends_with("RunRule"));
    match (inner, &schema["additionalProperties"]) {
        (Some(properties), _) => {
            properties.iter().for_each(|(key, value)| keys(value, root, &here(key), found));
        }
        (None, free @ Value::Object(_)) => keys(free, root, &here("NAME"), found),
        _ if in_items => keys(&schema["items"], root, &format!("{path}[]"), found),
        _ => {
            found.insert(path.to_owned());
        }
    }
}

/// The rows of a page's tables whose first cell is code: that code, and the second cell.
fn rows(page: &Page) -> Vec<(String, String)> {
    let row = |line: &str| -> Option<(String, String)> {
        let (key, rest) = line.strip_prefix("| `")?.split_once('`')?;
        Some((key.to_owned(), rest.split('|').nth(1)?.trim().trim_matches('`').to_owned()))
    };
    page.text.lines().filter_map(row).collect()
}

fn page(path: &str) -> Page {
    pages().into_iter().find(|page| page.path == path).unwrap()
}

#[test]
fn the_config_page_and_the_schema_name_the_same_keys() {
    let profile = Profile::empty();
    profile.looop(&["init"]).ok();
    let text = fs::read_to_string(profile.path("looop.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    let mut known = BTreeSet::new();
    keys(&schema, &schema, "", &mut known);
    let keys = rows(&page("docs/config.md")).into_iter().map(|(key, _)| key);
    // The environment stands in capitals.
    let documented: BTreeSet<String> = keys.filter(|key| !key.starts_with(char::is_uppercase)).collect();
    assert_eq!(documented, known);
}

#[test]
fn the_documented_limits_are_the_defaults() {
    let default: BTreeMap<String, String> = rows(&page("docs/config.md")).into_iter().collect();
    let ms = |key: &str| parse_ms(&default[key]).unwrap();
    let count = |key: &str| default[key].parse::<usize>().unwrap();
    let limits = Limits::default();
    assert_eq!(count("limits.decides_per_hour"), limits.decides_per_hour);
    assert_eq!(count("limits.workers"), limits.workers);
    assert_eq!(ms("limits.sensor_timeout"), limits.sensor_timeout_ms);
    assert_eq!(ms("limits.decide_timeout"), limits.decide_timeout_ms);
    assert_eq!(ms("limits.run_timeout"), limits.run_timeout_ms);
    assert_eq!(Some(ms("limits.noop_ttl")), limits.noop_ttl_ms);
    assert_eq!(ms("limits.approval_ttl"), limits.approval_ttl_ms);
}

#[test]
fn every_move_has_its_row() {
    let page = page("docs/policy-and-approvals.md");
    let moves = looop::rules::beat::decision::schema();
    for tag in moves["oneOf"].as_array().unwrap().iter().map(|one| &one["properties"]["move"]["const"]) {
        let code = format!("`{}`", tag.as_str().unwrap());
        assert!(page.text.lines().any(|line| line.starts_with('|') && line.contains(&code)), "{code}");
    }
}

#[test]
fn every_command_is_documented() {
    let text: String = pages().into_iter().map(|page| page.text).collect();
    let missing: Vec<String> = manual().into_keys().filter(|name| !text.contains(name.as_str())).collect();
    assert_eq!(missing, Vec::<String>::new());
}

/// A line without what differs from run to run: words with digits, paths and ids.
fn shape(line: &str) -> String {
    let varies = |word: &str| {
        word.contains(|c: char| c.is_ascii_digit() || c == '/')
            || word.starts_with('[')
            || word.starts_with("ap-")
    };
    let words = line.split_whitespace().filter(|word| *word != "·" && !word.starts_with("unpriced"));
    words.map(|word| if varies(word) { "#" } else { word }).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_demo_prints_what_the_readme_shows() {
    let profile = Profile::empty();
    let dir = profile.path("demo");
    let ran = profile.looop(&["demo", "--dir", dir.to_str().unwrap()]).ok();
    assert!(
        ran.stdout.contains(" — exit 0"),
        "the approved command has seen what it was to see: {}",
        ran.stdout
    );
    let mut real = ran.stdout.lines().map(shape);
    let readme = page("README.md");
    let (blocks, _) = readme.parts();
    let block = blocks.iter().find(|block| block.info == "text looop-demo").unwrap();
    for line in block.text.lines().filter(|line| *line != "...") {
        let wanted = shape(line);
        assert!(real.any(|line| line == wanted), "no {line:?} where the README has it in:\n{}", ran.stdout);
    }
}

#[test]
fn the_screencast_shows_the_steps_of_the_demo() {
    let read = |name: &str| fs::read_to_string(Path::new(ROOT).join("docs").join(name)).unwrap();
    let cast = read("demo.cast");
    let head: Value = serde_json::from_str(cast.lines().next().unwrap()).unwrap();
    assert_eq!(head["version"], 2);
    let events = cast.lines().skip(1).map(|line| serde_json::from_str::<Value>(line).unwrap());
    let shown: String = events.map(|event| event[2].as_str().unwrap().to_owned()).collect();
    let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    let profile = Profile::empty();
    let dir = profile.path("demo");
    let ran = profile.looop(&["demo", "--dir", dir.to_str().unwrap()]).ok();
    let steps = ran
        .stdout
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_ascii_digit()) && line.contains(". "));
    for step in steps.filter(|line| line.as_bytes()[1] == b'.') {
        assert!(shown.contains(step), "docs/screencast.sh makes it anew: {step:?} is not in {shown}");
    }
    assert!(read("demo.svg").len() < 300_000);
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
}

#[test]
fn links_and_paths_lead_somewhere() {
    let root = Path::new(ROOT);
    for page in &pages() {
        let folder = root.join(&page.path).parent().unwrap().to_owned();
        let (_, prose) = page.parts();
        let links = prose.iter().flat_map(|(line, text)| {
            text.split("](").skip(1).filter_map(move |rest| Some((line, rest.split_once(')')?.0)))
        });
        for (line, link) in links.filter(|(_, link)| !link.contains("://")) {
            let (file, wanted) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { root.join(&page.path) } else { folder.join(file) };
            assert!(target.exists(), "{}:{line}: {link}", page.path);
            if !wanted.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                let mut headings =
                    text.lines().filter_map(|l| Some(l.strip_prefix('#')?.trim_start_matches('#')));
                assert!(headings.any(|h| anchor(h.trim()) == wanted), "{}:{line}: {link}", page.path);
            }
        }
        let folders = ["src/", "tests/", "docs/", "xtask/", "seed/", "sensors-examples/", ".ci/"];
        let named = page.spans().into_iter().filter(|(_, span)| folders.iter().any(|f| span.starts_with(f)));
        for (line, path) in named.filter(|(_, span)| !span.contains([' ', '*', '<'])) {
            assert!(root.join(&path).exists(), "{}:{line}: {path}", page.path);
        }
    }
}

#[test]
fn the_changelog_begins_with_this_version() {
    let changelog = page("CHANGELOG.md");
    let newest = changelog.text.lines().find_map(|line| line.strip_prefix("## ")).unwrap();
    assert_eq!(newest.split_whitespace().next(), Some(env!("CARGO_PKG_VERSION")));
}
