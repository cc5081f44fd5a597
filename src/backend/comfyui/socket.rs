//! A box's socket: events come on it. Each physical socket has a client id of its own, for a box that is told the same
//! one twice loses the newer socket when it clears up after the older.
//!
//! Nothing of any caller is ever written on it, only the broker's own words: the handshake, what it understands, pings.
//! So it has a fence of its own. It is read by its own task, whether a call listens or not: a box tells all its
//! listeners in one loop, so a socket that is not read holds up everyone's events. Only one whose caller does not take what
//! has to be kept is not read for a while, until the caller does or is given up.
//!
//! Loops: `drive`, one task for each socket, which ends with it.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use http::{Request, StatusCode, header};
use tokio::task::JoinHandle;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{self, Message, handshake::client::generate_key, protocol::WebSocketConfig},
};
use uuid::Uuid;

use super::{
    events::{self, Said},
    feed::Feed,
    place::Place,
};
use crate::{
    backend::{DialError, Fence, Line, Load, carrier::Carrier, http::Wire},
    clock::Clock,
};

/// The largest message: an image of 16 bits a channel at 4K, not compressed, is smaller.
const MAX_MESSAGE: usize = 64 << 20;
/// Messages are small but for images; this is what is read at once.
const READ_BUFFER: usize = 16 << 10;
/// A socket that says nothing for so long is asked for a sign of life, and given up after as long again. A box that
/// loads a model may be silent for a while.
const SILENCE: Duration = Duration::from_secs(30);
/// Offers previews that say whose they are.
const FLAGS: &str = r#"{"type":"feature_flags","data":{"supports_preview_metadata":true}}"#;

type Stream = WebSocketStream<Carrier<Wire>>;

/// A socket to a box. Dropped, it is cut.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) client_id: String,
    pub(super) feed: Arc<Feed>,
    line: Line,
    driver: JoinHandle<()>,
}

impl Socket {
    /// Opens one; returns when the box knows it, so that nothing is missed. If the future is dropped, so is the socket.
    pub(super) async fn open(place: &Place) -> Result<Self, DialError> {
        let due = place.clock.now() + place.connect;
        tokio::select! {
            biased;
            opened = Self::try_open(place) => opened,
            () = place.clock.sleep_until(due) => {
                Err(DialError::transient(format!("the box opens no socket within {:?}", place.connect)))
            }
        }
    }

    async fn try_open(place: &Place) -> Result<Self, DialError> {
        let fence = Arc::new(Fence::default());
        fence.open(1);
        let bare = place.service.socket(&fence).await?;
        let line = bare.io.line();
        let client_id = Uuid::new_v4().to_string();
        let mut request = Request::builder()
            .uri(format!("ws://box{}/ws?clientId={client_id}", bare.base))
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, generate_key())
            .body(())
            .map_err(DialError::permanent)?;
        request.headers_mut().extend(bare.headers);
        let mut config = WebSocketConfig::default();
        config.read_buffer_size = READ_BUFFER;
        config.max_message_size = Some(MAX_MESSAGE);
        config.max_frame_size = Some(MAX_MESSAGE);
        let opened = client_async_with_config(request, bare.io, Some(config)).await;
        let (mut stream, _) = opened.map_err(|error| not_opened(&error))?;
        stream
            .send(Message::text(FLAGS))
            .await
            .map_err(DialError::transient)?;
        greeted(&mut stream, &place.load).await?;
        let feed = Arc::new(Feed::default());
        let driven = drive(stream, Arc::clone(&feed), place.load.clone(), place.clock.clone());
        Ok(Self {
            client_id,
            feed,
            line,
            driver: tokio::spawn(driven),
        })
    }

    pub(super) fn is_lost(&self) -> bool {
        self.feed.is_lost() || self.driver.is_finished()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.line.cut();
        self.driver.abort();
    }
}

/// A proxy that wants another login, or has no such box, will not change its mind; one whose box is away may.
fn not_opened(error: &tungstenite::Error) -> DialError {
    if let tungstenite::Error::Http(answer) = error
        && [
            StatusCode::UNAUTHORIZED,
            StatusCode::FORBIDDEN,
            StatusCode::NOT_FOUND,
        ]
        .contains(&answer.status())
    {
        return DialError::permanent(format!("the box refuses the socket: {}", answer.status()));
    }
    DialError::transient(format!("the box opens no socket: {error}"))
}

/// The box greets with its status once it has the socket on its list.
async fn greeted(stream: &mut Stream, load: &Load) -> Result<(), DialError> {
    while let Some(message) = stream.next().await {
        if let Message::Text(text) = message.map_err(DialError::transient)?
            && let Said::Remaining(count) = events::text(&text)
        {
            load.set(count);
            return Ok(());
        }
    }
    Err(DialError::transient("the box closed its socket"))
}

async fn drive(mut stream: Stream, feed: Arc<Feed>, load: Load, clock: Clock) {
    let mut asked = false;
    loop {
        let message = tokio::select! {
            biased;
            message = stream.next() => message,
            () = clock.sleep_until(clock.now() + SILENCE) => {
                if asked || stream.send(Message::Ping(bytes::Bytes::new())).await.is_err() {
                    break;
                }
                asked = true;
                continue;
            }
        };
        asked = false;
        let said = match message {
            Some(Ok(Message::Text(text))) => events::text(&text),
            Some(Ok(Message::Binary(bytes))) => events::binary(bytes),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Said::Nothing,
            Some(Ok(Message::Close(_)) | Err(_)) | None => break,
        };
        match said {
            Said::Remaining(count) => load.set(count),
            Said::About(id, heard) => feed.hear(id.as_deref(), heard),
            Said::Nothing => {}
        }
        feed.room().await;
    }
    feed.lose();
}
