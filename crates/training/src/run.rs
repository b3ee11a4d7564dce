//! A training file carried out: examples and their features, the model to begin with, the run, the bundle.

use std::{
    collections::HashSet,
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use burn::tensor::Device;
use eventide_media::Media;
use eventide_model::{
    Bundle, Tokenizer, Vid2Seq,
    manifest::{Decoding, FrameRule, Manifest, files},
    runtime::{self, Runtime, SessionOptions},
    text::normalise,
};

use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};

use crate::{
    bundle::{Draft, unwritable, write_bundle},
    contrast::{self, Captioned, Contrast},
    data::{
        Elsewhere, Example,
        cache::Cache,
        drawn::{self, Drawn},
        features::{self, Vision, prepare, prepare_drawn, prepare_fetched, prepare_pictures},
        folder::Report,
        pictures::Look,
        select,
    },
    durable::remove_folder,
    error::{Error, Result},
    graph::Style,
    learner::Learner,
    optimiser::Schedule,
    plan::{self, Bounds, Lake, Lesson, Plan, Sizes, Source},
    seeded::seeded,
    session::{Ended, Judgement, Lessons, Metric, Session},
    sources::{examples, told_of},
    start::{even_patches, look_around, place_in_time, whiten},
    synth::{self, Recipe},
    trainer::{Progress, Sample, Settings, Shown, Task, Trainer},
    validation::{Scores, predict, predict_sentences, scores},
    vocabulary,
    weights::Weights,
};

/// Seconds of a video whose features are kept: enough for an hour's at the end of a crop, few enough for a file.
const MOST_FEATURES: u32 = 1000;
/// Pictures of each video that a vision encoder learns from.
const PICTURES: u32 = 16;

/// What a run is carried out with.
pub struct Surroundings<'a> {
    /// What reads videos.
    pub media: &'a Media,
    /// What runs bundles.
    pub runtime: &'a Runtime,
    /// Videos that are read at once.
    pub workers: NonZeroUsize,
    /// Where the weights are and is learnt.
    pub device: Device,
    /// Where is learnt too: the batches of a step are shared out.
    pub more_devices: Vec<Device>,
    /// What reads the videos of tables, and what happens in them.
    pub lake: &'a LakeReader<'a>,
    /// What brings those of them here that are not on this machine.
    pub elsewhere: &'a dyn Elsewhere,
}

/// Gives the examples in the tables of a folder or an address.
pub type LakeReader<'a> = dyn Fn(&Lake) -> Result<(Vec<Example>, Report), Box<dyn std::error::Error + Send + Sync>>
    + Sync
    + 'a;

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Surroundings")
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

/// Where is learnt: on this machine's processors, or on a GPU where this program was built for one.
///
/// # Errors
/// [`Error::Plan`] if it was not.
pub fn processor(device: runtime::Device) -> Result<Device> {
    match device {
        runtime::Device::Cpu => Ok(Device::flex()),
        #[cfg(feature = "cuda")]
        runtime::Device::Cuda(number) => Ok(Device::cuda(number)),
        #[cfg(not(feature = "cuda"))]
        runtime::Device::Cuda(_) => Err(Error::Plan {
            problem: "this program was built without CUDA: build it with `--features cuda`"
                .to_owned(),
        }),
    }
}

/// Who hears of a run.
pub struct Listener<'a> {
    /// Of each video that is prepared.
    pub prepared: &'a (dyn Fn(&features::Progress) + Sync),
    /// Of the examples there are: for training, and for validation.
    pub joined: &'a mut dyn FnMut(&str, usize, &Report),
    /// Of each video that cannot be seen, and is left out.
    pub unseen: &'a dyn Fn(&crate::data::Error),
    /// Of each step; says whether to stop.
    pub stepped: &'a mut dyn FnMut(&Metric) -> bool,
}

impl std::fmt::Debug for Listener<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Listener").finish_non_exhaustive()
    }
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// How the run ended.
    pub ended: Ended,
    /// The bundle, unless the run was stopped before its end.
    pub bundle: Option<PathBuf>,
}

/// A model to begin with.
struct Beginning {
    manifest: Manifest,
    weights: Weights,
    tokenizer: Vec<u8>,
}

/// Carries out a plan whose paths are those of this machine. Blocks.
///
/// # Errors
/// [`Error::Plan`] if the plan contradicts itself, [`Error::Exists`] if the bundle is there already; what the parts
/// of it say. What was computed and learnt so far is kept, and the next call goes on from there.
pub fn run(
    plan: &Plan,
    surroundings: &Surroundings<'_>,
    listener: &mut Listener<'_>,
) -> Result<Outcome> {
    check(plan)?;
    check_devices(plan, 1 + surroundings.more_devices.len())?;
    let tells = plan.objective.tasks.contains(&Lesson::Events);
    let read = |source, what, listener: &mut Listener<'_>| -> Result<Vec<Example>> {
        let examples = examples(source, what, surroundings, listener)?;
        if tells { told_of(examples, what) } else { Ok(examples) }
    };
    let training = read(&plan.data.training, "training", listener)?;
    let training = select::fraction(training, plan.data.share, plan.optimiser.seed);
    let validation = match &plan.data.validation {
        Some(source) => read(source, "validation", listener)?,
        None => Vec::new(),
    };
    let beginning = begin(plan, &training)?;
    let session = Session {
        folder: plan.run.folder.clone(),
        every: plan.run.every,
        steps: plan.optimiser.steps.get(),
    };
    let sees = plan.objective.tasks == [Lesson::Vision];
    let (ended, learnt) = if sees {
        see(plan, &beginning, &session, surroundings, listener, [&training, &validation])?
    } else {
        tell(plan, &beginning, &session, surroundings, listener, [training, validation])?
    };
    if ended.steps < session.steps {
        return Ok(Outcome { ended, bundle: None });
    }
    let Beginning { manifest, mut weights, tokenizer } = beginning;
    weights.extend(learnt);
    let manifest = finished(plan, manifest, &ended);
    let out = &plan.model.out;
    if let Some(parent) = out.parent() {
        fs::create_dir_all(parent)
            .map_err(|source| Error::Write { path: parent.to_owned(), source })?;
    }
    let mut draft = Draft::write(out, &manifest, &weights, &tokenizer, Style::Fused)?;
    draft.add_golden(surroundings.runtime)?;
    draft.publish()?;
    Ok(Outcome { ended, bundle: Some(out.clone()) })
}

fn check(plan: &Plan) -> Result<()> {
    let wrong = |problem: &str| Err(Error::Plan { problem: problem.to_owned() });
    let tasks = &plan.objective.tasks;
    let only_synthetic = matches!(plan.data.training, Source::Synthetic(_) | Source::Drawn(_));
    let sees = tasks.contains(&Lesson::Vision);
    match () {
        () if plan.model.out.exists() => Err(Error::Exists { path: plan.model.out.clone() }),
        () if tasks.is_empty() => wrong("`objective.tasks` is empty"),
        () if sees && tasks.len() > 1 => {
            wrong("`vision` is learnt by itself: leave the other tasks to another training file")
        }
        () if sees && !only_synthetic => wrong(
            "`vision` is learnt from synthetic videos: give `data.training` the folder that `eventide synth` made, or `drawn`, `seed`, `shortest` and `longest`",
        ),
        () if plan.model.start.is_none() && plan.model.sizes.is_none() => {
            wrong("a new model needs `model.sizes`, another one `model.start`")
        }
        () if plan.model.start.is_none() && !sees => wrong(
            "this needs a vision encoder: name a bundle that has one in `model.start`, or train one with the task `vision`",
        ),
        () if plan.model.tokenizer.is_some() && plan.model.sizes.is_none() => wrong(
            "`model.tokenizer` is for a new model, since the weights of `model.start` fit its own: leave it out, or give `model.sizes` too",
        ),
        () if !(plan.objective.video || plan.objective.speech) => {
            wrong("the model is to see no pictures and hear no speech")
        }
        () if !(0.0..=1.0).contains(&plan.data.share) => wrong("`data.share` is not in 0..=1"),
        () if !(0.0..=1.0).contains(&plan.optimiser.crop) => {
            wrong("`optimiser.crop` is not in 0..=1")
        }
        () if !(plan.optimiser.learning_rate.is_finite() && plan.optimiser.learning_rate > 0.0) => {
            wrong("`optimiser.learning-rate` is not a number above 0")
        }
        () if plan.optimiser.batch == 0 => wrong("`optimiser.batch` is 0"),
        () if plan.data.clips && tasks.contains(&Lesson::Events) => wrong(
            "`data.clips` is for pre-training: nothing is told of what happens in a single sentence",
        ),
        () => Ok(()),
    }
}

/// Each device is to have a batch of a step.
fn check_devices(plan: &Plan, devices: usize) -> Result<()> {
    let batches = plan.optimiser.accumulate;
    let problem = match devices {
        0 | 1 => return Ok(()),
        _ if plan.objective.tasks.contains(&Lesson::Vision) => {
            "`vision` is learnt on one device, since the pictures of a batch are told from one another".to_owned()
        }
        _ if devices > batches => format!(
            "{devices} devices are more than the batches of a step: make `optimiser.accumulate` {devices}, which is {batches}"
        ),
        _ => return Ok(()),
    };
    Err(Error::Plan { problem })
}

fn begin(plan: &Plan, training: &[Example]) -> Result<Beginning> {
    let started = plan.model.start.as_deref().map(opened).transpose()?;
    let seed = plan.optimiser.seed;
    let mut beginning = match (started, &plan.model.sizes) {
        (Some(started), None) => started,
        (Some(started), Some(sizes)) => {
            let tokenizer = given_tokenizer(&plan.model, sizes)?.unwrap_or(started.tokenizer);
            let pieces = Tokenizer::pieces_of(&tokenizer)?;
            let mut manifest = sizes.manifest(&plan.model, pieces);
            manifest.vision = started.manifest.vision;
            manifest.temporal.dim = manifest.vision.output_dim;
            manifest.temporal.projection = manifest.temporal.dim != manifest.t5.d_model;
            let mut weights = fresh(&manifest, seed);
            let vision = started.weights.into_iter();
            weights.extend(vision.filter(|(name, _)| name.starts_with("vision.")));
            Beginning { manifest, weights, tokenizer }
        }
        (None, Some(sizes)) => {
            let tokenizer = match given_tokenizer(&plan.model, sizes)? {
                Some(tokenizer) => tokenizer,
                None => learnt_tokenizer(&plan.model, sizes, training)?,
            };
            let manifest = sizes.manifest(&plan.model, Tokenizer::pieces_of(&tokenizer)?);
            let weights = fresh(&manifest, seed);
            Beginning { manifest, weights, tokenizer }
        }
        (None, None) => return Err(Error::NoExamples),
    };
    beginning.manifest.model_id.clone_from(&plan.model.id);
    beginning.manifest.licence.clone_from(&plan.model.licence);
    Ok(beginning)
}

/// The tokenizer that the plan names for a new model of these sizes, if it names one and it fits.
fn given_tokenizer(model: &plan::Model, sizes: &Sizes) -> Result<Option<Vec<u8>>> {
    let Some(path) = &model.tokenizer else { return Ok(None) };
    let wrong = |source| Error::Tokenizer { path: path.clone(), source: Box::new(source) };
    let unread = |source| wrong(eventide_model::Error::Read { path: path.clone(), source });
    let bytes = fs::read(path).map_err(unread)?;
    let (pieces, most) = (Tokenizer::pieces_of(&bytes).map_err(wrong)?, sizes.pieces);
    if pieces > most {
        return Err(Error::Pieces { path: path.clone(), pieces, most });
    }
    Tokenizer::new(&bytes, &sizes.manifest(model, pieces)).map_err(wrong)?;
    Ok(Some(bytes))
}

/// One learnt from all that is said and told in the examples.
fn learnt_tokenizer(model: &plan::Model, sizes: &Sizes, training: &[Example]) -> Result<Vec<u8>> {
    let rule = sizes.manifest(model, 0).text.normalise;
    let texts = training
        .iter()
        .flat_map(|example| example.speech.iter().chain(example.references.iter().flatten()));
    let texts = texts.map(|cue| normalise(&cue.text, rule).into_owned());
    Ok(vocabulary::train(texts, sizes.pieces)?.model)
}

fn fresh(manifest: &Manifest, seed: u64) -> Weights {
    let mut weights = seeded(manifest, seed);
    place_in_time(&mut weights, manifest);
    weights
}

fn opened(folder: &Path) -> Result<Beginning> {
    let bundle = Bundle::open(folder)?;
    let path = bundle.path(files::TOKENIZER);
    let tokenizer = fs::read(&path).map_err(|source| Error::Read { path, source })?;
    let weights = Weights::read(&bundle.path(files::WEIGHTS))?;
    Ok(Beginning { manifest: bundle.manifest().clone(), weights, tokenizer })
}

/// The manifest of what was trained.
fn finished(plan: &Plan, mut manifest: Manifest, ended: &Ended) -> Manifest {
    manifest.trained = plan.objective.tasks.contains(&Lesson::Events);
    manifest.provenance.clone_from(&plan.model.provenance);
    manifest.metrics.clear();
    match ended.best {
        Some((_, Judgement::Events(scores))) => {
            let Scores { soda_c, cider, f1, precision, recall } = scores;
            let named = [
                ("soda_c_meteor_native", soda_c),
                ("cider", cider),
                ("f1", f1),
                ("precision", precision),
                ("recall", recall),
            ];
            let named = named.map(|(name, score)| (format!("validation/{name}"), score));
            manifest.metrics.extend(named);
        }
        Some((_, Judgement::Other { loss })) => {
            manifest.metrics.insert("validation/loss".to_owned(), loss);
        }
        None => (),
    }
    manifest
}

fn schedule(plan: &Plan) -> Schedule {
    let optimiser = &plan.optimiser;
    Schedule {
        peak: optimiser.learning_rate,
        warm_up: optimiser.warm_up,
        steps: optimiser.steps.get(),
    }
}

/// Trains the vision encoder. Its features are evened out.
fn see(
    plan: &Plan,
    beginning: &Beginning,
    session: &Session,
    surroundings: &Surroundings<'_>,
    listener: &mut Listener<'_>,
    [training, validation]: [&[Example]; 2],
) -> Result<(Ended, Weights)> {
    let size = beginning.manifest.vision.image_size;
    let rule = FrameRule { count: PICTURES, ..beginning.manifest.frames.clone() };
    let look = Look { size, rule };
    let captioned = |source: &Source, examples: &[Example]| match source {
        Source::Synthetic(folder) => {
            captioned(folder, examples, &look, &plan.data.cache, surroundings, listener)
        }
        Source::Drawn(drawn) => captioned_drawn(drawn, examples, &look),
        Source::Annotated(_) | Source::Lake(_) => Ok(Vec::new()),
    };
    let training = captioned(&plan.data.training, training)?;
    let validation = match &plan.data.validation {
        Some(source) => captioned(source, validation)?,
        None => Vec::new(),
    };
    let settings = contrast::Settings {
        schedule: schedule(plan),
        batch: plan.optimiser.batch,
        clip: plan.optimiser.clip,
        seed: plan.optimiser.seed,
    };
    let (manifest, device) = (&beginning.manifest, &surroundings.device);
    let new = |weights| Contrast::new(manifest, weights, settings.clone(), device);
    let mut weights = beginning.weights.clone();
    if plan.model.start.is_none() {
        even_patches(&mut weights, manifest, &spread(&training, MEASURED_PATCHES), device)?;
        look_around(&mut weights, manifest, plan.optimiser.seed);
    }
    let mut seeing = Seeing { contrast: new(&weights), training, validation };
    let ended = session.run(&mut seeing, listener.stepped)?;
    if ended.steps < session.steps {
        return Ok((ended, Weights::default()));
    }
    let mut learnt = session.best()?;
    let features = new(&learnt).features(&spread(&seeing.training, MEASURED));
    whiten(&mut learnt, &features)?;
    let vision = learnt.into_iter().filter(|(name, _)| name.starts_with("vision."));
    Ok((ended, vision.collect()))
}

/// `count` pictures of many videos, some of each.
fn spread(pictures: &[Captioned], count: usize) -> Vec<Captioned> {
    let step = (pictures.len() / count).max(1);
    pictures.iter().step_by(step).take(count).cloned().collect()
}

/// Pictures of drawn videos with what is seen in them.
fn captioned_drawn(drawn: &Drawn, examples: &[Example], look: &Look) -> Result<Vec<Captioned>> {
    let recipe = drawn.recipe()?;
    let of_video = |index: u32| {
        let video = recipe.video(index);
        let pictures = drawn::pictures(&video, look);
        let rows = pictures.slots.iter().zip(pictures.values.outer_iter());
        let captioned = rows.map(|(slot, picture)| Captioned {
            picture: picture.iter().copied().collect(),
            phrases: drawn::phrases(&video, *slot),
        });
        captioned.collect::<Vec<_>>()
    };
    Ok(chosen(drawn, &recipe, examples).into_par_iter().flat_map_iter(of_video).collect())
}

/// The numbers of the drawn videos that these examples are.
fn chosen(drawn: &Drawn, recipe: &Recipe, examples: &[Example]) -> Vec<u32> {
    let names: HashSet<&str> = examples.iter().map(|example| example.video_id.as_str()).collect();
    (0..drawn.drawn).filter(|&index| names.contains(recipe.name(index).as_str())).collect()
}

/// Pictures of synthetic videos with what is seen in them.
fn captioned(
    folder: &Path,
    examples: &[Example],
    look: &Look,
    cache: &Path,
    surroundings: &Surroundings<'_>,
    listener: &Listener<'_>,
) -> Result<Vec<Captioned>> {
    let cache = Cache::open(cache, &format!("pictures-{}-{PICTURES}", look.size))?;
    let videos: Vec<PathBuf> = examples.iter().map(|example| example.file.clone()).collect();
    let Surroundings { media, workers, .. } = *surroundings;
    let prepared = prepare_pictures(&videos, look, media, &cache, workers, listener.prepared)?;
    prepared.failed.iter().for_each(|(_, error)| (listener.unseen)(error));
    let worlds = synth::worlds(folder)?;
    let mut captioned = Vec::new();
    for example in examples {
        let Some(world) = worlds.get(&example.video_id) else { continue };
        let Some(pictures) = cache.get::<u8>(&example.file)? else { continue };
        for (slot, picture) in pictures.slots.iter().zip(pictures.values.outer_iter()) {
            captioned.push(Captioned {
                picture: picture.iter().copied().collect(),
                phrases: synth::scene::phrases(world, synth::world::shown_in(*slot)),
            });
        }
    }
    Ok(captioned)
}

struct Seeing<'a> {
    contrast: Contrast<'a>,
    training: Vec<Captioned>,
    validation: Vec<Captioned>,
}

/// Pictures that are told from one another when a vision encoder is judged.
const JUDGED: usize = 256;
/// Pictures by which the features of a new vision encoder are evened out.
const MEASURED: usize = 8192;
/// Pictures by which its patches are.
const MEASURED_PATCHES: usize = 512;

impl Lessons for Seeing<'_> {
    fn step(&mut self) -> Result<Progress> {
        self.contrast.step(&self.training)
    }

    fn learner(&self) -> &Learner {
        self.contrast.learner()
    }

    fn learner_mut(&mut self) -> &mut Learner {
        self.contrast.learner_mut()
    }

    fn judge(&mut self) -> Result<Option<Judgement>> {
        let judged = spread(&self.validation, JUDGED);
        let recalled = (!judged.is_empty()).then(|| self.contrast.recalled(&judged));
        Ok(recalled.map(|recalled| Judgement::Other { loss: 1.0 - f64::from(recalled) }))
    }
}

/// Trains all but the vision encoder.
fn tell(
    plan: &Plan,
    beginning: &Beginning,
    session: &Session,
    surroundings: &Surroundings<'_>,
    listener: &mut Listener<'_>,
    [training, validation]: [Vec<Example>; 2],
) -> Result<(Ended, Weights)> {
    let samples = |source, examples| samples(plan, source, examples, surroundings, listener);
    let mut training = samples(&plan.data.training, training)?;
    let validation = match &plan.data.validation {
        Some(source) => samples(source, validation)?,
        None => Vec::new(),
    };
    let tasks: Vec<Task> =
        plan.objective.tasks.iter().filter_map(|lesson| Task::of(*lesson)).collect();
    if tasks.contains(&Task::Events) {
        training = training.iter().flat_map(accounts).collect();
    } else {
        training.retain(|sample| !sample.example.speech.is_empty());
    }
    if plan.data.clips {
        training = training.iter().flat_map(clips).collect();
    }
    let shown = Shown { video: plan.objective.video, speech: plan.objective.speech };
    let optimiser = &plan.optimiser;
    let settings = Settings {
        tasks,
        shown,
        schedule: schedule(plan),
        batch: optimiser.batch,
        accumulate: optimiser.accumulate,
        beta_2: optimiser.beta_2,
        clip: optimiser.clip,
        smoothing: optimiser.label_smoothing,
        dropout: optimiser.dropout,
        crop: optimiser.crop,
        seed: optimiser.seed,
    };
    let tokenizer = Tokenizer::new(&beginning.tokenizer, &beginning.manifest)?;
    let Beginning { manifest, weights, .. } = beginning;
    let trainer = Trainer::new(manifest, &tokenizer, weights, settings, &surroundings.device)
        .also_on(&surroundings.more_devices);
    let decoding = Decoding { beams: plan.run.beams, ..manifest.decoding.clone() };
    let most = plan.run.validation_videos.unwrap_or(usize::MAX);
    let validation = validation.into_iter().take(most).collect();
    let trial = session.folder.join("trial");
    let (runtime, bounds) = (surroundings.runtime, plan.run.bounds);
    let mut telling = Telling {
        trainer,
        training,
        validation,
        beginning,
        shown,
        decoding,
        bounds,
        runtime,
        trial,
    };
    let ended = session.run(&mut telling, listener.stepped)?;
    let learnt = if ended.steps < session.steps { Weights::default() } else { session.best()? };
    Ok((ended, learnt))
}

/// Examples with their features, computed now or before. Those that cannot be seen are left out.
fn samples(
    plan: &Plan,
    source: &Source,
    examples: Vec<Example>,
    surroundings: &Surroundings<'_>,
    listener: &Listener<'_>,
) -> Result<Vec<Sample>> {
    let Some(start) = &plan.model.start else { return Err(Error::NoExamples) };
    let bundle = Bundle::open(start)?;
    let rule = FrameRule { count: MOST_FEATURES, ..bundle.manifest().frames.clone() };
    let session = SessionOptions { threads: 1, ..SessionOptions::default() };
    let vision = Vision { bundle: &bundle, runtime: surroundings.runtime, session, rule };
    let cache = Cache::open(&plan.data.cache, &vision.digest()?)?;
    let Surroundings { media, workers, elsewhere, .. } = *surroundings;
    let told = listener.prepared;
    let kept = match source {
        Source::Drawn(drawn) => {
            let recipe = drawn.recipe()?;
            let videos = chosen(drawn, &recipe, &examples);
            prepare_drawn(&recipe, &videos, &vision, &cache, workers, told)?;
            Some(recipe.version())
        }
        Source::Synthetic(_) | Source::Annotated(_) | Source::Lake(_) => {
            let files = examples.iter().map(|example| example.file.clone());
            let (remote, local): (Vec<PathBuf>, Vec<PathBuf>) =
                files.partition(|file| elsewhere.version(file).is_some());
            let prepared = [
                prepare(&local, &vision, media, &cache, workers, told)?,
                prepare_fetched(&remote, elsewhere, &vision, media, &cache, workers, told)?,
            ];
            let failed = prepared.iter().flat_map(|prepared| &prepared.failed);
            failed.for_each(|(_, error)| (listener.unseen)(error));
            None
        }
    };
    let sample = |example: Example| {
        let file = &example.file;
        let features = match (&kept, elsewhere.version(file)) {
            (Some(version), _) => cache.get_named(&example.video_id, version),
            (None, Some(version)) => cache.get_named(&file.to_string_lossy(), &version),
            (None, None) => cache.get(file)?,
        };
        Ok(features.map(|features| Sample { example, features: features.into() }))
    };
    examples.into_iter().filter_map(|example| sample(example).transpose()).collect()
}

/// A sample for each annotator of one.
fn accounts(sample: &Sample) -> Vec<Sample> {
    let account = |example| Sample { example, features: sample.features.clone() };
    sample.example.by_annotator().into_iter().map(account).collect()
}

/// A sample for each sentence that is said in one.
fn clips(sample: &Sample) -> Vec<Sample> {
    let clip = |example| Sample { example, features: sample.features.clone() };
    sample.example.clips().into_iter().map(clip).collect()
}

struct Telling<'a> {
    trainer: Trainer<'a>,
    training: Vec<Sample>,
    validation: Vec<Sample>,
    beginning: &'a Beginning,
    shown: Shown,
    decoding: Decoding,
    bounds: Bounds,
    runtime: &'a Runtime,
    /// A folder for the bundle that is judged.
    trial: PathBuf,
}

impl Lessons for Telling<'_> {
    fn step(&mut self) -> Result<Progress> {
        self.trainer.step(&self.training)
    }

    fn learner(&self) -> &Learner {
        self.trainer.learner()
    }

    fn learner_mut(&mut self) -> &mut Learner {
        self.trainer.learner_mut()
    }

    /// Events are judged as they will be told, through the graphs of a bundle; speech by its loss.
    fn judge(&mut self) -> Result<Option<Judgement>> {
        if self.validation.is_empty() {
            return Ok(None);
        }
        if !self.trainer.tells_events() {
            let loss = self.trainer.loss_on(&self.validation)?;
            return Ok(Some(Judgement::Other { loss }));
        }
        let mut weights = self.beginning.weights.clone();
        weights.extend(self.trainer.learner().weights());
        // What a death left of an earlier one goes with the folder.
        let remade = remove_folder(&self.trial).and_then(|()| fs::create_dir(&self.trial));
        remade.map_err(unwritable(&self.trial))?;
        let place = self.trial.join("bundle");
        let Beginning { manifest, tokenizer, .. } = self.beginning;
        write_bundle(&place, manifest, &weights, tokenizer, Style::Fused)?;
        let bundle = Bundle::open(&place)?;
        let mut model = Vid2Seq::load(&bundle, self.runtime, &SessionOptions::default())?;
        let predict = match self.bounds {
            Bounds::Model => predict,
            Bounds::Transcript => predict_sentences,
        };
        let predicted = predict(&mut model, &self.validation, self.shown, &self.decoding)?;
        remove_folder(&self.trial).map_err(unwritable(&self.trial))?;
        Ok(Some(Judgement::Events(scores(&predicted, &self.validation)?)))
    }
}
