//! Opening a session: the socket, TLS, the login, and what every session begins with.

use std::sync::Arc;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::{
    authentication::{
        md5_hash,
        sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
    },
    message::{
        backend::{ErrorResponseBody, Message},
        frontend,
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    cancel::Canceller,
    definition::{CHECK, Server},
    fault::WireError,
    report,
    wire::Wire,
};
use crate::backend::{
    DialError, DialErrorKind, Fence, FencedIo, Line, carrier::Carrier, home::Socket, secrets::Secret, socket,
};

/// A session's connection, and the way to cancel what runs on it.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) wire: Wire,
    pub(super) canceller: Canceller,
}

/// Opens a connection and logs in. If the future is dropped, so is the socket.
pub(super) async fn connect(server: &Arc<Server>, fence: &Arc<Fence>) -> Result<Connected, DialError> {
    match Login::open(server, fence).await?.run().await {
        Err(Refused::TooOld) if server.note_old() => {}
        done => return done.map_err(Refused::into_dial_error),
    }
    // The first socket is gone: there is never more than one.
    let again = Login::open(server, fence).await?.run().await;
    again.map_err(Refused::into_dial_error)
}

/// A socket to the server, with TLS if the definition says so.
pub(super) async fn open(
    server: &Server,
    stream: TcpStream,
    fence: &Arc<Fence>,
) -> Result<(Carrier<Socket>, Line), DialError> {
    socket::tune(&stream).map_err(DialError::transient)?;
    let mut fenced = FencedIo::dialing(Socket::new(stream), Arc::clone(fence));
    let line = fenced.line();
    if server.site.tls.is_some() {
        ask_for_tls(&mut fenced).await?;
    }
    let carrier = Carrier::secured(fenced, server.site.tls.as_ref(), &server.site.secrets).await?;
    Ok((carrier, line))
}

/// The server says whether it has TLS before the handshake begins.
async fn ask_for_tls(fenced: &mut FencedIo<Socket>) -> Result<(), DialError> {
    let mut ask = BytesMut::new();
    frontend::ssl_request(&mut ask);
    fenced.write_all(&ask).await.map_err(DialError::transient)?;
    match fenced.read_u8().await.map_err(DialError::transient)? {
        b'S' => Ok(()),
        b'N' => Err(DialError::permanent(
            "the server has no TLS: turn it on there, or turn postgres.tls off",
        )),
        _ => Err(DialError::transient(
            "the server did not answer whether it has TLS",
        )),
    }
}

/// Why a login failed.
enum Refused {
    /// The server does not know a parameter that only newer ones have.
    TooOld,
    Dial(DialError),
}

impl Refused {
    fn into_dial_error(self) -> DialError {
        match self {
            Self::TooOld => DialError::permanent(format!("the server does not know {CHECK}")),
            Self::Dial(error) => error,
        }
    }
}

impl From<WireError> for Refused {
    fn from(error: WireError) -> Self {
        Self::Dial(DialError::transient(error))
    }
}

impl From<DialError> for Refused {
    fn from(error: DialError) -> Self {
        Self::Dial(error)
    }
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Self {
        Self::Dial(DialError::permanent(error))
    }
}

struct Login<'a> {
    server: &'a Arc<Server>,
    fence: &'a Arc<Fence>,
    peer: std::net::SocketAddr,
    wire: Wire,
}

impl<'a> Login<'a> {
    async fn open(server: &'a Arc<Server>, fence: &'a Arc<Fence>) -> Result<Self, DialError> {
        let stream = socket::connect(&server.site.host, server.site.port).await?;
        let peer = stream.peer_addr().map_err(DialError::transient)?;
        let (io, line) = open(server, stream, fence).await?;
        let wire = Wire::new(io, line);
        Ok(Self {
            server,
            fence,
            peer,
            wire,
        })
    }

    async fn run(mut self) -> Result<Connected, Refused> {
        frontend::startup_message(self.server.startup(), self.wire.queue())?;
        self.wire.expect_ready();
        self.authenticate().await?;
        let key = self.settle_in().await?;
        for sql in &self.server.init_sql {
            self.initialize(sql).await?;
        }
        self.wire.count();
        let canceller = Canceller::new(self.server, self.fence, self.peer, key);
        let wire = self.wire;
        Ok(Connected { wire, canceller })
    }

    async fn authenticate(&mut self) -> Result<(), Refused> {
        loop {
            match self.wire.next().await? {
                Message::AuthenticationOk => return Ok(()),
                Message::AuthenticationCleartextPassword if self.server.site.tls.is_none() => {
                    return Err(Refused::Dial(DialError::permanent(
                        "the server asks for the password in clear: turn postgres.tls on, or scram-sha-256 there",
                    )));
                }
                Message::AuthenticationCleartextPassword => {
                    let password = self.password().await?;
                    frontend::password_message(password.reveal(), self.wire.queue())?;
                }
                Message::AuthenticationMd5Password(body) => {
                    let password = self.password().await?;
                    let user = self.server.user.as_bytes();
                    let hash = md5_hash(user, password.reveal(), body.salt());
                    frontend::password_message(hash.as_bytes(), self.wire.queue())?;
                }
                Message::AuthenticationSasl(body) => {
                    let offered: Vec<String> = body.mechanisms().map(|name| Ok(name.to_owned())).collect()?;
                    self.scram(&offered).await?;
                }
                Message::ErrorResponse(body) => return Err(refused(&body)),
                _ => {
                    return Err(Refused::Dial(DialError::permanent(
                        "the server asks for a kind of login that is not known here: use scram-sha-256",
                    )));
                }
            }
        }
    }

    async fn scram(&mut self, offered: &[String]) -> Result<(), Refused> {
        if !offered.iter().any(|name| name == SCRAM_SHA_256) {
            let message = format!("the server offers {offered:?}: SCRAM-SHA-256 is needed");
            return Err(Refused::Dial(DialError::permanent(message)));
        }
        let password = self.password().await?;
        let mut scram = ScramSha256::new(password.reveal(), ChannelBinding::unsupported());
        frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), self.wire.queue())?;
        loop {
            match self.wire.next().await? {
                Message::AuthenticationSaslContinue(body) => {
                    scram.update(body.data())?;
                    frontend::sasl_response(scram.message(), self.wire.queue())?;
                }
                // The server proves that it knows the password too.
                Message::AuthenticationSaslFinal(body) => return Ok(scram.finish(body.data())?),
                Message::ErrorResponse(body) => return Err(refused(&body)),
                _ => return Err(Refused::Dial(DialError::permanent("the server broke off SCRAM"))),
            }
        }
    }

    async fn password(&self) -> Result<Secret, DialError> {
        let password = self.server.site.password().await?;
        password.ok_or_else(|| DialError::permanent("the server asks for a password: set postgres.password"))
    }

    /// The key for cancelling, if the server gives one.
    async fn settle_in(&mut self) -> Result<Option<(i32, i32)>, Refused> {
        let mut key = None;
        loop {
            match self.wire.next().await? {
                Message::BackendKeyData(body) => key = Some((body.process_id(), body.secret_key())),
                Message::ReadyForQuery(_) => return Ok(key),
                Message::ErrorResponse(body) => return Err(refused(&body)),
                _ => {}
            }
        }
    }

    async fn initialize(&mut self, sql: &str) -> Result<(), Refused> {
        frontend::query(sql, self.wire.queue())?;
        self.wire.expect_ready();
        let mut fault = None;
        loop {
            match self.wire.next().await? {
                Message::ErrorResponse(body) => fault = Some(report::read(&body).message),
                Message::ReadyForQuery(_) => break,
                _ => {}
            }
        }
        match fault {
            None => Ok(()),
            Some(message) => Err(Refused::Dial(DialError::permanent(format!(
                "postgres.init_sql: {message}"
            )))),
        }
    }
}

fn refused(body: &ErrorResponseBody) -> Refused {
    let report = report::read(body);
    if report.sqlstate == "42704" && report.message.contains(CHECK) {
        return Refused::TooOld;
    }
    Refused::Dial(DialError {
        kind: kind(&report.sqlstate),
        message: format!("{} (SQLSTATE {})", report.message, report.sqlstate),
    })
}

/// What a refused login is to the pool.
fn kind(sqlstate: &str) -> DialErrorKind {
    match sqlstate {
        "53300" => DialErrorKind::TooMany,
        // The server starts, stops, or recovers.
        "57P01" | "57P02" | "57P03" => DialErrorKind::Transient,
        // Login, database, parameter (a pooler says 08P01 of one): somebody has to change something.
        code if ["08P01", "28", "3D", "22", "42", "0A"]
            .iter()
            .any(|class| code.starts_with(class)) =>
        {
            DialErrorKind::Permanent
        }
        _ => DialErrorKind::Transient,
    }
}
