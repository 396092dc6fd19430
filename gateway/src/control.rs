//! The control socket: how a process on this machine talks to the gateway in charge.
//!
//! A unix stream socket, `control.sock` in the state directory, mode 0600. Each side sends lines of
//! JSON and looks who the other is: only a process of the same user, or root, is answered. What the
//! lines say is for those who talk.
//!
//! Invariant: the path leads to the gateway in charge. A gateway binds under a name of its own, and
//! takes the path in one step when it is in charge. A path that leads nowhere was left by a crash.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

const NAME: &str = "control.sock";

/// Longest line, in bytes.
const MAX_LINE: u64 = 4096;

/// How long accepting pauses after an error that is no peer's.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Why the socket cannot be used.
#[derive(Debug, Error)]
pub enum ControlError {
    /// The operating system refused.
    #[error("cannot {action} the control socket {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The socket's path.
        path: PathBuf,
        /// The reason; "path must be shorter" where the state directory's name is too long (unix(7)).
        source: io::Error,
    },
    /// Another user's process answers.
    #[error("{path} is served by another user (uid {uid}): nothing is said to it")]
    Stranger {
        /// The socket's path.
        path: PathBuf,
        /// Whose process it is.
        uid: u32,
    },
}

/// The gateway's side. Dropping it ends the listening.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    /// The name until it is published, to be removed.
    unpublished: Option<PathBuf>,
    path: PathBuf,
}

/// A process at the other end.
#[derive(Debug)]
pub struct Peer {
    stream: BufReader<UnixStream>,
    pid: Option<i32>,
    uid: u32,
}

impl Control {
    /// Listens under a name that nobody asks for yet.
    ///
    /// # Errors
    /// [`ControlError::Io`].
    pub fn bind(state_dir: &Path) -> Result<Self, ControlError> {
        let path = state_dir.join(NAME);
        let own = state_dir.join(format!("{NAME}.{}", std::process::id()));
        let failed = |action| move |source| ControlError::Io { action, path: path_in(state_dir), source };
        remove(&own).map_err(failed("replace"))?;
        let listener = UnixListener::bind(&own).map_err(failed("bind"))?;
        fs::set_permissions(&own, Permissions::from_mode(0o600)).map_err(failed("protect"))?;
        Ok(Self { listener, unpublished: Some(own), path })
    }

    /// Takes the path: from now on this gateway is the one that is asked.
    ///
    /// # Errors
    /// [`ControlError::Io`].
    pub fn publish(&mut self) -> Result<(), ControlError> {
        if let Some(own) = &self.unpublished {
            fs::rename(own, &self.path).map_err(|source| ControlError::Io {
                action: "publish",
                path: self.path.clone(),
                source,
            })?;
            self.unpublished = None;
        }
        Ok(())
    }

    /// The next peer that may ask.
    pub async fn accept(&self) -> Peer {
        loop {
            match self.listener.accept().await.and_then(|(stream, _)| Peer::of(stream)) {
                Ok((peer, uid)) if is_ours(uid) => return peer,
                Ok((peer, uid)) => tracing::warn!(uid, pid = peer.pid, "refused on the control socket"),
                Err(error) => {
                    tracing::warn!(%error, "the control socket");
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(own) = &self.unpublished
            && let Err(error) = remove(own)
        {
            tracing::warn!(path = %own.display(), %error, "an unused control socket stays");
        }
    }
}

/// Removes the path at the orderly end of the gateway in charge.
///
/// # Errors
/// [`ControlError::Io`].
pub fn withdraw(state_dir: &Path) -> Result<(), ControlError> {
    remove(&path_in(state_dir)).map_err(|source| ControlError::Io {
        action: "remove",
        path: path_in(state_dir),
        source,
    })
}

impl Peer {
    /// Connects to the gateway in charge; `None` where there is none.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn connect(state_dir: &Path) -> Result<Option<Self>, ControlError> {
        let path = path_in(state_dir);
        let connected = match UnixStream::connect(&path).await {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                return Ok(None);
            }
            connected => connected.and_then(Self::of),
        };
        match connected {
            Ok((peer, uid)) if is_ours(uid) => Ok(Some(peer)),
            Ok((_, uid)) => Err(ControlError::Stranger { path, uid }),
            Err(source) => Err(ControlError::Io { action: "connect to", path, source }),
        }
    }

    fn of(stream: UnixStream) -> io::Result<(Self, u32)> {
        let credentials = stream.peer_cred()?;
        Ok((
            Self { stream: BufReader::new(stream), pid: credentials.pid(), uid: credentials.uid() },
            credentials.uid(),
        ))
    }

    /// The peer's process; of a gateway the one that bound the socket.
    pub const fn pid(&self) -> Option<i32> {
        self.pid
    }

    /// Whose process the peer is.
    pub const fn uid(&self) -> u32 {
        self.uid
    }

    /// Sends a line.
    ///
    /// # Errors
    /// When the peer is gone.
    pub async fn send(&mut self, message: &(impl Serialize + Sync)) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.stream.write_all(&line).await
    }

    /// The peer's next line; `None` when it has closed or died. Dropping the future may lose a part of
    /// a line.
    ///
    /// # Errors
    /// When the line is too long or says something else.
    pub async fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let mut line = Vec::new();
        (&mut self.stream).take(MAX_LINE).read_until(b'\n', &mut line).await?;
        match line.strip_suffix(b"\n") {
            Some(line) => Ok(Some(serde_json::from_slice(line)?)),
            None if line.is_empty() => Ok(None),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

fn path_in(state_dir: &Path) -> PathBuf {
    state_dir.join(NAME)
}

fn is_ours(uid: u32) -> bool {
    uid == 0 || uid == nix::unistd::geteuid().as_raw()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_path_leads_to_who_published_last() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Peer::connect(dir.path()).await.unwrap().is_none(), "nobody yet");
        let mut old = Control::bind(dir.path()).unwrap();
        assert!(Peer::connect(dir.path()).await.unwrap().is_none(), "not published");
        old.publish().unwrap();
        let mode = fs::metadata(dir.path().join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mut new = Control::bind(dir.path()).unwrap();
        new.publish().unwrap();
        drop(old);
        let mut asking = Peer::connect(dir.path()).await.unwrap().unwrap();
        assert_eq!(asking.pid(), i32::try_from(std::process::id()).ok());
        let mut asked = new.accept().await;
        asking.send(&"who").await.unwrap();
        assert_eq!(asked.receive::<String>().await.unwrap().as_deref(), Some("who"));
        drop(asking);
        assert_eq!(asked.receive::<String>().await.unwrap(), None);
        drop(new);
        assert!(Peer::connect(dir.path()).await.unwrap().is_none(), "the path leads nowhere");
        withdraw(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn half_a_line_and_a_long_one_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let mut control = Control::bind(dir.path()).unwrap();
        control.publish().unwrap();
        for bytes in [&b"\"half"[..], &[b'"'; 5000]] {
            let mut asking = Peer::connect(dir.path()).await.unwrap().unwrap();
            let mut asked = control.accept().await;
            asking.stream.write_all(bytes).await.unwrap();
            drop(asking);
            asked.receive::<String>().await.unwrap_err();
        }
    }
}
