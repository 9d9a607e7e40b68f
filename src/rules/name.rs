//! Pure. Names of goals, sensors, workers, schedules and asks: the only definition of a valid name.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest name, in characters.
pub const MAX_CHARS: usize = 64;

/// Words with another meaning in places where a name is allowed.
const RESERVED: [&str; 4] = ["archive", "past", "pulse", "index"];

/// A name that is safe as a file name, as a git path and on a command line: letters and digits of any script, `-`, `_`
/// and `.`, starting with a letter or a digit, at most 64 characters, no `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(!try_from, inline, description = "", extend("pattern" = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"))]
pub struct Name(String);

impl Name {
    /// Parses a name.
    ///
    /// # Errors
    /// Says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Name, String> {
        let shown: String = text.chars().take(MAX_CHARS).collect();
        let bad = |rule: &str| Err(format!("{shown:?} is not a name: {rule}"));
        let Some(first) = text.chars().next() else { return bad("it is empty") };
        if text.chars().count() > MAX_CHARS || text.len() > 200 {
            return bad("it is longer than 64 characters");
        }
        if !first.is_alphanumeric() {
            return bad("it must begin with a letter or a digit");
        }
        if let Some(c) = text.chars().find(|c| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))) {
            return bad(&format!("{c:?} is not a letter, a digit, `-`, `_` or `.`"));
        }
        if text.contains("..") || text.ends_with('.') {
            return bad("`..` and a dot at the end are not allowed");
        }
        Ok(Name(text.to_owned()))
    }

    /// Parses a name that looop is about to create. Reserved words are refused.
    ///
    /// # Errors
    /// As [`Name::parse`], and for a reserved word.
    pub fn parse_new(text: &str) -> Result<Name, String> {
        if RESERVED.contains(&text) {
            return Err(format!("{text:?} is not a name: the word is reserved"));
        }
        Name::parse(text)
    }

    /// Creates a name from a word and an id; only the letters and digits of the id are kept.
    pub fn joined(word: &'static str, id: &str) -> Name {
        let id: String = id.chars().filter(char::is_ascii_alphanumeric).take(40).collect();
        Name(format!("{word}-{id}"))
    }

    /// Creates a name with a prefix: `goal.setup` for the word `goal`. If the result is too long, a digest replaces the
    /// name after a `_`. No name starts with `_`, so two names never become the same.
    pub fn within(word: &'static str, name: &Name) -> Name {
        Name::parse(&format!("{word}.{name}")).unwrap_or_else(|_| {
            let digest = blake3::hash(name.0.as_bytes()).to_hex();
            Name(format!("{word}._{}", &digest[..32]))
        })
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Name {
    type Error = String;
    fn try_from(text: String) -> Result<Name, String> {
        Name::parse_new(&text)
    }
}

impl std::str::FromStr for Name {
    type Err = String;
    fn from_str(text: &str) -> Result<Name, String> {
        Name::parse_new(text)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::{Component, Path};

    /// A valid name.
    pub fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn good_names() {
        for good in ["setup", "a", "fix-ci_2", "v1.2", "日本語", "9lives"] {
            assert!(Name::parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn bad_names() {
        let long = "x".repeat(300);
        for bad in
            ["", ".", "..", "../../x", "a/b", "a\\b", "-rf", ".hidden", "a b", "a\nb", "a..b", "end.", &long]
        {
            assert!(Name::parse(bad).is_err(), "{bad}");
        }
        assert!(Name::parse_new("archive").is_err());
    }

    #[test]
    fn names_with_a_prefix_are_distinct_and_valid() {
        assert_eq!(Name::within("goal", &name("setup")).as_str(), "goal.setup");
        let long: Vec<Name> = ["a", "b", "日"].map(|c| name(&c.repeat(64))).into();
        let within: Vec<Name> = long.iter().map(|name| Name::within("goal", name)).collect();
        assert!(within[0] != within[1] && within[1] != within[2]);
        assert!(within.iter().all(|name| Name::parse(name.as_str()).as_ref() == Ok(name)), "{within:?}");
    }

    proptest! {
        #[test]
        fn a_name_never_leaves_its_dir(text in "\\PC{0,80}") {
            if let Ok(name) = Name::parse(&text) {
                let path = Path::new("goals").join(format!("{name}.md"));
                prop_assert_eq!(path.components().count(), 2);
                prop_assert!(path.components().all(|c| matches!(c, Component::Normal(_))));
                prop_assert!(!name.as_str().starts_with('.') && !name.as_str().starts_with('-'));
            }
        }
    }
}
