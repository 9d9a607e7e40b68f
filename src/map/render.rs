//! Pure. Renders a ranking as text within a token budget: each file with the first lines of its definitions.

use super::Ranked;
use crate::rules::json::clip;

/// The assumed number of bytes in a token.
const TOKEN_BYTES: usize = 4;
/// The longest line that is shown, in characters.
const MAX_LINE: usize = 120;
/// The most definitions that are shown of one file.
const MAX_DEFS: usize = 40;

/// A ranking as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    pub text: String,
    /// The estimated number of tokens.
    pub tokens: usize,
}

/// Renders the first files, as many as the budget holds. `read` returns a file's text, if it can be read.
pub fn render(ranked: &[Ranked], budget: usize, read: &mut dyn FnMut(&str) -> Option<String>) -> Rendered {
    let mut shown = Rendered::default();
    let cap = budget.saturating_mul(TOKEN_BYTES);
    for file in ranked {
        let whole = one(file, read(&file.path).as_deref());
        let head = format!("{}\n", file.path);
        let room = cap.saturating_sub(shown.text.len());
        let is_cut = whole.len() > room;
        let part = if is_cut { cut(&whole, room) } else { whole };
        if part.len() < head.len() {
            break;
        }
        shown.text.push_str(&part);
        if is_cut {
            break;
        }
    }
    shown.tokens = shown.text.len().div_ceil(TOKEN_BYTES);
    shown
}

fn one(file: &Ranked, text: Option<&str>) -> String {
    let mut out = format!("{}\n", file.path);
    let lines: Vec<&str> = text.map(|text| text.lines().collect()).unwrap_or_default();
    let mut last = 0;
    for def in file.defs.iter().take(MAX_DEFS).filter(|def| def.line > 0) {
        if std::mem::replace(&mut last, def.line) == def.line {
            continue;
        }
        let line = lines.get(def.line as usize - 1).copied().unwrap_or(def.name.as_str());
        out.push_str(&format!("  {:>5}: {}\n", def.line, clip(line.trim_end(), MAX_LINE)));
    }
    if file.defs.len() > MAX_DEFS {
        out.push_str(&format!("         … {} more\n", file.defs.len() - MAX_DEFS));
    }
    out
}

/// The whole lines at the beginning that fit into `room` bytes.
fn cut(text: &str, room: usize) -> String {
    let end = text.floor_char_boundary(room.min(text.len()));
    text[..end].rfind('\n').map(|at| text[..=at].to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::Def;
    use super::*;

    fn file(path: &str, names: &[(&str, u32)]) -> Ranked {
        let def = |(name, line): &(&str, u32)| Def {
            name: (*name).to_owned(),
            kind: "function".to_owned(),
            line: *line,
            end: *line,
        };
        let defs = names.iter().map(def).collect();
        Ranked { path: path.to_owned(), rank: 1.0, why: Vec::new(), is_test: false, defs }
    }

    #[test]
    fn the_budget_holds_and_lines_stay_whole() {
        let files = [file("a.py", &[("f", 1), ("g", 2)]), file("b.py", &[("h", 1)])];
        let mut read = |_: &str| Some("def f():\ndef g():\n".to_owned());
        let all = render(&files, 100, &mut read);
        assert_eq!(all.text, "a.py\n      1: def f():\n      2: def g():\nb.py\n      1: def f():\n");
        assert_eq!(all.tokens, all.text.len().div_ceil(4));
        for budget in 0..20 {
            let some = render(&files, budget, &mut read);
            assert!(some.text.len() <= budget * 4, "{budget}");
            assert!(some.text.is_empty() || some.text.ends_with('\n'), "{budget}");
            assert!(all.text.starts_with(&some.text), "{budget}");
        }
    }
}
