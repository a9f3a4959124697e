//! `io.containerd.metadata.v1.bolt`: the metadata store. The id is the one that containerd's clients look up;
//! the engine behind it is redb.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{RedbStore, SharedStore, StoreError};
use crate::events::{Exchange, Feed};
use crate::plugin::{Exports, InitContext, InitError, Registration, kinds};

const FILE: &str = "meta.redb";
/// A daemon that was killed may have left a child that was about to become another program: it holds the lock for
/// some milliseconds more.
const LOCK_DEADLINE: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(20);

pub fn registration() -> Registration {
    Registration::new(
        kinds::METADATA,
        "bolt",
        &[kinds::EVENT],
        |context: InitContext, _: toml::Table| async move {
            let store: SharedStore = Arc::new(
                open(&context.root.join(FILE), Feed::new(context.require::<Exchange>(kinds::EVENT)?)).await?,
            );
            Ok::<_, InitError>(Exports::of(store).telling("policy", "shared"))
        },
    )
}

async fn open(path: &Path, feed: Feed) -> Result<RedbStore, StoreError> {
    let feed = Arc::new(feed);
    let deadline = Instant::now() + LOCK_DEADLINE;
    loop {
        match RedbStore::observed(path, feed.clone()) {
            Err(StoreError::Locked { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(LOCK_PAUSE).await
            }
            other => return other,
        }
    }
}
