//! Pure. Parses the unified diff of an attempt into files, hunks and lines.

/// The change of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileDelta {
    /// The current path of the file, or the old path if it was deleted.
    pub path: String,
    pub hunks: Vec<Vec<Changed>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    Kept(String),
    Added(String),
    Removed(String),
}

impl Changed {
    pub fn text(&self) -> &str {
        match self {
            Changed::Kept(text) | Changed::Added(text) | Changed::Removed(text) => text,
        }
    }
}

/// Parses the output of `git diff`. Skips lines that belong to no file.
pub fn parse(diff: &str) -> Vec<FileDelta> {
    let mut files: Vec<FileDelta> = Vec::new();
    let mut in_hunk = false;
    for line in diff.lines() {
        if let Some(names) = line.strip_prefix("diff --git ") {
            in_hunk = false;
            // For a binary or empty file, this is the only line with its name.
            let path = names.rsplit_once(" b/").map_or(names, |(_, path)| path);
            files.push(FileDelta { path: path.trim_matches('"').to_owned(), hunks: Vec::new() });
            continue;
        }
        let Some(file) = files.last_mut() else { continue };
        if line.starts_with("@@ ") {
            in_hunk = true;
            file.hunks.push(Vec::new());
        } else if in_hunk && let Some(hunk) = file.hunks.last_mut() {
            let text = line.get(1..).unwrap_or_default().to_owned();
            match line.chars().next() {
                Some('+') => hunk.push(Changed::Added(text)),
                Some('-') => hunk.push(Changed::Removed(text)),
                Some(' ') | None => hunk.push(Changed::Kept(text)),
                _ => {}
            }
        }
    }
    files
}

/// Counts the added and the removed lines.
pub fn counts(files: &[FileDelta]) -> (u32, u32) {
    let lines = || files.iter().flat_map(|file| file.hunks.iter().flatten());
    let added = lines().filter(|line| matches!(line, Changed::Added(_))).count();
    let removed = lines().filter(|line| matches!(line, Changed::Removed(_))).count();
    (u32::try_from(added).unwrap_or(u32::MAX), u32::try_from(removed).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_is_parsed_into_files_hunks_and_lines() {
        let text = "diff --git a/x.py b/x.py\nindex 1..2 100644\n--- a/x.py\n+++ b/x.py\n@@ -1,3 +1,3 @@ def f\n a\n--- b\n+++ c\n\n@@ -9 +9 @@\n-d\n\\ No newline at end of file\ndiff --git a/b.bin b/b.bin\nBinary files differ\n";
        let files = parse(text);
        assert_eq!(files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["x.py", "b.bin"]);
        let (kept, added, removed) = (
            |t: &str| Changed::Kept(t.into()),
            |t: &str| Changed::Added(t.into()),
            |t: &str| Changed::Removed(t.into()),
        );
        assert_eq!(
            files[0].hunks,
            [vec![kept("a"), removed("-- b"), added("++ c"), kept("")], vec![removed("d")]]
        );
        assert_eq!(counts(&files), (1, 2));
    }
}
