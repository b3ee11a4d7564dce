//! `cargo xtask schemas`: the published contracts in `schemas/`, as the program writes them from its types.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::children;
use crate::error::{Error, Result};
use crate::workspace::{Draft, Workspace, create_folder, say};

/// Writes the contracts anew, or compares them with the types.
pub(crate) fn run(workspace: &Workspace, check: bool) -> Result<()> {
    let published = workspace.root().join("schemas");
    if !check {
        return generate(workspace, &published);
    }
    let target = workspace.root().join("target");
    create_folder(&target)?;
    let draft = Draft::start(&target.join("schemas"))?;
    generate(workspace, draft.folder())?;
    let stale = differences(&files(draft.folder())?, &files(&published)?);
    if stale.is_empty() {
        say("ready", "schemas/ is what the types say");
        return Ok(());
    }
    Err(Error::Schemas { files: stale.join(", ") })
}

fn generate(workspace: &Workspace, folder: &Path) -> Result<()> {
    let program = workspace.build("eventide", "dev")?;
    children::run(workspace.command(&program).args(["schemas", "--out"]).arg(folder))
}

/// Names and contents of the JSON files in a folder. What is there beside them was written by hand.
fn files(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(Error::file("list", folder))? {
        let path = entry.map_err(Error::file("list", folder))?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let content = fs::read(&path).map_err(Error::file("read", &path))?;
            files.insert(
                path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                content,
            );
        }
    }
    Ok(files)
}

/// The names that only one side has, or that differ.
fn differences(
    generated: &BTreeMap<String, Vec<u8>>,
    published: &BTreeMap<String, Vec<u8>>,
) -> Vec<String> {
    let mut names: Vec<String> = generated.keys().chain(published.keys()).cloned().collect();
    names.sort();
    names.dedup();
    names.retain(|name| generated.get(name) != published.get(name));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_new_changed_and_forgotten_contracts() {
        let side = |files: &[(&str, &str)]| {
            files
                .iter()
                .map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()))
                .collect()
        };
        let generated = side(&[("events.json", "1"), ("runs.json", "1"), ("same.json", "1")]);
        let published = side(&[("events.json", "2"), ("gone.json", "1"), ("same.json", "1")]);
        assert_eq!(differences(&generated, &published), ["events.json", "gone.json", "runs.json"]);
        assert!(differences(&generated, &generated).is_empty());
    }
}
