//! The channels of a session.
//!
//! A message names the channel by the number that its receiver chose (RFC 4254 section 5), so each
//! channel is found by two numbers, one a side.

use std::collections::HashMap;

use super::{MAX_CHANNELS, RelayError, Side};

/// Numbers the channels of a session in the order they were asked for, from 0; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub u32);

/// What is known of one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Its number in the session.
    pub id: ChannelId,
    /// Who asked for it.
    pub opener: Side,
    /// Whether it is a session channel (RFC 4254 section 6).
    pub is_session: bool,
    /// Whether the gateway answers in place of the target.
    pub is_inner: bool,
    /// Bytes of data that the user's side sent.
    pub downstream_bytes: u64,
    /// Bytes of data that the target's side sent.
    pub upstream_bytes: u64,
    downstream: Half,
    upstream: Half,
}

/// What one side did with a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Half {
    /// The number it chose.
    number: Option<u32>,
    closed: bool,
    /// Replies that it owes to requests on the channel.
    owes: u32,
}

#[derive(Debug, Default)]
pub(super) struct ChannelTable {
    channels: HashMap<ChannelId, Channel>,
    by_number: HashMap<(Side, u32), ChannelId>,
    next: u32,
    /// How many channels the gateway answers in place of the target.
    inner: usize,
}

impl Channel {
    fn half(&mut self, side: Side) -> &mut Half {
        match side {
            Side::Downstream => &mut self.downstream,
            Side::Upstream => &mut self.upstream,
        }
    }

    /// What `side` did, and what the other side did.
    const fn halves(&self, side: Side) -> (&Half, &Half) {
        match side {
            Side::Downstream => (&self.downstream, &self.upstream),
            Side::Upstream => (&self.upstream, &self.downstream),
        }
    }
}

impl ChannelTable {
    pub(super) fn get(&self, id: ChannelId) -> Option<&Channel> {
        self.channels.get(&id)
    }

    /// Every channel, in the order of their ids.
    pub(super) fn all(&self) -> Vec<&Channel> {
        let mut all: Vec<&Channel> = self.channels.values().collect();
        all.sort_by_key(|channel| channel.id);
        all
    }

    /// How many are session channels.
    pub(super) fn sessions(&self) -> usize {
        self.channels.values().filter(|channel| channel.is_session).count()
    }

    /// The channel that `side` knows as `number`.
    pub(super) fn find(&self, side: Side, number: u32) -> Option<ChannelId> {
        self.by_number.get(&(side, number)).copied()
    }

    /// `from` asks for a channel that it calls `number`.
    pub(super) fn open(
        &mut self,
        from: Side,
        number: u32,
        is_session: bool,
    ) -> Result<ChannelId, RelayError> {
        if self.channels.len() >= MAX_CHANNELS {
            return Err(RelayError::TooManyChannels);
        }
        if self.by_number.contains_key(&(from, number)) {
            return Err(RelayError::Reused(number));
        }
        let id = ChannelId(self.next);
        self.next = self.next.checked_add(1).ok_or(RelayError::TooManyChannels)?;
        let mut channel = Channel {
            id,
            opener: from,
            is_session,
            is_inner: false,
            downstream_bytes: 0,
            upstream_bytes: 0,
            downstream: Half::default(),
            upstream: Half::default(),
        };
        channel.half(from).number = Some(number);
        self.channels.insert(id, channel);
        self.by_number.insert((from, number), id);
        Ok(id)
    }

    /// `from` agrees to a channel, which it calls `number`.
    pub(super) fn confirm(&mut self, id: ChannelId, from: Side, number: u32) -> Result<(), RelayError> {
        let taken = self.by_number.contains_key(&(from, number));
        let half = self.channels.get_mut(&id).filter(|channel| channel.opener != from).map(|c| c.half(from));
        match half {
            Some(half) if half.number.is_none() && !taken => {
                half.number = Some(number);
                self.by_number.insert((from, number), id);
                Ok(())
            }
            _ => Err(RelayError::Reused(number)),
        }
    }

    /// `from` does not agree to a channel.
    pub(super) fn fail(&mut self, id: ChannelId, from: Side) -> Result<(), RelayError> {
        let Some(channel) = self.channels.get_mut(&id) else { return Ok(()) };
        if channel.opener == from || channel.half(from).number.is_some() {
            let channel = channel.half(from.other()).number.unwrap_or_default();
            return Err(RelayError::NoChannel { number: crate::message::CHANNEL_OPEN_FAILURE, channel });
        }
        self.remove(id);
        Ok(())
    }

    /// Forgets a channel that was refused before the other side heard of it.
    pub(super) fn forget(&mut self, from: Side, number: u32) {
        if let Some(id) = self.find(from, number) {
            self.remove(id);
        }
    }

    /// Whether both sides have numbers for a channel, and `from` has not closed it.
    pub(super) fn carries_data_of(&self, id: ChannelId, from: Side) -> bool {
        self.channels.get(&id).is_some_and(|channel| {
            let (own, other) = channel.halves(from);
            own.number.is_some() && other.number.is_some() && !own.closed
        })
    }

    /// Whether both sides have numbers for a channel.
    pub(super) fn is_confirmed(&self, id: ChannelId) -> bool {
        self.channels
            .get(&id)
            .is_some_and(|channel| channel.downstream.number.is_some() && channel.upstream.number.is_some())
    }

    pub(super) fn count(&mut self, id: ChannelId, from: Side, bytes: usize) {
        if let Some(channel) = self.channels.get_mut(&id) {
            match from {
                Side::Downstream => channel.downstream_bytes += bytes as u64,
                Side::Upstream => channel.upstream_bytes += bytes as u64,
            }
        }
    }

    /// A request was sent on to `to`, which calls the channel `number` and owes a reply now.
    pub(super) fn asked(&mut self, to: Side, number: u32) {
        if let Some(channel) = self.find(to, number).and_then(|id| self.channels.get_mut(&id)) {
            let half = channel.half(to);
            half.owes = half.owes.saturating_add(1);
        }
    }

    /// `from` replied on a channel that the other side calls `number`; which one.
    pub(super) fn answered(&mut self, from: Side, number: u32) -> Option<ChannelId> {
        let id = self.find(from.other(), number)?;
        let half = self.channels.get_mut(&id)?.half(from);
        half.owes = half.owes.saturating_sub(1);
        Some(id)
    }

    /// Replies on a channel that the target owes.
    pub(super) fn owed_by_upstream(&self, id: ChannelId) -> u32 {
        self.get(id).map_or(0, |channel| channel.upstream.owes)
    }

    /// Closes a channel in place of the user's side; yields the user's number and the target's, unless a side has
    /// closed it.
    pub(super) fn leave(&mut self, id: ChannelId) -> Option<(u32, u32)> {
        let channel = self.channels.get_mut(&id)?;
        if channel.downstream.closed || channel.upstream.closed {
            return None;
        }
        channel.downstream.closed = true;
        Some((channel.downstream.number?, channel.upstream.number?))
    }

    /// What the other side calls the channel that `by` calls `number`, if `by` would answer a request on it
    /// next: it owes no earlier reply, and it has not closed the channel.
    pub(super) fn answered_next(&self, by: Side, number: u32) -> Option<u32> {
        let channel = self.get(self.find(by, number)?)?;
        let (own, other) = channel.halves(by);
        other.number.filter(|_| own.owes == 0 && !own.closed)
    }

    /// `from` closes a channel; when both have, it leaves the table. The gateway agrees at once.
    pub(super) fn close(&mut self, id: ChannelId, from: Side) -> Option<Channel> {
        let channel = self.channels.get_mut(&id)?;
        channel.half(from).closed = true;
        if channel.is_inner || channel.half(from.other()).closed { self.remove(id) } else { None }
    }

    /// The gateway agrees to a channel that the user's side calls `number`; yields the channel and the gateway's
    /// number, the highest up to `highest` that is free.
    pub(super) fn answer(&mut self, number: u32, highest: u32) -> Result<(ChannelId, u32), RelayError> {
        let id = self.find(Side::Downstream, number).ok_or(RelayError::Reused(number))?;
        let is_free = |ours: &u32| !self.by_number.contains_key(&(Side::Upstream, *ours));
        let ours = (0..=highest).rev().find(is_free).ok_or(RelayError::TooManyChannels)?;
        self.confirm(id, Side::Upstream, ours)?;
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.is_inner = true;
            self.inner += 1;
        }
        Ok((id, ours))
    }

    /// The channel that `side` knows as `number`, if the gateway answers it.
    pub(super) fn find_inner(&self, side: Side, number: u32) -> Option<ChannelId> {
        if self.inner == 0 {
            return None;
        }
        self.find(side, number).filter(|id| self.get(*id).is_some_and(|channel| channel.is_inner))
    }

    fn remove(&mut self, id: ChannelId) -> Option<Channel> {
        let mut channel = self.channels.remove(&id)?;
        self.inner -= usize::from(channel.is_inner);
        for side in [Side::Downstream, Side::Upstream] {
            if let Some(number) = channel.half(side).number {
                self.by_number.remove(&(side, number));
            }
        }
        Some(channel)
    }
}
