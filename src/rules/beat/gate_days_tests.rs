//! Tests of the gate over hours, days and weeks: the rate, the clock, flapping sensors, and the cost of an unchanged
//! world.

use super::*;

#[test]
fn no_hour_has_more_decisions_than_allowed() {
    let mut looped = Loop::new();
    looped.limits.decides_per_hour = 12;
    looped.reply = ScriptedReply::Done;
    looped.runs(10 * S, 5 * HOUR, &mut |l, _| {
        if let GateDecision::Hold(Hold::RateLimited { left_ms, .. }) = l.judge() {
            let mut later = l.now;
            later.unix_ms += left_ms - 1;
            assert!(rate(&l.beat, &l.limits, later).is_some());
            later.unix_ms += 1;
            assert!(rate(&l.beat, &l.limits, later).is_none());
        }
    });
    let times: Vec<i64> = looped.asked.iter().map(|(at, _)| *at).collect();
    assert!(times.windows(13).all(|w| w[12] - w[0] >= HOUR), "{times:?}");
    assert_eq!(times.len(), 5 * 12, "the whole allowance is used");
}

#[test]
fn a_clock_that_is_set_back_ends_waits_and_blocks_for_an_hour_at_most() {
    let mut looped = Loop::converged();
    looped.limits.decides_per_hour = 12;
    looped.reply = ScriptedReply::Done;
    looped.sets("a", 1);
    looped.runs(MINUTE, HOUR, &mut |_, _| {});
    let (before, back) = (looped.asked.len(), looped.now.unix_ms - DAY);
    looped.now.unix_ms = back;
    let asked = looped.runs(MINUTE, 6 * HOUR, &mut |_, _| {});
    let times: Vec<i64> = looped.asked[before..].iter().map(|(at, _)| *at).collect();
    assert!(times.first().is_some_and(|at| at - back <= HOUR + MINUTE), "blocked for too long: {times:?}");
    let early = times.iter().filter(|at| **at - back < HOUR).count();
    assert!(early <= 1, "the clock must not free the rate: {times:?}");
    assert!((5 * 12..=6 * 12).contains(&asked), "{asked}");
    looped.beat.decides.clear();
    looped.beat.backoff = Some(Backoff {
        fails: 9,
        since_ms: None,
        at_ms: back + DAY,
        user_files: looped.observed.user_files.clone(),
    });
    assert!(matches!(looped.judge(), GateDecision::Decide(_)), "a wait that starts in the future is over");
}

#[test]
fn a_flapping_sensor_costs_one_decision_each_quarter_of_an_hour() {
    // The sensor's value at the n-th beat: always another one; or two changes in three beats.
    for pattern in [|n: i64| n, |n: i64| n - n / 3] {
        let mut looped = Loop::converged();
        let asked = looped.runs(MINUTE, DAY, &mut |l, n| l.sets("a", pattern(n + 1)));
        assert!((90..=5 + 24 * 4 + 2).contains(&asked), "{asked}");
        looped.sets("a", -1);
        let decision = looped.after(S);
        assert_eq!(hold(&decision), &Hold::Flapping { sensors: vec!["a".to_owned()] });
        looped.sets("b", 1);
        assert_eq!(looped.tick(), changed("b"), "another sensor wakes at once");
    }
    let mut looped = Loop::converged();
    looped.beat.flaps.insert("a".to_owned(), Flap { count: 50, at_ms: T0 });
    looped.sets("a", 1);
    assert!(matches!(hold(&looped.after(15 * MINUTE - 1)), Hold::Flapping { .. }));
    assert_eq!(looped.after(1), changed("a"), "one wake each quarter of an hour at most");
}

#[test]
fn a_settled_world_is_checked_once_more_and_then_never() {
    let mut looped = Loop::converged();
    assert_eq!(next_beat_due_ms(&looped.beat, &looped.limits, looped.now), Some(6 * HOUR));
    assert_eq!(looped.after(6 * HOUR - 1), IDLE);
    assert_eq!(looped.after(1), only(Reason::Aged));
    assert_eq!(looped.after(300 * DAY), IDLE);
    assert_eq!(next_beat_due_ms(&looped.beat, &looped.limits, looped.now), None);
    looped.sets("a", 1);
    assert_eq!(looped.tick(), changed("a"));
    assert_eq!(looped.after(6 * HOUR), only(Reason::Aged), "a change allows a second check again");
    let mut never = Loop::converged();
    never.limits.noop_ttl_ms = None;
    assert_eq!(never.after(300 * DAY), IDLE);
}

#[test]
fn a_requested_look_is_clamped_durable_and_granted_three_times() {
    for (seconds, wait) in [(0, 30 * S), (100, 100 * S), (u32::MAX, 300 * S)] {
        let mut looped = Loop::new();
        looped.reply = ScriptedReply::Noop(Some(seconds));
        looped.tick();
        let text = serde_json::to_string(&looped.beat).unwrap();
        looped.beat = serde_json::from_str(&text).unwrap();
        assert_eq!(looped.after(wait - 1), IDLE, "{seconds}");
        assert_eq!(next_beat_due_ms(&looped.beat, &looped.limits, looped.now), Some(1));
        assert_eq!(looped.after(1), only(Reason::Requeue), "{seconds}");
    }
    let mut looped = Loop::new();
    looped.reply = ScriptedReply::Noop(Some(60));
    looped.tick();
    assert_eq!(looped.runs(MINUTE, 6 * HOUR - MINUTE, &mut |_, _| {}), 3, "three in a row, then not again");
    looped.sets("a", 1);
    let again = looped.runs(MINUTE, 6 * HOUR - MINUTE, &mut |_, _| {});
    assert_eq!(again, 4, "after a change, the request is granted again");
    looped.sets("a", 2);
    assert_eq!(looped.runs(MINUTE, 3 * MINUTE, &mut |_, _| {}), 3);
    looped.sets("a", 3);
    assert_eq!(looped.runs(MINUTE, HOUR, &mut |_, _| {}), 4, "the count starts at the last change");
    looped.sets("a", 4);
    let month = looped.runs(MINUTE, 30 * DAY, &mut |_, _| {});
    assert!(month <= 8, "including the second check, and then no more");
}

#[test]
fn a_requested_look_is_used_up_only_by_an_attempt() {
    let mut looped = Loop::new();
    looped.reply = ScriptedReply::Noop(Some(60));
    looped.tick();
    let requeue = looped.beat.requeue.clone();
    looped.limits.decides_per_hour = 1;
    assert!(matches!(hold(&looped.after(MINUTE)), Hold::RateLimited { .. }));
    assert_eq!(looped.beat.requeue, requeue, "a beat that is held keeps the request");
    looped.limits.decides_per_hour = 9;
    looped.reply = ScriptedReply::Cancelled;
    assert_eq!((looped.tick(), &looped.beat.requeue), (only(Reason::Requeue), &requeue));
    looped.reply = ScriptedReply::Fails;
    assert_eq!((looped.tick(), &looped.beat.requeue), (only(Reason::Requeue), &None));
}

#[test]
fn thirty_days_of_an_unchanged_world_cost_two_requests() {
    let rows = [
        (ScriptedReply::Noop(None), Some(6 * HOUR), 2),
        (ScriptedReply::Noop(None), None, 1),
        (ScriptedReply::Refused, Some(6 * HOUR), 3),
    ];
    for (reply, noop_ttl_ms, requests) in rows {
        let mut looped = Loop::new();
        looped.limits.noop_ttl_ms = noop_ttl_ms;
        looped.reply = reply;
        let beats = 30 * DAY / MINUTE;
        assert_eq!(beats, 43_200);
        let mut saved_by_idle = 0;
        for _ in 0..beats {
            let (asked, saves) = (looped.asked.len(), looped.saves);
            looped.tick();
            saved_by_idle += usize::from(looped.asked.len() == asked) * (looped.saves - saves);
            looped.now.unix_ms += MINUTE;
        }
        assert_eq!((looped.asked.len(), saved_by_idle), (requests, 0), "{reply:?}: {:?}", looped.asked);
    }
}

#[test]
fn an_edit_of_the_user_ends_a_wait_but_only_success_clears_the_count() {
    for goal in ["g", "playbook"] {
        let mut looped = Loop::converged();
        let edit = |l: &mut Loop, text: &str| {
            l.observed.world.goals.insert(name(goal), Goal::Text(text.to_owned()));
            l.look();
        };
        looped.reply = ScriptedReply::Fails;
        edit(&mut looped, "one");
        assert!(matches!(looped.tick(), GateDecision::Decide(_)));
        looped.sets("a", 1);
        let waits = matches!(hold(&looped.tick()), Hold::BackingOff { fails: 1, .. });
        assert!(waits, "a change of a sensor is not an edit of the user");
        edit(&mut looped, "two");
        assert!(matches!(looped.tick(), GateDecision::Decide(_)), "an edit of the goal {goal} ends the wait");
        let why = "crashed: why".to_owned();
        assert_eq!(hold(&looped.tick()), &Hold::BackingOff { fails: 2, left_ms: 30 * S, why });
        looped.observed.world.playbook.push_str("Hurry.\n");
        looped.look();
        looped.reply = ScriptedReply::Noop(None);
        assert!(matches!(looped.tick(), GateDecision::Decide(_)));
        assert_eq!(looped.beat.backoff, None);
    }
}
