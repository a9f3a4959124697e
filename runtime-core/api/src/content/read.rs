//! A blob, or a part of it, as a stream of messages.

use crate::status::{out_of_range, refuse};
use runtime_core::error::ErrorKind;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};
use runtime_core::content::Blob;
use runtime_proto::services::content::v1::ReadContentResponse;
use tonic::Status;

use crate::convert::size;

/// Bytes of one message, containerd's number.
const CHUNK: u64 = 1 << 20;

/// From `offset` on, `wanted` bytes; 0 or more than there are is all that there are.
pub(super) fn stream(
    blob: Blob,
    offset: i64,
    wanted: i64,
) -> Result<impl Stream<Item = Result<ReadContentResponse, Status>> + Send, Status> {
    let offset = u64::try_from(offset).unwrap_or(0);
    if offset > blob.size {
        return Err(out_of_range(format!("offset {offset} is past the {} bytes", blob.size)));
    }
    let rest = blob.size - offset;
    let wanted = u64::try_from(wanted).unwrap_or(0);
    let end = offset + if wanted == 0 { rest } else { wanted.min(rest) };
    let file = Arc::new(blob.file);
    Ok(stream::try_unfold(offset, move |at| {
        let file = Arc::clone(&file);
        async move {
            if at >= end {
                return Ok(None);
            }
            let length = usize::try_from(CHUNK.min(end - at)).unwrap_or_default();
            let read = tokio::task::spawn_blocking(move || {
                let mut data = vec![0; length];
                file.read_exact_at(&mut data, at).map(|()| data)
            });
            let data = read.await.map_err(std::io::Error::other).flatten();
            let data =
                data.map_err(|error| refuse(ErrorKind::DataLoss, format!("read content at {at}: {error}")))?;
            let next = at + data.len() as u64;
            Ok(Some((ReadContentResponse { offset: size(at), data: Bytes::from(data) }, next)))
        }
    }))
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, TryStreamExt as _};

    use super::*;
    use crate::status::Code;

    fn blob(bytes: &[u8]) -> Blob {
        use std::io::Write;
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(bytes).expect("it takes them");
        Blob { file, size: bytes.len() as u64 }
    }

    #[tokio::test]
    async fn ranges_are_cut_to_what_there_is() {
        for (offset, wanted, expected) in [
            (0, 0, "0123456789"),
            (3, 4, "3456"),
            (3, 0, "3456789"),
            (8, 99, "89"),
            (10, 5, ""),
            (-1, -1, "0123456789"),
        ] {
            let parts = stream(blob(b"0123456789"), offset, wanted).expect("it is in range");
            let parts: Vec<ReadContentResponse> = parts.try_collect().await.expect("it can be read");
            let bytes: Vec<u8> = parts.iter().flat_map(|part| part.data.to_vec()).collect();
            assert_eq!(String::from_utf8_lossy(&bytes), expected, "{wanted} from {offset}");
        }
        assert_eq!(stream(blob(b"x"), 2, 0).map(drop).unwrap_err().code(), Code::OutOfRange);
    }

    #[tokio::test]
    async fn what_is_missing_on_disk_is_an_error_and_no_end() {
        let short = Blob { size: 20, ..blob(b"0123456789") };
        let mut parts = Box::pin(stream(short, 0, 0).expect("it is in range"));
        let error = parts.next().await.expect("an answer").expect_err("ten bytes are missing");
        assert_eq!(error.code(), Code::DataLoss);
    }

    #[tokio::test]
    async fn a_large_blob_comes_in_messages_of_a_mebibyte() {
        let large = vec![7; (CHUNK as usize) * 2 + 1];
        let parts = stream(blob(&large), 0, 0).expect("it is in range");
        let parts: Vec<ReadContentResponse> = parts.try_collect().await.expect("it can be read");
        let lengths: Vec<usize> = parts.iter().map(|part| part.data.len()).collect();
        assert_eq!(lengths, [CHUNK as usize, CHUNK as usize, 1]);
        assert_eq!(parts[2].offset, 2 * (CHUNK as i64));
    }
}
