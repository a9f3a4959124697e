//! One `Write` stream: a client stats, appends to and commits one reference.
//!
//! The session has a blocking thread of its own, since it writes, hashes and syncs. What was written stays for a
//! later session when this one ends without a commit.

use runtime_core::error::ErrorKind;
use std::sync::Arc;

use futures_util::Stream;
use runtime_core::content::{Content, ContentError, Ingest, NewContent};
use runtime_core::ids::{Digest, LeaseId, Namespace};
use runtime_core::tasks::TaskGroup;
use runtime_proto::services::content::v1::{WriteAction, WriteContentRequest, WriteContentResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::convert::{digest, size, time, unsigned};
use crate::status::{missing, out_of_range, refuse, status};

/// What every session of a call is about.
pub(super) struct Writer {
    pub(super) content: Arc<dyn Content>,
    pub(super) namespace: Namespace,
    pub(super) lease: Option<LeaseId>,
}

type Answer = Result<WriteContentResponse, Status>;

/// Answers one message by one, and ends with the commit or the first error.
pub(super) fn session(
    writer: Writer,
    mut requests: Streaming<WriteContentRequest>,
    tasks: &TaskGroup,
) -> impl Stream<Item = Answer> + Send + use<> {
    let (answers, receiver) = mpsc::channel(1);
    let runtime = tokio::runtime::Handle::current();
    let draining = tasks.draining();
    tasks.spawn("content-write", async move {
        let thread = tokio::task::spawn_blocking(move || {
            let next = || {
                let received = draining.run_until_cancelled(requests.message());
                runtime
                    .block_on(received)
                    .unwrap_or_else(|| Err(refuse(ErrorKind::Unavailable, "the daemon stops")))
            };
            if let Err(error) = serve(&writer, next, &answers) {
                // A client that is gone does not hear it.
                let _ = answers.blocking_send(Err(error));
            }
        });
        if let Err(error) = thread.await {
            tracing::error!(%error, "a content writer died");
        }
    });
    ReceiverStream::new(receiver)
}

fn serve(
    writer: &Writer,
    mut next: impl FnMut() -> Result<Option<WriteContentRequest>, Status>,
    answers: &mpsc::Sender<Answer>,
) -> Result<(), Status> {
    let Some(first) = next()? else { return Ok(()) };
    let mut session = Session::open(writer, &first)?;
    let mut request = first;
    loop {
        let action = request.action();
        if action == WriteAction::Commit {
            let answer = session.commit(request)?;
            let _ = answers.blocking_send(Ok(answer));
            return Ok(());
        }
        let answer = session.step(action, &request)?;
        let gone = answers.blocking_send(Ok(answer)).is_err();
        match next()? {
            Some(another) if !gone => request = another,
            _ => return Ok(()),
        }
    }
}

struct Session<'a> {
    writer: &'a Writer,
    ingest: Ingest,
    reference: String,
    /// What is known of the blob; later messages may say it first, but not otherwise.
    total: u64,
    expected: Option<Digest>,
}

impl<'a> Session<'a> {
    fn open(writer: &'a Writer, first: &WriteContentRequest) -> Result<Self, Status> {
        if first.r#ref.is_empty() {
            return Err(missing("the reference (ref) of the first message"));
        }
        let total = unsigned("total", first.total)?;
        let expected = optional_digest(&first.expected)?;
        let new = NewContent {
            namespace: writer.namespace.clone(),
            reference: first.r#ref.clone(),
            total,
            expected: expected.clone(),
            lease: writer.lease.clone(),
        };
        let ingest = writer.content.ingest(new).map_err(status)?;
        Ok(Self { writer, ingest, reference: first.r#ref.clone(), total, expected })
    }

    /// Every message may repeat what the stream is about; it must say the same.
    fn agree(&mut self, request: &WriteContentRequest) -> Result<(), Status> {
        let other =
            |what: &str| Err(refuse(ErrorKind::InvalidArgument, format!("{what} changed within one stream")));
        if !request.r#ref.is_empty() && request.r#ref != self.reference {
            return other("the reference");
        }
        let total = unsigned("total", request.total)?;
        if self.total > 0 && total > 0 && total != self.total {
            return other("the total");
        }
        let expected = optional_digest(&request.expected)?;
        if self.expected.is_some() && expected.is_some() && expected != self.expected {
            return other("the expected digest");
        }
        self.total = self.total.max(total);
        self.expected = self.expected.take().or(expected);
        Ok(())
    }

    fn step(&mut self, action: WriteAction, request: &WriteContentRequest) -> Answer {
        self.agree(request)?;
        if action == WriteAction::Write {
            self.append(request)?;
        }
        Ok(self.answer(action))
    }

    fn append(&mut self, request: &WriteContentRequest) -> Result<(), Status> {
        let at = unsigned("offset", request.offset)?;
        let offset = self.ingest.offset();
        if at == 0 && offset > 0 {
            self.ingest.reset().map_err(status)?;
        } else if at != offset {
            return Err(out_of_range(format!("a write at {at} must be at {offset}, where the content ends")));
        }
        self.ingest.write(&request.data).map_err(status)
    }

    fn commit(mut self, request: WriteContentRequest) -> Answer {
        self.agree(&request)?;
        if !request.data.is_empty() || (request.offset == 0 && self.ingest.offset() > 0) {
            self.append(&request)?;
        }
        let mut answer = self.answer(WriteAction::Commit);
        let digest = self.expected.unwrap_or_else(|| self.ingest.digest());
        let total = Some(self.total).filter(|total| *total > 0);
        if self.ingest.digest() == digest && self.writer.content.info(&self.writer.namespace, &digest).is_ok()
        {
            self.ingest.abort().map_err(status)?;
            return Err(status(ContentError::Exists { digest }));
        }
        let record = self.ingest.commit(&digest, total, request.labels).map_err(status)?;
        answer.digest = record.digest.into();
        answer.offset = size(record.size);
        Ok(answer)
    }

    fn answer(&self, action: WriteAction) -> WriteContentResponse {
        WriteContentResponse {
            action: action.into(),
            started_at: Some(time(self.ingest.started_at())),
            updated_at: Some(time(self.ingest.updated_at())),
            offset: size(self.ingest.offset()),
            total: size(self.total),
            digest: self.ingest.digest().into(),
        }
    }
}

fn optional_digest(text: &str) -> Result<Option<Digest>, Status> {
    if text.is_empty() { Ok(None) } else { digest(text).map(Some) }
}
