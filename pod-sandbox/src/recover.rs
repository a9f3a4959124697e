//! After a start of the daemon: what is recorded and what is really there, compared, and gone on with.
//!
//! [`observe`] reads records, journals, exit files and shim processes and asks no shim; [`plan`] decides from that
//! data alone; [`execute`] starts the drivers and attaches the shims in the background. Nothing is deleted on
//! suspicion: what cannot be read is listed as unknown or left where it is.

mod execute;
mod observe;
mod plan;

use std::sync::Arc;

use crate::registry::Registry;
use crate::service::PodService;
use crate::services::{Services, StoreFailed};

/// Brings the pods of the daemon before this one back. Its result is the only way to a [`PodService`], so that
/// nothing can be served before recovery has looked at everything.
pub async fn recover(services: Arc<Services>) -> Result<PodService, StoreFailed> {
    let observed = observe::observe(&services)?;
    let plan = plan::plan(observed, services.clock.now());
    let registry = Arc::new(Registry::default());
    execute::execute(&services, &registry, plan);
    Ok(PodService::new(services, registry))
}
