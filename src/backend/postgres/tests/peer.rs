//! A server of which a test says when it reads, and what it answers.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
};

/// The first connection is a session's, the others ask to cancel.
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    sessions: mpsc::UnboundedReceiver<TcpStream>,
    cancels: mpsc::UnboundedReceiver<Option<TcpStream>>,
    held: Arc<AtomicBool>,
}

/// A session's connection.
pub(super) struct Line(TcpStream);

impl Peer {
    pub(super) async fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // So small that whoever is not read from notices soon.
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(64).unwrap();
        let address = listener.local_addr().unwrap();
        let (session, sessions) = mpsc::unbounded_channel();
        let (cancel, cancels) = mpsc::unbounded_channel();
        let held = Arc::new(AtomicBool::new(false));
        tokio::spawn(accept(listener, session, cancel, Arc::clone(&held)));
        Self {
            address,
            sessions,
            cancels,
            held,
        }
    }

    /// Lets a session in.
    pub(super) async fn login(&mut self) -> Line {
        let mut line = Line(self.sessions.recv().await.unwrap());
        let length = line.0.read_u32().await.unwrap();
        let mut startup = vec![0; length as usize - 4];
        line.0.read_exact(&mut startup).await.unwrap();
        let key = [7_u32.to_be_bytes(), 8_u32.to_be_bytes()].concat();
        let parts = [message(b'R', &[0; 4]), message(b'K', &key), ready()];
        line.say(&parts.concat()).await;
        line
    }

    /// Waits for the next request to cancel. It is confirmed, unless it is to be held: then by dropping what this
    /// returns.
    pub(super) async fn cancel(&mut self) -> Option<TcpStream> {
        self.cancels.recv().await.unwrap()
    }

    /// From now on no request to cancel is confirmed at once.
    pub(super) fn hold_cancels(&self) {
        self.held.store(true, Ordering::SeqCst);
    }
}

async fn accept(
    listener: TcpListener,
    session: mpsc::UnboundedSender<TcpStream>,
    cancel: mpsc::UnboundedSender<Option<TcpStream>>,
    held: Arc<AtomicBool>,
) {
    let (stream, _) = listener.accept().await.unwrap();
    stream.set_nodelay(true).unwrap();
    session.send(stream).unwrap();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 16];
        stream.read_exact(&mut request).await.unwrap();
        assert_eq!(request[8..], [0, 0, 0, 7, 0, 0, 0, 8]);
        let held = held.load(Ordering::SeqCst).then_some(stream);
        if cancel.send(held).is_err() {
            return;
        }
    }
}

impl Line {
    /// The next message; none if the connection ends before it is whole.
    pub(super) async fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        let tag = self.0.read_u8().await.ok()?;
        let length = self.0.read_u32().await.ok()?;
        let mut body = vec![0; length as usize - 4];
        self.0.read_exact(&mut body).await.ok()?;
        Some((tag, body))
    }

    pub(super) async fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }
}

pub(super) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag], length.as_slice(), body].concat()
}

pub(super) fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

/// The answer to an empty query.
pub(super) fn nothing() -> Vec<u8> {
    [message(b'I', b""), ready()].concat()
}

/// The end of a cancelled statement.
pub(super) fn cancelled() -> Vec<u8> {
    let fields = b"SERROR\0VERROR\0C57014\0Mcancelled\0\0";
    [message(b'E', fields), ready()].concat()
}

pub(super) fn notice() -> Vec<u8> {
    message(b'N', b"SNOTICE\0VNOTICE\0C00000\0Mof no interest\0\0")
}

/// A row of one column, `n`, behind its description.
pub(super) fn row(first: bool) -> Vec<u8> {
    let described = [b"\0\x01n\0".as_slice(), &[0; 6], &25_u32.to_be_bytes(), &[0; 8]].concat();
    let described = if first {
        message(b'T', &described)
    } else {
        Vec::new()
    };
    [described, message(b'D', b"\0\x01\0\0\0\x01x")].concat()
}
