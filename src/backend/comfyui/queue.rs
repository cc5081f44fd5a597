//! A box's queue, read as it comes: it holds the whole workflow of everyone who waits, which may be very long and no JSON
//! at all ([`super::strange`]), and nothing of a workflow matters here.

use super::truth::Standing;

/// The number or the id of an item, at most.
const LONGEST: usize = 256;

/// A box's queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) running: Vec<Item>,
    pub(super) pending: Vec<Item>,
}

/// A prompt in the queue.
#[derive(Debug)]
pub(super) struct Item {
    /// The lower, the sooner.
    number: f64,
    pub(super) id: String,
}

impl Queue {
    /// Whether a prompt is in it, running or not.
    pub(super) fn has(&self, id: &str) -> bool {
        self.is_running(id) || self.is_pending(id)
    }

    pub(super) fn is_running(&self, id: &str) -> bool {
        self.running.iter().any(|item| item.id == id)
    }

    pub(super) fn is_pending(&self, id: &str) -> bool {
        self.pending.iter().any(|item| item.id == id)
    }

    /// Where a prompt stands that is in it.
    pub(super) fn standing(&self, id: &str) -> Option<Standing> {
        if self.is_running(id) {
            return Some(Standing::Running);
        }
        self.before(id).map(Standing::Pending)
    }

    /// How many come before a prompt that waits.
    fn before(&self, id: &str) -> Option<usize> {
        let own = self.pending.iter().find(|item| item.id == id)?;
        let sooner = self.pending.iter().filter(|item| item.number < own.number);
        Some(self.running.len() + sooner.count())
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.running.len() + self.pending.len()
    }
}

/// Reads `{"queue_running": [[number, id, workflow, extra data, outputs, …], …], "queue_pending": […]}`, wherever it is
/// cut into parts.
#[derive(Debug, Default)]
pub(super) struct Reader {
    queue: Queue,
    /// Objects and lists that are open.
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The last string between the braces, which is the list's name when a list begins.
    name: Vec<u8>,
    /// What of the present item is read, by its place: the number, the id.
    item: [Vec<u8>; 2],
    place: usize,
    /// Something is not as it should be.
    odd: bool,
    lists: usize,
}

/// How deep the lists' names are, and an item's members.
const NAMES: usize = 1;
const MEMBERS: usize = 3;

impl Reader {
    /// Reads a part.
    pub(super) fn read(&mut self, part: &[u8]) {
        for byte in part {
            self.byte(*byte);
        }
    }

    /// The queue, if all of it was there.
    pub(super) fn end(self) -> Option<Queue> {
        let whole = self.depth == 0 && self.lists == 2 && !self.odd;
        whole.then_some(self.queue)
    }

    fn byte(&mut self, byte: u8) {
        if self.in_string {
            self.keep(byte);
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => {
                self.in_string = true;
                if self.depth == NAMES {
                    self.name.clear();
                }
                self.keep(byte);
            }
            b'{' | b'[' => {
                self.depth += 1;
                self.lists += usize::from(self.depth == NAMES + 1 && byte == b'[' && self.list().is_some());
                if self.depth == MEMBERS {
                    self.item = Default::default();
                    self.place = 0;
                }
            }
            b'}' | b']' => {
                if self.depth == MEMBERS {
                    self.item_ends();
                }
                self.depth = self.depth.saturating_sub(1);
            }
            b',' if self.depth == MEMBERS => self.place += 1,
            other => self.keep(other),
        }
    }

    /// The list that is being read.
    fn list(&mut self) -> Option<&mut Vec<Item>> {
        match self.name.as_slice() {
            br#""queue_running""# => Some(&mut self.queue.running),
            br#""queue_pending""# => Some(&mut self.queue.pending),
            _ => None,
        }
    }

    fn keep(&mut self, byte: u8) {
        let kept = match self.depth {
            NAMES if self.in_string => Some(&mut self.name),
            MEMBERS => self.item.get_mut(self.place),
            _ => None,
        };
        if let Some(kept) = kept.filter(|kept| kept.len() < LONGEST) {
            kept.push(byte);
        }
    }

    fn item_ends(&mut self) {
        let [number, id] = std::mem::take(&mut self.item);
        let read = serde_json::from_slice(&number)
            .ok()
            .zip(serde_json::from_slice(&id).ok());
        match (read, self.list()) {
            (Some((number, id)), Some(list)) => list.push(Item { number, id }),
            (None, Some(_)) => self.odd = true,
            (_, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, cut: usize) -> Option<Queue> {
        let mut reader = Reader::default();
        text.as_bytes().chunks(cut).for_each(|part| reader.read(part));
        reader.end()
    }

    #[test]
    fn a_queue_is_read_whatever_is_in_it_and_wherever_it_is_cut() {
        let text = r#"{"more": [1, [2]], "queue_running": [[3.5, "a", {"1": {"x": [NaN, "]]}\\\"", -Infinity]}}, {}, []]],
            "queue_pending" : [ [ -1 , "b\u00fc" , {} ] , [7, "c", "queue_running", [[8, "d"]]] ]}"#;
        for cut in [1, 2, 7, 1000] {
            let queue = read(text, cut).unwrap();
            let items = |items: &[Item]| {
                let told = items.iter().map(|item| format!("{} {}", item.number, item.id));
                told.collect::<Vec<_>>()
            };
            assert_eq!(items(&queue.running), ["3.5 a"]);
            assert_eq!(items(&queue.pending), ["-1 bü", "7 c"]);
            assert!(matches!(queue.standing("b\u{fc}"), Some(Standing::Pending(1))));
        }
        assert_eq!(
            read(r#"{"queue_running":[],"queue_pending":[]}"#, 3)
                .unwrap()
                .len(),
            0
        );
    }

    #[test]
    fn what_is_no_queue_or_not_all_of_it_is_none() {
        for text in [
            "",
            "{}",
            "<html>queue_running</html>",
            r#"{"queue_running":[],"queue_pending":[]"#,
            r#"{"queue_running":[[1]],"queue_pending":[]}"#,
            r#"{"queue_running":[[1,2]],"queue_pending":[]}"#,
            r#"{"queue_running":[["1","a"]],"queue_pending":[]}"#,
        ] {
            assert!(read(text, 4).is_none(), "{text}");
        }
    }
}
