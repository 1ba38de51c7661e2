//! Short text files that may be regular files or named pipes, on file systems that may hang.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

use crate::blocking::{FILES, folder_of};

/// Maximum size of a text.
const MAX_TEXT: u64 = 1 << 20;

/// Time that the writer of a pipe has where nobody gives a limit: at the start, and at a reload.
const PIPE_LIMIT: Duration = Duration::from_secs(3);

/// Pause between two looks into a pipe.
const PIPE_PAUSE: Duration = Duration::from_millis(10);

/// Opens a file for reading. Unlike [`File::open`] it does not wait until somebody writes to a pipe.
///
/// # Errors
/// The system's.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// A file that was opened: what it holds, or a pipe that may have to be waited for.
enum Opened {
    Text(Vec<u8>),
    Pipe(File),
}

fn begin(path: &Path) -> io::Result<Opened> {
    let file = open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_fifo() {
        return Ok(Opened::Pipe(file));
    }
    if kind.is_char_device() || kind.is_block_device() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a device"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_TEXT + 1).read_to_end(&mut bytes)?;
    Ok(Opened::Text(bytes))
}

/// Reads a text, for a caller that has a time limit. On a file system that hangs this takes one thread of [`FILES`] per
/// folder; a pipe takes none.
///
/// # Errors
/// The system's; no UTF-8; or a text that is too large.
pub(crate) async fn read_text(path: &Path) -> io::Result<String> {
    let file = PathBuf::from(path);
    match FILES.run(folder_of(path), Duration::MAX, move || begin(&file)).await?? {
        Opened::Text(bytes) => text(bytes),
        Opened::Pipe(pipe) => {
            let mut bytes = Vec::new();
            pipe::Receiver::from_file(pipe)?.take(MAX_TEXT + 1).read_to_end(&mut bytes).await?;
            text(bytes)
        }
    }
}

/// Reads a text on a thread that may wait. A pipe is waited for, but not without end.
///
/// # Errors
/// As [`read_text`], or nobody wrote to the pipe.
pub(crate) fn read_text_here(path: &Path) -> io::Result<String> {
    let mut pipe = match begin(path)? {
        Opened::Text(bytes) => return text(bytes),
        Opened::Pipe(pipe) => pipe.take(MAX_TEXT + 1),
    };
    let mut bytes = Vec::new();
    let mut waited = Duration::ZERO;
    while waited < PIPE_LIMIT {
        match pipe.read_to_end(&mut bytes) {
            // No writer yet looks like the end.
            Ok(_) if !bytes.is_empty() => return text(bytes),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Ok(_) | Err(_) => {}
        }
        #[expect(clippy::disallowed_methods, reason = "the caller is on a thread that may wait")]
        sleep(PIPE_PAUSE);
        waited += PIPE_PAUSE;
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("it is a pipe, and nothing came within {PIPE_LIMIT:?}"),
    ))
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_TEXT) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it is larger than {} MiB", MAX_TEXT >> 20),
        ));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}
