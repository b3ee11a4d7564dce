//! Functions of SQL for moments and spans of a video.
//!
//! Moments are whole milliseconds from the start of the video, as in `start_ms` and `end_ms`. A
//! span is half-open; one that ends at or before its start is empty and overlaps nothing. Every
//! function gives NULL if any argument is NULL.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{
            Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, PrimitiveArray,
            StringArray,
        },
        datatypes::{DataType, Int64Type},
    },
    common::{Result, ScalarValue, exec_datafusion_err},
    logical_expr::{
        ColumnarValue, DocSection, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature,
        Volatility,
    },
};

const MS_A_SECOND: u64 = 1000;
const MS_A_MINUTE: u64 = 60 * MS_A_SECOND;
const MS_AN_HOUR: u64 = 60 * MS_A_MINUTE;

/// A moment as people write it: `hh:mm:ss.mmm`, with a `-` before the start of the video and with
/// more than two digits of hours where it takes them.
#[must_use]
pub fn timecode(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    let (hours, minutes) = (ms / MS_AN_HOUR, ms % MS_AN_HOUR / MS_A_MINUTE);
    let (seconds, rest) = (ms % MS_A_MINUTE / MS_A_SECOND, ms % MS_A_SECOND);
    format!("{sign}{hours:02}:{minutes:02}:{seconds:02}.{rest:03}")
}

/// The milliseconds that a time code stands for: `hh:mm:ss.mmm`, `mm:ss.mmm` or `ss.mmm`, the
/// fraction of up to three digits after `.` or `,` left out at will, and `-` before it all.
///
/// `None` for anything else: only the first part may go past 59.
#[must_use]
pub fn parse_timecode(text: &str) -> Option<i64> {
    let text = text.trim();
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (clock, fraction) = text.split_once(['.', ',']).unwrap_or((text, "0"));
    let parts: Vec<&str> = clock.split(':').collect();
    if parts.len() > 3 || fraction.len() > 3 {
        return None;
    }
    let mut ms = 0_i64;
    for (place, part) in parts.iter().enumerate() {
        let value = digits(part)?;
        if place > 0 && value > 59 {
            return None;
        }
        ms = ms.checked_mul(60)?.checked_add(value)?;
    }
    let fraction = digits(&format!("{fraction:0<3}")).filter(|_| !fraction.is_empty())?;
    Some(sign * ms.checked_mul(1000)?.checked_add(fraction)?)
}

fn digits(text: &str) -> Option<i64> {
    text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Milliseconds that two spans share, 0 if none.
#[must_use]
pub fn overlap_ms(start_1: i64, end_1: i64, start_2: i64, end_2: i64) -> i64 {
    end_1.min(end_2).saturating_sub(start_1.max(start_2)).max(0)
}

/// Whether two spans share a moment.
#[must_use]
pub fn overlaps(start_1: i64, end_1: i64, start_2: i64, end_2: i64) -> bool {
    overlap_ms(start_1, end_1, start_2, end_2) > 0
}

/// What two spans share, as a part of what they cover together: 0 for nothing, 1 for the same
/// span. Two empty spans share nothing.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "spans are far below 2^53 milliseconds")]
pub fn iou(start_1: i64, end_1: i64, start_2: i64, end_2: i64) -> f64 {
    let shared = overlap_ms(start_1, end_1, start_2, end_2) as f64;
    let length = |start: i64, end: i64| end.saturating_sub(start).max(0) as f64;
    let covered = length(start_1, end_1) + length(start_2, end_2) - shared;
    if covered > 0.0 { shared / covered } else { 0.0 }
}

/// The functions as SQL knows them.
pub(crate) fn all() -> impl Iterator<Item = TimeFunction> {
    let kinds = [Kind::Timecode, Kind::ParseTimecode, Kind::Overlaps, Kind::OverlapMs, Kind::Iou];
    kinds.into_iter().map(TimeFunction::new)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Timecode,
    ParseTimecode,
    Overlaps,
    OverlapMs,
    Iou,
}

/// One of the functions above, with what the engine asks about it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct TimeFunction {
    kind: Kind,
    name: &'static str,
    returns: DataType,
    signature: Signature,
    documentation: Documentation,
}

impl TimeFunction {
    fn new(kind: Kind) -> Self {
        let span = vec![DataType::Int64; 4];
        let (name, takes, returns, syntax, says, example) = match kind {
            Kind::Timecode => (
                "timecode",
                vec![DataType::Int64],
                DataType::Utf8,
                "timecode(ms)",
                "A moment in milliseconds as hh:mm:ss.mmm.",
                "SELECT timecode(start_ms), caption FROM events",
            ),
            Kind::ParseTimecode => (
                "parse_timecode",
                vec![DataType::Utf8],
                DataType::Int64,
                "parse_timecode(text)",
                "The milliseconds of a time code: hh:mm:ss.mmm, mm:ss.mmm or ss.mmm. Any other text fails the statement.",
                "SELECT caption FROM events WHERE start_ms >= parse_timecode('1:30')",
            ),
            Kind::Overlaps => (
                "overlaps",
                span,
                DataType::Boolean,
                "overlaps(start_1, end_1, start_2, end_2)",
                "Whether two half-open spans share a moment. An empty span shares none.",
                "SELECT caption FROM events WHERE overlaps(start_ms, end_ms, 60000, 90000)",
            ),
            Kind::OverlapMs => (
                "overlap_ms",
                span,
                DataType::Int64,
                "overlap_ms(start_1, end_1, start_2, end_2)",
                "Milliseconds that two half-open spans share, 0 if none.",
                "SELECT overlap_ms(start_ms, end_ms, 60000, 90000) FROM events",
            ),
            Kind::Iou => (
                "iou",
                span,
                DataType::Float64,
                "iou(start_1, end_1, start_2, end_2)",
                "What two half-open spans share as a part of what they cover together, from 0 to 1.",
                "SELECT caption FROM events WHERE iou(start_ms, end_ms, 60000, 90000) > 0.5",
            ),
        };
        let section = DocSection { include: true, label: "Time Functions", description: None };
        Self {
            kind,
            name,
            returns,
            signature: Signature::exact(takes, Volatility::Immutable),
            documentation: Documentation::builder(section, says, syntax)
                .with_sql_example(example)
                .build(),
        }
    }

    fn column(&self, arguments: &[ArrayRef]) -> Result<ArrayRef> {
        let long = |place: usize| -> &Int64Array { arguments[place].as_primitive::<Int64Type>() };
        let spans = || -> [&Int64Array; 4] { [long(0), long(1), long(2), long(3)] };
        Ok(match self.kind {
            Kind::Timecode => {
                let moments = long(0).iter();
                Arc::new(moments.map(|ms| ms.map(timecode)).collect::<StringArray>())
            }
            Kind::ParseTimecode => {
                let texts = arguments[0].as_string::<i32>().iter();
                Arc::new(
                    texts
                        .map(|text| text.map(parsed).transpose())
                        .collect::<Result<Int64Array>>()?,
                )
            }
            Kind::Overlaps => Arc::new(each(spans(), overlaps).collect::<BooleanArray>()),
            Kind::OverlapMs => Arc::new(each(spans(), overlap_ms).collect::<Int64Array>()),
            Kind::Iou => Arc::new(each(spans(), iou).collect::<Float64Array>()),
        })
    }
}

fn parsed(text: &str) -> Result<i64> {
    parse_timecode(text)
        .ok_or_else(|| exec_datafusion_err!("`{text}` is not a time code such as 01:02:03.456"))
}

/// A function of two spans, row by row; NULL where any bound is.
fn each<'a, T: 'a>(
    bounds: [&'a PrimitiveArray<Int64Type>; 4],
    function: fn(i64, i64, i64, i64) -> T,
) -> impl Iterator<Item = Option<T>> + 'a {
    let [start_1, end_1, start_2, end_2] = bounds;
    (0..start_1.len()).map(move |row| {
        let known = bounds.iter().all(|bound| bound.is_valid(row));
        known.then(|| {
            function(start_1.value(row), end_1.value(row), start_2.value(row), end_2.value(row))
        })
    })
}

impl ScalarUDFImpl for TimeFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let answers = self.column(&ColumnarValue::values_to_arrays(&args.args)?)?;
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&answers, 0)?));
        }
        Ok(ColumnarValue::Array(answers))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::start(0, "00:00:00.000")]
    #[case::each_part(3_723_004, "01:02:03.004")]
    #[case::before_the_start(-1_500, "-00:00:01.500")]
    #[case::long(360_000_000, "100:00:00.000")]
    #[case::last_of_a_minute(59_999, "00:00:59.999")]
    #[case::least(i64::MIN, "-2562047788015:12:55.808")]
    fn writes_a_time_code(#[case] ms: i64, #[case] text: &str) {
        assert_eq!(timecode(ms), text);
    }

    #[rstest]
    #[case::whole("01:02:03.004", Some(3_723_004))]
    #[case::no_hours("02:03", Some(123_000))]
    #[case::seconds("90.5", Some(90_500))]
    #[case::subtitle_comma("00:00:01,25", Some(1_250))]
    #[case::negative("-0:01", Some(-1_000))]
    #[case::spaces(" 1:30 ", Some(90_000))]
    #[case::minute_past_59("1:60:00", None)]
    #[case::second_past_59("1:60", None)]
    #[case::microseconds("1.2345", None)]
    #[case::no_fraction("1.", None)]
    #[case::four_parts("1:1:1:1", None)]
    #[case::empty("", None)]
    #[case::empty_part("1::2", None)]
    #[case::two_signs("--1", None)]
    #[case::plus("+1", None)]
    #[case::words("noon", None)]
    #[case::other_digits("١", None)]
    #[case::too_large("9223372036854775807:00", None)]
    fn reads_a_time_code(#[case] text: &str, #[case] ms: Option<i64>) {
        assert_eq!(parse_timecode(text), ms);
    }

    #[rstest]
    #[case::same((0, 10), (0, 10), 10, 1.0)]
    #[case::half((0, 10), (5, 15), 5, 1.0 / 3.0)]
    #[case::inside((0, 10), (2, 4), 2, 0.2)]
    #[case::touching((0, 10), (10, 20), 0, 0.0)]
    #[case::apart((0, 10), (20, 30), 0, 0.0)]
    #[case::empty_inside((0, 10), (5, 5), 0, 0.0)]
    #[case::both_empty((5, 5), (5, 5), 0, 0.0)]
    #[case::backwards((10, 0), (0, 10), 0, 0.0)]
    #[case::widest((i64::MIN, i64::MAX), (0, 1), 1, 0.0)]
    fn compares_spans(
        #[case] (a, b): (i64, i64),
        #[case] (c, d): (i64, i64),
        #[case] shared: i64,
        #[case] part: f64,
    ) {
        assert_eq!(overlap_ms(a, b, c, d), shared);
        assert_eq!(overlap_ms(c, d, a, b), shared);
        assert_eq!(overlaps(a, b, c, d), shared > 0);
        assert!((iou(a, b, c, d) - part).abs() < 1e-12);
    }
}
