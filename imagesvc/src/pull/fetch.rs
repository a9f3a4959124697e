//! Bringing blobs in: held by the lease first, then fetched from host after host until one gives the right bytes.

use futures_util::StreamExt;
use runtime_core::content::{ContentError, Descriptor, Ingest, Labels, NewContent};
use runtime_core::ids::Digest;
use runtime_core::lease::Resource;
use tokio::sync::mpsc;

use super::{Pull, PullError};
use crate::document::MAX_DOCUMENT;
use crate::registry::{AttemptError, Blob, RegistryError};

/// Chunks between the network and the disk; at 16 KiB or so each, enough to hide a slow write.
const CHUNKS_IN_FLIGHT: usize = 32;

/// How far one request has brought a blob.
#[derive(Default)]
struct Course {
    /// Bytes of earlier requests are part of it.
    resumed: bool,
    reached: u64,
}

impl Pull<'_> {
    /// Holds an object before anyone looks whether it is there: from then on it cannot go.
    pub(super) async fn hold(&self, resources: Vec<Resource>) -> Result<(), PullError> {
        let held = self.puller.parts.leases.add(&self.puller.namespace, &self.lease, resources).await;
        held.map_err(|source| PullError::Lease { image: self.image.clone(), source })
    }

    fn has(&self, digest: &Digest) -> Result<bool, PullError> {
        match self.puller.parts.content.open(&self.puller.namespace, digest) {
            Ok(_) => Ok(true),
            // Bytes that went missing are fetched again.
            Err(ContentError::NotFound { .. } | ContentError::Vanished { .. }) => Ok(false),
            Err(error) => Err(self.content(error)),
        }
    }

    /// Where the blob came from, in containerd's form.
    fn source_label(&self) -> Labels {
        let reference = self.session.reference();
        let key = format!("containerd.io/distribution.source.{}", reference.host());
        Labels::from([(key, reference.repository().to_owned())])
    }

    pub(super) async fn fetch_manifest(&self, digest: &Digest) -> Result<Vec<u8>, PullError> {
        let _turn = self.until_cancelled(self.puller.once.blob(digest)).await?;
        self.hold(vec![Resource::Content(digest.clone())]).await?;
        let (content, namespace) = (&self.puller.parts.content, &self.puller.namespace);
        if self.has(digest)? {
            let bytes = runtime_core::content::read_document(&**content, namespace, digest, MAX_DOCUMENT);
            return bytes.map_err(|source| self.content(source));
        }
        let bytes = self.until_cancelled(self.session.manifest(digest)).await?;
        let bytes = bytes.map_err(|source| self.registry(source))?;
        let kept = {
            let (content, namespace) = (content.clone(), namespace.clone());
            let (digest, bytes, labels) = (digest.clone(), bytes.clone(), self.source_label());
            self.blocking(move || {
                let mut ingest =
                    content.ingest(NewContent::new(&namespace, &format!("manifest-{digest}")))?;
                ingest.reset()?;
                ingest.write(&bytes)?;
                ingest.commit(&digest, Some(bytes.len() as u64), labels)
            })
            .await?
        };
        kept.map_err(|source| self.content(source))?;
        Ok(bytes)
    }

    /// Runs work that blocks to its end: what it writes must not go on behind a pull that has ended.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PullError> {
        let ended = tokio::task::spawn_blocking(work).await;
        ended.map_err(|_| PullError::Lost { image: self.image.clone() })
    }

    pub(super) async fn fetch_blob(&self, blob: &Descriptor) -> Result<(), PullError> {
        let _turn = self.until_cancelled(self.puller.once.blob(&blob.digest)).await?;
        self.hold(vec![Resource::Content(blob.digest.clone())]).await?;
        if self.has(&blob.digest)? {
            return Ok(());
        }
        let mut ingest = None;
        let fetched = self.fetch_from_any(blob, &mut ingest).await;
        match ingest.filter(|ingest| ingest.offset() == 0) {
            // One that nothing has come to is no use to the next pull.
            Some(empty) => empty.abort().map_err(|source| self.content(source)).and(fetched),
            None => fetched,
        }
    }

    async fn fetch_from_any(&self, blob: &Descriptor, ingest: &mut Option<Ingest>) -> Result<(), PullError> {
        let mut attempts = Vec::new();
        for host in self.session.pull_hosts() {
            match self.fetch_from(host, blob, ingest).await {
                Ok(()) => return Ok(()),
                Err(AttemptError::Cancelled) => return Err(self.cancelled()),
                Err(error) => attempts.push((self.session.host(host).to_owned(), error)),
            }
        }
        let step = format!("fetch blob {} of {}", blob.digest, self.session.reference());
        Err(self.registry(RegistryError { step, attempts }))
    }

    async fn fetch_from(
        &self,
        host: usize,
        blob: &Descriptor,
        ingest: &mut Option<Ingest>,
    ) -> Result<(), AttemptError> {
        let (mut patience, mut again) = (self.session.patience(host), false);
        loop {
            let mut course = Course::default();
            let error = match self.fetch_once(host, blob, ingest, &mut course).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            match error {
                // What was there before may be what is wrong. It is gone by now: this asks from byte 0.
                AttemptError::Store(ContentError::WrongDigest { .. } | ContentError::WrongSize { .. })
                    if course.resumed && !again =>
                {
                    again = true;
                }
                error => {
                    patience.progress(course.reached);
                    let waited = self.cancel.run_until_cancelled(patience.wait(error)).await;
                    waited.ok_or(AttemptError::Cancelled)??;
                }
            }
        }
    }

    /// One request, from where the last one stopped. `kept` goes from one to the next: to open it anew would read
    /// and hash again all that has come so far.
    async fn fetch_once(
        &self,
        host: usize,
        blob: &Descriptor,
        kept: &mut Option<Ingest>,
        course: &mut Course,
    ) -> Result<(), AttemptError> {
        let mut ingest = match kept.take() {
            Some(ingest) => ingest,
            None => self.open_ingest(blob).await?,
        };
        course.resumed = ingest.offset() > 0;
        if ingest.offset() < blob.size || blob.size == 0 {
            let answer = self.session.blob(host, &blob.digest, ingest.offset());
            let answer =
                self.cancel.run_until_cancelled(answer).await.unwrap_or(Err(AttemptError::Cancelled));
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    *kept = Some(ingest);
                    return Err(error);
                }
            };
            if answer.offset != ingest.offset() {
                ingest.reset().map_err(AttemptError::Store)?;
                course.resumed = false;
            }
            let is_the_rest = answer.is_the_rest;
            let received;
            (ingest, received) = self.copy(answer, ingest, blob.size).await?;
            course.reached = ingest.offset();
            // An end without a length looks like one that was cut off.
            let short = course.reached < blob.size && !is_the_rest;
            let truncated = || AttemptError::Truncated { received: course.reached, size: blob.size };
            if let Err(error) = received.and_then(|()| if short { Err(truncated()) } else { Ok(()) }) {
                *kept = Some(ingest);
                return Err(error);
            }
        }
        let (blob, labels) = (blob.clone(), self.source_label());
        let committed =
            tokio::task::spawn_blocking(move || ingest.commit(&blob.digest, Some(blob.size), labels)).await;
        committed.map_err(|_| AttemptError::Cancelled)?.map_err(AttemptError::Store)?;
        Ok(())
    }

    /// Behind what earlier pulls have left.
    async fn open_ingest(&self, blob: &Descriptor) -> Result<Ingest, AttemptError> {
        let (content, namespace) = (self.puller.parts.content.clone(), self.puller.namespace.clone());
        let name = format!("layer-{}", blob.digest);
        let opened =
            tokio::task::spawn_blocking(move || content.ingest(NewContent::new(&namespace, &name))).await;
        opened.map_err(|_| AttemptError::Cancelled)?.map_err(AttemptError::Store)
    }

    /// The network's chunks go to a thread that hashes and writes. It has ended when this returns: with the ingest
    /// and how the answer has ended, or with the error of the disk, behind which nobody knows what was written.
    async fn copy(
        &self,
        mut answer: Blob,
        mut ingest: Ingest,
        size: u64,
    ) -> Result<(Ingest, Result<(), AttemptError>), AttemptError> {
        let (sender, mut receiver) = mpsc::channel::<bytes::Bytes>(CHUNKS_IN_FLIGHT);
        let writer = tokio::task::spawn_blocking(move || {
            while let Some(chunk) = receiver.blocking_recv() {
                ingest.write(&chunk)?;
                // More than was announced is wrong already: it need not fill the disk.
                if ingest.offset() > size {
                    break;
                }
            }
            Ok::<_, ContentError>(ingest)
        });
        let mut received = Ok(());
        loop {
            let Some(chunk) = self.cancel.run_until_cancelled(answer.chunks.next()).await else {
                received = Err(AttemptError::Cancelled);
                break;
            };
            match chunk {
                None => break,
                Some(Err(error)) => {
                    received = Err(error);
                    break;
                }
                // A writer that has ended early says why below.
                Some(Ok(chunk)) => {
                    if sender.send(chunk).await.is_err() {
                        break;
                    }
                }
            }
        }
        drop(sender);
        let ingest = writer.await.map_err(|_| AttemptError::Cancelled)?.map_err(AttemptError::Store)?;
        Ok((ingest, received))
    }
}
