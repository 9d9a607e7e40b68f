//! Tests of the transcript: a reader gets what was written, except bytes that were rotated away or lost.

use std::fs::OpenOptions;

use proptest::prelude::*;

use super::*;

fn worker() -> (tempfile::TempDir, WorkerDir) {
    let dir = tempfile::tempdir().unwrap();
    let worker = WorkerDir(dir.path().to_owned());
    (dir, worker)
}

/// A transcript that starts at 0 ms and keeps so many bytes.
fn written(keep: u64) -> (tempfile::TempDir, WorkerDir, TranscriptWriter) {
    let (temp, dir) = worker();
    let writer = TranscriptWriter::create(&dir, 0, Size::DEFAULT, keep).unwrap();
    (temp, dir, writer)
}

/// Fills the disk under a transcript. Returns its real file.
fn fill(writer: &mut TranscriptWriter) -> Option<File> {
    writer.raw.replace(OpenOptions::new().write(true).open("/dev/full").unwrap())
}

/// Reads everything that is there now: bytes with their times, and the other events with their offsets.
fn drain(reader: &mut TranscriptReader, step: usize) -> (Vec<u8>, Vec<(u64, TranscriptEvent)>) {
    let (mut bytes, mut events) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; step];
    while let Some(event) = reader.next(&mut buffer).unwrap() {
        match event {
            TranscriptEvent::Output { length, .. } => bytes.extend_from_slice(&buffer[..length]),
            other => events.push((reader.offset(), other)),
        }
    }
    (bytes, events)
}

fn text(dir: &WorkerDir) -> String {
    String::from_utf8(drain(&mut TranscriptReader::open(dir).unwrap(), 64).0).unwrap()
}

#[test]
fn a_missing_transcript_is_empty() {
    let (_temp, dir) = worker();
    let mut reader = TranscriptReader::open(&dir).unwrap();
    assert_eq!((reader.offset(), reader.end_offset().unwrap()), (0, 0));
    assert_eq!(drain(&mut reader, 10).0, b"");
    // A reader that was opened before the writer sees new output.
    let mut writer = TranscriptWriter::create(&dir, 0, Size::DEFAULT, 1 << 20).unwrap();
    writer.append(b"here", 1);
    assert_eq!(drain(&mut reader, 10).0, b"here");
}

#[test]
fn times_and_sizes_come_with_the_bytes() {
    let (_temp, dir) = worker();
    let mut writer = TranscriptWriter::create(&dir, 1000, Size::DEFAULT, 1 << 20).unwrap();
    writer.append(b"a", 1000);
    writer.append(b"b", 1010);
    writer.resize(100, 30, 1015);
    writer.append(b"c", 1025);
    writer.append(b"d", 900);
    let index = fs::read_to_string(dir.index()).unwrap();
    let lines: Vec<&str> = index.lines().collect();
    assert_eq!(lines[1..], ["[0,0]", "[15,2,100,30]", "[25,2]"], "at most one line in 20 ms, none goes back");
    let mut reader = TranscriptReader::open(&dir).unwrap();
    assert_eq!((reader.size(), reader.start_ms()), (Some((80, 24)), Some(1000)));
    let mut buffer = [0; 10];
    let mut next = || reader.next(&mut buffer).unwrap();
    assert_eq!(next(), Some(TranscriptEvent::Output { ms: Some(0), length: 2 }));
    assert_eq!(next(), Some(TranscriptEvent::Resize { ms: 15, cols: 100, rows: 30 }));
    assert_eq!(next(), Some(TranscriptEvent::Output { ms: Some(25), length: 2 }));
    assert_eq!(next(), None);
    reader.seek(2).unwrap();
    assert_eq!(reader.size(), Some((100, 30)), "the size at an offset counts what was before it");
}

#[test]
fn a_rotation_keeps_the_newer_half_and_the_offsets() {
    let (_temp, dir, mut writer) = written(20);
    let mut early = TranscriptReader::open(&dir).unwrap();
    writer.append(b"0123456789", 1);
    writer.append(b"abcdefghij", 2);
    assert_eq!(text(&dir), "0123456789abcdefghij");
    assert_eq!(drain(&mut early, 3).0, b"0123456789abcdefghij");
    writer.append(b"K", 3);
    assert_eq!(text(&dir), "abcdefghijK");
    assert_eq!(drain(&mut early, 3).0, b"K", "a reader that keeps up loses nothing to rotations");
    let mut reader = TranscriptReader::open(&dir).unwrap();
    assert_eq!((reader.offset(), reader.end_offset().unwrap()), (10, 21));
    reader.seek(15).unwrap();
    assert_eq!(drain(&mut reader, 64).0, b"fghijK");
    reader.seek(3).unwrap();
    assert_eq!(reader.offset(), 10, "what is gone is skipped");
    writer.append(b"0123456789012345678901234567890", 4);
    let (bytes, _) = drain(&mut early, 3);
    assert!(bytes.ends_with(b"01234567890") && early.offset() == writer.offset(), "{bytes:?}");
}

#[test]
fn a_size_change_in_a_skipped_part_is_reported() {
    let (_temp, dir, mut writer) = written(4);
    let mut reader = TranscriptReader::open(&dir).unwrap();
    writer.append(b"a", 1);
    drain(&mut reader, 8);
    writer.resize(10, 5, 2);
    writer.append(b"bcdefghijk", 3);
    let (bytes, events) = drain(&mut reader, 8);
    assert_eq!(bytes, b"bijk", "its own file to the end, then what is still there");
    let is_size = |event: &_| matches!(event, TranscriptEvent::Resize { cols: 10, rows: 5, .. });
    assert!(events.iter().any(|(_, event)| is_size(event)), "{events:?}");
    assert_eq!(reader.size(), Some((10, 5)));
}

#[test]
fn a_full_disk_loses_output_and_keeps_offsets() {
    let (_temp, dir, mut writer) = written(1000);
    assert_eq!(writer.append(b"before", 1), 0);
    let real = fill(&mut writer);
    let mut reader = TranscriptReader::open(&dir).unwrap();
    assert_eq!(writer.append(b"lost!", 2), 5, "the kernel said ENOSPC");
    assert_eq!(drain(&mut reader, 64).0, b"before");
    assert_eq!(drain(&mut reader, 64).0, b"", "a reader does not spin on what is not there");
    writer.raw = real;
    assert_eq!(writer.append(b"after", 30), 0);
    assert_eq!(writer.offset(), 16);
    let (bytes, events) = drain(&mut reader, 64);
    assert_eq!(bytes, b"\0\0\0\0\0after", "offsets keep counting");
    assert_eq!(events, [(11, TranscriptEvent::Lost { ms: 30, bytes: 5 })]);
    assert_eq!(reader.offset(), writer.offset());
}

#[test]
fn a_loss_that_spans_a_rotation_is_skipped() {
    let (_temp, dir, mut writer) = written(16);
    writer.append(b"abcd", 1);
    let mut reader = TranscriptReader::open(&dir).unwrap();
    let real = fill(&mut writer);
    assert_eq!(writer.append(b"1234", 2), 4);
    drop(real);
    assert_eq!(writer.append(b"efgh", 3), 0);
    assert_eq!(drain(&mut reader, 64).0, b"abcdefgh");
    assert_eq!(reader.offset(), 12);
}

#[test]
fn a_failed_rotation_is_tried_again() {
    let (_temp, dir, mut writer) = written(8);
    writer.append(b"abcd", 1);
    // A directory blocks the name to which the file must move.
    fs::create_dir(dir.old_transcript()).unwrap();
    assert_eq!(writer.append(b"efgh", 2), 4);
    assert_eq!(fs::read(dir.transcript()).unwrap(), b"abcd", "a full file does not grow");
    fs::remove_dir(dir.old_transcript()).unwrap();
    assert_eq!(writer.append(b"ijkl", 3), 0);
    assert_eq!(text(&dir), "abcdijkl");
    assert_eq!(writer.offset(), 12);
}

#[test]
fn a_corrupt_index_loses_times_and_never_bytes() {
    let (_temp, dir, mut writer) = written(20);
    writer.append(b"0123456789abcde", 1);
    writer.resize(7, 7, 2);
    writer.append(b"fgh", 40);
    for junk in ["", "{", "[1,2", "nonsense\n[1]\n[99999999999999999999,0]\n[3,12,0,0]\n[4,11,1e3,5]\n"] {
        for path in [dir.index(), dir.old_index()] {
            fs::write(path, junk).unwrap();
            assert_eq!(text(&dir), "0123456789abcdefgh", "{junk:?}");
        }
    }
    fs::write(dir.index(), "x".repeat(100_000) + "\n").unwrap();
    fs::remove_file(dir.old_index()).unwrap();
    assert_eq!(text(&dir), "0123456789abcdefgh");
    let reader = TranscriptReader::open(&dir).unwrap();
    assert_eq!((reader.offset(), reader.end_offset().unwrap()), (0, 18));
}

#[test]
fn a_partly_written_line_is_read_once_it_is_whole() {
    let (_temp, dir, mut writer) = written(1000);
    writer.append(b"abc", 1);
    let mut reader = TranscriptReader::open(&dir).unwrap();
    drain(&mut reader, 8);
    let whole = fs::read_to_string(dir.index()).unwrap();
    fs::write(dir.index(), format!("{whole}[50,3,9")).unwrap();
    assert_eq!(drain(&mut reader, 8).1, []);
    fs::write(dir.index(), format!("{whole}[50,3,90,20]\n")).unwrap();
    assert_eq!(drain(&mut reader, 8).1, [(3, TranscriptEvent::Resize { ms: 50, cols: 90, rows: 20 })]);
}

/// Each state that a crash in the middle of a rotation leaves: the bytes keep their offsets.
#[test]
fn an_interrupted_rotation_keeps_all_bytes() {
    for steps in 1..=4 {
        let (_temp, dir, mut writer) = written(20);
        writer.append(b"0123456789abcdefghijABCDEFGHIJ", 1);
        drop(writer);
        let done: [&dyn Fn(); 4] = [
            &|| fs::remove_file(dir.old_index()).unwrap(),
            &|| fs::rename(dir.transcript(), dir.old_transcript()).unwrap(),
            &|| fs::rename(dir.index(), dir.old_index()).unwrap(),
            &|| {
                fs::write(dir.index(), r#"{"base":30,"start_ms":0,"cols":80,"rows":24}"#.to_owned() + "\n")
                    .unwrap()
            },
        ];
        done.iter().take(steps).for_each(|step| step());
        let mut reader = TranscriptReader::open(&dir).unwrap();
        let (bytes, _) = drain(&mut reader, 64);
        let expected: &[u8] = if steps == 1 { b"abcdefghijABCDEFGHIJ" } else { b"ABCDEFGHIJ" };
        assert_eq!((bytes.as_slice(), reader.offset()), (expected, 30), "after step {steps}");
    }
}

#[test]
fn the_index_of_a_long_running_worker_stays_small() {
    let (_temp, _dir, mut writer) = written(1 << 30);
    writer.index.as_mut().unwrap().1 = 8 << 20;
    for n in 0..1000 {
        writer.append(b"x", n * 20);
    }
    let length = writer.index.as_ref().unwrap().1 - (8 << 20);
    assert!(length < 100, "{length} bytes for 20 s");
}

/// The byte that belongs to an offset.
fn byte_at(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

#[test]
fn a_reader_that_races_rotations_reads_correct_offsets() {
    let (_temp, dir, mut writer) = written(600);
    let mut reader = TranscriptReader::open(&dir).unwrap();
    let total = 400_000;
    let thread = std::thread::spawn(move || {
        while writer.offset() < total {
            let from = writer.offset();
            let bytes: Vec<u8> = (from..from + 97).map(byte_at).collect();
            assert_eq!(writer.append(&bytes, from.cast_signed()), 0);
        }
    });
    let mut buffer = [0; 256];
    loop {
        let over = thread.is_finished();
        match reader.next(&mut buffer).unwrap() {
            Some(TranscriptEvent::Output { length, .. }) => {
                let from = reader.offset() - length as u64;
                let expected: Vec<u8> = (from..from + length as u64).map(byte_at).collect();
                assert!(buffer[..length] == expected, "at {from}: {reader:?}");
            }
            None if over => break,
            _ => {}
        }
        // A reader that opens it in the meantime gets correct offsets too.
        let mut other = TranscriptReader::open(&dir).unwrap();
        if let Some(TranscriptEvent::Output { length, .. }) = other.next(&mut buffer).unwrap() {
            assert_eq!(buffer[0], byte_at(other.offset() - length as u64));
        }
    }
    thread.join().unwrap();
    assert!(reader.offset() >= total);
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<u8>),
    Resize(u16, u16),
    Read(usize),
    Fail(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..80).prop_map(Step::Append),
        1 => (1_u16..300, 1_u16..300).prop_map(|(cols, rows)| Step::Resize(cols, rows)),
        2 => (1_usize..50).prop_map(Step::Read),
        1 => any::<bool>().prop_map(Step::Fail),
    ];
    proptest::collection::vec(step, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_reader_gets_what_was_written_except_removed_bytes(steps in steps(), keep in 2_u64..200) {
        let (_temp, dir, mut writer) = written(keep);
        // The expected byte at each logical offset; a byte that could not be written is a zero.
        let mut all: Vec<u8> = Vec::new();
        let mut live = TranscriptReader::open(&dir).unwrap();
        let (mut size, mut live_size, mut real) = ((80, 24), (80, 24), None);
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Append(bytes) => {
                    let lost = usize::try_from(writer.append(&bytes, n as i64 * 7)).unwrap();
                    prop_assert!(lost <= bytes.len());
                    if real.is_some() && lost > 0 {
                        // After a rotation the writer's disk has space again.
                        all.extend(vec![0; lost]);
                        all.extend(&bytes[lost..]);
                    } else {
                        all.extend(&bytes);
                    }
                }
                Step::Resize(cols, rows) => {
                    writer.resize(cols, rows, n as i64 * 7);
                    size = (cols, rows);
                }
                Step::Read(step) => {
                    let mut buffer = vec![0; step];
                    while let Some(event) = live.next(&mut buffer).unwrap() {
                        match event {
                            TranscriptEvent::Output { length, .. } => {
                                let end = usize::try_from(live.offset()).unwrap();
                                prop_assert_eq!(&buffer[..length], &all[end - length..end]);
                            }
                            TranscriptEvent::Resize { cols, rows, .. } => live_size = (cols, rows),
                            TranscriptEvent::Lost { .. } => {}
                        }
                    }
                    // If the last bytes are lost, a size is reported with the first byte after them.
                    if live.offset() == writer.offset() {
                        prop_assert_eq!(live_size, size);
                    }
                }
                Step::Fail(true) if real.is_none() => {
                    real = fill(&mut writer);
                }
                Step::Fail(_) => {
                    if let Some(file) = real.take()
                        && id_matches(&file, &dir)
                    {
                        writer.raw = Some(file);
                    }
                }
            }
        }
        let mut fresh = TranscriptReader::open(&dir).unwrap();
        let first = usize::try_from(fresh.offset()).unwrap();
        let (bytes, _) = drain(&mut fresh, 13);
        let end = usize::try_from(fresh.offset()).unwrap();
        // Lost bytes at the very end, or at the end of the older file, are in no file.
        prop_assert_eq!(squeeze(&bytes), squeeze(&all[first..end]));
        prop_assert!(all[end..].iter().all(|byte| *byte == 0));
        prop_assert!(bytes.len() as u64 <= keep.max(2));
        if end == all.len() {
            prop_assert_eq!(fresh.size(), Some(size));
        }
    }
}

fn squeeze(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().filter(|byte| *byte != 0).collect()
}

fn id_matches(file: &File, dir: &WorkerDir) -> bool {
    use std::os::unix::fs::MetadataExt;
    let here = fs::metadata(dir.transcript());
    here.is_ok_and(|here| here.ino() == file.metadata().unwrap().ino())
}
