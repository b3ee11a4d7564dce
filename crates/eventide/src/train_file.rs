//! The training file: read like a job file, its paths made those of this machine.

use std::path::{Path, PathBuf};

use eventide_training::plan::{Plan, Source};

use crate::job::{JobError, anchored, parse, read};

/// Reads a training file. Its paths are relative to it.
///
/// # Errors
/// What is wrong with it, with the place and the nearest right name.
pub(crate) fn load(path: &Path) -> Result<Plan, JobError> {
    let mut plan: Plan = parse(path, &read(path)?)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let here = |place: &mut PathBuf| {
        *place = PathBuf::from(anchored(&place.to_string_lossy(), folder));
    };
    here(&mut plan.model.out);
    here(&mut plan.data.cache);
    here(&mut plan.run.folder);
    plan.model.start.as_mut().map(here);
    plan.model.tokenizer.as_mut().map(here);
    let source = |source: &mut Source| match source {
        Source::Drawn(_) => (),
        Source::Lake(lake) => lake.tables = anchored(&lake.tables, folder),
        Source::Synthetic(folder) => here(folder),
        Source::Annotated(annotated) => {
            here(&mut annotated.videos);
            annotated.annotations.paths_mut().iter_mut().for_each(here);
            annotated.names.as_mut().map(here);
        }
    };
    source(&mut plan.data.training);
    plan.data.validation.as_mut().map(source);
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn published() -> Vec<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../jobs/train");
        let files = std::fs::read_dir(folder).unwrap();
        files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some()).collect()
    }

    #[test]
    fn the_published_training_files_are_right() {
        assert!(published().len() >= 3, "{:?}", published());
        for path in published() {
            let plan = load(&path).unwrap();
            assert!(plan.model.out.is_absolute() && plan.run.folder.is_absolute());
        }
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.toml");
        let text = std::fs::read_to_string(&published()[0]).unwrap();
        std::fs::write(&path, text.replace("learning-rate", "learnin-rate")).unwrap();
        let Err(JobError::Parse { message, help, .. }) = load(&path) else { panic!("accepted") };
        assert!(message.contains("learnin-rate"), "{message}");
        assert_eq!(help.as_deref(), Some("did you mean `learning-rate`?"));
    }

    #[rstest]
    #[case::misspelt(
        "{ videos = 'v', form = 'youcook2', subste = 'training' }",
        "unknown field `subste`",
        Some("did you mean `subset`?")
    )]
    #[case::form(
        "{ videos = 'v', form = 'youcook' }",
        "unknown variant `youcook`",
        Some("did you mean `youcook2`?")
    )]
    #[case::two(
        "{ drawn = 1, seed = 1, shortest = 10, longest = 11, videos = 'v' }",
        "unknown field `videos`",
        None
    )]
    #[case::none_of_them("{ annotations = 'a.json' }", "`drawn`, `videos`, `tables`", None)]
    fn what_is_wrong_with_a_source_is_named(
        #[case] source: &str,
        #[case] because: &str,
        #[case] expected: Option<&str>,
    ) {
        let Err(JobError::Parse { message, help, .. }) = load_with(source) else {
            panic!("accepted")
        };
        assert!(message.contains(because), "{message}");
        assert_eq!(help.as_deref(), expected, "{message}");
    }

    #[test]
    fn all_files_of_a_source_are_relative_to_the_training_file() {
        let source = "{ videos = 'v', annotations = ['a.json', '/b.json'], names = 'n.json' }";
        let Source::Annotated(found) = load_with(source).unwrap().data.training else {
            panic!("another source")
        };
        let paths = found.annotations.paths().iter().chain(&found.names);
        assert!(paths.clone().all(|path| path.is_absolute()), "{found:?}");
        assert_eq!(paths.count(), 3);
    }

    /// A published training file with other training data.
    fn load_with(source: &str) -> Result<Plan, JobError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.toml");
        let text = std::fs::read_to_string(&published()[0]).unwrap();
        let changed = |line: &str| {
            let kept = !line.starts_with("training = ");
            if kept { format!("{line}\n") } else { format!("training = {source}\n") }
        };
        std::fs::write(&path, text.lines().map(changed).collect::<String>()).unwrap();
        load(&path)
    }
}
