//! The languages that the map reads, and what is looked for in each.

/// A language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lang {
    Python,
    Rust,
    Go,
    JavaScript,
    TypeScript,
    Tsx,
}

impl Lang {
    /// The language of a file, by the end of its name.
    pub(super) fn of(path: &str) -> Option<Lang> {
        let (_, extension) = path.rsplit('/').next()?.rsplit_once('.')?;
        Some(match extension {
            "py" | "pyi" => Lang::Python,
            "rs" => Lang::Rust,
            "go" => Lang::Go,
            "js" | "jsx" | "mjs" | "cjs" => Lang::JavaScript,
            "ts" | "mts" | "cts" => Lang::TypeScript,
            "tsx" => Lang::Tsx,
            _ => return None,
        })
    }

    /// Languages of one family may refer to each other.
    pub(super) fn family(self) -> &'static str {
        match self {
            Lang::Python => "python",
            Lang::Rust => "rust",
            Lang::Go => "go",
            Lang::JavaScript | Lang::TypeScript | Lang::Tsx => "javascript",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_name_tells_the_language() {
        for (path, lang) in [
            ("a/b.py", Some(Lang::Python)),
            ("b.d.ts", Some(Lang::TypeScript)),
            ("x.tsx", Some(Lang::Tsx)),
            ("py", None),
            ("a.py/b", None),
            ("Makefile", None),
        ] {
            assert_eq!(Lang::of(path), lang, "{path}");
        }
    }
}
