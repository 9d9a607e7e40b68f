//! Tests of what a decision leaves in the memory: service, taint, rejections, restlessness, ids.

use super::*;
use crate::model::beat::{FLAP_LIMIT, STARVING_AFTER};

#[test]
fn a_goal_is_served_by_its_moves_and_starves_without() {
    let mut beat = Beat::default();
    for n in 0..STARVING_AFTER + 1 {
        let mut one = event(decided(json!({ "move": "noop", "goal": "loud" })), Deed::Nothing, done());
        one.seen.goals = vec![name("loud"), name("quiet"), name("written")];
        if n == 5 {
            one.decided =
                decided(json!({ "move": "write_goal", "id": "written", "body": "b", "goal": "loud" }));
        }
        beat = after(&beat, one);
    }
    let goals = [name("loud"), name("quiet"), name("written"), name("new")];
    assert_eq!(beat.starving(goals.iter()), [(name("quiet"), STARVING_AFTER)]);
    let next = after(&beat, event(noop(), Deed::Nothing, done()));
    assert_eq!(next.served.keys().collect::<Vec<_>>(), [&name("g")], "goals that are gone are forgotten");
}

#[test]
fn a_goal_written_after_untrusted_text_is_known_by_the_bytes_that_are_written() {
    let write = || decided(json!({ "move": "write_goal", "id": "g", "body": "do it" }));
    let written = || writes("goals/g.md", "do it\n");
    let tainted = |mut event: Decided| {
        event.seen.tainted = true;
        event
    };
    let marked = after(&Beat::default(), tainted(event(write(), written(), done())));
    // What the next world holds is the file, with the line end that it was given.
    let mark = vec![Goal::Text("do it\n".to_owned()).digest()];
    assert_eq!(marked.untrusted_goals, mark);
    let refused = || event(write(), Deed::Nothing, Outcome::Refused { why: "no".to_owned() });
    assert_eq!(after(&marked, refused()).untrusted_goals, mark, "what is not written takes no mark away");
    assert_eq!(after(&marked, tainted(refused())).untrusted_goals, mark, "nor replaces it");
    assert_eq!(after(&marked, event(noop(), Deed::Nothing, done())).untrusted_goals, mark);
    assert!(
        after(&marked, event(write(), written(), done())).untrusted_goals.is_empty(),
        "written from trusted text"
    );
    let mut gone = event(noop(), Deed::Nothing, done());
    gone.seen.goals.clear();
    assert_eq!(after(&marked, gone).untrusted_goals, mark, "the file may come back under another name");
}

#[test]
fn a_goal_text_that_a_move_wrote_is_known_until_the_user_approves_it() {
    let write = |body: &str| {
        let deed = writes("goals/g.md", body);
        event(decided(json!({ "move": "write_goal", "id": "g", "body": body })), deed, done())
    };
    let digest = |body: &str| Goal::Text(body.to_owned()).digest();
    let wrote = after(&Beat::default(), write("a\n"));
    assert_eq!((wrote.written_goals.clone(), wrote.untrusted_goals.len()), (vec![digest("a\n")], 0));
    let approved = Decided { approval: Some((name("ap-1"), T0 + HOUR)), ..write("a\n") };
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
fn only_an_approved_start_of_a_paid_worker_is_remembered_as_one() {
    let start = || decided(json!({ "move": "start_worker", "id": "w", "brief": "b" }));
    let yes = || Some((name("ap-1"), T0 + HOUR));
    let rows = [
        (yes(), true, Deed::Fleet, true),
        (yes(), true, Deed::ApprovedStart(Box::default()), true),
        (yes(), false, Deed::Fleet, false),
        (None, true, Deed::Fleet, false),
        (yes(), true, Deed::Nothing, false),
    ];
    for (approval, starts_paid, deed, expected) in rows {
        let one = Decided { approval, starts_paid, ..event(start(), deed.clone(), done()) };
        assert_eq!(after(&Beat::default(), one).paid_start_approved, expected, "{deed:?}");
    }
}

/// The memory once a decision's deed is done.
fn made(beat: &Beat, event: Decided) -> Beat {
    let begun = after(beat, event);
    let effects = step(&begun, Event::Acted { at: NOW, outcome: done() });
    if effects.is_empty() { begun } else { saved(&effects) }
}

#[test]
fn words_of_a_tainted_decision_are_known_until_they_are_gone() {
    let ask = || decided(json!({ "move": "ask", "text": "send the key?" }));
    let written = || writes("asks/ask-b1.json", "{}");
    let tainted = |decided: Move, deed: Deed| {
        let mut one = event(decided, deed, done());
        one.seen.tainted = true;
        one
    };
    let marked = made(&Beat::default(), tainted(ask(), written()));
    assert!(marked.retells() && marked.clean_beats.is_empty());
    let rested = made(&marked, tainted(noop(), Deed::Nothing));
    assert!(!rested.retells() && rested.clean_beats.is_empty(), "a noop has no words of its own");
    let clean = made(&marked, event(ask(), written(), done()));
    assert!(!clean.retells());
    assert_eq!(clean.clean_beats, ["b1"]);
    // A file of an earlier program says nothing of it.
    let mut old = serde_json::to_value(&clean).unwrap();
    old.as_object_mut().unwrap().remove("clean_beats");
    old["last"].as_object_mut().unwrap().remove("clean");
    let old: Beat = serde_json::from_value(old).unwrap();
    assert!(old.retells() && old.clean_beats.is_empty());
    let mut many = clean;
    for n in 0..300 {
        let mut one = event(noop(), Deed::Nothing, done());
        one.seen.beat = format!("n{n}");
        many = made(&many, one);
    }
    assert_eq!((many.clean_beats.len(), many.clean_beats.last().unwrap().as_str()), (200, "n299"));
}

#[test]
fn an_interrupted_move_of_a_tainted_decision_is_known_after_the_crash() {
    let (run, deed) = exec();
    let mut one = event(run, deed, done());
    one.seen.tainted = true;
    let begun = saved(&step(&asking(), Event::Decided(Box::new(one))));
    let found = Event::Unfinished { at: NOW, probe: Probe::Unknown("a crash".to_owned()) };
    let effects = step(&begun, found);
    let flagged = effects.iter().find_map(|effect| match effect {
        Effect::Flag(ask) => Some(ask.clean),
        _ => None,
    });
    assert_eq!(flagged, Some(false), "its question tells the command");
    let settled = saved(&effects);
    assert!(settled.retells() && settled.clean_beats.is_empty());
}

#[test]
fn a_worker_that_strangers_named_is_known_while_it_is_there() {
    let start =
        || event(decided(json!({ "move": "start_worker", "id": "w", "brief": "b" })), Deed::Fleet, done());
    let mut tainted = start();
    tainted.seen.tainted = true;
    let marked = made(&Beat::default(), tainted.clone());
    let known = |beat: &Beat| beat.untrusted_workers.contains(&name("w"));
    assert!(known(&marked));
    let mut there = event(noop(), Deed::Nothing, done());
    there.seen.items.insert("worker/w".to_owned(), "d".to_owned());
    assert!(known(&made(&marked, there)));
    assert!(!known(&made(&marked, event(noop(), Deed::Nothing, done()))), "it was put away");
    assert!(!known(&made(&marked, start())), "it is another one");
    tainted.approval = Some((name("ap-1"), 0));
    let approved = made(&Beat::default(), tainted);
    assert!(!known(&approved) && approved.retells(), "a yes is to the deed and not to the reason");
}

#[test]
fn what_a_decision_saw_is_not_shown_again() {
    let mut one = event(noop(), Deed::Nothing, done());
    let day = crate::model::ask::REJECTED_FOR_MS;
    one.seen.answers = vec![name("ask-1")];
    one.seen.asks = vec![name("ask-1")];
    one.seen.rejected = vec![("subject".to_owned(), T0 + day)];
    one.seen.due = vec![name("daily")];
    one.seen.schedules = vec![name("daily")];
    let beat = after(&Beat::default(), one);
    assert_eq!((&beat.closed_asks, beat.fired.get(&name("daily"))), (&vec![name("ask-1")], Some(&T0)));
    let later = |ms: i64| {
        let mut later = event(noop(), Deed::Nothing, done());
        later.seen.at = NOW.at(T0 + ms);
        after(&beat, later)
    };
    assert_eq!((day, beat.rejected.get("subject")), (24 * HOUR, Some(&(T0 + day))));
    assert_eq!(later(day - 1).rejected, beat.rejected, "refused for a day");
    assert!(later(day).rejected.is_empty());
    assert!(later(1).closed_asks.is_empty() && later(1).fired.is_empty(), "their files are gone");
}

#[test]
fn a_used_yes_is_remembered_for_as_long_as_it_would_be_good() {
    let used = Decided { approval: Some((name("ap-1"), T0 + HOUR)), ..event(noop(), Deed::Nothing, done()) };
    let mut beat = after(&Beat::default(), used);
    for (wait, closed) in [(0, vec![name("ap-1")]), (HOUR - 1, vec![name("ap-1")]), (HOUR, vec![])] {
        let mut one = event(noop(), Deed::Nothing, done());
        one.seen.at = NOW.at(T0 + wait);
        beat = after(&beat, one);
        assert_eq!(beat.closed_asks, closed, "{wait}: its file is gone");
    }
    assert!(beat.used.is_empty());
}

#[test]
fn changes_that_woke_the_loop_are_counted_and_fade() {
    let mut beat = Beat::default();
    let quarter = crate::model::beat::FLAP_DECAY_MS;
    let mut at = T0;
    let mut woke = |beat: &Beat, sensors: &[&str], wait: i64| {
        at += wait;
        let mut one = event(noop(), Deed::Nothing, done());
        one.seen.at = NOW.at(at);
        one.seen.sensors = sensors.iter().map(|s| (*s).to_owned()).collect();
        after(beat, one)
    };
    for count in 1..=FLAP_LIMIT {
        beat = woke(&beat, &["ci"], 60_000);
        assert_eq!(beat.flaps["ci"].count, count);
    }
    let later = NOW.at(T0 + 300_000 + quarter);
    assert!(beat.is_flapping("ci", NOW.at(T0 + 300_000)) && !beat.is_flapping("ci", later));
    assert_eq!(
        woke(&beat, &[], quarter).flaps["ci"].count,
        FLAP_LIMIT,
        "time is counted when it is asked for"
    );
    beat = woke(&beat, &["ci", "mail"], quarter);
    assert_eq!(
        (beat.flaps["ci"].count, beat.flaps["mail"].count),
        (FLAP_LIMIT - 1, 1),
        "two quarters have gone by"
    );
    assert!(woke(&beat, &[], 9 * quarter).flaps.is_empty());
}

#[test]
fn the_same_fruitless_move_twice_settles_the_world_like_a_noop() {
    for then in [
        Outcome::Refused { why: "no".to_owned() },
        Outcome::Waits { ask: "ap".to_owned(), because: "b".to_owned() },
    ] {
        let (run, _) = exec();
        let fruitless = || event(run.clone(), Deed::Nothing, then.clone());
        let once = after(&Beat::default(), fruitless());
        assert_eq!(once.settled, Settled::No, "it is told once that this leads nowhere");
        let twice = after(&once, fruitless());
        assert_eq!(twice.settled, Settled::Noop { at_ms: T0, again: false });
        let mut aged = fruitless();
        aged.seen.aged = true;
        assert_eq!(
            after(&twice, aged).settled,
            Settled::Noop { at_ms: T0, again: true },
            "it is not paid for for ever"
        );
        let other = event(decided(json!({ "move": "run", "argv": ["ls"] })), Deed::Nothing, then.clone());
        assert_eq!(after(&once, other).settled, Settled::No, "another move is another try");
    }
    let fruitful = || event(exec().0, Deed::Nothing, done());
    assert_eq!(after(&after(&Beat::default(), fruitful()), fruitful()).settled, Settled::No);
}

#[test]
fn ids_are_never_used_again_when_the_clock_goes_back() {
    // A beat's time may be the clock's, or the id's own where the clock is behind.
    for own_time in [true, false] {
        let (mut beat, mut ids) = (Beat::default(), Vec::new());
        for (n, now_ms) in
            [T0, T0, T0 - 24 * HOUR, T0 - 24 * HOUR, T0 + 1, T0 - 1, T0 + HOUR].into_iter().enumerate()
        {
            let id_ms = beat.next_ms(NOW.at(now_ms));
            let at = NOW.at(if own_time { id_ms } else { now_ms });
            ids.push(id_ms);
            let mut one = event(noop(), Deed::Nothing, done());
            one.seen = seen(&beat_id(id_ms), at);
            if n % 2 == 0 {
                beat = saved(&step(&beat, Event::Asking(Box::new(call(&beat_id(id_ms), at.unix_ms)))));
            } else {
                one.approval = Some((name("ap-1"), T0 + 24 * HOUR));
            }
            beat = after(&beat, one);
        }
        assert!(ids.is_sorted_by(|a, b| a < b), "own time {own_time}: {ids:?}");
    }
}

#[test]
fn notes_for_git_are_carried_along_but_not_without_end() {
    let mut beat = Beat::default();
    for n in 0..60 {
        let mut one = event(noop(), Deed::Nothing, done());
        one.seen.beat = format!("b{n}");
        beat = after(&beat, one);
    }
    assert_eq!((beat.uncommitted.len(), beat.uncommitted[0].beat.as_str()), (50, "b10"));
    let started = Started { pid: 7, start: 9, boot: "x".to_owned() };
    let mut acting = acting();
    acting.intent.as_mut().unwrap().started = Some(started);
    let text = serde_json::to_string(&acting).unwrap();
    assert_eq!(serde_json::from_str::<Beat>(&text).unwrap(), acting, "the file holds all of it");
}

#[test]
fn only_a_file_that_the_move_wrote_goes_into_its_commit() {
    let write = decided(json!({ "move": "write_goal", "id": "g", "body": "b" }));
    let line = |outcome| Probe::Journaled(entry::line(NOW, "b1", &write, &outcome));
    let begun = after(&Beat::default(), event(write.clone(), writes("goals/g.md", "b\n"), done()));
    let paths = |event: Event| saved(&step(&begun, event)).uncommitted.pop().unwrap().paths;
    let acted = |outcome| Event::Acted { at: NOW, outcome };
    let found = |probe| Event::Unfinished { at: NOW, probe };
    let waits = Outcome::Waits { ask: "ap-1".to_owned(), because: "b".to_owned() };
    for ours in [acted(done()), acted(waits), found(Probe::Made), found(line(done()))] {
        let wrote = Some(blake3::hash(b"b\n").to_hex().to_string());
        assert_eq!(paths(ours.clone()), [("goals/g.md".to_owned(), wrote)].into(), "{ours:?}");
    }
    let why = || "changed".to_owned();
    for theirs in [
        acted(Outcome::Refused { why: why() }),
        found(Probe::Dropped(why())),
        found(Probe::Unknown(why())),
        found(line(Outcome::Refused { why: why() })),
    ] {
        assert!(paths(theirs.clone()).is_empty(), "{theirs:?}");
    }
}
