//! One session channel by hand-made messages: a command is run, or served.

use portreeve_ssh::message;
use portreeve_ssh::wire::{Reader, put_boolean, put_string, put_u32};

use crate::connection::Connection;

const WINDOW: u32 = 1 << 20;
const PACKET: u32 = 32 * 1024;

/// What a command left.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) output: Vec<u8>,
    pub(crate) status: Option<u32>,
}

/// `n` bytes that differ from place to place.
pub(crate) fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|i| u8::try_from((i ^ (i >> 8) ^ (i >> 16)) & 0xff).unwrap()).collect()
}

/// Our end of the one channel of a test.
#[derive(Default)]
struct Channel {
    /// The peer's number.
    peer: u32,
    /// Bytes that we may send.
    window: u32,
    packet: u32,
    /// Bytes that came since the last adjustment.
    consumed: u32,
}

impl Channel {
    fn message(&self, number: u8) -> Vec<u8> {
        let mut payload = vec![number];
        put_u32(&mut payload, self.peer);
        payload
    }

    fn request(&self, name: &[u8], want_reply: bool) -> Vec<u8> {
        let mut payload = self.message(message::CHANNEL_REQUEST);
        put_string(&mut payload, name).unwrap();
        put_boolean(&mut payload, want_reply);
        payload
    }

    /// Sends as much of `data` as the window allows.
    fn send_data(&mut self, connection: &mut Connection, data: &mut &[u8]) {
        while !data.is_empty() && self.window > 0 {
            let room = self.window.min(self.packet).min(PACKET - 1024) as usize;
            let (chunk, rest) = data.split_at(data.len().min(room));
            let mut payload = self.message(message::CHANNEL_DATA);
            put_string(&mut payload, chunk).unwrap();
            connection.send(&payload);
            self.window -= u32::try_from(chunk.len()).unwrap();
            *data = rest;
        }
    }

    fn consume(&mut self, connection: &mut Connection, n: usize) {
        self.consumed += u32::try_from(n).unwrap();
        if self.consumed > WINDOW / 2 {
            let mut adjust = self.message(message::CHANNEL_WINDOW_ADJUST);
            put_u32(&mut adjust, std::mem::take(&mut self.consumed));
            connection.send(&adjust);
        }
    }

    fn read_limits(&mut self, reader: &mut Reader<'_>) {
        self.peer = reader.u32().unwrap();
        self.window = reader.u32().unwrap();
        self.packet = reader.u32().unwrap();
    }
}

fn put_limits(payload: &mut Vec<u8>, number: u32) {
    for value in [number, WINDOW, PACKET] {
        put_u32(payload, value);
    }
}

/// Runs a command with `input`, as the client.
pub(crate) fn run(connection: &mut Connection, command: &str, input: &[u8]) -> Finished {
    let mut open = vec![message::CHANNEL_OPEN];
    put_string(&mut open, b"session").unwrap();
    put_limits(&mut open, 77);
    connection.send(&open);
    let (mut channel, mut input, mut finished) = (Channel::default(), Some(input), Finished::default());
    let mut accepted = false;
    loop {
        let payload = connection.message().expect("the command's end");
        let mut reader = Reader::new(&payload);
        let number = reader.u8().unwrap();
        if number == message::GLOBAL_REQUEST {
            continue;
        }
        assert_eq!(reader.u32(), Ok(77), "message {number}");
        match number {
            message::CHANNEL_OPEN_CONFIRMATION => {
                channel.read_limits(&mut reader);
                let mut exec = channel.request(b"exec", true);
                put_string(&mut exec, command.as_bytes()).unwrap();
                connection.send(&exec);
            }
            message::CHANNEL_SUCCESS => accepted = true,
            message::CHANNEL_WINDOW_ADJUST => channel.window += reader.u32().unwrap(),
            message::CHANNEL_DATA => {
                let data = reader.string().unwrap();
                finished.output.extend_from_slice(data);
                channel.consume(connection, data.len());
            }
            message::CHANNEL_REQUEST => {
                if reader.string() == Ok(b"exit-status") {
                    reader.boolean().unwrap();
                    finished.status = Some(reader.u32().unwrap());
                }
            }
            message::CHANNEL_EOF => {}
            message::CHANNEL_CLOSE => {
                connection.send(&channel.message(message::CHANNEL_CLOSE));
                return finished;
            }
            other => panic!("message {other}"),
        }
        if let Some(rest) = input.as_mut().filter(|_| accepted) {
            channel.send_data(connection, rest);
            if rest.is_empty() {
                connection.send(&channel.message(message::CHANNEL_EOF));
                input = None;
            }
        }
    }
}

/// Serves one command that echoes what it gets, as the server; yields the command.
pub(crate) fn serve_echo(connection: &mut Connection) -> Vec<u8> {
    let (mut channel, mut backlog, mut at) = (Channel::default(), Vec::new(), 0);
    let (mut command, mut ended, mut said) = (Vec::new(), false, false);
    while let Some(payload) = connection.message() {
        let mut reader = Reader::new(&payload);
        match reader.u8().unwrap() {
            message::CHANNEL_OPEN => {
                assert_eq!(reader.string(), Ok(&b"session"[..]));
                channel.read_limits(&mut reader);
                let mut confirm = channel.message(message::CHANNEL_OPEN_CONFIRMATION);
                put_limits(&mut confirm, 3);
                connection.send(&confirm);
            }
            message::CHANNEL_REQUEST => {
                reader.u32().unwrap();
                let is_exec = reader.string() == Ok(b"exec");
                let want_reply = reader.boolean().unwrap();
                if is_exec {
                    command = reader.string().unwrap().to_vec();
                }
                if want_reply {
                    let answer = if is_exec { message::CHANNEL_SUCCESS } else { message::CHANNEL_FAILURE };
                    connection.send(&channel.message(answer));
                }
            }
            message::CHANNEL_WINDOW_ADJUST => {
                reader.u32().unwrap();
                channel.window += reader.u32().unwrap();
            }
            message::CHANNEL_DATA => {
                reader.u32().unwrap();
                let data = reader.string().unwrap();
                backlog.extend_from_slice(data);
                channel.consume(connection, data.len());
            }
            message::CHANNEL_EOF => ended = true,
            message::GLOBAL_REQUEST => {
                let name = reader.string().unwrap().to_vec();
                assert!(!reader.boolean().unwrap(), "{}", String::from_utf8_lossy(&name));
            }
            message::CHANNEL_CLOSE => {}
            other => panic!("message {other}"),
        }
        let mut rest = &backlog[at..];
        channel.send_data(connection, &mut rest);
        at = backlog.len() - rest.len();
        if ended && at == backlog.len() && !said {
            said = true;
            connection.send(&channel.message(message::CHANNEL_EOF));
            let mut exit = channel.request(b"exit-status", false);
            put_u32(&mut exit, 3);
            connection.send(&exit);
            connection.send(&channel.message(message::CHANNEL_CLOSE));
        }
    }
    command
}
