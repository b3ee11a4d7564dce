//! The job file: what it may say, and what is wrong where it says something else.

mod cluster;
mod language;
mod speech;

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use bytesize::ByteSize;
use eventide_catalog::{CorpusOptions, DEFAULT_INCLUDE};
use eventide_engine::{ModelOptions, Night, ShardOptions};
use eventide_model::runtime::Device;
use eventide_pipeline::{
    CaptioningOptions, CaptioningSource, LimitOptions, TranscriptOption, WindowOption,
};
use miette::{Diagnostic, LabeledSpan, NamedSource, SourceSpan};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub(crate) use cluster::default_patience;
pub(crate) use language::LanguageOption;
pub(crate) use speech::{SpeechSection, confidence, longest_sentence};

/// Address space below which the media tools do not even start.
const LEAST_MEMORY: ByteSize = ByteSize::mib(256);
/// Time below which no video can be looked at.
const LEAST_TIME: Duration = Duration::from_secs(1);

/// A job file. One a job, in `jobs/`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct JobFile {
    /// What to index.
    pub(crate) corpus: CorpusSection,
    /// What captions it.
    #[serde(default)]
    pub(crate) model: ModelSection,
    /// What hears what is said, where `corpus.transcripts` names `asr`.
    #[serde(default)]
    pub(crate) speech: SpeechSection,
    /// What is captioned and how.
    #[serde(default)]
    pub(crate) captioning: CaptioningOptions,
    /// What one video may cost.
    #[serde(default)]
    pub(crate) limits: LimitOptions,
    /// Where the rows go.
    pub(crate) tables: TablesSection,
    /// How the run is cut up and published.
    #[serde(default)]
    pub(crate) run: RunSection,
    /// Who does the work where this machine does not, and how long a run waits.
    #[serde(default)]
    pub(crate) cluster: cluster::ClusterSection,
}

/// What to index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct CorpusSection {
    /// A folder or prefix: `s3://bucket/videos/`, `file:///videos/`, or a path relative to the job file.
    pub(crate) uri: String,
    /// Globs of the objects to index, relative to `uri`. Common video and audio extensions if empty.
    #[serde(default)]
    pub(crate) include: Vec<String>,
    /// Globs of the objects to leave out, relative to `uri`.
    #[serde(default)]
    pub(crate) exclude: Vec<String>,
    /// Where the words of a video may come from, in the order in which they are tried.
    #[serde(default = "all_transcripts")]
    pub(crate) transcripts: Vec<TranscriptOption>,
}

fn all_transcripts() -> Vec<TranscriptOption> {
    vec![TranscriptOption::Sidecar, TranscriptOption::Embedded]
}

/// What captions the corpus.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ModelSection {
    /// The model bundle: a folder in any store, or a path relative to the job file.
    pub(crate) bundle: Option<String>,
    /// Where it runs.
    pub(crate) device: DeviceOption,
    /// Threads of one operator; 0 is one a core.
    pub(crate) threads: usize,
}

/// Where a model runs: `cpu`, or `cuda:N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct DeviceOption(Device);

impl TryFrom<String> for DeviceOption {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

impl From<DeviceOption> for Device {
    fn from(device: DeviceOption) -> Self {
        device.0
    }
}

impl From<DeviceOption> for String {
    fn from(device: DeviceOption) -> Self {
        device.0.to_string()
    }
}

impl JsonSchema for DeviceOption {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Device".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^(cpu|cuda:[0-9]+)$" })
    }
}

/// Where the rows go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct TablesSection {
    /// The folder of the tables `events`, `videos` and `runs`: a URI, or a path relative to the job
    /// file.
    pub(crate) uri: String,
}

/// How the run is cut up and published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RunSection {
    /// Name of the job in the `runs` table; the name of the job file if not given.
    pub(crate) name: Option<String>,
    /// Video of one shard, about.
    #[schemars(with = "String")]
    pub(crate) shard_size: ByteSize,
    /// Most videos of one shard.
    pub(crate) shard_videos: NonZeroUsize,
    /// Videos above this size are split by their windows into stretches of at most this size, each a shard,
    /// where `captioning.window` is a length; as `shard-size` if not given. A stretch reads the whole file.
    /// Where `corpus.transcripts` names `asr`, a video is split only once it was heard.
    #[schemars(with = "Option<String>")]
    pub(crate) split_size: Option<ByteSize>,
    /// Whether an empty corpus may remove every row.
    pub(crate) allow_empty: bool,
    /// How long the run may take; then it is stopped and fails, and the next one goes on with what it has
    /// finished. As long as it takes if not given.
    #[serde(with = "humantime_serde::option")]
    #[schemars(with = "Option<String>")]
    pub(crate) deadline: Option<Duration>,
    /// How often what is finished is published while the run goes on, such as `30m`: readers see a night
    /// that is not complete then. Only at its end, all at once, if not given.
    #[serde(with = "humantime_serde::option")]
    #[schemars(with = "Option<String>")]
    pub(crate) publish_every: Option<Duration>,
}

impl Default for RunSection {
    fn default() -> Self {
        Self {
            name: None,
            shard_size: ByteSize::gib(4),
            shard_videos: NonZeroUsize::new(256).expect("not zero"),
            split_size: None,
            allow_empty: false,
            deadline: None,
            publish_every: None,
        }
    }
}

/// What the command line and the environment set over the job file.
#[derive(Debug, Default)]
pub(crate) struct Overrides<'a> {
    pub(crate) tables: Option<&'a str>,
    pub(crate) bundle: Option<&'a str>,
    pub(crate) speech_bundle: Option<&'a str>,
    pub(crate) allow_untrained: bool,
    pub(crate) cluster: Option<&'a str>,
}

/// What is wrong with a job file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JobError {
    #[error("cannot read the job file `{}`", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the job file `{}` is not right: {message}", path.display())]
    Parse {
        path: PathBuf,
        message: String,
        text: Box<NamedSource<String>>,
        span: Option<SourceSpan>,
        help: Option<String>,
    },
    #[error("the job file `{}` is not right: {message}", path.display())]
    Rule { path: PathBuf, message: String, help: String },
}

impl Diagnostic for JobError {
    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        match self {
            Self::Read { .. } => {
                Some(Box::new("give the path of a job file; examples are in jobs/"))
            }
            Self::Parse { help, .. } => help.as_ref().map(|help| Box::new(help) as _),
            Self::Rule { help, .. } => Some(Box::new(help)),
        }
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        match self {
            Self::Parse { text, .. } => Some(text.as_ref()),
            _ => None,
        }
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        match self {
            Self::Parse { span: Some(span), .. } => {
                Some(Box::new(std::iter::once(LabeledSpan::underline(*span))))
            }
            _ => None,
        }
    }
}

impl JobFile {
    /// Reads and resolves a job file.
    ///
    /// # Errors
    /// What is wrong with it, with the place and the nearest right name.
    pub(crate) fn load(path: &Path, overrides: &Overrides) -> Result<Night, JobError> {
        parse::<Self>(path, &read(path)?)?.resolve(path, overrides)
    }

    fn resolve(self, path: &Path, overrides: &Overrides) -> Result<Night, JobError> {
        let broken = |rule: BrokenRule| rule.in_file(path);
        let folder = path.parent().unwrap_or(Path::new("."));
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        check_captioning(&self.captioning, &self.corpus.transcripts).map_err(broken)?;
        check_limits(&self.limits).map_err(broken)?;
        let model = self.model.resolve(self.captioning.source, folder, overrides);
        let speech = self.speech.resolve(&self.corpus.transcripts, folder, overrides);
        Ok(Night {
            job: self.run.name.clone().unwrap_or(stem),
            transcripts: self.corpus.transcripts.clone(),
            corpus: self.corpus.resolve(folder),
            captioning: self.captioning,
            limits: self.limits,
            model: model.map_err(broken)?,
            speech: speech.map_err(broken)?,
            tables: overrides.tables.map_or_else(
                || anchored(&self.tables.uri, folder),
                |tables| anchored(tables, Path::new(".")),
            ),
            allow_empty: self.run.allow_empty,
            shards: self.run.resolve().map_err(broken)?,
            deadline: self.run.deadline,
            publish_every: self.run.publish_every,
            patience: self.cluster.patience().map_err(broken)?,
            scheduler: overrides.cluster.map(str::to_owned).or(self.cluster.scheduler),
        })
    }
}

impl CorpusSection {
    fn resolve(self, folder: &Path) -> CorpusOptions {
        CorpusOptions {
            uri: anchored(&self.uri, folder),
            include: if self.include.is_empty() {
                DEFAULT_INCLUDE.map(str::to_owned).to_vec()
            } else {
                self.include
            },
            exclude: self.exclude,
            sidecars: self.transcripts.contains(&TranscriptOption::Sidecar),
        }
    }
}

impl ModelSection {
    /// The model, where events come from one.
    fn resolve(
        self,
        source: CaptioningSource,
        folder: &Path,
        overrides: &Overrides,
    ) -> Result<Option<ModelOptions>, BrokenRule> {
        if source == CaptioningSource::Speech {
            return Ok(None);
        }
        let bundle = overrides
            .bundle
            .map(|bundle| anchored(bundle, Path::new(".")))
            .or(self.bundle.map(|bundle| anchored(&bundle, folder)))
            .ok_or_else(|| {
                BrokenRule::new(
                    "`captioning.source` is `vid2seq`, and there is no `model.bundle`",
                    "name a model bundle, or set `captioning.source = \"speech\"`",
                )
            })?;
        Ok(Some(ModelOptions {
            bundle,
            device: self.device.0,
            threads: self.threads,
            allow_untrained: overrides.allow_untrained,
        }))
    }
}

impl RunSection {
    fn resolve(&self) -> Result<ShardOptions, BrokenRule> {
        let split_size = self.split_size.unwrap_or(self.shard_size);
        for (name, size) in [("shard-size", self.shard_size), ("split-size", split_size)] {
            if size == ByteSize::b(0) {
                let message = format!("`run.{name}` is 0");
                return Err(BrokenRule::new(message, "4 GiB is usual"));
            }
        }
        if self.publish_every.is_some_and(|every| every < LEAST_TIME) {
            return Err(BrokenRule::new(
                "`run.publish-every` is shorter than a second",
                "`30m` is usual; leave it out to publish once, at the end",
            ));
        }
        Ok(ShardOptions {
            bytes: self.shard_size.as_u64(),
            videos: self.shard_videos.get(),
            split_bytes: split_size.as_u64(),
        })
    }
}

/// A rule between the values of a job file that it breaks, and what to do.
struct BrokenRule {
    message: String,
    help: String,
}

impl BrokenRule {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }

    fn in_file(self, path: &Path) -> JobError {
        JobError::Rule { path: path.to_owned(), message: self.message, help: self.help }
    }
}

fn check_captioning(
    captioning: &CaptioningOptions,
    transcripts: &[TranscriptOption],
) -> Result<(), BrokenRule> {
    if captioning.source == CaptioningSource::Speech && transcripts.is_empty() {
        return Err(BrokenRule::new(
            "`captioning.source` is `speech`, and `corpus.transcripts` is empty",
            "set `corpus.transcripts = [\"sidecar\", \"embedded\"]`",
        ));
    }
    for (index, source) in transcripts.iter().enumerate() {
        if transcripts[..index].contains(source) {
            return Err(BrokenRule::new(
                format!("`corpus.transcripts` names `{}` twice", source.name()),
                "once is enough: what is tried first comes first",
            ));
        }
    }
    if let WindowOption::Length(length) = captioning.window
        && captioning.overlap >= length
    {
        return Err(BrokenRule::new(
            "`captioning.overlap` is not shorter than `captioning.window`",
            "an overlap of a tenth of the window is usual",
        ));
    }
    Ok(())
}

fn check_limits(limits: &LimitOptions) -> Result<(), BrokenRule> {
    let too_small = |name: &str, given: String, least: String| {
        BrokenRule::new(
            format!("`limits.{name}` of {given} lets no video through"),
            format!("{least} is the least"),
        )
    };
    for (name, given, least) in [
        ("memory", limits.memory, LEAST_MEMORY),
        ("largest-file", limits.largest_file, ByteSize::b(1)),
        ("scratch", limits.scratch, ByteSize::mib(1)),
    ] {
        if given < least {
            return Err(too_small(name, given.to_string(), least.to_string()));
        }
    }
    for (name, given) in [("wall", limits.wall), ("cpu", limits.cpu)] {
        if given < LEAST_TIME {
            return Err(too_small(name, format!("{given:?}"), format!("{LEAST_TIME:?}")));
        }
    }
    Ok(())
}

/// The text of a job file, or of another file that a person wrote for us.
pub(crate) fn read(path: &Path) -> Result<String, JobError> {
    fs::read_to_string(path).map_err(|source| JobError::Read { path: path.to_owned(), source })
}

/// What such a file says.
pub(crate) fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, JobError> {
    toml::from_str(text).map_err(|error| {
        let message = error.message().trim().replace('\n', "; ");
        JobError::Parse {
            path: path.to_owned(),
            help: nearest(&message).map(|name| format!("did you mean `{name}`?")),
            message,
            text: Box::new(
                NamedSource::new(path.display().to_string(), text.to_owned()).with_language("TOML"),
            ),
            span: error.span().map(Into::into),
        }
    })
}

/// A URI as it is; a relative path from `folder`.
pub(crate) fn anchored(uri: &str, folder: &Path) -> String {
    if uri.contains("://") || Path::new(uri).is_absolute() {
        return uri.to_owned();
    }
    let joined = folder.join(uri);
    let joined = std::path::absolute(&joined).unwrap_or(joined);
    // Components with `..` would not be found in a store, whose paths are names.
    let mut plain = PathBuf::new();
    for part in joined.components() {
        match part {
            std::path::Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain.to_string_lossy().into_owned()
}

/// The name among those that a parse error expects which is nearest to the one it found.
fn nearest(message: &str) -> Option<String> {
    let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let (found, expected) = names.split_first()?;
    if !message.starts_with("unknown") {
        return None;
    }
    expected
        .iter()
        .map(|name| (strsim::jaro_winkler(found, name), *name))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const LEAST: &str = "tables.uri = 'lake'\n[corpus]\nuri = 'videos'\n";

    fn load(text: &str) -> Result<Night, JobError> {
        let path = Path::new("/jobs/nightly.toml");
        parse::<JobFile>(path, text)?.resolve(path, &Overrides::default())
    }

    #[rstest]
    #[case::misspelt_key(
        "[captioning]\nbeam = 4",
        "unknown field `beam`",
        Some("did you mean `beams`?")
    )]
    #[case::misspelt_section(
        "[limit]\nattempts = 4",
        "unknown field `limit`",
        Some("did you mean `limits`?")
    )]
    #[case::misspelt_value(
        "[captioning]\nsource = 'speach'",
        "unknown variant `speach`",
        Some("did you mean `speech`?")
    )]
    #[case::zero_beams("[captioning]\nbeams = 0", "nonzero", None)]
    #[case::bare_number("[limits]\nwall = 600", "expected a duration", None)]
    #[case::wrong_unit("[limits]\nmemory = '2 GiX'", "GiX", None)]
    #[case::bad_window("[captioning]\nwindow = 'half'", "expected `whole` or a duration", None)]
    #[case::bad_device("[model]\ndevice = 'gpu'", "expected `cpu` or `cuda:N`", None)]
    #[case::no_bundle("", "there is no `model.bundle`", Some("name a model bundle"))]
    #[case::no_memory(
        "[captioning]\nsource = 'speech'\n[limits]\nmemory = '1 B'",
        "lets no video through",
        Some("is the least")
    )]
    #[case::no_time(
        "[captioning]\nsource = 'speech'\n[limits]\nwall = '0s'",
        "lets no video through",
        Some("is the least")
    )]
    #[case::no_transcripts(
        "transcripts = []\n[captioning]\nsource = 'speech'",
        "`corpus.transcripts` is empty",
        Some("sidecar")
    )]
    #[case::no_speech_bundle(
        "transcripts = ['asr']\n[captioning]\nsource = 'speech'",
        "there is no `speech.bundle`",
        Some("name a speech bundle")
    )]
    #[case::idle_recogniser(
        "[captioning]\nsource = 'speech'\n[speech]\nbundle = 'w'",
        "`corpus.transcripts` does not name `asr`",
        Some("[\"sidecar\", \"embedded\", \"asr\"]")
    )]
    #[case::same_source_twice(
        "transcripts = ['sidecar', 'sidecar']\n[captioning]\nsource = 'speech'",
        "names `sidecar` twice",
        Some("once")
    )]
    #[case::misspelt_transcript(
        "transcripts = ['sidecars']",
        "unknown variant `sidecars`",
        Some("did you mean `sidecar`?")
    )]
    #[case::no_language("[speech]\nlanguage = 'german'", "expected `auto` or the code", None)]
    #[case::no_confidence(
        "transcripts = ['asr']\n[captioning]\nsource = 'speech'\n[speech]\nbundle = 'w'\nmin-confidence = 2.0",
        "`speech.min-confidence`: `2` is not from 0 to 1",
        Some("0 keeps all")
    )]
    #[case::short_sentences(
        "transcripts = ['asr']\n[captioning]\nsource = 'speech'\n[speech]\nbundle = 'w'\nlongest-sentence = '10ms'",
        "`speech.longest-sentence`",
        Some("30s")
    )]
    #[case::no_shards(
        "[captioning]\nsource = 'speech'\n[run]\nshard-size = '0 B'",
        "`run.shard-size` is 0",
        Some("is usual")
    )]
    #[case::no_stretches(
        "[captioning]\nsource = 'speech'\n[run]\nsplit-size = '0 B'",
        "`run.split-size` is 0",
        Some("is usual")
    )]
    #[case::never_done_publishing(
        "[captioning]\nsource = 'speech'\n[run]\npublish-every = '0s'",
        "`run.publish-every` is shorter",
        Some("is usual")
    )]
    #[case::no_patience(
        "[captioning]\nsource = 'speech'\n[cluster]\nexecutors-grace = '0s'",
        "`cluster.executors-grace` of 0ns",
        Some("is the least")
    )]
    #[case::a_deadline_that_never_comes(
        "[captioning]\nsource = 'speech'\n[cluster]\nshard-deadline = '12h'",
        "is not longer than `cluster.shard-deadline`",
        Some("second executor")
    )]
    #[case::overlap(
        "[captioning]\nsource = 'speech'\nwindow = '5m'\noverlap = '5m'",
        "not shorter",
        Some("a tenth")
    )]
    fn refuses(#[case] more: &str, #[case] because: &str, #[case] hint: Option<&str>) {
        let error = load(&format!("{LEAST}{more}")).unwrap_err();
        assert!(error.to_string().contains(because), "{error}");
        let help = error.help().map(|help| help.to_string()).unwrap_or_default();
        assert!(help.contains(hint.unwrap_or_default()), "{help}");
        assert_eq!(help.is_empty(), hint.is_none(), "{help}");
    }

    #[test]
    fn the_least_job_has_a_corpus_and_tables() {
        let night = load(&format!("{LEAST}[captioning]\nsource = 'speech'")).unwrap();
        assert_eq!(night.job, "nightly");
        assert_eq!(night.corpus.uri, "/jobs/videos");
        assert_eq!(night.tables, "/jobs/lake");
        assert!(night.model.is_none());
    }

    #[test]
    fn a_recogniser_is_where_the_job_says_it_is() {
        let more = "transcripts = ['sidecar', 'asr']\n[captioning]\nsource = 'speech'\n[speech]\nbundle = '../w'\n\
                    language = 'de'\nmin-confidence = 0.5\nbeams = 1\nlongest-sentence = '9s'\nprevious-text = true";
        let night = load(&format!("{LEAST}{more}")).unwrap();
        let speech = night.speech.unwrap();
        assert_eq!((speech.bundle.as_str(), speech.device), ("/w", Device::Cpu));
        let listening = eventide_pipeline::ListeningOptions {
            language: Some("de".to_owned()),
            min_confidence: 0.5,
            beams: std::num::NonZeroU32::MIN,
            previous_text: true,
            longest_sentence: Duration::from_secs(9),
        };
        assert_eq!(speech.listening, listening);
        let plain =
            "transcripts = ['asr']\n[captioning]\nsource = 'speech'\n[speech]\nbundle = 'w'";
        let plain = load(&format!("{LEAST}{plain}")).unwrap().speech.unwrap();
        assert_eq!(plain.listening, eventide_pipeline::ListeningOptions::default());
    }

    #[test]
    fn flags_win_over_the_file() {
        let path = Path::new("/jobs/nightly.toml");
        let overrides = Overrides {
            tables: Some("s3://lake/t"),
            bundle: Some("/b"),
            allow_untrained: true,
            ..Overrides::default()
        };
        let night = parse::<JobFile>(path, LEAST).unwrap().resolve(path, &overrides).unwrap();
        assert_eq!(night.tables, "s3://lake/t");
        assert_eq!(night.model.unwrap().bundle, "/b");
    }

    #[test]
    fn a_path_of_the_command_line_is_relative_to_where_one_is() {
        let path = Path::new("/jobs/nightly.toml");
        let overrides =
            Overrides { tables: Some("out"), bundle: Some("b"), ..Overrides::default() };
        let night = parse::<JobFile>(path, LEAST).unwrap().resolve(path, &overrides).unwrap();
        let here = std::env::current_dir().unwrap();
        assert_eq!(Path::new(&night.tables), here.join("out"));
    }

    #[test]
    fn the_command_line_names_the_scheduler_before_the_file() {
        let text =
            format!("{LEAST}[captioning]\nsource = 'speech'\n[cluster]\nscheduler = 'http://a:1'");
        let path = Path::new("/jobs/nightly.toml");
        let scheduler = |cluster| {
            let overrides = Overrides { cluster, ..Overrides::default() };
            let night = parse::<JobFile>(path, &text).unwrap().resolve(path, &overrides).unwrap();
            night.scheduler.unwrap()
        };
        assert_eq!(scheduler(None), "http://a:1");
        assert_eq!(scheduler(Some("http://b:2")), "http://b:2");
        assert_eq!(
            load(&format!("{LEAST}[captioning]\nsource = 'speech'")).unwrap().scheduler,
            None
        );
    }

    #[test]
    fn a_path_may_go_up() {
        let text = "[corpus]\nuri = '../videos'\n[tables]\nuri = '../a/../lake'\n[captioning]\nsource = 'speech'";
        let night = load(text).unwrap();
        assert_eq!((night.corpus.uri.as_str(), night.tables.as_str()), ("/videos", "/lake"));
    }

    #[test]
    fn the_published_jobs_are_right() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../jobs");
        let mut found = 0;
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                continue; // training files, which have a test of their own
            }
            let night = JobFile::load(&path, &Overrides::default());
            assert!(night.is_ok(), "{}: {:?}", path.display(), night.err());
            found += 1;
        }
        assert!(found >= 3);
    }
}
