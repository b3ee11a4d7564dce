//! The figures of all claims, as they are kept, and the page that is made of them.

use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Scores;
use super::claims::{CLAIMS, Claim, named};
use crate::error::{Error, Result};

/// All that was measured.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    /// In the order of the claims.
    answers: Vec<Answer>,
}

/// What came of one claim.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Answer {
    /// Its name on the command line.
    pub(super) claim: String,
    pub(super) conditions: Conditions,
    pub(super) rows: Vec<Row>,
}

/// How much was done for each row.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Conditions {
    pub(super) seeds: u64,
    pub(super) pre_training: u32,
    pub(super) fine_tuning: u32,
    pub(super) videos: u32,
    pub(super) tested: u32,
}

/// The scores of the models of one row.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Row {
    name: String,
    soda_c: Spread,
    cider: Spread,
    f1: Spread,
}

/// The mean of some figures, and the lowest and highest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Spread {
    mean: f64,
    low: f64,
    high: f64,
}

impl Record {
    /// Reads what was measured before; nothing if there is no such file.
    pub(super) fn read(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read(path).map_err(Error::file("read", path))?;
        serde_json::from_slice(&text).map_err(|source| Error::file("read", path)(source.into()))
    }

    /// Puts what came of a claim in place of what came of it before.
    pub(super) fn put(&mut self, answer: Answer) {
        self.answers.retain(|before| before.claim != answer.claim);
        self.answers.push(answer);
        let place = |answer: &Answer| CLAIMS.iter().position(|claim| claim.name == answer.claim);
        self.answers.sort_by_key(place);
    }

    /// As it is kept.
    pub(super) fn json(&self) -> Result<String> {
        serde_json::to_string_pretty(self)
            .map(|text| text + "\n")
            .map_err(|source| Error::Answer { program: "cargo xtask results", source })
    }

    /// How far apart models of one row are at most, that differ in nothing but their seeds.
    fn widest(&self, score: Score) -> f64 {
        let several = self.answers.iter().filter(|answer| answer.conditions.seeds > 1);
        let spreads = several.flat_map(|answer| &answer.rows).map(|row| score.of(row));
        spreads.map(|spread| spread.high - spread.low).fold(0.0, f64::max)
    }
}

impl Row {
    pub(super) fn new(name: &str, scores: &[Scores]) -> Self {
        let spread = |value: fn(&Scores) -> f64| Spread::of(scores.iter().map(value));
        Self {
            name: name.to_owned(),
            soda_c: spread(|scores| scores.soda_c),
            cider: spread(|scores| scores.cider),
            f1: spread(|scores| scores.f1),
        }
    }
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.collect();
        let count = u32::try_from(values.len()).map_or(1.0, f64::from).max(1.0);
        Self {
            mean: values.iter().sum::<f64>() / count,
            low: values.iter().copied().fold(f64::INFINITY, f64::min),
            high: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

const HEAD: &str = "\
# The paper's claims, in small

Written by `cargo xtask results` out of `docs/results.json`. Models of 1.4 million values learn from synthetic videos (`eventide synth`) and are
scored on videos of the test split, some of whose combinations of colour, shape and action were never learnt from. SODA_c is computed with METEOR's
relative (`soda_c_native`), F1 is the mean over tIoU 0.3, 0.5, 0.7 and 0.9. Figures are means over seeds, with the lowest and the highest.

What the paper (arXiv 2302.14115) says is told in our words. A row is called better or worse than another where the worst model of the one is better
than the best of the other. Rows of one seed have no spread of their own: there two figures must be further apart than models of any row that differ
in nothing but the seed.

";

/// The page of all that was measured.
pub(super) fn page(record: &Record) -> String {
    let mut page = HEAD.to_owned();
    for answer in &record.answers {
        let Some(claim) = named(&answer.claim) else { continue };
        let Conditions { seeds, pre_training, fine_tuning, videos, tested } = answer.conditions;
        let several = if seeds == 1 { "seed" } else { "seeds" };
        let _ = write!(
            page,
            "## {}\n\n`cargo xtask results --claim {}`: {seeds} {several} a row; {pre_training} steps of pre-training, {fine_tuning} of fine-tuning, \
             16 videos each; {videos} videos to learn from, {tested} to test on, of 20 to 28 seconds.\n\n",
            claim.title, claim.name,
        );
        page.push_str(&table(&answer.rows));
        let _ = write!(page, "**The paper says:** {}.\n\n", claim.paper);
        page.push_str(&here(record, claim, answer));
        if !claim.caveat.is_empty() {
            let _ = write!(page, "{}\n\n", claim.caveat);
        }
        page.push_str(&plot(&answer.rows));
    }
    page
}

fn table(rows: &[Row]) -> String {
    let mut table = "| | SODA_c | CIDEr | F1 |\n|---|---|---|---|\n".to_owned();
    for Row { name, soda_c, cider, f1 } in rows {
        let [soda_c, cider, f1] = [soda_c, cider, f1].map(cell);
        let _ = writeln!(table, "| {name} | {soda_c} | {cider} | {f1} |");
    }
    table + "\n"
}

/// The mean, and the lowest and highest where they differ.
fn cell(Spread { mean, low, high }: &Spread) -> String {
    if low < high { format!("{mean:.3} ({low:.3} to {high:.3})") } else { format!("{mean:.3}") }
}

/// A bar for the mean `SODA_c` of each row, in the plot language that viewers of Markdown draw (Mermaid).
fn plot(rows: &[Row]) -> String {
    let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    let bars: Vec<String> = rows.iter().map(|row| format!("{:.3}", row.soda_c.mean)).collect();
    let bars = bars.join(", ");
    format!(
        "```mermaid\nxychart-beta horizontal\n    x-axis {names:?}\n    y-axis \"SODA_c\" 0 --> 0.5\n    bar [{bars}]\n```\n\n"
    )
}

/// The scores that rows are compared by.
#[derive(Debug, Clone, Copy)]
enum Score {
    SodaC,
    F1,
}

impl Score {
    fn of(self, row: &Row) -> &Spread {
        match self {
            Self::SodaC => &row.soda_c,
            Self::F1 => &row.f1,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::SodaC => "SODA_c",
            Self::F1 => "F1",
        }
    }
}

/// How one row is beside another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    Better,
    Worse,
    Within,
}

impl Beside {
    fn name(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Within => "within the spread",
        }
    }
}

fn beside(one: &Spread, other: &Spread, seeds: u64, widest: f64) -> Beside {
    // As far as figures are shown, so that a reader finds the same.
    let shown = |value: f64| (value * 1000.0).round();
    let apart = (shown(one.mean) - shown(other.mean)).abs();
    let clear = seeds > 1 || apart > shown(widest);
    if clear && one.low > other.high {
        Beside::Better
    } else if clear && one.high < other.low {
        Beside::Worse
    } else {
        Beside::Within
    }
}

/// What a comparison says of the paper.
fn verdict(found: &[Beside]) -> &'static str {
    match (found.contains(&Beside::Better), found.contains(&Beside::Worse)) {
        (true, false) => AGREES,
        (false, true) => CONTRADICTS,
        (true, true) => "one score as the paper has it, the other not",
        (false, false) => "neither for the paper nor against it",
    }
}

const AGREES: &str = "as the paper has it";
const CONTRADICTS: &str = "contradicts the paper";

/// What the figures say of a claim: how many comparisons agree with it, and each of them.
fn here(record: &Record, claim: &Claim, answer: &Answer) -> String {
    let row = |name: &str| answer.rows.iter().find(|row| row.name == name);
    let (mut lines, mut verdicts) = (String::new(), Vec::new());
    for (better, other) in claim.better {
        let (Some(one), Some(two)) = (row(better), row(other)) else { continue };
        let scores = [Score::SodaC, Score::F1];
        let found = scores.map(|score| {
            let (one, two) = (score.of(one), score.of(two));
            beside(one, two, answer.conditions.seeds, record.widest(score))
        });
        let told = scores.iter().zip(found).map(|(score, found)| {
            let (one, two) = (score.of(one).mean, score.of(two).mean);
            format!("{} {one:.3} against {two:.3}, {}", score.name(), found.name())
        });
        let told: Vec<String> = told.collect();
        let verdict = verdict(&found);
        let _ = writeln!(lines, "* *{better}* against *{other}*: {}: {verdict}.", told.join("; "));
        verdicts.push(verdict);
    }
    let count = |wanted: &str| verdicts.iter().filter(|verdict| **verdict == wanted).count();
    let (agree, contradict) = (count(AGREES), count(CONTRADICTS));
    let all = verdicts.len();
    let several = if all == 1 { "comparison" } else { "comparisons" };
    format!(
        "**Here:** of {all} {several} {agree} came out as the paper has it, {contradict} contradicted it, {} said neither.\n\n{lines}\n",
        all - agree - contradict
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, soda_c: &[f64], f1: &[f64]) -> Row {
        let scores = soda_c.iter().zip(f1).map(|(&soda_c, &f1)| Scores { soda_c, cider: 1.0, f1 });
        Row::new(name, &scores.collect::<Vec<_>>())
    }

    fn answer(claim: &str, seeds: u64, rows: Vec<Row>) -> Answer {
        let conditions =
            Conditions { seeds, pre_training: 1, fine_tuning: 2, videos: 3, tested: 4 };
        Answer { claim: claim.to_owned(), conditions, rows }
    }

    #[test]
    fn a_row_shows_its_spread_and_a_bar() {
        let rows = [row("a", &[0.5, 0.3], &[0.2, 0.4]), row("b, c", &[0.1], &[0.1])];
        let table = table(&rows);
        let expected = "| a | 0.400 (0.300 to 0.500) | 1.000 | 0.300 (0.200 to 0.400) |";
        assert!(table.contains(expected), "{table}");
        assert!(table.ends_with("| b, c | 0.100 | 1.000 | 0.100 |\n\n"), "{table}");
        let plot = plot(&rows);
        assert!(plot.contains("x-axis [\"a\", \"b, c\"]"), "{plot}");
        assert!(plot.contains("bar [0.400, 0.100]"), "{plot}");
    }

    #[test]
    fn contradictions_are_said() {
        let rows = vec![
            row("video and speech", &[0.1, 0.2], &[0.5, 0.6]),
            row("video only", &[0.3, 0.4], &[0.4, 0.7]),
            row("speech only", &[0.05, 0.09], &[0.1, 0.2]),
        ];
        let page = page(&Record { answers: vec![answer("inputs", 2, rows)] });
        let expected = "*video and speech* against *video only*: SODA_c 0.150 against 0.350, worse; F1 0.550 against 0.550, within the spread: contradicts the paper.";
        assert!(page.contains(expected), "{page}");
        let expected = "against *speech only*: SODA_c 0.150 against 0.070, better; F1 0.550 against 0.150, better: as the paper has it.";
        assert!(page.contains(expected), "{page}");
        let expected = "**Here:** of 2 comparisons 1 came out as the paper has it, 1 contradicted it, 0 said neither.";
        assert!(page.contains(expected), "{page}");
    }

    #[test]
    fn a_single_seed_is_held_against_the_spread_of_others() {
        let several = answer("inputs", 2, vec![row("video only", &[0.1, 0.2], &[0.5, 0.5])]);
        let one = |beams| {
            let rows = vec![row("greedy", &[0.3], &[0.5]), row("4 beams", &[beams], &[0.5])];
            answer("decoding", 1, rows)
        };
        let mut record = Record { answers: vec![several] };
        record.put(one(0.39));
        assert!(page(&record).contains("0.390 against 0.300, within the spread; F1"));
        record.put(one(0.41));
        assert!(page(&record).contains("0.410 against 0.300, better; F1"));
        let order: Vec<&str> = record.answers.iter().map(|answer| &*answer.claim).collect();
        assert_eq!(order, ["inputs", "decoding"], "one answer a claim");
    }

    #[test]
    fn one_claim_leaves_the_others_as_they_are() {
        let path = docs().join("results.json");
        let before = Record::read(&path).unwrap();
        let mut after = Record::read(&path).unwrap();
        after.put(answer("decoding", 1, vec![row("greedy", &[0.3], &[0.5])]));
        assert_eq!(after.answers.len(), CLAIMS.len());
        for (before, after) in before.answers.iter().zip(&after.answers) {
            assert_eq!(before == after, before.claim != "decoding", "{}", before.claim);
        }
    }

    fn docs() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
    }

    #[test]
    fn the_page_is_made_of_the_figures() {
        let record = Record::read(&docs().join("results.json")).unwrap();
        let kept = std::fs::read_to_string(docs().join("results.md")).unwrap();
        assert_eq!(page(&record), kept, "run `cargo xtask results --render`");
        assert_eq!(
            record.json().unwrap(),
            std::fs::read_to_string(docs().join("results.json")).unwrap()
        );
        for answer in &record.answers {
            let claim = named(&answer.claim).unwrap();
            let names: Vec<&str> = answer.rows.iter().map(|row| row.name.as_str()).collect();
            let expected: Vec<&str> = claim.rows.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, expected, "{}", claim.name);
        }
    }
}
