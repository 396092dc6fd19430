//! `portreeve sessions`: live sessions of the gateway that runs here.
//!
//! Asks on the control socket; what is watched is read by `logs`. What users wrote reaches the terminal without control characters.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde::Serialize;
use tokio::time::timeout;

use super::logs::{self, Live, WatchArgs};
use super::{StateDirArg, print, runtime};
use crate::admin::{Answer, Question, SessionView};
use crate::app::Request;
use crate::control::Peer;

/// Longest reason, in bytes: with the words before it, as much as OpenSSH shows of a disconnect.
const REASON: usize = 300;

/// How long the gateway may take for all of its answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

const DRAINING: &str = "Sessions that an older gateway keeps after a takeover are not among them: only the gateway in charge is asked.";

const WATCHING: &str = "\
Examples:
  portreeve sessions watch 7f3a --key recipient

What the terminal has shown so far comes at once, then what it shows, up to half a second later than there. The session
does not notice. q or Ctrl-C leaves it.

The gateway gives no plaintext: the sealed files are read and decrypted here, so the key is on this machine meanwhile.";

const NO_ANSWER: &str =
    "the gateway does not answer: it does so for its own user and root, unless it is just ending";

/// What `end` prints for machines.
#[derive(Debug, Serialize)]
struct Ended {
    ended: String,
}

/// Lists, shows, watches and ends live sessions.
#[derive(Debug, Subcommand)]
pub(super) enum SessionsCommand {
    /// List live sessions
    #[command(after_help = DRAINING)]
    Ls {
        #[command(flatten)]
        state: StateDirArg,
    },
    /// Show one live session
    #[command(after_help = DRAINING)]
    Show {
        /// The session's id, or the start of it
        id: String,
        #[command(flatten)]
        state: StateDirArg,
    },
    /// Mirror a terminal of a live session in this one, with the recipient's private key
    #[command(after_help = WATCHING)]
    Watch {
        /// The session's id, or the start of it
        id: String,
        #[command(flatten)]
        watch: WatchArgs,
        #[command(flatten)]
        state: StateDirArg,
    },
    /// End a live session; the user reads the reason, and the access log names who ended it
    #[command(after_help = DRAINING)]
    End {
        /// The session's id, or the start of it
        id: String,
        /// What the user reads
        #[arg(long, value_name = "TEXT", default_value = "no reason was given")]
        reason: String,
        #[command(flatten)]
        state: StateDirArg,
    },
}

impl SessionsCommand {
    pub(super) fn run(self, json: bool) -> anyhow::Result<ExitCode> {
        let runtime = runtime()?;
        let within = |asked| runtime.block_on(async { timeout(ANSWER_LIMIT, asked).await });
        let live = within(self.ask(json)).context("the gateway that runs does not answer")??;
        live.map_or(Ok(ExitCode::SUCCESS), |(live, args)| logs::watch(&live, &args, json))
    }

    /// Asks, and prints the answer; what is to be watched after it.
    async fn ask(self, json: bool) -> anyhow::Result<Option<(Live, WatchArgs)>> {
        match self {
            Self::Ls { state } => {
                let sessions = list(&state).await?;
                if !json {
                    print::line(HEAD)?;
                }
                for session in &sessions {
                    if json { print::json(session)? } else { print::line(&row(session))? }
                }
            }
            Self::Show { id, state } => {
                let session = find(&state, &id).await?;
                if json { print::json(&session)? } else { print::line(&details(&session))? }
            }
            Self::Watch { id, watch, state } => return Ok(Some((live(&state, &id).await?, watch))),
            Self::End { id, reason, state } => {
                if reason.len() > REASON {
                    bail!("the reason has more than {REASON} bytes");
                }
                let session = find(&state, &id).await?.session;
                end(&state, &session, reason).await?;
                let ended = Ended { ended: session };
                if json { print::json(&ended)? } else { print::line(&format!("ended {}", ended.ended))? }
            }
        }
        Ok(None)
    }
}

/// A session that can be watched.
async fn live(state: &StateDirArg, id: &str) -> anyhow::Result<Live> {
    let SessionView { session, directory, .. } = find(state, id).await?;
    let Some(directory) = directory else { bail!("the session {session} goes on without a recording") };
    let gateway = Peer::connect(&state.state_dir).await?;
    Ok(Live { directory, writer: gateway.and_then(|gateway| gateway.pid()) })
}

async fn ask(state: &StateDirArg, question: Question) -> anyhow::Result<Peer> {
    let Some(mut peer) = Peer::connect(&state.state_dir).await? else {
        bail!("no gateway runs with the state directory {}", state.state_dir.display());
    };
    peer.send(&Request::Sessions(question)).await.context(NO_ANSWER)?;
    Ok(peer)
}

async fn list(state: &StateDirArg) -> anyhow::Result<Vec<SessionView>> {
    let mut peer = ask(state, Question::List).await?;
    let mut sessions = Vec::new();
    loop {
        match peer.receive().await.context(NO_ANSWER)? {
            Some(Answer::Session(session)) => sessions.push(*session),
            Some(Answer::Done) => break,
            Some(Answer::Gone) | None => bail!(NO_ANSWER),
        }
    }
    sessions.sort_by(|a, b| (&a.since, &a.session).cmp(&(&b.since, &b.session)));
    Ok(sessions)
}

async fn end(state: &StateDirArg, session: &str, reason: String) -> anyhow::Result<()> {
    let mut peer = ask(state, Question::End { session: session.to_owned(), reason }).await?;
    match peer.receive().await.context(NO_ANSWER)? {
        Some(Answer::Done) => Ok(()),
        Some(Answer::Gone) => bail!("the session {session} has just ended by itself"),
        Some(Answer::Session(_)) | None => bail!(NO_ANSWER),
    }
}

/// The one session whose id begins so.
async fn find(state: &StateDirArg, id: &str) -> anyhow::Result<SessionView> {
    let mut found = list(state).await?;
    found.retain(|session| session.session.starts_with(id));
    match (found.pop(), found.len()) {
        (Some(session), 0) if !id.is_empty() => Ok(session),
        (Some(_), others) => bail!("{} sessions begin with {id:?}: write more of the id", others + 1),
        (None, _) => bail!("no live session begins with {id:?}: `portreeve sessions ls` shows them"),
    }
}

const HEAD: &str = "SESSION                               SINCE (UTC)          USER                      LOGIN@HOST                CHAN        UP      DOWN  COMMAND";

fn row(session: &SessionView) -> String {
    let SessionView { user, login, hostname, client_bytes, target_bytes, .. } = session;
    let since = session.since.get(..19).unwrap_or(&session.since).replace('T', " ");
    let command = session.command.as_deref().unwrap_or("-");
    let row = format!(
        "{:<37} {since:<20} {user:<25} {:<25} {:>4} {client_bytes:>9} {target_bytes:>9}  {command}",
        session.session,
        format!("{login}@{hostname}"),
        session.channels
    );
    print::without_controls(&row)
}

fn details(session: &SessionView) -> String {
    let lines = [
        ("session", session.session.clone()),
        ("user", session.user.clone()),
        ("from", session.client.clone()),
        ("login", session.login.clone()),
        ("target", format!("{} ({})", session.hostname, session.target)),
        ("since", session.since.clone()),
        ("channels", session.channels.to_string()),
        (
            "bytes",
            format!("{} from the user, {} from the target", session.client_bytes, session.target_bytes),
        ),
        (
            "recording",
            session.directory.as_ref().map_or_else(|| "-".to_owned(), |path| path.display().to_string()),
        ),
        ("command", session.command.clone().unwrap_or_else(|| "-".to_owned())),
    ];
    let lines = lines.map(|(name, text)| format!("{name:<10}{}", print::without_controls(&text)));
    lines.join("\n")
}
