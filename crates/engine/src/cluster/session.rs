//! The session of every process of a cluster: its settings, its codecs, and what only it has.

use std::sync::Arc;

use ballista_core::{
    config::{BALLISTA_ADAPTIVE_PLANNER_ENABLED, BALLISTA_SCHEDULER_MAX_PARTITIONS_PER_TASK},
    extension::SessionConfigExt,
};
use datafusion::prelude::SessionConfig;
use eventide_catalog::Stores;

use super::{
    codec::{LogicalCodec, PhysicalCodec},
    secret::Secret,
};
use crate::Indexers;

/// Bytes of one message. Plans and receipts are small; this is far above them.
pub(super) const MESSAGE_BYTES: u32 = 64 << 20;

/// What a process brings to its sessions, and never sends anywhere.
#[derive(Clone, Default)]
pub(super) struct Local {
    /// Where plan files are read from.
    pub(super) stores: Option<Arc<Stores>>,
    /// What does the work, in an executor.
    pub(super) indexers: Option<Arc<Indexers>>,
    /// What plans are signed with.
    pub(super) secret: Option<Secret>,
}

/// The one way to make a session for the scheduler, an executor or a client.
pub(super) fn session_config(local: &Local) -> SessionConfig {
    let mut config = SessionConfig::new_with_ballista()
        .with_ballista_logical_extension_codec(Arc::new(LogicalCodec::new(local.secret.clone())))
        .with_ballista_physical_extension_codec(Arc::new(PhysicalCodec::new(local.secret.clone())))
        // A task is a shard: the unit of retry, and no shard waits behind another one.
        .set_str(BALLISTA_SCHEDULER_MAX_PARTITIONS_PER_TASK, "1")
        // Our partitions are what they are; the planner that changes plans midway is young.
        .set_str(BALLISTA_ADAPTIVE_PLANNER_ENABLED, "false")
        // Its columns have names that do not survive being sent.
        .set_bool("datafusion.optimizer.enable_leaf_expression_pushdown", false);
    if let Some(stores) = &local.stores {
        config = config.with_extension(Arc::clone(stores));
    }
    if let Some(indexers) = &local.indexers {
        config = config.with_extension(Arc::clone(indexers));
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_are_known_to_the_engine() {
        let config = session_config(&Local::default());
        let entries = config.options().entries();
        let value = |key: &str| {
            let entry = entries.iter().find(|entry| entry.key == key);
            entry.unwrap_or_else(|| panic!("no `{key}`")).value.clone().unwrap()
        };
        assert_eq!(value(BALLISTA_SCHEDULER_MAX_PARTITIONS_PER_TASK), "1");
        assert_eq!(value(BALLISTA_ADAPTIVE_PLANNER_ENABLED), "false");
        assert_eq!(value("datafusion.optimizer.enable_leaf_expression_pushdown"), "false");
    }
}
