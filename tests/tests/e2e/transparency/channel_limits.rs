//! Windows, packet sizes and channel numbers at their limits (RFC 4254 sections 5.1 and 5.2).

use anyhow::Result;
use portreeve_ssh::message;
use portreeve_tests::Testbed;
use portreeve_tests::raw_client::{Message, RawClient};

use super::Case;
use super::raw_messages::{connect, exec, until_closed};
use crate::observation::Observation;

const WINDOW: u32 = 1 << 21;
const PACKET: u32 = 1 << 15;

pub(super) const CASES: &[Case] = &[
    Case::new("the_largest_window_and_packet", largest).expecting(&[("bytes", "100000")]),
    Case::new("packets_of_one_byte", one_byte).expecting(&[("data", "12345"), ("largest", "1")]),
    Case::new("a_window_of_0_holds_data_back_until_it_opens", no_window)
        .expecting(&[("before", "0"), ("data", "12345")]),
    Case::new("packets_of_0_bytes_hold_up_nobody_else", no_packet)
        .expecting(&[("before", "0"), ("closed", "true")]),
    Case::new("a_channel_number_is_used_again", number_again).expecting(&[("data", "first second third")]),
];

fn largest(bed: &Testbed) -> Result<Observation> {
    let mut client = connect(bed)?;
    let to = client.open_session(1, u32::MAX, u32::MAX)?;
    exec(&mut client, to, "printf %0100000d 7")?;
    let session = until_closed(&mut client, 1)?;
    Ok(Observation::new().with("bytes", session.data.len().to_string()))
}

fn one_byte(bed: &Testbed) -> Result<Observation> {
    let mut client = connect(bed)?;
    let to = client.open_session(1, WINDOW, 1)?;
    exec(&mut client, to, "printf 12345")?;
    let session = until_closed(&mut client, 1)?;
    Ok(Observation::new().with("data", session.data).with("largest", session.largest.to_string()))
}

/// Opens channel 1, whose program writes at once, and runs another program to its end beside it; returns
/// the peer's number for channel 1 and how often data came on it.
fn beside(client: &mut RawClient, window: u32, packet: u32) -> Result<(u32, usize)> {
    let to = client.open_session(1, window, packet)?;
    exec(client, to, "printf 12345")?;
    let other = client.open_session(2, WINDOW, PACKET)?;
    exec(client, other, "sleep 0.5; echo done")?;
    let seen = client.receive_until("2: close")?;
    Ok((to, seen.iter().filter(|said| said.starts_with("1: data")).count()))
}

fn no_window(bed: &Testbed) -> Result<Observation> {
    let mut client = connect(bed)?;
    let (to, before) = beside(&mut client, 0, PACKET)?;
    client.send(&Message::new(message::CHANNEL_WINDOW_ADJUST).u32(to).u32(u32::MAX))?;
    let session = until_closed(&mut client, 1)?;
    Ok(Observation::new().with("before", before.to_string()).with("data", session.data))
}

fn no_packet(bed: &Testbed) -> Result<Observation> {
    let mut client = connect(bed)?;
    let (to, before) = beside(&mut client, WINDOW, 0)?;
    client.send(&Message::new(message::CHANNEL_CLOSE).u32(to))?;
    let closed = client.receive_until("1: close").is_ok();
    Ok(Observation::new().with("before", before.to_string()).with("closed", closed.to_string()))
}

fn number_again(bed: &Testbed) -> Result<Observation> {
    let mut client = connect(bed)?;
    let mut data = Vec::new();
    for word in ["first", "second", "third"] {
        let to = client.open_session(7, WINDOW, PACKET)?;
        exec(&mut client, to, format!("printf {word}"))?;
        data.push(until_closed(&mut client, 7)?.data);
        client.send(&Message::new(message::CHANNEL_CLOSE).u32(to))?;
    }
    Ok(Observation::new().with("data", data.join(" ")))
}
