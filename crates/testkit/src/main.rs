//! Makes what tests make, for a person who tries things out by hand. Called as `ffprobe`, it stands in for it.

use std::error::Error as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use eventide_testkit::{
    Hostile, Result, bundles, footage, lake, released, stand_in, timing, tools, whisper,
};
use eventide_training::Style;

/// Makes model bundles of random weights and test videos.
#[derive(Debug, Parser)]
#[command(name = "eventide-testkit")]
struct Arguments {
    #[command(subcommand)]
    product: Product,
}

#[derive(Debug, Subcommand)]
enum Product {
    /// A model bundle of random weights. Its captions mean nothing.
    SeededBundle {
        /// The bundle's folder, which must not be there yet.
        #[arg(long)]
        out: PathBuf,
        /// The model's sizes.
        #[arg(long, value_enum, default_value_t = Size::Tiny)]
        size: Size,
        /// Decides the weights.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// A checkpoint of random weights as they are released: `vid2seq.pth`, `clip.pt` and `spiece.model`.
    Released {
        /// The folder to fill, which must be there. At full size it takes 1.8 GB.
        #[arg(long)]
        out: PathBuf,
        /// The model's sizes.
        #[arg(long, value_enum, default_value_t = Size::Tiny)]
        size: Size,
        /// Decides the weights.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// The speech bundle of a real Whisper.
    Whisper {
        /// The bundle's folder, which must not be there yet.
        #[arg(long)]
        out: PathBuf,
        /// Which one.
        #[arg(long, value_enum, default_value_t = whisper::Size::Base)]
        size: whisper::Size,
    },
    /// One video of every bad kind.
    Hostile {
        /// The folder to fill, which must be there.
        #[arg(long)]
        out: PathBuf,
    },
    /// Tables of made-up events.
    Lake {
        /// The folder of the tables, which must not be there yet.
        #[arg(long)]
        out: PathBuf,
        /// How many events, to the hundred.
        #[arg(long, default_value_t = 10_000_000)]
        events: u64,
    },
    /// Seconds that a bundle takes for pictures or for windows, on one thread, and what it says to them, as JSON.
    Timing {
        /// The bundle.
        #[arg(long)]
        bundle: PathBuf,
        /// The tensors, as `eventide model run` takes them: pictures are encoded, windows are captioned.
        #[arg(long)]
        inputs: PathBuf,
        /// What is timed.
        #[arg(long, value_enum)]
        part: Part,
        /// Hypotheses that are kept.
        #[arg(long, default_value_t = 4)]
        beams: u32,
        /// Most tokens that are generated.
        #[arg(long, default_value_t = 64)]
        tokens: u32,
        /// Windows that share a run of the decoder.
        #[arg(long, default_value_t = 1)]
        together: usize,
        /// How often it is timed, after once that is not.
        #[arg(long, default_value_t = 3)]
        runs: usize,
    },
    /// A film of 1920 x 1080 pixels with sound, of any length.
    Film {
        /// The film's file, `.mp4` or `.mkv`.
        #[arg(long)]
        out: PathBuf,
        /// Its length in minutes.
        #[arg(long, default_value_t = 120)]
        minutes: u64,
    },
}

/// A part of a model.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Part {
    /// The vision encoder on pictures.
    Encode,
    /// Everything behind it, on windows.
    Generate,
}

/// The sizes of a model.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Size {
    /// Half a million parameters.
    Tiny,
    /// As the released Vid2Seq.
    Base,
}

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    if words.next().is_some_and(|name| stand_in::is_called(&name)) {
        return play(&words.collect::<Vec<_>>());
    }
    match make(Arguments::parse().product) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            let mut cause = error.source();
            while let Some(inner) = cause {
                eprintln!("  because: {inner}");
                cause = inner.source();
            }
            ExitCode::FAILURE
        }
    }
}

/// Does what a media tool would be asked to do.
fn play(arguments: &[std::ffi::OsString]) -> ExitCode {
    match stand_in::answer(arguments) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn make(product: Product) -> Result<()> {
    match product {
        Product::SeededBundle { out, size: Size::Tiny, seed } => bundles::tiny(&out, seed),
        Product::SeededBundle { out, size: Size::Base, seed } => {
            bundles::base(&tools()?, &out, seed)
        }
        Product::Released { out, size, seed } => match size {
            Size::Tiny => released::tiny(&out, seed).map(|_| ()),
            Size::Base => released::base(&tools()?, &out, seed).map(|_| ()),
        },
        Product::Whisper { out, size } => whisper::bundle(&tools()?, size, &out, Style::default()),
        Product::Hostile { out } => {
            let tools = tools()?;
            Hostile::ALL.into_iter().try_for_each(|kind| kind.make(&tools, &out).map(|_| ()))
        }
        Product::Lake { out, events } => lake::make(&out, events),
        Product::Timing { bundle, inputs, part, beams, tokens, together, runs } => {
            let timed = match part {
                Part::Encode => timing::encode(&bundle, &inputs, runs)?,
                Part::Generate => {
                    let generation = timing::Generation { beams, tokens, together };
                    timing::generate(&bundle, &inputs, &generation, runs)?
                }
            };
            println!("{timed}");
            Ok(())
        }
        Product::Film { out, minutes } => {
            footage::full_hd(&tools()?, Duration::from_mins(minutes), &out)
        }
    }
}
