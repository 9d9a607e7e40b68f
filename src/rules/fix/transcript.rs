//! Pure. Detects loops within one transcript: an agent that repeats the same commands with the same results.

/// One command of an agent and its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandRun {
    /// The command line, or the tool with its arguments.
    pub command: String,
    /// The output, without the parts that differ from run to run.
    pub output: String,
    /// The state of the files afterwards, as any text that changes with them.
    pub tree: String,
}

/// What to do about the agent, the mildest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LoopSignal {
    #[default]
    Fine,
    /// Warn the agent.
    Warn,
    /// Stop the agent.
    Stop,
}

/// The longest cycle that is detected, in commands.
const MAX_CYCLE: usize = 5;

/// Judges the end of a transcript. Repeated commands alone are not a loop: their output and the files must not change,
/// and none of the commands may be one that waits.
pub fn judge(steps: &[CommandRun], warn: usize, stop: usize) -> LoopSignal {
    let repeats = (1..=MAX_CYCLE).map(|length| repeats(steps, length)).max().unwrap_or(0);
    match repeats {
        many if many >= stop.max(1) => LoopSignal::Stop,
        some if some >= warn.max(1) => LoopSignal::Warn,
        _ => LoopSignal::Fine,
    }
}

/// Counts how often the last `length` steps repeat at the end, with the files unchanged.
fn repeats(steps: &[CommandRun], length: usize) -> usize {
    if steps.len() < length {
        return 0;
    }
    let last = &steps[steps.len() - length..];
    let still = last.iter().all(|step| step.tree == last[0].tree);
    if !still || last.iter().any(|step| waits(&step.command)) {
        return 0;
    }
    steps.rchunks_exact(length).take_while(|chunk| *chunk == last).count()
}

/// True for a command that waits on purpose: `sleep`, `wait`, `watch`, `tail -f`.
fn waits(command: &str) -> bool {
    command.split([';', '|', '&', '\n', '(', '"', '\'']).any(|part| {
        let mut words = part.split_whitespace();
        match words.next() {
            Some("sleep" | "wait" | "watch") => true,
            Some("tail") => words.any(|word| {
                matches!(word, "-F" | "--follow")
                    || (word.starts_with('-') && !word.starts_with("--") && word.contains('f'))
            }),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(text: &str) -> Vec<CommandRun> {
        let step = |word: &str| {
            let mut parts = word.split('/').map(str::to_owned);
            let mut next = || parts.next().unwrap_or_default();
            CommandRun { command: next(), output: next(), tree: next() }
        };
        text.split(' ').map(step).collect()
    }

    /// Warns at three repetitions and stops at five.
    fn judged(text: &str) -> LoopSignal {
        judge(&steps(text), 3, 5)
    }

    #[test]
    fn the_same_command_with_the_same_output_is_a_loop() {
        assert_eq!(judged("a/1 a/1"), LoopSignal::Fine);
        assert_eq!(judged("x/0 a/1 a/1 a/1"), LoopSignal::Warn);
        assert_eq!(judged("a/1 a/1 a/1 a/1 a/1"), LoopSignal::Stop);
        assert_eq!(judged("a/1 a/2 a/3 a/4 a/5 a/6"), LoopSignal::Fine, "the output changes");
        assert_eq!(judged("a/1/t a/1/u a/1/v a/1/w a/1/x"), LoopSignal::Fine, "the files change");
        assert_eq!(judged("a/1 a/1 a/1 b/1"), LoopSignal::Fine, "another command followed");
    }

    #[test]
    fn a_cycle_of_up_to_five_is_a_loop() {
        for length in 1..=5 {
            let cycle: Vec<String> = (0..length).map(|n| format!("c{n}/o{n}")).collect();
            let text = vec![cycle.join(" "); 3].join(" ");
            assert_eq!(judged(&text), LoopSignal::Warn, "{text}");
        }
        let six: Vec<String> = (0..6).map(|n| format!("c{n}/o{n}")).collect();
        assert_eq!(judged(&vec![six.join(" "); 5].join(" ")), LoopSignal::Fine);
        let changing = judged("a/1/t b/1/u a/1/t b/1/u a/1/t b/1/u");
        assert_eq!(changing, LoopSignal::Fine, "files change within");
    }

    #[test]
    fn repeated_waiting_is_not_a_loop() {
        let nine_times = |command: &str| {
            let (command, output, tree) = (command.to_owned(), String::new(), String::new());
            judge(&vec![CommandRun { command, output, tree }; 9], 3, 5)
        };
        for command in [
            "sleep 5",
            "cd x && sleep 5; ls",
            "tail -f log",
            "tail -n5 -F log",
            "watch ls",
            "bash -c 'sleep 1'",
        ] {
            assert_eq!(nine_times(command), LoopSignal::Fine, "{command}");
        }
        assert_eq!(nine_times("tail -n 5 log"), LoopSignal::Stop);
    }
}
