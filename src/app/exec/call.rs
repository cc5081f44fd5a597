//! The call itself: one RPC, whichever fits what was asked.

use bytes::{Bytes, BytesMut};
use prost::Message as _;
use tokio::{
    fs::File,
    io::{AsyncRead, AsyncReadExt as _},
};
use tonic::{Request, Streaming, transport::Channel};

use super::{
    super::{exit::Exit, reach::endpoint},
    asked::ExecFlags,
    ended::Ended,
    opened::Opened,
};
use crate::{
    grpc::MAX_MESSAGE_BYTES,
    proto::{
        ExecuteRequest, ExecuteStreamRequest, ExecuteStreamResponse, Result as Answer,
        broker_service_client::BrokerServiceClient, event::Event, execute_request::Target,
    },
};

/// Room in a message for what is around a body.
const AROUND: usize = 1 << 10;

/// A body that has not come to its end.
pub(super) type Rest = Box<dyn AsyncRead + Send + Unpin>;

/// A call under way. Dropped, it is cancelled.
pub(super) enum Calling {
    Stream(Streaming<ExecuteStreamResponse>),
    /// With a body that does not fit into a message.
    Opened(Box<Opened>),
    Whole(Option<Answer>),
}

impl Calling {
    /// Begins a call; returns when the broker has begun to answer.
    pub(super) async fn begin(flags: &ExecFlags, mut request: ExecuteRequest) -> Result<Self, Ended> {
        let rest = fill(flags, &mut request).await?;
        let size = request.encoded_len();
        if size + AROUND > MAX_MESSAGE_BYTES {
            return Err(Exit::usage(too_large(&format!("the call has {size} bytes"))).into());
        }
        let channel = endpoint(&flags.broker)?.connect().await;
        let channel = channel
            .map_err(|error| Exit::unavailable(format!("no broker answers at {}", flags.broker), error))?;
        let mut broker = BrokerServiceClient::new(channel);
        if let Some(rest) = rest {
            let opened = Opened::begin(broker, request, rest, !flags.whole).await?;
            return Ok(Self::Opened(Box::new(opened)));
        }
        if flags.whole {
            let answer = broker.execute(named(request)).await?.into_inner().result;
            return Ok(Self::Whole(answer));
        }
        let request = ExecuteStreamRequest {
            request: Some(request),
        };
        let answers = broker.execute_stream(named(request)).await?;
        Ok(Self::Stream(answers.into_inner()))
    }

    /// The next event; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, Ended> {
        match self {
            Self::Stream(answers) => {
                while let Some(answer) = answers.message().await? {
                    // One of a kind that is not known yet is passed over.
                    if let Some(event) = answer.event.and_then(|event| event.event) {
                        return Ok(Some(event));
                    }
                }
                Ok(None)
            }
            Self::Opened(opened) => opened.next().await,
            Self::Whole(answer) => Ok(answer.take().map(Event::End)),
        }
    }
}

/// The name by which administrators see who waits.
pub(super) fn named<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Ok(name) = "sublet exec".parse() {
        request.metadata_mut().insert("sublet-client", name);
    }
    request
}

/// Puts as much of the body into a request as fits. The rest, if there is one.
async fn fill(flags: &ExecFlags, request: &mut ExecuteRequest) -> Result<Option<Rest>, Exit> {
    let Some(path) = &flags.body else {
        return Ok(None);
    };
    let cannot = |error| Exit::usage(format!("cannot read the body from {}: {error}", path.display()));
    let mut body: Rest = if path.as_os_str() == "-" {
        Box::new(tokio::io::stdin())
    } else {
        Box::new(File::open(path).await.map_err(cannot)?)
    };
    let room = MAX_MESSAGE_BYTES.saturating_sub(request.encoded_len() + 2 * AROUND);
    let mut first = BytesMut::new();
    while first.len() < room {
        let mut limited = (&mut body).take((room - first.len()).try_into().unwrap_or(u64::MAX));
        if limited.read_buf(&mut first).await.map_err(cannot)? == 0 {
            put(request, first.freeze());
            return Ok(None);
        }
    }
    if matches!(request.target, Some(Target::LeaseToken(_))) {
        return Err(Exit::usage(format!(
            "a body above {room} bytes is streamed on a session of its own, which a lease's is not: leave --lease out"
        )));
    }
    put(request, first.freeze());
    Ok(Some(body))
}

fn put(request: &mut ExecuteRequest, body: Bytes) {
    if let Some(operation) = &mut request.operation {
        operation.body = body;
    }
}

/// Why a call cannot be sent, and what can.
pub(super) fn too_large(what: &str) -> String {
    format!(
        "{what}, and a message takes {MAX_MESSAGE_BYTES}: a file may go as a --body, which is streamed; to ComfyUI \
         with `upload`, whose answer says how a workflow refers to it, and then the prompt, both at the same --endpoint"
    )
}

/// A connection's client.
pub(super) type Broker = BrokerServiceClient<Channel>;
