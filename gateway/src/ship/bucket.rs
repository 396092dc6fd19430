//! Reading what was shipped to a bucket, for verbs of the command line. Blocks the thread.
//!
//! Listings are of one directory at a time; a file is read in ranges, of which one of at most [`MOST`] bytes is kept.
//! Nothing is written to a disk. What fails on the way is tried again by the library, up to [`RETRIES`] times. Names are
//! as the library gives them: none is `.` or `..`, or has a slash.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use object_store::aws::AmazonS3;
use object_store::list::{PaginatedListOptions, PaginatedListStore as _};
use object_store::path::Path as Key;
use object_store::{ObjectStore as _, ObjectStoreExt as _, RetryConfig};
use portreeve_core::config::shipping::S3;
use thiserror::Error;
use tokio::runtime::{Builder, Runtime};

use super::failure::ConnectError;
use super::store::s3_store;

/// Bytes of the first range of a file: some are read for their header alone.
const FIRST: u64 = 64 * 1024;

/// Bytes of the largest.
const MOST: u64 = 4 * 1024 * 1024;

/// How often a request is made again that the service did not answer; somebody waits for it.
const RETRIES: usize = 3;

/// After so long it is not made again.
const RETRY_LIMIT: Duration = Duration::from_secs(30);

/// Most characters of what a service says about a failure.
const MOST_SAID: usize = 400;

/// What the library says where a listing is refused, or the bucket is not there: it tells the status of other requests
/// by its errors, and that of listings in words alone.
const LISTING_DENIED: &str = "status code: 403";
const LISTING_ABSENT: &str = "status code: 404";

/// A bucket that can be read.
pub struct Bucket {
    store: AmazonS3,
    runtime: Runtime,
}

/// Something in a directory of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketEntry {
    /// Its name.
    pub name: String,
    /// Its bytes; `None` of a directory.
    pub size: Option<u64>,
}

/// A file of a bucket, read from its start.
pub struct BucketFile {
    bucket: Arc<Bucket>,
    key: Key,
    size: u64,
    offset: u64,
    range: u64,
    /// What is left of the range that was read last.
    piece: Bytes,
}

/// Why something in a bucket cannot be read, in one line.
#[derive(Debug, Error)]
enum BucketError {
    /// The bucket is not there, or the file is not in it.
    #[error("it is not there")]
    NotThere,
    /// The service does not know the keys, or does not let them do this.
    #[error(
        "the service refuses: check the credentials, that they may list (s3:ListBucket) and read (s3:GetObject), and \
         the region"
    )]
    Denied,
    /// Anything else, such as a service that is not reached.
    #[error("is the endpoint right, and can it be reached? {0}")]
    Failed(String),
    /// There is less than the service told before.
    #[error("it has become shorter meanwhile: read it again")]
    Short,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").finish_non_exhaustive()
    }
}

impl fmt::Debug for BucketFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, size, offset, .. } = self;
        f.debug_struct("BucketFile").field("key", key).field("size", size).field("offset", offset).finish()
    }
}

impl Bucket {
    /// Reads the credentials; asks nothing yet.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn open(s3: &S3) -> Result<Self, ConnectError> {
        let retry =
            RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_LIMIT, ..RetryConfig::default() };
        let store = s3_store(s3, retry)?;
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("bucket").enable_all().build();
        Ok(Self { store, runtime: runtime.map_err(ConnectError::Threads)? })
    }

    /// What is in a directory, in the order of names; empty where there is none.
    ///
    /// # Errors
    /// Those of asking.
    pub fn list(&self, directory: &str) -> io::Result<Vec<BucketEntry>> {
        let prefix = Some(Key::from(directory)).filter(|_| !directory.is_empty());
        let listed = self.runtime.block_on(self.store.list_with_delimiter(prefix.as_ref())).map_err(told)?;
        let name = |key: &Key| key.filename().map(str::to_owned);
        let directories = listed.common_prefixes.iter().filter_map(name);
        let directories = directories.map(|name| BucketEntry { name, size: None });
        let files = listed.objects.iter().filter_map(|object| {
            Some(BucketEntry { name: name(&object.location)?, size: Some(object.size) })
        });
        let mut entries: Vec<BucketEntry> = directories.chain(files).collect();
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(entries)
    }

    /// Whether anything is in a directory.
    ///
    /// # Errors
    /// Those of asking.
    pub fn has_directory(&self, directory: &str) -> io::Result<bool> {
        let prefix = format!("{}/", Key::from(directory));
        let options = PaginatedListOptions { max_keys: Some(1), ..PaginatedListOptions::default() };
        let listed =
            self.runtime.block_on(self.store.list_paginated(Some(&prefix), options)).map_err(told)?;
        Ok(!listed.result.objects.is_empty())
    }

    /// A file of that path.
    ///
    /// # Errors
    /// Those of asking; `NotFound` where there is none.
    pub fn file(self: &Arc<Self>, path: &str) -> io::Result<BucketFile> {
        let key = Key::from(path);
        let meta = self.runtime.block_on(self.store.head(&key)).map_err(told)?;
        let bucket = Arc::clone(self);
        Ok(BucketFile { bucket, key, size: meta.size, offset: 0, range: FIRST, piece: Bytes::new() })
    }
}

impl Read for BucketFile {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() && self.offset < self.size {
            let end = self.offset.saturating_add(self.range).min(self.size);
            let Bucket { store, runtime } = &*self.bucket;
            self.piece = runtime.block_on(store.get_range(&self.key, self.offset..end)).map_err(told)?;
            if self.piece.len() as u64 != end.saturating_sub(self.offset) {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, BucketError::Short));
            }
            self.offset = self.offset.saturating_add(self.piece.len() as u64);
            self.range = (self.range * 4).min(MOST);
        }
        let count = self.piece.len().min(out.len());
        if let (Some(out), Some(piece)) = (out.get_mut(..count), self.piece.get(..count)) {
            out.copy_from_slice(piece);
        }
        self.piece.advance(count);
        Ok(count)
    }
}

fn told(error: object_store::Error) -> io::Error {
    use object_store::Error::{NotFound, PermissionDenied, Unauthenticated};
    let text = error.to_string();
    if matches!(error, NotFound { .. }) || text.contains(LISTING_ABSENT) {
        return io::Error::new(io::ErrorKind::NotFound, BucketError::NotThere);
    }
    if matches!(error, PermissionDenied { .. } | Unauthenticated { .. }) || text.contains(LISTING_DENIED) {
        return io::Error::new(io::ErrorKind::PermissionDenied, BucketError::Denied);
    }
    io::Error::other(BucketError::Failed(one_line(&text)))
}

/// What the library says, causes included; a service may have put pages of text into it.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|character| if character.is_control() { ' ' } else { character })
        .take(MOST_SAID)
        .collect()
}
