//! Sound to log-mel pictures, as Whisper was trained with: windows of 25 ms every 10 ms, powers in bands
//! of the Slaney mel scale, base-10 logarithms, cut 8 below the loudest and brought near -1..1.

use ndarray::{Array1, Array2, ArrayViewMut2, Axis, Zip};

/// Samples a second of everything that is recognised, one channel.
pub const SAMPLE_RATE: usize = 16_000;
/// Samples from one column of the picture to the next.
pub const HOP: usize = 160;
/// Samples that a column looks at.
const SPAN: usize = 400;
/// Frequencies of a column.
const FREQUENCIES: usize = SPAN / 2 + 1;
/// The least power.
const FLOOR: f64 = 1e-10;

/// Columns that are worked out together.
const BLOCK: usize = 256;

/// Makes pictures of one number of bands.
///
/// The spectrum is a product of matrices: 400 is no size for a fast transform to shine, and folding the
/// span in its middle halves the work. It is done in 64 bits, since the faint bands of a loud column
/// would drown in the rounding of 32.
pub struct LogMel {
    /// The window over a span.
    window: Vec<f64>,
    /// Cosines and sines, `[half a span and one, frequencies]`.
    cosines: Array2<f64>,
    sines: Array2<f64>,
    /// `[frequencies, bands]`.
    bands: Array2<f64>,
}

impl LogMel {
    /// Pictures of so many bands, up to 8 kHz.
    #[must_use]
    pub fn new(bands: usize) -> Self {
        let turn = |part: usize| 2.0 * std::f64::consts::PI * count(part) / count(SPAN);
        let wave = |function: fn(f64) -> f64| {
            Array2::from_shape_fn((FREQUENCIES, FREQUENCIES), |(place, frequency)| {
                function(turn(place * frequency % SPAN))
            })
        };
        Self {
            window: (0..SPAN).map(|place| 0.5 - 0.5 * turn(place).cos()).collect(),
            cosines: wave(f64::cos),
            sines: wave(f64::sin),
            bands: triangles(bands),
        }
    }

    /// The picture of `samples`, `[bands, columns]`. Sound that is shorter than the columns is followed
    /// by silence, what is longer is not looked at.
    #[must_use]
    pub fn picture(&self, samples: &[f32], columns: usize) -> Array2<f32> {
        let mut picture = Array2::zeros((self.bands.ncols(), columns));
        self.draw(samples, picture.view_mut());
        picture
    }

    /// Draws the picture of `samples` into `picture`, `[bands, columns]`.
    pub fn draw(&self, samples: &[f32], mut picture: ArrayViewMut2<'_, f32>) {
        let columns = picture.ncols();
        let length = columns * HOP;
        let samples = &samples[..samples.len().min(length)];
        // A column whose whole span is past the sound is silent.
        let heard = columns.min((samples.len() + SPAN).div_ceil(HOP));
        picture.fill(single(FLOOR.log10()));
        for first in (0..heard).step_by(BLOCK) {
            let block = first..heard.min(first + BLOCK);
            let powers = self.powers(samples, block.clone(), length).dot(&self.bands);
            for (index, row) in block.zip(powers.outer_iter()) {
                let column = picture.column_mut(index);
                Zip::from(column).and(row).for_each(|value, power| {
                    *value = single(power.max(FLOOR).log10());
                });
            }
        }
        let floor = picture.iter().fold(f32::MIN, |most, value| most.max(*value)) - 8.0;
        picture.mapv_inplace(|value| (value.max(floor) + 4.0) / 4.0);
    }

    /// The power of each frequency in some columns, `[columns, frequencies]`.
    fn powers(
        &self,
        samples: &[f32],
        columns: std::ops::Range<usize>,
        length: usize,
    ) -> Array2<f64> {
        let mut even = Array2::zeros((columns.len(), FREQUENCIES));
        let mut odd = Array2::zeros((columns.len(), FREQUENCIES));
        let mut span = Array1::zeros(SPAN);
        let rows = even.axis_iter_mut(Axis(0)).zip(odd.axis_iter_mut(Axis(0)));
        for (column, (mut even, mut odd)) in columns.zip(rows) {
            for (place, value) in span.iter_mut().enumerate() {
                let sample = mirrored(samples, column * HOP + place, length);
                *value = f64::from(sample) * self.window[place];
            }
            // Cosines are the same and sines the opposite as far behind the middle as before it.
            even[0] = span[0];
            even[SPAN / 2] = span[SPAN / 2];
            for place in 1..SPAN / 2 {
                even[place] = span[place] + span[SPAN - place];
                odd[place] = span[place] - span[SPAN - place];
            }
        }
        let mut powers = even.dot(&self.cosines);
        Zip::from(&mut powers).and(&odd.dot(&self.sines)).for_each(|real, imaginary| {
            *real = *real * *real + *imaginary * *imaginary;
        });
        powers
    }
}

/// The sample at `place`, counted from half a span before the sound, which is mirrored at both ends.
fn mirrored(samples: &[f32], place: usize, length: usize) -> f32 {
    let index = place.abs_diff(SPAN / 2);
    let index = if index < length { index } else { (2 * length).saturating_sub(index + 2) };
    samples.get(index).copied().unwrap_or(0.0)
}

/// Triangles evenly spaced on the mel scale, each of area 2 over its width in Hz: `[frequencies, bands]`.
fn triangles(bands: usize) -> Array2<f64> {
    let highest = mel(count(SAMPLE_RATE / 2));
    let corner = |i: usize| hertz(highest * count(i) / count(bands + 1));
    Array2::from_shape_fn((FREQUENCIES, bands), |(bin, band)| {
        let [low, middle, high] = [band, band + 1, band + 2].map(corner);
        let at = count(bin) * count(SAMPLE_RATE) / count(SPAN);
        let slope = ((at - low) / (middle - low)).min((high - at) / (high - middle));
        slope.max(0.0) * 2.0 / (high - low)
    })
}

/// Where the scale turns from linear to logarithmic, in mel and Hz.
const TURN: (f64, f64) = (15.0, 1000.0);

/// Slaney's mel scale: linear to 1 kHz, then 27 steps for each factor of 6.4.
fn mel(hertz: f64) -> f64 {
    if hertz < TURN.1 {
        hertz * TURN.0 / TURN.1
    } else {
        TURN.0 + (hertz / TURN.1).ln() * 27.0 / 6.4_f64.ln()
    }
}

fn hertz(mel: f64) -> f64 {
    if mel < TURN.0 {
        mel * TURN.1 / TURN.0
    } else {
        TURN.1 * ((mel - TURN.0) * 6.4_f64.ln() / 27.0).exp()
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn count(value: usize) -> f64 {
    value as f64
}

#[expect(clippy::cast_possible_truncation, reason = "rounding is what is wanted")]
fn single(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_even() {
        let picture = LogMel::new(80).picture(&[], 30);
        assert_eq!(picture.dim(), (80, 30));
        assert!(picture.iter().all(|value| (*value - -1.5).abs() < 1e-6));
    }

    #[test]
    fn a_tone_is_bright_in_its_band() {
        let tone: Vec<f32> = (0..SAMPLE_RATE)
            .map(|i| single((count(i) * 1000.0 * 2.0 * std::f64::consts::PI / 16_000.0).sin()))
            .collect();
        let picture = LogMel::new(80).picture(&tone, 100);
        let column = picture.column(50);
        let brightest = (0..80).max_by(|a, b| column[*a].total_cmp(&column[*b])).unwrap();
        // 81 steps to the mel of 8 kHz, and 1 kHz is 15 mel.
        let expected = 15.0 / (mel(8000.0) / 81.0) - 1.0;
        assert!((count(brightest) - expected).abs() < 0.51, "{brightest}, not {expected}");
    }
}
