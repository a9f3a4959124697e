//! Every crate's plugin registrations, one line each; those of containerd's services together.

use runtime_core::plugin::Registration;

use crate::plugins;

pub fn registrations() -> Vec<Registration> {
    let mut all = vec![
        runtime_core::store::plugin::registration(),
        runtime_core::events::plugin::registration(),
        runtime_core::content::plugin::registration(),
        runtime_core::snapshot::plugin::overlayfs(),
        runtime_core::lease::plugin::registration(),
        runtime_core::gc::plugin::registration(),
        runtime_core::task::plugin::registration(),
        plugins::images::registration(),
        plugins::runtime::registration(),
        plugins::cri::registration(),
    ];
    all.extend(plugins::api::registrations());
    all
}
