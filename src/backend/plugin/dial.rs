//! Opening a session, and taking back what a dial that came to nothing may have left at the driver.

use std::sync::Arc;

use parking_lot::Mutex;
use uuid::Uuid;

use super::{
    connection::Connection,
    definition::Target,
    description::{Description, Known},
    fault::Fault,
    session::PluginSession,
};
use crate::{
    backend::{DialError, Fence},
    proto::plugin::{
        ConnectRequest, ConnectResponse, DescribeRequest, DescribeResponse, DisconnectRequest,
        DisconnectResponse,
    },
};

/// Sessions that the driver may have opened and nobody has: their Connect failed, or was given up.
#[derive(Debug, Default)]
pub(super) struct Leftovers(Mutex<Vec<Begun>>);

impl Leftovers {
    /// Has the driver end what the dial with this fence may have left. If the future is dropped, its connection is cut.
    pub(super) async fn withdraw(&self, fence: &Arc<Fence>) {
        let left = {
            let mut all = self.0.lock();
            let place = all.iter().position(|one| Arc::ptr_eq(&one.fence, fence));
            place.map(|place| all.swap_remove(place))
        };
        if let Some(left) = left {
            left.disconnect().await;
        }
    }
}

/// A session whose Connect has been begun.
#[derive(Debug)]
struct Begun {
    target: Arc<Target>,
    fence: Arc<Fence>,
    connection: Connection,
    id: String,
}

impl Begun {
    /// Goes behind the Connect on its own connection first: the driver has been told of the Connect's end by the time
    /// this comes, whatever its threads do. If the connection has broken, its end tells the driver; so it does if the
    /// fence is shut, behind which nothing more can be written on it.
    async fn disconnect(mut self) {
        let request = DisconnectRequest {
            session_id: self.id.clone(),
        };
        let asked = self
            .connection
            .ask::<_, DisconnectResponse>("Disconnect", &request);
        let untold = tokio::select! {
            biased;
            () = self.fence.when_shut() => true,
            answer = asked => matches!(answer, Err(Fault::Broken { .. })),
        };
        if untold {
            self.connection.cut();
            // A driver that cannot be told is gone, and what it had with it.
            disconnect(&self.target, None, self.id).await.ok();
        }
    }
}

/// A dial under way. Dropped before it has come to its end, it is left for [`Leftovers::withdraw`].
struct Dialing {
    begun: Option<Begun>,
    leftovers: Arc<Leftovers>,
}

impl Dialing {
    async fn connect(
        &mut self,
        introduction: &ConnectRequest,
        description: &Description,
    ) -> Result<Begun, DialError> {
        let gone = || DialError::transient("the dial has ended already");
        let begun = self.begun.as_mut().ok_or_else(gone)?;
        let answer: Result<ConnectResponse, Fault> = begun.connection.ask("Connect", introduction).await;
        match answer {
            Ok(connected) if connected.instance_id == description.instance => {
                self.begun.take().ok_or_else(gone)
            }
            Ok(_) => Err(DialError::transient(
                "the driver was replaced by another instance meanwhile",
            )),
            Err(fault) => {
                if fault.leaves_no_session() {
                    self.begun = None;
                }
                Err(fault.of_dial("Connect"))
            }
        }
    }
}

impl Drop for Dialing {
    fn drop(&mut self) {
        self.leftovers.0.lock().extend(self.begun.take());
    }
}

impl PluginSession {
    /// Opens a session. If the future is dropped, or fails, [`Leftovers::withdraw`] has to follow.
    pub(super) async fn dial(
        target: Arc<Target>,
        known: Arc<Known>,
        leftovers: Arc<Leftovers>,
        fence: Arc<Fence>,
    ) -> Result<Self, DialError> {
        let id = Uuid::new_v4().to_string();
        let introduction = target.introduction(&id).await?;
        let mut connection = target.access.connect(Arc::clone(&fence)).await?;
        let description = known.note(describe(&mut connection).await?);
        let mut dialing = Dialing {
            begun: Some(Begun {
                target: Arc::clone(&target),
                fence: Arc::clone(&fence),
                connection,
                id,
            }),
            leftovers,
        };
        let Begun { connection, id, .. } = dialing.connect(&introduction, &description).await?;
        connection.count();
        Ok(Self::new((target, known), (fence, connection), description, id))
    }
}

/// Has the driver end a session, over a new connection. Nothing of any holder is on that one, so it has a fence of its
/// own. With another instance than `instance` there is nothing to end.
pub(super) async fn disconnect(target: &Target, instance: Option<&str>, id: String) -> Result<(), DialError> {
    let fence = Arc::new(Fence::default());
    fence.open(1);
    let mut connection = target.access.connect(fence).await?;
    if let Some(instance) = instance
        && describe(&mut connection).await?.instance != instance
    {
        // With its process it has gone already.
        return Ok(());
    }
    let request = DisconnectRequest { session_id: id };
    let answer: Result<DisconnectResponse, Fault> = connection.ask("Disconnect", &request).await;
    answer.map(|_| ()).map_err(|fault| fault.of_dial("Disconnect"))
}

async fn describe(connection: &mut Connection) -> Result<Description, DialError> {
    let described: Result<DescribeResponse, Fault> = connection.ask("Describe", &DescribeRequest {}).await;
    let described = described.map_err(|fault| fault.of_dial("Describe"))?;
    Description::read(described)
        .map_err(|faults| DialError::permanent(format!("Describe: the driver {faults}")))
}
