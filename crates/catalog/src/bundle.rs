//! Model bundles: a folder in any store, brought to this machine once and kept by its digest.

use std::{
    collections::BTreeMap,
    path::{Path as DiskPath, PathBuf},
};

use data_encoding::HEXLOWER;
use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStoreExt};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::{fs, io::AsyncWriteExt};
use uuid::Uuid;

use crate::{Error, Location, Result, Stores};

/// The part of a manifest that matters here.
#[derive(Deserialize)]
struct Manifest {
    /// SHA-256 in hexadecimal of every other file, by its name within the bundle.
    #[serde(default)]
    files: BTreeMap<String, String>,
}

/// The folder on this machine that holds the bundle at `uri`.
///
/// A bundle on this machine is used where it is. Any other is copied to
/// `cache_dir/<SHA-256 of its manifest>/`, which appears only when every file has its listed
/// size and the digest that the manifest names; later calls find it there. `manifest` is the
/// manifest's file name, such as `bundle.json`. Several processes may
/// do this at the same time.
///
/// # Errors
/// [`Error::NotFound`] where there is no manifest, [`Error::DamagedBundle`] when a file is
/// missing or differs, [`Error::Disk`] when it cannot be kept.
pub async fn fetch_bundle(
    stores: &Stores,
    uri: &str,
    manifest: &str,
    cache_dir: &DiskPath,
) -> Result<PathBuf> {
    let bundle = stores.open(uri)?;
    let name = manifest;
    let manifest_path = bundle.child(name);
    let manifest_uri = bundle.uri_of(&manifest_path);
    let unreadable = |source| Error::store("read", &manifest_uri, source);
    let read = bundle.store.get(&manifest_path).await.map_err(unreadable)?;
    let manifest = read.bytes().await.map_err(unreadable)?;
    if let Some(folder) = bundle.local_path(&bundle.prefix) {
        return Ok(folder);
    }
    let folder = cache_dir.join(hex(&Sha256::digest(&manifest)));
    if fs::try_exists(&folder).await.map_err(|source| disk("read", &folder, source))? {
        return Ok(folder);
    }
    let Manifest { files } = serde_json::from_slice(&manifest)
        .map_err(|source| Error::Document { uri: manifest_uri.clone(), source })?;
    let draft = cache_dir.join(format!(".fetch-{}", Uuid::now_v7()));
    let fetched = fetch_all(&bundle, (name, &manifest), files, &draft).await;
    let kept = match fetched {
        Ok(()) => keep(&draft, &folder).await,
        Err(error) => Err(error),
    };
    if kept.is_err() || fs::try_exists(&draft).await.unwrap_or(false) {
        let _ = fs::remove_dir_all(&draft).await; // what stays is unused and has a telling name
    }
    kept.map(|()| folder)
}

/// Gives the draft its name, unless another process was faster.
async fn keep(draft: &DiskPath, folder: &DiskPath) -> Result<()> {
    match fs::rename(draft, folder).await {
        Ok(()) => Ok(()),
        Err(_) if fs::try_exists(folder).await.unwrap_or(false) => Ok(()),
        Err(source) => Err(disk("rename into", folder, source)),
    }
}

async fn fetch_all(
    bundle: &Location,
    (manifest_name, manifest): (&str, &[u8]),
    mut digests: BTreeMap<String, String>,
    draft: &DiskPath,
) -> Result<()> {
    let unreadable = |source| Error::store("list", &bundle.uri, source);
    fs::create_dir_all(draft).await.map_err(|source| disk("create", draft, source))?;
    let mut objects = bundle.store.list(Some(&bundle.prefix));
    while let Some(object) = objects.try_next().await.map_err(unreadable)? {
        let key = object.location.as_ref();
        let name = key.strip_prefix(bundle.prefix.as_ref()).unwrap_or(key).trim_start_matches('/');
        if name != manifest_name {
            let digest = digests.remove(name);
            fetch_file(bundle, &object, &draft.join(name), digest.as_deref()).await?;
        }
    }
    if let Some(missing) = digests.keys().next() {
        let uri = bundle.uri_of(&bundle.child(missing));
        return Err(Error::DamagedBundle { uri, because: "it is missing".to_owned() });
    }
    let path = draft.join(manifest_name);
    fs::write(&path, manifest).await.map_err(|source| disk("write", &path, source))
}

async fn fetch_file(
    bundle: &Location,
    object: &ObjectMeta,
    path: &DiskPath,
    digest: Option<&str>,
) -> Result<()> {
    let uri = bundle.uri_of(&object.location);
    let unreadable = |source| Error::store("read", &uri, source);
    let unwritable = |source| disk("write", path, source);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).await.map_err(unwritable)?;
    }
    let mut file = fs::File::create(path).await.map_err(unwritable)?;
    let read = bundle.store.get(&object.location).await.map_err(unreadable)?;
    let mut chunks = read.into_stream();
    let (mut size, mut hash) = (0u64, Sha256::new());
    while let Some(chunk) = chunks.try_next().await.map_err(unreadable)? {
        size += chunk.len() as u64;
        hash.update(&chunk);
        file.write_all(&chunk).await.map_err(unwritable)?;
    }
    file.sync_all().await.map_err(unwritable)?;
    let found = hex(&hash.finalize());
    let because = match digest {
        _ if size != object.size => format!("{size} bytes came, {} are listed", object.size),
        Some(digest) if !digest.eq_ignore_ascii_case(&found) => {
            format!("its digest is {found}, the manifest says {digest}")
        }
        _ => return Ok(()),
    };
    Err(Error::DamagedBundle { uri, because })
}

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

fn disk(action: &'static str, path: &DiskPath, source: std::io::Error) -> Error {
    Error::Disk { action, path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;
    use rstest::rstest;
    use std::{collections::BTreeMap, sync::Arc};

    const MANIFEST: &str = "bundle.json";

    async fn bundle(weights: &str, digest_of: &str) -> Stores {
        let stores = Stores::new(BTreeMap::new());
        stores.insert("s3://b", Arc::new(InMemory::new()));
        let digest = hex(&Sha256::digest(digest_of));
        let manifest = format!(r#"{{"files": {{"golden/w": "{digest}"}}, "model_id": "m"}}"#);
        for (name, content) in [(MANIFEST, manifest.as_str()), ("golden/w", weights)] {
            put(&stores, name, content).await;
        }
        stores
    }

    async fn put(stores: &Stores, name: &str, content: &str) {
        let at = stores.open("s3://b/m").unwrap();
        at.store.put(&at.child(name), content.to_owned().into()).await.unwrap();
    }

    #[tokio::test]
    async fn is_copied_once_and_whole() {
        let stores = bundle("weights", "weights").await;
        let cache = tempfile::tempdir().unwrap();
        let folder = fetch_bundle(&stores, "s3://b/m", MANIFEST, cache.path()).await.unwrap();
        assert_eq!(std::fs::read_to_string(folder.join("golden/w")).unwrap(), "weights");
        put(&stores, "golden/w", "others").await;
        let again = fetch_bundle(&stores, "s3://b/m", MANIFEST, cache.path()).await.unwrap();
        assert_eq!(again, folder);
        assert_eq!(std::fs::read_to_string(folder.join("golden/w")).unwrap(), "weights");
        assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 1, "no drafts are left");
    }

    #[tokio::test]
    async fn many_processes_may_fetch_it_at_once() {
        let stores = bundle("weights", "weights").await;
        let cache = tempfile::tempdir().unwrap();
        let fetches = (0..8).map(|_| fetch_bundle(&stores, "s3://b/m", MANIFEST, cache.path()));
        let folders = futures::future::try_join_all(fetches).await.unwrap();
        assert!(folders.iter().all(|folder| *folder == folders[0]));
        assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 1, "no drafts are left");
    }

    #[rstest]
    #[case::other_digest("weights", "digest is")]
    #[case::missing("", "missing")]
    #[tokio::test]
    async fn a_damaged_one_is_not_kept(#[case] weights: &str, #[case] because: &str) {
        let stores = bundle(weights, "other").await;
        if weights.is_empty() {
            let at = stores.open("s3://b/m").unwrap();
            at.store.delete(&at.child("golden/w")).await.unwrap();
        }
        let cache = tempfile::tempdir().unwrap();
        let error = fetch_bundle(&stores, "s3://b/m", MANIFEST, cache.path())
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("s3://b/m/golden/w") && error.contains(because), "{error}");
        assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 0, "nothing is left");
    }

    #[tokio::test]
    async fn a_local_one_is_used_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(MANIFEST), "{}").unwrap();
        let stores = Stores::new(BTreeMap::new());
        let uri = format!("file://{}", folder.path().display());
        let cache = tempfile::tempdir().unwrap();
        assert_eq!(
            fetch_bundle(&stores, &uri, MANIFEST, cache.path()).await.unwrap(),
            folder.path()
        );
        let nowhere = fetch_bundle(&stores, &format!("{uri}/gone"), MANIFEST, cache.path()).await;
        assert!(matches!(nowhere, Err(Error::NotFound { .. })), "{nowhere:?}");
    }
}
