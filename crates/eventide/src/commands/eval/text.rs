//! The report for a terminal. Figures are times 100, as papers print them.

use comfy_table::{Cell, CellAlignment, Table, TableComponent, presets};
use eventide_eval::{
    LeftOut,
    localisation::{IOU_THRESHOLDS, START_DISTANCES},
};

use super::{
    arguments::Variant,
    document::{EvalReport, Gate, Origin},
};

/// Names that a list shows before it says how many more there are.
const NAMED: usize = 3;

/// The whole report.
pub(super) fn report(document: &EvalReport) -> String {
    let mut parts = vec![about(document).join("\n"), headline(document)];
    if document.variant == Variant::Dense {
        parts.push(by_overlap(document));
        parts.push(by_start(document));
    }
    parts.push(format!("worst videos: {}", document.worst.join(", ")));
    if let Some(calibration) = calibration(document) {
        parts.push(calibration);
    }
    parts.extend(comparison(document));
    if let Some(gate) = &document.gate {
        parts.push(if gate.passed {
            format!("gate: {} figures hold against {}", gate.checked, gate.baseline)
        } else {
            format!("gate: did not hold against {}\n  {}", gate.baseline, falls(gate).join("\n  "))
        });
    }
    parts.join("\n\n")
}

/// What was scored against what, and what was left out.
pub(super) fn about(document: &EvalReport) -> Vec<String> {
    let mut lines = vec![format!("predictions: {}", place(&document.predictions))];
    lines.extend(document.references.iter().map(|set| format!("references: {}", place(set))));
    if let Some(compared) = &document.comparison {
        lines.push(format!("compared with: {}", place(&compared.other)));
    }
    let videos = plural(document.videos, "video");
    lines.push(format!("scored: {videos}; {}", left_out(document)));
    let empty = &document.without_events;
    if !empty.is_empty() {
        lines.push(format!("left out: {} without an event{}", empty.len(), named(empty)));
    }
    lines.extend(odd(&document.left_out));
    lines
}

fn place(place: &Origin) -> String {
    let Origin { place, videos, events, unfinished } = place;
    let unfinished = match unfinished {
        0 => String::new(),
        n => format!("; {} failed or skipped, without prediction", plural(*n, "video")),
    };
    format!("{place} ({}, {}{unfinished})", plural(*videos, "video"), plural(*events, "event"))
}

/// How many videos were left out on either side, always.
fn left_out(document: &EvalReport) -> String {
    let LeftOut { without_prediction, without_reference, .. } = &document.left_out;
    let unpredicted = match document.unpredicted {
        super::arguments::UnpredictedName::LeaveOut => "left out",
        super::arguments::UnpredictedName::Empty => "scored as empty",
    };
    format!(
        "{unpredicted}: {} without a prediction{}; left out: {} without a reference{}",
        without_prediction.len(),
        named(without_prediction),
        without_reference.len(),
        named(without_reference),
    )
}

fn named(videos: &[String]) -> String {
    if videos.is_empty() {
        return String::new();
    }
    let more = videos.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(" ({}{more})", videos[..videos.len().min(NAMED)].join(", "))
}

/// What was used by a rule, where there is any.
fn odd(left_out: &LeftOut) -> Vec<String> {
    [
        (left_out.empty_references, "reference entries without events, not used"),
        (left_out.surplus_predictions, "predictions past the first 1000 of their video, not used"),
        (left_out.cut_off, "chapters past the end of their video, not used"),
        (left_out.reversed_spans, "spans that ended before they started, turned round"),
        (left_out.empty_captions, "events without a caption, which match no word"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("note: {what}: {count}"))
    .collect()
}

fn headline(document: &EvalReport) -> String {
    let mut table = table(&["figure", "x 100"]);
    for name in &document.headline {
        add(&mut table, name, [document.figures.get(name).copied()]);
    }
    table.to_string()
}

fn by_overlap(document: &EvalReport) -> String {
    let captions = ["cider", "meteor", "meteor_native", "meteor_native_wordnet"];
    let captions = captions.into_iter().filter(|name| document.figures.contains_key(*name));
    let columns: Vec<&str> = ["precision", "recall", "f1"].into_iter().chain(captions).collect();
    let mut table = table(&[&["at overlap"], &columns[..]].concat());
    for threshold in IOU_THRESHOLDS {
        let figure = |name: &&str| document.figures.get(&format!("{name}@{threshold}")).copied();
        add(&mut table, &threshold.to_string(), columns.iter().map(figure));
    }
    table.to_string()
}

fn by_start(document: &EvalReport) -> String {
    let columns = ["precision", "recall", "f1"];
    let mut table = table(&["start within", "precision", "recall", "f1"]);
    for distance in START_DISTANCES {
        let figure =
            |name: &str| document.figures.get(&format!("start_{name}@{distance}s")).copied();
        add(&mut table, &format!("{distance} s"), columns.map(figure));
    }
    table.to_string()
}

/// How far the model's scores can be trusted, in a line.
pub(super) fn calibration(document: &EvalReport) -> Option<String> {
    let found = document.calibration.as_ref()?;
    let ranking = found.ranking.map_or_else(String::new, |ranking| {
        format!("; a right event scores above a wrong one in {:.1} % of pairs", 100.0 * ranking)
    });
    Some(format!(
        "event scores: {} events, off by {:.3} from the share of them with overlap >= 0.5{ranking}",
        found.events, found.expected_error
    ))
}

fn comparison(document: &EvalReport) -> Option<String> {
    let compared = &document.comparison.as_ref()?.comparison;
    let percent = 100.0 * compared.bootstrap.confidence;
    let interval = format!("{percent} % interval");
    let mut table = table(&["figure", "these", "others", "difference", &interval, ""]);
    for each in &compared.figures {
        let (low, high) = each.interval;
        table.add_row([
            Cell::new(&each.figure),
            number(each.ours),
            number(each.other),
            Cell::new(format!("{:+.2}", 100.0 * each.difference))
                .set_alignment(CellAlignment::Right),
            Cell::new(format!("{:+.2} to {:+.2}", 100.0 * low, 100.0 * high))
                .set_alignment(CellAlignment::Right),
            Cell::new(verdict(each)),
        ]);
    }
    Some(format!(
        "compared over {} videos that both were scored on; {} left out; {} draws, seed {}\n{table}",
        compared.videos, compared.left_out, compared.bootstrap.resamples, compared.bootstrap.seed
    ))
}

/// Which is better, if one is by more than chance.
pub(super) fn verdict(difference: &eventide_eval::compare::Difference) -> &'static str {
    match (difference.is_significant(), difference.difference > 0.0) {
        (false, _) => "",
        (true, true) => "better",
        (true, false) => "worse",
    }
}

/// What did not hold, one line each.
pub(super) fn falls(gate: &Gate) -> Vec<String> {
    let falls = gate.fallen.iter().map(|fall| {
        let now =
            fall.now.map_or_else(|| "missing".to_owned(), |now| format!("{:.2}", 100.0 * now));
        format!(
            "{} fell from {:.2} to {now}, below {:.2}",
            fall.figure,
            100.0 * fall.baseline,
            100.0 * fall.least
        )
    });
    let missing = (gate.videos_missing > 0).then(|| {
        format!("{} fewer scored than in the baseline", plural(gate.videos_missing, "video"))
    });
    falls.chain(missing).collect()
}

/// `1 video`, `2 videos`.
pub(super) fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_style(TableComponent::HeaderLines, '─');
    table.set_style(TableComponent::MiddleHeaderIntersections, '─');
    let cell = |(place, name): (usize, &&str)| {
        let right = CellAlignment::Right;
        if place == 0 { Cell::new(name) } else { Cell::new(name).set_alignment(right) }
    };
    table.set_header(header.iter().enumerate().map(cell));
    table
}

fn add(table: &mut Table, name: &str, figures: impl IntoIterator<Item = Option<f64>>) {
    let cells = figures.into_iter().map(|figure| figure.map_or_else(|| Cell::new("-"), number));
    table.add_row(std::iter::once(Cell::new(name)).chain(cells));
}

fn number(figure: f64) -> Cell {
    Cell::new(format!("{:.2}", 100.0 * figure)).set_alignment(CellAlignment::Right)
}
