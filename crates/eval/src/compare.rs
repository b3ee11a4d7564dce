//! Two sets of predictions side by side, with an interval that says whether their difference is more than chance.
//!
//! The paired bootstrap over videos (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13; Koehn,
//! "Statistical Significance Tests for Machine Translation Evaluation", EMNLP 2004): as many videos as there are are
//! drawn with replacement, both sets are scored on the draw, and the percentiles of their differences bound the interval.

use rand::{Rng, SeedableRng, rngs::StdRng};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{Error, Result, figures::Figures};

/// How a comparison resamples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, JsonSchema)]
pub struct Bootstrap {
    /// How often videos are drawn.
    pub resamples: usize,
    /// The number from which the draws follow.
    pub seed: u64,
    /// The share of draws inside of an interval.
    pub confidence: f64,
}

impl Default for Bootstrap {
    /// A thousand draws, 95 %.
    fn default() -> Self {
        Self { resamples: 1000, seed: 1, confidence: 0.95 }
    }
}

/// Two sets of predictions, over the videos that both were scored on.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Comparison {
    /// Videos that both were scored on.
    pub videos: usize,
    /// Videos that only one was scored on. They are not compared.
    pub left_out: usize,
    /// How intervals were made.
    pub bootstrap: Bootstrap,
    /// Each figure that both have.
    pub figures: Vec<Difference>,
}

/// A figure of two sets of predictions.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Difference {
    /// The figure's name.
    pub figure: String,
    /// What it is for the first.
    pub ours: f64,
    /// What it is for the second.
    pub other: f64,
    /// The first less the second.
    pub difference: f64,
    /// The interval of the difference.
    pub interval: (f64, f64),
}

impl Difference {
    /// Whether the interval leaves out zero: the difference is more than chance.
    #[must_use]
    pub fn is_significant(&self) -> bool {
        let (low, high) = self.interval;
        low > 0.0 || high < 0.0
    }
}

/// Compares the headline figures that are made of videos; those of a whole corpus cannot be resampled.
///
/// # Errors
///
/// [`Error::NothingInCommon`] if no video was scored in both.
pub fn compare(ours: &Figures, other: &Figures, bootstrap: Bootstrap) -> Result<Comparison> {
    let mut places = (0, 0);
    let mut common = Vec::new();
    // Both lists of videos are sorted.
    while let (Some(one), Some(two)) = (ours.videos().get(places.0), other.videos().get(places.1)) {
        match one.cmp(two) {
            std::cmp::Ordering::Less => places.0 += 1,
            std::cmp::Ordering::Greater => places.1 += 1,
            std::cmp::Ordering::Equal => {
                common.push(places);
                places = (places.0 + 1, places.1 + 1);
            }
        }
    }
    let lengths = (ours.videos().len(), other.videos().len());
    if common.is_empty() {
        return Err(Error::NothingInCommon { predicted: lengths.0, referenced: lengths.1 });
    }
    let shared = ours.all().iter().filter(|figure| figure.headline);
    let shared: Vec<_> =
        shared.filter_map(|figure| Some((figure, other.get(&figure.name)?))).collect();
    let pair = |times: &(Vec<u32>, Vec<u32>)| -> Vec<Option<(f64, f64)>> {
        let values = shared
            .iter()
            .map(|(one, two)| ours.weighted(one, &times.0).zip(other.weighted(two, &times.1)));
        values.collect()
    };
    let mut random = StdRng::seed_from_u64(bootstrap.seed);
    let mut drawn: Vec<Vec<f64>> = vec![Vec::with_capacity(bootstrap.resamples); shared.len()];
    for _ in 0..bootstrap.resamples {
        let mut times = (vec![0; lengths.0], vec![0; lengths.1]);
        for _ in 0..common.len() {
            let (one, two) = common[random.random_range(0..common.len())];
            times.0[one] += 1;
            times.1[two] += 1;
        }
        for (differences, values) in drawn.iter_mut().zip(pair(&times)) {
            differences.extend(values.map(|(one, two)| one - two));
        }
    }
    let mut once = (vec![0; lengths.0], vec![0; lengths.1]);
    for &(one, two) in &common {
        once.0[one] = 1;
        once.1[two] = 1;
    }
    let figures =
        shared.iter().zip(pair(&once)).zip(drawn).filter_map(|(((one, _), values), drawn)| {
            let (value, other) = values?;
            Some(Difference {
                figure: one.name.clone(),
                ours: value,
                other,
                difference: value - other,
                interval: interval(drawn, bootstrap.confidence)?,
            })
        });
    Ok(Comparison {
        videos: common.len(),
        left_out: lengths.0 + lengths.1 - 2 * common.len(),
        bootstrap,
        figures: figures.collect(),
    })
}

/// The percentiles that leave out as much on either side; `None` without any draw.
fn interval(mut drawn: Vec<f64>, confidence: f64) -> Option<(f64, f64)> {
    drawn.sort_by(f64::total_cmp);
    let last = drawn.len().checked_sub(1)?;
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a list of some thousands"
    )]
    let outside = ((1.0 - confidence) / 2.0 * last as f64).round() as usize;
    Some((drawn[outside], drawn[last - outside]))
}
