//! Opening a session: the socket, TLS, the login, and what every session begins with.

use std::sync::Arc;

use super::{
    code,
    definition::Server,
    resp::{Kind, Token},
    session::read_whole,
    wire::{Wire, WireError},
};
use crate::backend::{DialError, DialErrorKind, Fence, FencedIo, carrier::Carrier, home::Socket, socket};

/// The commands that a session begins with, ready to be sent again after a reset.
pub(super) struct Login {
    hello: Vec<Vec<u8>>,
    select: Option<[String; 2]>,
}

impl Login {
    /// Reads the password, which is looked up at each dial.
    async fn of(server: &Server) -> Result<Self, DialError> {
        let mut hello: Vec<Vec<u8>> = vec![b"HELLO".into(), b"3".into()];
        let password = server.site.password().await?;
        if password.is_some() || server.named {
            let password = password.map(|secret| secret.reveal().to_vec());
            let user = server.user.clone().into_bytes();
            hello.extend([b"AUTH".into(), user, password.unwrap_or_default()]);
        }
        hello.extend([b"SETNAME".into(), server.client_name.clone().into_bytes()]);
        let database = (server.database != 0).then(|| server.database.to_string());
        Ok(Self {
            hello,
            select: database.map(|database| ["SELECT".to_owned(), database]),
        })
    }

    /// Queues them.
    pub(super) fn queue(&self, wire: &mut Wire) {
        wire.command(&self.hello);
        if let Some(select) = &self.select {
            wire.command(select);
        }
    }

    /// Takes the answers.
    pub(super) async fn taken(&self, wire: &mut Wire) -> Result<(), Refused> {
        // Its answer is about the server: a map in the protocol that was asked for.
        match wire.token().await? {
            Token::Open(Kind::Map, _) => read_rest(wire).await?,
            Token::Error(text) => return Err(refused(&text, "HELLO")),
            _ => {
                return Err(Refused(DialError::permanent(
                    "the server does not answer HELLO 3 in RESP3",
                )));
            }
        }
        if self.select.is_some()
            && let Token::Error(text) = read_whole(wire).await?
        {
            return Err(refused(&text, "SELECT"));
        }
        Ok(())
    }
}

async fn read_rest(wire: &mut Wire) -> Result<(), Refused> {
    while wire.is_within() {
        if let Token::Large(_) = wire.token().await? {
            return Err(WireError::malformed("HELLO was answered by something huge").into());
        }
    }
    Ok(())
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").finish_non_exhaustive()
    }
}

/// Opens a connection and logs in. If the future is dropped, so is the socket.
pub(super) async fn connect(server: &Server, fence: &Arc<Fence>) -> Result<(Wire, Login), DialError> {
    let login = Login::of(server).await?;
    let stream = socket::connect(&server.site.host, server.site.port).await?;
    socket::tune(&stream).map_err(DialError::transient)?;
    let fenced = FencedIo::dialing(Socket::new(stream), Arc::clone(fence));
    let line = fenced.line();
    let carrier = Carrier::secured(fenced, server.site.tls.as_ref(), &server.site.secrets).await?;
    let mut wire = Wire::new(carrier, line, Arc::clone(fence));
    login.queue(&mut wire);
    login.taken(&mut wire).await.map_err(|Refused(error)| error)?;
    wire.count();
    Ok((wire, login))
}

/// Why a login failed.
pub(super) struct Refused(pub(super) DialError);

impl From<WireError> for Refused {
    fn from(error: WireError) -> Self {
        Self(DialError::transient(error))
    }
}

fn refused(text: &[u8], command: &str) -> Refused {
    let text = String::from_utf8_lossy(text);
    let kind = kind(&text);
    let unknown = text.starts_with("ERR unknown command");
    Refused(DialError {
        kind,
        message: if unknown && command == "HELLO" {
            "the server does not know HELLO: Redis 6 or newer is needed".to_owned()
        } else {
            format!("{command}: {text}")
        },
    })
}

/// What a refused login is to the pool.
fn kind(text: &str) -> DialErrorKind {
    match code::prefix(text) {
        _ if text.contains("max number of clients") => DialErrorKind::TooMany,
        "LOADING" | "BUSY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" => DialErrorKind::Transient,
        // Login, database, permission: somebody has to change something.
        _ => DialErrorKind::Permanent,
    }
}
