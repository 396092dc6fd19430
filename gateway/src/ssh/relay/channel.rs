//! One channel from its confirmation to its close.
//!
//! Two loops, one for each direction, each passing messages on in the order they came; the first that
//! meets a close, or a side that is gone, ends the pair. Bytes are counted and, on session channels,
//! shown to the observer before they are passed on.
//!
//! The target's EOF on a session channel is held back until the exit status or the close has come, as
//! OpenSSH's client closes once both directions are at EOF and russh would then drop the status. While
//! the client has not sent EOF itself it cannot close for that reason, so the hold is short then.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use portreeve_core::record::{ChannelNumber, Exit, RecordEvent, Source, Text};
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Error, Sig, client, server};
use thiserror::Error as ThisError;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::super::asked::{Answer, AskedRequest};
use super::super::observe::{ObserverFailed, SessionObserver};
use super::state::State;

/// How long the target's EOF waits for an exit status while the client may still send.
const EOF_HOLD: Duration = Duration::from_millis(200);

/// A channel that is open on both sides.
pub(super) struct Pair {
    ends: Ends,
    from_client: ChannelReadHalf,
    from_target: ChannelReadHalf,
}

/// What both directions need.
pub(super) struct Ends {
    pub(super) number: ChannelNumber,
    is_session: bool,
    to_client: ChannelWriteHalf<server::Msg>,
    pub(super) to_target: ChannelWriteHalf<client::Msg>,
    client_bytes: AtomicU64,
    target_bytes: AtomicU64,
    client_at_eof: AtomicBool,
}

/// What became of the target's EOF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TargetEof {
    /// None came.
    NotSeen,
    /// One came and waits for the exit status.
    Held,
    /// It needs no holding.
    Free,
}

/// Why a direction stopped early.
#[derive(Debug, ThisError)]
pub(super) enum Stopped {
    #[error(transparent)]
    Observer(#[from] ObserverFailed),
    #[error("a side is gone")]
    SideGone(#[from] Error),
}

impl Pair {
    pub(super) fn new(
        number: ChannelNumber,
        is_session: bool,
        at_client: Channel<server::Msg>,
        at_target: Channel<client::Msg>,
    ) -> Self {
        let (from_client, to_client) = at_client.split();
        let (from_target, to_target) = at_target.split();
        let ends = Ends {
            number,
            is_session,
            to_client,
            to_target,
            client_bytes: AtomicU64::new(0),
            target_bytes: AtomicU64::new(0),
            client_at_eof: AtomicBool::new(false),
        };
        Self { ends, from_client, from_target }
    }

    /// Relays until a side closes the channel or the relay stops.
    pub(super) async fn run<O: SessionObserver>(
        mut self,
        state: &State<O>,
        requests: Option<mpsc::Receiver<AskedRequest>>,
    ) -> Result<(), ObserverFailed> {
        let ends = &self.ends;
        // The user's side asks one thing at a time.
        let (asked, unanswered) = mpsc::channel(1);
        let outwards = ends.client_to_target(state, &mut self.from_client, Asking { requests, asked });
        let inwards = ends.target_to_client(state, &mut self.from_target, unanswered);
        let ended = tokio::select! {
            ended = outwards => ended,
            ended = inwards => ended,
            () = state.stopped() => Ok(()),
        };
        let closed = state.tell(RecordEvent::ChannelClosed {
            channel: ends.number,
            client_bytes: ends.client_bytes.load(Ordering::Relaxed),
            target_bytes: ends.target_bytes.load(Ordering::Relaxed),
        });
        match ended {
            Err(Stopped::Observer(failed)) => Err(failed),
            Ok(()) | Err(Stopped::SideGone(_)) => closed.await,
        }
    }
}

/// Where the client's requests come from, and where those go that the target has yet to answer.
struct Asking {
    requests: Option<mpsc::Receiver<AskedRequest>>,
    asked: mpsc::Sender<Answer>,
}

impl Asking {
    async fn next(&mut self) -> Option<AskedRequest> {
        match &mut self.requests {
            Some(requests) => requests.recv().await,
            None => None,
        }
    }
}

impl Ends {
    async fn client_to_target<O: SessionObserver>(
        &self,
        state: &State<O>,
        from_client: &mut ChannelReadHalf,
        mut asking: Asking,
    ) -> Result<(), Stopped> {
        loop {
            tokio::select! {
                biased;
                Some(asked) = asking.next() => self.ask_target(state, asked, &asking.asked).await?,
                message = from_client.wait() => {
                    if !self.pass_to_target(state, message).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Passes one message on; false when it was the last.
    async fn pass_to_target<O: SessionObserver>(
        &self,
        state: &State<O>,
        message: Option<ChannelMsg>,
    ) -> Result<bool, Stopped> {
        match message {
            Some(ChannelMsg::Data { data }) => {
                self.see_data(state, Source::Client, 0, &data).await?;
                self.to_target.data_bytes(data).await?;
            }
            Some(ChannelMsg::ExtendedData { data, ext }) => {
                self.see_data(state, Source::Client, ext, &data).await?;
                self.to_target.extended_data_bytes(ext, data).await?;
            }
            Some(ChannelMsg::Eof) => {
                self.client_at_eof.store(true, Ordering::Relaxed);
                self.to_target.eof().await?;
            }
            Some(ChannelMsg::WindowChange { col_width, row_height, pix_width, pix_height }) => {
                let channel = self.number;
                let event = RecordEvent::WindowChange { channel, width: col_width, height: row_height };
                if state.allows(event).await? {
                    self.to_target.window_change(col_width, row_height, pix_width, pix_height).await?;
                }
            }
            Some(ChannelMsg::Signal { signal }) => {
                let name = Text(name_of(&signal).into_owned().into_bytes());
                if state.allows(RecordEvent::Signal { channel: self.number, name }).await? {
                    self.to_target.signal(signal).await?;
                }
            }
            Some(ChannelMsg::Close) | None => {
                self.to_target.close().await?;
                return Ok(false);
            }
            // Notices of window adjustments, and requests, which come by way of `Asking`.
            Some(_) => {}
        }
        Ok(true)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the library's type holds both sides' messages")]
    async fn target_to_client<O: SessionObserver>(
        &self,
        state: &State<O>,
        from_target: &mut ChannelReadHalf,
        mut unanswered: mpsc::Receiver<Answer>,
    ) -> Result<(), Stopped> {
        let mut eof = TargetEof::NotSeen;
        // A lost target closes no channel: the user is to read why the whole connection ends.
        while let Some(message) = self.next_from_target(from_target, &mut eof).await? {
            match message {
                ChannelMsg::Eof if self.is_session && eof == TargetEof::NotSeen => eof = TargetEof::Held,
                ChannelMsg::Eof => self.to_client.eof().await?,
                ChannelMsg::Success => answer(&mut unanswered, true),
                ChannelMsg::Failure => answer(&mut unanswered, false),
                ChannelMsg::Close => {
                    self.release_eof(&mut eof).await?;
                    self.to_client.close().await?;
                    break;
                }
                ChannelMsg::ExitStatus { exit_status } => {
                    self.see_exit(state, Exit::Status(exit_status)).await?;
                    self.to_client.exit_status(exit_status).await?;
                    self.release_eof(&mut eof).await?;
                }
                ChannelMsg::ExitSignal { .. } => {
                    self.pass_exit_signal(state, message).await?;
                    self.release_eof(&mut eof).await?;
                }
                other => self.pass_to_client(state, other).await?,
            }
        }
        Ok(())
    }

    /// The target's next message, `None` when it is gone; lets a held EOF go meanwhile.
    async fn next_from_target(
        &self,
        from_target: &mut ChannelReadHalf,
        eof: &mut TargetEof,
    ) -> Result<Option<ChannelMsg>, Stopped> {
        let client_may_close = || self.client_at_eof.load(Ordering::Relaxed);
        while *eof == TargetEof::Held && !client_may_close() {
            if let Ok(message) = timeout(EOF_HOLD, from_target.wait()).await {
                return Ok(message);
            }
            if !client_may_close() {
                self.release_eof(eof).await?;
            }
        }
        Ok(from_target.wait().await)
    }

    /// Passes a held EOF on; one that comes later will not be held.
    async fn release_eof(&self, eof: &mut TargetEof) -> Result<(), Stopped> {
        if std::mem::replace(eof, TargetEof::Free) == TargetEof::Held {
            self.to_client.eof().await?;
        }
        Ok(())
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the library's type holds both sides' messages")]
    async fn pass_to_client<O: SessionObserver>(
        &self,
        state: &State<O>,
        message: ChannelMsg,
    ) -> Result<(), Stopped> {
        match message {
            ChannelMsg::Data { data } => {
                self.see_data(state, Source::Target, 0, &data).await?;
                self.to_client.data_bytes(data).await?;
            }
            ChannelMsg::ExtendedData { data, ext } => {
                self.see_data(state, Source::Target, ext, &data).await?;
                self.to_client.extended_data_bytes(ext, data).await?;
            }
            ChannelMsg::XonXoff { client_can_do } => {
                let id = self.to_client.id();
                state.down.xon_xoff_request(id, client_can_do).await.map_err(|()| Error::SendError)?;
            }
            // Notices of window adjustments; everything else is sent by clients only.
            _ => {}
        }
        Ok(())
    }

    async fn pass_exit_signal<O: SessionObserver>(
        &self,
        state: &State<O>,
        message: ChannelMsg,
    ) -> Result<(), Stopped> {
        let ChannelMsg::ExitSignal { signal_name: signal, core_dumped, error_message, lang_tag } = message
        else {
            return Ok(());
        };
        let exit = Exit::Signal {
            signal: Text(name_of(&signal).into_owned().into_bytes()),
            core_dumped,
            error_msg: error_message.as_str().into(),
        };
        self.see_exit(state, exit).await?;
        let id = self.to_client.id();
        let passed = state.down.exit_signal_request(id, signal, core_dumped, error_message, lang_tag);
        passed.await.map_err(|()| Stopped::SideGone(Error::SendError))
    }

    async fn see_exit<O: SessionObserver>(&self, state: &State<O>, exit: Exit) -> Result<(), Stopped> {
        Ok(state.tell(RecordEvent::Exit { channel: self.number, exit }).await?)
    }

    async fn see_data<O: SessionObserver>(
        &self,
        state: &State<O>,
        source: Source,
        code: u32,
        data: &[u8],
    ) -> Result<(), Stopped> {
        let (total, bytes) = match source {
            Source::Client => (&self.client_bytes, data.len() as u64),
            Source::Target => (&self.target_bytes, data.len() as u64),
        };
        total.fetch_add(bytes, Ordering::Relaxed);
        state.count(source, bytes);
        if self.is_session {
            state.observer.data(self.number, source, code, data).await?;
        }
        Ok(())
    }
}

/// Gives the target's answer to the oldest request; one that nobody waits for is dropped.
fn answer(unanswered: &mut mpsc::Receiver<Answer>, success: bool) {
    if let Ok(answer) = unanswered.try_recv() {
        answer.send(success).ok();
    }
}

/// The name of a signal without SIG (RFC 4254 section 6.10).
fn name_of(signal: &Sig) -> Cow<'_, str> {
    match signal {
        Sig::Custom(name) => Cow::Borrowed(name),
        named @ (Sig::ABRT
        | Sig::ALRM
        | Sig::FPE
        | Sig::HUP
        | Sig::ILL
        | Sig::INT
        | Sig::KILL
        | Sig::PIPE
        | Sig::QUIT
        | Sig::SEGV
        | Sig::TERM
        | Sig::USR1) => Cow::Owned(format!("{named:?}")),
    }
}
