//! The world of a video as plain data: who is there, what they do and when, and what of it is worth telling.
//!
//! Times are pictures at [`RATE`] a second; places are fractions of the picture's width and height, from its upper
//! left corner. Where a shape is at a time follows from the data alone; `draw` only paints it.

use std::f32::consts::TAU;

use rand::rngs::StdRng;

use super::{
    director::Director,
    looks::{Action, Colour, Looks, Shape, Side, Split, Texture},
};

/// Pictures a second.
pub const RATE: u16 = 4;

/// Milliseconds of a picture.
const PICTURE_MS: u32 = 1000 / RATE as u32;

/// Milliseconds from the start of the video to picture `at`.
#[must_use]
pub fn milliseconds(at: u16) -> u32 {
    u32::from(at) * PICTURE_MS
}

/// The picture that stands for second `second` on a grid of one a second: the last one before half of it has passed
/// (`vid2seq.md` §12.3).
#[must_use]
pub fn shown_in(second: usize) -> u16 {
    let half = u16::try_from(2 * second + 1).unwrap_or(u16::MAX);
    (half.saturating_mul(RATE) / 2).saturating_sub(1)
}

/// Everything that a video shows.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// How many pictures.
    pub length: u16,
    /// What is behind the shapes.
    pub background: Background,
    /// The shapes; later ones are in front.
    pub actors: Vec<Actor>,
    /// What is worth telling, by start and then end.
    pub events: Vec<Event>,
}

impl World {
    /// The world that these numbers give, of `length` pictures, with at most `crowd` shapes on stage at once, besides
    /// those that pass through.
    #[must_use]
    pub fn new(rng: &mut StdRng, split: Split, length: u16, crowd: u8) -> Self {
        Director::new(rng, split, length).direct(crowd.into())
    }
}

/// A textured background of two muted colours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Background {
    /// What it is made of.
    pub kind: Ground,
    /// Red, green and blue of both colours, each in `0..=1`.
    pub colours: [[f32; 3]; 2],
    /// Seed of its grain.
    pub seed: u64,
}

/// What a background is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// Soft patches of all sizes.
    Clouds,
    /// Upright boards.
    Planks,
    /// A board of squares.
    Tiles,
    /// One colour that turns into the other.
    Slope,
}

impl Ground {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Clouds, Self::Planks, Self::Tiles, Self::Slope];
}

/// A place in the picture. Outside of `0..1` is outside of the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    /// From the left.
    pub x: f32,
    /// From the top.
    pub y: f32,
}

impl Place {
    /// The place `by` of the way from here to `to`.
    #[must_use]
    pub fn towards(self, to: Self, by: f32) -> Self {
        Self { x: self.x + (to.x - self.x) * by, y: self.y + (to.y - self.y) * by }
    }

    /// How far it is to `other`.
    #[must_use]
    pub fn distance(self, other: Self) -> f32 {
        (self.x - other.x).hypot(self.y - other.y)
    }

    /// The place `distance` away from here at `angle`.
    #[must_use]
    pub fn at_angle(self, angle: f32, distance: f32) -> Self {
        Self { x: self.x + distance * angle.cos(), y: self.y + distance * angle.sin() }
    }

    /// The angle at which `other` is seen from here.
    #[must_use]
    pub fn angle_to(self, other: Self) -> f32 {
        (other.y - self.y).atan2(other.x - self.x)
    }
}

/// A shape and all that it does.
#[derive(Debug, Clone, PartialEq)]
pub struct Actor {
    /// Its outline.
    pub shape: Shape,
    /// Its filling.
    pub texture: Texture,
    /// Its colour at first.
    pub colour: Colour,
    /// Its radius at first.
    pub radius: f32,
    /// Where it is at first.
    pub place: Place,
    /// The first picture that it may be in.
    pub first: u16,
    /// The first picture that it is no longer in.
    pub last: u16,
    /// Where it is in its swaying, in turns. All shapes sway a little, all the time.
    pub phase: f32,
    /// What it does, by start. Steps of one kind do not overlap.
    pub steps: Vec<Step>,
}

/// A part of what a shape does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Its first picture.
    pub start: u16,
    /// The picture in which it is complete; after `start`.
    pub end: u16,
    /// What happens meanwhile.
    pub motion: Motion,
}

/// How a shape changes in a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Motion {
    /// Goes straight and evenly.
    Glide {
        /// From here.
        from: Place,
        /// To here.
        to: Place,
    },
    /// Goes around.
    Orbit {
        /// This place.
        centre: Place,
        /// At this distance.
        radius: f32,
        /// From this angle, in radians.
        angle: f32,
        /// By this much, in radians.
        sweep: f32,
    },
    /// Changes its radius.
    Scale {
        /// From this.
        from: f32,
        /// To this.
        to: f32,
    },
    /// Changes its colour.
    Recolour {
        /// From this.
        from: Colour,
        /// To this.
        to: Colour,
    },
    /// Is gone for `half` pictures, there for `half`, and so on.
    Blink {
        /// Half a period.
        half: u16,
    },
}

/// How a shape is in one picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pose {
    /// Its centre.
    pub place: Place,
    /// The radius of the circle around it.
    pub radius: f32,
    /// How it leans, in radians.
    pub lean: f32,
    /// Red, green and blue, each in `0..=1`.
    pub rgb: [f32; 3],
}

impl Pose {
    /// Whether any of it may be within the picture.
    #[must_use]
    pub fn is_in_picture(&self) -> bool {
        let within = |at: f32| at > -self.radius && at < 1.0 + self.radius;
        within(self.place.x) && within(self.place.y)
    }
}

impl Actor {
    /// How it is in picture `at`; `None` where it is not there.
    #[must_use]
    pub fn pose(&self, at: u16) -> Option<Pose> {
        if !(self.first..self.last).contains(&at) {
            return None;
        }
        let (mut place, mut radius, mut rgb) = (self.place, self.radius, self.colour.rgb());
        for step in self.steps.iter().take_while(|step| step.start <= at) {
            let by = step.progress(at);
            match step.motion {
                Motion::Glide { from, to } => place = from.towards(to, by),
                Motion::Orbit { centre, radius, angle, sweep } => {
                    place = centre.at_angle(angle + sweep * by, radius);
                }
                Motion::Scale { from, to } => radius = from + (to - from) * by,
                Motion::Recolour { from, to } => rgb = mixed(from.rgb(), to.rgb(), by),
                Motion::Blink { half } => {
                    if at < step.end && ((at - step.start) / half).is_multiple_of(2) {
                        return None;
                    }
                }
            }
        }
        let sway = TAU * (f32::from(at) / f32::from(RATE) / SWAY_SECONDS + self.phase);
        place.x += SWAY * sway.cos();
        place.y += SWAY * sway.sin();
        Some(Pose { place, radius, lean: LEAN * sway.sin(), rgb })
    }
}

/// How far a shape sways to each side, how long that takes, and how far it leans.
const SWAY: f32 = 0.006;
const SWAY_SECONDS: f32 = 2.6;
const LEAN: f32 = 0.08;

impl Step {
    /// How much of it is done in picture `at`, not before its start: `0..=1`.
    fn progress(&self, at: u16) -> f32 {
        let (done, whole) = (at.min(self.end) - self.start, self.end - self.start);
        f32::from(done) / f32::from(whole.max(1))
    }
}

/// The colour `by` of the way from one to the other.
pub(super) fn mixed(from: [f32; 3], to: [f32; 3], by: f32) -> [f32; 3] {
    std::array::from_fn(|channel| from[channel] + (to[channel] - from[channel]) * by)
}

/// Something worth telling, as far as pictures show it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its first picture.
    pub start: u16,
    /// The picture in which it is complete; after `start`, at most the world's length.
    pub end: u16,
    /// What happens.
    pub action: Action,
    /// Who does it, each as it looks at the start: one, or two at the same time.
    pub who: Vec<Looks>,
    /// The numbers of those actors.
    pub actors: Vec<usize>,
    /// To whom it is done: for [`Action::Collide`], [`Action::CircleAround`] and [`Action::Stack`].
    pub whom: Option<Looks>,
    /// Over which edge: for [`Action::Enter`], [`Action::Leave`] and, where it begins, [`Action::Cross`].
    pub side: Option<Side>,
    /// The new colour: for [`Action::ChangeColour`].
    pub into: Option<Colour>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::CROWD;
    use rand::SeedableRng as _;
    use std::collections::HashSet;

    fn worlds(split: Split, count: u64) -> impl Iterator<Item = World> {
        (0..count).map(move |seed| {
            let length = 20 * RATE + u16::try_from(seed * 37 % 640).unwrap();
            World::new(&mut StdRng::seed_from_u64(seed), split, length, CROWD)
        })
    }

    #[test]
    fn a_thousand_worlds_are_quick_and_their_truth_is_within_them() {
        let begun = std::time::Instant::now();
        let mut events = 0;
        for world in worlds(Split::Train, 1000) {
            events += world.events.len();
            assert!(!world.events.is_empty(), "nothing happens in {} pictures", world.length);
            for event in &world.events {
                assert!(event.start < event.end && event.end <= world.length, "{event:?}");
            }
            assert!(world.events.is_sorted_by_key(|event| (event.start, event.end)));
        }
        assert!((4_000..30_000).contains(&events), "{events} events");
        assert!(begun.elapsed().as_secs() < 10, "took {:?}", begun.elapsed());
    }

    #[test]
    fn every_action_happens_and_some_at_the_same_time() {
        let mut actions = HashSet::new();
        let (mut together, mut overlapping) = (0, 0);
        for world in worlds(Split::Train, 100) {
            actions.extend(world.events.iter().map(|event| event.action));
            together += world.events.iter().filter(|event| event.who.len() == 2).count();
            overlapping +=
                world.events.windows(2).filter(|pair| pair[1].start < pair[0].end).count();
        }
        assert_eq!(actions.len(), Action::ALL.len(), "{actions:?}");
        assert!(together > 20 && overlapping > 60, "{together} together, {overlapping} overlap");
    }

    #[test]
    fn held_out_combinations_happen_only_where_they_may() {
        for split in Split::ALL {
            let mut own = 0;
            for event in worlds(split, 150).flat_map(|world| world.events) {
                for looks in &event.who {
                    let owner =
                        super::super::looks::held_out(looks.colour, looks.shape, event.action);
                    assert!(owner.is_none() || owner == Some(split), "{split}: {event:?}");
                    own += usize::from(owner == Some(split));
                }
            }
            assert_eq!(own > 20, split != Split::Train, "{split}: {own} of its own");
        }
    }

    #[test]
    fn two_shapes_on_stage_never_look_alike() {
        for world in worlds(Split::Test, 50) {
            for event in &world.events {
                if let (Some(whom), who) = (event.whom, event.who[0]) {
                    assert_ne!((who.colour, who.shape), (whom.colour, whom.shape));
                }
            }
        }
    }

    /// Calls `check` with the world, the event and the actor of each event of this kind.
    fn each(action: Action, check: impl Fn(&World, &Event, &Actor)) {
        let mut count = 0;
        for world in worlds(Split::Train, 60) {
            for event in world.events.iter().filter(|event| event.action == action) {
                for &actor in &event.actors {
                    check(&world, event, &world.actors[actor]);
                    count += 1;
                }
            }
        }
        assert!(count > 10, "only {count} to check");
    }

    fn in_picture(actor: &Actor, at: u16) -> bool {
        actor.pose(at).is_some_and(|pose| pose.is_in_picture())
    }

    fn radius(actor: &Actor, at: u16) -> f32 {
        actor.pose(at).map_or(0.0, |pose| pose.radius)
    }

    #[test]
    fn an_entering_shape_is_seen_from_the_start_of_its_event_and_not_before() {
        each(Action::Enter, |_, event, actor| {
            assert!((0..event.start).all(|at| !in_picture(actor, at)), "{event:?}");
            assert!((event.start + 2..=event.end).all(|at| in_picture(actor, at)), "{event:?}");
            let pose = actor.pose(event.end).unwrap();
            assert!((0.1..0.9).contains(&pose.place.x) && (0.1..0.9).contains(&pose.place.y));
        });
    }

    #[test]
    fn a_leaving_shape_is_seen_until_the_end_of_its_event_and_not_after() {
        each(Action::Leave, |world, event, actor| {
            assert!((event.start..event.end - 2).all(|at| in_picture(actor, at)), "{event:?}");
            assert!((event.end..world.length).all(|at| !in_picture(actor, at)), "{event:?}");
        });
    }

    #[test]
    fn a_crossing_shape_is_seen_during_its_event_only() {
        each(Action::Cross, |world, event, actor| {
            for at in 0..world.length {
                let (well_within, outside) = (
                    (event.start + 2..event.end - 2).contains(&at),
                    at < event.start || at >= event.end,
                );
                let seen = in_picture(actor, at);
                assert!(if well_within { seen } else { !outside || !seen }, "{event:?} at {at}");
            }
        });
    }

    #[test]
    fn a_small_crowd_does_everything_with_few_on_stage() {
        let mut done = HashSet::new();
        for seed in 0..600 {
            let world = World::new(&mut StdRng::seed_from_u64(seed), Split::Train, 40 * RATE, 2);
            done.extend(world.events.iter().map(|event| event.action));
            let passes = |number: usize, at: u16| {
                world.events.iter().any(|event| {
                    matches!(event.action, Action::Cross | Action::Leave)
                        && (event.start..=event.end).contains(&at)
                        && event.actors.contains(&number)
                })
            };
            for at in (0..world.length).step_by(4) {
                let there = world.actors.iter().enumerate();
                let there = there
                    .filter(|(number, actor)| actor.pose(at).is_some() && !passes(*number, at));
                assert!(there.count() <= 2, "world {seed}, picture {at}");
            }
        }
        assert_eq!(done.len(), Action::ALL.len());
    }

    #[test]
    fn sizes_change_within_their_event() {
        each(Action::Grow, |_, event, actor| {
            assert!(radius(actor, event.end) > radius(actor, event.start) * 1.3);
        });
        each(Action::Shrink, |_, event, actor| {
            assert!(radius(actor, event.end) < radius(actor, event.start) * 0.75);
        });
    }

    #[test]
    fn a_blinking_shape_is_gone_and_back_several_times() {
        each(Action::Blink, |_, event, actor| {
            let seen: Vec<_> =
                (event.start..=event.end).map(|at| actor.pose(at).is_some()).collect();
            let changes = seen.windows(2).filter(|pair| pair[0] != pair[1]).count();
            assert!(changes >= 5 && seen.last() == Some(&true), "{changes} changes");
        });
    }

    #[test]
    fn a_new_colour_is_complete_at_the_end_of_its_event() {
        each(Action::ChangeColour, |_, event, actor| {
            let near = |at, colour: Colour| {
                let rgb = actor.pose(at).unwrap().rgb;
                rgb.iter().zip(colour.rgb()).all(|(a, b)| (a - b).abs() < 1e-5)
            };
            assert!(near(event.start, event.who[0].colour) && near(event.end, event.into.unwrap()));
        });
    }

    #[test]
    fn a_shape_that_circles_goes_all_the_way_round() {
        each(Action::CircleAround, |_, event, actor| {
            let xs = (event.start..=event.end).map(|at| actor.pose(at).unwrap().place.x);
            let (low, high) =
                xs.fold((f32::MAX, f32::MIN), |(low, high), x| (low.min(x), high.max(x)));
            assert!(high - low > 0.24, "{low}..{high}");
        });
    }

    #[test]
    fn distractors_do_nothing_and_are_not_told() {
        let worlds: Vec<_> = worlds(Split::Val, 40).collect();
        let idle = worlds.iter().map(|world| {
            let told =
                |number: &usize| world.events.iter().any(|event| event.actors.contains(number));
            let idle = (0..world.actors.len()).filter(|number| !told(number));
            idle.filter(|&number| world.actors[number].steps.is_empty()).count()
        });
        assert!(idle.sum::<usize>() > 30);
    }
}
