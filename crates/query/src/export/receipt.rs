//! Receipts: what was exported, from which version to which, and how to tell that it is all there.

use data_encoding::HEXLOWER;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{ExportOptions, Place, Progress, Target};
use crate::{Error, Result, error::CauseFrom};

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
    /// Where the tables are.
    pub tables: String,
    /// The table whose versions these are.
    pub table: String,
    /// The version that the reader had; none for everything.
    pub from_version: Option<u64>,
    /// The version that the reader has now.
    pub to_version: u64,
    /// Name of the index.
    pub index: String,
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

impl Receipt {
    pub(super) fn begin(options: &ExportOptions, tables: &str, from: Option<u64>, to: u64) -> Self {
        Self {
            target: options.target.to_string(),
            tables: tables.to_owned(),
            table: options.target.table().to_owned(),
            from_version: from,
            to_version: to,
            index: options.index.clone(),
            url: None,
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
        format!("{}/{}", self.target, self.versions())
    }
}

/// The receipts of a target in a folder.
#[derive(Debug)]
pub(super) struct Receipts<'a> {
    place: &'a Place,
    folder: String,
}

impl<'a> Receipts<'a> {
    pub(super) fn new(place: &'a Place, target: Target) -> Self {
        Self { place, folder: format!("receipts/{target}") }
    }

    /// The newest version that was exported whole.
    pub(super) async fn newest(&self) -> Result<Option<u64>> {
        let mut found = self.place.store.list(Some(&self.place.path(&self.folder)));
        let mut newest = None;
        while let Some(object) = found.next().await {
            let object = object.map_err(|source| self.place.error("list", &self.folder, source))?;
            let name = object.location.filename().and_then(|name| name.strip_suffix(".json"));
            let to = name.and_then(|name| name.rsplit('-').next()?.parse::<u64>().ok());
            newest = newest.max(to);
        }
        Ok(newest)
    }

    /// Keeps a receipt; how far its export had come is no longer needed.
    pub(super) async fn keep(&self, receipt: &Receipt) -> Result<()> {
        self.write(&format!("{}.json", receipt.versions()), receipt).await?;
        self.place.remove(&self.progress_name(receipt)).await
    }

    /// Keeps how far an export has come.
    pub(super) async fn keep_progress(&self, receipt: &Receipt) -> Result<()> {
        self.write(&format!("{}.progress", receipt.versions()), receipt).await
    }

    /// How far an earlier try at the same export came; `None` where there was none.
    pub(super) async fn progress(&self, receipt: &Receipt) -> Result<Option<Receipt>> {
        let name = self.progress_name(receipt);
        let Some(bytes) = self.place.get(&name).await? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Receipt {
            uri: format!("{}/{name}", self.place.uri),
            source: source.cause(),
        })
    }

    fn progress_name(&self, receipt: &Receipt) -> String {
        format!("{}/{}.progress", self.folder, receipt.versions())
    }

    async fn write(&self, name: &str, receipt: &Receipt) -> Result<()> {
        let name = format!("{}/{name}", self.folder);
        let text = serde_json::to_vec_pretty(receipt).map_err(|source| Error::Receipt {
            uri: format!("{}/{name}", self.place.uri),
            source: source.cause(),
        })?;
        self.place.put(&name, text).await
    }
}
