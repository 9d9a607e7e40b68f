//! Pure. A new plan after a halt: parsed from an answer, and refused if it is not a plan or repeats an old one.

use crate::rules::fix::attempt::{RepairPlan, Thresholds};
use crate::rules::fix::tokens;
use crate::rules::json::clip;
use crate::rules::text::visible;

const MAX_CHARS: usize = 600;

/// The headings of a plan.
const HEADINGS: [&str; 2] = ["HYPOTHESIS", "DIFFERENT"];

/// Parses a plan: the texts after `HYPOTHESIS:` and `DIFFERENT:`, in any case, with or without decoration. The first of
/// each counts: later ones may be an echo of the prompt.
pub fn parse(answer: &str) -> (String, String) {
    let lines = answer.lines().map(|line| line.trim().trim_matches(['*', '#', '-', ' ']));
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    let has = |line: &str, heading: &str| line.to_uppercase().starts_with(heading);
    let part_at = |at: usize| {
        let rest = lines[at].split_once(':').map_or("", |(_, rest)| rest);
        let below =
            lines[at + 1..].iter().take_while(|line| !HEADINGS.iter().any(|heading| has(line, heading)));
        let all: Vec<&str> =
            std::iter::once(rest.trim().trim_matches('*').trim()).chain(below.copied()).collect();
        clip(&visible(all.join(" ").trim(), false), MAX_CHARS)
    };
    let [hypothesis, different] = HEADINGS.map(|heading| {
        let mut parts = (0..lines.len()).filter(|at| has(lines[*at], heading)).map(part_at);
        parts.find(|part| !part.is_empty()).unwrap_or_default()
    });
    (hypothesis, different)
}

/// Why a plan is refused; none if it is accepted.
pub fn refusal(
    hypothesis: &str,
    different: &str,
    earlier: &[&RepairPlan],
    limits: &Thresholds,
) -> Option<String> {
    let words = |text: &str| text.split_whitespace().count();
    if words(hypothesis) < 2 {
        return Some("it has no hypothesis".to_owned());
    }
    if words(different) < 2 {
        return Some("it does not say what is different".to_owned());
    }
    let own = tokens::of_text(&format!("{hypothesis}\n{different}").to_lowercase());
    earlier
        .iter()
        .position(|plan| {
            tokens::ratio(&own, &tokens::of_text(&plan.text().to_lowercase())) >= limits.same_ratio
        })
        .map(|at| format!("it is too similar to plan {}", at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_two_lines_with_any_decoration() {
        let (hypothesis, different) = parse(
            "Sure!\n**Hypothesis:** the cache is\nstale\n- DIFFERENT: drop it first\n\nHYPOTHESIS: echo",
        );
        assert_eq!((hypothesis.as_str(), different.as_str()), ("the cache is stale", "drop it first"));
        assert_eq!(parse("I will try harder."), (String::new(), String::new()));
    }

    #[test]
    fn an_empty_and_a_repeated_plan_are_refused() {
        let limits = Thresholds::default();
        let old = RepairPlan {
            at_ms: 0,
            after: 3,
            runner: String::new(),
            hypothesis: "the cache is stale after a write".into(),
            different: "drop the cache before the read".into(),
            refused: None,
        };
        assert!(
            refusal("", "", &[], &limits).is_some() && refusal("it is broken", "", &[], &limits).is_some()
        );
        assert_eq!(refusal("the lock is held too long", "release it in close", &[&old], &limits), None);
        let again =
            refusal("The cache is stale after any write", "drop the cache before the read", &[&old], &limits);
        assert_eq!(again.as_deref(), Some("it is too similar to plan 1"));
    }
}
