//! Weights as whole numbers with a scale for each output of a linear layer.

use crate::weights::Weight;

/// The greatest whole number. Not 127: processors without VNNI add two products of 8 bits in 16 bits,
/// which hold twice `255 * 63` and not twice `255 * 127`.
const GREATEST: f32 = 63.0;

/// The scale of each output of a matrix `[in, out]`: what one step of its whole numbers stands for. An
/// output of zeros has 1.
pub(crate) fn scales(weight: &Weight) -> Vec<f32> {
    let columns = columns(weight);
    let mut most = vec![0.0_f32; columns];
    for row in weight.values().chunks_exact(columns) {
        for (most, value) in most.iter_mut().zip(row) {
            *most = value.abs().max(*most);
        }
    }
    most.into_iter().map(|most| if most > 0.0 { most / GREATEST } else { 1.0 }).collect()
}

/// The whole numbers of a matrix, one byte each.
pub(crate) fn int8(weight: &Weight) -> Vec<u8> {
    let scales = scales(weight);
    let rows = weight.values().chunks_exact(columns(weight));
    rows.flat_map(|row| row.iter().zip(&scales).map(|(value, scale)| step(*value, *scale)))
        .collect()
}

fn columns(weight: &Weight) -> usize {
    weight.shape().last().copied().unwrap_or(1).max(1)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "within -63..=63, of which a byte holds the two's complement"
)]
fn step(value: f32, scale: f32) -> u8 {
    (value / scale).round().clamp(-GREATEST, GREATEST) as i8 as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight() -> Weight {
        // Outputs of a hundredth, of zeros, and of tens.
        let values = vec![0.01, 0.0, -20.0, -0.004, 0.0, 63.0];
        Weight::new(vec![2, 3], values).unwrap()
    }

    #[test]
    fn every_output_has_a_scale_of_its_own_and_errs_by_half_a_step_at_most() {
        let weight = weight();
        let scales = scales(&weight);
        assert_eq!(scales, [0.01 / 63.0, 1.0, 1.0]);
        let steps = int8(&weight);
        for (index, (value, step)) in weight.values().iter().zip(&steps).enumerate() {
            let scale = scales[index % 3];
            let back = f32::from(step.cast_signed()) * scale;
            assert!((value - back).abs() <= scale / 2.0 * 1.001, "{value} became {back}");
        }
        let signed: Vec<i8> = steps.iter().map(|step| step.cast_signed()).collect();
        assert_eq!(signed, [63, 0, -20, -25, 0, 63]);
    }
}
