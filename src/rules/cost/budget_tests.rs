//! Tests of the caps: what fits, which cap is hit, and when it resets.

use super::*;

/// 13:45, one hour east of Greenwich.
const NOW: Now = Now::fixed(1_795_265_100_000, 3600);

fn want(micros: u64, goal: Option<&str>, runner: &str) -> Reserved {
    Reserved { micros, goal: goal.map(str::to_owned), runner: runner.to_owned() }
}

fn spent(micros: u64) -> Spending {
    let mut spent = Spending::default();
    spent.add(micros, Some("g"), "pi", true);
    spent
}

/// Returns the cap that leaves no room for a call; of several, the one that resets last.
fn exceeded(
    budget: &Budget,
    spent: &Spending,
    others: &[Reserved],
    raised: &Raised,
    wanted: &Reserved,
    now: Now,
) -> Option<BudgetExceeded> {
    let mut all = all_exceeded(budget, spent, others, raised, wanted, now);
    assert!(all.is_sorted_by_key(|exceeded| exceeded.resets_ms));
    all.pop()
}

/// The same, if nothing is reserved for others and no cap is raised.
fn stopped(budget: &Budget, spent: &Spending, wanted: &Reserved) -> Option<BudgetExceeded> {
    exceeded(budget, spent, &[], &Raised::new(), wanted, NOW)
}

#[test]
fn caps_are_hit_in_the_order_in_which_they_reset() {
    let one = Some(1);
    let runner_micros = [("pi".to_owned(), 1)].into();
    let caps = Budget { hour_micros: one, day_micros: one, goal_micros: one, runner_micros };
    for minutes in 0..24 * 60 {
        for offset_s in [-12_600, 0, 3600, 20_700] {
            let now = Now::fixed(NOW.unix_ms + minutes * 60_000, offset_s);
            let all = all_exceeded(&caps, &spent(1), &[], &Raised::new(), &want(1, Some("g"), "pi"), now);
            assert!(all.len() == 4 && all.is_sorted_by_key(|exceeded| exceeded.resets_ms), "{now:?}");
        }
    }
}

#[test]
fn each_cap_stops_what_it_counts_and_nothing_else() {
    let caps = |key: &str| {
        let mut caps = Budget::default();
        match key {
            "hour" => caps.hour_micros = Some(100),
            "day" => caps.day_micros = Some(100),
            "goal" => caps.goal_micros = Some(100),
            _ => caps.runner_micros = [("pi".to_owned(), 100)].into(),
        }
        caps
    };
    let window = |key: &str, wanted: &Reserved| {
        stopped(&caps(key), &spent(90), wanted).map(|exceeded| exceeded.window)
    };
    let (mine, other) = (want(11, Some("g"), "pi"), want(11, Some("other"), "codex"));
    for (key, expected) in [
        ("hour", "hour 2026-11-21T13"),
        ("day", "day 2026-11-21"),
        ("goal", "goal g 2026-11-21"),
        ("runner", "runner pi 2026-11-21"),
    ] {
        assert_eq!(window(key, &mine).as_deref(), Some(expected));
        assert_eq!(window(key, &want(10, Some("g"), "pi")), None, "{key}: the call fits exactly");
        let counts_all = ["hour", "day"].contains(&key);
        assert_eq!(window(key, &other).as_deref(), counts_all.then_some(expected), "another goal and runner");
    }
    assert_eq!(window("goal", &want(11, None, "pi")), None, "the goal is not known yet");
    assert_eq!(stopped(&Budget::default(), &spent(u64::MAX), &mine), None, "no cap");
}

#[test]
fn what_is_reserved_for_others_is_not_available() {
    let caps = Budget { day_micros: Some(100), goal_micros: Some(50), ..Budget::default() };
    let held = [want(20, Some("g"), "pi"), want(30, Some("h"), "pi")];
    let stopped = |micros, goal| {
        exceeded(&caps, &Spending::default(), &held, &Raised::new(), &want(micros, goal, "pi"), NOW)
    };
    assert!(stopped(30, Some("g")).is_none());
    let over = stopped(31, Some("g")).unwrap();
    assert_eq!((over.window.as_str(), over.reserved_micros), ("goal g 2026-11-21", 20));
    assert!(stopped(50, None).is_none());
    assert_eq!(stopped(51, None).unwrap().reserved_micros, 50);
}

#[test]
fn a_call_that_costs_more_than_a_whole_cap_has_room_once() {
    let caps = Budget { day_micros: Some(10), ..Budget::default() };
    let costly = want(250_000, None, "pi");
    let first = stopped(&caps, &Spending::default(), &costly);
    assert_eq!(first, None, "otherwise a small cap would block every call");
    assert!(stopped(&caps, &spent(1), &costly).is_some());
    let none = Budget { day_micros: Some(0), ..Budget::default() };
    let out = stopped(&none, &Spending::default(), &want(0, None, "pi"));
    assert!(out.is_some(), "a cap of 0 blocks every call");
}

#[test]
fn a_raised_cap_has_room_for_the_call_until_it_resets() {
    let caps = Budget { day_micros: Some(100), hour_micros: Some(100), ..Budget::default() };
    let (spent, wanted) = (spent(360), want(70, None, "pi"));
    let exceeded_at = |raised: &Raised, now| exceeded(&caps, &spent, &[], raised, &wanted, now);
    let day = exceeded_at(&Raised::new(), NOW).unwrap();
    assert_eq!(day.window, "day 2026-11-21", "the cap that resets last");
    let raised: Raised = [(day.window, Raise::Times(4))].into();
    let hour = exceeded_at(&raised, NOW).unwrap();
    assert_eq!(hour.window, "hour 2026-11-21T13");
    let raised: Raised = raised.into_iter().chain([(hour.window, Raise::Times(4))]).collect();
    assert_eq!(exceeded_at(&raised, NOW), None);
    assert_eq!(caps.day_limit(&raised, NOW), Some(500));
    let tomorrow = NOW.at(NOW.unix_ms + 86_400_000);
    assert!(exceeded_at(&raised, tomorrow).is_some(), "tomorrow is another day");
    assert_eq!(caps.day_limit(&raised, tomorrow), Some(100));
}

#[test]
fn a_cap_reports_its_reset_in_local_time() {
    let caps = Budget { hour_micros: Some(1_000_000), ..Budget::default() };
    let (held, wanted) = ([want(50_000, None, "x")], want(60_000, None, "pi"));
    let at = |now| exceeded(&caps, &spent(900_000), &held, &Raised::new(), &wanted, now);
    let hour = at(NOW).unwrap();
    assert_eq!(hour.resets_ms - NOW.unix_ms, 15 * 60_000);
    assert_eq!(
        hour.words(NOW),
        "the budget of hour 2026-11-21T13 is used up ($0.90 of $1.00 spent, $0.05 reserved for running calls, \
         $0.06 needed for the next call); it resets at 2026-11-21 14:00"
    );
    let half = Now::fixed(NOW.unix_ms, 19_800);
    let local_ms = at(half).unwrap().resets_ms + 19_800_000;
    assert_eq!(local_ms % 3_600_000, 0, "an hour in a zone with a half-hour offset");
    let day = Budget { day_micros: Some(0), ..Budget::default() };
    let midnight = stopped(&day, &spent(0), &want(0, None, "pi")).unwrap().resets_ms;
    assert_eq!(NOW.at(midnight).stamp(), "2026-11-22 00:00:00 +01:00");
    for far in [i64::MIN, i64::MAX] {
        assert!(at(NOW.at(far)).is_some(), "a clock that is far off");
    }
}

#[test]
fn a_raise_is_read_from_its_old_and_its_new_format() {
    let raised: Raised = serde_json::from_str(r#"{"day 2026-11-21":4,"hour x":{"to_micros":700}}"#).unwrap();
    assert_eq!(raised["day 2026-11-21"], Raise::Times(4));
    assert_eq!(raised["hour x"], Raise::To(700));
    let text = serde_json::to_string(&raised).unwrap();
    assert_eq!(serde_json::from_str::<Raised>(&text).unwrap(), raised);
    for bad in ["-1", "1.5", "{}", "null", "\"4\"", r#"{"to_micros":-1}"#, "18446744073709551616"] {
        assert!(serde_json::from_str::<Raise>(bad).is_err(), "{bad}");
    }
    assert_eq!((Raise::Times(u32::MAX).limit(u64::MAX), Raise::To(5).limit(9)), (u64::MAX, 9));
}

#[test]
fn a_cap_resets_at_the_end_of_the_local_hour_and_day_when_summer_time_begins_and_ends() {
    let berlin = jiff::tz::TimeZoneDatabase::bundled().get("Europe/Berlin").unwrap();
    let zone = crate::rules::time::Zone::Rules(Box::leak(Box::new(berlin)));
    let moment = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_millisecond();
    for (period, now, end) in [
        (DAY, "2026-03-29T00:30:00Z", "2026-03-29T22:00:00Z"),
        (DAY, "2026-10-24T22:30:00Z", "2026-10-25T23:00:00Z"),
        (HOUR, "2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z"),
        // From 02:00 to 03:00 twice: one hour of the budget.
        (HOUR, "2026-10-25T00:30:00Z", "2026-10-25T02:00:00Z"),
        (HOUR, "2026-10-25T01:30:00Z", "2026-10-25T02:00:00Z"),
    ] {
        assert_eq!(period.end_ms(Now { unix_ms: moment(now), zone }), moment(end), "{now}");
    }
}
