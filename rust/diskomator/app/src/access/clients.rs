//! The control socket and its clients, of which none can hold up another: each gives little text at a time, and has to
//! take its answers at once.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};

use access::control::{Answer, Lines};
use kernel::error::chain;
use kernel::root::{FileError, Root};

use super::CONTROL;

/// Clients at most. One more takes the place of the one that was silent for longest.
const CLIENTS_MAX: usize = 16;
/// Bytes to read of a client before the others have their turn.
const READ_AT_ONCE: usize = 4096;

/// Why nobody can connect.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    #[error("another `diskomator access` runs")]
    Runs,
    #[error("cannot remove the socket of a former run")]
    Stale(#[source] FileError),
    #[error("cannot listen on /{CONTROL}")]
    Listen(#[source] io::Error),
}

struct Client {
    stream: UnixStream,
    lines: Lines,
    /// The turn in which it said something last.
    heard: u64,
}

/// All of them, each at its place.
pub(super) struct Clients {
    listener: UnixListener,
    places: [Option<Client>; CLIENTS_MAX],
    turn: u64,
}

impl Clients {
    /// Listens on the socket, in place of that of a run that was killed.
    pub(super) fn listen(root: &Root) -> Result<Self, SocketError> {
        let path = root.path(CONTROL);
        if UnixStream::connect(&path).is_ok() {
            return Err(SocketError::Runs);
        }
        match root.unlink(CONTROL) {
            Err(error) if error.io().kind() != io::ErrorKind::NotFound => return Err(SocketError::Stale(error)),
            _ => {}
        }
        let open = || {
            let listener = UnixListener::bind(&path)?;
            // Until here, the directory has kept others out.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let listener = open().map_err(SocketError::Listen)?;
        Ok(Self { listener, places: [const { None }; CLIENTS_MAX], turn: 0 })
    }

    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// The connection at a place.
    pub(super) fn client(&self, place: usize) -> Option<&UnixStream> {
        self.places.get(place)?.as_ref().map(|client| &client.stream)
    }

    /// Takes one that connects; returns its place, if there is one.
    pub(super) fn accept(&mut self) -> Option<usize> {
        let accepted = self.listener.accept().and_then(|(stream, _)| {
            stream.set_nonblocking(true)?;
            Ok(stream)
        });
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                if error.kind() != io::ErrorKind::WouldBlock {
                    log::warn!("cannot take a connection to /{CONTROL}: {error}");
                }
                return None;
            }
        };
        self.turn += 1;
        // An empty place comes before each that is taken.
        let silence = |place: &usize| self.places[*place].as_ref().map(|client| client.heard);
        let place = (0..CLIENTS_MAX).min_by_key(silence).unwrap_or_default();
        self.places[place] = Some(Client { stream, lines: Lines::default(), heard: self.turn });
        Some(place)
    }

    /// Reads some of a client's lines and answers each; `true` if there may be more.
    pub(super) fn serve(&mut self, place: usize, mut answer: impl FnMut(&[u8]) -> Answer) -> bool {
        let Some(entry) = self.places.get_mut(place) else { return false };
        let Some(client) = entry else { return false };
        let mut buffer = [0; READ_AT_ONCE];
        let length = match client.stream.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Ok(length) if length > 0 => length,
            // It has gone.
            Ok(_) | Err(_) => {
                *entry = None;
                return false;
            }
        };
        self.turn += 1;
        client.heard = self.turn;
        let (lines, outcome) = client.lines.push(&buffer[..length]);
        let is_too_long = outcome.is_err();
        let refusal = outcome.err().map(|error| Answer::Refused { error: error.to_string() });
        for answer in lines.iter().map(|line| answer(line)).chain(refusal) {
            if let Err(error) = reply(&mut client.stream, &answer) {
                log::debug!("a client takes no answer: {}", chain(&error));
                *entry = None;
                return false;
            }
        }
        if is_too_long {
            *entry = None;
        }
        !is_too_long
    }

    /// Ends them all and removes the socket.
    pub(super) fn close(&mut self, root: &Root) {
        self.places = [const { None }; CLIENTS_MAX];
        if let Err(error) = root.unlink(CONTROL) {
            log::warn!("{}", chain(&error));
        }
    }
}

/// An answer that does not fit into the socket's buffer at once is an error: nobody waits for a client that reads
/// nothing.
fn reply(stream: &mut UnixStream, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    stream.write_all(&line)
}
