//! Pure. Parses a goal's front matter: the repositories that the loop may clone for this goal.

/// The line at the start and the end of the front matter.
const FENCE: &str = "---";
/// Keys that are treated as a misspelled `repos`.
const MEANT: [&str; 4] = ["repos", "repo", "repository", "repositories"];

/// Returns the paths under `repos:` in a goal's front matter, as written: one path, a list in brackets, or one path per
/// line after `-`. Text below the front matter is ignored.
///
/// # Errors
/// Says which line is wrong. If the list cannot be parsed, the goal lists no repository.
pub fn repos(text: &str) -> Result<Vec<String>, String> {
    let mut lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines().map(str::trim_end);
    if lines.next() != Some(FENCE) {
        return Ok(Vec::new());
    }
    let block: Vec<&str> = lines.clone().take_while(|line| *line != FENCE).collect();
    let is_closed = lines.any(|line| line == FENCE);
    let mut found: Option<Vec<String>> = None;
    for (at, line) in block.iter().enumerate() {
        let Some((key, value)) = line.split_once(':') else { continue };
        if !MEANT.contains(&key.trim().to_lowercase().as_str()) {
            continue;
        }
        let wrong = |why: &str| format!("line {} of its front matter: {why}", at + 2);
        if !is_closed {
            return Err("its front matter has no end: a line `---` is missing".to_owned());
        }
        if key != "repos" {
            return Err(wrong("the key is `repos:`, at the beginning of the line"));
        }
        if found.is_some() {
            return Err(wrong("`repos` is there twice"));
        }
        let items = items(value.trim(), &block[at + 1..]).map_err(|why| wrong(&why))?;
        found = Some(items.into_iter().map(path).collect::<Result<_, _>>().map_err(|why| wrong(&why))?);
    }
    Ok(found.unwrap_or_default())
}

/// Returns the items after a key: on its own line, or on the lines below it.
fn items<'a>(value: &'a str, below: &[&'a str]) -> Result<Vec<&'a str>, String> {
    if let Some(list) = value.strip_prefix('[') {
        let list = list.strip_suffix(']').ok_or("`[` has no `]` on the same line")?;
        return Ok(list.split(',').map(str::trim).collect());
    }
    if !value.is_empty() {
        return Ok(vec![value]);
    }
    let rows = below.iter().map(|line| line.trim_start());
    let items: Vec<&str> = rows.map_while(|row| row.strip_prefix('-')).map(str::trim).collect();
    if items.is_empty() { Err("`repos` lists nothing".to_owned()) } else { Ok(items) }
}

/// Parses one path and removes its quotes.
fn path(item: &str) -> Result<String, String> {
    let quoted = |quote: char| item.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    let path = quoted('"').or(quoted('\'')).unwrap_or(item);
    match path {
        "" => Err("a path is empty".to_owned()),
        _ if path.contains(['"', '\'', '[', ']', '\\']) || path.contains(" #") => {
            Err(format!("{path:?} is more than a path"))
        }
        _ if path.chars().any(char::is_control) => Err(format!("{path:?} contains a control character")),
        _ => listed_path_flaw(path).map_or(Ok(path.to_owned()), Err),
    }
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
    fn repos_are_read_in_each_format() {
        let rows = [
            ("---\ngoal: g\nrepos: ~/src/app\n---\n", vec!["~/src/app"]),
            ("---\nrepos: [/a, \"/b c\", '~/d']\n---\n", vec!["/a", "/b c", "~/d"]),
            ("\u{feff}---\r\nrepos:\r\n  - /a\r\n- \"~\"\r\ngoal: g\r\n---\r\n", vec!["/a", "~"]),
            ("---\ngoal: g\n---\nrepos: /below\n", vec![]),
            ("repos: /no/front/matter\n", vec![]),
            ("---\ngoal: never closed\n", vec![]),
        ];
        for (text, expected) in rows {
            assert_eq!(repos(text).unwrap(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_list_that_cannot_be_parsed_is_an_error_and_not_an_empty_list() {
        for (text, why) in [
            ("---\nrepos: /a\n", "no end"),
            ("---\nRepos: /a\n---\n", "the key is `repos:`"),
            ("---\n repos: /a\n---\n", "the key is `repos:`"),
            ("---\nrepos : /a\n---\n", "the key is `repos:`"),
            ("---\nrepo: /a\n---\n", "the key is `repos:`"),
            ("---\nrepos: /a\nrepos: /b\n---\n", "twice"),
            ("---\nrepos:\ngoal: g\n---\n", "lists nothing"),
            ("---\nrepos: []\n---\n", "is empty"),
            ("---\nrepos: [/a\n---\n", "no `]`"),
            ("---\nrepos: [/a,]\n---\n", "is empty"),
            ("---\nrepos: /src/*\n---\n", "is a pattern"),
            ("---\nrepos: src/app\n---\n", "is relative"),
            ("---\nrepos: ~ada/app\n---\n", "is relative"),
            ("---\nrepos: /a # mine\n---\n", "more than a path"),
            ("---\nrepos: \"/a\n---\n", "more than a path"),
            ("---\nrepos: /a\u{7}b\n---\n", "control character"),
        ] {
            let error = repos(text).unwrap_err();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }
}
