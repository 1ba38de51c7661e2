//! Minimal HTTP client, on a socket or on any other stream.

use std::io::{self, BufRead, BufReader, Error, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// Time limit for connecting and for each read.
const LIMIT: Duration = Duration::from_secs(20);

/// Response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// Headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    /// Returns the value of a header; `name` is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Persistent connection.
pub struct Connection<S: Read = TcpStream> {
    stream: BufReader<S>,
}

impl Connection {
    pub fn open(addr: SocketAddr) -> io::Result<Self> {
        Ok(Self::over(connect(addr)?))
    }
}

/// Connects a socket with time limits.
pub fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, LIMIT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// Like [`connect`], from the address `source` of this machine.
pub fn connect_from(source: [u8; 4], addr: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    socket.connect_timeout(&addr.into(), LIMIT)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    Ok(stream)
}

impl<S: Read + Write> Connection<S> {
    /// Uses an existing stream.
    pub fn over(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    pub fn get(&mut self, path: &str) -> io::Result<Response> {
        self.request("GET", path, &[])
    }

    /// Sends a request without a body, with `headers` added, and reads the response.
    pub fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> io::Result<Response> {
        let (mut response, body) = self.request_bytes(method, path, headers)?;
        response.body = String::from_utf8(body).map_err(Error::other)?;
        Ok(response)
    }

    /// Like [`Self::request`], for a binary body, which is returned separately.
    pub fn request_bytes(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> io::Result<(Response, Vec<u8>)> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n").into_bytes();
        for (name, value) in headers {
            write!(request, "{name}: {value}\r\n")?;
        }
        request.extend(b"\r\n");
        self.stream.get_mut().write_all(&request)?;

        let status_line = self.line()?;
        let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| Error::other(format!("not a status line: {status_line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) =
                line.split_once(':').ok_or_else(|| Error::other(format!("not a header: {line:?}")))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let response = Response { status, headers, body: String::new() };
        let body = self.body(method, &response)?;
        Ok((response, body))
    }

    fn body(&mut self, method: &str, response: &Response) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if method == "HEAD" || matches!(response.status, 204 | 304) {
            // The response has a length but no body.
        } else if let Some(length) = response.header("content-length") {
            bytes.resize(length.parse().map_err(Error::other)?, 0);
            self.stream.read_exact(&mut bytes)?;
        } else if response.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(&self.line()?, 16).map_err(Error::other)?;
                let begin = bytes.len();
                bytes.resize(begin + size, 0);
                self.stream.read_exact(&mut bytes[begin..])?;
                self.line()?;
                if size == 0 {
                    break;
                }
            }
        } else {
            self.stream.read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}

/// Sends one request on a new connection.
pub fn get(addr: SocketAddr, path: &str) -> io::Result<Response> {
    Connection::open(addr)?.request("GET", path, &[("Connection", "close")])
}
