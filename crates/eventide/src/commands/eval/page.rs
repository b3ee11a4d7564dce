//! The report as a folder: Markdown with its plots beside it, one HTML page that holds them, and the data.
//!
//! The page is the Markdown, rendered; the plots stand in it as they are.

use std::{fmt::Write as _, fs, path::Path};

use eventide_eval::{Event, VideoCase, curves::events_a_video};
use miette::{IntoDiagnostic, WrapErr};

use super::{
    arguments::Variant,
    document::{EvalReport, Scored},
    plots::{self, Plot, PlotError},
    text,
};
use crate::{
    commands::Stop,
    markdown::{code, escaped, page, table},
};

/// Events that are shown of one of the worst videos, on either side.
const SHOWN: usize = 12;

/// Writes the report's files; the folder is made if it is not there.
pub(super) fn write_report(
    folder: &Path,
    document: &EvalReport,
    scored: &Scored,
) -> Result<(), Stop> {
    fs::create_dir_all(folder)
        .into_diagnostic()
        .wrap_err_with(|| format!("cannot make `{}`", folder.display()))
        .map_err(Stop::failed)?;
    let plots = plots(document, scored)
        .into_diagnostic()
        .wrap_err("cannot draw the plots")
        .map_err(Stop::failed)?;
    let markdown = markdown(document, scored, &plots);
    for plot in &plots {
        super::write(&folder.join(format!("{}.svg", plot.name)), plot.svg.as_bytes())?;
    }
    let json = serde_json::to_string_pretty(document).into_diagnostic().map_err(Stop::failed)?;
    super::write(&folder.join("report.json"), (json + "\n").as_bytes())?;
    super::write(&folder.join("report.md"), markdown.as_bytes())?;
    let plot =
        |name: &str| plots.iter().find(|plot| plot.name == name).map(|plot| plot.svg.as_str());
    let html = page("Scores", &markdown, plot);
    super::write(&folder.join("report.html"), html.as_bytes())
}

fn plots(document: &EvalReport, scored: &Scored) -> Result<Vec<Plot>, PlotError> {
    let mut plots = Vec::new();
    if document.variant == Variant::Dense {
        plots.push(plots::precision_recall(&document.precision_recall)?);
    }
    let figures = &scored.figures;
    let of_videos = |figure| -> Vec<f64> {
        (0..figures.videos().len()).filter_map(|video| figures.of_video(figure, video)).collect()
    };
    let mut headline = figures.all().iter().filter(|figure| figure.headline);
    if let Some(figure) = headline.find(|figure| !of_videos(figure).is_empty()) {
        plots.push(plots::scores(&figure.name, of_videos(figure))?);
    }
    plots.push(plots::events_a_video(&events_a_video(&scored.corpus))?);
    if let Some(found) = &document.calibration {
        plots.push(plots::calibration(found)?);
    }
    Ok(plots)
}

fn markdown(document: &EvalReport, scored: &Scored, plots: &[Plot]) -> String {
    let mut page = String::from("# Scores\n\n");
    for line in text::about(document) {
        let _ = writeln!(page, "* {}", escaped(&line));
    }
    page += "\nFigures are times 100, as papers print them.\n";
    if document.figures.keys().any(|name| name.starts_with("meteor_native")) {
        page += "`meteor_native` and `soda_c_native` are not METEOR and SODA\\_c: they are not to be compared with \
                 published figures.\n";
    }
    page += "\n## Figures\n\n";
    let rows = document.headline.iter().filter_map(|name| {
        Some(vec![code(name), format!("{:.2}", 100.0 * document.figures.get(name)?)])
    });
    table(&mut page, &["figure", "value"], rows);
    gate(&mut page, document);
    comparison(&mut page, document);
    page += "## Plots\n\n";
    for plot in plots {
        let _ = writeln!(page, "![{}]({}.svg)\n", escaped(&plot.title), plot.name);
    }
    if let Some(line) = text::calibration(document) {
        let _ = writeln!(page, "{}\n", escaped(&line));
    }
    worst(&mut page, document, scored);
    thresholds(&mut page, document);
    page
}

fn gate(page: &mut String, document: &EvalReport) {
    let Some(gate) = &document.gate else { return };
    let verdict = if gate.passed { "held" } else { "did not hold" };
    let (baseline, percent) = (escaped(&gate.baseline), 100.0 * gate.tolerance);
    let _ = writeln!(
        page,
        "## Gate\n\nThe gate {verdict}: {} figures against {baseline}, tolerance {percent} %.\n",
        gate.checked
    );
    for fall in text::falls(gate) {
        let _ = writeln!(page, "* {}", escaped(&fall));
    }
    page.push('\n');
}

fn comparison(page: &mut String, document: &EvalReport) {
    let Some(compared) = &document.comparison else { return };
    let comparison = &compared.comparison;
    let _ = writeln!(
        page,
        "## Comparison\n\nWith {}, over {} videos that both were scored on ({} left out). Intervals of {} %: paired \
         bootstrap over videos, {} draws, seed {}.\n",
        escaped(&compared.other.place),
        comparison.videos,
        comparison.left_out,
        100.0 * comparison.bootstrap.confidence,
        comparison.bootstrap.resamples,
        comparison.bootstrap.seed,
    );
    let rows = comparison.figures.iter().map(|each| {
        let (low, high) = each.interval;
        vec![
            code(&each.figure),
            format!("{:.2}", 100.0 * each.ours),
            format!("{:.2}", 100.0 * each.other),
            format!("{:+.2}", 100.0 * each.difference),
            format!("{:+.2} to {:+.2}", 100.0 * low, 100.0 * high),
            text::verdict(each).to_owned(),
        ]
    });
    table(page, &["figure", "these", "others", "difference", "interval", "verdict"], rows);
}

fn worst(page: &mut String, document: &EvalReport, scored: &Scored) {
    let _ = writeln!(page, "## The worst {}\n", text::plural(document.worst.len(), "video"));
    for video in &document.worst {
        let case = scored.corpus.videos().iter().find(|case| case.video == *video);
        let figures = document.per_video.iter().find(|figures| figures.video == *video);
        let (Some(case), Some(figures)) = (case, figures) else { continue };
        let _ = writeln!(page, "### {}\n", escaped(video));
        let named = document.headline.iter().filter_map(|name| {
            Some(format!("{} {:.2}", code(name), 100.0 * figures.figures.get(name)?))
        });
        let _ = writeln!(page, "{}\n", named.collect::<Vec<_>>().join(", "));
        events(page, case);
    }
}

fn events(page: &mut String, case: &VideoCase) {
    let row = |whose: String| {
        move |event: &Event| {
            let (start, end) = (event.span.start, event.span.end);
            vec![whose.clone(), format!("{start:.1} to {end:.1} s"), escaped(&event.caption)]
        }
    };
    let mut rows: Vec<_> =
        case.predictions.iter().take(SHOWN).map(row("predicted".to_owned())).collect();
    let mut hidden = case.predictions.len().saturating_sub(SHOWN);
    for (set, references) in (1..).zip(&case.references) {
        rows.extend(references.iter().take(SHOWN).map(row(format!("reference {set}"))));
        hidden += references.len().saturating_sub(SHOWN);
    }
    table(page, &["whose", "when", "caption"], rows.into_iter());
    if hidden > 0 {
        let _ = writeln!(page, "{} more.\n", text::plural(hidden, "event"));
    }
}

/// Every figure that is no headline.
fn thresholds(page: &mut String, document: &EvalReport) {
    let others = document.figures.iter().filter(|(name, _)| !document.headline.contains(name));
    let rows: Vec<_> =
        others.map(|(name, value)| vec![code(name), format!("{:.2}", 100.0 * value)]).collect();
    if !rows.is_empty() {
        page.push_str("## All figures\n\n");
        table(page, &["figure", "value"], rows.into_iter());
    }
}
