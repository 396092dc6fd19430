//! A TCP service that sends back what it is sent (RFC 862).
//!
//! One thread for each connection, so it is for tests only. Connections and threads end with the
//! value.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};

use crate::netns::Netns;

/// A listening echo service.
#[derive(Debug)]
pub struct Echo {
    listener: Arc<TcpListener>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Echo {
    /// Listens on `address` inside `netns`.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn listen(netns: &Netns, address: SocketAddr) -> Result<Self> {
        let bind = || TcpListener::bind(address).with_context(|| format!("echo service on {address}"));
        let listener = Arc::new(netns.enter(bind)?);
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (accepting, kept) = (Arc::clone(&listener), Arc::clone(&connections));
        thread::spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                let Ok(copy) = stream.try_clone() else { continue };
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(copy);
                thread::spawn(move || echo(stream));
            }
        });
        Ok(Self { listener, connections })
    }

    /// The address, with the port the kernel chose when 0 was asked for.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }
}

fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 16384];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if buffer.get(..count).is_none_or(|part| stream.write_all(part).is_err()) {
            return;
        }
    }
    stream.shutdown(Shutdown::Write).ok();
}

impl Drop for Echo {
    fn drop(&mut self) {
        // Wakes the thread in accept.
        nix::sys::socket::shutdown(self.listener.as_raw_fd(), nix::sys::socket::Shutdown::Both).ok();
        for stream in self.connections.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}
