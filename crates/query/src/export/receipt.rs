//! Receipts: what was exported, from which version to which, and how to tell that it is all there.

use std::{collections::BTreeMap, time::Duration};

use chrono::Utc;
use data_encoding::HEXLOWER;
use object_store::{ObjectMeta, ObjectStoreExt, path::Path};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{ExportOptions, Place, Progress, Target};
use crate::{Error, Result, error::CauseFrom};

/// The folder of all receipts, and how their names end.
const RECEIPTS: &str = "receipts";
const ENDING: &str = ".json";
/// Characters of a digest in the name of a series.
const DIGEST_IN_NAME: usize = 10;
/// How old parts of an export that has no receipt are when nobody can be at it any more.
const ABANDONED_AFTER: Duration = Duration::from_hours(24);

/// One file or request of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartReceipt {
    /// Its place in the folder; none for a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its size.
    pub bytes: u64,
    /// The digest of its bytes, in hexadecimal.
    pub sha256: String,
    /// Documents that it writes.
    pub upserts: u64,
    /// Documents that it removes.
    pub deletes: u64,
}

/// What one export came to. It is written last: where it is, everything is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The name of the target.
    pub target: String,
    /// The name of the exports that go on from each other; another destination has another.
    pub series: String,
    /// Where the tables are.
    pub tables: String,
    /// The table whose versions these are.
    pub table: String,
    /// The identity of that table: one that was made anew has another.
    pub table_id: Option<String>,
    /// The version that the reader had; none for everything.
    pub from_version: Option<u64>,
    /// The version that the reader has now.
    pub to_version: u64,
    /// Name of the index.
    pub index: String,
    /// The model that made the vectors of captions, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embeddings: Option<String>,
    /// The search engine that took it, without what is secret in its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Documents, or files of videos, that were written.
    pub upserts: u64,
    /// Documents or files that were removed.
    pub deletes: u64,
    /// Documents of which the search engine had a newer version, and kept it.
    pub superseded: u64,
    /// Bytes of all parts.
    pub bytes: u64,
    /// The digest of the digests of all parts, in their order.
    pub sha256: String,
    /// The parts. Empty where each video has a file.
    pub parts: Vec<PartReceipt>,
    /// Version of this program.
    pub program: String,
}

/// Exports of which each goes on where the one before ended. Whatever else than the versions makes the documents, or is
/// where they go, makes another series.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Series<'a> {
    tables: &'a str,
    table: &'a str,
    table_id: Option<&'a str>,
    #[serde(skip)]
    target: Target,
    index: &'a str,
    link: &'a str,
    thumbnail: Option<&'a str>,
    /// The model that makes vectors.
    embeddings: Option<&'a str>,
    url: Option<&'a str>,
}

impl<'a> Series<'a> {
    /// That of the table with this identity, at `tables`, to the search engine at `url`, if any.
    pub(super) fn of(
        options: &'a ExportOptions,
        tables: &'a str,
        table_id: Option<&'a str>,
        url: Option<&'a str>,
    ) -> Self {
        let ExportOptions { target, index, link, thumbnail, .. } = options;
        let (table, thumbnail) = (target.table(), thumbnail.as_deref());
        let embeddings = options.embedder.as_ref().map(|embedder| embedder.model.as_str());
        Self { tables, table, table_id, target: *target, index, link, thumbnail, embeddings, url }
    }

    /// Its name: that of the index, and what tells it from others.
    fn name(&self) -> String {
        let told = serde_json::to_vec(self).unwrap_or_default();
        format!("{}-{}", self.index, &HEXLOWER.encode(&Sha256::digest(told))[..DIGEST_IN_NAME])
    }
}

impl Receipt {
    pub(super) fn begin(series: &Series<'_>, from: Option<u64>, to: u64) -> Self {
        Self {
            target: series.target.to_string(),
            series: series.name(),
            tables: series.tables.to_owned(),
            table: series.table.to_owned(),
            table_id: series.table_id.map(str::to_owned),
            from_version: from,
            to_version: to,
            index: series.index.to_owned(),
            embeddings: series.embeddings.map(str::to_owned),
            url: series.url.map(str::to_owned),
            upserts: 0,
            deletes: 0,
            superseded: 0,
            bytes: 0,
            sha256: HEXLOWER.encode(&Sha256::digest([])),
            parts: Vec::new(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Counts a part.
    pub(super) fn add(&mut self, part: PartReceipt) {
        self.upserts += part.upserts;
        self.deletes += part.deletes;
        self.bytes += part.bytes;
        self.chain(&part.sha256);
        self.parts.push(part);
    }

    /// Lets the digest of the whole stand for one more digest.
    pub(super) fn chain(&mut self, sha256: &str) {
        let both = format!("{}{sha256}", self.sha256);
        self.sha256 = HEXLOWER.encode(&Sha256::digest(both));
    }

    pub(super) fn progress(&self) -> Progress {
        Progress { upserts: self.upserts, deletes: self.deletes, bytes: self.bytes }
    }

    /// The versions, as they are written in names.
    fn versions(&self) -> String {
        match self.from_version {
            Some(from) => format!("{from}-{}", self.to_version),
            None => format!("full-{}", self.to_version),
        }
    }

    /// The folder of its parts.
    pub(super) fn folder(&self) -> String {
        format!("{}/{}", self.parts_folder(), self.versions())
    }

    /// The folder of the parts of all exports of its series.
    fn parts_folder(&self) -> String {
        format!("{}/{}", self.target, self.series)
    }
}

/// The receipts of a series in a folder.
#[derive(Debug)]
pub(super) struct Receipts<'a> {
    place: &'a Place,
    folder: String,
}

impl<'a> Receipts<'a> {
    pub(super) fn new(place: &'a Place, series: &Series<'_>) -> Self {
        Self { place, folder: format!("{RECEIPTS}/{}/{}", series.target, series.name()) }
    }

    /// The newest version that was exported whole.
    pub(super) async fn newest(&self) -> Result<Option<u64>> {
        let found = self.place.list(&self.folder).await?;
        let to = |object: &ObjectMeta| {
            let versions = object.location.filename()?.strip_suffix(ENDING)?;
            to_version(versions)
        };
        Ok(found.iter().filter_map(to).max())
    }

    /// Keeps a receipt. How far this export and earlier ones had come is no longer needed.
    pub(super) async fn keep(&self, receipt: &Receipt) -> Result<()> {
        let name = format!("{}/{}{ENDING}", self.folder, receipt.versions());
        let text = serde_json::to_vec_pretty(receipt).map_err(|source| Error::Receipt {
            uri: format!("{}/{name}", self.place.uri),
            source: source.cause(),
        })?;
        self.place.put(&name, text).await?;
        let found = self.place.list(&self.folder).await?;
        let (receipts, progress): (Vec<_>, Vec<_>) =
            found.into_iter().map(|object| object.location).partition(is_receipt);
        self.place.remove_all(progress).await?;
        self.remove_abandoned(receipt, &receipts).await
    }

    /// Removes parts of earlier exports that were cut off and never ended: those without a receipt, of an earlier
    /// version, and so old that nobody is still at it.
    async fn remove_abandoned(&self, receipt: &Receipt, receipts: &[Path]) -> Result<()> {
        let parts = self.place.list(&receipt.parts_folder()).await?;
        let long_ago = Utc::now() - ABANDONED_AFTER;
        let has_receipt = |versions: &str| {
            let name = format!("{versions}{ENDING}");
            receipts.iter().any(|receipt| receipt.filename() == Some(&name))
        };
        let abandoned = parts.into_iter().filter(|part| {
            let versions = part.location.parts().rev().nth(1);
            versions.is_some_and(|versions| {
                let versions = versions.as_ref();
                to_version(versions).is_some_and(|to| to < receipt.to_version)
                    && !has_receipt(versions)
                    && part.last_modified < long_ago
            })
        });
        self.place.remove_all(abandoned.map(|part| part.location)).await
    }

    /// Keeps that a part has arrived. The name says all.
    pub(super) async fn keep_progress(&self, receipt: &Receipt) -> Result<()> {
        let Some((number, part)) = receipt.parts.iter().enumerate().next_back() else {
            return Ok(());
        };
        let name = format!("{}/{number:05}-{}", self.progress_folder(receipt), part.sha256);
        self.place.put(&name, Vec::new()).await
    }

    /// The digests of the parts that an earlier try at the same export has seen arrive, by their numbers.
    pub(super) async fn progress(&self, receipt: &Receipt) -> Result<BTreeMap<usize, String>> {
        let found = self.place.list(&self.progress_folder(receipt)).await?;
        let part = |object: &ObjectMeta| {
            let (number, sha256) = object.location.filename()?.split_once('-')?;
            Some((number.parse().ok()?, sha256.to_owned()))
        };
        Ok(found.iter().filter_map(part).collect())
    }

    fn progress_folder(&self, receipt: &Receipt) -> String {
        format!("{}/{}.progress", self.folder, receipt.versions())
    }
}

/// The version that an export of these versions ends at.
fn to_version(versions: &str) -> Option<u64> {
    versions.rsplit('-').next()?.parse().ok()
}

fn is_receipt(path: &Path) -> bool {
    path.filename().is_some_and(|name| name.ends_with(ENDING))
}

/// Whether all receipts of a target in a folder, of whatever series, are of the tables at `tables`.
pub(super) async fn all_are_of(place: &Place, receipt: &Receipt) -> Result<bool> {
    for object in place.list(&format!("{RECEIPTS}/{}", receipt.target)).await? {
        if !is_receipt(&object.location) {
            continue;
        }
        let uri = object.location.to_string();
        let wrong = |source: crate::Cause| Error::Receipt { uri: uri.clone(), source };
        let found =
            place.store.get(&object.location).await.map_err(|source| wrong(source.cause()))?;
        let text = found.bytes().await.map_err(|source| wrong(source.cause()))?;
        let found: Receipt =
            serde_json::from_slice(&text).map_err(|source| wrong(source.cause()))?;
        if found.tables != receipt.tables {
            return Ok(false);
        }
    }
    Ok(true)
}
