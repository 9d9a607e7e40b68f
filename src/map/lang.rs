//! The languages of the map, and the rules of each.

use tree_sitter::Language;

use super::rules::{self, Rules};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lang {
    Python,
    Rust,
    Go,
    JavaScript,
    TypeScript,
    Tsx,
}

/// The number of languages.
pub(super) const COUNT: usize = 6;

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

    pub(super) fn grammar(self) -> Language {
        match self {
            Lang::Python => tree_sitter_python::LANGUAGE.into(),
            Lang::Rust => tree_sitter_rust::LANGUAGE.into(),
            Lang::Go => tree_sitter_go::LANGUAGE.into(),
            Lang::JavaScript => tree_sitter_javascript::LANGUAGE.into(),
            Lang::TypeScript => tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into(),
            Lang::Tsx => tree_sitter_typescript::LANGUAGE_TSX.into(),
        }
    }

    /// The rules of the language; none if a rule does not fit the grammar, which a test excludes.
    pub(super) fn rules(self) -> Option<Rules> {
        let parts: &[&'static str] = match self {
            Lang::Python => &[rules::PYTHON],
            Lang::Rust => &[rules::RUST],
            Lang::Go => &[rules::GO],
            Lang::JavaScript => &[rules::SCRIPT, rules::JAVASCRIPT, rules::JSX],
            Lang::TypeScript => &[rules::SCRIPT, rules::TYPESCRIPT],
            Lang::Tsx => &[rules::SCRIPT, rules::TYPESCRIPT, rules::JSX],
        };
        Rules::parse(&self.grammar(), parts)
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
