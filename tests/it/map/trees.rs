//! One project in each language: the failure names the login, and the bug is two imports away.

/// What the path of the file with the bug has.
pub const DB: &str = "store";

/// A project, and what its tests print.
pub struct Tree {
    pub name: &'static str,
    pub files: Vec<(&'static str, &'static str)>,
    pub failure: &'static str,
}

/// The trees as one text each: after a line `== PATH` comes the file, and last what the tests print.
const TEXTS: [(&str, &str); 5] = [
    ("python", include_str!("python.txt")),
    ("rust", include_str!("rust.txt")),
    ("go", include_str!("go.txt")),
    ("javascript", include_str!("javascript.txt")),
    ("typescript", include_str!("typescript.txt")),
];

pub fn trees() -> [Tree; 5] {
    TEXTS.map(|(name, text)| {
        let parts = text.strip_prefix("== ").unwrap().split("\n== ");
        let mut files: Vec<(&str, &str)> =
            parts.map(|part| part.split_once('\n').unwrap_or((part, ""))).collect();
        let (_, failure) = files.pop().unwrap();
        Tree { name, files, failure }
    })
}
