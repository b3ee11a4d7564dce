//! Paints the pictures of a [`World`]. Pure: the same world, size and number give the same bytes.

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tiny_skia::{
    Color, FillRule, FilterQuality, GradientStop, LinearGradient, Paint, Path, PathBuilder,
    Pattern, Pixmap, Point, Shader, SpreadMode, Stroke, Transform,
};

use super::{
    looks::{Shape, Texture},
    world::{Background, Ground, Pose, World, mixed},
};

/// How much darker stripes, dots and outlines are than the colour they are on.
const SHADE: f32 = 0.55;
/// Stripes and dots across a shape of radius 1.
const PERIOD: f32 = 0.5;
/// Pixels of the tile that dots are drawn on.
const TILE: u8 = 16;

/// Paints one world at one size.
#[derive(Debug)]
pub struct Painter<'a> {
    world: &'a World,
    ground: Pixmap,
    canvas: Pixmap,
}

impl<'a> Painter<'a> {
    /// A painter of pictures of `size` by `size` pixels, at least 1.
    #[must_use]
    pub fn new(world: &'a World, size: u16) -> Self {
        let ground = ground(&world.background, size.max(1));
        Self { world, canvas: ground.clone(), ground }
    }

    /// Paints picture `at` into `rgb`: rows from the top, three bytes a pixel; what is too much stays as it is.
    pub fn paint(&mut self, at: u16, rgb: &mut [u8]) {
        self.canvas.data_mut().copy_from_slice(self.ground.data());
        for actor in &self.world.actors {
            if let Some(pose) = actor.pose(at).filter(Pose::is_in_picture) {
                self.shape(actor.shape, actor.texture, &pose);
            }
        }
        for (bytes, pixel) in rgb.chunks_exact_mut(3).zip(self.canvas.pixels()) {
            bytes.copy_from_slice(&[pixel.red(), pixel.green(), pixel.blue()]);
        }
    }

    fn shape(&mut self, shape: Shape, texture: Texture, pose: &Pose) {
        let Some(path) = outline(shape) else { return };
        let size = side(&self.canvas);
        let scale = pose.radius * size;
        let transform = Transform::from_scale(scale, scale)
            .post_rotate(pose.lean.to_degrees())
            .post_translate(pose.place.x * size, pose.place.y * size);
        let dark = colour(pose.rgb.map(|part| part * SHADE));
        let tile = dots(colour(pose.rgb), dark);
        let shader = match texture {
            Texture::Plain => Shader::SolidColor(colour(pose.rgb)),
            Texture::Striped => stripes(colour(pose.rgb), dark),
            Texture::Dotted => tile.as_ref().map_or(Shader::SolidColor(dark), dotted),
        };
        let paint = Paint { shader, ..Paint::default() };
        self.canvas.fill_path(&path, &paint, FillRule::EvenOdd, transform, None);
        let edge = Paint { shader: Shader::SolidColor(colour([0.05; 3])), ..Paint::default() };
        let stroke = Stroke { width: 0.1, ..Stroke::default() };
        self.canvas.stroke_path(&path, &edge, &stroke, transform, None);
    }
}

fn side(canvas: &Pixmap) -> f32 {
    f32::from(u16::try_from(canvas.width()).unwrap_or(u16::MAX))
}

/// The colour of red, green and blue, each held in `0..=1`.
fn colour(rgb: [f32; 3]) -> Color {
    let [red, green, blue] = rgb.map(|part| part.clamp(0.0, 1.0));
    Color::from_rgba(red, green, blue, 1.0).unwrap_or(Color::BLACK)
}

fn stripes(light: Color, dark: Color) -> Shader<'static> {
    let stops = [(0.0, light), (0.5, light), (0.5, dark), (1.0, dark)];
    let stops = stops.map(|(at, colour)| GradientStop::new(at, colour)).to_vec();
    let (from, to) = (Point::from_xy(0.0, 0.0), Point::from_xy(0.7 * PERIOD, 0.7 * PERIOD));
    LinearGradient::new(from, to, stops, SpreadMode::Repeat, Transform::identity())
        .unwrap_or(Shader::SolidColor(light))
}

/// A tile with a dot in its middle.
fn dots(light: Color, dark: Color) -> Option<Pixmap> {
    let mut tile = Pixmap::new(u32::from(TILE), u32::from(TILE))?;
    tile.fill(light);
    let middle = f32::from(TILE) / 2.0;
    let dot = PathBuilder::from_circle(middle, middle, 0.6 * middle)?;
    let paint = Paint { shader: Shader::SolidColor(dark), ..Paint::default() };
    tile.fill_path(&dot, &paint, FillRule::Winding, Transform::identity(), None);
    Some(tile)
}

fn dotted(tile: &Pixmap) -> Shader<'_> {
    let scale = PERIOD / f32::from(TILE);
    let transform = Transform::from_scale(scale, scale);
    Pattern::new(tile.as_ref(), SpreadMode::Repeat, FilterQuality::Bilinear, 1.0, transform)
}

/// The outline of a shape around the origin, within a circle of radius 1. `None` never happens: no outline is empty.
fn outline(shape: Shape) -> Option<Path> {
    let turn = std::f32::consts::TAU;
    match shape {
        Shape::Circle => PathBuilder::from_circle(0.0, 0.0, 0.95),
        Shape::Square => polygon(&[(-0.71, -0.71), (0.71, -0.71), (0.71, 0.71), (-0.71, 0.71)]),
        Shape::Diamond => polygon(&[(0.0, -1.0), (0.62, 0.0), (0.0, 1.0), (-0.62, 0.0)]),
        Shape::Triangle => polygon(&[(0.0, -1.0), (0.87, 0.5), (-0.87, 0.5)]),
        Shape::Star => {
            let corner = |number: u8| {
                let radius = if number.is_multiple_of(2) { 1.0 } else { 0.42 };
                let angle = turn * (f32::from(number) / 10.0 - 0.25);
                (radius * angle.cos(), radius * angle.sin())
            };
            polygon(&std::array::from_fn::<_, 10, _>(|number| {
                corner(u8::try_from(number).unwrap_or_default())
            }))
        }
        Shape::Ring => {
            let mut path = PathBuilder::new();
            path.push_circle(0.0, 0.0, 0.95);
            path.push_circle(0.0, 0.0, 0.5);
            path.finish()
        }
        Shape::Heart => {
            let mut path = PathBuilder::new();
            path.move_to(0.0, 0.9);
            path.cubic_to(-0.35, 0.55, -0.95, 0.2, -0.92, -0.3);
            path.cubic_to(-0.9, -0.75, -0.3, -0.88, 0.0, -0.4);
            path.cubic_to(0.3, -0.88, 0.9, -0.75, 0.92, -0.3);
            path.cubic_to(0.95, 0.2, 0.35, 0.55, 0.0, 0.9);
            path.close();
            path.finish()
        }
    }
}

fn polygon(corners: &[(f32, f32)]) -> Option<Path> {
    let mut path = PathBuilder::new();
    for (number, &(x, y)) in corners.iter().enumerate() {
        if number == 0 { path.move_to(x, y) } else { path.line_to(x, y) }
    }
    path.close();
    path.finish()
}

/// The background: two colours mixed by what it is made of, under a fine grain.
fn ground(background: &Background, size: u16) -> Pixmap {
    let mut rng = StdRng::seed_from_u64(background.seed);
    let patches = Patches::new(&mut rng);
    let turned: f32 = rng.random();
    let mut canvas = Pixmap::new(u32::from(size), u32::from(size)).expect("a size is at least 1");
    let [from, to] = background.colours;
    let places = (0..size).flat_map(|y| (0..size).map(move |x| (x, y)));
    for (pixel, (x, y)) in canvas.pixels_mut().iter_mut().zip(places) {
        let (x, y) = (f32::from(x) / f32::from(size), f32::from(y) / f32::from(size));
        let by = match background.kind {
            Ground::Clouds => patches.clouds(x, y),
            Ground::Planks => {
                patches.at(x * 6.0, turned * 9.0) * 0.3
                    + patches.at(x * 40.0, y * 3.0) * 0.4
                    + step(x * 7.0) * 0.3
            }
            Ground::Tiles => {
                let odd = ((x * 8.0).floor() + (y * 8.0).floor()) % 2.0;
                0.6 * odd + 0.4 * patches.clouds(x, y)
            }
            Ground::Slope => (x * turned + y * (1.0 - turned)) * 0.8 + patches.clouds(x, y) * 0.2,
        };
        let grain = rng.random_range(-0.03..0.03);
        *pixel = colour(mixed(from, to, by).map(|part| part + grain)).premultiply().to_color_u8();
    }
    canvas
}

/// A line between two boards every whole number.
fn step(at: f32) -> f32 {
    if at.fract() < 0.12 { 1.0 } else { 0.0 }
}

/// Random numbers on a lattice of 16 by 16, smoothly joined and repeated for ever.
struct Patches([[f32; 16]; 16]);

impl Patches {
    fn new(rng: &mut StdRng) -> Self {
        Self(std::array::from_fn(|_| std::array::from_fn(|_| rng.random())))
    }

    /// The number at a place not below 0, in `0..1`.
    fn at(&self, x: f32, y: f32) -> f32 {
        let smooth = |t: f32| t * t * (3.0 - 2.0 * t);
        let (column, row) = (cell(x), cell(y));
        let (right, below) = ((column + 1) % 16, (row + 1) % 16);
        let (across, down) = (smooth(x.fract()), smooth(y.fract()));
        let join = |a: f32, b: f32, by: f32| a + (b - a) * by;
        let upper = join(self.0[row][column], self.0[row][right], across);
        let lower = join(self.0[below][column], self.0[below][right], across);
        join(upper, lower, down)
    }

    /// Patches of all sizes.
    fn clouds(&self, x: f32, y: f32) -> f32 {
        let octave = |scale: f32, weight: f32| weight * self.at(x * scale, y * scale);
        octave(3.0, 0.55) + octave(7.0, 0.3) + octave(15.0, 0.15)
    }
}

/// The lattice cell of a number not below 0.
fn cell(at: f32) -> usize {
    (0..16_u8).rev().find(|&cell| f32::from(cell) <= at % 16.0).map_or(0, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::{
        CROWD,
        looks::{Colour, Split},
        world::{Actor, Place, milliseconds},
    };
    use rstest::rstest;

    const SIZE: u16 = 128;

    fn picture(world: &World, at: u16) -> Vec<u8> {
        let mut rgb = vec![0; usize::from(SIZE) * usize::from(SIZE) * 3];
        Painter::new(world, SIZE).paint(at, &mut rgb);
        rgb
    }

    fn alone(shape: Shape, texture: Texture) -> World {
        let actor = Actor {
            shape,
            texture,
            colour: Colour::Red,
            radius: 0.3,
            place: Place { x: 0.5, y: 0.5 },
            first: 1,
            last: 2,
            phase: 0.0,
            steps: Vec::new(),
        };
        let colours = [[0.4; 3], [0.5; 3]];
        let background = Background { kind: Ground::Clouds, colours, seed: 7 };
        World { length: 2, background, actors: vec![actor], events: Vec::new() }
    }

    #[rstest]
    fn a_shape_covers_a_part_of_the_circle_around_it_and_nothing_else(
        #[values(
            Shape::Circle,
            Shape::Square,
            Shape::Triangle,
            Shape::Star,
            Shape::Ring,
            Shape::Diamond,
            Shape::Heart
        )]
        shape: Shape,
        #[values(Texture::Plain, Texture::Striped, Texture::Dotted)] texture: Texture,
    ) {
        let world = alone(shape, texture);
        let (before, with) = (picture(&world, 0), picture(&world, 1));
        let mut covered = 0;
        for (number, (a, b)) in before.chunks(3).zip(with.chunks(3)).enumerate() {
            if a != b {
                covered += 1;
                let (x, y) = (number % 128, number / 128);
                let distance = (x.abs_diff(64)).pow(2) + (y.abs_diff(64)).pow(2);
                assert!(distance < 45 * 45, "({x}, {y}) is far from the shape");
            }
        }
        assert!((1000..5000).contains(&covered), "{covered} pixels");
    }

    #[test]
    fn textures_differ() {
        let plain = picture(&alone(Shape::Circle, Texture::Plain), 1);
        let striped = picture(&alone(Shape::Circle, Texture::Striped), 1);
        let dotted = picture(&alone(Shape::Circle, Texture::Dotted), 1);
        assert!(plain != striped && plain != dotted && striped != dotted);
    }

    #[test]
    fn pictures_change_while_something_happens() {
        let mut rng = StdRng::seed_from_u64(5);
        let world = World::new(&mut rng, Split::Train, 400, CROWD);
        assert_eq!(picture(&world, 100), picture(&world, 100));
        for event in &world.events {
            let before = picture(&world, event.start.saturating_sub(1));
            let change = |at| {
                let after = picture(&world, at);
                before.iter().zip(&after).filter(|(a, b)| a.abs_diff(**b) > 40).count()
            };
            let changed = (event.start..event.end).step_by(3).map(change).max().unwrap();
            assert!(changed > 20, "{event:?} at {} ms", milliseconds(event.start));
        }
    }
}
