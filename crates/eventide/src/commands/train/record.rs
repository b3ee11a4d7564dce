//! What a run of training leaves for people and their tools: a learning curve, and its figures as a table.

use std::{fs, io, ops::Range, path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, Float64Array, RecordBatch, UInt32Array, UInt64Array},
    error::ArrowError,
};
use eventide_training::session::{Judgement, Metric};
use parquet::{arrow::ArrowWriter, errors::ParquetError};
use plotters::{
    backend::BitMapBackend,
    coord::Shift,
    prelude::{
        ChartBuilder, Color as _, DrawingArea, IntoDrawingArea as _, LineSeries, Rectangle,
        SeriesLabelPosition,
    },
    style::{BLACK, WHITE},
};

use crate::plots::{COLOURS, LETTERS, prepare};

/// The names of the files.
const CURVE: &str = "curve.png";
const TABLE: &str = "metrics.parquet";
/// Width and height of the curve in pixels.
const SIZE: (u32, u32) = (900, 640);
/// The most points of a line: more are not seen.
const POINTS: usize = 400;

/// Why there is no record. The run itself goes on without.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot draw the learning curve: {0}")]
    Drawing(String),
    #[error("cannot encode the learning curve: {0}")]
    Encoding(#[from] lodepng::Error),
    #[error("cannot make the table of figures: {0}")]
    Batch(#[from] ArrowError),
    #[error("cannot write the table of figures: {0}")]
    Parquet(#[from] ParquetError),
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

/// Writes the curve and the table of a run to its folder, each whole or as it was before.
pub(super) fn write(folder: &Path, metrics: &[Metric]) -> Result<(), Error> {
    keep(&folder.join(TABLE), &table(metrics)?)?;
    keep(&folder.join(CURVE), &curve(metrics)?)
}

fn keep(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let partial = path.with_extension("partial");
    let placed = fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, path));
    if placed.is_err() {
        // On a full disk it is in the way of the next checkpoint.
        let _ = fs::remove_file(partial);
    }
    Ok(placed?)
}

/// A row for each step: its figures, and null where the model was not judged.
fn table(metrics: &[Metric]) -> Result<Vec<u8>, Error> {
    let number = |value: fn(&Metric) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(metrics.iter().map(value)))
    };
    let judged = |value: fn(Judgement) -> Option<f64>| -> ArrayRef {
        let values = metrics.iter().map(|metric| metric.judgement.and_then(value));
        Arc::new(values.collect::<Float64Array>())
    };
    let steps = metrics.iter().map(|metric| metric.progress.step);
    let tokens = metrics.iter().map(|metric| metric.progress.tokens);
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("step", Arc::new(UInt32Array::from_iter_values(steps)) as ArrayRef, false),
        ("seconds", number(|metric| metric.seconds), false),
        ("loss", number(|metric| metric.progress.loss.into()), false),
        ("gradient_norm", number(|metric| metric.progress.norm.into()), false),
        ("learning_rate", number(|metric| metric.progress.rate), false),
        ("tokens", Arc::new(UInt64Array::from_iter_values(tokens)), false),
        ("tokens_per_second", number(|metric| metric.tokens_per_second), false),
        ("seconds_left", number(|metric| metric.seconds_left), false),
        ("validation_loss", judged(loss), true),
        ("validation_soda_c", judged(|judgement| score(judgement, |scores| scores.soda_c)), true),
        ("validation_cider", judged(|judgement| score(judgement, |scores| scores.cider)), true),
        ("validation_f1", judged(|judgement| score(judgement, |scores| scores.f1)), true),
    ])?;
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None)?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(bytes)
}

fn loss(judgement: Judgement) -> Option<f64> {
    match judgement {
        Judgement::Other { loss } => Some(loss),
        Judgement::Events(_) => None,
    }
}

fn score(
    judgement: Judgement,
    value: fn(&eventide_training::validation::Scores) -> f64,
) -> Option<f64> {
    match judgement {
        Judgement::Events(scores) => Some(value(&scores)),
        Judgement::Other { .. } => None,
    }
}

/// Points that belong together.
type Line = (&'static str, Vec<(f64, f64)>);
type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

/// The curve as a PNG: the loss above, what the model was judged by below.
fn curve(metrics: &[Metric]) -> Result<Vec<u8>, Error> {
    prepare();
    let mut pixels = vec![0; 3 * SIZE.0 as usize * SIZE.1 as usize];
    let last = metrics.last().map_or(1.0, |metric| f64::from(metric.progress.step));
    let judged = judged(metrics);
    let mut drawn = || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let area = BitMapBackend::with_buffer(&mut pixels, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let (above, below) = area.split_vertically(SIZE.1 / 2);
        draw(&above, "Loss", 0.0..last, &[("training", thinned(metrics))])?;
        draw(&below, "Validation", 0.0..last, &judged)?;
        area.present()?;
        Ok(())
    };
    drawn().map_err(|error| Error::Drawing(error.to_string()))?;
    Ok(lodepng::encode24(&pixels, SIZE.0 as usize, SIZE.1 as usize)?)
}

/// The loss by step, each point the mean of some steps where there are many.
fn thinned(metrics: &[Metric]) -> Vec<(f64, f64)> {
    let steps = metrics.chunks(metrics.len().div_ceil(POINTS).max(1));
    let mean = |steps: &[Metric]| {
        let sum: f64 = steps.iter().map(|metric| f64::from(metric.progress.loss)).sum();
        let count = u32::try_from(steps.len()).map_or(1.0, f64::from);
        let last = steps.last().map_or(0.0, |metric| f64::from(metric.progress.step));
        (last, sum / count)
    };
    steps.map(mean).collect()
}

fn judged(metrics: &[Metric]) -> Vec<Line> {
    let line = |name, value: fn(Judgement) -> Option<f64>| {
        let at = |metric: &Metric| {
            Some((f64::from(metric.progress.step), metric.judgement.and_then(value)?))
        };
        (name, metrics.iter().filter_map(at).collect())
    };
    let lines = [
        line("loss", loss),
        line("SODA_c (METEOR's relative)", |judgement| score(judgement, |scores| scores.soda_c)),
        line("F1", |judgement| score(judgement, |scores| scores.f1)),
    ];
    lines.into_iter().filter(|(_, points): &Line| !points.is_empty()).collect()
}

fn draw(
    area: &Area<'_>,
    title: &str,
    x: Range<f64>,
    lines: &[Line],
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let values = lines.iter().flat_map(|(_, points)| points).map(|(_, value)| *value);
    let most = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
    let most = if most > 0.0 { 1.05 * most } else { 1.0 };
    let mut chart = ChartBuilder::on(area)
        .caption(title, (LETTERS, 20))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(52)
        .build_cartesian_2d(x, 0.0..most)?;
    chart.configure_mesh().x_desc("step").light_line_style(WHITE).draw()?;
    for ((name, points), colour) in lines.iter().zip(COLOURS) {
        let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
        chart
            .draw_series(line)?
            .label(*name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 12, y + 4)], colour.filled()));
    }
    if !lines.is_empty() {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::MiddleRight)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.2))
            .draw()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow::{array::AsArray as _, datatypes::Float64Type};
    use eventide_training::{trainer::Progress, validation::Scores};
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use rstest::rstest;

    use super::*;

    fn metrics(steps: u32, judgement: Option<Judgement>) -> Vec<Metric> {
        let metric = |step: u32| Metric {
            progress: Progress { step, loss: 3.0, norm: 0.5, rate: 1e-3, tokens: 9 },
            seconds: f64::from(step),
            tokens_per_second: 9.0,
            seconds_left: f64::from(steps - step),
            judgement: judgement.filter(|_| step.is_multiple_of(5)),
        };
        (1..=steps).map(metric).collect()
    }

    const SCORES: Judgement =
        Judgement::Events(Scores { soda_c: 0.4, cider: 1.5, f1: 0.6, precision: 0.6, recall: 0.6 });

    #[rstest]
    #[case::nothing(0, None)]
    #[case::one(1, None)]
    #[case::many(1000, Some(SCORES))]
    #[case::loss(10, Some(Judgement::Other { loss: 2.0 }))]
    fn the_curve_is_a_picture(#[case] steps: u32, #[case] judgement: Option<Judgement>) {
        let file = curve(&metrics(steps, judgement)).unwrap();
        let picture = lodepng::decode24(file).unwrap();
        assert_eq!((picture.width, picture.height), (SIZE.0 as usize, SIZE.1 as usize));
        let is_blue = |pixel: &&lodepng::RGB<u8>| (pixel.r, pixel.g, pixel.b) == (0, 90, 181);
        let blue = picture.buffer.iter().filter(is_blue).count();
        assert_eq!(blue > 100, steps > 1, "{blue}");
    }

    #[test]
    fn the_table_has_a_row_for_each_step() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &metrics(12, Some(SCORES))).unwrap();
        let file = fs::File::open(folder.path().join(TABLE)).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
        let batches: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 12);
        let judged = batches[0].column_by_name("validation_f1").unwrap();
        assert_eq!(judged.null_count(), 10);
        for (name, last) in [("tokens_per_second", 9.0), ("seconds_left", 0.0_f64)] {
            let column = batches[0].column_by_name(name).unwrap().as_primitive::<Float64Type>();
            assert!((column.value(11) - last).abs() < 1e-9, "{name}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left over");
    }
}
