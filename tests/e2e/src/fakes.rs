//! Servers that only pretend to be the protected one, inside a target's address range. Each prints
//! what it is given, a line an event; what it must never be given is a credential.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::lab::Lab;

/// A PostgreSQL server: mode, port, certificate and key (PEM files, or `-`).
const POSTGRES: &str = r"
import base64, os, socket, ssl, struct, sys, threading
mode, port, cert, key = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]

def say(*words):
    print(*words, flush=True)

def exactly(stream, count):
    data = b''
    while len(data) < count:
        piece = stream.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data

def message(stream, tag):
    head = exactly(stream, 5 if tag else 4)
    body = exactly(stream, struct.unpack('!I', head[-4:])[0] - 4)
    say('got', head[:1].decode('latin1') if tag else 'startup', body.hex())
    return head[:1], body

def auth(stream, code, rest=b''):
    stream.sendall(b'R' + struct.pack('!II', 8 + len(rest), code) + rest)

def scram(stream, iterations):
    auth(stream, 10, b'SCRAM-SHA-256\0\0')
    _, first = message(stream, True)
    nonce = first[first.index(b'r=') + 2:].decode() + base64.b64encode(os.urandom(18)).decode()
    salt = base64.b64encode(os.urandom(16)).decode()
    auth(stream, 11, f'r={nonce},s={salt},i={iterations}'.encode())
    message(stream, True)

def login(stream):
    if mode == 'md5':
        auth(stream, 5, os.urandom(4))
    elif mode == 'ok':
        auth(stream, 0)
        stream.sendall(b'Z' + struct.pack('!I', 5) + b'I')
    elif mode == 'scram-few':
        scram(stream, 4095)
    elif mode == 'scram-lies':
        scram(stream, 4096)
        auth(stream, 12, b'v=' + base64.b64encode(os.urandom(32)))
    elif mode == 'scram-silent':
        scram(stream, 4096)
        auth(stream, 0)
        stream.sendall(b'Z' + struct.pack('!I', 5) + b'I')
    else:
        auth(stream, 3)
        message(stream, True)
        raise EOFError
    while True:
        message(stream, True)

def serve(stream):
    try:
        if mode in ('no-tls', 'tls'):
            message(stream, False)
            if mode == 'no-tls':
                stream.sendall(b'N')
            else:
                stream.sendall(b'S')
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(cert, key)
                stream = context.wrap_socket(stream, server_side=True)
                say('tls')
        message(stream, False)
        login(stream)
    except (EOFError, OSError) as error:
        say('end', type(error).__name__)

listener = socket.create_server(('', port))
say('READY')
while True:
    stream, _ = listener.accept()
    say('connection')
    threading.Thread(target=serve, args=(stream,), daemon=True).start()
";

/// An HTTPS server: port, certificate and key.
const HTTPS: &str = r"
import socket, ssl, sys
port, cert, key = int(sys.argv[1]), sys.argv[2], sys.argv[3]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
listener = socket.create_server(('', port))
print('READY', flush=True)
while True:
    stream, _ = listener.accept()
    print('connection', flush=True)
    try:
        print('got', context.wrap_socket(stream, server_side=True).recv(65536).hex(), flush=True)
    except OSError as error:
        print('end', type(error).__name__, flush=True)
";

/// An SSH server with another host key: port, key file.
const SSH: &str = r"
import logging, paramiko, socket, sys, threading
logging.disable(logging.CRITICAL)
port, key = int(sys.argv[1]), paramiko.Ed25519Key(filename=sys.argv[2])

class Server(paramiko.ServerInterface):
    def get_allowed_auths(self, user):
        return 'password,publickey'
    def check_auth_password(self, user, password):
        print('got password', password, flush=True)
        return paramiko.AUTH_SUCCESSFUL
    def check_auth_publickey(self, user, key):
        print('got publickey', key.get_base64(), flush=True)
        return paramiko.AUTH_SUCCESSFUL

def serve(stream):
    transport = paramiko.Transport(stream)
    transport.add_server_key(key)
    try:
        transport.start_server(server=Server())
        transport.join(20)
    except Exception as error:
        print('end', type(error).__name__, flush=True)

listener = socket.create_server(('', port))
print('READY', flush=True)
while True:
    stream, _ = listener.accept()
    print('connection', flush=True)
    threading.Thread(target=serve, args=(stream,), daemon=True).start()
";

/// Which server is pretended to be.
#[derive(Clone, Copy, Debug)]
pub enum Fake<'a> {
    /// How it behaves, and its certificate and key.
    Postgres(&'a str, Option<(&'a str, &'a str)>),
    Https(&'a str, &'a str),
    Ssh(&'a str),
}

/// A fake that runs in the lab's ungoverned namespace; it ends with this value.
pub struct Running {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Fake<'_> {
    /// Starts it on a port of the namespace that nothing governs.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(self, lab: &Lab, port: u16) -> Result<Running> {
        let port = port.to_string();
        let (script, arguments) = match self {
            Self::Postgres(mode, None) => (POSTGRES, vec![mode, &port, "-", "-"]),
            Self::Postgres(mode, Some((cert, key))) => (POSTGRES, vec![mode, &port, cert, key]),
            Self::Https(cert, key) => (HTTPS, vec![port.as_str(), cert, key]),
            Self::Ssh(key) => (SSH, vec![port.as_str(), key]),
        };
        let mut child = Command::new("nsenter")
            .arg(format!("--net={}", lab.name("LAB_OUTSIDE_NETNS")?))
            .args([Lab::python_binary()?.as_str(), "-B", "-c", script])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a fake server")?;
        let mut lines = BufReader::new(child.stdout.take().context("stdout")?);
        let mut ready = String::new();
        lines.read_line(&mut ready)?;
        let running = Running { child, lines };
        anyhow::ensure!(ready.trim() == "READY", "the fake said {ready:?}");
        Ok(running)
    }
}

impl Running {
    /// Ends it; what it was given.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn end(mut self) -> Result<Vec<String>> {
        self.child.kill()?;
        let mut said = Vec::new();
        let mut line = String::new();
        while self.lines.read_line(&mut line)? > 0 {
            said.push(line.trim().to_owned());
            line.clear();
        }
        Ok(said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _waited = self.child.wait();
    }
}
