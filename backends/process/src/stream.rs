//! Messages on a socket: a length of four bytes, lowest first, and so many bytes of JSON.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of one message at most: descriptions and places of tensors, never their content.
const MAX_MESSAGE: usize = 64 << 20;
const CHUNK: usize = 16 << 10;
/// How long the other side may take nothing. A thread of its own does nothing but take.
const STALLED: Duration = Duration::from_secs(10);

/// One side.
pub(crate) struct Stream {
    stream: UnixStream,
    /// What has come of messages that are not whole.
    received: Vec<u8>,
}

impl Stream {
    /// `patience` is how long [`Stream::receive`] waits at most; none: for ever. Who takes nothing of what is sent for
    /// [`STALLED`] is given up.
    pub(crate) fn new(stream: UnixStream, patience: Option<Duration>) -> io::Result<Self> {
        stream.set_read_timeout(patience)?;
        stream.set_write_timeout(Some(STALLED))?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// Another handle that sends, and does not receive.
    pub(crate) fn sender(&self) -> io::Result<Sender> {
        self.stream.try_clone().map(Sender)
    }

    pub(crate) fn send(&self, message: &impl Serialize) -> io::Result<()> {
        send(&self.stream, message)
    }

    /// The next message; none where none has come in time.
    ///
    /// # Errors
    /// `UnexpectedEof` when the other side has gone.
    pub(crate) fn receive<M: DeserializeOwned>(&mut self) -> io::Result<Option<M>> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            let mut chunk = [0; CHUNK];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.received.extend_from_slice(&chunk[..read]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn take<M: DeserializeOwned>(&mut self) -> io::Result<Option<M>> {
        let Some((length, rest)) = self.received.split_first_chunk() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > MAX_MESSAGE {
            return Err(too_long(length));
        }
        let Some(content) = rest.get(..length) else { return Ok(None) };
        let message = serde_json::from_slice(content)?;
        self.received.drain(..4 + length);
        Ok(Some(message))
    }
}

/// The sending half.
pub(crate) struct Sender(UnixStream);

impl Sender {
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    pub(crate) fn send(&self, message: &impl Serialize) -> io::Result<()> {
        send(&self.0, message)
    }
}

fn send(mut stream: &UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut framed = vec![0; 4];
    serde_json::to_writer(&mut framed, message)?;
    let length = framed.len() - 4;
    if length > MAX_MESSAGE {
        return Err(too_long(length));
    }
    framed[..4].copy_from_slice(&(length as u32).to_le_bytes());
    stream.write_all(&framed)
}

fn too_long(length: usize) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("a message has {length} bytes; at most {MAX_MESSAGE} are allowed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_whole_and_in_order() {
        let (one, two) = UnixStream::pair().expect("a pair");
        let tick = Some(Duration::from_millis(5));
        let (one, mut two) = (Stream::new(one, None).expect("ours"), Stream::new(two, tick).expect("theirs"));
        assert_eq!(two.receive::<String>().expect("open"), None);
        let long = "x".repeat(3 * CHUNK);
        for text in ["a", "", long.as_str()] {
            one.send(&text).expect("sent");
        }
        for text in ["a", "", long.as_str()] {
            assert_eq!(two.receive::<String>().expect("open").as_deref(), Some(text));
        }
        drop(one);
        assert_eq!(two.receive::<String>().expect_err("closed").kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_length_that_no_message_has_is_refused() {
        let (one, two) = UnixStream::pair().expect("a pair");
        let mut two = Stream::new(two, None).expect("theirs");
        (&one).write_all(&u32::MAX.to_le_bytes()).expect("sent");
        assert_eq!(two.receive::<String>().expect_err("too long").kind(), ErrorKind::InvalidData);
    }
}
