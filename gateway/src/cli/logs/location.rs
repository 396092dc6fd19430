//! Where recordings are read: below a directory of this machine, or in a bucket that they were shipped to.
//!
//! Nothing is written. In a bucket directories are what names have in common up to a `/`: an empty one is not there.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use nix::fcntl::OFlag;
use portreeve_core::config::shipping::{self, S3, StoreConfirm};

use crate::ship::Bucket;

/// Begins the address of a bucket.
const SCHEME: &str = "s3://";

/// How a bucket is reached.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct BucketArgs {
    /// File of credentials, as a [[ship]] of the gateway names one, where recordings are in a bucket (s3://BUCKET/PREFIX)
    #[arg(long, value_name = "FILE")]
    s3_credentials: Option<PathBuf>,
    /// Address of the service; without it, that of Amazon in the region
    #[arg(long, value_name = "URL")]
    s3_endpoint: Option<String>,
    /// Region of the bucket
    #[arg(long, value_name = "NAME", default_value = "us-east-1")]
    s3_region: String,
    /// Certificates (PEM) that the service is trusted by, beside those of the system
    #[arg(long, value_name = "FILE")]
    s3_ca_file: Option<PathBuf>,
    /// Lets the endpoint begin with http://
    #[arg(long)]
    s3_allow_http: bool,
}

/// A file or directory.
#[derive(Clone)]
pub(super) struct Location {
    /// Absent: of this machine.
    bucket: Option<Remote>,
    path: PathBuf,
}

#[derive(Clone)]
struct Remote {
    bucket: Arc<Bucket>,
    name: Arc<str>,
}

/// Something in a directory.
pub(super) struct Entry {
    pub(super) name: OsString,
    pub(super) kind: Kind,
}

/// What it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    /// A regular file of so many bytes.
    File(u64),
    Other,
}

impl BucketArgs {
    /// What an argument means.
    pub(super) fn locate(&self, argument: &Path) -> anyhow::Result<Location> {
        let Some(address) = argument.to_str().and_then(|text| text.strip_prefix(SCHEME)) else {
            return Ok(Location::local(argument));
        };
        let (bucket, prefix) = address.split_once('/').unwrap_or((address, ""));
        if bucket.is_empty() {
            bail!("{} names no bucket: write {SCHEME}BUCKET/PREFIX", argument.display());
        }
        let Some(credentials_file) = self.s3_credentials.clone() else {
            bail!("--s3-credentials is needed to read {}", argument.display());
        };
        let endpoint = self.s3_endpoint.as_deref();
        let endpoint = endpoint.map(|text| shipping::url(text, self.s3_allow_http, "give --s3-allow-http"));
        let s3 = S3 {
            endpoint: endpoint.transpose().map_err(anyhow::Error::msg)?,
            allow_http: self.s3_allow_http,
            bucket: bucket.to_owned(),
            prefix: String::new(),
            region: self.s3_region.clone(),
            credentials_file,
            ca_file: self.s3_ca_file.clone(),
            confirm: StoreConfirm::Checksum,
        };
        let opened = Bucket::open(&s3).with_context(|| format!("cannot read {}", argument.display()))?;
        let remote = Remote { bucket: Arc::new(opened), name: bucket.into() };
        Ok(Location { bucket: Some(remote), path: prefix.trim_matches('/').into() })
    }
}

impl Location {
    /// A path of this machine.
    pub(super) fn local(path: &Path) -> Self {
        Self { bucket: None, path: path.to_owned() }
    }

    pub(super) const fn is_remote(&self) -> bool {
        self.bucket.is_some()
    }

    pub(super) fn join(&self, name: impl AsRef<Path>) -> Self {
        Self { bucket: self.bucket.clone(), path: self.path.join(name) }
    }

    /// The path of this machine, or in the bucket.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file_name(&self) -> Option<&OsStr> {
        self.path.file_name()
    }

    /// What it is in; itself where it is in nothing.
    pub(super) fn parent(&self) -> Self {
        let path = self.path.parent().unwrap_or(&self.path).to_owned();
        Self { bucket: self.bucket.clone(), path }
    }

    /// The same without `.` and links; in a bucket there are none.
    pub(super) fn canonical(&self) -> io::Result<Self> {
        let path = if self.is_remote() { self.path.clone() } else { fs::canonicalize(&self.path)? };
        Ok(Self { bucket: self.bucket.clone(), path })
    }

    /// Whether it is a directory.
    pub(super) fn is_dir(&self) -> io::Result<bool> {
        match &self.bucket {
            None => Ok(fs::metadata(&self.path)?.is_dir()),
            Some(_) if self.path.as_os_str().is_empty() => Ok(true),
            Some(remote) if remote.bucket.has_directory(&self.key())? => Ok(true),
            Some(remote) => remote.bucket.file(&self.key()).map(|_| false),
        }
    }

    /// Whether anything is there; in a bucket, a file.
    pub(super) fn exists(&self) -> io::Result<bool> {
        match &self.bucket {
            None => self.path.try_exists(),
            Some(remote) => match remote.bucket.file(&self.key()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                file => file.map(|_| true),
            },
        }
    }

    /// Opens a file.
    pub(super) fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        self.open_with(|path| File::open(path))
    }

    /// Opens a regular file, to which no link leads: somebody else may have filled the directory, and a pipe or a
    /// device must not stop who reads.
    pub(super) fn open_regular(&self) -> io::Result<Box<dyn Read + Send>> {
        self.open_with(open_regular)
    }

    fn open_with(&self, open: impl FnOnce(&Path) -> io::Result<File>) -> io::Result<Box<dyn Read + Send>> {
        Ok(match &self.bucket {
            None => Box::new(open(&self.path)?),
            Some(remote) => Box::new(remote.bucket.file(&self.key())?),
        })
    }

    /// What is in a directory.
    pub(super) fn entries(&self) -> io::Result<Vec<Entry>> {
        let Some(remote) = &self.bucket else { return local_entries(&self.path) };
        let entries = remote.bucket.list(&self.key())?.into_iter().map(|entry| Entry {
            name: entry.name.into(),
            kind: entry.size.map_or(Kind::Directory, Kind::File),
        });
        Ok(entries.collect())
    }

    /// The path of this machine, or the address in the bucket.
    pub(super) fn to_path(&self) -> PathBuf {
        if self.is_remote() { self.to_string().into() } else { self.path.clone() }
    }

    /// For people.
    pub(super) const fn display(&self) -> &Self {
        self
    }

    fn key(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.bucket {
            None => self.path.display().fmt(f),
            Some(remote) => write!(f, "{SCHEME}{}/{}", remote.name, self.path.display()),
        }
    }
}

/// Opens a regular file of this machine, to which no link leads.
pub(super) fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
}

fn local_entries(path: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let kind = if kind.is_dir() {
            Kind::Directory
        } else if kind.is_file() {
            // One that has gone meanwhile is told by who opens it.
            Kind::File(entry.metadata().map_or(0, |metadata| metadata.len()))
        } else {
            Kind::Other
        };
        entries.push(Entry { name: entry.file_name(), kind });
    }
    Ok(entries)
}
