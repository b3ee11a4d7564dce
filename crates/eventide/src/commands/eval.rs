//! `eventide eval`: scores of predicted against reference events, compared, gated and reported.
//!
//! The figures come from `eventide_eval`; here files and tables are read, METEOR's program is run, and results are shown.

mod arguments;
mod baseline;
mod document;
mod meteor;
mod page;
mod plots;
mod read;
mod tables;
mod text;

use std::{
    borrow::Cow, fs, io::IsTerminal, os::unix::fs::PermissionsExt, path::Path, process::ExitCode,
    time::Duration,
};

use eventide_catalog::Stores;
use eventide_eval::{
    Annotations, Corpus, Error, MeteorNative, Options, Result as Scoring, SentenceScorer,
    clips::clips,
    compare::{Bootstrap, compare},
    figures::Figures,
    paragraph::paragraphs,
    score_corpus,
    soda::SodaOptions,
    wordnet::{FILES, WordNet},
};
use indicatif::{ProgressBar, ProgressStyle};
use miette::{IntoDiagnostic, WrapErr};

pub(crate) use arguments::EvalArguments;
pub(crate) use document::EvalReport;
pub(super) use read::references;
pub(super) use tables::stem;

use self::{
    arguments::{Entries, Variant},
    baseline::Baseline,
    document::{Compared, Gate, Scored},
    meteor::{Counted, Meteor},
    read::{Inputs, inputs},
};
use super::{Stop, chain};
use crate::{
    arguments::{Common, Format},
    environment, report,
};

/// Scores, prints, and says by its exit code whether the gate held.
pub(super) async fn run(
    arguments: &EvalArguments,
    common: &Common,
    stores: &Stores,
) -> Result<ExitCode, Stop> {
    // What can be wrong is found before anything takes long.
    let baseline = arguments.gate.as_deref().map(Baseline::load).transpose()?;
    let mut scorer = scorer(arguments, common)?;
    let inputs = inputs(arguments, stores).await?;
    let ours = score(arguments, &inputs, &inputs.predictions.annotations, &mut scorer)?;
    let comparison = comparison(arguments, &inputs, &ours, &mut scorer)?;
    scorer.bar.finish_and_clear();
    if let Some(path) = &arguments.write_baseline {
        Baseline::of(arguments, &ours.figures).write(path)?;
    }
    let gate = baseline.map(|baseline| baseline.check(arguments, &ours.figures)).transpose()?;
    let document = EvalReport::new(arguments, &inputs, &ours, comparison, gate);
    if let Some(folder) = &arguments.report {
        page::write_report(folder, &document, &ours)?;
    }
    let text = match arguments.format {
        Format::Json => serde_json::to_string_pretty(&document).into_diagnostic(),
        Format::Text => Ok(text::report(&document)),
    };
    let text = text.wrap_err("cannot print the result").map_err(Stop::failed)?;
    report::text(&text).map_err(Stop::failed)?;
    match &document.gate {
        Some(gate) if !gate.passed => Err(fell(gate)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// METEOR if its program was named, else our relative of it.
fn scorer(arguments: &EvalArguments, common: &Common) -> Result<Counted, Stop> {
    let shown = !common.quiet && std::io::stderr().is_terminal();
    let bar = if shown { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template(
        "{elapsed_precise} {spinner} {msg}, {pos} pairs of captions scored",
    );
    bar.set_style(style.expect("the template is right"));
    let Some(jar) = &arguments.meteor_jar else {
        let native = match &arguments.wordnet {
            Some(folder) => MeteorNative::with_synonyms(wordnet(folder)?),
            None => MeteorNative::new(),
        };
        bar.set_message(native.name().to_owned());
        return Ok(Counted { scorer: Box::new(native), bar });
    };
    if !jar.is_file() {
        return Err(Stop::bad_job(miette::miette!(
            help = "METEOR 1.5's program is in the PyPI package `pycocoevalcap`, below `meteor/`",
            "there is no METEOR at `{}`",
            jar.display()
        )));
    }
    let java = environment::java(arguments.java.as_deref(), arguments.tools.as_deref());
    let java = java.map_err(Stop::bad_job)?;
    bar.set_message("METEOR");
    bar.enable_steady_tick(Duration::from_millis(250));
    let meteor = Meteor::new(java, jar.clone(), arguments.meteor_deadline);
    Ok(Counted { scorer: Box::new(meteor), bar })
}

/// The synonyms of WordNet's files in a folder.
fn wordnet(folder: &Path) -> Result<WordNet, Stop> {
    let read = |name| {
        let path = folder.join(name);
        std::fs::read_to_string(&path).map_err(|error| {
            Stop::bad_job(miette::miette!(
                help = "the Debian package `wordnet-base` has the files, in /usr/share/wordnet",
                "cannot read `{}`: {error}",
                path.display()
            ))
        })
    };
    let texts: Vec<String> = FILES.into_iter().map(read).collect::<Result<_, _>>()?;
    WordNet::parse(texts.iter().map(String::as_str))
        .map_err(|error| Stop::bad_job(miette::miette!("{error}")))
}

/// Scores predictions against the references.
fn score(
    arguments: &EvalArguments,
    inputs: &Inputs,
    predictions: &Annotations,
    scorer: &mut dyn SentenceScorer,
) -> Result<Scored, Stop> {
    let references: Vec<_> =
        inputs.references.iter().map(|source| source.annotations.clone()).collect();
    let predictions = match arguments.entries {
        Entries::Videos => Cow::Borrowed(predictions),
        Entries::Annotations => Cow::Owned(predictions.for_each_annotation(&references)),
    };
    Corpus::join(&predictions, &references, arguments.unpredicted.into())
        .and_then(|corpus| {
            let (figures, without_events) = figures(arguments, &corpus, scorer)?;
            Ok(Scored { corpus, figures, without_events })
        })
        .map_err(|error| explained(&error))
}

/// The figures, and the videos that have none since nothing was predicted in them.
fn figures(
    arguments: &EvalArguments,
    corpus: &Corpus,
    scorer: &mut dyn SentenceScorer,
) -> Scoring<(Figures, Vec<String>)> {
    let figures = match arguments.variant {
        Variant::Dense => {
            let soda = SodaOptions {
                roles: arguments.roles.into(),
                ..arguments.convention.of_scorer().soda(arguments.several_sets.into())
            };
            let options = Options { soda, soda_cost: arguments.soda_cost.into() };
            Figures::of_dense(&score_corpus(corpus, options, scorer)?)
        }
        Variant::Clips => Figures::of_clips(&clips(corpus, arguments.roles.into(), &mut [scorer])?),
        Variant::Paragraph => {
            let paragraphs = paragraphs(corpus, &mut [scorer])?;
            return Ok((Figures::of_paragraphs(&paragraphs), paragraphs.without_events));
        }
    };
    Ok((figures, Vec::new()))
}

/// These predictions beside the others, if any were named.
fn comparison(
    arguments: &EvalArguments,
    inputs: &Inputs,
    ours: &Scored,
    scorer: &mut dyn SentenceScorer,
) -> Result<Option<Compared>, Stop> {
    let Some(other) = &inputs.other else { return Ok(None) };
    let theirs = score(arguments, inputs, &other.annotations, scorer)?;
    let bootstrap = Bootstrap {
        resamples: arguments.resamples as usize,
        seed: arguments.seed,
        ..Bootstrap::default()
    };
    let comparison = compare(&ours.figures, &theirs.figures, bootstrap);
    let comparison = comparison.map_err(|error| explained(&error))?;
    Ok(Some(Compared::new(other, theirs.corpus.left_out(), comparison)))
}

/// An error of the scores with what to do about it.
fn explained(error: &Error) -> Stop {
    let text = chain(error);
    match error {
        Error::Scorer { .. } | Error::Scores { .. } => Stop::failed(miette::miette!(
            help = "METEOR 1.5 needs Java 8 or later, and its folder `data` beside the jar",
            "{text}"
        )),
        Error::NothingInCommon { .. } => Stop::bad_job(miette::miette!(
            help = "the ids are most likely written differently; those of tables are chosen by --ids, and `k_id` of several annotators, as in ViTT, is read by --entries annotations",
            "{text}"
        )),
        Error::Clips { .. } | Error::Bounds { .. } => Stop::bad_job(miette::miette!(
            help = "the variant `clips` takes one caption for each span of the references, in their order; for events that a model found, use `dense`",
            "{text}"
        )),
        _ => Stop::bad_job(miette::miette!("{text}")),
    }
}

/// What did not hold.
fn fell(gate: &Gate) -> Stop {
    Stop::failed(miette::miette!("the gate did not hold: {}", text::falls(gate).join("; ")))
}

/// Writes a file whole or not at all.
fn write(path: &Path, content: &[u8]) -> Result<(), Stop> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let for_all = fs::Permissions::from_mode(0o666); // less what the umask takes
    let draft =
        tempfile::Builder::new().permissions(for_all).tempfile_in(folder.unwrap_or(Path::new(".")));
    let written = draft.and_then(|file| {
        fs::write(file.path(), content)?;
        file.persist(path).map_err(|error| error.error)
    });
    written
        .map(drop)
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot write `{}`", path.display()))
        .map_err(Stop::failed)
}
