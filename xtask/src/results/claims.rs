//! The claims of the Vid2Seq paper, what is compared to ask each, and the models that are trained for it.

/// What is changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Variant {
    /// Tasks of pre-training; empty for none.
    pub(super) pre_training: &'static [&'static str],
    /// Whether pre-training sees single sentences in place of whole videos.
    pub(super) clips: bool,
    pub(super) video: bool,
    pub(super) speech: bool,
    pub(super) time_tokens: u32,
    /// Share of the training videos that is fine-tuned on.
    pub(super) share: f64,
    pub(super) beams: u32,
    pub(super) bounds: Bounds,
}

/// Where events begin and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bounds {
    /// Where the model says.
    Model,
    /// Each sentence of the transcript is an event, of which the model only says what happens.
    Transcript,
}

const BOTH: &[&str] = &["speech", "denoising"];
/// What the rows are compared with.
const USUAL: Variant = Variant {
    pre_training: BOTH,
    clips: false,
    video: true,
    speech: true,
    time_tokens: 100,
    share: 1.0,
    beams: 1,
    bounds: Bounds::Model,
};
const NEW: Variant = Variant { pre_training: &[], ..USUAL };

/// A claim, what the paper says of it, and the rows that it is asked by.
pub(super) struct Claim {
    /// Its name on the command line.
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// What the paper says, in our words, and where.
    pub(super) paper: &'static str,
    /// What is to be known beside the figures; may be empty.
    pub(super) caveat: &'static str,
    /// Whether its rows are main rows.
    pub(super) main: bool,
    pub(super) rows: &'static [(&'static str, Variant)],
    /// Pairs of rows of which the first is the better one, as the paper has it.
    pub(super) better: &'static [(&'static str, &'static str)],
}

pub(super) const CLAIMS: &[Claim] = &[
    Claim {
        name: "pre-training",
        title: "Pre-training on narrated videos",
        paper: "pre-training on narrated videos helps; the denoising objective beside the generative one helps where a model also hears; whole videos with time tokens are better than single sentences (section 4.2, Tables 1 and 2)",
        caveat: "",
        main: true,
        rows: &[
            ("none", NEW),
            ("generative objective", Variant { pre_training: &["speech"], ..USUAL }),
            ("generative and denoising", USUAL),
            (SENTENCES, Variant { clips: true, ..USUAL }),
        ],
        better: &[
            ("generative and denoising", "none"),
            ("generative and denoising", "generative objective"),
            ("generative and denoising", SENTENCES),
        ],
    },
    Claim {
        name: "inputs",
        title: "What the model is given",
        paper: "a model that sees and hears is better than one that only sees (section 4.2, Table 2); one that only hears is a question of ours",
        caveat: "",
        main: true,
        rows: &[
            ("video and speech", USUAL),
            ("video only", Variant { speech: false, ..USUAL }),
            ("speech only", Variant { video: false, ..USUAL }),
        ],
        better: &[("video and speech", "video only"), ("video and speech", "speech only")],
    },
    Claim {
        name: "time-tokens",
        title: "Time tokens",
        paper: "100 time tokens are what it takes throughout (section 4.1)",
        caveat: "",
        main: false,
        rows: &[
            ("25", Variant { time_tokens: 25, ..USUAL }),
            ("50", Variant { time_tokens: 50, ..USUAL }),
            ("100", USUAL),
            ("200", Variant { time_tokens: 200, ..USUAL }),
        ],
        better: &[("100", "25"), ("100", "50"), ("100", "200")],
    },
    Claim {
        name: "few-shot",
        title: "Few-shot: share of the training videos, pre-trained or not",
        paper: "a pre-trained model learns from few videos, and more of them keep helping: SODA_c on YouCook2 is 2.4, 3.8, 6.2 and 7.9 % with 1, 10, 50 and 100 % of the videos (section 4.4)",
        caveat: "",
        main: false,
        rows: &[
            ("1 %, pre-trained", Variant { share: 0.01, ..USUAL }),
            ("1 %, new", Variant { share: 0.01, ..NEW }),
            ("10 %, pre-trained", Variant { share: 0.1, ..USUAL }),
            ("10 %, new", Variant { share: 0.1, ..NEW }),
            ("50 %, pre-trained", Variant { share: 0.5, ..USUAL }),
            ("50 %, new", Variant { share: 0.5, ..NEW }),
            ("100 %, pre-trained", USUAL),
            ("100 %, new", NEW),
        ],
        better: &[
            ("10 %, pre-trained", "1 %, pre-trained"),
            ("50 %, pre-trained", "10 %, pre-trained"),
            ("100 %, pre-trained", "50 %, pre-trained"),
            ("1 %, pre-trained", "1 %, new"),
            ("10 %, pre-trained", "10 %, new"),
            ("50 %, pre-trained", "50 %, new"),
            ("100 %, pre-trained", "100 %, new"),
        ],
    },
    Claim {
        name: "decoding",
        title: "Decoding",
        paper: "it decodes with 4 beams (section 4.1), and does not compare that with greedy decoding",
        caveat: "",
        main: false,
        rows: &[("greedy", USUAL), ("4 beams", Variant { beams: 4, ..USUAL })],
        better: &[("4 beams", "greedy")],
    },
    Claim {
        name: "boundaries",
        title: "Where events begin and end",
        paper: "one stage, in which the model tells bounds and captions, is better than two (abstract; section 4.3)",
        caveat: "The second row shows a model that was trained on whole videos the clips of single sentences, which it never learnt to caption; the bounds of sentences are not those of events either. So the row is the least that two stages are worth, and not what a captioner of clips would make of good bounds.",
        main: false,
        rows: &[
            ("told by the model, in one stage", USUAL),
            (TRANSCRIPT, Variant { bounds: Bounds::Transcript, ..USUAL }),
        ],
        better: &[("told by the model, in one stage", TRANSCRIPT)],
    },
];

const SENTENCES: &str = "both, on single sentences in place of whole videos";
const TRANSCRIPT: &str = "sentences of the transcript, each captioned by itself";

/// The claim of this name.
pub(super) fn named(name: &str) -> Option<&'static Claim> {
    CLAIMS.iter().find(|claim| claim.name == name)
}

impl Variant {
    /// A name for its files, different for each.
    pub(super) fn name(&self) -> String {
        let Self { pre_training, clips, video, speech, time_tokens, share, beams, .. } = self;
        let bounds = (self.bounds == Bounds::Transcript, "bounds");
        let flags = [(*clips, "clips"), (!video, "blind"), (!speech, "deaf"), bounds];
        let flags = flags.iter().filter(|(set, _)| *set).flat_map(|(_, flag)| ["-", flag]);
        let flags: String = flags.collect();
        let tasks = if pre_training.is_empty() { "new".to_owned() } else { pre_training.join("-") };
        let share = (share * 100.0).round();
        format!("{tasks}{flags}-{time_tokens}-{share}-{beams}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn different_variants_have_different_files() {
        let mut names: BTreeMap<String, Variant> = BTreeMap::new();
        for (_, variant) in CLAIMS.iter().flat_map(|claim| claim.rows) {
            let other = names.insert(variant.name(), *variant);
            assert!(other.is_none_or(|other| other == *variant), "{}", variant.name());
        }
        assert!(names.len() > 12, "{names:?}");
    }

    #[test]
    fn rows_that_are_compared_are_there() {
        for claim in CLAIMS {
            let known = |row: &str| claim.rows.iter().any(|(name, _)| *name == row);
            assert!(claim.better.iter().all(|(a, b)| known(a) && known(b)), "{}", claim.name);
            assert!(!claim.better.is_empty(), "{}", claim.name);
        }
    }
}
