//! Deliverables of a worker on their way into the data dir: complete under their name, or absent. Secrets are removed
//! from each part as it arrives, so that a long deliverable never blocks the supervisor.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::record::Record;
use super::refusal::RequestRefusal;
use crate::rules::name::Name;
use crate::rules::secret::RedactStream;
use crate::rules::worker::protocol::MAX_REPORT;
use crate::store::file;

/// A deliverable in progress. Dropping it removes its temporary file.
pub(super) struct Upload {
    name: Name,
    temp: PathBuf,
    file: File,
    /// The number of received bytes.
    pub(super) bytes: usize,
    secrets: RedactStream<'static>,
}

impl Drop for Upload {
    fn drop(&mut self) {
        // A complete deliverable has its final name by now.
        drop(std::fs::remove_file(&self.temp));
    }
}

impl Upload {
    /// Begins the deliverable with this number.
    pub(super) fn begin(name: &str, nth: u64, record: &Record) -> Result<Upload, RequestRefusal> {
        let name: Name = name.parse().map_err(RequestRefusal::Invalid)?;
        let temp = record.dir.path().join(format!(".report-{nth}.tmp"));
        // Exclusive: the worker may have put a file of its own there.
        let file =
            File::create_new(&temp).with_context(|| format!("could not write `{}`", temp.display()))?;
        let secrets = RedactStream::owned(record.secrets.clone());
        Ok(Upload { name, temp, file, bytes: 0, secrets })
    }

    /// Writes a part without secrets; an empty part is the end. Returns the path of a complete deliverable.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        record: &mut Record,
    ) -> Result<Option<String>, RequestRefusal> {
        if self.bytes > MAX_REPORT {
            return Err(RequestRefusal::ReportTooLong);
        }
        let clean = match bytes.is_empty() {
            true => self.secrets.end_bytes(),
            false => self.secrets.feed_bytes(bytes),
        };
        self.file.write_all(&clean).context("could not write the report")?;
        if !bytes.is_empty() {
            return Ok(None);
        }
        let path = self.publish(record)?;
        record.state.reports.push(self.name.clone());
        record.save();
        Ok(Some(path))
    }

    /// Gives a complete deliverable its name; never replaces an existing one.
    fn publish(&self, record: &Record) -> Result<String, RequestRefusal> {
        let path = format!("reports/{}/{}", record.spec.id, self.name);
        let target = record.layout.file(&path);
        let is_new = record.fenced(|| {
            self.file.sync_all().context("could not write the report")?;
            file::make_dir(target.parent().unwrap_or(record.layout.root()))?;
            file::publish(&self.temp, &target)
        })?;
        if is_new { Ok(path) } else { Err(RequestRefusal::ReportExists(path)) }
    }
}
