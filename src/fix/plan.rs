//! Pure. A new plan after a halt: parsed from an answer, and refused if it is not a plan or repeats an old one.

use crate::rules::fix::attempt::{BreakerConfig, RepairPlan};
use crate::rules::fix::tokens;
use crate::rules::json::clip;
use crate::rules::text::visible;

const MAX_CHARS: usize = 600;

/// The headings of a plan.
const HEADINGS: [&str; 2] = ["HYPOTHESIS", "DIFFERENT"];

/// Parses a plan: the texts after `HYPOTHESIS:` and `DIFFERENT:`, in any case, with or without decoration. The first of
/// each counts: later ones may be an echo of the prompt.
pub fn parse(answer: &str) -> RepairPlan {
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
    RepairPlan { hypothesis, different, ..RepairPlan::default() }
}

/// Why a plan is refused; none if it is accepted.
pub fn refusal(plan: &RepairPlan, earlier: &[&RepairPlan], limits: &BreakerConfig) -> Option<String> {
    let words = |text: &str| text.split_whitespace().count();
    if words(&plan.hypothesis) < 2 {
        return Some("it has no hypothesis".to_owned());
    }
    if words(&plan.different) < 2 {
        return Some("it does not say what is different".to_owned());
    }
    let tokens_of = |plan: &RepairPlan| tokens::of_text(&plan.text().to_lowercase());
    let own = tokens_of(plan);
    let same = earlier.iter().position(|old| tokens::ratio(&own, &tokens_of(old)) >= limits.same_ratio);
    same.map(|at| format!("it is too similar to plan {}", at + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_of(hypothesis: &str, different: &str) -> RepairPlan {
        let (hypothesis, different) = (hypothesis.to_owned(), different.to_owned());
        RepairPlan { hypothesis, different, ..RepairPlan::default() }
    }

    #[test]
    fn a_plan_is_two_lines_with_any_decoration() {
        let plan = parse(
            "Sure!\n**Hypothesis:** the cache is\nstale\n- DIFFERENT: drop it first\n\nHYPOTHESIS: echo",
        );
        assert_eq!(plan, plan_of("the cache is stale", "drop it first"));
        assert_eq!(parse("I will try harder."), RepairPlan::default());
    }

    #[test]
    fn an_empty_and_a_repeated_plan_are_refused() {
        let limits = BreakerConfig::default();
        let old = plan_of("the cache is stale after a write", "drop the cache before the read");
        let refusal = |hypothesis: &str, different: &str| {
            super::refusal(&plan_of(hypothesis, different), &[&old], &limits)
        };
        assert!(refusal("", "").is_some() && refusal("it is broken", "").is_some());
        assert_eq!(refusal("the lock is held too long", "release it in close"), None);
        let again = refusal("The cache is stale after any write", "drop the cache before the read");
        assert_eq!(again.as_deref(), Some("it is too similar to plan 1"));
    }
}
