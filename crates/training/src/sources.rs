//! The examples of the sources that a training file names.

use std::path::Path;

use eventide_media::Media;

use crate::{
    data::{
        Example,
        annotations::{Annotations, names},
        folder::{Faulty, Report, Videos, join, synthetic},
        pictures::duration_us,
    },
    error::{Error, Result},
    plan::{Annotated, Source},
    run::{Listener, Surroundings},
};

/// The examples of a source, told of.
///
/// # Errors
/// What the source says; [`Error::NoExamples`] if none is left.
pub(crate) fn examples(
    source: &Source,
    what: &str,
    surroundings: &Surroundings<'_>,
    listener: &mut Listener<'_>,
) -> Result<Vec<Example>> {
    let (examples, report) = match source {
        Source::Synthetic(folder) => synthetic(folder)?,
        Source::Drawn(drawn) => drawn.examples()?,
        Source::Lake(lake) => (surroundings.lake)(lake)
            .map_err(|source| Error::Lake { tables: lake.tables.clone(), source })?,
        Source::Annotated(source) => annotated(source, surroundings.media)?,
    };
    (listener.joined)(what, examples.len(), &report);
    if examples.is_empty() { Err(Error::NoExamples) } else { Ok(examples) }
}

/// Those examples of which somebody told what happens.
///
/// # Errors
/// [`Error::Plan`] if there is none.
pub(crate) fn told_of(mut examples: Vec<Example>, what: &str) -> Result<Vec<Example>> {
    let videos = examples.len();
    examples.retain(|example| !example.references.is_empty());
    if examples.is_empty() {
        return Err(Error::Plan {
            problem: format!(
                "of none of the {videos} videos of `data.{what}` is it told what happens, which the task `events` learns: name annotations, or tables with captions"
            ),
        });
    }
    Ok(examples)
}

/// The examples of a folder of videos and of files of annotations. What is wrong is left out.
fn annotated(source: &Annotated, media: &Media) -> Result<(Vec<Example>, Report)> {
    let videos = Videos::list(&source.videos)?;
    let (annotations, other_subset, nameless) = match source.annotations.paths() {
        [] if source.subset.is_some() || source.names.is_some() => {
            let problem = "`subset` and `names` are of annotations: name them in `annotations`";
            return Err(Error::Plan { problem: problem.to_owned() });
        }
        [] => (videos.unannotated(&source.videos), 0, Vec::new()),
        [first, others @ ..] => {
            let mut annotations = Annotations::read(first, source.form)?;
            for other in others {
                annotations.add_annotators(Annotations::read(other, source.form)?);
            }
            let other_subset = match &source.subset {
                Some(subset) => annotations.keep_subset(subset)?,
                None => 0,
            };
            let nameless = match &source.names {
                Some(path) => annotations.rename(&names(path)?),
                None => Vec::new(),
            };
            (annotations, other_subset, nameless)
        }
    };
    let length = |path: &Path| duration_us(media, path);
    let (examples, report) = join(&annotations, &videos, &length, Faulty::LeaveOut)?;
    Ok((examples, Report { other_subset, nameless, ..report }))
}
