//! One direction of a session: reads, looks, forwards.
//!
//! Invariants: messages leave in the order they came; a message is looked at once, and only when the
//! receiving side takes it: until then it stays where it was read, and nothing more is read. What the
//! sending side is answered with (replies to pings, refusals) is bounded by the same rule. While a side
//! exchanges keys only what is due to that side waits; its own messages of the exchange come by
//! themselves. A keep-alive that waits so is answered in place of that side, so that the sender does not
//! give up; a few only, as a side that never ends its exchange is gone.

use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};

use portreeve_core::infrastructure::SshPermissions;
use portreeve_core::record::RecordEvent;
use portreeve_ssh::message;
use portreeve_ssh::relay::{
    Channel, ChannelId, Dismissal, OpenKind, Relay, Request, Seen, Side, refused_open, refused_request,
    window_adjust,
};
use portreeve_ssh::text::TerminalText;
use portreeve_ssh::transport::{Event, Transport};

use super::events;
use super::gates::Gates;
use super::guards::{self, Guards, Passage};
use super::inner::InnerChannels;
use super::judge::{Fate, Judged, judge};
use super::watching::{Watching, watch, watch_data};
use super::windows::HeldWindows;
use crate::ssh::fault::ProtocolFault;
use crate::ssh::host_keys::HostKeyLearner;
use crate::ssh::link::{Link, PeerEnd};
use crate::ssh::observe::{Decision, NOT_GRANTED, ObserverFailed, SessionObserver};

/// Bytes that may wait to be written to a side before no more is read for it.
const HIGH_WATER: usize = 256 * 1024;
/// Bytes that may wait to be written to a side that makes us answer it; above what relayed messages
/// alone can reach, so that the two directions do not wait for each other.
const ANSWERS_HIGH_WATER: usize = 1024 * 1024;

/// Keep-alives that are answered in place of a side while it exchanges keys, as many as OpenSSH leaves
/// unanswered before it gives up (`ServerAliveCountMax`, `ClientAliveCountMax`).
const ANSWERED_KEEP_ALIVES: u32 = 3;

/// Why a direction cannot go on.
#[derive(Debug)]
pub(super) enum Halt {
    /// The side that sends has ended.
    Sender(PeerEnd),
    /// Nothing can be sent to the side that receives.
    Receiver(ProtocolFault),
    /// The observer failed.
    Observer(ObserverFailed),
}

/// What a direction works with.
pub(super) struct Lane<'a, O> {
    /// Who sends.
    pub(super) side: Side,
    pub(super) from: &'a mut Link,
    pub(super) to: &'a mut Link,
    pub(super) channels: &'a mut Relay,
    pub(super) permissions: SshPermissions,
    pub(super) learner: &'a mut HostKeyLearner,
    pub(super) guards: &'a mut Guards,
    pub(super) gates: &'a mut Gates,
    pub(super) inner: &'a mut InnerChannels,
    pub(super) observer: &'a Arc<O>,
    pub(super) closed_bytes: &'a mut (u64, u64),
}

/// How far a direction is.
#[derive(Default)]
pub(super) struct Pump {
    /// A message that the receiving side could not take yet, where the transport holds it.
    stalled: Option<Range<usize>>,
    /// A message that the observer has not answered for yet.
    watched: Option<Watched>,
    /// Window for channels that the observer is behind with.
    held: HeldWindows,
    /// Keep-alives that were answered since the receiving side took something.
    answered: u32,
}

/// A message that the observer thinks about.
pub(super) struct Watched {
    message: Range<usize>,
    judged: Judged,
    watching: Watching,
    /// The channel that it asks for, or on which SSH begins.
    channel: Option<ChannelId>,
}

impl Pump {
    /// Carries all that is here and reads once; whether anything moved.
    pub(super) fn turn<O: SessionObserver>(
        &mut self,
        mut lane: Lane<'_, O>,
        cx: &mut Context<'_>,
    ) -> Result<bool, Halt> {
        let mut moved = lane.grant_held(&mut self.held, cx)?;
        let mut has_read = false;
        loop {
            if let Some(watched) = &mut self.watched {
                let Poll::Ready(answer) = watched.watching.as_mut().poll(cx) else { return Ok(moved) };
                let decision = answer.map_err(Halt::Observer)?;
                if let Some(watched) = self.watched.take() {
                    lane.decided(watched, decision)?;
                }
                moved = true;
            }
            let Some(message) = self.next_message(&mut lane)? else {
                if has_read || lane.from.transport.pending().len() >= ANSWERS_HIGH_WATER {
                    return Ok(moved);
                }
                match lane.from.poll_read(cx) {
                    Poll::Pending => return Ok(moved),
                    Poll::Ready(read) => read.map_err(Halt::Sender)?,
                }
                (moved, has_read) = (true, true);
                continue;
            };
            if let Some(channel) = lane.inner_channel(message.clone()) {
                self.watched = lane.take_inner(channel, message)?;
                moved = true;
                continue;
            }
            if !takes(&lane.to.transport) {
                if self.answered < ANSWERED_KEEP_ALIVES && lane.answer_keep_alive(message.clone())? {
                    self.answered += 1;
                    moved = true;
                    continue;
                }
                self.stalled = Some(message);
                return Ok(moved);
            }
            (moved, self.answered) = (true, 0);
            self.watched = lane.carry(message, &mut self.held, cx)?;
        }
    }

    /// Whether a message waits where it was read, so that the buffer must stay as it is.
    pub(super) const fn holds_message(&self) -> bool {
        self.stalled.is_some() || self.watched.is_some()
    }

    /// Waits until the observer has answered for the message that it was asked about.
    pub(super) async fn observed(self) {
        if let Some(watched) = self.watched {
            watched.watching.await.ok();
        }
    }

    /// The next message that is here, if any.
    fn next_message<O>(&mut self, lane: &mut Lane<'_, O>) -> Result<Option<Range<usize>>, Halt> {
        if let Some(stalled) = self.stalled.take() {
            return Ok(Some(stalled));
        }
        loop {
            match lane.from.transport.poll().map_err(|error| Halt::Sender(error.into()))? {
                None => return Ok(None),
                Some(Event::Message(range)) => return Ok(Some(range)),
                Some(Event::Disconnected { reason, text }) => {
                    return Err(Halt::Sender(PeerEnd::Disconnected { reason, text }));
                }
                Some(Event::Proposed | Event::KeysExchanged { .. }) => {}
            }
        }
    }
}

/// Whether a side takes a message now.
pub(super) fn takes(transport: &Transport) -> bool {
    transport.can_send() && transport.pending().len() < HIGH_WATER
}

impl<O: SessionObserver> Lane<'_, O> {
    /// Grants window that was held back while the observer was behind; whether any was.
    fn grant_held(&mut self, held: &mut HeldWindows, cx: &mut Context<'_>) -> Result<bool, Halt> {
        let mut granted = false;
        while takes(&self.to.transport) {
            let speaks = |channel| self.channels.speaks_on(self.side, channel);
            let Some((recipient, bytes)) = held.release(speaks, cx) else { break };
            forward(self.to, &window_adjust(recipient, bytes))?;
            granted = true;
        }
        Ok(granted)
    }

    /// Looks at a message and sends it on, unless the observer has to think about it.
    fn carry(
        &mut self,
        range: Range<usize>,
        held: &mut HeldWindows,
        cx: &mut Context<'_>,
    ) -> Result<Option<Watched>, Halt> {
        let payload: &[u8] = self.from.transport.payload(range.clone());
        match payload.first().copied().unwrap_or_default() {
            message::GLOBAL_REQUEST..=message::CHANNEL_FAILURE => {}
            // RFC 4252 section 5.1: after the success, further requests are ignored.
            message::USERAUTH_REQUEST..message::GLOBAL_REQUEST => return Ok(None),
            _ => {
                let told = self.from.transport.unimplemented();
                return told.map(|()| None).map_err(|error| Halt::Sender(error.into()));
            }
        }
        let seen = self.channels.see(self.side, payload).map_err(|error| Halt::Sender(error.into()))?;
        if let Seen::Window { channel, recipient, bytes } = seen {
            let granted = !is_recorded(self.channels, channel)
                || held.grant(self.observer, (channel, recipient, bytes), cx);
            return if granted { forward(self.to, payload) } else { Ok(None) };
        }
        if let Seen::Data { channel, code, data } = seen {
            if !is_recorded(self.channels, channel) {
                return match self.guards.see(self.side, channel, data) {
                    Passage::Open => forward(self.to, payload),
                    Passage::Closed => Ok(None),
                    Passage::Ssh => Ok(Some(self.watch(range, SSH, events::ssh_in_forward(channel)))),
                };
            }
            let watching = watch_data(self.observer, (channel, self.side, code), data, cx);
            return match watching.map_err(Halt::Observer)? {
                Some(watching) => Ok(Some(Watched { message: range, judged: TOLD, watching, channel: None })),
                None => self.pass(range).map(|()| None),
            };
        }
        if matches!(seen, Seen::Open { kind: OpenKind::Session, .. }) && self.channels.has_too_many_sessions()
        {
            return self.settle(range, Fate::RefuseOpen, NOT_GRANTED).map(|()| None);
        }
        if is_end_of_writing(&seen) && !is_openssh(&self.to.transport) {
            return self.settle(range, Fate::Conceal, NOT_GRANTED).map(|()| None);
        }
        if seen == Seen::Stray {
            return Ok(None);
        }
        if let Seen::Closed { channel } = &seen {
            count(self.closed_bytes, channel);
            self.guards.forget(channel.id);
            self.gates.forget(channel.id);
        }
        if self.side == Side::Downstream
            && !self.gates.admit(self.channels, &seen, self.permissions.file_transfer)
        {
            return self.settle(range, Fate::RefuseRequest, NOT_GRANTED).map(|()| None);
        }
        let proof = self.learner.see(self.side, &seen);
        let mut judged = judge(self.side, seen, self.permissions);
        if let Some(request) = proof {
            self.channels.ask(self.side);
            self.from.transport.send(&[&request]).map_err(|error| Halt::Sender(error.into()))?;
        }
        match judged.event.take() {
            Some(event) => Ok(Some(self.watch(range, judged, event))),
            None => self.settle(range, judged.fate, NOT_GRANTED).map(|()| None),
        }
    }

    /// Shows an event to the observer before anything becomes of its message.
    pub(super) fn watch(&self, message: Range<usize>, judged: Judged, event: RecordEvent) -> Watched {
        let channel = event.opened_channel().map(|channel| ChannelId(channel.0));
        Watched { message, judged, watching: watch(Arc::clone(self.observer), event), channel }
    }

    /// Does what the observer has decided.
    fn decided(&mut self, watched: Watched, decision: Decision) -> Result<(), Halt> {
        let Watched { message, judged, channel, .. } = watched;
        let fate = judged.after(&decision);
        match (decision, channel) {
            (Decision::Inspect(end), _) if self.side == Side::Downstream && judged.is_wanted_open() => {
                self.begin_inner(message, end)
            }
            (decision, channel) => {
                if let Some(channel) = channel {
                    self.guard(channel, fate, &decision);
                }
                self.settle(message, fate, decision.text().unwrap_or(NOT_GRANTED))
            }
        }
    }

    /// Does with a channel what was decided about it.
    fn guard(&mut self, channel: ChannelId, fate: Fate, decision: &Decision) {
        if matches!(decision, Decision::ForwardUnlessSsh) {
            self.guards.add(channel);
        } else if fate == Fate::CutSsh {
            self.guards.cut(channel);
        }
    }

    /// Tells the user why a program was refused, in place of the target's reply, and leaves its channel at the target.
    fn dismiss(&mut self, channel: ChannelId, reply: Range<usize>) -> Result<(), Halt> {
        let dismissal = self.channels.dismissed(channel).map_err(|error| Halt::Receiver(error.into()))?;
        let Some(Dismissal { downstream, upstream }) = dismissal else { return self.pass(reply) };
        let told = downstream.iter().try_for_each(|message| self.to.transport.send(&[message]));
        told.map_err(|error| Halt::Receiver(error.into()))?;
        self.from.transport.send(&[&upstream]).map_err(|error| Halt::Sender(error.into()))
    }

    /// Answers a keep-alive in place of the receiving side if that exchanges keys; whether it did.
    fn answer_keep_alive(&mut self, range: Range<usize>) -> Result<bool, Halt> {
        if self.to.transport.can_send() || !self.from.transport.can_send() {
            return Ok(false);
        }
        let payload = self.from.transport.payload(range);
        let Some(reply) = self.channels.keep_alive_reply(self.side, payload) else { return Ok(false) };
        self.from.transport.send(&[&reply]).map(|()| true).map_err(|error| Halt::Sender(error.into()))
    }

    /// Sends a message on; where files are judged, data as far as it is.
    fn pass(&mut self, range: Range<usize>) -> Result<(), Halt> {
        let payload: &[u8] = self.from.transport.payload(range);
        let cut = self.gates.cut(self.channels, self.side, payload);
        let messages = cut.map_err(|fault| Halt::Sender(PeerEnd::Fault(fault)))?;
        let sent = match messages {
            None => self.to.transport.send(&[payload]),
            Some(messages) => messages.iter().try_for_each(|message| self.to.transport.send(&[message])),
        };
        sent.map_err(|error| Halt::Receiver(error.into()))
    }

    /// Does with a message what was decided; `text` says why a channel is refused.
    fn settle(&mut self, range: Range<usize>, fate: Fate, text: &str) -> Result<(), Halt> {
        let payload: &[u8] = self.from.transport.payload(range.clone());
        self.channels.sent(self.side, payload);
        let unreadable = |error| Halt::Sender(PeerEnd::Fault(ProtocolFault::Wire(error)));
        match fate {
            Fate::Forward => self.pass(range),
            Fate::RefuseOpen => {
                let text = TerminalText::new(text);
                let reply = refused_open(self.channels, self.side, payload, &text).map_err(unreadable)?;
                self.from.transport.send(&[&reply]).map_err(|error| Halt::Sender(error.into()))
            }
            Fate::RefuseRequest | Fate::RefuseProgram(_) => {
                if let Fate::RefuseProgram(what) = fate {
                    let text = TerminalText::new(&format!("portreeve: {what} is {NOT_GRANTED}"));
                    self.channels.dismiss(payload, text);
                }
                let request = refused_request(payload).map_err(unreadable)?;
                self.to.transport.send(&[&request]).map_err(|error| Halt::Receiver(error.into()))
            }
            Fate::CutSsh => {
                let refusal = guards::refusal(payload, text).map_err(unreadable)?;
                self.to.transport.send(&[&refusal]).map_err(|error| Halt::Receiver(error.into()))
            }
            Fate::Keep => Ok(()),
            Fate::Dismiss(channel) => self.dismiss(channel, range),
            Fate::Conceal => {
                let request = refused_request(payload).map_err(unreadable)?;
                // Only who wants a reply must get one.
                if request.last() == Some(&0) {
                    return Ok(());
                }
                self.to.transport.send(&[&request]).map_err(|error| Halt::Receiver(error.into()))
            }
        }
    }
}

fn is_recorded(channels: &Relay, channel: ChannelId) -> bool {
    channels.channel(channel).is_some_and(|channel| channel.is_session)
}

/// OpenSSH's PROTOCOL file, section 2.1.
fn is_end_of_writing(seen: &Seen<'_>) -> bool {
    matches!(seen, Seen::Request { request: Request::Other { name: b"eow@openssh.com" }, .. })
}

/// Whether a peer gets what OpenSSH sends only to its like; targets take us for one, whoever the user's
/// client is.
fn is_openssh(transport: &Transport) -> bool {
    transport.peer_identification().is_some_and(|line| line.starts_with(b"SSH-2.0-OpenSSH"))
}

/// Where SSH begins on a guarded channel.
const SSH: Judged = Judged { fate: Fate::Forward, if_refused: Fate::CutSsh, event: None };

/// Data is told, and forwarded.
const TOLD: Judged = Judged { fate: Fate::Forward, if_refused: Fate::Forward, event: None };

fn forward(to: &mut Link, payload: &[u8]) -> Result<Option<Watched>, Halt> {
    to.transport.send(&[payload]).map(|()| None).map_err(|error| Halt::Receiver(error.into()))
}

/// Adds what a closed channel carried.
pub(super) fn count(totals: &mut (u64, u64), channel: &Channel) {
    totals.0 += channel.downstream_bytes;
    totals.1 += channel.upstream_bytes;
}
