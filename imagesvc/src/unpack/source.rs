//! The bytes of a layer: decompressed by what they are, not by what they are called; counted and hashed.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;
use runtime_core::ids::Digest;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;
use zstd::stream::read::Decoder as ZstdDecoder;

use super::{Limits, UnpackError};

const BUFFER: usize = 256 << 10;
/// Between two entries lie their headers with long names and extended attributes (at most 64 KiB each in Linux).
const MAX_HEADER: u64 = 1 << 20;
/// A zstd frame says itself how much memory it wants. 128 MiB is what the strongest ordinary level asks for.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// What gzip can expand a byte to at most. zstd could 32 times more, so that a small blob would fill a disk.
const MAX_EXPANSION: u64 = 1032;
/// Small layers may be mostly zeros: this much is not looked at.
const FREE_EXPANSION: u64 = 1 << 30;

/// Carried through the tar parser as the inside of an `io::Error`.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum Stop {
    #[error("cancelled")]
    Cancelled,
    #[error("layer too large")]
    Bytes(u64),
    #[error("headers of an entry too large")]
    Header,
}

/// What the parser meant when it failed.
pub(super) fn error_of(error: io::Error) -> UnpackError {
    let stop = error.get_ref().and_then(|inner| inner.downcast_ref::<Stop>()).copied();
    match stop.or_else(|| source_stop(&error)) {
        Some(Stop::Cancelled) => UnpackError::Cancelled,
        Some(Stop::Bytes(limit)) => UnpackError::Limit { what: "bytes", limit },
        Some(Stop::Header) => {
            UnpackError::Limit { what: "bytes in the headers of one entry", limit: MAX_HEADER }
        }
        None => UnpackError::Read(error),
    }
}

/// The parser wraps errors of its source in its own.
fn source_stop(error: &io::Error) -> Option<Stop> {
    let mut source = std::error::Error::source(error.get_ref()?);
    while let Some(cause) = source {
        if let Some(stop) = cause.downcast_ref::<Stop>() {
            return Some(*stop);
        }
        let inner = cause.downcast_ref::<io::Error>().and_then(|error| error.get_ref());
        if let Some(stop) = inner.and_then(|inner| inner.downcast_ref::<Stop>()) {
            return Some(*stop);
        }
        source = cause.source();
    }
    None
}

/// Lets the loop over entries say when only headers should be read.
#[derive(Clone)]
pub(super) struct Gauge(Rc<Cell<Option<u64>>>);

impl Gauge {
    pub(super) fn begin_header(&self) {
        self.0.set(Some(MAX_HEADER));
    }

    pub(super) fn end_header(&self) {
        self.0.set(None);
    }
}

pub(crate) struct Source {
    inner: Box<dyn Read>,
    hash: Sha256,
    left: u64,
    limit: u64,
    gauge: Gauge,
    cancel: CancellationToken,
}

impl Source {
    pub(super) fn open(blob: File, limits: Limits, cancel: CancellationToken) -> Result<Self, UnpackError> {
        let size = blob.metadata().map_err(UnpackError::Read)?.len();
        let limit = limits.bytes.min(size.saturating_mul(MAX_EXPANSION).saturating_add(FREE_EXPANSION));
        let mut reader = BufReader::with_capacity(BUFFER, blob);
        let inner: Box<dyn Read> = match reader.fill_buf().map_err(UnpackError::Read)? {
            [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(reader)),
            // A frame of data, or one to be skipped: zstd:chunked and parallel writers put those in between.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Box::new(zstd(reader)?),
            [b'B', b'Z', b'h', ..] => return Err(UnpackError::Compression { name: "bzip2" }),
            [0xfd, b'7', b'z', b'X', b'Z', ..] => return Err(UnpackError::Compression { name: "xz" }),
            _ => Box::new(reader),
        };
        let gauge = Gauge(Rc::default());
        Ok(Self { inner, hash: Sha256::new(), left: limit, limit, gauge, cancel })
    }

    pub(super) fn gauge(&self) -> Gauge {
        self.gauge.clone()
    }

    /// Reads what is behind the archive's end and tells the digest of everything: the diff id.
    pub(super) fn finish(mut self) -> Result<Digest, UnpackError> {
        io::copy(&mut self, &mut io::sink()).map_err(error_of)?;
        Ok(Digest::from_sha256(&self.hash.finalize()))
    }
}

/// Reads all frames up to the end of the file.
fn zstd(reader: BufReader<File>) -> Result<ZstdDecoder<'static, BufReader<File>>, UnpackError> {
    let mut decoder = ZstdDecoder::with_buffer(reader).map_err(UnpackError::Read)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(UnpackError::Read)?;
    Ok(decoder)
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other(Stop::Cancelled));
        }
        let count = self.inner.read(buffer)?;
        self.left =
            self.left.checked_sub(count as u64).ok_or_else(|| io::Error::other(Stop::Bytes(self.limit)))?;
        if let Some(budget) = self.gauge.0.get() {
            let left = budget.checked_sub(count as u64).ok_or_else(|| io::Error::other(Stop::Header))?;
            self.gauge.0.set(Some(left));
        }
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}
