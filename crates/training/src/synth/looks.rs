//! What the shapes look like, what they do, and which of it is held out of training.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which part of a data set a video belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// To learn from.
    Train,
    /// To choose by.
    Val,
    /// To report on.
    Test,
}

impl Split {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];

    /// Its name, as in files and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        }
    }

    /// Whether a shape of this colour may do this in a video of this split.
    ///
    /// Two in eleven of all combinations never occur in training: one in eleven is only in `val`, another only in
    /// `test`. Which they are depends on no seed, so that any training set goes with any test set. Each colour, each
    /// shape and each action is in training with most of the others.
    #[must_use]
    pub fn allows(self, colour: Colour, shape: Shape, action: Action) -> bool {
        match held_out(colour, shape, action) {
            None => true,
            Some(owner) => owner == self,
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The only split that this combination occurs in; `None` where it occurs in all.
#[must_use]
pub fn held_out(colour: Colour, shape: Shape, action: Action) -> Option<Split> {
    match (colour as usize * 3 + shape as usize * 5 + action as usize * 7) % 11 {
        4 => Some(Split::Val),
        9 => Some(Split::Test),
        _ => None,
    }
}

/// An outline.
#[expect(missing_docs, reason = "the words are what they mean")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    Circle,
    Square,
    Triangle,
    Star,
    Ring,
    Diamond,
    Heart,
}

impl Shape {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Circle,
        Self::Square,
        Self::Triangle,
        Self::Star,
        Self::Ring,
        Self::Diamond,
        Self::Heart,
    ];

    /// The noun.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Circle => "circle",
            Self::Square => "square",
            Self::Triangle => "triangle",
            Self::Star => "star",
            Self::Ring => "ring",
            Self::Diamond => "diamond",
            Self::Heart => "heart",
        }
    }
}

/// A colour that a shape has. All are far from the muted backgrounds.
#[expect(missing_docs, reason = "the words are what they mean")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Colour {
    Red,
    Orange,
    Yellow,
    Green,
    Cyan,
    Blue,
    Purple,
    White,
}

impl Colour {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Red,
        Self::Orange,
        Self::Yellow,
        Self::Green,
        Self::Cyan,
        Self::Blue,
        Self::Purple,
        Self::White,
    ];

    /// The adjective.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Orange => "orange",
            Self::Yellow => "yellow",
            Self::Green => "green",
            Self::Cyan => "cyan",
            Self::Blue => "blue",
            Self::Purple => "purple",
            Self::White => "white",
        }
    }

    /// Red, green and blue, each in `0..=1`.
    pub(super) fn rgb(self) -> [f32; 3] {
        match self {
            Self::Red => [0.90, 0.08, 0.10],
            Self::Orange => [1.00, 0.52, 0.02],
            Self::Yellow => [0.98, 0.92, 0.10],
            Self::Green => [0.06, 0.72, 0.16],
            Self::Cyan => [0.10, 0.88, 0.92],
            Self::Blue => [0.10, 0.20, 0.92],
            Self::Purple => [0.60, 0.12, 0.78],
            Self::White => [0.98, 0.98, 0.98],
        }
    }
}

/// What fills a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Texture {
    /// One colour.
    Plain,
    /// Darker stripes on the colour.
    Striped,
    /// Darker dots on the colour.
    Dotted,
}

/// How large a shape is. Each is more than a third larger than the one before.
#[expect(missing_docs, reason = "the words are what they mean")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Size {
    Small,
    Medium,
    Large,
}

impl Size {
    /// The radius of the circle around the shape, where the picture is 1 wide.
    pub(super) fn radius(self) -> f32 {
        match self {
            Self::Small => 0.095,
            Self::Medium => 0.13,
            Self::Large => 0.18,
        }
    }
}

/// An edge of the picture.
#[expect(missing_docs, reason = "the words are what they mean")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    Left,
    Right,
    Top,
    Bottom,
}

impl Side {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Left, Self::Right, Self::Top, Self::Bottom];

    /// The noun.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
            Self::Top => "top",
            Self::Bottom => "bottom",
        }
    }

    /// The edge across.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
            Self::Top => Self::Bottom,
            Self::Bottom => Self::Top,
        }
    }
}

/// Something worth telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Comes into the picture over an edge and stays.
    Enter,
    /// Goes out of the picture over an edge.
    Leave,
    /// Becomes larger and stays so.
    Grow,
    /// Becomes smaller and stays so.
    Shrink,
    /// Runs into another shape; both give way and go back.
    Collide,
    /// Goes around another shape.
    CircleAround,
    /// Takes another colour and keeps it.
    ChangeColour,
    /// Disappears and comes back, several times.
    Blink,
    /// Climbs on another shape and rests there.
    Stack,
    /// Passes through the picture from one edge to the one across.
    Cross,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Enter,
        Self::Leave,
        Self::Grow,
        Self::Shrink,
        Self::Collide,
        Self::CircleAround,
        Self::ChangeColour,
        Self::Blink,
        Self::Stack,
        Self::Cross,
    ];
}

/// What a person would say that a shape looks like, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Looks {
    /// Its size.
    pub size: Size,
    /// Its filling.
    pub texture: Texture,
    /// Its colour.
    pub colour: Colour,
    /// Its outline.
    pub shape: Shape,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn combinations() -> impl Iterator<Item = (Colour, Shape, Action)> {
        Colour::ALL.into_iter().flat_map(|colour| {
            Shape::ALL.into_iter().flat_map(move |shape| {
                Action::ALL.into_iter().map(move |action| (colour, shape, action))
            })
        })
    }

    #[test]
    fn about_two_in_eleven_combinations_are_held_out() {
        let owned =
            |split| combinations().filter(move |&(c, s, a)| held_out(c, s, a) == Some(split));
        assert_eq!(combinations().count(), 560);
        for split in [Split::Val, Split::Test] {
            assert!((40..=62).contains(&owned(split).count()), "{split}");
        }
        assert_eq!(owned(Split::Train).count(), 0);
    }

    #[test]
    fn training_has_most_of_each_colour_shape_and_action() {
        for action in Action::ALL {
            for colour in Colour::ALL {
                let shapes = Shape::ALL.into_iter();
                let known = shapes.filter(|&shape| Split::Train.allows(colour, shape, action));
                assert!(known.count() >= 5, "{colour:?} {action:?}");
            }
            for shape in Shape::ALL {
                let colours = Colour::ALL.into_iter();
                let known = colours.filter(|&colour| Split::Train.allows(colour, shape, action));
                assert!(known.count() >= 5, "{shape:?} {action:?}");
            }
        }
    }
}
