//! How the tidy test reads a source file: its code without prose, its paths, its links.

use super::Violation;

/// One file of the tree.
pub struct File<'a> {
    pub path: &'a str,
    pub text: &'a str,
    /// The text with comments and the insides of literals blanked out, line for line.
    code: String,
    /// Lines of `use` groups, one path each: (line, path).
    grouped: Vec<(usize, String)>,
}

/// The tree, read once for all rules.
pub fn files(tree: &[(String, String)]) -> Vec<File<'_>> {
    tree.iter().map(|(path, text)| File::read(path, text)).collect()
}

impl<'a> File<'a> {
    fn read(path: &'a str, text: &'a str) -> File<'a> {
        let code = if path.ends_with(".rs") { code_only(text) } else { String::new() };
        let grouped = grouped_uses(&code);
        File { path, text, code, grouped }
    }
}

impl File<'_> {
    pub fn violation(&self, rule: &'static str, line: usize, text: &str) -> Violation {
        Violation { rule, path: self.path.to_owned(), line, text: text.to_owned() }
    }

    /// Whether it is one of `places`, or in one that ends with a slash.
    pub fn is_in(&self, places: &[&str]) -> bool {
        places
            .iter()
            .any(|place| self.path == *place || (place.ends_with('/') && self.path.starts_with(place)))
    }

    /// Whether the whole file is a test.
    pub fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.ends_with("_tests.rs")
            || self.path.ends_with("/tests.rs")
    }

    /// Lines whose code has `name`, as the start of a word. Each line once.
    pub fn lines_with(&self, name: &str) -> Vec<usize> {
        let mut lines: Vec<usize> = self
            .fragments()
            .filter(|(_, code)| words(code, name).next().is_some())
            .map(|(line, _)| line)
            .collect();
        lines.sort_unstable();
        lines.dedup();
        lines
    }

    /// The types that it defines, but for those of its inline tests.
    pub fn types(&self) -> Vec<(usize, &str)> {
        let shipped = self.code.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let mut types = Vec::new();
        for (line, code) in (1..).zip(shipped.lines()) {
            let code = code.trim_start();
            let code = code
                .strip_prefix("pub")
                .map_or(code, |rest| rest.trim_start_matches(|c| c != ' '))
                .trim_start();
            let kinds = ["struct ", "enum ", "trait ", "union "];
            if let Some(rest) = kinds.iter().find_map(|kind| code.strip_prefix(kind)) {
                types.push((line, identifier(rest)));
            }
        }
        types
    }

    /// Each word of each identifier of the code, in small letters: `HttpRequest` and `http_request` have two.
    pub fn identifier_words(&self) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (line, code) in (1..).zip(self.code.lines()) {
            let mut word = String::new();
            let mut before = ' ';
            for c in code.chars().chain([' ']) {
                let begins = c.is_ascii_uppercase() && before.is_ascii_lowercase();
                if !word.is_empty() && (begins || !c.is_ascii_alphabetic()) {
                    found.push((line, std::mem::take(&mut word)));
                }
                if c.is_ascii_alphabetic() {
                    word.push(c.to_ascii_lowercase());
                }
                before = c;
            }
        }
        found
    }

    /// The path of its module from the crate; none for the roots, and outside of `src`.
    pub fn module_path(&self) -> Option<Vec<&str>> {
        let inside = self.path.strip_prefix("src/")?.strip_suffix(".rs")?;
        (!matches!(inside, "main" | "lib")).then(|| inside.trim_end_matches("/mod").split('/').collect())
    }

    /// How many of its lines stand before its inline tests.
    pub fn shipped_lines(&self) -> usize {
        self.code.split("#[cfg(test)]\nmod ").next().unwrap_or_default().lines().count()
    }

    /// The paths into the crate that its code has, from the crate on, each with its line.
    pub fn paths_from_crate(&self, module: &[&str]) -> Vec<(usize, Vec<String>)> {
        let mut paths = Vec::new();
        for (line, code) in self.fragments() {
            let starts = ["crate::", "super::", "self::"].into_iter().flat_map(|start| words(code, start));
            for at in starts.filter(|at| !code[..*at].ends_with("::")) {
                let end = code[at..].find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
                let path = &code[at..at + end.unwrap_or(code.len() - at)];
                paths.push((line, from_crate(path, module)));
            }
        }
        paths
    }

    /// What it passes on by `pub use`, from the crate on.
    pub fn passed_on(&self, module: &[&str]) -> Vec<Vec<String>> {
        let mut passed_on = Vec::new();
        for start in words(&self.code, "use ").filter(|at| self.code[..*at].ends_with("pub ")) {
            let statement = self.code[start + 4..].split(';').next().unwrap_or_default();
            let mut spelled = Vec::new();
            spell_out(statement, 0, &mut spelled);
            passed_on.extend(spelled.iter().map(|(_, path)| from_crate(path, module)));
        }
        passed_on
    }

    fn fragments(&self) -> impl Iterator<Item = (usize, &str)> {
        let grouped = self.grouped.iter().map(|(line, path)| (*line, path.as_str()));
        (1..).zip(self.code.lines()).chain(grouped)
    }

    /// The files that a page links to, as paths from the root of the tree.
    pub fn links(&self) -> Vec<String> {
        let folder = self.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let inline = self.text.split("](").skip(1);
        let listed = self
            .text
            .lines()
            .filter(|line| line.starts_with('['))
            .filter_map(|line| line.split("]: ").nth(1));
        let target = |rest: &str| {
            let end = rest.find([')', '#', ' ', '\n']).unwrap_or(rest.len());
            resolve(folder, &rest[..end])
        };
        inline.chain(listed).map(target).collect()
    }
}

/// A path as it is written in `module`, from the crate on.
fn from_crate(path: &str, module: &[&str]) -> Vec<String> {
    let mut full: Vec<&str> = module.to_vec();
    for part in path.split("::") {
        match part {
            "crate" => full.clear(),
            "self" | "" => {}
            "super" => drop(full.pop()),
            part => full.push(part),
        }
    }
    full.into_iter().map(str::to_owned).collect()
}

fn resolve(folder: &str, link: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(link.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Where `name` starts a word in `code`.
fn words<'a>(code: &'a str, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    let starts = move |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    code.match_indices(name).map(|(at, _)| at).filter(move |at| starts(*at))
}

fn identifier(code: &str) -> &str {
    let end = code.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(code.len());
    &code[..end]
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// The paths of all `use` statements that have a group in them, spelled out, each with the line it ends on.
fn grouped_uses(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for start in words(code, "use ") {
        let statement = code[start + 4..].split(';').next().unwrap_or_default();
        if statement.contains('{') {
            spell_out(statement, line_of(code, start), &mut found);
        }
    }
    found
}

fn spell_out(statement: &str, first_line: usize, found: &mut Vec<(usize, String)>) {
    let mut prefixes = vec![String::new()];
    let mut path = String::new();
    let mut line = first_line;
    for c in statement.chars().chain([',']) {
        let outer = prefixes.last().cloned().unwrap_or_default();
        match c {
            '\n' => line += 1,
            '{' => prefixes.push(outer + std::mem::take(&mut path).trim()),
            ',' | '}' => {
                let leaf = std::mem::take(&mut path);
                if !leaf.trim().is_empty() {
                    found.push((line, outer + leaf.trim()));
                }
                if c == '}' {
                    prefixes.pop();
                }
            }
            c => path.push(c),
        }
    }
}

/// The text with comments and the insides of literals blanked out, line for line.
fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let end = prose_end(&text[at..]).map_or(at + c.len_utf8(), |length| at + length);
        if end == at + c.len_utf8() {
            code.push(c);
        } else {
            code.extend(text[at..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        at = end;
    }
    code
}

/// The length of the comment or literal that `text` starts with.
fn prose_end(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(block_comment_end(text));
    }
    if let Some(rest) = text.strip_prefix('\'') {
        // 'a' is a character and 'a a lifetime.
        let mut chars = rest.chars();
        return match (chars.next()?, chars.next()?) {
            ('\\', _) => quoted_end(text, '\''),
            (_, '\'') => quoted_end(text, '\''),
            _ => None,
        };
    }
    if text.starts_with('"') {
        return quoted_end(text, '"');
    }
    let raw = text.strip_prefix("br").or(text.strip_prefix("cr")).or(text.strip_prefix('r'))?;
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    let inside = raw[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", &raw[..hashes]);
    let length = inside.find(&close).map_or(inside.len(), |end| end + close.len());
    Some(text.len() - inside.len() + length)
}

fn quoted_end(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    Some(text.len())
}

/// Comments may hold comments.
fn block_comment_end(text: &str) -> usize {
    let (mut at, mut depth) = (2, 1);
    while depth > 0 {
        let rest = &text[at..];
        match (rest.find("/*"), rest.find("*/")) {
            (Some(open), Some(close)) if open < close => (at, depth) = (at + open + 2, depth + 1),
            (_, Some(close)) => (at, depth) = (at + close + 2, depth - 1),
            (_, None) => return text.len(),
        }
    }
    at
}
