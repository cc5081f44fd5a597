//! HTTP/2: sessions that are streams of shared sockets.
//!
//! A `table` knows the pool's sockets and gives every slot its seat on one (`rooms` decides, `desk` is where a socket
//! reports). A `socket` is driven by h2, whose frames pass a `gate` on their way out, where each slot's fence is, and a
//! `tap` on their way in; `lanes` tells both whose a stream is. A `slot` sends requests from its seat: `head` is how they
//! begin, `upload` their body, `inflow` the answer's.

mod desk;
mod flag;
mod frame;
mod gate;
mod head;
mod inflow;
mod lane;
mod lanes;
mod rooms;
mod slot;
mod socket;
mod table;
mod tap;
mod upload;

pub(super) use self::{
    inflow::Inflow,
    slot::Slot,
    table::{Need, Table},
};
