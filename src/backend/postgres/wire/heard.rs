//! What messages say about the session itself, beside their contents.

use std::collections::VecDeque;

use postgres_protocol::message::backend::Message;

use super::{
    super::{
        aside::{self, Aside},
        fault::WireError,
    },
    Status, Wire,
};

/// Notices and notifications kept for a call that does not take them, at most; the oldest go.
const MAX_ASIDES: usize = 100;

impl Wire {
    /// Notices and notifications since the last call of this.
    pub(in super::super) fn take_asides(&mut self) -> VecDeque<Aside> {
        std::mem::take(&mut self.asides)
    }

    /// Drops what came beside the answers to earlier calls: notices were theirs, notifications another holder's.
    pub(in super::super) fn drop_asides(&mut self, of_another: bool) {
        let standby = |aside: &Aside| matches!(aside, Aside::Standby(_));
        let notified = |aside: &Aside| matches!(aside, Aside::Notification { .. });
        self.asides
            .retain(|aside| standby(aside) || notified(aside) && !of_another);
    }

    /// Whether a setting by which literals are read has changed since the last call of this.
    pub(in super::super) const fn reads_otherwise(&mut self) -> bool {
        std::mem::replace(&mut self.reads_otherwise, false)
    }

    pub(in super::super) fn has_asides(&self) -> bool {
        !self.asides.is_empty()
    }

    /// Notes what a message says about the session itself; `None` for one that belongs to no call.
    pub(super) fn look_at(&mut self, message: Message) -> Result<Option<Message>, WireError> {
        match message {
            Message::ReadyForQuery(body) => {
                self.status = match body.status() {
                    b'I' => Status::Idle,
                    b'T' => Status::Open,
                    b'E' => Status::Failed,
                    other => return Err(WireError::Protocol(format!("transaction status {other}"))),
                };
                // Each is the end of an answer. One too many would be taken for the end of another call, and that
                // one's rows for the next call's.
                match self.expected.checked_sub(1) {
                    Some(left) if std::mem::take(&mut self.answered) => self.expected = left,
                    Some(_) | None => {
                        return Err(WireError::Protocol("ready without an answer".to_owned()));
                    }
                }
                if self.patient && self.expected == 0 {
                    self.set_patient(false)?;
                }
                Ok(Some(Message::ReadyForQuery(body)))
            }
            Message::CommandComplete(_)
            | Message::EmptyQueryResponse
            | Message::ErrorResponse(_)
            | Message::AuthenticationOk => {
                self.answered = true;
                Ok(Some(message))
            }
            Message::NoticeResponse(body) => self.note(Aside::notice(&body)),
            Message::NotificationResponse(body) => self.note(Aside::notification(&body)),
            Message::ParameterStatus(body) => {
                self.reads_otherwise |= aside::is_read_by(&body);
                self.note(Aside::parameter(&body))
            }
            message => Ok(Some(message)),
        }
    }

    fn note(&mut self, aside: Option<Aside>) -> Result<Option<Message>, WireError> {
        self.asides.extend(aside);
        if self.asides.len() > MAX_ASIDES {
            self.asides.pop_front();
        }
        Ok(None)
    }
}
