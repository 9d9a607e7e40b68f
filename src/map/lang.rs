//! The languages of the map, and the rules of each.

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
    /// The language of a file, by its extension.
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

    /// The family of the language; languages of one family may refer to each other.
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
    fn the_extension_gives_the_language() {
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
