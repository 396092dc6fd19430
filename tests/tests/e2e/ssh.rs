//! Small words that the cases are written in.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use portreeve_tests::deadline::until;
use portreeve_tests::{Companion, Finished, Testbed, run};

/// The granted login at the target's IPv4 address.
pub(crate) const TARGET: &str = "alice@10.1.2.3";
/// The granted login at the target's IPv6 address.
pub(crate) const TARGET_V6: &str = "alice@fd00:1:2::3";
/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(180);

/// Runs `ssh ARGS` in the client's namespace.
pub(crate) fn ssh(bed: &Testbed, args: &[&str]) -> Result<Finished> {
    ssh_with(bed, args, b"")
}

/// Runs `ssh ARGS` with an input.
pub(crate) fn ssh_with(bed: &Testbed, args: &[&str], stdin: &[u8]) -> Result<Finished> {
    run(bed.client_ssh("ssh").args(args), stdin, LIMIT)
}

/// A directory of the client for one case, empty.
pub(crate) fn scratch(bed: &Testbed, case: &str) -> Result<PathBuf> {
    let dir = bed.dir().join("client").join(case);
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir(&dir)?;
    Ok(dir)
}

/// Bytes that look random and are the same every time.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// SHA-256 in hex, by the system's own program.
pub(crate) fn sha256(bytes: &[u8]) -> Result<String> {
    let out = run(&mut Command::new("sha256sum"), bytes, LIMIT)?.success()?;
    Ok(out.split(' ').next().unwrap_or_default().to_owned())
}

/// An ssh that stays, for its forwards; what it writes goes to a file.
#[derive(Debug)]
pub(crate) struct Standing {
    ssh: Companion,
    log: PathBuf,
}

impl Standing {
    /// Starts `ssh -N ARGS`; `case` names its log.
    pub(crate) fn start(bed: &Testbed, case: &str, args: &[&str]) -> Result<Self> {
        let log = bed.dir().join("client").join(format!("{case}.log"));
        let mut command = bed.client_ssh("ssh");
        command.args(["-N", "-o", "ExitOnForwardFailure=yes"]).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log)?);
        Ok(Self { ssh: Companion::spawn(&mut command)?, log })
    }

    /// Waits until `ready` yields something while ssh runs.
    pub(crate) fn until<T>(&mut self, what: &str, mut ready: impl FnMut() -> Option<T>) -> Result<T> {
        let found = until(what, LIMIT, || {
            ensure!(self.ssh.is_running()?, "ssh ended");
            Ok(ready())
        });
        found.with_context(|| self.stderr().unwrap_or_default())
    }

    /// Waits until ssh has written a text.
    pub(crate) fn until_says(&mut self, text: &str) -> Result<String> {
        let log = self.log.clone();
        self.until(text, || fs::read_to_string(&log).ok().filter(|said| said.contains(text)))
    }

    /// What ssh wrote so far.
    pub(crate) fn stderr(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.log)?)
    }

    /// The running ssh.
    pub(crate) fn companion(&mut self) -> &mut Companion {
        &mut self.ssh
    }
}

/// Writes to a connection, closes that direction, and reads until the other side has closed too.
pub(crate) fn converse(mut stream: TcpStream, bytes: &[u8]) -> Result<Vec<u8>> {
    use std::io::{Read, Write};
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let mut writing = stream.try_clone()?;
    let mut answer = Vec::new();
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            writing.write_all(bytes)?;
            writing.shutdown(std::net::Shutdown::Write)
        });
        stream.read_to_end(&mut answer)?;
        match writer.join() {
            Ok(written) => Ok(written?),
            Err(_) => bail!("the writer panicked"),
        }
    })?;
    Ok(answer)
}
