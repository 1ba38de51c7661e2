//! Bounded reads of files, which may be named pipes or on file systems that hang.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

use crate::blocking::{FILES, folder_of};

/// Maximum time for a pipe to deliver its content in [`read_text`].
const PIPE_TIMEOUT: Duration = Duration::from_secs(3);

/// Interval between attempts to read from a pipe.
const PIPE_INTERVAL: Duration = Duration::from_millis(10);

/// Opens a file for reading. Unlike [`File::open`], it does not block until a pipe has a writer.
///
/// # Errors
/// Errors of the operating system.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// True for a regular file that every user of the machine may change.
pub(crate) fn is_writable_by_all(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o002 != 0)
}

/// Reads a source to its end. Blocks as long as the source does.
///
/// # Errors
/// Errors of the source, or [`io::ErrorKind::FileTooLarge`] if there are more than `limit` bytes.
pub(crate) fn read(source: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    check_size(&bytes, limit)?;
    Ok(bytes)
}

/// Reads a UTF-8 file on a thread that may block. A pipe must deliver its content within [`PIPE_TIMEOUT`]. A file system
/// that hangs blocks without limit, so a runtime must call this only on a thread of [`FILES`].
///
/// # Errors
/// As for [`read`]; the content is not UTF-8; a pipe delivered nothing in time.
pub(crate) fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    match Source::open(path, limit)? {
        Source::Content(bytes) => text(bytes),
        Source::Pipe(pipe) => text(read_pipe(pipe, limit)?),
    }
}

/// Reads a UTF-8 file for a caller that has its own time limit. On a file system that hangs, this occupies one thread of
/// [`FILES`] per directory; a pipe occupies none.
///
/// # Errors
/// As for [`read`], or the content is not UTF-8.
pub(crate) async fn read_text_async(path: &Path, limit: u64) -> io::Result<String> {
    let file = PathBuf::from(path);
    match FILES.run(folder_of(path), Duration::MAX, move || Source::open(&file, limit)).await?? {
        Source::Content(bytes) => text(bytes),
        Source::Pipe(pipe) => {
            let mut bytes = Vec::new();
            let pipe = pipe::Receiver::from_file(pipe)?;
            pipe.take(limit.saturating_add(1)).read_to_end(&mut bytes).await?;
            check_size(&bytes, limit)?;
            text(bytes)
        }
    }
}

/// An opened file: the content of a regular file, or a pipe that has not been read yet.
enum Source {
    Content(Vec<u8>),
    Pipe(File),
}

impl Source {
    fn open(path: &Path, limit: u64) -> io::Result<Self> {
        let file = open(path)?;
        if file.metadata()?.file_type().is_fifo() {
            return Ok(Self::Pipe(file));
        }
        read(file, limit).map(Self::Content)
    }
}

fn read_pipe(pipe: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut pipe = pipe.take(limit.saturating_add(1));
    let mut bytes = Vec::new();
    let mut waited = Duration::ZERO;
    while waited < PIPE_TIMEOUT {
        match pipe.read_to_end(&mut bytes) {
            // A pipe that has no writer yet reports the end of the file.
            Ok(_) if !bytes.is_empty() => {
                check_size(&bytes, limit)?;
                return Ok(bytes);
            }
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Ok(_) | Err(_) => {}
        }
        #[expect(clippy::disallowed_methods, reason = "the caller is on a thread that may block")]
        sleep(PIPE_INTERVAL);
        waited += PIPE_INTERVAL;
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("the pipe delivered no content within {PIPE_TIMEOUT:?}"),
    ))
}

fn check_size(bytes: &[u8], limit: u64) -> io::Result<()> {
    if u64::try_from(bytes.len()).is_ok_and(|size| size <= limit) {
        return Ok(());
    }
    let limit = match (limit >> 20, limit >> 10) {
        (0, 0) => format!("{limit} bytes"),
        (0, kibibytes) => format!("{kibibytes} KiB"),
        (mebibytes, _) => format!("{mebibytes} MiB"),
    };
    Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit}")))
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not valid UTF-8"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::Command;
    use std::thread;

    use super::*;

    #[test]
    fn a_file_may_have_the_limit_and_no_byte_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "1234").unwrap();
        assert_eq!(read_text(&path, 4).unwrap(), "1234");
        let error = read_text(&path, 3).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (io::ErrorKind::FileTooLarge, "larger than 3 bytes")
        );
        let error = read(io::repeat(0), 2 << 20).unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (io::ErrorKind::FileTooLarge, "larger than 2 MiB")
        );
        std::fs::write(&path, b"\xff").unwrap();
        assert_eq!(read_text(&path, 4).unwrap_err().kind(), io::ErrorKind::InvalidData);
        // A device has no end.
        assert_eq!(read_text(Path::new("/dev/zero"), 4).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read_text(Path::new("/dev/null"), 4).unwrap(), "");
    }

    #[test]
    fn a_pipe_is_read_to_its_end_and_within_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        for (limit, expected) in [(10, Ok("1234".to_owned())), (3, Err(io::ErrorKind::FileTooLarge))] {
            let writer = thread::spawn({
                let path = path.clone();
                move || {
                    let mut pipe = File::options().write(true).open(path).unwrap();
                    for part in ["12", "34"] {
                        // The reader may have closed the pipe after it received too much.
                        let _ = pipe.write_all(part.as_bytes());
                    }
                }
            });
            assert_eq!(read_text(&path, limit).map_err(|error| error.kind()), expected);
            writer.join().unwrap();
        }
        assert_eq!(read_text(&path, 10).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
