//! `cargo xtask arrows`: who may name whom. The list is the design's picture of the rooms as a table.

use cargo_metadata::{DependencyKind, MetadataCommand};

use crate::error::{Error, Result};
use crate::workspace::{Workspace, say};

/// The packages of the workspace, and those of ours that each may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("eventide-schema", &[]),
    ("eventide-decoder", &[]),
    ("eventide-media", &["eventide-schema"]),
    ("eventide-model", &["eventide-schema"]),
    ("eventide-pipeline", &["eventide-schema", "eventide-media", "eventide-model"]),
    ("eventide-catalog", &["eventide-schema"]),
    (
        "eventide-engine",
        &[
            "eventide-schema",
            "eventide-catalog",
            "eventide-media",
            "eventide-model",
            "eventide-pipeline",
        ],
    ),
    ("eventide-query", &["eventide-schema", "eventide-catalog"]),
    ("eventide-eval", &["eventide-schema"]),
    (
        "eventide-training",
        &[
            "eventide-schema",
            "eventide-media",
            "eventide-model",
            "eventide-pipeline",
            "eventide-eval",
        ],
    ),
    (
        "eventide",
        &[
            "eventide-schema",
            "eventide-catalog",
            "eventide-engine",
            "eventide-eval",
            "eventide-media",
            "eventide-model",
            "eventide-pipeline",
            "eventide-query",
            "eventide-training",
        ],
    ),
    (
        "eventide-testkit",
        &[
            "eventide-schema",
            "eventide-catalog",
            "eventide-media",
            "eventide-model",
            "eventide-training",
        ],
    ),
    ("xtask", &[]),
];

/// What tests may use besides: words, makers of test bundles and videos, and the layers that feed the one under test.
const IN_TESTS: &[&str] = &[
    "eventide-schema",
    "eventide-media",
    "eventide-model",
    "eventide-catalog",
    "eventide-training",
    "eventide-testkit",
];

/// Families of foreign packages (a name, or a name and `-...` after it) that only these packages may depend on.
const ONLY: &[(&str, &[&str])] = &[
    ("ort", &["eventide-model"]),
    ("ffmpeg", &["eventide-decoder"]),
    ("ballista", &["eventide-engine"]),
    ("candle", &["eventide-training"]),
    ("burn", &["eventide-training"]),
    ("sentencepiece", &["eventide-model"]),
    ("deltalake", &["eventide-catalog", "eventide-query"]),
];

/// Families that a package must do without: no I/O and no async below the pipeline.
const NEVER: &[(&str, &[&str])] = &[
    ("eventide-schema", &["tokio", "futures", "object_store", "datafusion"]),
    ("eventide-model", &["tokio", "futures", "object_store", "datafusion"]),
    ("eventide-eval", &["tokio", "futures", "object_store", "datafusion"]),
    ("eventide-media", &["object_store", "datafusion"]),
];

/// A dependency that a manifest of the workspace declares.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Arrow {
    from: String,
    to: String,
    in_tests: bool,
}

/// Compares the manifests with the tables.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let (packages, arrows) = declared(workspace)?;
    let complaints = complaints(&packages, &arrows);
    for complaint in &complaints {
        println!("{complaint}");
    }
    if complaints.is_empty() {
        say(
            "ready",
            &format!(
                "{} dependencies of {} packages are as designed",
                arrows.len(),
                packages.len()
            ),
        );
        return Ok(());
    }
    Err(Error::Arrows { count: complaints.len() })
}

fn declared(workspace: &Workspace) -> Result<(Vec<String>, Vec<Arrow>)> {
    let metadata = MetadataCommand::new()
        .manifest_path(workspace.root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .map_err(|source| Error::Metadata { source })?;
    let packages = metadata.packages.iter().map(|package| package.name.to_string()).collect();
    let arrows = metadata.packages.iter().flat_map(|package| {
        package.dependencies.iter().map(|dependency| Arrow {
            from: package.name.to_string(),
            to: dependency.name.clone(),
            in_tests: dependency.kind == DependencyKind::Development,
        })
    });
    Ok((packages, arrows.collect()))
}

/// One line for each thing that the tables do not allow.
fn complaints(packages: &[String], arrows: &[Arrow]) -> Vec<String> {
    let strangers = packages
        .iter()
        .filter(|package| allowed(package).is_none())
        .map(|package| format!("`{package}` is not in the list of packages"));
    let wrong = arrows.iter().filter_map(|arrow| complaint(packages, arrow));
    strangers.chain(wrong).collect()
}

fn complaint(packages: &[String], arrow: &Arrow) -> Option<String> {
    let Arrow { from, to, in_tests } = arrow;
    if packages.contains(to) {
        let fine = allowed(from).is_some_and(|allowed| allowed.contains(&to.as_str()))
            || *in_tests && IN_TESTS.contains(&to.as_str());
        return (!fine).then(|| format!("`{from}` may not depend on `{to}`"));
    }
    if *in_tests {
        return None;
    }
    if let Some((family, owners)) = ONLY.iter().find(|(family, _)| belongs(to, family))
        && !owners.contains(&from.as_str())
    {
        return Some(format!("`{from}` may not name `{to}`: only {owners:?} may name `{family}`"));
    }
    let banned =
        NEVER.iter().find(|(package, _)| package == from).map_or(&[][..], |(_, families)| families);
    banned
        .iter()
        .find(|family| belongs(to, family))
        .map(|family| format!("`{from}` may not name `{to}`: it does without `{family}`"))
}

fn allowed(package: &str) -> Option<&'static [&'static str]> {
    ARROWS.iter().find(|(name, _)| *name == package).map(|(_, allowed)| *allowed)
}

fn belongs(package: &str, family: &str) -> bool {
    package.strip_prefix(family).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(from: &str, to: &str, in_tests: bool, expected: Option<&str>) {
        let packages: Vec<String> = ARROWS.iter().map(|(name, _)| (*name).to_owned()).collect();
        let arrow = Arrow { from: from.to_owned(), to: to.to_owned(), in_tests };
        assert_eq!(complaint(&packages, &arrow).as_deref(), expected);
    }

    #[test]
    fn the_workspace_is_as_designed() {
        run(&Workspace::locate().unwrap()).unwrap();
    }

    #[test]
    fn an_arrow_against_the_stream_is_refused() {
        check("eventide-engine", "eventide-catalog", false, None);
        check(
            "eventide-catalog",
            "eventide-engine",
            false,
            Some("`eventide-catalog` may not depend on `eventide-engine`"),
        );
    }

    #[test]
    fn tests_may_use_the_testkit_and_programs_may_not() {
        check("eventide-engine", "eventide-testkit", true, None);
        check(
            "eventide-engine",
            "eventide-testkit",
            false,
            Some("`eventide-engine` may not depend on `eventide-testkit`"),
        );
    }

    #[test]
    fn only_its_owner_names_a_heavy_library() {
        check("eventide-engine", "ballista-core", false, None);
        check(
            "eventide-query",
            "ballista-core",
            false,
            Some(
                "`eventide-query` may not name `ballista-core`: only [\"eventide-engine\"] may name `ballista`",
            ),
        );
        check("eventide-query", "ortho", false, None);
    }

    #[test]
    fn the_lowest_rooms_do_without_async() {
        check(
            "eventide-model",
            "tokio-util",
            false,
            Some("`eventide-model` may not name `tokio-util`: it does without `tokio`"),
        );
        check("eventide-model", "tokio", true, None);
    }

    #[test]
    fn a_package_that_nobody_listed_is_a_complaint() {
        assert_eq!(
            complaints(&["eventide-new".to_owned()], &[]),
            ["`eventide-new` is not in the list of packages"]
        );
    }

    #[test]
    fn the_list_itself_has_no_circle() {
        for (package, allowed) in ARROWS {
            let mut seen: Vec<&str> = Vec::new();
            let mut open: Vec<&str> = allowed.to_vec();
            while let Some(next) = open.pop() {
                assert_ne!(next, *package, "`{package}` reaches itself");
                if !seen.contains(&next) {
                    seen.push(next);
                    open.extend(super::allowed(next).unwrap_or_default());
                }
            }
        }
    }
}
