//! The only place that reads a clock.

#![allow(clippy::disallowed_methods, reason = "this module owns the clock")]

use std::time::{Duration, Instant};

use chrono::{DateTime, Local, Offset, TimeZone};

use crate::model::time::Now;

/// The wall clock with the local zone's offset. It is read from the kernel, since the calendar's own clock panics
/// outside of its years.
pub fn now() -> Now {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let utc = Now::from_clock(time.tv_sec, time.tv_nsec, 0);
    let moment = DateTime::from_timestamp_millis(utc.unix_ms).unwrap_or_default().naive_utc();
    Now { offset_s: Local.offset_from_utc_datetime(&moment).fix().local_minus_utc(), ..utc }
}

/// A moment in the future, on a clock that is never set; compared with [`Deadline::left`].
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    start: Instant,
    length: Duration,
}

impl Deadline {
    /// A deadline so many milliseconds from now; a negative number is now.
    pub fn after_ms(ms: i64) -> Deadline {
        Deadline { start: Instant::now(), length: Duration::from_millis(ms.max(0) as u64) }
    }

    /// What is left of it, zero when it has passed.
    pub fn left(&self) -> Duration {
        self.length.saturating_sub(self.start.elapsed())
    }

    /// True when it has passed.
    pub fn passed(&self) -> bool {
        self.left().is_zero()
    }

    /// Milliseconds since it was made.
    pub fn spent_ms(&self) -> i64 {
        i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

/// Milliseconds on a clock that is never set and stands still while the machine sleeps; it begins with the boot.
pub fn mono_ms() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec * 1000 + time.tv_nsec / 1_000_000
}

/// Milliseconds on a clock that also runs while the machine sleeps; only differences mean something.
pub fn uptime_ms() -> i64 {
    #[cfg(target_os = "linux")]
    let id = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let id = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(id);
    time.tv_sec * 1000 + time.tv_nsec / 1_000_000
}
