//! An object store that fails when it is told to: refusals, bodies that break off, answers that get lost, and waits
//! that end when the test says so.
//!
//! Faults are decided by counts or by a seed and the operation's own path, never by time, so that a test meets the
//! same ones however its work is interleaved.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _, future};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use tokio::sync::watch;

use crate::scrambled;

/// What is asked of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Bytes of an object.
    Get,
    /// An object's size and tag.
    Head,
    /// A whole object is written, or a multipart upload is completed.
    Put,
    /// An object is removed.
    Delete,
    /// Names are listed; the path is the prefix.
    List,
    /// An object is copied or renamed; the path is the new one.
    Copy,
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The store refuses with this status, such as 503; nothing was done.
    Refused {
        /// The status.
        status: u16,
    },
    /// The body of a `Get` breaks off with an error after so many bytes, at the latest at its end.
    Reset {
        /// Bytes that still arrive.
        after: u64,
    },
    /// The body of a `Get` ends after so many bytes as if it were whole.
    ShortRead {
        /// Bytes that still arrive.
        after: u64,
    },
    /// The operation is done, and the caller gets no answer.
    LostAnswer,
    /// The operation is done, and the caller gets this status all the same, as from a gateway that lost patience.
    DoneAndRefused {
        /// The status.
        status: u16,
    },
    /// The operation waits until the gate is opened, and is then done.
    Held(Gate),
}

/// Which of the operations that a rule is about go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Every one.
    Always,
    /// The first so many, over all paths.
    First(u64),
    /// The one with this number, from 1, over all paths.
    Nth(u64),
    /// About so many of a thousand, decided by the seed, the operation, the path, and how often that path was asked
    /// for; so two runs with the same requests meet the same faults.
    Seeded {
        /// The seed.
        seed: u64,
        /// The share that goes wrong, 0 to 1000.
        per_thousand: u64,
    },
}

/// A fault, and where it strikes.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The operation.
    pub operation: Operation,
    /// A part of the path; empty for every path.
    pub path: String,
    /// Which of them.
    pub when: When,
    /// What goes wrong.
    pub fault: Fault,
}

/// A door that operations wait at.
#[derive(Debug, Clone)]
pub struct Gate {
    state: Arc<watch::Sender<GateState>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct GateState {
    arrived: u64,
    open: bool,
}

impl Default for Gate {
    fn default() -> Self {
        Self { state: Arc::new(watch::Sender::new(GateState::default())) }
    }
}

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn closed() -> Self {
        Self::default()
    }

    /// Lets everything through, now and later.
    pub fn open(&self) {
        self.state.send_modify(|state| state.open = true);
    }

    /// Waits until so many operations have come to the gate, the ones let through counted. Put a deadline on it.
    pub async fn arrivals(&self, count: u64) {
        // The sender lives in `self`, so the channel cannot close meanwhile.
        let _ = self.state.subscribe().wait_for(|state| state.arrived >= count).await;
    }

    pub(crate) async fn pass(&self) {
        self.state.send_modify(|state| state.arrived += 1);
        let _ = self.state.subscribe().wait_for(|state| state.open).await;
    }
}

/// The error that a fault gives the caller, as the `source` of an [`object_store::Error::Generic`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("injected: {what} of `{path}`")]
pub struct Injected {
    /// What went wrong, in words.
    pub what: &'static str,
    /// The object.
    pub path: String,
}

/// Rules, and how often each was asked and has struck.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    rules: Vec<Counted>,
    asked: Mutex<HashMap<(Operation, String), u64>>,
}

#[derive(Debug)]
struct Counted {
    rule: Rule,
    asked: AtomicU64,
    struck: AtomicU64,
}

impl Rules {
    pub(crate) fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        let counted = |rule| Counted { rule, asked: AtomicU64::new(0), struck: AtomicU64::new(0) };
        Self { rules: rules.into_iter().map(counted).collect(), asked: Mutex::default() }
    }

    /// How often each rule has struck, in their order.
    pub(crate) fn struck(&self) -> Vec<u64> {
        self.rules.iter().map(|counted| counted.struck.load(Ordering::SeqCst)).collect()
    }

    /// How often an operation was asked for, over all paths that contain `path`.
    fn asked(&self, operation: Operation, path: &str) -> u64 {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let counts =
            asked.iter().filter(|((asked, place), _)| *asked == operation && place.contains(path));
        counts.map(|(_, count)| count).sum()
    }

    /// Counts the request and gives the fault that strikes it.
    pub(crate) fn fault(&self, operation: Operation, path: &str) -> Option<Fault> {
        let occurrence = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            let count = asked.entry((operation, path.to_owned())).or_default();
            *count += 1;
            *count
        };
        let about = |counted: &&Counted| {
            counted.rule.operation == operation && path.contains(&counted.rule.path)
        };
        let mut striking = None;
        for counted in self.rules.iter().filter(about) {
            let number = counted.asked.fetch_add(1, Ordering::SeqCst) + 1;
            let when = counted.rule.when;
            if striking.is_none() && strikes(when, operation, path, number, occurrence) {
                counted.struck.fetch_add(1, Ordering::SeqCst);
                striking = Some(counted.rule.fault.clone());
            }
        }
        striking
    }
}

/// A store in front of another, which fails by rules. The first rule that strikes decides.
#[derive(Debug, Clone)]
pub struct FaultyStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inner: Arc<dyn ObjectStore>,
    rules: Rules,
}

impl FaultyStore {
    /// A store that fails by the rules and else does what `inner` does.
    #[must_use]
    pub fn new(inner: Arc<dyn ObjectStore>, rules: impl IntoIterator<Item = Rule>) -> Self {
        Self { shared: Arc::new(Shared { inner, rules: Rules::new(rules) }) }
    }

    /// How many faults have struck. A test checks it, lest it hold because nothing went wrong.
    #[must_use]
    pub fn struck(&self) -> u64 {
        self.shared.rules.struck().iter().sum()
    }

    /// How often an operation was asked for, over all paths that contain `path`.
    #[must_use]
    pub fn asked(&self, operation: Operation, path: &str) -> u64 {
        self.shared.rules.asked(operation, path)
    }
}

impl Shared {
    /// Does what comes before the operation: waits at the gate, or refuses.
    async fn before(&self, operation: Operation, path: &str) -> Result<Option<Fault>> {
        match self.rules.fault(operation, path) {
            Some(Fault::Refused { status }) => Err(refused(status, path)),
            Some(Fault::Held(gate)) => {
                gate.pass().await;
                Ok(None)
            }
            other => Ok(other),
        }
    }
}

fn strikes(when: When, operation: Operation, path: &str, number: u64, occurrence: u64) -> bool {
    match when {
        When::Always => true,
        When::First(count) => number <= count,
        When::Nth(wanted) => number == wanted,
        When::Seeded { seed, per_thousand } => {
            let start = scrambled(
                seed ^ scrambled(operation as u64) ^ scrambled(occurrence).rotate_left(7),
            );
            path.bytes().fold(start, |state, byte| scrambled(state ^ u64::from(byte))) % 1000
                < per_thousand
        }
    }
}

fn refused(status: u16, path: &str) -> object_store::Error {
    let source = Box::new(Injected { what: "a refusal", path: path.to_owned() });
    match status {
        401 => object_store::Error::Unauthenticated { path: path.to_owned(), source },
        403 => object_store::Error::PermissionDenied { path: path.to_owned(), source },
        412 => object_store::Error::Precondition { path: path.to_owned(), source },
        _ => object_store::Error::Generic { store: "faulty", source },
    }
}

fn injected(what: &'static str, path: &str) -> object_store::Error {
    let source = Box::new(Injected { what, path: path.to_owned() });
    object_store::Error::Generic { store: "faulty", source }
}

/// What comes after the operation: the answer, or its loss.
fn answer<T>(fault: Option<&Fault>, path: &str, done: Result<T>) -> Result<T> {
    match fault {
        Some(Fault::LostAnswer) if done.is_ok() => Err(injected("a lost answer", path)),
        Some(Fault::DoneAndRefused { status }) if done.is_ok() => Err(refused(*status, path)),
        _ => done,
    }
}

/// Lets `after` bytes of a body through, and then ends it with `end`.
fn broken(result: GetResult, after: u64, end: Option<object_store::Error>) -> GetResult {
    let (meta, range, attributes) =
        (result.meta.clone(), result.range.clone(), result.attributes.clone());
    let body = result.into_stream().scan(after, |left, part| {
        let part = match part {
            Ok(_) if *left == 0 => None,
            Ok(bytes) => {
                let kept = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= kept as u64;
                Some(Ok(bytes.slice(..kept)))
            }
            Err(error) => Some(Err(error)),
        };
        future::ready(part)
    });
    let payload = GetResultPayload::Stream(body.chain(stream::iter(end.map(Err))).boxed());
    GetResult { payload, meta, range, attributes }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "FaultyStore({})", self.shared.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let fault = self.shared.before(Operation::Put, location.as_ref()).await?;
        let done = self.shared.inner.put_opts(location, payload, options).await;
        answer(fault.as_ref(), location.as_ref(), done)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.shared.inner.put_multipart_opts(location, options).await?;
        Ok(Box::new(FaultyUpload {
            upload,
            path: location.to_string(),
            shared: Arc::clone(&self.shared),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let operation = if options.head { Operation::Head } else { Operation::Get };
        let fault = self.shared.before(operation, location.as_ref()).await?;
        let done = self.shared.inner.get_opts(location, options).await;
        let result = answer(fault.as_ref(), location.as_ref(), done)?;
        Ok(match fault {
            Some(Fault::Reset { after }) => broken(
                result,
                after,
                Some(injected("a reset connection in the body", location.as_ref())),
            ),
            Some(Fault::ShortRead { after }) => broken(result, after, None),
            _ => result,
        })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let shared = Arc::clone(&self.shared);
        locations
            .and_then(move |location| {
                let shared = Arc::clone(&shared);
                async move {
                    let fault = shared.before(Operation::Delete, location.as_ref()).await?;
                    let one = stream::iter([Ok(location.clone())]).boxed();
                    let done = shared.inner.delete_stream(one).try_collect::<Vec<_>>().await;
                    answer(fault.as_ref(), location.as_ref(), done.map(|_| location.clone()))
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (shared, path) =
            (Arc::clone(&self.shared), prefix.map(ToString::to_string).unwrap_or_default());
        let names = self.shared.inner.list(prefix);
        stream::once(async move { shared.before(Operation::List, &path).await.map(|_| names) })
            .try_flatten()
            .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let path = prefix.map(ToString::to_string).unwrap_or_default();
        self.shared.before(Operation::List, &path).await?;
        self.shared.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let fault = self.shared.before(Operation::Copy, to.as_ref()).await?;
        let done = self.shared.inner.copy_opts(from, to, options).await;
        answer(fault.as_ref(), to.as_ref(), done)
    }
}

/// An upload whose completion can fail.
#[derive(Debug)]
struct FaultyUpload {
    upload: Box<dyn MultipartUpload>,
    path: String,
    shared: Arc<Shared>,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, part: PutPayload) -> UploadPart {
        self.upload.put_part(part)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let fault = self.shared.before(Operation::Put, &self.path).await?;
        let done = self.upload.complete().await;
        answer(fault.as_ref(), &self.path, done)
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use object_store::memory::InMemory;
    use object_store::{ObjectStoreExt as _, PutMode};

    use super::*;

    const BUSY: Fault = Fault::Refused { status: 503 };

    fn rule(operation: Operation, path: &str, when: When, fault: Fault) -> Rule {
        Rule { operation, path: path.to_owned(), when, fault }
    }

    /// A store that holds `film` = `0123456789`, with rules.
    async fn store(rules: impl IntoIterator<Item = Rule>) -> FaultyStore {
        let inner = InMemory::new();
        inner.put(&"film".into(), "0123456789".into()).await.unwrap();
        FaultyStore::new(Arc::new(inner), rules)
    }

    async fn read(store: &FaultyStore) -> Result<String> {
        let bytes = store.get(&"film".into()).await?.bytes().await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    #[tokio::test]
    async fn refuses_as_often_as_told() {
        let store = store([rule(Operation::Get, "film", When::First(2), BUSY)]).await;
        assert!(read(&store).await.is_err());
        assert!(read(&store).await.is_err());
        assert_eq!(read(&store).await.unwrap(), "0123456789");
        assert_eq!((store.struck(), store.asked(Operation::Get, "film")), (2, 3));
    }

    #[tokio::test]
    async fn a_reset_is_an_error_and_a_short_read_is_not() {
        let reset = Fault::Reset { after: 4 };
        let short = Fault::ShortRead { after: 4 };
        let store = store([
            rule(Operation::Get, "", When::Nth(1), reset),
            rule(Operation::Get, "", When::Nth(2), short),
        ])
        .await;
        let parts: Vec<_> = store.get(&"film".into()).await.unwrap().into_stream().collect().await;
        assert_eq!(parts[0].as_ref().unwrap().as_ref(), b"0123");
        assert!(parts[1].as_ref().unwrap_err().to_string().contains("reset connection"));
        assert_eq!(read(&store).await.unwrap(), "0123");
        assert_eq!(read(&store).await.unwrap(), "0123456789");
    }

    #[tokio::test]
    async fn a_ranged_read_meets_the_faults_too() {
        let store =
            store([rule(Operation::Get, "film", When::Nth(1), Fault::Reset { after: 1 })]).await;
        assert!(store.get_range(&"film".into(), 2..6).await.is_err());
        let parts = store.get_ranges(&"film".into(), &[2..6, 8..9]).await.unwrap();
        assert_eq!((parts[0].as_ref(), parts[1].as_ref()), (&b"2345"[..], &b"8"[..]));
    }

    #[tokio::test]
    async fn a_lost_answer_leaves_the_work_done() {
        let store = store([rule(Operation::Put, "receipt", When::Always, Fault::LostAnswer)]).await;
        let create = || PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let first = store.put_opts(&"receipt".into(), "1".into(), create()).await.unwrap_err();
        assert!(first.to_string().contains("lost answer"), "{first}");
        let second = store.put_opts(&"receipt".into(), "2".into(), create()).await.unwrap_err();
        assert!(matches!(second, object_store::Error::AlreadyExists { .. }), "{second}");
    }

    #[tokio::test]
    async fn an_upload_in_parts_fails_when_it_is_completed() {
        let store = store([rule(Operation::Put, "parts", When::First(1), BUSY)]).await;
        let mut upload = store.put_multipart(&"parts".into()).await.unwrap();
        upload.put_part("part".into()).await.unwrap();
        assert!(upload.complete().await.is_err());
        assert!(store.head(&"parts".into()).await.is_err(), "nothing was written");
    }

    #[tokio::test]
    async fn deletes_and_lists_fail_too() {
        let store = store([
            rule(Operation::Delete, "", When::First(1), BUSY),
            rule(Operation::List, "", When::First(1), BUSY),
        ])
        .await;
        assert!(store.delete(&"film".into()).await.is_err());
        assert!(store.list(None).try_collect::<Vec<_>>().await.is_err());
        assert_eq!(store.list(None).try_collect::<Vec<_>>().await.unwrap().len(), 1);
        store.delete(&"film".into()).await.unwrap();
        assert_eq!(store.list(None).try_collect::<Vec<_>>().await.unwrap().len(), 0);
    }

    #[tokio::test]
    async fn a_held_operation_waits_for_its_gate() {
        let gate = Gate::closed();
        let store =
            store([rule(Operation::Get, "film", When::Always, Fault::Held(gate.clone()))]).await;
        let reading = tokio::spawn(async move { read(&store).await });
        tokio::time::timeout(Duration::from_secs(10), gate.arrivals(1)).await.unwrap();
        assert!(!reading.is_finished());
        gate.open();
        assert_eq!(reading.await.unwrap().unwrap(), "0123456789");
    }

    #[test]
    fn a_seed_strikes_the_same_requests_in_any_order_and_about_its_share() {
        let when = When::Seeded { seed: 3, per_thousand: 200 };
        let struck =
            |number: u64| strikes(when, Operation::Get, &format!("film-{number}"), number, 1);
        let forward: Vec<bool> = (0..1000).map(struck).collect();
        let mut backward: Vec<bool> = (0..1000).rev().map(struck).collect();
        backward.reverse();
        assert_eq!(forward, backward);
        let share = forward.iter().filter(|struck| **struck).count();
        assert!((150..250).contains(&share), "{share}");
    }
}
