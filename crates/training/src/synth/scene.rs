//! What is seen in one picture, in words: the captions that a vision encoder learns from.

use std::fmt;

use super::{
    looks::{Colour, Shape, Size, Texture},
    world::{Actor, Pose, World},
};

/// Columns, and rows, that places are told in.
pub const GRID: u8 = 12;

/// One shape in a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Phrase {
    /// Its size, the nearest of all.
    pub size: Size,
    /// Its filling.
    pub texture: Texture,
    /// Its colour, the nearest of all.
    pub colour: Colour,
    /// Its outline.
    pub shape: Shape,
    /// The column of its centre, from the left, of [`GRID`].
    pub column: u8,
    /// The row of its centre, from the top, of [`GRID`].
    pub row: u8,
}

/// The number of different words in all phrases.
pub const WORDS: usize = 3 + 3 + Colour::ALL.len() + Shape::ALL.len() + 2 * GRID as usize;

impl Phrase {
    /// Its words, as numbers below [`WORDS`].
    #[must_use]
    pub fn words(self) -> [usize; 6] {
        let grid = usize::from(GRID);
        let sizes = [
            (3, self.size as usize),
            (3, self.texture as usize),
            (Colour::ALL.len(), self.colour as usize),
            (Shape::ALL.len(), self.shape as usize),
            (grid, usize::from(self.column)),
            (grid, usize::from(self.row)),
        ];
        let mut first = 0;
        sizes.map(|(count, word)| {
            first += count;
            first - count + word
        })
    }
}

impl fmt::Display for Phrase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = match self.size {
            Size::Small => "small ",
            Size::Medium => "",
            Size::Large => "large ",
        };
        let texture = match self.texture {
            Texture::Plain => "",
            Texture::Striped => "striped ",
            Texture::Dotted => "dotted ",
        };
        let (colour, shape) = (self.colour.name(), self.shape.name());
        let (column, row) = (self.column + 1, self.row + 1);
        write!(formatter, "{size}{texture}{colour} {shape} in column {column}, row {row}")
    }
}

/// All shapes that are seen in picture `at`, those in front last.
#[must_use]
pub fn phrases(world: &World, at: u16) -> Vec<Phrase> {
    let seen = |actor: &Actor| {
        let pose = actor.pose(at).filter(Pose::is_in_picture)?;
        Some(Phrase {
            size: nearest(&[Size::Small, Size::Medium, Size::Large], |size| {
                (size.radius() - pose.radius).abs()
            }),
            texture: actor.texture,
            colour: nearest(&Colour::ALL, |colour| {
                colour.rgb().iter().zip(pose.rgb).map(|(a, b)| (a - b).powi(2)).sum()
            }),
            shape: actor.shape,
            column: cell(pose.place.x),
            row: cell(pose.place.y),
        })
    };
    world.actors.iter().filter_map(seen).collect()
}

fn nearest<T: Copy>(all: &[T], distance: impl Fn(T) -> f32) -> T {
    let nearer = |a: &&T, b: &&T| distance(**a).total_cmp(&distance(**b));
    all.iter().min_by(nearer).copied().unwrap_or(all[0])
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, and the grid is small"
)]
fn cell(at: f32) -> u8 {
    ((at * f32::from(GRID)) as u8).min(GRID - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::{CROWD, looks::Split};
    use rand::{SeedableRng as _, rngs::StdRng};
    use std::collections::HashSet;

    #[test]
    fn every_word_is_said_and_no_two_are_one() {
        let mut words = HashSet::new();
        for seed in 0..60 {
            let world = World::new(&mut StdRng::seed_from_u64(seed), Split::Train, 600, CROWD);
            for at in (0..600).step_by(40) {
                for phrase in phrases(&world, at) {
                    assert_eq!(HashSet::from(phrase.words()).len(), 6);
                    words.extend(phrase.words());
                }
            }
        }
        assert_eq!((words.len(), words.into_iter().max()), (WORDS, Some(WORDS - 1)));
    }

    #[test]
    fn a_phrase_is_readable() {
        let phrase = Phrase {
            size: Size::Large,
            texture: Texture::Dotted,
            colour: Colour::Red,
            shape: Shape::Star,
            column: 0,
            row: 11,
        };
        assert_eq!(phrase.to_string(), "large dotted red star in column 1, row 12");
    }
}
