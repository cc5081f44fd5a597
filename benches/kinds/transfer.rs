//! Bytes to the server of bytes and back, over a connection or over a tunnel.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    peers::{ECHO, SINK, SOURCE},
    tunnel::{PART, Tunnel},
};

/// Where a pipe begins.
#[derive(Clone, Copy)]
pub enum Way<'a> {
    /// A TCP address: the server's, or that of `sublet tunnel`.
    Address(&'a str),
    /// A broker's pool.
    Pool(&'a str, &'a str),
}

pub enum Pipe {
    Connection(TcpStream),
    Tunnel(Box<Tunnel>),
}

impl Pipe {
    async fn open(way: Way<'_>) -> Self {
        match way {
            Way::Address(address) => {
                let socket = TcpStream::connect(address).await.expect("a connection");
                socket.set_nodelay(true).expect("nodelay");
                Self::Connection(socket)
            }
            Way::Pool(broker, pool) => Self::Tunnel(Box::new(Tunnel::open(broker, pool).await)),
        }
    }

    /// One whose bytes come back.
    pub async fn echo(way: Way<'_>) -> Self {
        let mut pipe = Self::open(way).await;
        pipe.send(Bytes::from_static(&[ECHO])).await;
        pipe
    }

    async fn send(&mut self, bytes: Bytes) {
        match self {
            Self::Connection(socket) => socket.write_all(&bytes).await.expect("it is taken"),
            Self::Tunnel(tunnel) => tunnel.send(bytes).await,
        }
    }

    /// How many bytes came next; none at the end.
    async fn part(&mut self, buffer: &mut BytesMut) -> usize {
        match self {
            Self::Connection(socket) => {
                buffer.clear();
                buffer.reserve(PART);
                socket.read_buf(buffer).await.expect("bytes")
            }
            Self::Tunnel(tunnel) => tunnel.part().await.map_or(0, |part| part.len()),
        }
    }

    async fn finish(&mut self) {
        match self {
            Self::Connection(socket) => socket.shutdown().await.expect("an end"),
            Self::Tunnel(tunnel) => tunnel.finish(),
        }
    }

    /// Sends 64 bytes, and waits until they are back.
    pub async fn turn(&mut self) {
        self.send(Bytes::from_static(&[b'x'; 64])).await;
        let (mut back, mut buffer) = (0, BytesMut::new());
        while back < 64 {
            back += self.part(&mut buffer).await;
        }
    }
}

/// The time that so many bytes take from the server.
pub async fn down(way: Way<'_>, bytes: u64) -> Duration {
    let mut pipe = Pipe::open(way).await;
    let mut ask = vec![SOURCE];
    ask.extend_from_slice(&bytes.to_le_bytes());
    let begun = Instant::now();
    pipe.send(ask.into()).await;
    let (mut came, mut buffer) = (0, BytesMut::new());
    loop {
        match pipe.part(&mut buffer).await {
            0 => break,
            part => came += part as u64,
        }
    }
    let took = begun.elapsed();
    assert_eq!(came, bytes);
    pipe.finish().await;
    took
}

/// The time that so many bytes take to the server.
pub async fn up(way: Way<'_>, bytes: u64) -> Duration {
    let mut pipe = Pipe::open(way).await;
    let part = Bytes::from(vec![b'x'; PART]);
    let begun = Instant::now();
    pipe.send(Bytes::from_static(&[SINK])).await;
    for _ in 0..bytes / PART as u64 {
        pipe.send(part.clone()).await;
    }
    pipe.finish().await;
    assert_eq!(pipe.part(&mut BytesMut::new()).await, 1);
    begun.elapsed()
}
