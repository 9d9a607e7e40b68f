//! Pure. Finds the files that an argument names, in each notation: `--file=x`, `-fx`, `@x`, `key:@x`, `a:b`, `{a,b}`,
//! `file:///x`. Policy and approvals call the same function, so that both know the same notations.

use std::collections::BTreeSet;
use std::path::Path;

use crate::rules::secret::percent_decoded;
use crate::rules::text::is_hidden;

/// The longest suffix of an argument that is tried as one path, in bytes.
const MAX_PATH_BYTES: usize = 1024;
/// Schemes whose `//host` names another machine instead of a path.
const NETWORK: [&str; 7] = ["http", "https", "ssh", "git", "git+ssh", "ftp", "ftps"];
/// Shell keywords and programs that run the words after them.
const PREFIXES: [&str; 24] = [
    "!", "do", "then", "else", "elif", "if", "while", "until", "time", "exec", "eval", "command", "env",
    "nohup", "sudo", "doas", "xargs", "nice", "ionice", "timeout", "setsid", "stdbuf", "builtin", "trap",
];

/// Returns the parts of an argument that may be paths, each once: the whole argument, and each part that follows a
/// character which a plain path cannot contain, both up to the next such character and up to the end. For a cluster of
/// short options it also returns each suffix, because the value of the last option may be attached (`-tDIR`).
pub fn parts(arg: &str) -> Vec<String> {
    let mut found = PartList::default();
    found.scan(arg);
    percent_decoded(arg).iter().for_each(|decoded| found.scan(decoded));
    // A shell or a program may remove these characters, which can join `.` and `.` to `..`.
    let joined: String = arg.chars().filter(|c| !matches!(c, '{' | '}' | '"' | '\'' | '\\')).collect();
    if joined != arg {
        found.scan(&joined);
    }
    found.parts
}

#[derive(Default)]
struct PartList {
    parts: Vec<String>,
    seen: BTreeSet<String>,
}

impl PartList {
    fn push(&mut self, part: &str) {
        if !part.is_empty() && part.len() <= MAX_PATH_BYTES && self.seen.insert(part.to_owned()) {
            self.parts.push(part.to_owned());
        }
    }

    fn scan(&mut self, text: &str) {
        self.push(text);
        let mut before = None;
        for (at, c) in text.char_indices() {
            let begins = before.is_none_or(|before| !is_plain(before)) && is_plain(c);
            before = Some(c);
            if !begins {
                continue;
            }
            let rest = &text[at..];
            let word = &rest[..rest.find(|c| !is_plain(c)).unwrap_or(rest.len())];
            let path = past_host(&text[..at], rest);
            self.push(&word[(rest.len() - path.len()).min(word.len())..]);
            self.push(path.split([',', ':', ';', '"', '\'', '}']).next().unwrap_or_default());
            self.push(path);
            // A value may be attached to each option of a cluster.
            let options = word.strip_prefix(['-', '+']).filter(|options| !options.starts_with('-'));
            let options = options.unwrap_or_default();
            let letters = options.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(options.len());
            for at in 1..=letters {
                self.push(&options[at..]);
                self.push(&rest[1 + at..]);
            }
        }
    }
}

/// True for a character that a path may contain without quotes. Any other character may separate two paths.
fn is_plain(c: char) -> bool {
    !c.is_ascii() || c.is_ascii_alphanumeric() || "/._-~+%*?".contains(c)
}

/// After `https:` and the like, returns what follows the `//`; otherwise returns all of `rest`.
fn past_host<'a>(before: &str, rest: &'a str) -> &'a str {
    let scheme = before.strip_suffix(':').unwrap_or_default();
    let scheme = scheme.rsplit(|c: char| !is_plain(c)).next().unwrap_or_default();
    match rest.strip_prefix("//") {
        Some(host) if NETWORK.contains(&scheme) && !host.is_empty() && !host.starts_with('/') => host,
        _ => rest,
    }
}

/// True for an argument that a program may expand to an unknown path: a home directory or a variable.
pub fn is_expanded(arg: &str) -> bool {
    let variable = |(at, _): (usize, &str)| {
        arg[at + 1..].starts_with(|c: char| c.is_ascii_alphabetic() || "_{(".contains(c))
    };
    arg.match_indices('$').any(variable) || parts(arg).iter().any(|part| part.starts_with('~'))
}

/// True for a path with a git directory in it: `.git` in any case, or any name that some file system treats as `.git`.
pub fn is_in_git_dir(path: &Path) -> bool {
    path.iter().any(|part| {
        let seen: String = part.to_string_lossy().chars().filter(|c| !is_hidden(*c)).collect();
        let stem = seen.split(':').next().unwrap_or_default();
        let stem = stem.trim_end_matches(['.', ' ']).to_lowercase();
        stem == ".git" || stem.strip_prefix("git~").is_some_and(|n| n.parse::<u8>().is_ok())
    })
}

/// True for an option that names what a program skips, such as `--exclude=.git`.
pub fn leaves_alone(arg: &str) -> bool {
    ["--exclude", "--ignore"].iter().any(|option| arg.starts_with(option)) && arg.contains('=')
}

/// Returns the names of programs that an argument may run, to be looked up on the PATH: the argument itself if it is a
/// plain word, else the first word of each command of a shell line.
pub fn programs(arg: &str) -> Vec<&str> {
    let is_name = |word: &&str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-+[".contains(c);
        !word.is_empty() && word.len() <= 255 && !word.starts_with('-') && word.chars().all(plain)
    };
    if !arg.contains(char::is_whitespace) {
        return Some(arg).filter(is_name).into_iter().collect();
    }
    let mut names = Vec::new();
    for command in arg.split([';', '|', '&', '(', ')', '{', '}', '`', '\n', '"', '\'']) {
        for word in command.split_whitespace() {
            if word.contains('=') || word.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
                continue;
            }
            names.extend(Some(word).filter(is_name));
            if !PREFIXES.contains(&word) {
                break;
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_in_each_notation() {
        let named = |arg: &str, file: &str| parts(arg).iter().any(|part| part == file);
        for arg in [
            "x.mk",
            "--file=x.mk",
            "-fx.mk",
            "-f=x.mk",
            "-rfx.mk",
            "@x.mk",
            "key:@x.mk",
            "key=@x.mk",
            "a:x.mk",
            "x.mk:b",
            "{a,x.mk}",
            "if=x.mk",
            "-Wl,-T,x.mk",
            "a;x.mk",
            "'x.mk'",
            "--opt=\"x.mk\"",
            "cat <x.mk",
            "a|x.mk",
            "+ax.mk",
            "-javaagent:x.mk",
            "--exec=sh x.mk y",
            "x%2emk",
            "rev:x.mk",
            "[x.mk]",
            "sh -c 'cat -fx.mk'",
            "x.m\"k\"",
            "a{x.mk}",
            "a}x.mk",
            "a'x.mk'",
            "a\"x.mk\"",
        ] {
            assert!(named(arg, "x.mk"), "{arg}: {:?}", parts(arg));
        }
        for arg in [
            "file:///etc/x",
            "x=@/etc/x",
            "{a,/etc/x}",
            "-t/etc/x",
            "a:/etc/x",
            "--a=b=/etc/x",
            "f:%2fetc/x",
            "f://etc/x",
        ] {
            let is_named = |part: &String| part.starts_with('/') && part.trim_start_matches('/') == "etc/x";
            assert!(parts(arg).iter().any(is_named), "{arg}");
        }
        assert!(named("--file=my file.mk", "my file.mk"), "a name with a space in it");
        assert!(named(".{.,a}/x", "..") && named("{..,a}/x", ".."));
        for arg in
            ["https://example.org/a", "git+ssh://host/a", "HEAD~1", "main..dev", "a/b", "--since=2.days"]
        {
            assert!(!parts(arg).iter().any(|part| part.starts_with('/') || part == ".."), "{:?}", parts(arg));
        }
    }

    #[test]
    fn arguments_that_a_program_may_expand_are_detected() {
        for arg in ["~/x", "~root/x", "a=~/x", "$HOME/x", "${X}/y", "$(pwd)/x", "-t~/x"] {
            assert!(is_expanded(arg), "{arg}");
        }
        for arg in ["HEAD~1", "a~", "{print $1}", "cost: 5$", "x"] {
            assert!(!is_expanded(arg), "{arg}");
        }
    }

    #[test]
    fn a_git_directory_is_recognized_by_each_of_its_names() {
        for path in
            [".git/hooks/x", "a/.GIT/config", "GIT~1/x", ".git./x", ".git /x", ".g\u{200c}it/x", "/a/.git"]
        {
            assert!(is_in_git_dir(Path::new(path)), "{path}");
        }
        for path in [".gitignore", "a.git/x", ".github/x", "git/x", "gitk", "git~x"] {
            assert!(!is_in_git_dir(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn programs_of_a_shell_line_are_its_first_words() {
        assert_eq!(programs("make"), ["make"]);
        assert_eq!(programs("-v"), [""; 0]);
        let line = "X=1 sudo -n timeout 5 make all && cat x | xargs rm; if test -f y; then ./z; fi";
        let expected = ["sudo", "timeout", "make", "cat", "xargs", "rm", "if", "test", "then", "fi"];
        assert_eq!(programs(line), expected);
    }
}
