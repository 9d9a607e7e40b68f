//! Pure. The seeds of the walk: the files that a failure names, and those that fit its words and the words of
//! the task.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The weight of a file whose path is in the failure.
const NAMED: f64 = 10.0;
/// The additional weight of the file nearest to the error.
const NEAREST: f64 = 10.0;
/// The weight of a file that defines a name in the failure.
const DEFINED: f64 = 5.0;
/// The weight of a file that defines a name equal to a word of the question.
const ASKED: f64 = 4.0;
/// The weight of a file with a word of the question in its path.
const IN_PATH: f64 = 3.0;
/// The weight of a file that defines a name with a word of the question in it.
const IN_NAME: f64 = 1.0;
/// A name with more definitions than this tells little about each file.
const MAX_DEFINERS: usize = 8;
/// The longest text that is read, in bytes, from its end: the error is there.
const MAX_TEXT_BYTES: usize = 256 << 10;

/// A question to the map.
#[derive(Clone, Copy, Debug, Default)]
pub struct Question<'a> {
    /// The output of a test run.
    pub failure: &'a str,
    /// The file nearest to the error, and possibly the function, if known.
    pub frame: &'a str,
    /// The question or the task, in words.
    pub words: &'a str,
}

/// The seeds of the walk, and the reasons for them.
#[derive(Clone, Debug, Default)]
pub(super) struct Seeds<'a> {
    /// The weight of each file, in the order of paths.
    pub(super) weights: Vec<f64>,
    pub(super) why: BTreeMap<usize, Vec<String>>,
    /// The names in the question.
    pub(super) names: HashSet<&'a str>,
}

/// Finds the seeds of a question in the files at these paths. `definers` are the files that define each name.
pub(super) fn seeds<'a>(
    paths: &[&str],
    definers: &HashMap<&str, Vec<usize>>,
    question: &Question<'a>,
) -> Seeds<'a> {
    let mut seeds = Seeds { weights: vec![0.0; paths.len()], ..Seeds::default() };
    let lexicon = Lexicon::new(paths, definers);
    let from = question.failure.len().saturating_sub(MAX_TEXT_BYTES);
    let failure = &question.failure[question.failure.ceil_char_boundary(from)..];
    for at in lexicon.named(failure) {
        // A failure shows in a test, but its cause is seldom there.
        let weight = if is_test(paths[at]) { NAMED / 4.0 } else { NAMED };
        seeds.add(at, weight, "the failure names it".to_owned());
    }
    for at in lexicon.named(question.frame) {
        seeds.add(at, NEAREST, "the place nearest to the error".to_owned());
    }
    for at in lexicon.named(question.words) {
        seeds.add(at, NAMED, "the question names it".to_owned());
    }
    seeds.by_names(&lexicon, failure, DEFINED, "the failure");
    seeds.by_names(&lexicon, question.words, ASKED, "the question");
    seeds.by_parts(&lexicon, question.words);
    seeds
}

/// True for a test file, by the conventions of its language.
pub(super) fn is_test(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let stem = name.split('.').next().unwrap_or(name);
    path.split('/').rev().skip(1).any(|dir| matches!(dir, "tests" | "test" | "__tests__" | "spec"))
        || stem.starts_with("test_")
        || stem.ends_with("_test")
        || stem.ends_with("_tests")
        || name.contains(".test.")
        || name.contains(".spec.")
}

impl<'a> Seeds<'a> {
    fn add(&mut self, at: usize, weight: f64, why: String) {
        self.weights[at] += weight;
        let all = self.why.entry(at).or_default();
        if !all.contains(&why) {
            all.push(why);
        }
    }

    /// Adds the files that define a word of the text, if few files do.
    fn by_names(&mut self, lexicon: &Lexicon, text: &'a str, weight: f64, whose: &str) {
        for word in words(text) {
            let Some(definers) = lexicon.definers.get(word) else { continue };
            self.names.insert(word);
            if definers.len() > MAX_DEFINERS {
                continue;
            }
            for at in definers {
                let less = if is_test(lexicon.paths[*at]) { 0.25 } else { 1.0 };
                let why = format!("defines `{word}`, which {whose} names");
                self.add(*at, less * weight / definers.len() as f64, why);
            }
        }
    }

    /// Adds the files with a word of the text in a path or a name. A word that fits many files counts little.
    fn by_parts(&mut self, lexicon: &Lexicon, text: &str) {
        let few = (lexicon.paths.len() / 10).max(5);
        for word in words(text).into_iter().map(str::to_lowercase).collect::<HashSet<_>>() {
            let files = lexicon.path_parts.get(&word).filter(|files| files.len() <= few);
            for at in files.into_iter().flatten() {
                let share = files.map_or(1.0, |files| files.len() as f64).sqrt();
                self.add(*at, IN_PATH / share, format!("its path has the word `{word}`"));
            }
            let names = lexicon.name_parts.get(&word).filter(|names| names.len() <= few * 4);
            for name in names.into_iter().flatten() {
                let definers = &lexicon.definers[name];
                for at in definers.iter().filter(|_| definers.len() <= MAX_DEFINERS) {
                    let share = names.map_or(1, BTreeSet::len) * definers.len();
                    let why = format!("defines `{name}`, which has the word `{word}`");
                    self.add(*at, IN_NAME / (share as f64).sqrt(), why);
                }
            }
        }
    }
}

/// The possible meanings of words in a project.
struct Lexicon<'a> {
    paths: &'a [&'a str],
    definers: &'a HashMap<&'a str, Vec<usize>>,
    name_parts: HashMap<String, BTreeSet<&'a str>>,
    path_parts: HashMap<String, BTreeSet<usize>>,
    by_file_name: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Lexicon<'a> {
    fn new(paths: &'a [&'a str], definers: &'a HashMap<&'a str, Vec<usize>>) -> Lexicon<'a> {
        let mut name_parts: HashMap<String, BTreeSet<&str>> = HashMap::new();
        for name in definers.keys() {
            for part in parts(name) {
                name_parts.entry(part).or_default().insert(name);
            }
        }
        let mut path_parts: HashMap<String, BTreeSet<usize>> = HashMap::new();
        let mut by_file_name: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, path) in paths.iter().enumerate() {
            by_file_name.entry(path.rsplit('/').next().unwrap_or(path)).or_default().push(at);
            let stem = path.rsplit_once('.').map_or(*path, |(stem, _)| stem);
            for part in stem.split('/').flat_map(parts) {
                path_parts.entry(part).or_default().insert(at);
            }
        }
        Lexicon { paths, definers, name_parts, path_parts, by_file_name }
    }

    /// The files whose paths are in a text, whole or as an end that fits only one file.
    fn named(&self, text: &str) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let sign = |c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.' | '/' | '-' | '@' | '+'));
        for token in text.split(sign).map(|token| token.trim_matches('.').trim_start_matches("./")) {
            let name = token.rsplit('/').next().unwrap_or(token);
            let Some(all) = self.by_file_name.get(name) else { continue };
            let fits = |at: &&usize| ends_with(self.paths[**at], token) || ends_with(token, self.paths[**at]);
            let fitting: Vec<usize> = all.iter().filter(fits).copied().collect();
            // If one path is the end of another, the longest one counts.
            match fitting.as_slice() {
                [one] => drop(found.insert(*one)),
                many => found.extend(many.iter().find(|at| self.paths[**at] == token)),
            }
        }
        found
    }
}

/// True if `end` is `path`, or its end after a slash.
fn ends_with(path: &str, end: &str) -> bool {
    path.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('/'))
}

/// The words of a text that may be names, each once.
fn words(text: &str) -> Vec<&str> {
    let mut seen = HashSet::new();
    let all = text.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    all.filter(|word| word.len() >= 3 && !word.starts_with(|c: char| c.is_ascii_digit()))
        .filter(|word| seen.insert(*word))
        .collect()
}

/// The words in a name, in lower case: `parseHTTPHeader` and `parse_http_header` give the same.
fn parts(name: &str) -> Vec<String> {
    let mut parts: Vec<String> = vec![String::new()];
    let chars: Vec<char> = name.chars().collect();
    for (at, c) in chars.iter().enumerate() {
        let begins = c.is_uppercase()
            && (at > 0 && chars[at - 1].is_lowercase()
                || chars.get(at + 1).is_some_and(|c| c.is_lowercase()));
        if !c.is_alphanumeric() || begins {
            parts.push(String::new());
        }
        if let Some(part) = parts.last_mut().filter(|_| c.is_alphanumeric()) {
            part.extend(c.to_lowercase());
        }
    }
    parts.retain(|part| part.chars().count() >= 3);
    parts.sort();
    parts.dedup();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_into_words() {
        assert_eq!(parts("parseHTTPHeader"), ["header", "http", "parse"]);
        assert_eq!(parts("parse_http_header"), ["header", "http", "parse"]);
        assert_eq!(parts("X"), [""; 0]);
    }

    #[test]
    fn test_files_are_found_by_convention() {
        for path in ["tests/a.rs", "a/test_b.py", "b_test.go", "c.spec.ts", "src/__tests__/x.js"] {
            assert!(is_test(path), "{path}");
        }
        for path in ["src/contest.rs", "latest.py", "attestation/a.go"] {
            assert!(!is_test(path), "{path}");
        }
    }

    #[test]
    fn a_path_end_starts_at_a_slash() {
        assert!(ends_with("a/b.py", "b.py") && ends_with("/tmp/x/a/b.py", "a/b.py"));
        assert!(!ends_with("a/bb.py", "b.py"));
    }
}
