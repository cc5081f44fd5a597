//! `ComfyUI` boxes. A session is one slot on a box: a long-lived socket for events, with a client id of its own, and HTTP
//! to the same box. How bytes come and go over HTTP is the http kind's.
//!
//! A call: [`plan`] reads the operation; [`prompt`] submits a workflow, whose text [`workflow`] leaves as it came, and
//! [`follow`]s it: the [`socket`]'s task puts what the box says into the [`feed`], and [`truth`] is what the box answers
//! when it is asked. [`cancel`] stops one prompt and no other; [`leftovers`] knows which may still be on a box. Everything
//! that is no prompt is [`control`].

mod cancel;
mod control;
mod definition;
mod desk;
mod events;
mod fault;
mod feed;
mod files;
mod follow;
mod leftovers;
mod looks;
mod outputs;
mod overall;
mod pace;
mod place;
mod plan;
mod prompt;
mod queue;
mod raw;
mod session;
mod socket;
mod strange;
mod tier;
mod truth;
mod validate;
mod workflow;

use std::sync::Arc;

use futures_util::{FutureExt as _, future::BoxFuture};

use self::{definition::Boxes, plan::Plan, session::BoxSession, tier::Tier};
use super::{Backend, Beside, DialError, Fence, Load, Needs, Operation, Session, registry::Surroundings};
use crate::{
    error::Faults,
    proto::{ComfyUiBackend, PoolSpec},
};

/// Makes a backend of boxes.
pub(super) fn build(
    spec: &PoolSpec,
    own: &ComfyUiBackend,
    surroundings: &Surroundings,
) -> Result<Arc<dyn Backend>, Faults> {
    let boxes = Arc::new(Boxes::read(spec, own, surroundings)?);
    Ok(Arc::new(ComfyUi {
        boxes,
        tier: Tier::Slots,
    }))
}

/// One pool's boxes.
#[derive(Debug)]
struct ComfyUi {
    boxes: Arc<Boxes>,
    /// What its sessions are for.
    tier: Tier,
}

impl Backend for ComfyUi {
    fn kind(&self) -> &'static str {
        "comfyui"
    }

    fn inspect(&self, operation: &Operation) -> Result<Needs, Faults> {
        let plan = Plan::read(operation)?;
        let needs = Needs {
            lease: false,
            beside: Tier::of(&plan).distance(),
        };
        operation.inspected.keep(plan);
        Ok(needs)
    }

    fn dial(
        &self,
        fence: Arc<Fence>,
        endpoint: &str,
    ) -> BoxFuture<'static, Result<Box<dyn Session>, DialError>> {
        let (boxes, tier, endpoint) = (Arc::clone(&self.boxes), self.tier, endpoint.to_owned());
        async move {
            let session = if tier == Tier::Slots {
                BoxSession::dial(boxes, endpoint, fence).await?
            } else {
                BoxSession::dial_beside(boxes, endpoint, fence).await?
            };
            Ok(Box::new(session) as Box<dyn Session>)
        }
        .boxed()
    }

    fn beside(&self) -> Option<Beside> {
        let (tier, at_each) = self.tier.beside()?;
        let boxes = Arc::clone(&self.boxes);
        Some(Beside {
            backend: Arc::new(Self { boxes, tier }),
            at_each,
        })
    }

    fn load(&self, endpoint: &str) -> Option<Load> {
        self.boxes.place(endpoint).map(|place| place.load.clone())
    }
}
