//! What the tests of this crate share.

use eventide_model::manifest::Manifest;

/// A manifest of a small model.
pub(crate) fn manifest() -> Manifest {
    serde_json::from_str(include_str!("testing/bundle.json")).unwrap()
}
