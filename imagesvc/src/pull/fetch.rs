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
        let mut attempts = Vec::new();
        for host in self.session.pull_hosts() {
            match self.fetch_from(host, blob).await {
                Ok(()) => return Ok(()),
                Err(AttemptError::Cancelled) => return Err(self.cancelled()),
                Err(error) => attempts.push((self.session.host(host).to_owned(), error)),
            }
        }
        let step = format!("fetch blob {} of {}", blob.digest, self.session.reference());
        Err(self.registry(RegistryError { step, attempts }))
    }

    async fn fetch_from(&self, host: usize, blob: &Descriptor) -> Result<(), AttemptError> {
        let (mut patience, mut again) = (self.session.patience(host), false);
        loop {
            let mut course = Course::default();
            let error = match self.fetch_once(host, blob, &mut course).await {
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

    /// One request, from where the last one stopped.
    async fn fetch_once(
        &self,
        host: usize,
        blob: &Descriptor,
        course: &mut Course,
    ) -> Result<(), AttemptError> {
        let (content, namespace) = (self.puller.parts.content.clone(), self.puller.namespace.clone());
        let name = format!("layer-{}", blob.digest);
        let opened =
            tokio::task::spawn_blocking(move || content.ingest(NewContent::new(&namespace, &name))).await;
        let mut ingest = opened.map_err(|_| AttemptError::Cancelled)?.map_err(AttemptError::Store)?;
        course.resumed = ingest.offset() > 0;
        if ingest.offset() < blob.size || blob.size == 0 {
            let answer = self.session.blob(host, &blob.digest, ingest.offset());
            let answer =
                self.cancel.run_until_cancelled(answer).await.unwrap_or(Err(AttemptError::Cancelled));
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => return Err(without(ingest, error)),
            };
            if answer.offset != ingest.offset() {
                ingest.reset().map_err(AttemptError::Store)?;
                course.resumed = false;
            }
            let is_the_rest = answer.is_the_rest;
            ingest = self.copy(answer, ingest, (blob.size, &mut *course)).await?;
            // An end without a length looks like one that was cut off.
            if course.reached < blob.size && !is_the_rest {
                return Err(AttemptError::Truncated { received: course.reached, size: blob.size });
            }
        }
        let (blob, labels) = (blob.clone(), self.source_label());
        let committed =
            tokio::task::spawn_blocking(move || ingest.commit(&blob.digest, Some(blob.size), labels)).await;
        committed.map_err(|_| AttemptError::Cancelled)?.map_err(AttemptError::Store)?;
        Ok(())
    }

    /// The network's chunks go to a thread that hashes and writes. It has ended when this returns.
    async fn copy(
        &self,
        mut answer: Blob,
        mut ingest: Ingest,
        (size, course): (u64, &mut Course),
    ) -> Result<Ingest, AttemptError> {
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
        course.reached = ingest.offset();
        match received {
            Ok(()) => Ok(ingest),
            Err(error) => Err(without(ingest, error)),
        }
    }
}

/// What failed; an ingest that nothing has come to is no use to the next request.
fn without(ingest: Ingest, error: AttemptError) -> AttemptError {
    if ingest.offset() > 0 {
        return error;
    }
    match ingest.abort() {
        Ok(()) => error,
        Err(source) => AttemptError::Store(source),
    }
}
