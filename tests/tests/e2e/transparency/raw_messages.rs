//! Messages that no ordinary client sends, and the answers to them.
//!
//! The client is [`RawClient`]. Window adjustments are left out of what is observed: when they come is
//! the server's choice of the moment.

use anyhow::Result;
use portreeve_ssh::message;
use portreeve_tests::Testbed;
use portreeve_tests::raw_client::{Message, RawClient};

use super::Case;
use crate::observation::Observation;

const WINDOW: u32 = 1 << 21;
const PACKET: u32 = 1 << 15;

pub(super) const CASES: &[Case] = &[
    Case::new("unknown_channel_requests_are_answered_in_order", channel_requests)
        .expecting(&[("answers", "1: yes, 1: no, 1: yes, 1: no, 1: yes")]),
    Case::new("unknown_global_requests_are_answered_in_order", global_requests)
        .expecting(&[("answers", "no, yes [port], no, yes , no")]),
    Case::new("unknown_channel_types_are_refused_by_the_target", channel_types)
        .expecting(&[("answer", "7: not opened 2 \"open failed\" \"\"")]),
    Case::new("why_a_direct_channel_is_refused", direct_refused),
    Case::new("break_is_answered", break_request)
        .expecting(&[("without a terminal", "1: no"), ("with a terminal", "2: yes")]),
    Case::new("signal_and_how_the_program_ended", signal),
    Case::new("terminal_modes_that_nobody_knows", unknown_modes),
    Case::new("command_that_is_no_text", command_no_text)
        .expecting(&[("data", "\\xff\\xfe"), ("ended", "1: exit-status false \\x00\\x00\\x00\\x00")]),
    Case::new("data_follows_small_windows_and_packets", small_window),
    Case::new("eof_then_output", eof_then_output),
    Case::new("requests_on_a_channel_that_has_ended", second_exec),
    Case::new("channel_numbers_are_the_users_own", own_numbers)
        .expecting(&[("data", "first second"), ("numbers", "4294967294 7")]),
    Case::new("no_more_sessions_is_the_targets_to_enforce", no_more_sessions),
];

/// What came on a session until its CLOSE.
pub(super) struct Session {
    pub(super) data: String,
    replies: Vec<String>,
    ended: Vec<String>,
    pub(super) largest: usize,
}

/// Collects a channel's messages until its CLOSE. The exit and EOF have no order among them.
pub(super) fn until_closed(client: &mut RawClient, channel: u32) -> Result<Session> {
    let mut session = Session { data: String::new(), replies: Vec::new(), ended: Vec::new(), largest: 0 };
    let (data, own) = (format!("{channel}: data "), format!("{channel}: "));
    for said in client.receive_until(&format!("{channel}: close"))? {
        if let Some(data) = said.strip_prefix(&data) {
            session.largest = session.largest.max(data.len());
            session.data += data;
        } else if said.ends_with(": yes") || said.ends_with(": no") {
            session.replies.push(said);
        } else if !said.starts_with(&format!("{own}window")) {
            session.ended.push(said);
        }
    }
    session.ended.sort();
    Ok(session)
}

impl Session {
    fn observation(&self) -> Observation {
        let exit = self.ended.iter().filter(|said| said.contains(": exit-")).cloned().collect::<Vec<_>>();
        Observation::new()
            .with("data", self.data.clone())
            .with("replies", self.replies.join(", "))
            .with("ended", exit.join(", "))
            .with("all", self.ended.join(", "))
    }
}

pub(super) fn connect(bed: &Testbed) -> Result<RawClient> {
    RawClient::connect(bed, "alice")
}

pub(super) fn exec(client: &mut RawClient, channel: u32, command: impl AsRef<[u8]>) -> Result<()> {
    client.send(&Message::request(channel, "exec", true)?.string(command)?)
}

fn pty(client: &mut RawClient, channel: u32, modes: &[u8]) -> Result<()> {
    let request = Message::request(channel, "pty-req", true)?.string("vt100")?;
    client.send(&request.u32(80).u32(24).u32(0).u32(0).string(modes)?)
}

/// Sent without waiting: the answers must come in the order of the questions.
fn channel_requests(bed: &Testbed) -> Result<Observation> {
    let mut client = connect(bed)?;
    let to = client.open_session(1, WINDOW, PACKET)?;
    client.send(&Message::request(to, "env", true)?.string("TB_ONE")?.string("1")?)?;
    client.send(&Message::request(to, "unknown@example.com", true)?.string("anything")?)?;
    client.send(&Message::request(to, "unknown@example.com", false)?.u32(9))?;
    client.send(&Message::request(to, "env", true)?.string("TB_TWO")?.string("2")?)?;
    client.send(&Message::request(to, "unknown-2@example.com", true)?)?;
    exec(&mut client, to, "echo $TB_ONE $TB_TWO")?;
    let session = until_closed(&mut client, 1)?;
    Ok(session.observation().with("answers", session.replies.join(", ")))
}

fn global_requests(bed: &Testbed) -> Result<Observation> {
    let mut client = connect(bed)?;
    let forward = |kind: &str, port| Message::global(kind, true)?.string("127.0.0.1").map(|m| m.u32(port));
    client.send(&Message::global("unknown@example.com", true)?.string("anything")?)?;
    client.send(&Message::global("unknown@example.com", false)?)?;
    client.send(&forward("tcpip-forward", 0)?)?;
    client.send(&forward("cancel-tcpip-forward", 10_049)?)?;
    client.send(&forward("tcpip-forward", 10_048)?)?;
    client.send(&Message::global("keepalive@openssh.com", true)?)?;
    let mut answers = client.receive_many(5)?;
    if let Some(port) = answers.get_mut(1).filter(|said| said.starts_with("yes \\x00\\x00")) {
        "yes [port]".clone_into(port);
    }
    Ok(Observation::new().with("answers", answers.join(", ")))
}

fn channel_types(bed: &Testbed) -> Result<Observation> {
    let mut client = connect(bed)?;
    client.send(&Message::open("unknown@example.com", 7, WINDOW, PACKET)?.string("anything")?)?;
    Ok(Observation::new().with("answer", client.receive()?))
}

fn direct_refused(bed: &Testbed) -> Result<Observation> {
    let mut client = connect(bed)?;
    let open = Message::open("direct-tcpip", 3, WINDOW, PACKET)?.string("127.0.0.1")?.u32(1);
    client.send(&open.string("127.0.0.1")?.u32(1))?;
    let tcp = client.receive()?;
    let open = Message::open("direct-streamlocal@openssh.com", 4, WINDOW, PACKET)?;
    client.send(&open.string("/nowhere/socket")?.string("")?.u32(0))?;
    Ok(Observation::new().with("tcp", tcp).with("unix", client.receive()?))
}

/// RFC 4335 section 3.
fn break_request(bed: &Testbed) -> Result<Observation> {
    let mut client = connect(bed)?;
    let plain = client.open_session(1, WINDOW, PACKET)?;
    exec(&mut client, plain, "sleep 60")?;
    reply(&mut client)?;
    client.send(&Message::request(plain, "break", true)?.u32(500))?;
    let without = reply(&mut client)?;
    let terminal = client.open_session(2, WINDOW, PACKET)?;
    pty(&mut client, terminal, &[0])?;
    reply(&mut client)?;
    exec(&mut client, terminal, "sleep 60")?;
    reply(&mut client)?;
    client.send(&Message::request(terminal, "break", true)?.u32(500))?;
    let with = reply(&mut client)?;
    Ok(Observation::new().with("without a terminal", without).with("with a terminal", with))
}

/// The next answer to a channel request.
fn reply(client: &mut RawClient) -> Result<String> {
    loop {
        let said = client.receive()?;
        if said.ends_with(": yes") || said.ends_with(": no") {
            return Ok(said);
        }
    }
}

/// RFC 4254 sections 6.9 and 6.10, with all fields of `exit-signal`.
fn signal(bed: &Testbed) -> Result<Observation> {
    let mut client = connect(bed)?;
    let to = client.open_session(1, WINDOW, PACKET)?;
    // sshd signals a process group, which is there once the program runs.
    exec(&mut client, to, "echo runs; exec sleep 60")?;
    client.receive_until("1: data runs\\n")?;
    client.send(&Message::request(to, "signal", false)?.string("TERM")?)?;
    Ok(until_closed(&mut client, 1)?.observation())
}

/// Opcodes 1 to 159 have a uint32 (RFC 4254 section 8), known or not.
fn unknown_modes(bed: &Testbed) -> Result<Observation> {
    let mut client = connect(bed)?;
    let to = client.open_session(1, WINDOW, PACKET)?;
    pty(&mut client, to, &[150, 0, 0, 0, 1, 1, 0, 0, 0, 7, 53, 0, 0, 0, 0, 0])?;
    exec(&mut client, to, "stty -a")?;
    Ok(until_closed(&mut client, 1)?.observation())
}

fn command_no_text(bed: &Testbed) -> Result<Observation> {
    let mut client = connect(bed)?;
    let to = client.open_session(1, WINDOW, PACKET)?;
    exec(&mut client, to, b"printf %s \xff\xfe")?;
    Ok(until_closed(&mut client, 1)?.observation())
}

/// A window of 100 bytes in packets of 16, opened further by what was read.
fn small_window(bed: &Testbed) -> Result<Observation> {
    let mut client = connect(bed)?;
    let to = client.open_session(1, 100, 16)?;
    exec(&mut client, to, "printf %0500d 7")?;
    let (mut data, mut largest, mut before) = (0, 0, 0);
    // The program may be gone before its output has crossed.
    let mut early = Vec::new();
    while data < 500 {
        let said = client.receive()?;
        if let Some(part) = said.strip_prefix("1: data ") {
            (data, largest) = (data + part.len(), largest.max(part.len()));
            if data % 100 == 0 {
                before += 1;
                client.send(&Message::new(message::CHANNEL_WINDOW_ADJUST).u32(to).u32(100))?;
            }
        } else if said.contains(": exit-") {
            early.push(said);
        }
    }
    let mut session = until_closed(&mut client, 1)?;
    session.ended.extend(early);
    session.ended.sort();
    Ok(session
        .observation()
        .with("bytes", data.to_string())
        .with("windows", before.to_string())
        .with("largest", largest.to_string()))
}

fn eof_then_output(bed: &Testbed) -> Result<Observation> {
    let mut client = connect(bed)?;
    let to = client.open_session(1, WINDOW, PACKET)?;
    exec(&mut client, to, "cat; echo after; exit 9")?;
    client.send(&Message::new(message::CHANNEL_DATA).u32(to).string("before ")?)?;
    client.send(&Message::new(message::CHANNEL_DATA).u32(to).string("")?)?;
    client.send(&Message::new(message::CHANNEL_EOF).u32(to))?;
    Ok(until_closed(&mut client, 1)?.observation())
}

/// One program for each session channel (RFC 4254 section 6.5); the second is the target's to refuse.
fn second_exec(bed: &Testbed) -> Result<Observation> {
    let mut client = connect(bed)?;
    let to = client.open_session(1, WINDOW, PACKET)?;
    exec(&mut client, to, "cat")?;
    exec(&mut client, to, "echo second")?;
    client.send(&Message::request(to, "subsystem", true)?.string("sftp")?)?;
    client.send(&Message::new(message::CHANNEL_EOF).u32(to))?;
    Ok(until_closed(&mut client, 1)?.observation())
}

fn own_numbers(bed: &Testbed) -> Result<Observation> {
    let mut client = connect(bed)?;
    let numbers = [u32::MAX - 1, 7];
    let mut data = Vec::new();
    for (number, word) in numbers.into_iter().zip(["first", "second"]) {
        let to = client.open_session(number, WINDOW, PACKET)?;
        exec(&mut client, to, format!("printf {word}"))?;
        data.push(until_closed(&mut client, number)?.data);
        client.send(&Message::new(message::CHANNEL_CLOSE).u32(to))?;
    }
    let numbers = numbers.map(|number| number.to_string()).join(" ");
    Ok(Observation::new().with("data", data.join(" ")).with("numbers", numbers))
}

/// OpenSSH's PROTOCOL file, section 2.2: sshd disconnects with a text.
fn no_more_sessions(bed: &Testbed) -> Result<Observation> {
    let mut client = connect(bed)?;
    client.open_session(1, WINDOW, PACKET)?;
    client.send(&Message::global("no-more-sessions@openssh.com", false)?)?;
    client.send(&Message::open("session", 2, WINDOW, PACKET)?)?;
    Ok(Observation::new().with("answer", client.receive()?))
}
