//! Pure. A new plan after a halt: parsed from an answer, and refused if it is not a plan or repeats an old one.

use crate::rules::fix::attempt::{RepairPlan, Thresholds};
use crate::rules::fix::tokens;
use crate::rules::json::clip;

const MAX_CHARS: usize = 600;

/// Parses a plan: the texts after `HYPOTHESIS:` and `DIFFERENT:`, in any case, with or without decoration.
pub fn parse(answer: &str) -> (String, String) {
    let mut parts = [String::new(), String::new()];
    let mut now: Option<usize> = None;
    for line in answer.lines() {
        let text = line.trim().trim_matches(['*', '#', '-', ' ']);
        let upper = text.to_uppercase();
        let found = ["HYPOTHESIS", "DIFFERENT"].iter().position(|word| upper.starts_with(word));
        if let Some(which) = found {
            now = Some(which);
            // The first of each counts: later ones may be an echo of the prompt.
            if parts[which].is_empty() {
                let rest = text.split_once(':').map_or("", |(_, rest)| rest);
                parts[which] = rest.trim().trim_matches('*').trim().to_owned();
            } else {
                now = None;
            }
        } else if let Some(which) = now.filter(|_| !text.is_empty()) {
            let part = &mut parts[which];
            if !part.is_empty() {
                part.push(' ');
            }
            part.push_str(text);
        }
    }
    let clean = |part: &String| clip(&crate::rules::text::visible(part, false), MAX_CHARS);
    (clean(&parts[0]), clean(&parts[1]))
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
