//! Pure. Whether the screen of a silent program looks as if it waits for somebody to type.
//!
//! No program says so in these bytes: what comes of it is a guess and is called one.

/// How many lines from the end are looked at: menus and agents keep a line or two of help under what they ask.
const LINES: usize = 4;
/// How many lines above a menu its question may stand.
const QUESTION_LINES: usize = 20;
/// How prompts end.
const ENDS: [char; 8] = ['?', ':', '>', '$', '#', '%', '\u{276f}', '\u{203a}'];
/// How the line begins where one types in a form, or the chosen line of a menu.
const BEGINS: [char; 3] = ['>', '\u{276f}', '\u{203a}'];

/// How the chosen line of gemini's menus begins.
const CHOSEN: &str = "\u{25cf} ";

/// The question above the menu at the end of a screen, from the line that ends with a question mark to the choices; where
/// that line is the last one, with what it is about: gemini has that above it, behind a question mark of its own.
pub fn question(screen: &str) -> Option<String> {
    let lines: Vec<&str> = screen.lines().map(|line| line.trim_matches(is_frame)).collect();
    let menu = lines.iter().rposition(|line| line.starts_with(BEGINS) || line.starts_with(CHOSEN))?;
    let above = &lines[menu.saturating_sub(QUESTION_LINES)..menu];
    let asked = above.iter().rposition(|line| line.ends_with('?'))?;
    let mut words: Vec<&str> = above[asked..].iter().filter(|line| !line.is_empty()).copied().collect();
    if words.len() == 1 {
        words.extend(above[..asked].iter().rev().find_map(|line| line.strip_prefix("? ")));
    }
    Some(words.join(" "))
}

/// The line at which the program seems to wait.
pub fn prompt(screen: &str) -> Option<&str> {
    let mut lines =
        screen.lines().rev().map(|line| line.trim_matches(is_frame)).filter(|line| !line.is_empty());
    let last = lines.next()?;
    if asks(last) {
        return Some(last);
    }
    std::iter::once(last).chain(lines.take(LINES - 1)).find(|line| line.starts_with(BEGINS))
}

/// True for what stands around text in a box.
fn is_frame(c: char) -> bool {
    c.is_whitespace() || ('\u{2500}'..='\u{259f}').contains(&c)
}

fn asks(line: &str) -> bool {
    let small = line.to_lowercase();
    match line.chars().next_back() {
        // Most lines of a log that end in a bracket ask nothing.
        Some(']' | ')') => small.contains("y/n") || small.contains("yes/no"),
        Some(end) if ENDS.contains(&end) => true,
        _ => small.starts_with("press ") || small.contains("press enter") || small.contains("press any key"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_looks_like_it() {
        for (screen, line) in [
            ("building\nOverwrite it? [y/N]\n", "Overwrite it? [y/N]"),
            ("Password:", "Password:"),
            ("user@host:~$ ", "user@host:~$"),
            ("-- Press ENTER to go on --", "-- Press ENTER to go on --"),
            (
                "\u{2502} \u{276f} 1. Yes \u{2502}\n\u{2502}   2. No \u{2502}\n\u{2570}\u{2500}\u{256f}\n  Esc leaves\n",
                "\u{276f} 1. Yes",
            ),
            ("> \n", ">"),
        ] {
            assert_eq!(prompt(screen), Some(line), "{screen:?}");
        }
    }

    #[test]
    fn a_question_is_read_down_to_its_choices() {
        let screen = "done?\n\n  Run this command?\n\n  Reason: to make it\n\n  $ touch made\n\n\u{203a} 1. Yes\n  2. No\n\n  Press enter\n";
        assert_eq!(question(screen).as_deref(), Some("Run this command? Reason: to make it $ touch made"));
        let framed = "? 1\n\u{2502} ? Shell  touch made \u{2502}\n\u{2502} \u{2502} touch made \u{2502} \u{2502}\n\u{2502} Allow execution of [Shell]? \u{2502}\n\u{2502} \u{2502}\n\u{2502} \u{25cf} 1. Allow once \u{2502}\n\u{2502}   2. No \u{2502}\n a warning";
        assert_eq!(question(framed).as_deref(), Some("Allow execution of [Shell]? Shell  touch made"));
        for none in ["", "Run it?\n", "\u{203a} 1. Yes\n", "no question\n\u{203a} Yes\n"] {
            assert_eq!(question(none), None, "{none:?}");
        }
    }

    #[test]
    fn what_works_does_not() {
        for screen in [
            "",
            "\n\n",
            "compiling x v1.0 (/src/x)",
            "test a ... ok",
            "[12/40]",
            "50 % of it",
            "> sent\na\nb\nc\nd",
        ] {
            assert_eq!(prompt(screen), None, "{screen:?}");
        }
    }
}
