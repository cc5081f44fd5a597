//! One slot on a box: HTTP for what is asked and sent, a socket for events, and the prompts that are on the box on its
//! account.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use serde::Deserialize;

use super::{
    cancel, control,
    definition::Boxes,
    desk::{Answer, Desk},
    leftovers::Work,
    pace::Pace,
    place::Place,
    plan::Plan,
    prompt,
    socket::Socket,
    truth,
};
use crate::backend::{
    CallError, Cleanliness, Completion, DialError, Fence, Operation, Session, SessionLost, Sink, http::Grip,
};

/// How long a call waits for a prompt to be gone that the box should not have taken.
const SOON: Duration = Duration::from_secs(5);

/// A slot on a box, or a session beside the slots, which has no socket.
pub(super) struct BoxSession {
    pub(super) place: Arc<Place>,
    pub(super) fence: Arc<Fence>,
    /// Absent while a submission has it, and after one that was cut off.
    desk: Option<Desk>,
    sending: Option<Sending>,
    socket: Option<Socket>,
    /// Prompts of this session that the box may have.
    pub(super) works: Vec<Work>,
    beside: bool,
}

/// A submission under way. It owns the connection, so that it goes on when the call is dropped: once all of it has been
/// handed over, its answer alone tells whether there is a prompt to be cancelled.
type Sending = BoxFuture<'static, (Desk, Result<Answer, CallError>)>;

/// What a box says to a submission that it takes.
#[derive(Deserialize)]
struct Accepted {
    prompt_id: String,
}

impl BoxSession {
    /// Opens a slot on the box of that name, once nothing is left on it of a session that has ended.
    pub(super) async fn dial(
        boxes: Arc<Boxes>,
        endpoint: String,
        fence: Arc<Fence>,
    ) -> Result<Self, DialError> {
        let mut session = Self::dial_beside(Arc::clone(&boxes), endpoint, fence).await?;
        session.beside = false;
        let place = Arc::clone(&session.place);
        let now = boxes.clock.now();
        let (patience, most) = (now + boxes.connect / 2, now + boxes.connect * 9 / 10);
        let desk = session.desk().await?;
        tokio::select! {
            biased;
            vacant = place.vacant(desk, patience) => vacant?,
            () = boxes.clock.sleep_until(most) => return Err(DialError::transient("the box is slow to answer")),
        }
        session.socket().await?;
        Ok(session)
    }

    /// Opens a session for what must not wait for a slot.
    pub(super) async fn dial_beside(
        boxes: Arc<Boxes>,
        endpoint: String,
        fence: Arc<Fence>,
    ) -> Result<Self, DialError> {
        let place = boxes.place(&endpoint).map(Arc::clone);
        let place = place.ok_or_else(|| DialError::permanent("the pool has no endpoint"))?;
        let desk = place.desk(Arc::clone(&fence)).await?;
        Ok(Self {
            place,
            fence,
            desk: Some(desk),
            sending: None,
            socket: None,
            works: Vec::new(),
            beside: true,
        })
    }

    /// The HTTP connection, a new one if it went with a call that was cut off.
    pub(super) async fn desk(&mut self) -> Result<&mut Desk, DialError> {
        if self.desk.is_none() {
            self.desk = Some(self.place.desk(Arc::clone(&self.fence)).await?);
        }
        self.desk
            .as_mut()
            .ok_or_else(|| DialError::transient("there is no connection"))
    }

    /// The socket, a new one if it was lost.
    pub(super) async fn socket(&mut self) -> Result<&Socket, DialError> {
        if self.socket.as_ref().is_none_or(Socket::is_lost) {
            self.socket = None;
            self.socket = Some(Socket::open(&self.place).await?);
        }
        self.socket
            .as_ref()
            .ok_or_else(|| DialError::transient("there is no socket"))
    }

    /// Hands a prompt to the box. If this is dropped before all of it has been handed over, it is cut off, and the box
    /// has nothing that it could run; else its answer is waited for when the session is settled.
    pub(super) async fn submit(&mut self, body: String) -> Result<Answer, CallError> {
        self.desk().await.map_err(CallError::Dial)?;
        let Some(mut desk) = self.desk.take() else {
            return Err(CallError::Dial(DialError::transient("there is no connection")));
        };
        // Whatever is wrong with the connection is found now, so that the grip is on the one that is used.
        desk.renew().await?;
        let grip = desk.grip();
        let sending = async move {
            let answer = desk.post("/prompt", body).await;
            (desk, answer)
        };
        self.sending = Some(sending.boxed());
        let mut submission = Submission {
            sent_before: self.fence.sent(),
            session: self,
            grip,
            done: false,
        };
        let answer = submission.session.sent().await;
        submission.done = true;
        answer
    }

    /// Waits for a submission's answer, if one is under way. May be dropped and called again.
    async fn sent(&mut self) -> Result<Answer, CallError> {
        let Some(sending) = &mut self.sending else {
            return Err(CallError::Dial(DialError::transient("nothing is being sent")));
        };
        let (desk, answer) = sending.as_mut().await;
        self.sending = None;
        self.desk = Some(desk);
        answer
    }

    /// The box may have given the last prompt an id of its own; gives the one that counts.
    pub(super) fn rename(&mut self, id: &str) {
        let Some(work) = self.works.pop() else { return };
        if work.id() == id {
            self.works.push(work);
            return;
        }
        let mut renamed = Work::begin(&self.place, id);
        renamed.detached = work.detached;
        work.gone();
        self.works.push(renamed);
    }

    /// The last prompt is not on the box any more.
    pub(super) fn last_gone(&mut self) {
        if let Some(work) = self.works.pop() {
            work.gone();
        }
    }

    /// Waits for a submission's answer, if one is under way, and learns from it what the box calls the prompt. May be
    /// dropped and called again.
    async fn answered(&mut self) {
        if self.sending.is_some()
            && let Ok(answer) = self.sent().await
            && let Ok(accepted) = answer.json::<Accepted>()
            && prompt::is_name(&accepted.prompt_id)
        {
            self.rename(&accepted.prompt_id);
        }
    }

    async fn settled(&mut self) -> Result<(), SessionLost> {
        self.answered().await;
        if let Some(desk) = &mut self.desk {
            desk.settle().await?;
        }
        self.cancel_all().await?;
        if let Some(socket) = &self.socket {
            socket.feed.watch(None);
        }
        Ok(())
    }

    /// Cancels every prompt that is not meant to run on, and returns when the box has none of them.
    async fn cancel_all(&mut self) -> Result<(), SessionLost> {
        let Some(first) = self.works.iter().position(|work| !work.detached) else {
            return Ok(());
        };
        let mut desk = self.place.own_desk().await.map_err(lost)?;
        let mut next = Some(first);
        while let Some(index) = next {
            if let Some(work) = self.works.get(index) {
                cancel::until_gone(&self.place, &mut desk, work.id())
                    .await
                    .map_err(lost)?;
            }
            self.works.swap_remove(index).gone();
            next = self.works.iter().position(|work| !work.detached);
        }
        desk.into_session().close().await;
        Ok(())
    }

    /// As [`BoxSession::cancel_all`], in the middle of a call.
    pub(super) async fn cancel_soon(&mut self) -> Result<(), SessionLost> {
        let clock = self.place.clock.clone();
        tokio::select! {
            biased;
            cancelled = self.cancel_all() => cancelled,
            () = clock.sleep_until(clock.now() + SOON) => Err(lost("the box still has it")),
        }
    }

    /// Forgets the prompts that the box does not have any more.
    pub(super) async fn forget_gone(&mut self) -> Result<(), CallError> {
        let desk = self.desk().await.map_err(CallError::Dial)?;
        let queue = truth::queue(desk).await?;
        let (there, gone) = std::mem::take(&mut self.works)
            .into_iter()
            .partition(|work| queue.has(work.id()));
        self.works = there;
        gone.into_iter().for_each(Work::gone);
        Ok(())
    }

    /// As [`BoxSession::settled`], and returns when what runs on has come to its end too: until then the slot is taken.
    async fn made_clean(&mut self) -> Result<(), SessionLost> {
        self.settled().await?;
        let mut pace = Pace::new();
        while !self.works.is_empty() {
            self.forget_gone().await.map_err(lost)?;
            if !self.works.is_empty() {
                pace.pause(&self.place.clock).await;
            }
        }
        Ok(())
    }

    async fn probed(&mut self) -> Result<(), SessionLost> {
        let desk = self.desk().await.map_err(lost)?;
        let remaining = truth::remaining(desk).await.map_err(lost)?;
        self.place.load.set(remaining);
        if !self.beside {
            self.socket().await.map_err(lost)?;
        }
        Ok(())
    }

    async fn run(&mut self, mut operation: Operation, sink: &mut Sink) -> Result<Completion, CallError> {
        let plan = match operation.inspected.take() {
            Some(plan) => plan,
            None => Plan::read(&operation).map_err(CallError::Invalid)?,
        };
        match plan {
            Plan::Prompt(prompt) => prompt::run(self, *prompt, sink).await,
            Plan::Control(control) => control::run(self, control, operation.body, sink).await,
        }
    }
}

fn lost(error: impl fmt::Display) -> SessionLost {
    SessionLost::because(error.to_string())
}

/// Waits for prompts that may take long to be gone only as long as somebody wants the session: if its fence is shut, its
/// lease has ended meanwhile, or its pool does.
async fn while_open(
    fence: Arc<Fence>,
    work: impl Future<Output = Result<(), SessionLost>>,
) -> Result<(), SessionLost> {
    tokio::select! {
        biased;
        done = work => done,
        () = fence.when_shut() => Err(SessionLost::because("nobody waits for its prompts to be gone any more")),
    }
}

/// A submission whose call may be dropped.
struct Submission<'a> {
    session: &'a mut BoxSession,
    sent_before: u64,
    grip: Option<Grip>,
    done: bool,
}

impl Drop for Submission<'_> {
    /// Nothing of it is handed over from here on.
    fn drop(&mut self) {
        let begun = self.session.fence.sent() != self.sent_before;
        let written = begun && self.grip.as_ref().is_some_and(Grip::is_written);
        if !self.done && !written {
            self.session.sending = None;
        }
    }
}

impl fmt::Debug for BoxSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxSession")
            .field("place", &self.place.name)
            .field("works", &self.works)
            .finish_non_exhaustive()
    }
}

impl Session for BoxSession {
    fn endpoint(&self) -> &Arc<str> {
        &self.place.name
    }

    fn execute<'a>(
        &'a mut self,
        operation: Operation,
        sink: &'a mut Sink,
    ) -> BoxFuture<'a, Result<Completion, CallError>> {
        self.run(operation, sink).boxed()
    }

    fn settle(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        let fence = Arc::clone(&self.fence);
        while_open(fence, self.settled()).boxed()
    }

    /// A box keeps nothing of a holder but its prompts.
    fn cleanliness(&self) -> Cleanliness {
        let asking = self
            .desk
            .as_ref()
            .is_some_and(|desk| desk.session().cleanliness() != Cleanliness::Clean);
        if asking || self.sending.is_some() || !self.works.is_empty() {
            Cleanliness::Dirty
        } else {
            Cleanliness::Clean
        }
    }

    fn reset(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        let fence = Arc::clone(&self.fence);
        while_open(fence, self.made_clean()).boxed()
    }

    fn probe(&mut self) -> BoxFuture<'_, Result<(), SessionLost>> {
        self.probed().boxed()
    }

    /// Its own fence is shut; a prompt is cancelled over a connection of the broker's own. If the time for that passes,
    /// the prompt is noted as left over, and no session is opened in its place before it is gone.
    fn close(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        async move {
            self.socket = None;
            // What was not handed over cannot be any more; what was is noted.
            self.answered().await;
            // What is left over is seen to when the next session is opened.
            self.cancel_all().await.ok();
            if let Some(desk) = self.desk.take() {
                desk.into_session().close().await;
            }
        }
        .boxed()
    }
}
