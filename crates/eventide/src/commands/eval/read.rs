//! Predictions and references from files and tables, wherever they are.

use eventide_catalog::{Location, Stores};
use eventide_eval::{
    Annotations,
    forms::{self, Side},
};
use object_store::{Error as StoreError, ObjectStoreExt};

use super::{
    arguments::{EvalArguments, Ids},
    tables,
};
use crate::commands::{Stop, absolute, chain};

/// The largest file that is read whole, in bytes: the field's largest are below a tenth of it.
const LARGEST: u64 = 4 << 30;

/// All that one call scores.
pub(super) struct Inputs {
    /// What is scored.
    pub(super) predictions: Source,
    /// What it is scored against, one for each annotator.
    pub(super) references: Vec<Source>,
    /// Other predictions to put beside them.
    pub(super) other: Option<Source>,
}

/// The events of one file or table.
pub(super) struct Source {
    /// Where they are, as it was given.
    pub(super) place: String,
    /// What there is.
    pub(super) annotations: Annotations,
    /// Videos that the tables list and that have no events to score, since they failed or were skipped.
    pub(super) unfinished: usize,
}

/// Reads everything that the command line names.
pub(super) async fn inputs(arguments: &EvalArguments, stores: &Stores) -> Result<Inputs, Stop> {
    let reader = Reader { stores, ids: arguments.ids };
    let predictions = reader.read(&arguments.predictions, Side::Predictions).await?;
    let mut references = Vec::new();
    for place in &arguments.references {
        let mut source = reader.read(place, Side::References).await?;
        source.annotations = arguments.convention.of_scorer().references(source.annotations);
        references.push(source);
    }
    let other = match &arguments.compare {
        Some(place) => Some(reader.read(place, Side::Predictions).await?),
        None => None,
    };
    Ok(Inputs { predictions, references, other })
}

/// Events of references by the names of their videos, those of each place for themselves.
pub(in crate::commands) async fn references(
    places: &[String],
    stores: &Stores,
) -> Result<Vec<Annotations>, Stop> {
    let reader = Reader { stores, ids: Ids::Stem };
    let mut all = Vec::new();
    for place in places {
        all.push(reader.read(place, Side::References).await?.annotations);
    }
    Ok(all)
}

struct Reader<'a> {
    stores: &'a Stores,
    ids: Ids,
}

impl Reader<'_> {
    async fn read(&self, place: &str, side: Side) -> Result<Source, Stop> {
        // A path may lead through links and `..`, an address may not.
        let path = std::fs::canonicalize(place).ok().filter(|_| !place.contains("://"));
        let uri = absolute(path.as_ref().and_then(|path| path.to_str()).unwrap_or(place))?;
        let location = self.stores.open(&uri).map_err(|error| cannot_read(place, &error))?;
        match file(&location).await.map_err(|error| cannot_read(place, &error))? {
            Some(bytes) => of_file(place, bytes, side),
            None => tables::read(place, &location, self.ids).await,
        }
    }
}

/// What a file holds; `None` if there is no file of this name, but perhaps a folder.
async fn file(location: &Location) -> Result<Option<Vec<u8>>, StoreError> {
    let local = location.local_path(&location.prefix);
    if local.is_some_and(|path| path.is_dir()) {
        return Ok(None);
    }
    let found = match location.store.get(&location.prefix).await {
        Ok(found) => found,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    if found.meta.size > LARGEST {
        let source = format!("it has {} bytes, and {LARGEST} are read at most", found.meta.size);
        return Err(StoreError::Generic { store: "eval", source: source.into() });
    }
    Ok(Some(found.bytes().await?.to_vec()))
}

fn of_file(place: &str, bytes: Vec<u8>, side: Side) -> Result<Source, Stop> {
    let text = String::from_utf8(bytes).map_err(|error| cannot_read(place, &error))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let annotations = forms::read(text, side).map_err(|error| cannot_read(place, &error))?;
    Ok(Source { place: place.to_owned(), annotations, unfinished: 0 })
}

/// A file or table that cannot be used.
pub(super) fn cannot_read(place: &str, error: &dyn std::error::Error) -> Stop {
    Stop::bad_job(miette::miette!("cannot read `{place}`\n  because: {}", chain(error)))
}
