//! What is said of an event: captions for the truth, and the looser words of a narrator.

use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};

use super::{
    looks::{Action, Looks, Side, Size, Texture},
    world::Event,
};

/// How often the first of several wordings is taken without a look at the others.
const USUAL: f64 = 0.55;
/// How often an unusual size or filling is worth a word.
const MENTIONED: f64 = 0.2;

/// A caption: one sentence of several that say the same.
///
/// `{a}` and `{b}` are who does it and to whom, `{side}` is an edge, `{across}` the edge across, `{into}` a colour.
#[must_use]
pub fn caption(event: &Event, rng: &mut StdRng) -> String {
    let wordings = if event.who.len() > 1 { together(event.action) } else { alone(event.action) };
    sentence(event, wordings, "a", rng)
}

/// What a narrator says of an event who names the shapes.
#[must_use]
pub fn remark(event: &Event, rng: &mut StdRng) -> String {
    let wordings: &[&str] = match event.action {
        Action::Enter => &["here comes {a}", "and now {a} joins us", "look who is coming, {a}"],
        Action::Leave => &["goodbye to {a}", "{a} is off now", "and that was {a}"],
        Action::Grow => &["watch {a}, so much bigger now", "see how big {a} gets"],
        Action::Shrink => &["watch {a}, so much smaller now", "see how tiny {a} gets"],
        Action::Collide => &["careful, {a} and {b}", "ouch, {a} just hit {b}"],
        Action::CircleAround => &["{a} goes round and round {b}", "{a} will not leave {b} alone"],
        Action::ChangeColour => &["{a} is getting {into}", "I like {a} better in {into}"],
        Action::Blink => {
            &["keep an eye on {a}, on and off it goes", "now you see {a}, now you do not"]
        }
        Action::Stack => &["{a} climbs up on {b}", "look at {a} on top of {b}"],
        Action::Cross => &["there goes {a} all the way across", "{a} is in a hurry"],
    };
    sentence(event, wordings, "the", rng)
}

/// What a narrator says of an event without saying who does it.
#[must_use]
pub fn hint(event: &Event, rng: &mut StdRng) -> String {
    let wordings: &[&str] = match event.action {
        Action::Enter => &["somebody new is coming", "oh, we have company"],
        Action::Leave => &["one less now", "and off it goes"],
        Action::Grow => &["it is getting bigger", "wow, look at the size of that"],
        Action::Shrink => &["it is getting smaller", "soon there is nothing left of it"],
        Action::Collide => &["that must have hurt", "what a crash"],
        Action::CircleAround => &["round and round it goes", "this one makes me dizzy"],
        Action::ChangeColour => &["that is a nice new colour", "it looks different now"],
        Action::Blink => &["is something wrong with the light", "gone, and back again"],
        Action::Stack => &["that is quite a tower", "I hope it does not fall down"],
        Action::Cross => &["quick, before it is gone", "just passing through"],
    };
    sentence(event, wordings, "the", rng)
}

/// What a narrator says who thinks of something else.
#[must_use]
pub fn aside(rng: &mut StdRng) -> String {
    const ASIDES: [&str; 14] = [
        "Thank you all for watching.",
        "Do not forget to subscribe to the channel.",
        "I had far too much coffee this morning.",
        "Let me know in the comments what you think.",
        "My sister would have loved this one.",
        "The weather has been dreadful all week.",
        "Where was I?",
        "We will come back to that later.",
        "I recorded this with my new microphone.",
        "Last week somebody asked me about a blue house.",
        "There was a big red bus outside a minute ago.",
        "Anyway, let us go on.",
        "This is my favourite part of the day.",
        "Can you hear the dog next door?",
    ];
    ASIDES.choose(rng).copied().unwrap_or_default().to_owned()
}

fn alone(action: Action) -> &'static [&'static str] {
    match action {
        Action::Enter => &[
            "{a} comes in from the {side}",
            "{a} enters from the {side}",
            "{a} slides into view from the {side}",
        ],
        Action::Leave => &[
            "{a} leaves to the {side}",
            "{a} goes out to the {side}",
            "{a} slides out of view to the {side}",
        ],
        Action::Grow => &["{a} grows", "{a} gets bigger", "{a} becomes larger"],
        Action::Shrink => &["{a} shrinks", "{a} gets smaller", "{a} becomes smaller"],
        Action::Collide => &["{a} collides with {b}", "{a} bumps into {b}", "{a} crashes into {b}"],
        Action::CircleAround => {
            &["{a} circles around {b}", "{a} moves in circles around {b}", "{a} orbits {b}"]
        }
        Action::ChangeColour => {
            &["{a} turns {into}", "{a} changes its colour to {into}", "{a} becomes {into}"]
        }
        Action::Blink => {
            &["{a} blinks", "{a} flashes on and off", "{a} disappears and comes back several times"]
        }
        Action::Stack => {
            &["{a} stacks on top of {b}", "{a} moves on top of {b}", "{a} comes to rest on {b}"]
        }
        Action::Cross => &[
            "{a} crosses from the {side} to the {across}",
            "{a} moves across the picture from the {side} to the {across}",
            "{a} passes from the {side} to the {across}",
        ],
    }
}

/// The same of two at the same time. Only what two do together in some world has words of its own.
fn together(action: Action) -> &'static [&'static str] {
    match action {
        Action::Leave => &["{a} leave to the {side}", "{a} go out to the {side} together"],
        Action::Grow => &["{a} grow", "{a} both get bigger", "{a} grow together"],
        Action::Shrink => &["{a} shrink", "{a} both get smaller", "{a} shrink together"],
        Action::Blink => &["{a} blink", "{a} flash on and off together"],
        other => alone(other),
    }
}

fn sentence(event: &Event, wordings: &[&str], article: &str, rng: &mut StdRng) -> String {
    let who: Vec<_> = event.who.iter().map(|&looks| noun_phrase(looks, article, rng)).collect();
    let whom = event.whom.map(|looks| noun_phrase(looks, article, rng)).unwrap_or_default();
    let side = event.side.map_or("", Side::name);
    let across = event.side.map_or("", |side| side.opposite().name());
    let text = wording(wordings, rng);
    let text = text
        .replace("{a}", &who.join(" and "))
        .replace("{b}", &whom)
        .replace("{side}", side)
        .replace("{across}", across)
        .replace("{into}", event.into.map_or("", |colour| colour.name()));
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).chain(['.']).collect()
}

/// The usual words, the first, most of the time; else any of them.
fn wording<'a>(wordings: &[&'a str], rng: &mut StdRng) -> &'a str {
    let usual = rng.random_bool(USUAL).then(|| wordings.first()).flatten();
    usual.or_else(|| wordings.choose(rng)).copied().unwrap_or_default()
}

/// Such as `a small striped red circle`; size and filling are often left out.
fn noun_phrase(looks: Looks, article: &str, rng: &mut StdRng) -> String {
    let mut words = Vec::new();
    match looks.size {
        Size::Small if rng.random_bool(MENTIONED) => words.push("small"),
        Size::Large if rng.random_bool(MENTIONED) => words.push("large"),
        _ => (),
    }
    match looks.texture {
        Texture::Striped if rng.random_bool(MENTIONED) => words.push("striped"),
        Texture::Dotted if rng.random_bool(MENTIONED) => words.push("dotted"),
        _ => (),
    }
    words.extend([looks.colour.name(), looks.shape.name()]);
    let vowel = words[0].starts_with(['a', 'e', 'i', 'o', 'u']);
    let article = if article == "a" && vowel { "an" } else { article };
    format!("{article} {}", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::{
        CROWD,
        looks::Split,
        world::{RATE, World},
    };
    use rand::SeedableRng as _;
    use std::collections::{HashMap, HashSet};

    fn events() -> Vec<Event> {
        let world =
            |seed| World::new(&mut StdRng::seed_from_u64(seed), Split::Train, 100 * RATE, CROWD);
        (0..300).flat_map(|seed| world(seed).events).collect()
    }

    fn complaint(sentence: &str) -> Option<&'static str> {
        let ends = sentence.ends_with('.') && !sentence.ends_with("..");
        let words: Vec<_> = sentence.split(' ').collect();
        let articles = words.windows(2).all(|pair| match pair[0].to_lowercase().as_str() {
            "a" => !pair[1].starts_with("orange"),
            "an" => pair[1].starts_with(['e', 'o']),
            _ => true,
        });
        match () {
            () if sentence.contains(['{', '}']) => Some("a place is not filled"),
            () if words.len() < 2 || words.contains(&"") => Some("a word is missing"),
            () if !ends || !sentence.starts_with(|c: char| c.is_ascii_uppercase()) => {
                Some("it is no sentence")
            }
            () if !articles => Some("a/an"),
            () => None,
        }
    }

    #[test]
    fn every_event_has_a_whole_sentence_in_each_voice() {
        let mut rng = StdRng::seed_from_u64(1);
        for event in events() {
            for said in
                [caption(&event, &mut rng), remark(&event, &mut rng), hint(&event, &mut rng)]
            {
                assert_eq!(complaint(&said), None, "{said}");
            }
            assert_ne!(aside(&mut rng), "");
        }
    }

    #[test]
    fn a_caption_names_colour_and_shape_in_several_wordings() {
        let mut rng = StdRng::seed_from_u64(2);
        let mut wordings: HashMap<Action, HashSet<String>> = HashMap::new();
        for event in events() {
            let said = caption(&event, &mut rng).to_lowercase();
            for looks in event.who.iter().chain(&event.whom) {
                let name = format!("{} {}", looks.colour.name(), looks.shape.name());
                assert!(said.contains(&name), "{said}");
            }
            let (_, doing) = said.split_once(event.who[0].shape.name()).unwrap();
            let verb = doing.split_whitespace().next().unwrap_or_default().to_owned();
            wordings.entry(event.action).or_default().insert(verb);
        }
        assert_eq!(wordings.len(), Action::ALL.len());
        assert!(wordings.values().all(|verbs| verbs.len() >= 3), "{wordings:?}");
    }

    #[test]
    fn a_hint_names_nobody() {
        let mut rng = StdRng::seed_from_u64(3);
        for event in events() {
            let said = hint(&event, &mut rng);
            assert!(!said.contains(event.who[0].shape.name()), "{said}");
        }
    }
}
