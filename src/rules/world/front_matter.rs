//! Pure. Parses a goal's front matter: its short form, the checks of its workers, and the repositories that the loop may
//! clone for it.

/// The line at the start and the end of the front matter.
const FENCE: &str = "---";

/// What a goal says of itself, in the block between two lines `---` at its top.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrontMatter {
    /// The goal in one sentence.
    pub goal: Option<String>,
    /// Entries of `verify` in the config: the checks of each worker for this goal, if its start names none.
    pub verify: Vec<String>,
    /// Paths of repositories, as written.
    pub repos: Vec<String>,
}

impl FrontMatter {
    /// Parses the front matter of a text; it is empty if the text does not begin with a line `---`. `verify` and `repos`
    /// hold one item, a list in brackets, or one item per line after `-`. The text below is never parsed.
    ///
    /// # Errors
    /// Says which line cannot be used. No part of such a front matter counts.
    pub fn parse(text: &str) -> Result<FrontMatter, String> {
        let mut lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines().map(str::trim_end);
        if lines.next() != Some(FENCE) {
            return Ok(FrontMatter::default());
        }
        let block: Vec<&str> = lines.clone().take_while(|line| *line != FENCE).collect();
        if !lines.any(|line| line == FENCE) {
            return Err("its front matter has no end: a line `---` is missing".to_owned());
        }
        let mut parsed = FrontMatter::default();
        let mut seen = Vec::new();
        let mut rest = &block[..];
        while let [line, below @ ..] = rest {
            rest = below;
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let at = block.len() - below.len() + 1;
            let wrong = |why: String| format!("line {at} of its front matter: {why}");
            let (key, value) = key_and_value(line).map_err(wrong)?;
            if seen.contains(&key) {
                return Err(wrong(format!("`{key}` is there twice")));
            }
            seen.push(key);
            let value = value.trim();
            if key == "goal" {
                parsed.goal = Some(one_line(value).map_err(wrong)?.to_owned());
                continue;
            }
            let items =
                items(key, value, &mut rest).and_then(|items| items.into_iter().map(unquoted).collect());
            let items: Vec<&str> = items.map_err(wrong)?;
            if key == "repos" {
                parsed.repos = items.into_iter().map(path).collect::<Result<_, _>>().map_err(wrong)?;
            } else {
                parsed.verify = items.into_iter().map(str::to_owned).collect();
            }
        }
        Ok(parsed)
    }
}

/// Splits a line at its first colon. The key is one that looop knows, at the beginning of the line.
fn key_and_value(line: &str) -> Result<(&'static str, &str), String> {
    let known = "the keys are `goal`, `verify` and `repos`";
    let (written, value) = line.split_once(':').ok_or(format!("{line:?} has no key; {known}"))?;
    let key = match written.trim().to_lowercase().as_str() {
        "goal" | "goals" => "goal",
        "verify" | "verification" | "check" | "checks" => "verify",
        "repos" | "repo" | "repository" | "repositories" => "repos",
        _ => return Err(format!("{:?} is not a key; {known}", written.trim())),
    };
    match written == key {
        true => Ok((key, value)),
        false => Err(format!("the key is `{key}:`, at the beginning of the line")),
    }
}

/// The value of `goal`. YAML has forms that spread over several lines, and their first line is not the goal.
fn one_line(value: &str) -> Result<&str, String> {
    match value {
        "" => Err("`goal` is empty; write it on the same line".to_owned()),
        ">" | "|" | ">-" | "|-" => Err("`goal` is one line".to_owned()),
        _ => unquoted(value),
    }
}

/// Returns the items after a key: on its own line, or on the lines below it, which are then removed from `below`.
fn items<'a>(key: &str, value: &'a str, below: &mut &[&'a str]) -> Result<Vec<&'a str>, String> {
    if let Some(list) = value.strip_prefix('[') {
        let list = list.strip_suffix(']').ok_or("`[` has no `]` on the same line")?;
        return Ok(list.split(',').map(str::trim).collect());
    }
    if !value.is_empty() {
        return Ok(vec![value]);
    }
    let rows = below.iter().map(|line| line.trim_start());
    let items: Vec<&str> = rows.map_while(|row| row.strip_prefix('-')).map(str::trim).collect();
    *below = &below[items.len()..];
    if items.is_empty() { Err(format!("`{key}` lists nothing")) } else { Ok(items) }
}

/// Removes the quotes of an item.
fn unquoted(item: &str) -> Result<&str, String> {
    let quoted = |quote: char| item.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    let inner = quoted('"').or(quoted('\'')).unwrap_or(item);
    match inner {
        "" => Err("an item is empty".to_owned()),
        _ if inner.starts_with(['"', '\'', '[', '{']) || inner != item && inner.contains(['"', '\'']) => {
            Err(format!("{item:?} is not one item"))
        }
        _ if inner.chars().any(char::is_control) => Err(format!("{inner:?} contains a control character")),
        _ => Ok(inner),
    }
}

/// Parses one path.
fn path(path: &str) -> Result<String, String> {
    if path.contains(['"', '\'', '[', ']', '\\']) || path.contains(" #") {
        return Err(format!("{path:?} is more than a path"));
    }
    listed_path_flaw(path).map_or(Ok(path.to_owned()), Err)
}

/// Says what is wrong with a path in a list of repositories; `None` if it is valid.
pub fn listed_path_flaw(path: &str) -> Option<String> {
    if path.contains(['*', '?']) {
        return Some(format!("{path:?} is a pattern; each repository is listed by its own path"));
    }
    let is_whole = path.starts_with('/') || path == "~" || path.starts_with("~/");
    (!is_whole).then(|| format!("{path:?} is relative; begin it with `/` or `~/`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn front_matter_is_parsed_in_each_format() {
        let rows = [
            ("---\ngoal: g\nrepos: ~/src/app\n---\n", Some("g"), vec![], vec!["~/src/app"]),
            ("---\nrepos: [/a, \"/b c\", '~/d']\n---\n", None, vec![], vec!["/a", "/b c", "~/d"]),
            (
                "\u{feff}---\r\nrepos:\r\n  - /a\r\n- \"~\"\r\ngoal: g\r\n---\r\n",
                Some("g"),
                vec![],
                vec!["/a", "~"],
            ),
            ("---\n# mine\n\ngoal: \"a: b\"\nverify: tests\n---\n", Some("a: b"), vec!["tests"], vec![]),
            ("---\nverify: \"tests\"\n---\n", None, vec!["tests"], vec![]),
            ("---\nverify: [tests, 'lint']\n---\n", None, vec!["tests", "lint"], vec![]),
            ("---\nverify:\n  - tests\n  - lint\ngoal: g\n---\n", Some("g"), vec!["tests", "lint"], vec![]),
            ("---\ngoal: g\n---\nverify: below\nrepos: /below\n", Some("g"), vec![], vec![]),
            ("goal: no front matter\nverify: x\n---\n", None, vec![], vec![]),
            ("", None, vec![], vec![]),
        ];
        for (text, goal, verify, repos) in rows {
            let parsed = FrontMatter::parse(text).unwrap();
            assert_eq!(parsed.goal.as_deref(), goal, "{text:?}");
            assert_eq!(
                (parsed.verify, parsed.repos),
                (
                    verify.iter().map(|n| n.to_string()).collect(),
                    repos.iter().map(|n| n.to_string()).collect()
                ),
                "{text:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_parsed_is_an_error_with_its_line() {
        for (block, why) in [
            ("Repos: /a", "the key is `repos:`"),
            (" repos: /a", "the key is `repos:`"),
            ("repos : /a", "the key is `repos:`"),
            ("repo: /a", "the key is `repos:`"),
            ("Verify: tests", "the key is `verify:`"),
            ("verify : tests", "the key is `verify:`"),
            ("  verify: tests", "the key is `verify:`"),
            ("checks: tests", "the key is `verify:`"),
            ("GOAL: g", "the key is `goal:`"),
            ("verfy: tests", "\"verfy\" is not a key; the keys are `goal`, `verify` and `repos`"),
            ("the text", "has no key"),
            ("- tests", "has no key"),
            ("goal: >", "is one line"),
            ("goal:", "is empty"),
            ("verify:", "lists nothing"),
            ("verify: [tests", "no `]`"),
            ("verify: {a: b}", "not one item"),
            ("verify: \"tests", "not one item"),
            ("verify: \"a\" && \"b\"", "not one item"),
            ("verify: a\u{7}b", "control character"),
            ("verify: a\nverify: b", "twice"),
            ("repos: /a\nrepos: /b", "twice"),
            ("repos:\ngoal: g", "lists nothing"),
            ("repos: []", "is empty"),
            ("repos: [/a,]", "is empty"),
            ("repos: /src/*", "is a pattern"),
            ("repos: src/app", "is relative"),
            ("repos: ~ada/app", "is relative"),
            ("repos: /a # mine", "more than a path"),
        ] {
            let error = FrontMatter::parse(&format!("---\n{block}\n---\nbelow\n")).unwrap_err();
            assert!(error.contains(why) && error.starts_with("line "), "{block:?}: {error}");
        }
        let error = FrontMatter::parse("---\n\n# one\nrepos:\n - /a\n\nverfy: x\n---\n").unwrap_err();
        assert!(error.starts_with("line 7 of"), "{error}");
        assert!(FrontMatter::parse("---\ngoal: g\n").unwrap_err().contains("no end"));
    }
}
