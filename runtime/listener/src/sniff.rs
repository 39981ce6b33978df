//! Tells HTTP/1.1 from HTTP/2 by a connection's first bytes, within limits of its own.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{sleep, sleep_until, timeout};

use crate::counts::Crowded;
use crate::drain::{Drain, Phase};

/// What every HTTP/2 client says first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a stopping listener waits for the first byte of a connection that it has only just accepted.
const FRESH: Duration = Duration::from_secs(1);

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    Http2,
}

/// What a connection speaks, and its first bytes.
pub(crate) type Sniffed = (Speaks, Bytes);

/// How long the first bytes may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Until the first byte: a connection made in advance is an idle one.
    pub(crate) first: Duration,
    /// From the first byte until it is known what the connection speaks.
    pub(crate) rest: Duration,
}

/// Returns what the connection speaks, with the bytes that were read to learn it; none when it ended, or stayed silent,
/// before that.
pub(crate) async fn sniff(
    stream: &mut (impl AsyncRead + Unpin),
    limits: Limits,
    drain: &Drain,
    crowded: &mut Crowded,
) -> io::Result<Option<Sniffed>> {
    let accepted = Instant::now();
    let mut bytes = [0; PREFACE.len()];
    let mut len = tokio::select! {
        biased;
        read = stream.read(&mut bytes) => read?,
        () = sleep(limits.first) => return Ok(None),
        () = crowded.goes(|| Some(accepted.elapsed())) => return Ok(None),
        () = async {
            drain.reached(Phase::Closing).await;
            sleep_until((accepted + FRESH).into()).await;
        } => return Ok(None),
    };
    if len == 0 {
        return Ok(None);
    }
    let rest = async {
        while len < PREFACE.len() && bytes[..len] == PREFACE[..len] {
            match stream.read(&mut bytes[len..]).await? {
                0 => break,
                more => len += more,
            }
        }
        Ok::<_, io::Error>(())
    };
    match timeout(limits.rest, rest).await {
        Ok(read) => read?,
        Err(_elapsed) => return Ok(None),
    }
    let speaks = if bytes[..len] == PREFACE[..] { Speaks::Http2 } else { Speaks::Http1 };
    Ok(Some((speaks, Bytes::copy_from_slice(&bytes[..len]))))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::counts::Counts;

    const PATIENT: Limits = Limits { first: Duration::from_secs(60), rest: Duration::from_secs(60) };

    async fn sniffed(
        stream: &mut (impl AsyncRead + Unpin),
        limits: Limits,
        drain: &Drain,
    ) -> io::Result<Option<Sniffed>> {
        sniff(stream, limits, drain, &mut Counts::new(1).crowded()).await
    }

    async fn told(pieces: &[&[u8]]) -> Option<(Speaks, Bytes)> {
        let (mut client, mut server) = tokio::io::duplex(1024);
        let drain = Drain::new();
        let write = async {
            for piece in pieces {
                client.write_all(piece).await.expect("written");
                tokio::task::yield_now().await;
            }
            drop(client);
        };
        tokio::join!(sniffed(&mut server, PATIENT, &drain), write).0.expect("no error")
    }

    #[tokio::test]
    async fn the_first_bytes_decide() {
        let (speaks, bytes) = told(&[b"GET / HTTP/1.1\r\n"]).await.expect("told");
        assert_eq!((speaks, &bytes[..]), (Speaks::Http1, &b"GET / HTTP/1.1\r\n"[..]));
        let (speaks, bytes) = told(&[b"PR", b"I * HTTP/2.0\r\n\r\nSM\r\n", b"\r\n\0\0"]).await.expect("told");
        assert_eq!((speaks, &bytes[..]), (Speaks::Http2, &PREFACE[..]));
        // A method that begins like the preface, and one that ends there.
        assert_eq!(told(&[b"PR", b"OPFIND /"]).await.expect("told").0, Speaks::Http1);
        assert_eq!(told(&[b"PRI"]).await.expect("told").0, Speaks::Http1);
        assert_eq!(told(&[]).await, None);
    }

    #[tokio::test]
    async fn a_dripped_preface_is_given_up() {
        let (mut client, mut server) = tokio::io::duplex(64);
        let limits = Limits { rest: Duration::from_millis(20), ..PATIENT };
        let drain = Drain::new();
        let drip = async {
            for byte in PREFACE.iter().take(20) {
                if client.write_all(&[*byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            told = sniffed(&mut server, limits, &drain) => assert_eq!(told.expect("no error"), None),
            () = drip => {}
        }
    }

    #[tokio::test]
    async fn a_silent_connection_ends_with_its_limit_or_the_server() {
        let (_client, mut server) = tokio::io::duplex(64);
        let limits = Limits { first: Duration::from_millis(5), ..PATIENT };
        assert_eq!(sniffed(&mut server, limits, &Drain::new()).await.expect("no error"), None);
        let drain = Drain::new();
        drain.enter(Phase::Closing);
        assert_eq!(sniffed(&mut server, PATIENT, &drain).await.expect("no error"), None);
    }
}
