//! Pure. Decides if the screen of a silent program looks as if it waits for input.
//!
//! The output does not say so: the result is a guess, and looop reports it as a guess.

/// How many of the last lines are searched: menus and agents print a line or two of help below a question.
const LINES: usize = 4;
/// How many lines above a menu its question may start.
const QUESTION_LINES: usize = 20;
/// The last characters of prompts.
const ENDS: [char; 8] = ['?', ':', '>', '$', '#', '%', '\u{276f}', '\u{203a}'];
/// The first characters of an input line in a form, or of the chosen line of a menu.
const BEGINS: [char; 3] = ['>', '\u{276f}', '\u{203a}'];

/// The start of the chosen line in gemini's menus.
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

/// Returns the line at which the program seems to wait.
pub fn prompt(screen: &str) -> Option<&str> {
    let mut lines =
        screen.lines().rev().map(|line| line.trim_matches(is_frame)).filter(|line| !line.is_empty());
    let last = lines.next()?;
    if asks(last) {
        return Some(last);
    }
    std::iter::once(last).chain(lines.take(LINES - 1)).find(|line| line.starts_with(BEGINS))
}

/// True for characters of a box around text.
fn is_frame(c: char) -> bool {
    c.is_whitespace() || ('\u{2500}'..='\u{259f}').contains(&c)
}

fn asks(line: &str) -> bool {
    let small = line.to_lowercase();
    match line.chars().next_back() {
        // Most log lines that end in a bracket do not ask for input.
        Some(']' | ')') => small.contains("y/n") || small.contains("yes/no"),
        Some(end) if ENDS.contains(&end) => true,
        _ => small.starts_with("press ") || small.contains("press enter") || small.contains("press any key"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_screen_is_detected() {
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
    fn a_working_screen_is_not_taken_for_a_waiting_one() {
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
