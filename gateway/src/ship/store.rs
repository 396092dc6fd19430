//! Destinations behind `object_store`: buckets and directories.
//!
//! A file that is there already, as far as the way of confirming goes, is not sent again. One of at most a part goes
//! in one request, a larger one in parts that are read one at a time; it appears whole or not at all. An S3 service
//! gets the SHA-256 of each request's body twice, in the signature and as `x-amz-checksum-sha256`, and the file's
//! as metadata.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{
    Attribute, Attributes, Certificate, ClientOptions, Error, GetOptions, ObjectStore, ObjectStoreExt as _,
    PutMultipartOptions, PutOptions, PutPayload, RetryConfig,
};
use portreeve_core::config::shipping::{S3, StoreConfirm};
use portreeve_core::shipping::{S3Credentials, Sha256Digest};

use super::failure::{ConnectError, ShipError};
use super::source::{self, SourceFile};
use crate::secret_file;

/// Bytes of one part; S3 wants 5 MiB at least, and 10,000 parts at most.
const PART: usize = 8 * 1024 * 1024;

/// Metadata of an object: the SHA-256 of its file, in hexadecimal.
const DIGEST_ATTRIBUTE: &str = "sha256";

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long the other side may say nothing.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// How long one request may take: a part at 30 kB/s.
const REQUEST_LIMIT: Duration = Duration::from_secs(300);

/// A bucket or a directory.
#[derive(Clone, Debug)]
pub(super) struct Store {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    confirm: StoreConfirm,
    /// Where it is a directory of this machine.
    directory: Option<PathBuf>,
}

impl Store {
    /// A bucket; reads its credentials.
    pub(super) fn s3(s3: &S3) -> Result<Self, ConnectError> {
        let once = RetryConfig { max_retries: 0, retry_timeout: REQUEST_LIMIT, ..RetryConfig::default() };
        let store = s3_store(s3, once)?;
        Ok(Self { store: Arc::new(store), prefix: s3.prefix.clone(), confirm: s3.confirm, directory: None })
    }

    /// A directory, which must be there.
    pub(super) fn directory(path: &Path) -> Result<Self, ConnectError> {
        let store =
            LocalFileSystem::new_with_prefix(path).map_err(|source| ConnectError::Store(Box::new(source)))?;
        Ok(Self {
            store: Arc::new(store.with_fsync(true)),
            prefix: String::new(),
            confirm: StoreConfirm::Read,
            directory: Some(path.to_owned()),
        })
    }

    /// Makes sure that a file is there, and has it confirmed.
    pub(super) async fn put(&self, file: &SourceFile, digest: &Sha256Digest) -> Result<(), ShipError> {
        let key = Key::from(format!("{}/{}", self.prefix, file.name));
        if self.has(&key, file, digest).await? {
            return Ok(());
        }
        self.clear_staged(file).await?;
        if file.size <= PART as u64 {
            let body = read(file, 0).await?;
            let options = PutOptions { attributes: self.attributes(digest), ..PutOptions::default() };
            self.store.put_opts(&key, PutPayload::from(body), options).await?;
        } else {
            self.put_parts(&key, file, digest).await?;
        }
        if self.has(&key, file, digest).await? {
            return Ok(());
        }
        Err(ShipError::NotConfirmed { file: file.name.clone(), found: "another size or SHA-256".to_owned() })
    }

    /// Asks for a key that no recording has.
    pub(super) async fn reach(&self) -> Result<(), ShipError> {
        let key = Key::from(format!("{}/portreeve-doctor", self.prefix));
        match self.store.get_opts(&key, GetOptions::new().with_head(true)).await {
            Ok(_) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn put_parts(&self, key: &Key, file: &SourceFile, digest: &Sha256Digest) -> Result<(), ShipError> {
        let options =
            PutMultipartOptions { attributes: self.attributes(digest), ..PutMultipartOptions::default() };
        let mut upload = self.store.put_multipart_opts(key, options).await?;
        let sent = async {
            let mut offset = 0;
            while offset < file.size {
                let body = read(file, offset).await?;
                offset += body.len() as u64;
                upload.put_part(PutPayload::from(body)).await?;
            }
            upload.complete().await?;
            Ok(())
        };
        let sent: Result<(), ShipError> = sent.await;
        if sent.is_err() {
            // It comes again from its beginning; what cannot be taken back is for the bucket's lifecycle rule.
            upload.abort().await.ok();
        }
        sent
    }

    /// Whether the destination has the file.
    async fn has(&self, key: &Key, file: &SourceFile, digest: &Sha256Digest) -> Result<bool, ShipError> {
        let head = match self.store.get_opts(key, GetOptions::new().with_head(true)).await {
            Err(Error::NotFound { .. }) => return Ok(false),
            head => head?,
        };
        if head.meta.size != file.size {
            return Ok(false);
        }
        match self.confirm {
            StoreConfirm::Checksum => {
                let told = head.attributes.get(&Attribute::Metadata(DIGEST_ATTRIBUTE.into()));
                Ok(told.is_some_and(|told| **told == *hex::encode(digest)))
            }
            StoreConfirm::Read => self.reads_as(key, file.size, digest).await,
        }
    }

    async fn reads_as(&self, key: &Key, size: u64, digest: &Sha256Digest) -> Result<bool, ShipError> {
        let mut context = Context::new(&SHA256);
        let mut offset = 0;
        while offset < size {
            let end = offset.saturating_add(PART as u64).min(size);
            let body = self.store.get_range(key, offset..end).await?;
            if body.is_empty() {
                return Ok(false);
            }
            offset += body.len() as u64;
            context.update(&body);
        }
        Ok(source::digest_of(context).is_ok_and(|read| read == *digest))
    }

    fn attributes(&self, digest: &Sha256Digest) -> Attributes {
        if self.directory.is_some() {
            return Attributes::new();
        }
        let attribute = Attribute::Metadata(DIGEST_ATTRIBUTE.into());
        Attributes::from_iter([(attribute, hex::encode(digest))])
    }

    /// Removes what a gateway that was killed left of a file in a directory: `<file>#<number>`.
    async fn clear_staged(&self, file: &SourceFile) -> Result<(), ShipError> {
        let Some(path) = self.directory.as_ref().map(|directory| directory.join(&file.name)) else {
            return Ok(());
        };
        let clear = move || {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
            let staged = format!("{}#", name.to_string_lossy());
            for entry in fs::read_dir(parent)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with(&staged) {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        match blocking(clear).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            cleared => cleared.map_err(ShipError::Directory),
        }
    }
}

/// A bucket as the library sees it; reads its credentials.
pub(super) fn s3_store(s3: &S3, retry: RetryConfig) -> Result<AmazonS3, ConnectError> {
    let credentials = secret_file::read(&s3.credentials_file)?;
    let text = str::from_utf8(&credentials).map_err(|_| ConnectError::Text(s3.credentials_file.clone()))?;
    let credentials = S3Credentials::parse(text)
        .map_err(|source| ConnectError::Credentials { path: s3.credentials_file.clone(), source })?;
    let mut client = ClientOptions::new()
        .with_allow_http(s3.allow_http)
        .with_connect_timeout(CONNECT_LIMIT)
        .with_read_timeout(SILENCE_LIMIT)
        .with_timeout(REQUEST_LIMIT);
    if let Some(path) = &s3.ca_file {
        for certificate in certificates(path)? {
            client = client.with_root_certificate(certificate);
        }
    }
    let mut builder = AmazonS3Builder::new()
        .with_client_options(client)
        .with_retry(retry)
        .with_allow_http(s3.allow_http)
        .with_bucket_name(&s3.bucket)
        .with_region(&s3.region)
        .with_checksum_algorithm(Checksum::SHA256)
        .with_access_key_id(credentials.access_key_id)
        .with_secret_access_key(credentials.secret_access_key.as_str());
    if let Some(endpoint) = &s3.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(token) = &credentials.session_token {
        builder = builder.with_token(token.as_str());
    }
    builder.build().map_err(|source| ConnectError::Store(Box::new(source)))
}

async fn read(file: &SourceFile, offset: u64) -> Result<bytes::Bytes, ShipError> {
    let path = file.path.clone();
    let read = blocking(move || source::part(&path, offset, PART)).await;
    match read {
        Ok(body) if !body.is_empty() || file.size == 0 => Ok(body),
        Ok(_) => Err(ShipError::Unreadable(io::ErrorKind::UnexpectedEof.into())),
        Err(error) => Err(ShipError::Unreadable(error)),
    }
}

/// Runs what blocks on a thread for such.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, ConnectError> {
    let pem = fs::read(path).map_err(|source| ConnectError::CaFile { path: path.to_owned(), source })?;
    Certificate::from_pem_bundle(&pem).map_err(|source| ConnectError::Store(Box::new(source)))
}
