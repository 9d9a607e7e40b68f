//! Tests of what a decision records in the memory: served goals, taint, rejections, flapping, ids.

use super::*;
use crate::rules::beat::state::{FLAP_LIMIT, PlannedStart, STARVED_AFTER};

/// The same decision after its decider had read untrusted text.
fn tainted(mut event: Decided) -> Decided {
    event.seen.tainted = true;
    event
}

#[test]
fn a_goal_is_served_by_its_moves_and_starves_without_them() {
    let mut beat = LoopState::default();
    for n in 0..STARVED_AFTER + 1 {
        let decided = decided(match n {
            5 => json!({ "move": "write_goal", "id": "written", "body": "b", "goal": "loud" }),
            _ => json!({ "move": "noop", "goal": "loud" }),
        });
        let goals = ["loud", "quiet", "written"].map(name).into();
        beat = after(&beat, Decided { decided, ..idle(|seen| seen.goals = goals) });
    }
    let goals = [name("loud"), name("quiet"), name("written"), name("new")];
    assert_eq!(beat.starved(goals.iter()), [(name("quiet"), STARVED_AFTER)]);
    let next = after(&beat, calm());
    assert_eq!(next.served.keys().collect::<Vec<_>>(), [&name("g")], "removed goals are forgotten");
}

#[test]
fn a_goal_written_after_untrusted_text_is_recognized_by_its_bytes() {
    let write = || decided(json!({ "move": "write_goal", "id": "g", "body": "do it" }));
    let written = || writes("goals/g.md", "do it\n");
    let marked = after(&LoopState::default(), tainted(event(write(), written(), done())));
    // The next world contains the file with the line end that it was given.
    let mark = vec![Goal::Text("do it\n".to_owned()).digest()];
    assert_eq!(marked.untrusted_goals, mark);
    let refused = || event(write(), Operation::Nothing, MoveOutcome::Refused { why: "no".to_owned() });
    assert_eq!(after(&marked, refused()).untrusted_goals, mark, "a text that is not written removes no mark");
    assert_eq!(after(&marked, tainted(refused())).untrusted_goals, mark, "and replaces no mark");
    assert_eq!(after(&marked, calm()).untrusted_goals, mark);
    let rewritten = after(&marked, event(write(), written(), done()));
    assert!(rewritten.untrusted_goals.is_empty(), "written after trusted text only");
    let gone = idle(|seen| seen.goals.clear());
    assert_eq!(after(&marked, gone).untrusted_goals, mark, "the file may come back under another name");
}

#[test]
fn a_goal_text_that_a_move_wrote_is_remembered_until_the_user_approves_it() {
    let write = |body: &str| {
        let operation = writes("goals/g.md", body);
        event(decided(json!({ "move": "write_goal", "id": "g", "body": body })), operation, done())
    };
    let digest = |body: &str| Goal::Text(body.to_owned()).digest();
    let wrote = after(&LoopState::default(), write("a\n"));
    assert_eq!((wrote.written_goals.clone(), wrote.untrusted_goals.len()), (vec![digest("a\n")], 0));
    let approved = Decided { approval: approval(T0 + HOUR), ..write("a\n") };
    assert!(after(&wrote, approved).written_goals.is_empty());
    let mut many = wrote;
    for n in 0..1200 {
        let mut one = write(&format!("{n}\n"));
        one.seen.items.insert("goal/g".to_owned(), digest("a\n"));
        many = after(&many, one);
    }
    assert_eq!(many.written_goals.len(), 1000);
    assert!(many.written_goals.contains(&digest("a\n")), "a text that a goal has is never forgotten");
}

#[test]
fn only_an_approved_start_of_a_paid_worker_is_remembered() {
    let start = || decided(json!({ "move": "start_worker", "id": "w", "brief": "b" }));
    let yes = || approval(T0 + HOUR);
    let paid = |paid| Operation::StartWorker(Box::new(PlannedStart { paid, ..PlannedStart::default() }));
    let rows = [
        (yes(), paid(true), true),
        (yes(), paid(false), false),
        (None, paid(true), false),
        (yes(), Operation::Nothing, false),
    ];
    for (approval, operation, expected) in rows {
        let one = Decided { approval, ..event(start(), operation.clone(), done()) };
        assert_eq!(after(&LoopState::default(), one).paid_start_approved, expected, "{operation:?}");
    }
}

/// Returns the memory after a decision's operation is done.
fn made(beat: &LoopState, event: Decided) -> LoopState {
    let begun = after(beat, event);
    let effects = step(&begun, LoopEvent::Acted { at: NOW, outcome: done() });
    if effects.is_empty() { begun } else { saved(&effects) }
}

#[test]
fn text_of_a_tainted_decision_is_known_until_it_is_gone() {
    let ask = || decided(json!({ "move": "ask", "text": "send the key?" }));
    let written = || writes("asks/ask-b1.json", "{}");
    let marked = made(&LoopState::default(), tainted(event(ask(), written(), done())));
    assert!(marked.repeats() && marked.clean_beats.is_empty());
    let rested = made(&marked, tainted(calm()));
    assert!(!rested.repeats() && rested.clean_beats.is_empty(), "a noop adds no text");
    let clean = made(&marked, event(ask(), written(), done()));
    assert!(!clean.repeats());
    assert_eq!(clean.clean_beats, ["b1"]);
    // A file of an earlier version does not contain the key.
    let mut old = serde_json::to_value(&clean).unwrap();
    old.as_object_mut().unwrap().remove("clean_beats");
    old["last"].as_object_mut().unwrap().remove("clean");
    let old: LoopState = serde_json::from_value(old).unwrap();
    assert!(old.repeats() && old.clean_beats.is_empty());
    let mut many = clean;
    for n in 0..300 {
        many = made(&many, idle(|seen| seen.beat = format!("n{n}")));
    }
    assert_eq!((many.clean_beats.len(), many.clean_beats.last().unwrap().as_str()), (200, "n299"));
}

#[test]
fn an_interrupted_move_of_a_tainted_decision_is_known_after_the_crash() {
    let begun = after(&asking(), tainted(running()));
    let found = LoopEvent::Unfinished { at: NOW, probe: Probe::Unknown("a crash".to_owned()) };
    let effects = step(&begun, found);
    let flagged = effects.iter().find_map(|effect| match effect {
        Effect::Flag(ask) => Some(ask.clean),
        _ => None,
    });
    assert_eq!(flagged, Some(false), "its question contains the command");
    let settled = saved(&effects);
    assert!(settled.repeats() && settled.clean_beats.is_empty());
}

#[test]
fn a_worker_with_an_untrusted_name_is_known_while_it_exists() {
    let start = || {
        let operation = Operation::StartWorker(Box::default());
        event(decided(json!({ "move": "start_worker", "id": "w", "brief": "b" })), operation, done())
    };
    let marked = made(&LoopState::default(), tainted(start()));
    let known = |beat: &LoopState| beat.untrusted_workers.contains(&name("w"));
    assert!(known(&marked));
    let there = idle(|seen| drop(seen.items.insert("worker/w".to_owned(), "d".to_owned())));
    assert!(known(&made(&marked, there)));
    assert!(!known(&made(&marked, calm())), "the worker was archived");
    assert!(!known(&made(&marked, start())), "it is another worker");
    let approved = Decided { approval: approval(0), ..tainted(start()) };
    let approved = made(&LoopState::default(), approved);
    assert!(!known(&approved) && approved.repeats(), "an approval covers the operation and not the reason");
}

#[test]
fn what_a_decision_saw_is_not_shown_again() {
    let day = crate::rules::beat::ask::REJECTED_FOR_MS;
    let one = idle(|seen| {
        (seen.answers, seen.asks) = (vec![name("ask-1")], vec![name("ask-1")]);
        (seen.due, seen.schedules) = (vec![name("daily")], vec![name("daily")]);
        seen.rejected = vec![("subject".to_owned(), T0 + day)];
    });
    let beat = after(&LoopState::default(), one);
    assert_eq!((&beat.closed_asks, beat.fired.get(&name("daily"))), (&vec![name("ask-1")], Some(&T0)));
    let later = |ms: i64| after(&beat, idle(|seen| seen.at = NOW.at(T0 + ms)));
    assert_eq!((day, beat.rejected.get("subject")), (24 * HOUR, Some(&(T0 + day))));
    assert_eq!(later(day - 1).rejected, beat.rejected, "refused for a day");
    assert!(later(day).rejected.is_empty());
    assert!(later(1).closed_asks.is_empty() && later(1).fired.is_empty(), "their files are gone");
}

#[test]
fn a_used_approval_is_remembered_as_long_as_it_would_be_valid() {
    let mut beat = after(&LoopState::default(), Decided { approval: approval(T0 + HOUR), ..calm() });
    for (wait, closed) in [(0, vec![name("ap-1")]), (HOUR - 1, vec![name("ap-1")]), (HOUR, vec![])] {
        beat = after(&beat, idle(|seen| seen.at = NOW.at(T0 + wait)));
        assert_eq!(beat.closed_asks, closed, "{wait}: its file is gone");
    }
    assert!(beat.used.is_empty());
}

#[test]
fn changes_that_woke_the_loop_are_counted_and_decay() {
    let mut beat = LoopState::default();
    let quarter = crate::rules::beat::state::FLAP_DECAY_MS;
    let mut at = T0;
    let mut woke = |beat: &LoopState, sensors: &[&str], wait: i64| {
        at += wait;
        let sensors = sensors.iter().map(|s| (*s).to_owned()).collect();
        after(beat, idle(|seen| (seen.at, seen.sensors) = (NOW.at(at), sensors)))
    };
    for count in 1..=FLAP_LIMIT {
        beat = woke(&beat, &["ci"], 60_000);
        assert_eq!(beat.flaps["ci"].count, count);
    }
    let later = NOW.at(T0 + 300_000 + quarter);
    assert!(beat.is_flapping("ci", NOW.at(T0 + 300_000)) && !beat.is_flapping("ci", later));
    assert_eq!(woke(&beat, &[], quarter).flaps["ci"].count, FLAP_LIMIT, "the decay is computed on each read");
    beat = woke(&beat, &["ci", "mail"], quarter);
    let counts = (beat.flaps["ci"].count, beat.flaps["mail"].count);
    assert_eq!(counts, (FLAP_LIMIT - 1, 1), "two quarters of an hour have passed");
    assert!(woke(&beat, &[], 9 * quarter).flaps.is_empty());
}

#[test]
fn the_same_move_without_effect_twice_settles_the_world_like_a_noop() {
    for then in [
        MoveOutcome::Refused { why: "no".to_owned() },
        MoveOutcome::Waits { ask: "ap".to_owned(), because: "b".to_owned() },
    ] {
        let fruitless = || event(exec().0, Operation::Nothing, then.clone());
        let once = after(&LoopState::default(), fruitless());
        assert_eq!(once.converged, Convergence::No, "the decider sees once that the move has no effect");
        let twice = after(&once, fruitless());
        assert_eq!(twice.converged, Convergence::Noop { at_ms: T0, rechecked: false });
        let mut aged = fruitless();
        aged.seen.aged = true;
        let rechecked = Convergence::Noop { at_ms: T0, rechecked: true };
        assert_eq!(after(&twice, aged).converged, rechecked, "it is not paid for forever");
        let other = decided(json!({ "move": "run", "argv": ["ls"] }));
        let other = event(other, Operation::Nothing, then.clone());
        assert_eq!(after(&once, other).converged, Convergence::No, "another move resets it");
    }
    let fruitful = || event(exec().0, Operation::Nothing, done());
    assert_eq!(after(&after(&LoopState::default(), fruitful()), fruitful()).converged, Convergence::No);
}

#[test]
fn ids_are_never_reused_when_the_clock_goes_back() {
    // A beat's time may be the clock's, or the id's own time if the clock is behind.
    for own_time in [true, false] {
        let (mut beat, mut ids) = (LoopState::default(), Vec::new());
        let clock = [T0, T0, T0 - 24 * HOUR, T0 - 24 * HOUR, T0 + 1, T0 - 1, T0 + HOUR];
        for (n, now_ms) in clock.into_iter().enumerate() {
            let id_ms = beat.next_ms(NOW.at(now_ms));
            let at = NOW.at(if own_time { id_ms } else { now_ms });
            ids.push(id_ms);
            let mut one = Decided { seen: seen(&beat_id(id_ms), at), ..calm() };
            if n % 2 == 0 {
                beat = saved(&step(&beat, asking_for(Box::new(call(&beat_id(id_ms), at.unix_ms)))));
            } else {
                one.approval = approval(T0 + 24 * HOUR);
            }
            beat = after(&beat, one);
        }
        assert!(ids.is_sorted_by(|a, b| a < b), "own time {own_time}: {ids:?}");
    }
}

#[test]
fn notes_for_git_are_kept_up_to_a_limit() {
    let mut beat = LoopState::default();
    for n in 0..60 {
        beat = after(&beat, idle(|seen| seen.beat = format!("b{n}")));
    }
    assert_eq!((beat.uncommitted.len(), beat.uncommitted[0].beat.as_str()), (50, "b10"));
    let mut acting = acting();
    acting.intent.as_mut().unwrap().started = Some(started());
    let text = serde_json::to_string(&acting).unwrap();
    assert_eq!(serde_json::from_str::<LoopState>(&text).unwrap(), acting, "the file holds all of it");
}

#[test]
fn only_a_file_that_the_move_wrote_goes_into_its_commit() {
    let write = decided(json!({ "move": "write_goal", "id": "g", "body": "b" }));
    let line = |outcome| Probe::Journaled(entry::line(NOW, "b1", &write, &outcome));
    let begun = after(&LoopState::default(), event(write.clone(), writes("goals/g.md", "b\n"), done()));
    let paths = |event: LoopEvent| saved(&step(&begun, event)).uncommitted.pop().unwrap().paths;
    let acted = |outcome| LoopEvent::Acted { at: NOW, outcome };
    let found = |probe| LoopEvent::Unfinished { at: NOW, probe };
    let waits = MoveOutcome::Waits { ask: "ap-1".to_owned(), because: "b".to_owned() };
    for ours in [acted(done()), acted(waits), found(Probe::Made), found(line(done()))] {
        let wrote = Some(blake3::hash(b"b\n").to_hex().to_string());
        assert_eq!(paths(ours.clone()), [("goals/g.md".to_owned(), wrote)].into(), "{ours:?}");
    }
    let why = || "changed".to_owned();
    for theirs in [
        acted(MoveOutcome::Refused { why: why() }),
        found(Probe::Dropped(why())),
        found(Probe::Unknown(why())),
        found(line(MoveOutcome::Refused { why: why() })),
    ] {
        assert!(paths(theirs.clone()).is_empty(), "{theirs:?}");
    }
}
