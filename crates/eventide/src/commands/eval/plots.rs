//! The plots of a report, as SVG.

use std::{io, ops::Range};

use eventide_eval::{curves::Calibration, localisation::At};
use plotters::prelude::*;

use crate::plots::{COLOURS, LETTERS, prepare};

/// Width and height in pixels.
const SIZE: (u32, u32) = (560, 340);
/// Most bars of a histogram.
const BARS: usize = 20;
/// A plot.
pub(super) struct Plot {
    /// The name of its file without extension, such as `precision-recall`.
    pub(super) name: &'static str,
    /// What it shows.
    pub(super) title: String,
    /// The picture.
    pub(super) svg: String,
}

/// Why a plot could not be drawn. It is drawn to memory, so that there should be no reason.
pub(super) type PlotError = DrawingAreaErrorKind<io::Error>;

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// What is drawn: a title, what its axes are, and where there is room to name the series.
struct Frame<'a> {
    title: &'a str,
    x: &'a str,
    y: &'a str,
    legend: SeriesLabelPosition,
}

/// Points that belong together.
type Series<'a> = (&'a str, Vec<(f64, f64)>);

/// Precision, recall and F1 by overlap.
pub(super) fn precision_recall(curve: &[At]) -> Result<Plot, PlotError> {
    let line = |value: fn(&At) -> f64| curve.iter().map(|at| (at.threshold, value(at))).collect();
    let lines = [
        ("precision", line(|at| at.scores.precision)),
        ("recall", line(|at| at.scores.recall)),
        ("F1", line(|at| at.scores.f1)),
    ];
    let legend = SeriesLabelPosition::LowerLeft;
    let title = "Precision and recall by overlap";
    let frame = Frame { title, x: "overlap (IoU)", y: "share", legend };
    plot("precision-recall", &frame, |area| draw_lines(area, &frame, 0.0..1.0, &lines))
}

/// How many videos have which score.
pub(super) fn scores(figure: &str, values: Vec<f64>) -> Result<Plot, PlotError> {
    let title = format!("{figure} of videos");
    let legend = SeriesLabelPosition::UpperRight;
    let frame = Frame { title: &title, x: figure, y: "videos", legend };
    plot("scores", &frame, |area| draw_bars(area, &frame, &[("videos", values)]))
}

/// How many videos have how many events, predicted and in the references.
pub(super) fn events_a_video(counts: &[(f64, f64)]) -> Result<Plot, PlotError> {
    let legend = SeriesLabelPosition::UpperRight;
    let frame = Frame { title: "Events a video", x: "events", y: "videos", legend };
    let (predicted, annotated) = counts.iter().copied().unzip();
    let series = [("predicted", predicted), ("references", annotated)];
    plot("events-a-video", &frame, |area| draw_bars(area, &frame, &series))
}

/// Confidence against the share of right events.
pub(super) fn calibration(found: &Calibration) -> Result<Plot, PlotError> {
    let measured = found.bins.iter().map(|bin| (bin.confidence, bin.right)).collect();
    let most = found.bins.iter().map(|bin| bin.confidence).fold(1.0, f64::max);
    let lines =
        [("tenths of the events", measured), ("as it should be", vec![(0.0, 0.0), (1.0, 1.0)])];
    let (x, y) = ("confidence", "share with overlap >= 0.5");
    let legend = SeriesLabelPosition::LowerRight;
    let frame = Frame { title: "Calibration of event scores", x, y, legend };
    plot("calibration", &frame, |area| draw_lines(area, &frame, 0.0..most, &lines))
}

fn plot(
    name: &'static str,
    frame: &Frame<'_>,
    draw: impl FnOnce(&Area<'_>) -> Result<(), PlotError>,
) -> Result<Plot, PlotError> {
    prepare();
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        draw(&area)?;
        area.present()?;
    }
    Ok(Plot { name, title: frame.title.to_owned(), svg })
}

fn draw_lines(
    area: &Area<'_>,
    frame: &Frame<'_>,
    x: Range<f64>,
    lines: &[Series<'_>],
) -> Result<(), PlotError> {
    let mut chart = ChartBuilder::on(area)
        .caption(frame.title, (LETTERS, 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(52)
        .build_cartesian_2d(x, 0.0..1.0)?;
    chart.configure_mesh().x_desc(frame.x).y_desc(frame.y).light_line_style(WHITE).draw()?;
    for ((name, points), colour) in lines.iter().zip(COLOURS) {
        chart
            .draw_series(
                LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(2),
            )?
            .label(*name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 12, y + 4)], colour.filled()));
    }
    name_series(&mut chart, frame)
}

fn draw_bars(
    area: &Area<'_>,
    frame: &Frame<'_>,
    series: &[(&str, Vec<f64>)],
) -> Result<(), PlotError> {
    let (edges, width) = bins(series.iter().flat_map(|(_, values)| values));
    let heights: Vec<Vec<f64>> =
        series.iter().map(|(_, values)| heights(values, &edges, width)).collect();
    let highest = heights.iter().flatten().copied().fold(1.0, f64::max);
    let (first, last) = (edges[0], edges[edges.len() - 1] + width);
    let mut chart = ChartBuilder::on(area)
        .caption(frame.title, (LETTERS, 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(52)
        .build_cartesian_2d(first..last, 0.0..highest * 1.05)?;
    let mut mesh = chart.configure_mesh();
    mesh.disable_x_mesh().x_desc(frame.x).y_desc(frame.y).light_line_style(WHITE).draw()?;
    let many = u32::try_from(series.len()).map_or(1.0, f64::from);
    let bar = 0.9 * width / many;
    for (place, (((name, _), heights), colour)) in
        (0..).zip(series.iter().zip(&heights).zip(COLOURS))
    {
        let left = 0.05 * width + f64::from(place) * bar;
        let bars = edges.iter().zip(heights).map(|(edge, height)| {
            Rectangle::new([(edge + left, 0.0), (edge + left + bar, *height)], colour.filled())
        });
        chart
            .draw_series(bars)?
            .label(*name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 12, y + 4)], colour.filled()));
    }
    if series.len() > 1 { name_series(&mut chart, frame) } else { Ok(()) }
}

fn name_series<'a, X, Y>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
    frame: &Frame<'_>,
) -> Result<(), PlotError>
where
    X: Ranged,
    Y: Ranged,
{
    chart
        .configure_series_labels()
        .position(frame.legend.clone())
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.2))
        .draw()
}

/// The left edges of bars that hold all values from 0 on, and their width: one for each whole number where there are few
/// and all are whole.
fn bins<'a>(values: impl Iterator<Item = &'a f64>) -> (Vec<f64>, f64) {
    let values: Vec<f64> = values.copied().collect();
    let most = values.iter().copied().fold(0.0, f64::max);
    let whole = values.iter().all(|value| value.fract() == 0.0);
    let bars = u32::try_from(BARS).unwrap_or(1);
    let most = if whole { most + 1.0 } else { most * 1.0001 };
    let width = match (whole, most) {
        (true, _) => (most / f64::from(bars)).ceil(),
        (false, most) if most > 0.0 => most / f64::from(bars),
        (false, _) => 1.0,
    };
    let edges = (0..bars).map(|bar| f64::from(bar) * width).take_while(|edge| *edge < most);
    (edges.collect(), width)
}

/// How many values lie in each bar.
fn heights(values: &[f64], edges: &[f64], width: f64) -> Vec<f64> {
    let mut heights = vec![0.0; edges.len()];
    for value in values {
        let place = edges.iter().rposition(|edge| edge <= value);
        if let Some(place) = place.filter(|place| *value < edges[*place] + width) {
            heights[place] += 1.0;
        }
    }
    heights
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::whole(&[0.0, 2.0, 2.0, 3.0], &[1.0, 0.0, 2.0, 1.0])]
    #[case::only_zeros(&[0.0, 0.0], &[2.0])]
    #[case::none(&[], &[0.0])]
    fn bars_of_whole_numbers(#[case] values: &[f64], #[case] expected: &[f64]) {
        let (edges, width) = bins(values.iter());
        assert_eq!(heights(values, &edges, width), expected);
    }

    #[test]
    fn no_value_is_lost() {
        let values: Vec<f64> = (0..1000).map(|value| f64::from(value) / 300.0).collect();
        let (edges, width) = bins(values.iter());
        let sum: f64 = heights(&values, &edges, width).iter().sum();
        assert!((sum - 1000.0).abs() < f64::EPSILON && edges.len() == BARS);
    }

    #[test]
    fn draws_with_no_value_at_all() {
        for plot in [precision_recall(&[]), scores("cider", Vec::new()), events_a_video(&[])] {
            let plot = plot.unwrap();
            assert!(
                plot.svg.contains(&plot.title) && plot.svg.ends_with("</svg>\n"),
                "{}",
                plot.svg
            );
        }
    }
}
