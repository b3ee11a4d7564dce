//! Who does what, and when: makes the [`World`] of a video.
//!
//! Up to two strands of action run side by side, so that events overlap in time. Each strand waits, takes an action
//! that is possible at that moment, and goes on after its end. A shape does one thing at a time. What is done is
//! written down as an [`Event`] by the same hand that moves the shapes, so that the truth is what is drawn.

use std::{f32::consts::TAU, ops::RangeInclusive};

use rand::{
    Rng as _,
    rngs::StdRng,
    seq::{IndexedRandom as _, SliceRandom as _},
};

use super::{
    looks::{Action, Colour, Looks, Shape, Side, Size, Split, Texture},
    world::{Actor, Background, Event, Ground, Motion, Place, RATE, Step, World},
};

/// The places where shapes rest: three rows of three.
const MARKS: [f32; 3] = [0.2, 0.5, 0.8];
/// The mark in the middle.
const MIDDLE: usize = 4;
/// How many shapes that act may be there at once, and how many that only stand there.
const COMPANY: usize = 4;
const BYSTANDERS: usize = 2;
/// How long a shape rests between two things that it does, in pictures.
const REST: u16 = RATE / 2;
/// How many times attributes are drawn before a new shape is given up.
const TRIES: usize = 40;

/// A shape while its part is being written.
struct Player {
    actor: Actor,
    /// How it looks now, or once what it does is done.
    looks: Looks,
    home: Place,
    /// The mark that it rests on.
    mark: Option<usize>,
    /// From when on it can do something else.
    free: u16,
    acts: bool,
    on_stage: bool,
}

/// Writes the parts.
pub(super) struct Director<'a> {
    rng: &'a mut StdRng,
    split: Split,
    length: u16,
    /// How many shapes that act may be there at once.
    company: usize,
    players: Vec<Player>,
    events: Vec<Event>,
    /// From when on each mark is free.
    marks: [u16; 9],
}

impl<'a> Director<'a> {
    pub(super) fn new(rng: &'a mut StdRng, split: Split, length: u16) -> Self {
        let (players, events) = (Vec::new(), Vec::new());
        Self { rng, split, length, company: COMPANY, players, events, marks: [0; 9] }
    }

    /// Writes everything, with at most `crowd` shapes on stage at once.
    pub(super) fn direct(mut self, crowd: usize) -> World {
        let bystanders = self.rng.random_range(0..=BYSTANDERS.min(crowd.saturating_sub(2)));
        self.company = COMPANY.min(crowd - bystanders);
        for _ in 0..bystanders {
            self.place(false);
        }
        for _ in 0..self.rng.random_range(0..=2.min(self.company)) {
            self.place(true);
        }
        self.act();
        let background = self.background();
        self.events.sort_by_key(|event| (event.start, event.end));
        World {
            length: self.length,
            background,
            actors: self.players.into_iter().map(|player| player.actor).collect(),
            events: self.events,
        }
    }

    fn act(&mut self) {
        let strands = if self.rng.random_bool(0.4) { 2 } else { 1 };
        let mut strands: Vec<u16> = (0..strands)
            .map(|_| self.rng.random_range(RATE / 2..=5 * RATE).min(self.length / 4))
            .collect();
        while let Some(strand) = strands.iter_mut().min() {
            let now = *strand;
            if now >= self.length {
                break;
            }
            *strand = match self.something(now) {
                Some(end) => end + self.rng.random_range(3 * RATE..=14 * RATE),
                None => now + RATE,
            };
        }
    }

    /// Does one of the actions that are possible now. When it ends; `None` where none is possible.
    fn something(&mut self, now: u16) -> Option<u16> {
        let company = self.idle(now).len();
        let mut actions: Vec<_> = Action::ALL.to_vec();
        actions.shuffle(self.rng);
        if company < 2 && self.rng.random_bool(0.5) {
            actions.insert(0, Action::Enter);
        }
        if company < 3 && self.rng.random_bool(0.7) {
            actions.retain(|&action| action != Action::Leave);
        }
        actions.into_iter().find_map(|action| self.attempt(action, now))
    }

    fn attempt(&mut self, action: Action, now: u16) -> Option<u16> {
        match action {
            Action::Enter => self.enter(now),
            Action::Leave => self.leave(now),
            Action::Grow | Action::Shrink => self.resize(action, now),
            Action::Collide => self.collide(now),
            Action::CircleAround => self.circle_around(now),
            Action::ChangeColour => self.change_colour(now),
            Action::Blink => self.blink(now),
            Action::Stack => self.stack(now),
            Action::Cross => self.cross(now),
        }
    }

    fn enter(&mut self, now: u16) -> Option<u16> {
        let acting = self.players.iter().filter(|player| player.acts && player.on_stage);
        let room = acting.count() < self.company;
        let mark = room.then(|| self.free_mark(now, true)).flatten()?;
        let looks = self.new_looks(Some(Action::Enter))?;
        let side = *Side::ALL.choose(self.rng)?;
        let home = self.home(mark);
        let from = outside(home, side, looks.size.radius());
        let end = self.arrives(now, from.distance(home))?;
        let number = self.join(looks, home, Some(mark), true);
        let player = &mut self.players[number];
        player.actor.first = now;
        player.actor.place = from;
        player.then(now, end, Motion::Glide { from, to: home });
        self.tell(Event { side: Some(side), ..event(Action::Enter, now, end, &[(number, looks)]) });
        Some(end)
    }

    fn leave(&mut self, now: u16) -> Option<u16> {
        let who = self.willing(Action::Leave, now, |_| true)?;
        let side = *Side::ALL.choose(self.rng)?;
        let way = |player: &Player| {
            let from = player.home;
            (from, outside(from, side, player.looks.size.radius()))
        };
        let ways = who.iter().map(|&(number, _)| way(&self.players[number]));
        let farthest = ways.map(|(from, to)| from.distance(to)).fold(0.0, f32::max);
        let end = self.arrives(now, farthest)?;
        for &(number, _) in &who {
            let player = &mut self.players[number];
            let (from, to) = way(player);
            player.then(now, end, Motion::Glide { from, to });
            player.actor.last = end;
            player.on_stage = false;
            if let Some(mark) = player.mark {
                self.marks[mark] = end;
            }
        }
        self.tell(Event { side: Some(side), ..event(Action::Leave, now, end, &who) });
        Some(end)
    }

    fn cross(&mut self, now: u16) -> Option<u16> {
        let end = self.ends(now, 8 * RATE..=16 * RATE)?;
        let looks = self.new_looks(Some(Action::Cross))?;
        let side = *Side::ALL.choose(self.rng)?;
        let lane = self.rng.random_range(0.25..0.75);
        let middle = Place { x: lane, y: lane };
        let radius = looks.size.radius();
        let (from, to) = (outside(middle, side, radius), outside(middle, side.opposite(), radius));
        let number = self.join(looks, from, None, true);
        let player = &mut self.players[number];
        player.actor.first = now;
        player.actor.last = end;
        player.then(now, end, Motion::Glide { from, to });
        self.tell(Event { side: Some(side), ..event(Action::Cross, now, end, &[(number, looks)]) });
        Some(end)
    }

    fn resize(&mut self, action: Action, now: u16) -> Option<u16> {
        let sizes = |size: Size| match (action, size) {
            (Action::Grow, Size::Small) => vec![Size::Medium, Size::Large],
            (Action::Grow, Size::Medium) => vec![Size::Large],
            (Action::Shrink, Size::Large) => vec![Size::Medium, Size::Small],
            (Action::Shrink, Size::Medium) => vec![Size::Small],
            _ => Vec::new(),
        };
        let who = self.willing(action, now, |player| !sizes(player.looks.size).is_empty())?;
        let end = self.ends(now, 6 * RATE..=12 * RATE)?;
        for &(number, looks) in &who {
            let size = *sizes(looks.size).choose(self.rng)?;
            let player = &mut self.players[number];
            let (from, to) = (looks.size.radius(), size.radius());
            player.then(now, end, Motion::Scale { from, to });
            player.looks.size = size;
        }
        self.tell(event(action, now, end, &who));
        Some(end)
    }

    fn change_colour(&mut self, now: u16) -> Option<u16> {
        let (number, looks) = *self.willing(Action::ChangeColour, now, |_| true)?.first()?;
        let end = self.ends(now, 5 * RATE..=10 * RATE)?;
        let free = Colour::ALL.into_iter().filter(|&colour| !self.is_taken(colour, looks.shape));
        let into = *free.collect::<Vec<_>>().choose(self.rng)?;
        let player = &mut self.players[number];
        player.then(now, end, Motion::Recolour { from: looks.colour, to: into });
        player.looks.colour = into;
        let who = [(number, looks)];
        self.tell(Event { into: Some(into), ..event(Action::ChangeColour, now, end, &who) });
        Some(end)
    }

    fn blink(&mut self, now: u16) -> Option<u16> {
        let who = self.willing(Action::Blink, now, |_| true)?;
        let half = RATE * 5 / 4;
        let end = now + 2 * half * self.rng.random_range(3..=5);
        self.is_in_time(end).then_some(())?;
        for &(number, _) in &who {
            self.players[number].then(now, end, Motion::Blink { half });
        }
        self.tell(event(Action::Blink, now, end, &who));
        Some(end)
    }

    fn collide(&mut self, now: u16) -> Option<u16> {
        let (one, other) = self.pair(Action::Collide, now, |one, other| {
            one.home.distance(other.home) > one.reach(other) + 0.12
        })?;
        let meet = self.ends(now, 2 * RATE..=4 * RATE)?;
        let end = self.ends(meet, 3 * RATE..=5 * RATE)?;
        let (a, b) = (&self.players[one], &self.players[other]);
        let (from, target) = (a.home, b.home);
        let way = from.angle_to(target);
        let contact = target.at_angle(way, -0.9 * a.reach(b));
        let pushed = target.at_angle(way, 0.1);
        let turn = meet + RATE / 2;
        self.players[one].then(now, meet, Motion::Glide { from, to: contact });
        self.players[one].then(meet, end, Motion::Glide { from: contact, to: from });
        self.players[other].then(meet, turn, Motion::Glide { from: target, to: pushed });
        self.players[other].then(turn, end, Motion::Glide { from: pushed, to: target });
        self.tell_pair(Action::Collide, now, end, one, other);
        Some(end)
    }

    fn circle_around(&mut self, now: u16) -> Option<u16> {
        let (one, other) = self.pair(Action::CircleAround, now, |one, other| {
            let central = |at: f32| (0.35..0.65).contains(&at);
            one.looks.size < Size::Large && central(other.home.x) && central(other.home.y)
        })?;
        let start = self.ends(now, RATE * 3 / 4..=RATE * 5 / 4)?;
        let end = self.ends(start, 8 * RATE..=16 * RATE)?;
        let back = self.ends(end, RATE * 3 / 4..=RATE * 5 / 4)?;
        let turns: f32 = if end - start > 12 * RATE { 2.0 } else { 1.0 };
        let sweep = if self.rng.random_bool(0.5) { TAU * turns } else { -TAU * turns };
        let (a, b) = (&self.players[one], &self.players[other]);
        let (home, centre, radius) = (a.home, b.home, a.reach(b) + 0.03);
        let angle = centre.angle_to(home);
        let near = centre.at_angle(angle, radius);
        let player = &mut self.players[one];
        player.then(now, start, Motion::Glide { from: home, to: near });
        player.then(start, end, Motion::Orbit { centre, radius, angle, sweep });
        player.then(end, back, Motion::Glide { from: near, to: home });
        self.tell_pair(Action::CircleAround, start, end, one, other);
        self.players[other].free = back;
        Some(back)
    }

    fn stack(&mut self, now: u16) -> Option<u16> {
        let (one, other) = self.pair(Action::Stack, now, |one, other| {
            other.home.y - one.reach(other) > one.looks.size.radius()
        })?;
        let arrived = self.ends(now, 3 * RATE..=5 * RATE)?;
        let end = self.ends(arrived, 3 * RATE..=6 * RATE)?;
        let back = self.ends(end, 2 * RATE..=3 * RATE)?;
        let (a, b) = (&self.players[one], &self.players[other]);
        let home = a.home;
        let top = Place { x: b.home.x, y: b.home.y - 0.95 * a.reach(b) };
        let player = &mut self.players[one];
        player.then(now, arrived, Motion::Glide { from: home, to: top });
        player.then(end, back, Motion::Glide { from: top, to: home });
        self.tell_pair(Action::Stack, now, end, one, other);
        self.players[other].free = back;
        Some(back)
    }

    /// One who may do this now, or two for what two can do together.
    fn willing(
        &mut self,
        action: Action,
        now: u16,
        can: impl Fn(&Player) -> bool,
    ) -> Option<Vec<(usize, Looks)>> {
        let mut who = self.idle(now);
        who.retain(|&number| self.may(number, action) && can(&self.players[number]));
        who.shuffle(self.rng);
        let alone = action == Action::ChangeColour || self.rng.random_bool(0.65);
        who.truncate(if alone { 1 } else { 2 });
        let looks = who.iter().map(|&number| (number, self.players[number].looks));
        (!who.is_empty()).then(|| looks.collect())
    }

    /// One who may do this now, and another to whom it can be done.
    fn pair(
        &mut self,
        action: Action,
        now: u16,
        can: impl Fn(&Player, &Player) -> bool,
    ) -> Option<(usize, usize)> {
        let idle = self.idle(now);
        let pairs = idle.iter().filter(|&&one| self.may(one, action)).flat_map(|&one| {
            let others = idle.iter().filter(move |&&other| other != one);
            others.map(move |&other| (one, other))
        });
        let possible: Vec<_> =
            pairs.filter(|&(a, b)| can(&self.players[a], &self.players[b])).collect();
        possible.choose(self.rng).copied()
    }

    /// Whether this player's looks may do this in this split.
    fn may(&self, number: usize, action: Action) -> bool {
        let looks = self.players[number].looks;
        self.split.allows(looks.colour, looks.shape, action)
    }

    /// Who is there and does nothing.
    fn idle(&self, now: u16) -> Vec<usize> {
        let idle = |player: &Player| player.acts && player.on_stage && player.free + REST <= now;
        (0..self.players.len()).filter(|&number| idle(&self.players[number])).collect()
    }

    fn tell(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Tells what `one` does to `other`, which is busy meanwhile too.
    fn tell_pair(&mut self, action: Action, start: u16, end: u16, one: usize, other: usize) {
        let (who, whom) = (self.players[one].looks, self.players[other].looks);
        self.players[other].free = end;
        self.tell(Event { whom: Some(whom), ..event(action, start, end, &[(one, who)]) });
    }

    /// Puts a shape on a mark before the video starts.
    fn place(&mut self, acts: bool) {
        if let Some(mark) = self.free_mark(0, acts)
            && let Some(looks) = self.new_looks(None)
        {
            let home = self.home(mark);
            self.join(looks, home, Some(mark), acts);
        }
    }

    fn join(&mut self, looks: Looks, place: Place, mark: Option<usize>, acts: bool) -> usize {
        if let Some(mark) = mark {
            self.marks[mark] = u16::MAX;
        }
        let Looks { size, texture, colour, shape } = looks;
        let actor = Actor {
            shape,
            texture,
            colour,
            radius: size.radius(),
            place,
            first: 0,
            last: self.length,
            phase: self.rng.random(),
            steps: Vec::new(),
        };
        // Who has no mark is only passing through.
        let on_stage = mark.is_some();
        self.players.push(Player { actor, looks, home: place, mark, free: 0, acts, on_stage });
        self.players.len() - 1
    }

    /// Looks that nobody on stage has, and that may do `action` in this split.
    fn new_looks(&mut self, action: Option<Action>) -> Option<Looks> {
        (0..TRIES).find_map(|_| {
            let looks = Looks {
                size: *[Size::Small, Size::Medium, Size::Medium, Size::Large].choose(self.rng)?,
                texture: *[Texture::Plain, Texture::Plain, Texture::Striped, Texture::Dotted]
                    .choose(self.rng)?,
                colour: *Colour::ALL.choose(self.rng)?,
                shape: *Shape::ALL.choose(self.rng)?,
            };
            let allowed = |action| self.split.allows(looks.colour, looks.shape, action);
            let fits = action.is_none_or(allowed) && !self.is_taken(looks.colour, looks.shape);
            fits.then_some(looks)
        })
    }

    /// Whether somebody on stage looks like that. Who only passes through keeps its looks to itself for good.
    fn is_taken(&self, colour: Colour, shape: Shape) -> bool {
        let same = |looks: Looks| looks.colour == colour && looks.shape == shape;
        self.players
            .iter()
            .any(|player| (player.on_stage || player.mark.is_none()) && same(player.looks))
    }

    /// A mark that nobody is on. Those who act like the middle, which leaves room around them.
    fn free_mark(&mut self, now: u16, acts: bool) -> Option<usize> {
        if acts && self.marks[MIDDLE] <= now && self.rng.random_bool(0.6) {
            return Some(MIDDLE);
        }
        let free = (0..self.marks.len()).filter(|&mark| self.marks[mark] <= now);
        free.filter(|&mark| acts || mark != MIDDLE).collect::<Vec<_>>().choose(self.rng).copied()
    }

    /// The place of a mark, never twice quite the same.
    fn home(&mut self, mark: usize) -> Place {
        let mut near = |at: f32| at + self.rng.random_range(-0.03..0.03);
        Place { x: near(MARKS[mark % 3]), y: near(MARKS[mark / 3]) }
    }

    /// When something ends that takes so many pictures from `start`; `None` where the video is over by then.
    fn ends(&mut self, start: u16, takes: RangeInclusive<u16>) -> Option<u16> {
        let end = start + self.rng.random_range(takes);
        self.is_in_time(end).then_some(end)
    }

    /// When a shape arrives that goes so far from `start` on, at a walk.
    fn arrives(&mut self, start: u16, distance: f32) -> Option<u16> {
        let step = self.rng.random_range(0.07..0.13) / f32::from(RATE);
        let end =
            start + (4 * RATE..20 * RATE).find(|&steps| f32::from(steps) * step >= distance)?;
        self.is_in_time(end).then_some(end)
    }

    /// Whether this is half a second or more before the end of the video.
    fn is_in_time(&self, end: u16) -> bool {
        end + RATE / 2 <= self.length
    }

    fn background(&mut self) -> Background {
        let kind = Ground::ALL[self.rng.random_range(0..Ground::ALL.len())];
        let grey: f32 = self.rng.random_range(0.2..0.5);
        let mut muted = |around: f32| -> [f32; 3] {
            std::array::from_fn(|_| around + self.rng.random_range(-0.07..0.07))
        };
        let colours = [muted(grey), muted(grey + 0.15)];
        Background { kind, colours, seed: self.rng.random() }
    }
}

impl Player {
    /// Adds a step, until whose end the player is busy.
    fn then(&mut self, start: u16, end: u16, motion: Motion) {
        self.actor.steps.push(Step { start, end, motion });
        self.free = end;
    }

    /// The distance at which it touches `other`.
    fn reach(&self, other: &Self) -> f32 {
        self.looks.size.radius() + other.looks.size.radius()
    }
}

fn event(action: Action, start: u16, end: u16, who: &[(usize, Looks)]) -> Event {
    Event {
        start,
        end,
        action,
        who: who.iter().map(|&(_, looks)| looks).collect(),
        actors: who.iter().map(|&(number, _)| number).collect(),
        whom: None,
        side: None,
        into: None,
    }
}

/// The place nearest to `place` over the edge `side` where nothing of the shape is seen, however it sways.
fn outside(place: Place, side: Side, radius: f32) -> Place {
    let beyond = 1.05 * radius + 0.01;
    match side {
        Side::Left => Place { x: -beyond, ..place },
        Side::Right => Place { x: 1.0 + beyond, ..place },
        Side::Top => Place { y: -beyond, ..place },
        Side::Bottom => Place { y: 1.0 + beyond, ..place },
    }
}
