//! Tests of leases, one rule at a time: who is alive, who may take a lease, what the messages say, and which files are
//! leases.

use proptest::prelude::*;

use super::*;
use crate::rules::name::tests::name;
use crate::rules::process::Started;

fn here(boot: &str, mono_ms: i64) -> Here {
    Here { host: "box".to_owned(), boot: boot.to_owned(), mono_ms, unix_ms: 1_795_218_410_413 }
}

fn worker(id: &str, pid: u32, pid_start: u64) -> HolderIdentity {
    HolderIdentity { holder: Holder::Worker(name(id)), pid, pid_start, pid_ns: 1, ttl: Ttl::DEFAULT }
}

fn user(id: &str) -> HolderIdentity {
    let holder = Holder::User(id.to_owned());
    HolderIdentity { holder, pid: 0, pid_start: 0, pid_ns: 0, ttl: Ttl::DEFAULT }
}

fn take(found: &LeaseRead, who: &HolderIdentity, here: &Here, alive: Alive) -> Result<Lease, Refusal> {
    acquire(&name("door"), found, 0, who, here, alive).map(|grant| grant.lease)
}

/// A worker's lease of epoch 1, taken at 0 ms of boot `b`.
fn first() -> Lease {
    take(&LeaseRead::Absent, &worker("fix", 7, 70), &here("b", 0), Alive::Unknown).unwrap()
}

#[test]
fn a_lease_keeps_its_format() {
    let text = serde_json::to_string(&first()).unwrap();
    let form = r#"{"resource":"door","holder":"fix","pid":7,"pid_start":70,"pid_ns":1,"host":"box","boot":"b","epoch":1,"acquired_ms":1795218410413,"renewed_mono_ms":0,"ttl_s":60}"#;
    assert_eq!(text, form);
    for text in [&text, &text.replace("acquired_ms", "acquired")] {
        assert_eq!(serde_json::from_str::<Lease>(text).unwrap(), first(), "0.1 wrote the second form");
    }
    for (from, to) in [
        ("\"fix\"", "\"human:\""),
        ("\"fix\"", "\"human:a\\u001b[2J\""),
        ("\"fix\"", "\"../x\""),
        (":60}", ":4}"),
        (":60}", ":86401}"),
        (":60}", ":60,\"x\":1}"),
    ] {
        assert!(serde_json::from_str::<Lease>(&text.replace(from, to)).is_err(), "{to}");
    }
}

#[test]
fn only_the_very_process_that_took_it_keeps_it_alive() {
    let now = |pid, start, boot: &str| Started { pid, start, boot: boot.to_owned() };
    let liveness = |locked, state: Option<Started>| alive(&first(), locked, state.as_ref());
    assert_eq!(liveness(Some(true), Some(now(7, 70, "b"))), Alive::Yes);
    assert_eq!(liveness(Some(true), Some(now(7, 71, "b"))), Alive::No, "the process id was reused");
    let reused = liveness(Some(true), Some(now(7, 70, "c")));
    assert_eq!(reused, Alive::No, "process id and start time were reused");
    assert_eq!(liveness(Some(false), Some(now(7, 70, "b"))), Alive::No, "nothing holds the lock");
    assert_eq!(liveness(Some(true), None), Alive::Unknown);
    assert_eq!(liveness(None, Some(now(7, 70, "b"))), Alive::Unknown, "an error does not mean dead");
}

#[test]
fn a_worker_keeps_its_lease_while_it_lives_and_renews() {
    let found = LeaseRead::Lease(first());
    let other = worker("other", 8, 80);
    let at = |ms| here("b", ms);
    for alive in [Alive::Yes, Alive::Unknown] {
        let refusal = take(&found, &other, &at(119_999), alive).unwrap_err();
        assert_eq!(refusal.free_in_ms, Some(1));
        assert_eq!(take(&found, &other, &at(120_000), alive).unwrap().epoch, 2);
    }
    let at_once = take(&found, &other, &at(0), Alive::No).unwrap();
    assert_eq!(at_once.epoch, 2, "a dead holder's lease is free at once");
    let again = LeaseRead::Lease(renewed(&first(), 100_000));
    assert!(take(&again, &other, &at(219_999), Alive::Yes).is_err());
    let text = take(&found, &other, &at(20_000), Alive::Yes).unwrap_err().to_string();
    assert_eq!(text, "worker fix has it (epoch 1), for 1m 40s unless it is renewed");
}

#[test]
fn another_boot_means_dead_and_another_machine_needs_the_user() {
    let found = LeaseRead::Lease(first());
    let other = worker("other", 8, 80);
    assert_eq!(take(&found, &other, &here("c", 0), Alive::Yes).unwrap().epoch, 2);
    let far = |boot: &str| Here { host: "far".to_owned(), ..here(boot, 1 << 40) };
    let refusal = take(&found, &other, &far("c"), Alive::No).unwrap_err();
    assert_eq!(refusal.free_in_ms, None);
    assert!(refusal.to_string().ends_with("only the user can release it"), "{refusal}");
    assert!(take(&found, &other, &far("b"), Alive::No).is_ok(), "the same boot is the same machine");
}

#[test]
fn a_claim_by_its_holder_is_a_renewal_and_one_by_its_successor_is_not() {
    let found = LeaseRead::Lease(first());
    let again = take(&found, &worker("fix", 7, 70), &here("b", 500), Alive::Unknown).unwrap();
    assert_eq!((again.epoch, again.renewed_mono_ms), (1, 500));
    let late = take(&found, &worker("fix", 7, 70), &here("b", 500_000), Alive::Yes).unwrap();
    assert_eq!(late.epoch, 1, "there was no other holder meanwhile");
    for successor in [worker("fix", 7, 71), worker("fix", 8, 70)] {
        assert_eq!(take(&found, &successor, &here("b", 500), Alive::Unknown).unwrap().epoch, 2);
    }
}

#[test]
fn a_user_holds_it_until_the_time_is_over() {
    let lease = take(&LeaseRead::Absent, &user("ada"), &here("b", 0), Alive::Unknown).unwrap();
    let found = LeaseRead::Lease(lease);
    assert!(take(&found, &user("bob"), &here("b", 59_999), Alive::No).is_err(), "a user has no process");
    assert_eq!(take(&found, &user("ada"), &here("b", 59_999), Alive::No).unwrap().epoch, 1);
    assert_eq!(take(&found, &user("ada"), &here("b", 60_000), Alive::No).unwrap().epoch, 2);
    assert_eq!(take(&found, &user("bob"), &here("b", 60_000), Alive::No).unwrap().epoch, 2);
    assert!(take(&found, &worker("ada", 1, 1), &here("b", 0), Alive::No).is_err(), "a worker with this name");
}

#[test]
fn a_lost_file_never_brings_an_epoch_back() {
    let grant = |found: &LeaseRead, max_epoch| {
        acquire(&name("door"), found, max_epoch, &user("ada"), &here("b", 0), Alive::No).unwrap()
    };
    assert_eq!(grant(&LeaseRead::Absent, 41).lease.epoch, 42);
    let corrupt = grant(&LeaseRead::Corrupt("it is empty".to_owned()), 41);
    assert!(corrupt.max_epoch > 1_000_000 && corrupt.lease.epoch == corrupt.max_epoch + 1);
    assert_eq!(corrupt.note.as_deref(), Some("its file was corrupt: it is empty"));
    assert_eq!(max_epoch_after(&LeaseRead::Lease(corrupt.lease.clone()), 41), corrupt.lease.epoch);
}

#[test]
fn the_former_holder_is_reported_who_has_it_now() {
    let fix = Holder::Worker(name("fix"));
    let mine = Holding { resource: name("door"), epoch: 1 };
    assert!(held(&LeaseRead::Lease(first()), &fix, &mine).is_ok());
    let newer = take(&LeaseRead::Lease(first()), &user("ada"), &here("c", 0), Alive::No).unwrap();
    let lost = held(&LeaseRead::Lease(newer), &fix, &mine).unwrap_err();
    assert_eq!(lost.to_string(), "the lease door (epoch 1) went to ada (epoch 2)");
    let released = held(&LeaseRead::Absent, &fix, &mine).unwrap_err();
    assert_eq!(released.to_string(), "the lease door (epoch 1) was released");
    let older = Holding { epoch: 0, ..mine };
    assert!(held(&LeaseRead::Lease(first()), &fix, &older).is_err(), "the same holder, an older epoch");
}

#[test]
fn names_of_goals_and_free_names_are_distinct() {
    assert_eq!(goal(&name("release")).as_str(), "goal.release");
    assert!(free_name("goal-release").is_ok() && free_name("goals").is_ok());
    assert!(free_name(goal(&name("release")).as_str()).is_err());
    assert!(free_name(goal(&name(&"x".repeat(64))).as_str()).is_err());
    assert!(free_name("../x").is_err() && free_name("archive").is_err());
}

fn any_lease() -> impl Strategy<Value = Lease> {
    let holder = prop_oneof![Just(worker("fix", 7, 70).holder), Just(user("ada").holder)];
    let place = (prop_oneof!["box", "far"], prop_oneof!["b", "c"]);
    (holder, 0_u32..3, 0_u64..3, place, 1_u64..1_000, 0_i64..400_000, 5_u64..=86_400).prop_map(
        |(holder, pid, pid_start, (host, boot), epoch, renewed_mono_ms, ttl)| {
            let ttl_s = Ttl::try_from(ttl).unwrap();
            let first = first();
            Lease { holder, pid, pid_start, host, boot, epoch, renewed_mono_ms, ttl_s, ..first }
        },
    )
}

fn any_identity() -> impl Strategy<Value = HolderIdentity> {
    let worker =
        (prop_oneof!["fix", "other"], 0_u32..3, 0_u64..3).prop_map(|(id, pid, s)| worker(&id, pid, s));
    prop_oneof![worker, prop_oneof!["ada", "bob"].prop_map(|id| user(&id))]
}

proptest! {
    #[test]
    fn a_new_holder_has_a_new_epoch_and_the_old_one_is_out(
        lease in any_lease(),
        identity in any_identity(),
        mono_ms in 0_i64..400_000,
        max_epoch in 0_u64..1_000,
        alive in prop_oneof![Just(Alive::Yes), Just(Alive::No), Just(Alive::Unknown)],
    ) {
        let here = here("b", mono_ms);
        let old = lease.holding();
        match acquire(&lease.resource, &LeaseRead::Lease(lease.clone()), max_epoch, &identity, &here, alive) {
            Ok(grant) => {
                let new = grant.lease;
                prop_assert!(new.may_write(&identity.holder, new.epoch));
                prop_assert_eq!(new.renewed_mono_ms, mono_ms);
                prop_assert_eq!(grant.max_epoch, max_epoch);
                let same = new.epoch == lease.epoch;
                prop_assert!(same || new.epoch > lease.epoch.max(max_epoch));
                prop_assert_eq!(same, new.may_write(&lease.holder, old.epoch));
                prop_assert!(!same || (new.holder == lease.holder && new.pid_start == lease.pid_start));
            }
            Err(refusal) => {
                prop_assert!(alive != Alive::No || lease.pid == 0 || matches!(lease.holder, Holder::User(_))
                    || lease.boot != here.boot);
                if let Some(ms) = refusal.free_in_ms {
                    prop_assert!(ms > 0 && ms <= 2 * lease.ttl_s.ms());
                    let then = Here { mono_ms: mono_ms.saturating_add(ms), ..here };
                    let later = acquire(&lease.resource, &LeaseRead::Lease(lease.clone()), max_epoch, &identity, &then, alive);
                    prop_assert!(later.is_ok() || then.mono_ms < lease.renewed_mono_ms + ms);
                }
            }
        }
    }
}
