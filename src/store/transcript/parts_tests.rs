//! Tests of the files of a transcript: which files a reader pairs while they are rotated.

use std::fs;

use super::*;

/// Whatever a writer does between any two accesses of a reader to the disk, each file gets its own index: two rotations
/// in single steps, stopped at every step before a reader comes, and continued by every number of steps at any two of
/// its accesses.
#[test]
fn a_reader_during_rotations_gives_each_file_its_own_index() {
    let header = |base: u64| format!("{{\"base\":{base},\"start_ms\":0,\"cols\":80,\"rows\":24}}\n");
    let write = |path: &Path, text: &str| fs::write(path, text).unwrap();
    let step = |dir: &WorkerDir, n: usize| {
        let base = 100 * (n as u64 / 6 + 1);
        match n % 6 {
            0 => drop(fs::remove_file(dir.old_index())),
            1 => fs::rename(dir.transcript(), dir.old_transcript()).unwrap(),
            2 => fs::rename(dir.index(), dir.old_index()).unwrap(),
            3 => write(&dir.index(), ""),
            4 => write(&dir.index(), &header(base)),
            _ => write(&dir.transcript(), &format!("{base:<100}")),
        }
    };
    let (mut looked, mut most_looks) = (0, 0);
    let mut check = |before: usize, first: (usize, usize), second: (usize, usize)| {
        let temp = tempfile::tempdir().unwrap();
        let dir = WorkerDir(temp.path().to_owned());
        write(&dir.index(), &header(0));
        write(&dir.transcript(), &format!("{:<100}", 0));
        (0..before).for_each(|n| step(&dir, n));
        let (mut done, mut looks) = (before, 0);
        let found = parts_while(&dir, &mut || {
            let more =
                [first, second].iter().filter(|(at, _)| *at == looks).map(|(_, more)| more).sum::<usize>();
            (done..(done + more).min(12)).for_each(|n| step(&dir, n));
            (done, looks) = ((done + more).min(12), looks + 1);
        });
        for part in found.unwrap() {
            let mut text = [0; 100];
            assert_eq!(part.read(&mut text, part.base).unwrap(), text.len());
            let base: u64 = str::from_utf8(&text).unwrap().trim().parse().unwrap();
            assert_eq!(part.base, base, "{before} steps, then {first:?} and {second:?} (look, steps)");
        }
        (looked, most_looks) = (looked + 1, most_looks.max(looks));
    };
    for before in 0..6 {
        for (at, then) in (0..8).flat_map(|at| (at..8).map(move |then| (at, then))) {
            for more in 0..=12 - before {
                (0..=12 - before - more).for_each(|last| check(before, (at, more), (then, last)));
            }
        }
    }
    assert!(looked > 10_000 && most_looks > 8, "{looked} ways, {most_looks} looks at most");
}
