//! Refusing a connection before any key exchange, so that no host key is needed.

use std::io;
use std::time::Duration;

use portreeve_ssh::message::reason;
use portreeve_ssh::refusal::refusal_bytes;
use portreeve_ssh::text::TerminalText;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::byte_stream::ByteStream;

/// How long a refused peer may take to read its text and close.
const LINGER: Duration = Duration::from_secs(2);
/// Most bytes read from a refused peer, so that its close is seen; a key exchange starts with less.
const LINGER_BYTES: usize = 64 * 1024;

/// Tells the user why there is no session, then closes; takes two seconds at the longest.
pub async fn refuse(mut stream: ByteStream, text: &TerminalText) {
    match tokio::time::timeout(LINGER, farewell(&mut stream, text)).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a refused peer left before it was told why"),
    }
}

/// Closing with unread input would reset the connection and lose the text on its way, so the peer's
/// close is waited for.
async fn farewell(stream: &mut ByteStream, text: &TerminalText) -> io::Result<()> {
    stream.write_all(&refusal_bytes(reason::BY_APPLICATION, text)).await?;
    stream.shutdown().await?;
    let mut rest = [0; 4096];
    let mut budget = LINGER_BYTES;
    while budget > 0 {
        match stream.read(&mut rest).await? {
            0 => break,
            read => budget = budget.saturating_sub(read),
        }
    }
    Ok(())
}
