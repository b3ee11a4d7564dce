//! Addresses and object stores: `file://` and `s3://` to something that reads and writes bytes.
//!
//! An address is percent-encoded, whatever the names in the store are, so that it goes through
//! tables, players and shells unharmed: [`Stores::open`] and [`Location::uri_of`] are inverses.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use object_store::{
    ClientOptions, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut},
    local::LocalFileSystem,
    path::Path,
};

use crate::{Error, Result};

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one request may take, its body included. Large objects are read in ranges.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(2);
/// How often a request is tried again.
const RETRIES: usize = 8;
/// How long after the first try a request is no longer tried again.
const RETRY_TIMEOUT: Duration = Duration::from_secs(90);

/// What an address may begin with, for whoever used another scheme.
const KNOWN_SCHEMES: &str = match (cfg!(feature = "gcp"), cfg!(feature = "azure")) {
    (false, false) => {
        "only `s3://` and `file://` are known (`gs://` and `az://` are features of the build)"
    }
    (true, false) => "only `s3://`, `gs://` and `file://` are known",
    (false, true) => "only `s3://`, `az://` and `file://` are known",
    (true, true) => "only `s3://`, `gs://`, `az://` and `file://` are known",
};

/// The stores that this process has open, one for each bucket.
pub struct Stores {
    settings: BTreeMap<String, String>,
    retry: RetryConfig,
    opened: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl fmt::Debug for Stores {
    /// Names of settings only: their values may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.settings.keys().collect();
        f.debug_struct("Stores").field("settings", &names).finish_non_exhaustive()
    }
}

/// A place in a store: a folder or an object.
#[derive(Clone)]
pub struct Location {
    /// The whole store: the bucket, or the file system from its root.
    pub store: Arc<dyn ObjectStore>,
    /// Where in the store.
    pub prefix: Path,
    /// The address, percent-encoded, without a slash at its end.
    pub uri: String,
    root: String,
}

impl fmt::Debug for Location {
    /// The address only: a store may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Location").field(&self.uri).finish()
    }
}

impl Location {
    /// The path of something below this place, given by its slash-separated parts.
    #[must_use]
    pub fn child(&self, relative: &str) -> Path {
        relative.split('/').fold(self.prefix.clone(), Path::join)
    }

    /// The place that lies below this one.
    #[must_use]
    pub fn below(&self, relative: &str) -> Self {
        let prefix = self.child(relative);
        let uri = self.uri_of(&prefix);
        Self { prefix, uri, ..self.clone() }
    }

    /// The address of an object of this store.
    #[must_use]
    pub fn uri_of(&self, path: &Path) -> String {
        format!("{}{}", self.root, percent_encode(path.as_ref()))
    }

    /// Whether this is a folder or file of this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.root == "file:///"
    }

    /// The path on this machine of something in this store. `None` for a remote store.
    #[must_use]
    pub fn local_path(&self, path: &Path) -> Option<std::path::PathBuf> {
        self.is_local().then(|| std::path::PathBuf::from(format!("/{path}")))
    }
}

impl Stores {
    /// Stores that are opened with `settings`, such as `AWS_ENDPOINT_URL` or `AWS_REGION`, by
    /// the names that the S3 client of `object_store` knows; names that it does not know are
    /// left to others.
    #[must_use]
    pub fn new(settings: BTreeMap<String, String>) -> Self {
        let retry = RetryConfig {
            max_retries: RETRIES,
            retry_timeout: RETRY_TIMEOUT,
            ..Default::default()
        };
        Self { settings, retry, opened: Mutex::default() }
    }

    /// The same with another rule for trying requests again.
    #[must_use]
    pub fn with_retry(self, retry: RetryConfig) -> Self {
        Self { retry, ..self }
    }

    /// Uses `store` for every address that starts with `root`, such as `s3://bucket`.
    pub fn insert(&self, root: &str, store: Arc<dyn ObjectStore>) {
        let root = root.trim_end_matches('/').to_owned();
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).insert(root, store);
    }

    /// The place that `uri` names: `s3://bucket/key`, `file:///folder`, or an absolute path.
    ///
    /// Nothing is asked of the store yet.
    ///
    /// # Errors
    /// [`Error::Address`] when it is none of these, [`Error::Settings`] when the store's
    /// settings are wrong.
    pub fn open(&self, uri: &str) -> Result<Location> {
        let wrong = |because| Error::Address { uri: redacted(uri), because };
        let (scheme, authority, path) = if uri.starts_with('/') {
            ("file", "", uri.to_owned())
        } else {
            let (scheme, rest) = uri
                .split_once("://")
                .ok_or_else(|| wrong("it is neither an absolute path nor `s3://` or `file://`"))?;
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            if path.contains(['?', '#']) {
                return Err(wrong("write `?` as `%3F` and `#` as `%23`"));
            }
            let path = percent_decode(path).ok_or_else(|| wrong("a `%` stands in it alone"))?;
            (scheme, authority, path)
        };
        if authority.contains('@') {
            return Err(wrong("credentials do not belong in it"));
        }
        let authority = if scheme == "file" && authority == "localhost" { "" } else { authority };
        let prefix = Path::parse(&path)
            .map_err(|_| wrong("it has an empty part, `.` or `..` in its path"))?;
        let root = format!("{scheme}://{authority}/");
        let store = self.store(scheme, authority, root.trim_end_matches('/'), &wrong)?;
        let uri = format!("{root}{}", percent_encode(prefix.as_ref()));
        let uri =
            uri.strip_suffix('/').filter(|_| !prefix.is_root()).map_or(uri.clone(), str::to_owned);
        Ok(Location { store, prefix, uri, root })
    }

    fn store(
        &self,
        scheme: &str,
        authority: &str,
        root: &str,
        wrong: &dyn Fn(&'static str) -> Error,
    ) -> Result<Arc<dyn ObjectStore>> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = opened.get(root) {
            return Ok(Arc::clone(store));
        }
        let store: Arc<dyn ObjectStore> = match scheme {
            "file" if authority.is_empty() => Arc::new(LocalFileSystem::new()),
            "file" => return Err(wrong("a file address names no host")),
            "s3" if authority.is_empty() => return Err(wrong("it names no bucket")),
            "s3" => Arc::new(self.s3(authority, root)?),
            #[cfg(feature = "gcp")]
            "gs" => Arc::new(self.google(authority, root)?),
            #[cfg(feature = "azure")]
            "az" => Arc::new(self.azure(authority, root)?),
            _ => return Err(wrong(KNOWN_SCHEMES)),
        };
        opened.insert(root.to_owned(), Arc::clone(&store));
        Ok(store)
    }

    fn client(&self) -> ClientOptions {
        let plain_http = self.settings.iter().any(|(name, value)| {
            name.to_ascii_lowercase().contains("endpoint") && value.starts_with("http://")
        });
        ClientOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_timeout(REQUEST_TIMEOUT)
            .with_allow_http(plain_http)
    }

    fn s3(&self, bucket: &str, root: &str) -> Result<object_store::aws::AmazonS3> {
        let mut builder = AmazonS3Builder::new()
            .with_client_options(self.client())
            .with_retry(self.retry.clone())
            .with_conditional_put(S3ConditionalPut::ETagMatch);
        for (name, value) in &self.settings {
            if let Ok(key) = AmazonS3ConfigKey::from_str(&name.to_ascii_lowercase()) {
                builder = builder.with_config(key, value);
            }
        }
        builder
            .with_bucket_name(bucket)
            .build()
            .map_err(|source| Error::Settings { uri: root.to_owned(), source })
    }
}

#[cfg(feature = "gcp")]
impl Stores {
    /// A bucket of Google Cloud Storage, with settings such as `GOOGLE_SERVICE_ACCOUNT`.
    fn google(&self, bucket: &str, root: &str) -> Result<object_store::gcp::GoogleCloudStorage> {
        use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};

        let mut builder = GoogleCloudStorageBuilder::new()
            .with_client_options(self.client())
            .with_retry(self.retry.clone());
        for (name, value) in &self.settings {
            if let Ok(key) = GoogleConfigKey::from_str(&name.to_ascii_lowercase()) {
                builder = builder.with_config(key, value);
            }
        }
        builder
            .with_bucket_name(bucket)
            .build()
            .map_err(|source| Error::Settings { uri: root.to_owned(), source })
    }
}

#[cfg(feature = "azure")]
impl Stores {
    /// A container of Azure Blob Storage, with settings such as `AZURE_STORAGE_ACCOUNT_NAME`.
    fn azure(&self, container: &str, root: &str) -> Result<object_store::azure::MicrosoftAzure> {
        use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};

        let mut builder = MicrosoftAzureBuilder::new()
            .with_client_options(self.client())
            .with_retry(self.retry.clone());
        for (name, value) in &self.settings {
            if let Ok(key) = AzureConfigKey::from_str(&name.to_ascii_lowercase()) {
                builder = builder.with_config(key, value);
            }
        }
        builder
            .with_container_name(container)
            .build()
            .map_err(|source| Error::Settings { uri: root.to_owned(), source })
    }
}

/// The address without what stands before an `@`, which may be a password.
fn redacted(uri: &str) -> String {
    match (uri.split_once("://"), uri.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://***@{rest}"),
        _ => uri.to_owned(),
    }
}

/// `text` with every byte but `[A-Za-z0-9._~/-]` as `%XX`.
fn percent_encode(text: &str) -> String {
    use fmt::Write;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => {
                let _ = write!(encoded, "%{byte:02X}"); // writing to a string cannot fail
            }
        }
    }
    encoded
}

/// The inverse of [`percent_encode`]; `None` for a stray `%` or bytes that are not UTF-8.
fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digit = |b: u8| char::from(b).to_digit(16);
            let value = digit(bytes.next()?)? * 16 + digit(bytes.next()?)?;
            decoded.push(u8::try_from(value).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::{ObjectStoreExt, memory::InMemory};
    use proptest::prelude::*;
    use rstest::rstest;

    fn stores(settings: &[(&str, &str)]) -> Stores {
        Stores::new(settings.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect())
    }

    #[rstest]
    #[case::path("/videos/a b", "file:///videos/a%20b")]
    #[case::file("file:///videos/a%20b/", "file:///videos/a%20b")]
    #[case::localhost("file://localhost/videos", "file:///videos")]
    #[case::bucket("s3://bucket", "s3://bucket/")]
    #[case::key("s3://bucket/100%25 ü.mp4", "s3://bucket/100%25%20%C3%BC.mp4")]
    fn opens(#[case] given: &str, #[case] uri: &str) {
        let location = stores(&[]).open(given).unwrap();
        assert_eq!(location.uri, uri);
        assert_eq!(location.uri_of(&location.prefix), uri);
    }

    #[rstest]
    #[case::relative("videos/a", "neither an absolute path")]
    #[case::unknown_scheme("gs://bucket/a", "only `s3://` and `file://`")]
    #[case::no_bucket("s3:///a", "names no bucket")]
    #[case::host("file://server/a", "names no host")]
    #[case::fragment("s3://b/a#b", "%23")]
    #[case::stray_percent("s3://b/100%", "alone")]
    #[case::parent("s3://b/a/../b", "`..`")]
    fn refuses(#[case] given: &str, #[case] because: &str) {
        let text = stores(&[]).open(given).unwrap_err().to_string();
        assert!(text.contains(because) && text.contains(given), "{text}");
    }

    #[test]
    fn secrets_stay_out_of_errors_and_debug() {
        let stores = stores(&[("AWS_SECRET_ACCESS_KEY", "hunter2"), ("AWS_ACCESS_KEY_ID", "id")]);
        let location = stores.open("s3://bucket/a").unwrap();
        let error = stores.open("s3://id:hunter2@bucket/a").unwrap_err();
        let shown = format!("{stores:?} {location:?} {error} {error:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("AWS_SECRET_ACCESS_KEY"), "{shown}");
    }

    #[test]
    fn a_bucket_is_opened_once_and_can_be_replaced() {
        let stores = stores(&[]);
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        stores.insert("s3://bucket/", Arc::clone(&store));
        assert!(Arc::ptr_eq(&stores.open("s3://bucket/x").unwrap().store, &store));
        let other = stores.open("s3://other/x").unwrap().store;
        assert!(Arc::ptr_eq(&stores.open("s3://other/y").unwrap().store, &other));
    }

    #[tokio::test]
    async fn an_unreachable_store_is_named_with_what_to_check() {
        let stores = stores(&[
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ])
        .with_retry(RetryConfig { max_retries: 0, ..Default::default() });
        let location = stores.open("s3://bucket/a").unwrap();
        let source = location.store.head(&location.prefix).await.unwrap_err();
        let error = Error::store("read", &location.uri, source);
        let text = format!("{error} {error:?}");
        assert!(error.is_transient());
        assert!(text.contains("s3://bucket/a") && text.contains("endpoint"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }

    proptest! {
        #[test]
        fn encoding_round_trips(text in "\\PC{0,40}") {
            let encoded = percent_encode(&text);
            prop_assert!(encoded.is_ascii());
            prop_assert_eq!(percent_decode(&encoded), Some(text));
        }
    }
}
