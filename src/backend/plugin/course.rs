//! How a driver's stream of events may go: output of one kind, and its end, which has none.

use std::mem::{Discriminant, discriminant};

use crate::proto::plugin::{
    Answer, ExecuteResponse, execute_response::Outcome, execute_stream_response::Event,
};

/// Follows one stream.
#[derive(Debug, Default)]
pub(crate) struct Course {
    kind: Option<Discriminant<Event>>,
    ended: bool,
}

impl Course {
    /// What is wrong with the next event, as something that the driver did.
    pub(crate) fn fault(&mut self, event: Option<&Event>) -> Option<&'static str> {
        if self.ended {
            return Some("sent an event after `end`");
        }
        match event {
            None => Some("sent an event without its kind"),
            Some(Event::Progress(_) | Event::Usage(_)) => None,
            Some(Event::End(end)) => {
                self.ended = true;
                has_output(end).then_some("put an output into `end`: a stream's output is its events")
            }
            Some(output @ (Event::Data(_) | Event::Text(_) | Event::Json(_))) => {
                let kind = discriminant(output);
                let mixed = *self.kind.get_or_insert(kind) != kind;
                mixed.then_some("sent output of more than one kind: `data`, `text` or `json`")
            }
        }
    }
}

const fn has_output(end: &ExecuteResponse) -> bool {
    let Some(Outcome::Answer(Answer { output, .. })) = &end.outcome else {
        return false;
    };
    output.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::plugin::answer::Output;

    fn end(output: Option<Output>) -> Event {
        let answer = Answer {
            output,
            ..Answer::default()
        };
        Event::End(ExecuteResponse {
            outcome: Some(Outcome::Answer(answer)),
            ..ExecuteResponse::default()
        })
    }

    fn faults(events: &[Event]) -> Vec<&'static str> {
        let mut course = Course::default();
        events
            .iter()
            .filter_map(|event| course.fault(Some(event)))
            .collect()
    }

    #[test]
    fn output_is_of_one_kind_and_the_end_has_none() {
        let (text, json) = (Event::Text("a".to_owned()), Event::Json("1".to_owned()));
        let progress = Event::Progress(prost_types::Struct::default());
        let good = [text.clone(), progress.clone(), text.clone(), end(None)];
        assert_eq!(faults(&good), Vec::<&str>::new());
        let mixed = faults(&[text, json.clone(), end(None)]);
        assert!(mixed[0].contains("more than one kind"), "{mixed:?}");
        let late = faults(&[json, end(None), progress]);
        assert!(late[0].contains("after `end`"), "{late:?}");
        let replaced = faults(&[end(Some(Output::Json("1".to_owned())))]);
        assert!(replaced[0].contains("output into `end`"), "{replaced:?}");
        assert!(Course::default().fault(None).is_some());
    }
}
