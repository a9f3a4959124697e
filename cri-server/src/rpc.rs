//! One verb a file. A handler converts, calls a service, converts back; the services do the work.

pub(crate) mod container_create;
pub(crate) mod container_start;
pub(crate) mod container_stats;
pub(crate) mod container_status;
pub(crate) mod container_stop;
pub(crate) mod container_update;
pub(crate) mod exec_sync;
pub(crate) mod image_pull;
pub(crate) mod image_status;
pub(crate) mod runtime_status;
pub(crate) mod sandbox_run;
pub(crate) mod sandbox_status;
pub(crate) mod sandbox_stop;
pub(crate) mod streams;
