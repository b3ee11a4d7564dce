//! `eventide check`: is a job ready to run?

use std::{process::ExitCode, sync::Arc};

use eventide_catalog::{Stores, Tables, list};
use eventide_media::Sandbox;
use futures::TryStreamExt;
use miette::IntoDiagnostic;

use super::{Stop, explained, night, worker};
use crate::{arguments::JobArguments, report};

pub(super) async fn run(arguments: &JobArguments, stores: &Arc<Stores>) -> Result<ExitCode, Stop> {
    let night = night(arguments)?;
    let worker = worker(night.how().needs_runtime(), &arguments.tools, None)?;
    let mut findings = vec![("job", night.job.clone())];

    let versions = worker
        .tools
        .check()
        .await
        .map_err(|e| Stop::bad_job(explained(&eventide_engine::Error::Media(e))))?;
    findings
        .push(("media tools", format!("ffmpeg {}, ffprobe {}", versions.ffmpeg, versions.ffprobe)));
    let decoder = versions.decoder.unwrap_or_else(|| {
        "eventide-decoder is not there; ffmpeg does its work, at several times the cost".to_owned()
    });
    findings.push(("decoder", decoder));

    findings.push(("sandbox", Sandbox::report().to_string()));

    if let Some(model) = &night.model {
        let (name, digest) =
            model.identity(stores).await.map_err(|e| Stop::bad_job(explained(&e)))?;
        findings.push(("model", format!("{name} ({digest})")));
        findings.push(("onnxruntime", worker.onnxruntime.display().to_string()));
    }

    if let Some(speech) = &night.speech {
        let identity = speech.identity(stores).await.map_err(|e| Stop::bad_job(explained(&e)))?;
        findings.push(("speech", format!("{} ({})", identity.model_id, identity.model_digest)));
        if night.model.is_none() {
            findings.push(("onnxruntime", worker.onnxruntime.display().to_string()));
        }
    }

    let catalog = |e: eventide_catalog::Error| Stop::bad_job(explained(&e.into()));
    let corpus = stores.open(&night.corpus.uri).map_err(catalog)?;
    let mut listing = list(stores, &night.corpus).map_err(catalog)?;
    let first = listing.try_next().await.map_err(catalog)?;
    let found = first.map_or_else(|| "nothing to index".to_owned(), |video| video.uri);
    findings.push(("corpus", format!("{} (first: {found})", corpus.uri)));

    let tables = Tables::open(stores, &night.tables).map_err(catalog)?;
    let state = match tables.runs().await.map_err(catalog)?.last() {
        Some(run) => format!("last published by run {}", run.run_id),
        None => "not yet there; `eventide index` makes them".to_owned(),
    };
    findings.push(("tables", format!("{} ({state})", night.tables)));

    report::findings(&findings, arguments.format).into_diagnostic().map_err(Stop::failed)?;
    Ok(ExitCode::SUCCESS)
}
