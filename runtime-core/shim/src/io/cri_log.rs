//! The log file of a container: `<RFC 3339 time> stdout|stderr P|F <text>` lines, as the kubelet reads them.
//!
//! One file for both streams. A write that fails (full disk) drops whole lines and counts them; it never holds the
//! container up. Reopening swaps the file between two batches.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use runtime_sys::clock;
use rustix::fs::OFlags;

use super::split::Tag;
use crate::log;

/// Bytes that are collected before they are written, so that small lines share a write.
const BATCH: usize = 128 * 1024;

/// Which stream of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// A container's log. Nothing stays in memory between two batches.
pub(crate) struct CriLog {
    path: PathBuf,
    file: File,
    batch: Vec<u8>,
    dropped: u64,
}

impl CriLog {
    /// Opens the log, appending to what is there. Its folder must exist.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.into(), file: open_file(path)?, batch: Vec::new(), dropped: 0 })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Goes on in another file, opened by [`open_file`].
    pub(crate) fn replace(&mut self, file: File) {
        self.file = file;
    }

    /// A batch whose lines carry this moment's time.
    pub(crate) fn batch(&mut self, stream: Stream) -> Batch<'_> {
        let name = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        Batch { prefix: format!("{} {name} ", rfc3339(clock::unix_nanos())), log: self }
    }

    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let mut written = 0;
        let result = loop {
            match self.file.write(&self.batch[written..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
            if written == self.batch.len() {
                break Ok(());
            }
        };
        match result {
            Ok(()) if self.dropped > 0 => {
                log::note(&format!(
                    "log {} goes on, {} lines were dropped",
                    self.path.display(),
                    self.dropped
                ));
                self.dropped = 0;
            }
            Ok(()) => {}
            Err(error) => self.drop_rest(written, &error),
        }
        self.batch.clear();
    }

    /// Takes back what was written of a line that did not fit, counts what is lost.
    fn drop_rest(&mut self, written: usize, error: &io::Error) {
        let whole = self.batch[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let torn = u64::try_from(written - whole).unwrap_or_default();
        if torn > 0
            && let Ok(metadata) = self.file.metadata()
        {
            // Fails only together with the disk.
            let _ = self.file.set_len(metadata.len().saturating_sub(torn));
        }
        if self.dropped == 0 {
            log::note(&format!("write log {}: {error}; lines are dropped", self.path.display()));
        }
        let lost = self.batch[whole..].iter().filter(|byte| **byte == b'\n').count();
        self.dropped += u64::try_from(lost).unwrap_or_default();
    }
}

/// Lines of one stream on their way to the file; written when it is dropped.
pub(crate) struct Batch<'a> {
    prefix: String,
    log: &'a mut CriLog,
}

impl Batch<'_> {
    /// Adds a line.
    pub(crate) fn line(&mut self, tag: Tag, text: &[u8]) {
        let batch = &mut self.log.batch;
        batch.extend_from_slice(self.prefix.as_bytes());
        batch.extend_from_slice(match tag {
            Tag::Partial => b"P ",
            Tag::Full => b"F ",
        });
        batch.extend_from_slice(text);
        batch.push(b'\n');
        if batch.len() >= BATCH {
            self.log.flush();
        }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.log.flush();
        self.log.batch = Vec::new();
    }
}

/// Opens or makes a log file for appending; 0640, as log collectors run in the group.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    // A path that someone made a FIFO, a device or a link to elsewhere must not hang or surprise us.
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
    let file = OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

/// A time as RFC 3339 in UTC with nine digits of a second.
pub(crate) fn rfc3339(unix_nanos: i64) -> String {
    let (seconds, nanos) = (unix_nanos.div_euclid(1_000_000_000), unix_nanos.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 1 March of year 0, in eras of 400 years, so that the leap day is a year's last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_around_leap_days() {
        let at = |seconds: i64| rfc3339(seconds * 1_000_000_000 + 5);
        assert_eq!(at(0), "1970-01-01T00:00:00.000000005Z");
        assert_eq!(at(951_782_399), "2000-02-28T23:59:59.000000005Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000000005Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000000005Z");
        assert_eq!(at(1_735_689_599), "2024-12-31T23:59:59.000000005Z");
        assert_eq!(at(-1), "1969-12-31T23:59:59.000000005Z");
    }

    #[test]
    fn lines_of_both_streams_and_a_reopened_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let mut log = CriLog::open(&path).unwrap();
        log.batch(Stream::Stdout).line(Tag::Full, b"one\r");
        std::fs::rename(&path, folder.path().join("1.log")).unwrap();
        log.batch(Stream::Stderr).line(Tag::Partial, b"two");
        log.replace(open_file(&path).unwrap());
        log.batch(Stream::Stdout).line(Tag::Full, b"");
        let texts = |name: &str| {
            let content = std::fs::read_to_string(folder.path().join(name)).unwrap();
            content
                .split('\n')
                .map(|line| line.split_once(' ').map_or("", |(_, rest)| rest).to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(texts("1.log"), ["stdout F one\r", "stderr P two", ""]);
        assert_eq!(texts("0.log"), ["stdout F ", ""]);
    }

    #[test]
    fn a_full_disk_drops_whole_lines_and_does_not_block() {
        let mut log = CriLog::open(Path::new("/dev/null")).err();
        assert_eq!(log.take().unwrap().kind(), io::ErrorKind::InvalidInput);
        let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let mut log = CriLog { path: "/dev/full".into(), file: full, batch: Vec::new(), dropped: 0 };
        let mut batch = log.batch(Stream::Stdout);
        batch.line(Tag::Full, b"lost");
        batch.line(Tag::Full, b"lost");
        drop(batch);
        assert_eq!(log.dropped, 2);
        let folder = tempfile::tempdir().unwrap();
        log.replace(open_file(&folder.path().join("log")).unwrap());
        log.batch(Stream::Stdout).line(Tag::Full, b"kept");
        assert_eq!(log.dropped, 0);
    }
}
