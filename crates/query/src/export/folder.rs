//! Parts as files in a folder.
//!
//! The name of a file ends in the digest of its bytes: one that is there already is right, so an export that was
//! cut off goes on where it was. The receipt comes last; before it, files of the same versions that are not
//! in it are removed.

use std::collections::BTreeSet;

use futures::StreamExt;

use super::{
    ExportOptions, Place, Progress,
    documents::Rows,
    encode::{Encoder, Part},
    receipt::{PartReceipt, Receipt},
};
use crate::{Error, Result, error::CauseFrom};

/// Characters of a digest in a name: enough to tell a few thousand files apart.
const DIGEST_IN_NAME: usize = 12;

pub(super) async fn write(
    rows: &Rows<'_>,
    options: &ExportOptions,
    place: &Place,
    receipt: &mut Receipt,
    told: &mut (dyn FnMut(Progress) + Send),
) -> Result<()> {
    let mut batches = rows.documents(options).await?;
    let mut encoder = Encoder::new(options);
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(|source| Error::Run { source: source.cause() })?;
        for part in encoder.push(&batch)? {
            keep(place, part, receipt).await?;
            told(receipt.progress());
        }
    }
    for part in encoder.finish()? {
        keep(place, part, receipt).await?;
        told(receipt.progress());
    }
    remove_others(place, receipt).await
}

async fn keep(place: &Place, part: Part, receipt: &mut Receipt) -> Result<()> {
    let sha256 = part.sha256();
    let number = receipt.parts.len();
    let digest = &sha256[..DIGEST_IN_NAME];
    let name =
        format!("{}/{}-{number:05}-{digest}.{}", receipt.folder(), part.kind, part.extension);
    let bytes = part.body.len() as u64;
    if !place.exists(&name).await? {
        place.put(&name, part.body).await?;
    }
    receipt.add(PartReceipt {
        name: Some(name),
        bytes,
        sha256,
        upserts: part.upserts,
        deletes: part.deletes,
    });
    Ok(())
}

/// Removes what an earlier try at the same versions left, with other settings or of another program.
async fn remove_others(place: &Place, receipt: &Receipt) -> Result<()> {
    let folder = receipt.folder();
    let ours: BTreeSet<_> =
        receipt.parts.iter().filter_map(|part| Some(place.path(part.name.as_deref()?))).collect();
    let found = place.list(&folder).await?.into_iter().map(|object| object.location);
    place.remove_all(found.filter(|path| !ours.contains(path))).await
}
