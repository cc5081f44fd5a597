//! Which slot has its place on which socket. Decides only: no I/O, no clock.
//!
//! A socket has as many seats as its peer allows streams, so that no request ever waits for a stream. A seat is either
//! in a call or idle. An idle one can be taken away at any time: when the peer lowers its limit or says goodbye, or for
//! a call of another slot that finds no other. Its slot takes another at its next call.

use std::collections::BTreeMap;

/// Streams on one socket, whatever its peer allows: they share its congestion window and the task that drives it.
pub(super) const MOST_STREAMS: u32 = 256;

/// All sockets of a pool, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    rooms: BTreeMap<u64, Room>,
    last_seat: u64,
}

/// One socket.
#[derive(Debug, Default)]
struct Room {
    limit: usize,
    /// It takes no more calls, and goes when those that run have ended.
    leaving: bool,
    /// Whether each is in a call.
    seats: BTreeMap<u64, bool>,
}

/// A seat: its socket's number and its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) socket: u64,
    pub(super) seat: u64,
}

/// A socket that nobody has a seat on any more: it is forgotten here, and has to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) struct Left(pub(super) u64);

impl Rooms {
    /// A socket is there, with the slot on it that opened it: nobody else takes all its seats first, and it closes
    /// with its last one. None if its peer allows no streams: then it is not taken in.
    pub(super) fn open(&mut self, socket: u64, streams: Option<u32>, busy: bool) -> Option<Place> {
        let room = Room {
            limit: limit(streams),
            ..Room::default()
        };
        (room.limit > 0).then(|| {
            self.rooms.insert(socket, room);
            self.sit_down(socket, busy)
        })
    }

    fn sit_down(&mut self, socket: u64, busy: bool) -> Place {
        self.last_seat += 1;
        let seat = self.last_seat;
        if let Some(room) = self.rooms.get_mut(&socket) {
            room.seats.insert(seat, busy);
        }
        Place { socket, seat }
    }

    /// Sockets that take calls.
    pub(super) fn count(&self) -> usize {
        self.rooms.values().filter(|room| !room.leaving).count()
    }

    /// A seat on the oldest socket that has one, so that the newer ones can go when there is less to do. `busy` if it is
    /// for a call, which nobody may take it from before it begins.
    pub(super) fn take(&mut self, busy: bool) -> Option<Place> {
        let free = |(_, room): &(&u64, &Room)| !room.leaving && room.seats.len() < room.limit;
        let socket = self.rooms.iter().find(free).map(|(socket, _)| *socket)?;
        Some(self.sit_down(socket, busy))
    }

    /// As [`Rooms::take`] for a call; if there is none, the place of a slot that is idle.
    pub(super) fn take_any(&mut self) -> Option<Place> {
        if let Some(place) = self.take(true) {
            return Some(place);
        }
        for room in self.rooms.values_mut().filter(|room| !room.leaving) {
            if evict(room) {
                break;
            }
        }
        self.take(true)
    }

    /// A call begins; false if the seat is gone, or its socket takes no more.
    pub(super) fn begin(&mut self, place: Place) -> bool {
        let room = self.rooms.get_mut(&place.socket).filter(|room| !room.leaving);
        let seat = room.and_then(|room| room.seats.get_mut(&place.seat));
        seat.map(|busy| *busy = true).is_some()
    }

    /// A call ended, if one had begun; false if the seat went with it, or before.
    pub(super) fn rest(&mut self, place: Place) -> (bool, Option<Left>) {
        let Some(room) = self.rooms.get_mut(&place.socket) else {
            return (false, None);
        };
        if room.leaving || room.seats.len() > room.limit {
            return (false, self.leave(place));
        }
        let seat = room.seats.get_mut(&place.seat);
        (seat.map(|busy| *busy = false).is_some(), None)
    }

    /// A slot gives its seat up.
    pub(super) fn leave(&mut self, place: Place) -> Option<Left> {
        let room = self.rooms.get_mut(&place.socket)?;
        room.seats.remove(&place.seat)?;
        self.end(place.socket)
    }

    /// Whether the seat is still there, on a socket that takes calls.
    pub(super) fn has(&self, place: Place) -> bool {
        let room = self.rooms.get(&place.socket).filter(|room| !room.leaving);
        room.is_some_and(|room| room.seats.contains_key(&place.seat))
    }

    /// The peer allows another number of streams.
    pub(super) fn allow(&mut self, socket: u64, streams: Option<u32>) -> Option<Left> {
        let room = self.rooms.get_mut(&socket)?;
        room.limit = limit(streams);
        let mut lowered = false;
        while room.seats.len() > room.limit && evict(room) {
            lowered = true;
        }
        lowered.then(|| self.end(socket)).flatten()
    }

    /// The peer takes no more streams.
    pub(super) fn say_goodbye(&mut self, socket: u64) -> Option<Left> {
        let room = self.rooms.get_mut(&socket)?;
        room.leaving = true;
        room.seats.retain(|_, busy| *busy);
        self.end(socket)
    }

    /// A socket has ended.
    pub(super) fn gone(&mut self, socket: u64) {
        self.rooms.remove(&socket);
    }

    fn end(&mut self, socket: u64) -> Option<Left> {
        let empty = self.rooms.get(&socket).is_some_and(|room| room.seats.is_empty());
        empty.then(|| {
            self.rooms.remove(&socket);
            Left(socket)
        })
    }
}

fn limit(streams: Option<u32>) -> usize {
    let streams = streams.unwrap_or(MOST_STREAMS).min(MOST_STREAMS);
    usize::try_from(streams).unwrap_or(usize::MAX)
}

/// Takes an idle slot's seat away; false if there is none.
fn evict(room: &mut Room) -> bool {
    let idle = room.seats.iter().find(|(_, busy)| !**busy).map(|(seat, _)| *seat);
    idle.and_then(|seat| room.seats.remove(&seat)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms(limits: &[u32]) -> Rooms {
        let mut rooms = Rooms::default();
        for (number, limit) in (1..).zip(limits) {
            let opened = rooms.open(number, Some(*limit), false).unwrap();
            rooms.rooms.get_mut(&number).unwrap().seats.remove(&opened.seat);
        }
        rooms
    }

    #[test]
    fn seats_are_given_up_to_the_limit_and_on_the_oldest_socket_first() {
        let mut rooms = rooms(&[2, 1]);
        let sockets: Vec<_> = std::iter::from_fn(|| rooms.take(false))
            .map(|place| place.socket)
            .collect();
        assert_eq!(sockets, [1, 1, 2]);
        rooms.open(3, None, false).unwrap();
        assert_eq!(std::iter::from_fn(|| rooms.take(false)).count(), 255);
    }

    #[test]
    fn who_opens_a_socket_sits_on_it_and_it_closes_with_him() {
        let mut rooms = Rooms::default();
        let a = rooms.open(1, Some(1), true).unwrap();
        assert_eq!((rooms.take(false), rooms.take_any()), (None, None));
        assert_eq!(rooms.leave(a), Some(Left(1)));
        assert_eq!(rooms.open(2, Some(0), false), None);
        assert_eq!(rooms.count(), 0);
    }

    #[test]
    fn a_lowered_limit_takes_idle_seats_now_and_busy_ones_at_their_end() {
        let mut rooms = rooms(&[3]);
        let [a, b, c] = [(); 3].map(|()| rooms.take(false).unwrap());
        assert!(rooms.begin(a) && rooms.begin(b));
        assert_eq!(rooms.allow(1, Some(1)), None);
        assert!(rooms.has(a) && rooms.has(b) && !rooms.has(c));
        assert!(!rooms.begin(c));
        assert_eq!(rooms.rest(a), (false, None));
        assert_eq!(rooms.rest(b), (true, None), "one may stay");
        assert_eq!(rooms.take(false), None);
        assert_eq!(rooms.allow(1, Some(2)), None);
        assert!(rooms.take(false).is_some());
    }

    #[test]
    fn a_limit_of_none_closes_a_socket_where_all_are_idle() {
        let mut rooms = rooms(&[3]);
        rooms.take(false).unwrap();
        assert_eq!(rooms.allow(1, Some(0)), Some(Left(1)));
        assert_eq!(rooms.count(), 0);
    }

    #[test]
    fn after_a_goodbye_idle_seats_go_and_the_socket_with_the_last_busy_one() {
        let mut rooms = rooms(&[3, 3]);
        let [a, b] = [(); 2].map(|()| rooms.take(false).unwrap());
        assert!(rooms.begin(a));
        assert_eq!(rooms.say_goodbye(1), None);
        assert!(!rooms.has(a) && !rooms.has(b) && !rooms.begin(a));
        assert_eq!((rooms.count(), rooms.take(false).unwrap().socket), (1, 2));
        assert_eq!(rooms.rest(a), (false, Some(Left(1))));
        assert_eq!(rooms.leave(a), None, "it is gone already");
    }

    #[test]
    fn a_call_without_a_seat_takes_an_idle_slots_but_no_busy_ones() {
        let mut rooms = rooms(&[2]);
        let [a, b] = [(); 2].map(|()| rooms.take(false).unwrap());
        assert!(rooms.begin(a));
        let c = rooms.take_any().unwrap();
        assert_eq!(
            rooms.take_any(),
            None,
            "it is that call's, though it has not begun"
        );
        assert!(rooms.has(a) && !rooms.has(b) && rooms.begin(c));
    }

    #[test]
    fn a_socket_ends_with_its_last_seat() {
        let mut rooms = rooms(&[2]);
        let [a, b] = [(); 2].map(|()| rooms.take(false).unwrap());
        assert_eq!(rooms.leave(a), None);
        assert_eq!(rooms.leave(a), None, "it left before");
        assert_eq!(rooms.leave(b), Some(Left(1)));
        let c = rooms.open(2, Some(1), true).unwrap();
        rooms.gone(2);
        assert!(!rooms.has(c));
        assert_eq!((rooms.rest(c), rooms.leave(c)), ((false, None), None));
    }
}
