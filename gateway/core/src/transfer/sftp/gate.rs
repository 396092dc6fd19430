//! Keeps from the target what policy does not grant, byte by byte in step with the channel.
//!
//! Every byte that goes in comes out, in order, so that the windows of both sides hold; some come later, as a request
//! that is not judged yet must not reach the target. A request that is refused becomes, in place and at the same
//! length, an extended request that no server knows. A server must answer that with a STATUS (draft, section 8), and
//! does nothing; what the fields said is data of that request, which it does not read. Its answer, which goes by the id,
//! becomes SSH_FX_PERMISSION_DENIED on its way back, so that the user's program says so about that file and goes on.
//!
//! Only version 3 can be judged: the client's INIT asks for no later one, and an answer with another is a fault.
//! Deliberately absent: an answer of our own. The target answers all that is asked, in its own order.

use std::collections::HashSet;

use super::frames::{Frames, Step};
use super::rights::needed;
use super::{SftpFault, code, kind};
use crate::infrastructure::TransferRights;
use crate::transfer::fields::Fields;

/// A name of an extended request that no server knows.
const UNKNOWN: &[u8] = b"refused@portreeve";

/// What a STATUS says instead of what it said, as far as there is room.
const TEXT: &[u8] = b"not granted by policy";

/// The only version that is judged.
const VERSION: u32 = 3;

/// Bytes before the fields of a request: length, type and id.
const FIELDS: usize = 9;

/// Bytes that refusing a request may change: those before the fields, the length of a name and the name.
const CHANGED: usize = FIELDS + 4 + UNKNOWN.len();

/// The most that is held back of a request; what the draft wants every server to take (section 3).
const MAX_HELD: usize = 34_000;

/// The most that is held back of an answer.
const MAX_HELD_ANSWER: usize = 1024;

/// Requests that were refused and not answered yet.
const MAX_REFUSED: usize = 65_536;

/// Both directions of an sftp channel.
#[derive(Debug)]
pub struct SftpGate {
    rights: TransferRights,
    requests: Frames,
    answers: Frames,
    refused: HashSet<u32>,
}

impl SftpGate {
    /// A gate for a channel that starts now.
    pub fn new(rights: TransferRights) -> Self {
        Self { rights, requests: Frames::default(), answers: Frames::default(), refused: HashSet::new() }
    }

    /// What of the client's data, with what was held, goes to the target now.
    ///
    /// # Errors
    /// [`SftpFault`]; the session must end.
    pub fn requests(&mut self, mut data: &[u8]) -> Result<Vec<u8>, SftpFault> {
        let mut judged = Vec::with_capacity(data.len() + CHANGED);
        while let Some(step) = self.requests.next(&mut data, decisive)? {
            match step {
                Step::Head(mut head) => {
                    self.judge(&mut head)?;
                    judged.extend_from_slice(&head);
                }
                Step::Rest(rest) => judged.extend_from_slice(rest),
            }
        }
        if self.requests.held() > MAX_HELD { Err(SftpFault::LongName(MAX_HELD)) } else { Ok(judged) }
    }

    /// What of the target's data, with what was held, goes to the client now.
    ///
    /// # Errors
    /// [`SftpFault`]; the session must end.
    pub fn answers(&mut self, mut data: &[u8]) -> Result<Vec<u8>, SftpFault> {
        let mut told = Vec::with_capacity(data.len() + MAX_HELD_ANSWER);
        while let Some(step) = self.answers.next(&mut data, |head| answer_wanted(head, &self.refused))? {
            match step {
                Step::Head(mut head) => {
                    self.answer(&mut head)?;
                    told.extend_from_slice(&head);
                }
                Step::Rest(rest) => told.extend_from_slice(rest),
            }
        }
        Ok(told)
    }

    /// What the client sent last and what is no whole request, when it sends no more.
    pub fn last_request(&mut self) -> Vec<u8> {
        self.requests.take_held()
    }

    /// What the target sent last and what is no whole answer, when it sends no more.
    pub fn last_answer(&mut self) -> Vec<u8> {
        self.answers.take_held()
    }

    fn judge(&mut self, head: &mut [u8]) -> Result<(), SftpFault> {
        let mut fields = Fields(head.get(4..).unwrap_or_default());
        let request = fields.u8().unwrap_or_default();
        let malformed = SftpFault::Malformed(request);
        let id = fields.u32().ok_or(malformed)?;
        if request == kind::INIT {
            // There the version is where others have their id.
            return put(head, 5, &id.min(VERSION).to_be_bytes()).ok_or(malformed);
        }
        if self.rights.cover(needed(request, fields.0)) {
            return Ok(());
        }
        if self.refused.len() >= MAX_REFUSED {
            return Err(SftpFault::Outstanding(MAX_REFUSED));
        }
        self.refused.insert(id);
        refuse(head).ok_or(malformed)
    }

    fn answer(&mut self, head: &mut [u8]) -> Result<(), SftpFault> {
        let mut fields = Fields(head.get(4..).unwrap_or_default());
        let (kind, id) = (fields.u8().unwrap_or_default(), fields.u32());
        match (kind, id) {
            (kind::VERSION, Some(VERSION)) => Ok(()),
            (kind::VERSION, version) => Err(SftpFault::Version(version.unwrap_or_default())),
            (kind, Some(id)) if self.refused.remove(&id) && kind == kind::STATUS => {
                deny(head).ok_or(SftpFault::Malformed(kind))
            }
            _ => Ok(()),
        }
    }
}

/// Answers are held back only as far as they may have to be changed.
fn answer_wanted(head: &[u8], refused: &HashSet<u32>) -> usize {
    let is_status = head.get(4) == Some(&kind::STATUS);
    let id = head.get(5..).and_then(|fields| Fields(fields).u32());
    if is_status && id.is_some_and(|id| refused.contains(&id)) { MAX_HELD_ANSWER } else { FIELDS }
}

/// How much of a request decides what it needs, and may be changed.
fn decisive(head: &[u8]) -> usize {
    let name = match head.get(4) {
        Some(&kind::OPEN) => named(head).map(|name| name.saturating_add(4)),
        Some(&kind::EXTENDED) => named(head),
        _ => None,
    };
    name.unwrap_or_default().max(CHANGED)
}

/// Where the string ends that is the first field.
fn named(head: &[u8]) -> Option<usize> {
    let length = Fields(head.get(FIELDS..)?).u32()?;
    usize::try_from(length).ok().map(|length| length.saturating_add(FIELDS + 4))
}

/// Turns a request into one that no server knows; `None` when it is too short to be any.
fn refuse(head: &mut [u8]) -> Option<()> {
    let room = head.len().checked_sub(FIELDS + 4)?;
    let name = UNKNOWN.get(..UNKNOWN.len().min(room))?;
    put(head, 4, &[kind::EXTENDED])?;
    put(head, FIELDS, &u32::try_from(name.len()).ok()?.to_be_bytes())?;
    put(head, FIELDS + 4, name)
}

/// Turns a STATUS into one that denies: u32 code, string text, string language.
fn deny(head: &mut [u8]) -> Option<()> {
    put(head, FIELDS, &code::PERMISSION_DENIED.to_be_bytes())?;
    let length = named_text(head);
    let Some(room) = head.get_mut(FIELDS + 8..) else { return Some(()) };
    let text = TEXT.iter().copied().chain(std::iter::repeat(b' '));
    room.iter_mut().take(length).zip(text).for_each(|(byte, new)| *byte = new);
    Some(())
}

/// Bytes of the text of a STATUS.
fn named_text(head: &[u8]) -> usize {
    let length = head.get(FIELDS + 4..).and_then(|text| Fields(text).u32());
    length.and_then(|length| usize::try_from(length).ok()).unwrap_or_default()
}

fn put(head: &mut [u8], at: usize, bytes: &[u8]) -> Option<()> {
    head.get_mut(at..)?.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(())
}

#[cfg(test)]
mod tests;
