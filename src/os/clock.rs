//! Clocks: the only module that reads one.

#![allow(clippy::disallowed_methods, reason = "this module owns the clock")]

use std::fs::File;
use std::io::Read;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use rustix::time::{ClockId, clock_gettime};

use crate::rules::time::{Now, Zone};

/// The longest file of a time zone, in bytes.
const MAX_ZONE_BYTES: u64 = 1 << 20;

/// Returns the wall clock with the local zone. Reads it from the kernel, because the calendar's own clock panics outside
/// of its range of years.
pub fn now() -> Now {
    static LOCAL: LazyLock<TimeZone> = LazyLock::new(local_zone);
    let time = clock_gettime(ClockId::Realtime);
    Now::from_clock(time.tv_sec, time.tv_nsec, Zone::Rules(&LOCAL))
}

/// Reads the zone of this machine, or of `TZ` if that is set. The calendar's own way lists all zones of the disk first,
/// which would be a fifth of the time of a short command.
fn local_zone() -> TimeZone {
    if std::env::var_os("TZ").is_some() {
        return TimeZone::system();
    }
    let mut bytes = Vec::new();
    let read =
        File::open("/etc/localtime").and_then(|file| file.take(MAX_ZONE_BYTES).read_to_end(&mut bytes));
    read.ok().and_then(|_| TimeZone::tzif("Local", &bytes).ok()).unwrap_or(TimeZone::UTC)
}

/// Returns the milliseconds since the Unix epoch. Unlike [`now`], it loads no time zone.
pub fn unix_ms() -> i64 {
    let time = clock_gettime(ClockId::Realtime);
    Now::from_clock(time.tv_sec, time.tv_nsec, Zone::Fixed(0)).unix_ms
}

/// A moment in the future, on a clock that is never set.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    start: Instant,
    length: Duration,
}

impl Deadline {
    /// Makes a deadline `ms` milliseconds from now; a negative number means now.
    pub fn after_ms(ms: i64) -> Deadline {
        Deadline { start: Instant::now(), length: Duration::from_millis(ms.max(0) as u64) }
    }

    /// Returns the remaining time, zero if it has passed.
    pub fn left(&self) -> Duration {
        self.length.saturating_sub(self.start.elapsed())
    }

    /// Returns true if it has passed.
    pub fn passed(&self) -> bool {
        self.left().is_zero()
    }

    /// Returns the milliseconds since it was made.
    pub fn spent_ms(&self) -> i64 {
        i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

/// Returns milliseconds since boot on a clock that is never set and stops while the machine sleeps.
pub fn mono_ms() -> i64 {
    read_ms(ClockId::Monotonic)
}

/// Returns milliseconds on a clock that also runs while the machine sleeps; only differences have a meaning.
pub fn uptime_ms() -> i64 {
    #[cfg(target_os = "linux")]
    return read_ms(ClockId::Boottime);
    #[cfg(not(target_os = "linux"))]
    return read_ms(ClockId::Monotonic);
}

fn read_ms(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec * 1000 + time.tv_nsec / 1_000_000
}
