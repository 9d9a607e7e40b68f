//! Pure. Parses the unified diff of an attempt into files, hunks and lines.

/// The change of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileDelta {
    /// The current path of the file, or the old path if it was deleted.
    pub path: String,
    pub hunks: Vec<Vec<DiffLine>>,
}

/// A line of a hunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiffLine {
    /// `+` for an added line, `-` for a removed one, a space for a kept one.
    pub sign: char,
    pub text: String,
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
            let sign = line.chars().next().unwrap_or(' ');
            if matches!(sign, '+' | '-' | ' ') {
                hunk.push(DiffLine { sign, text: line.get(1..).unwrap_or_default().to_owned() });
            }
        }
    }
    files
}

/// Counts the added and the removed lines.
pub fn counts(files: &[FileDelta]) -> (u32, u32) {
    let count = |sign: char| {
        let lines = files.iter().flat_map(|file| file.hunks.iter().flatten());
        u32::try_from(lines.filter(|line| line.sign == sign).count()).unwrap_or(u32::MAX)
    };
    (count('+'), count('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_is_parsed_into_files_hunks_and_lines() {
        let text = "diff --git a/x.py b/x.py\nindex 1..2 100644\n--- a/x.py\n+++ b/x.py\n@@ -1,3 +1,3 @@ def f\n a\n--- b\n+++ c\n\n@@ -9 +9 @@\n-d\n\\ No newline at end of file\ndiff --git a/b.bin b/b.bin\nBinary files differ\n";
        let files = parse(text);
        assert_eq!(files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["x.py", "b.bin"]);
        let line = |sign: char, text: &str| DiffLine { sign, text: text.into() };
        let first = vec![line(' ', "a"), line('-', "-- b"), line('+', "++ c"), line(' ', "")];
        assert_eq!(files[0].hunks, [first, vec![line('-', "d")]]);
        assert_eq!(counts(&files), (1, 2));
    }
}
