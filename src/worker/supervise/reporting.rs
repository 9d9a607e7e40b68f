//! Deliverables of a worker on their way into the data dir: whole under their name, or not there at all.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::Supervisor;
use super::serve::{Refusal, Role};
use crate::model::name::Name;
use crate::model::wire::{MAX_REPORT, Reply};
use crate::store::file;

/// How many reports of a worker the decider is told of.
const MAX_REPORTS: usize = 100;

/// A deliverable on its way. What has no name of its own yet goes with it.
pub(super) struct Report {
    name: Name,
    temp: PathBuf,
    file: File,
    bytes: usize,
}

impl Drop for Report {
    fn drop(&mut self) {
        // One that got its name is not there under this one any more.
        drop(std::fs::remove_file(&self.temp));
    }
}

impl Supervisor {
    pub(super) fn begin_report(&mut self, name: &str) -> Result<Report> {
        let name: Name = name.parse().map_err(anyhow::Error::msg)?;
        self.reports += 1;
        let temp = self.dir.path().join(format!(".report-{}.tmp", self.reports));
        // Exclusive: the worker may have put something of its own there.
        let file =
            File::create_new(&temp).with_context(|| format!("could not write `{}`", temp.display()))?;
        Ok(Report { name, temp, file, bytes: 0 })
    }

    /// Takes a part of a deliverable; an empty one ends it.
    pub(super) fn report_part(&mut self, at: usize, bytes: &[u8]) {
        self.conns[at].goes_on();
        let Role::Reporting(report) = &mut self.conns[at].role else { return };
        report.bytes += bytes.len();
        let name = bytes.is_empty().then(|| report.name.clone());
        let taken = if report.bytes > MAX_REPORT {
            Err(anyhow::anyhow!("a report is at most {} MiB", MAX_REPORT >> 20))
        } else if bytes.is_empty() {
            self.publish(at).map(Some)
        } else {
            report.file.write_all(bytes).map(|()| None).context("could not write the report")
        };
        let reply = match taken {
            Ok(None) => return,
            Ok(Some(Ok(path))) => Reply::Ok(path),
            Ok(Some(Err(refusal))) => Reply::Error(refusal),
            Err(error) => Reply::Error(format!("{error:#}")),
        };
        if let (Reply::Ok(_), true) = (&reply, self.state.reports.len() < MAX_REPORTS) {
            self.state.reports.extend(name);
            self.save();
        }
        self.conns[at].role = Role::New;
        self.conns[at].reply(&reply);
    }

    /// Takes out what is secret.
    fn clean(&self, report: &Report) -> Result<()> {
        let text = file::read(&report.temp, MAX_REPORT).context("could not read the report again")?;
        let mut clean = text.clone().unwrap_or_default();
        self.secrets.redact_bytes(&mut clean);
        if text.is_some_and(|text| text != clean) {
            report.file.set_len(0).context("could not write the report")?;
            report.file.write_all_at(&clean, 0).context("could not write the report")?;
        }
        Ok(())
    }

    /// Gives a whole report its name; one of that name is never replaced.
    fn publish(&self, at: usize) -> Result<Result<String, Refusal>> {
        let Role::Reporting(report) = &self.conns[at].role else { anyhow::bail!("there is no report") };
        self.clean(report)?;
        self.fenced(|| {
            report.file.sync_all().context("could not write the report")?;
            let path = format!("reports/{}/{}", self.spec.id, report.name);
            let target = self.layout.file(&path);
            file::make_dir(target.parent().unwrap_or(self.layout.root()))?;
            anyhow::ensure!(
                file::publish(&report.temp, &target)?,
                "`{path}` is there already; choose another name"
            );
            Ok(path)
        })
    }
}
