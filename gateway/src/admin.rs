//! Live sessions for those who run the gateway: listing and ending them, on the control socket.
//!
//! Owns what is asked and answered, in lines of JSON, and its own view of a session. Who may ask is the socket's. The
//! gateway in charge answers; it knows nothing of the sessions of one that drains after a takeover.

use std::io;
use std::path::PathBuf;

use portreeve_core::utc::UtcTime;
use serde::{Deserialize, Serialize};

use crate::control::Peer;
use crate::session::registry::{End, LiveSession, Registry};

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Question {
    /// Which sessions there are.
    List,
    /// To end one.
    End {
        /// Its whole id.
        session: String,
        /// What the user reads.
        reason: String,
    },
}

/// What is answered: each session, then [`Answer::Done`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// A session that lives.
    Session(Box<SessionView>),
    /// That is all, or it is done.
    Done,
    /// There is no such session any more.
    Gone,
}

/// A live session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionView {
    /// Its id.
    pub session: String,
    /// E-mail of the user.
    pub user: String,
    /// Unix account on the target.
    pub login: String,
    /// The user's address and port.
    pub client: String,
    /// The target's address and port.
    pub target: String,
    /// Hostname of the target in the policy.
    pub hostname: String,
    /// When it was granted, RFC 3339 in UTC.
    pub since: String,
    /// Channels that are open.
    pub channels: usize,
    /// The last command, as far as policy lets it be recorded.
    pub command: Option<String>,
    /// Bytes from the user's side.
    pub client_bytes: u64,
    /// Bytes from the target's side.
    pub target_bytes: u64,
    /// Where its recording is written, if there is one.
    #[serde(default)]
    pub directory: Option<PathBuf>,
}

/// Answers a peer.
///
/// # Errors
/// When it is gone.
pub async fn answer(peer: &mut Peer, registry: &Registry, question: Question) -> io::Result<()> {
    match question {
        Question::List => {
            for session in registry.sessions() {
                peer.send(&Answer::Session(Box::new(session.into()))).await?;
            }
            peer.send(&Answer::Done).await
        }
        Question::End { session, reason } => {
            let ended = registry.end(&session, End::ByOperator { uid: peer.uid(), reason });
            tracing::info!(session, ended, uid = peer.uid(), pid = peer.pid(), "asked to end a session");
            peer.send(if ended { &Answer::Done } else { &Answer::Gone }).await
        }
    }
}

impl From<LiveSession> for SessionView {
    fn from(session: LiveSession) -> Self {
        let LiveSession { id, basis, since, directory, activity } = session;
        Self {
            session: id.to_string(),
            user: basis.identity.email.to_string(),
            login: basis.grant.login().to_string(),
            client: basis.flow.client.to_string(),
            target: basis.flow.original_dst.to_string(),
            hostname: basis.grant.target().hostname.to_string(),
            since: UtcTime::from(since).to_string(),
            channels: activity.channels,
            command: activity.command,
            client_bytes: activity.client_bytes,
            target_bytes: activity.target_bytes,
            // The configuration may name the spool from where the gateway was started.
            directory: directory.and_then(|path| std::path::absolute(path).ok()),
        }
    }
}
