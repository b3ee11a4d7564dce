use burn::tensor::Device;
use rstest::rstest;
use tempfile::TempDir;

use super::*;
use crate::weights::Weight;

/// Lessons whose one weight counts the steps, with the loss on the validation set after each.
struct Counting<'a> {
    learner: Learner,
    losses: &'a [f64],
    /// Before this step, the run dies.
    dies_at: u32,
}

impl<'a> Counting<'a> {
    fn new(losses: &'a [f64]) -> Self {
        let mut weights = Weights::default();
        weights.insert("count".to_owned(), Weight::new(vec![1, 1], vec![0.0]).unwrap());
        let learner = Learner::new(&weights, &Device::flex().autodiff(), 0.98, 1.0);
        Self { learner, losses, dies_at: u32::MAX }
    }

    fn dying_at(losses: &'a [f64], step: u32) -> Self {
        Self { dies_at: step, ..Self::new(losses) }
    }
}

impl Lessons for Counting<'_> {
    fn step(&mut self) -> Result<Progress> {
        if self.learner.steps() + 1 == self.dies_at {
            return Err(Error::NoExamples);
        }
        let norm = self.learner.step(1.0, 0.0)?;
        self.learner.parameters_mut().change_matrix("count", |count| count + 1.0);
        Ok(Progress { step: self.learner.steps(), loss: 1.0, norm, rate: 0.0, tokens: 10 })
    }

    fn learner(&self) -> &Learner {
        &self.learner
    }

    fn learner_mut(&mut self) -> &mut Learner {
        &mut self.learner
    }

    fn judge(&mut self) -> Result<Option<Judgement>> {
        let loss = self.losses.get(self.learner.steps() as usize - 1);
        Ok(loss.map(|&loss| Judgement::Other { loss }))
    }
}

fn session(folder: &TempDir, steps: u32) -> Session {
    Session { folder: folder.path().join("run"), every: NonZeroU32::MIN, steps }
}

/// What the weight that counts the steps has come to.
fn count(weights: &Weights) -> u16 {
    let value = weights.get("count").unwrap().values()[0];
    (0..100).find(|&steps| value.total_cmp(&f32::from(steps)).is_eq()).unwrap()
}

fn best(session: &Session) -> u16 {
    count(&session.best().unwrap())
}

fn run(session: &Session, lessons: &mut Counting<'_>) -> Result<Ended> {
    session.run(lessons, &mut |_| false)
}

/// A run of three steps, of which the second was the best, that died in the fourth.
fn died(folder: &TempDir) -> Session {
    let session = session(folder, 6);
    let dead = run(&session, &mut Counting::dying_at(&[3.0, 1.0, 2.0, 2.5], 4));
    assert!(matches!(dead, Err(Error::NoExamples)));
    session
}

/// Goes on to the end, with losses that are worse from then on. Each step is told of once, in order.
fn goes_on(session: &Session) -> Ended {
    let mut lessons = Counting::new(&[3.0, 1.0, 2.0, 2.5, 2.5, 2.5]);
    let ended = run(session, &mut lessons).unwrap();
    assert_eq!(count(&lessons.learner.weights()), 6);
    let steps: Vec<u32> =
        metrics(&session.folder).unwrap().iter().map(|metric| metric.progress.step).collect();
    assert_eq!(steps, [1, 2, 3, 4, 5, 6]);
    ended
}

fn history(session: &Session) -> PathBuf {
    session.folder.join(names::METRICS)
}

fn entries(session: &Session) -> Vec<String> {
    let entries = fs::read_dir(&session.folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_best_weights_are_kept_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(&folder, 4);
    let ended = run(&session, &mut Counting::new(&[3.0, 1.0, 1.0, 2.0])).unwrap();
    assert_eq!(ended, Ended { steps: 4, best: Some((2, Judgement::Other { loss: 1.0 })) });
    assert_eq!(best(&session), 2);
    assert_eq!(entries(&session), [names::BEST, names::LAST, names::METRICS]);
}

#[test]
fn without_judgement_the_last_weights_are_the_best() {
    let folder = tempfile::tempdir().unwrap();
    let session = Session { every: NonZeroU32::new(3).unwrap(), ..session(&folder, 4) };
    let ended = run(&session, &mut Counting::new(&[])).unwrap();
    assert_eq!((ended.best, best(&session)), (None, 4));
}

#[test]
fn a_worse_model_does_not_take_the_place_of_the_best_after_a_death() {
    let folder = tempfile::tempdir().unwrap();
    let session = died(&folder);
    let ended = goes_on(&session);
    assert_eq!(ended.best, Some((2, Judgement::Other { loss: 1.0 })));
    assert_eq!(best(&session), 2);
}

#[test]
fn a_death_before_the_best_weights_were_written_loses_none() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(&folder, 6);
    run(&session, &mut Counting::dying_at(&[3.0, 1.0], 2)).unwrap_err();
    let of_first_step = fs::read(session.folder.join(names::BEST)).unwrap();
    run(&session, &mut Counting::dying_at(&[3.0, 1.0], 3)).unwrap_err();
    fs::write(session.folder.join(names::BEST), of_first_step).unwrap();
    goes_on(&session);
    assert_eq!(best(&session), 2);
}

#[rstest]
#[case::one_byte(1)]
#[case::half_of_it(40)]
fn a_last_line_that_was_cut_off_is_written_again(#[case] missing: u64) {
    let folder = tempfile::tempdir().unwrap();
    let session = died(&folder);
    // The history is on the disk before the checkpoint: a line that was cut off is of a step after it.
    let mut text = fs::read_to_string(history(&session)).unwrap();
    text.push_str(&text.lines().last().unwrap().replace("\"step\":3", "\"step\":4"));
    text.truncate(text.len() - usize::try_from(missing - 1).unwrap());
    fs::write(history(&session), text).unwrap();
    assert_eq!(metrics(&session.folder).unwrap().len(), 3);
    goes_on(&session);
    assert_eq!(best(&session), 2);
}

#[test]
fn a_damaged_line_in_the_middle_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let session = died(&folder);
    let text = fs::read_to_string(history(&session)).unwrap();
    fs::write(history(&session), text.replace("\"step\":2", "\"st")).unwrap();
    let error = run(&session, &mut Counting::new(&[])).unwrap_err();
    assert!(matches!(&error, Error::State { problem, .. } if problem.starts_with("line 2: ")));
    assert_eq!(best(&session), 2);
}

#[test]
fn a_history_that_does_not_reach_the_checkpoint_costs_no_weights() {
    let folder = tempfile::tempdir().unwrap();
    let session = died(&folder);
    fs::write(history(&session), "").unwrap();
    let error = run(&session, &mut Counting::new(&[0.5; 6])).unwrap_err();
    assert!(error.to_string().contains("the checkpoint beside it is of step 3"), "{error}");
    assert_eq!(best(&session), 2);
}

#[test]
fn a_history_of_an_earlier_program_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let line = r#"{"step":1,"loss":2.5,"norm":0.5,"rate":0.001,"tokens":9,"seconds":1.5,"judgement":{"loss":2.0}}"#;
    fs::write(folder.path().join(names::METRICS), format!("{line}\n")).unwrap();
    let metrics = metrics(folder.path()).unwrap();
    assert_eq!((metrics[0].progress.tokens, metrics[0].tokens_per_second), (9, 0.0));
}

/// What a death at each moment of [`Learner::save`] leaves.
#[rstest]
#[case::while_it_is_written(&[], &[".checkpoint-x1"])]
#[case::between_the_renames(&[names::LAST], &[".checkpoint-x1"])]
#[case::before_the_old_one_is_gone(&[], &[".checkpoint-before"])]
fn a_death_within_a_checkpoint_costs_nothing(#[case] moved: &[&str], #[case] left: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let session = died(&folder);
    let place = |name: &str| session.folder.join(name);
    for name in moved {
        fs::rename(place(name), place(".checkpoint-before")).unwrap();
    }
    for name in left {
        fs::create_dir(place(name)).unwrap();
        fs::write(place(name).join("weights.safetensors"), "half").unwrap();
    }
    let mut lessons = Counting::dying_at(&[], 4);
    run(&session, &mut lessons).unwrap_err();
    assert_eq!(count(&lessons.learner.weights()), 3, "the checkpoint is lost");
    goes_on(&session);
    assert_eq!(entries(&session), [names::BEST, names::LAST, names::METRICS]);
}

#[test]
fn a_checkpoint_is_written_over_what_a_death_left() {
    let folder = tempfile::tempdir().unwrap();
    let session = died(&folder);
    let before = session.folder.join(".checkpoint-before");
    fs::create_dir(&before).unwrap();
    fs::write(before.join("step"), "1").unwrap();
    let last = session.folder.join(names::LAST);
    let mut lessons = Counting::new(&[]);
    lessons.learner.resume(&last).unwrap();
    lessons.step().unwrap();
    lessons.learner.save(&last).unwrap();
    lessons.learner.resume(&last).unwrap();
    assert_eq!(lessons.learner.steps(), 4);
    assert!(!before.exists());
}

#[test]
fn a_judgement_that_is_no_number_ends_the_run_and_spoils_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(&folder, 6);
    let ruined = run(&session, &mut Counting::new(&[3.0, 1.0, 2.0, f64::NAN])).unwrap_err();
    assert!(matches!(ruined, Error::Ruined { step: 4, .. }), "{ruined}");
    assert_eq!(best(&session), 2);
    let ended = goes_on(&session);
    assert_eq!(ended.best, Some((2, Judgement::Other { loss: 1.0 })));
}

#[test]
fn weights_that_are_no_numbers_are_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let session = died(&folder);
    let mut lessons = Counting::new(&[3.0, 1.0, 2.0, 0.5]);
    let last = session.folder.join(names::LAST);
    lessons.learner.resume(&last).unwrap();
    lessons.learner.parameters_mut().change_matrix("count", |count| count * f32::NAN);
    let ruined = lessons.learner.save(&last).unwrap_err();
    assert!(ruined.to_string().contains("after step 3 the tensor `count`"), "{ruined}");
    goes_on(&session);
    assert_eq!(best(&session), 2);
}

#[test]
fn the_pace_says_how_long_the_rest_takes() {
    let begun = Instant::now().checked_sub(Duration::from_secs(8)).unwrap();
    let pace = Pace { begun, steps: 10, before: 2 };
    let progress = Progress { step: 6, loss: 1.0, norm: 1.0, rate: 1e-3, tokens: 300 };
    let metric = pace.metric(progress, Duration::from_millis(500), None);
    assert!((metric.tokens_per_second - 600.0).abs() < 1e-9, "{metric:?}");
    assert!((8.0..8.5).contains(&metric.seconds_left), "{metric:?}");
}
