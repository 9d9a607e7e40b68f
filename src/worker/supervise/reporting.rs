//! Deliverables of a worker on their way into the data dir: complete under their name, or absent. Secrets are removed
//! from each part as it arrives, so that a long deliverable never blocks the supervisor.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::Supervisor;
use super::serve::{ConnectionRole, Refusal};
use crate::model::name::Name;
use crate::model::secret::RedactStream;
use crate::model::wire::{MAX_REPORT, WireReply};
use crate::store::file;

/// How many deliverables a worker may hand in.
const MAX_REPORTS: usize = 100;
/// How much a worker may hand in, in bytes.
const MAX_TOTAL: usize = 32 << 20;

/// A deliverable in progress. Dropping it removes its temporary file.
pub(super) struct Upload {
    name: Name,
    temp: PathBuf,
    file: File,
    /// The number of received bytes.
    bytes: usize,
    secrets: RedactStream<'static>,
}

/// What a worker has handed in.
#[derive(Default)]
pub(super) struct ReportCount {
    /// How many deliverables were begun.
    begun: u64,
    /// How many are complete.
    count: usize,
    /// The size of the complete ones, in bytes.
    bytes: usize,
}

impl Drop for Upload {
    fn drop(&mut self) {
        // A complete deliverable has its final name by now.
        drop(std::fs::remove_file(&self.temp));
    }
}

impl Supervisor {
    pub(super) fn begin_report(&mut self, name: &str) -> Result<Upload> {
        let name: Name = name.parse().map_err(anyhow::Error::msg)?;
        self.reports.begun += 1;
        let temp = self.dir.path().join(format!(".report-{}.tmp", self.reports.begun));
        // Exclusive: the worker may have put a file of its own there.
        let file =
            File::create_new(&temp).with_context(|| format!("could not write `{}`", temp.display()))?;
        Ok(Upload { name, temp, file, bytes: 0, secrets: RedactStream::owned(self.secrets.clone()) })
    }

    /// Takes a part of a deliverable; an empty one ends it.
    pub(super) fn report_part(&mut self, at: usize, bytes: &[u8]) {
        self.conns[at].goes_on();
        let (count, total) =
            (self.reports.count, self.reports.bytes + self.reports_under_way() + bytes.len());
        let ConnectionRole::Reporting(report) = &mut self.conns[at].role else { return };
        report.bytes += bytes.len();
        let taken = if report.bytes > MAX_REPORT {
            Err(anyhow::anyhow!("a report is at most {} MiB", MAX_REPORT >> 20))
        } else if count >= MAX_REPORTS {
            Err(anyhow::anyhow!("a worker hands in at most {MAX_REPORTS} reports"))
        } else if total > MAX_TOTAL {
            Err(anyhow::anyhow!("all reports of a worker are at most {} MiB together", MAX_TOTAL >> 20))
        } else {
            report.take(bytes).and_then(|()| match bytes.is_empty() {
                true => self.publish(at).map(Some),
                false => Ok(None),
            })
        };
        let reply = match taken {
            Ok(None) => return,
            Ok(Some(Ok(path))) => WireReply::Ok(path),
            Ok(Some(Err(refusal))) => WireReply::Error(refusal),
            Err(error) => WireReply::Error(format!("{error:#}")),
        };
        if let (WireReply::Ok(_), ConnectionRole::Reporting(report)) = (&reply, &self.conns[at].role) {
            self.reports.count += 1;
            self.reports.bytes += report.bytes;
            self.state.reports.push(report.name.clone());
            self.save();
        }
        self.conns[at].role = ConnectionRole::New;
        self.conns[at].reply(&reply);
    }

    /// Returns how many bytes of incomplete deliverables were received.
    fn reports_under_way(&self) -> usize {
        let bytes = |role: &ConnectionRole| {
            if let ConnectionRole::Reporting(report) = role { report.bytes } else { 0 }
        };
        self.conns.iter().map(|conn| bytes(&conn.role)).sum()
    }

    /// Gives a complete deliverable its name; never replaces an existing one.
    fn publish(&self, at: usize) -> Result<Result<String, Refusal>> {
        let ConnectionRole::Reporting(report) = &self.conns[at].role else {
            anyhow::bail!("there is no report")
        };
        self.fenced(|| {
            report.file.sync_all().context("could not write the report")?;
            let path = format!("reports/{}/{}", self.spec.id, report.name);
            let target = self.layout.file(&path);
            file::make_dir(target.parent().unwrap_or(self.layout.root()))?;
            anyhow::ensure!(
                file::publish(&report.temp, &target)?,
                "`{path}` already exists; choose another name"
            );
            Ok(path)
        })
    }
}

impl Upload {
    /// Writes a part without secrets; an empty part is the end.
    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        let clean = match bytes.is_empty() {
            true => self.secrets.end_bytes(),
            false => self.secrets.feed_bytes(bytes),
        };
        self.file.write_all(&clean).context("could not write the report")
    }
}
