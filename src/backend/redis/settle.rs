//! Bringing a session to rest: after a call that was dropped, and between holders.

use super::{
    resp::{Kind, Token},
    session::{RedisSession, read_whole},
    wire::WireError,
};
use crate::backend::SessionLost;

/// Bytes of an answer that are read and dropped so that its session can go on, at most: a new connection costs less
/// than to read more.
const WORTH_READING: usize = 1 << 20;

impl RedisSession {
    /// Brings the session back to a protocol boundary after a call was dropped or failed in the middle, keeping the
    /// holder's state.
    ///
    /// Redis cannot be asked to stop a command and tell when it has: CLIENT UNBLOCK names a connection, and may hit
    /// what it does next. So what was not sent is taken back; an answer that is there, or that the server gives as soon
    /// as it comes to the command, is read to its end; and of everything else the connection is closed, which ends a
    /// wait or a subscription at the server at once.
    pub(super) async fn come_to_rest(&mut self) -> Result<(), SessionLost> {
        if self.wire.is_broken() {
            return Err(SessionLost::because("the connection broke"));
        }
        self.wire.come_home()?;
        let settled = self.settle_or_why_not().await;
        if settled.is_err() {
            self.wire.break_off();
        }
        self.steps.clear();
        self.wire.give_back();
        settled
    }

    async fn settle_or_why_not(&mut self) -> Result<(), SessionLost> {
        if !self.wire.unqueue() {
            return Err(SessionLost::because(
                "a command was cut off in the middle of being sent",
            ));
        }
        if self.subscribed {
            return Err(SessionLost::because("a subscription ends with its connection"));
        }
        let last = self.wire.expected() == 1 && self.wire.is_answering();
        if self.wire.expected() > 0 && !last && !self.brief {
            return Err(SessionLost::because(
                "only the end of its connection stops what was cancelled",
            ));
        }
        match self.drain().await {
            Ok(true) => Ok(()),
            Ok(false) => Err(SessionLost::because("too much was left of a cancelled answer")),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads up to the boundary and drops it all, apart from what it says of the session; false if there is too much.
    async fn drain(&mut self) -> Result<bool, WireError> {
        let mut read = 0;
        while self.wire.expected() > 0 || self.wire.is_within() {
            if let Some(part) = self.wire.part().await? {
                read += part.len();
            } else if self.wire.expected() > 0 || self.wire.is_within() {
                let begins = !self.wire.is_within();
                let token = self.wire.token().await?;
                read += size(&token);
                if begins && !matches!(token, Token::Open(Kind::Push | Kind::Attribute, _)) {
                    self.note(&token);
                }
            }
            if read > WORTH_READING {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes everything that a holder left behind, and proves it.
    pub(super) async fn wash(&mut self) -> Result<(), SessionLost> {
        self.wire.come_home()?;
        let washed = self.wash_and_prove().await;
        if washed.is_err() {
            self.wire.break_off();
        } else {
            (self.dirty, self.subscribed, self.in_transaction) = (false, false, false);
        }
        washed
    }

    /// RESET undoes all, the login included; what then logs in is what a new session begins with. Everything is sent in
    /// one go.
    async fn wash_and_prove(&mut self) -> Result<(), SessionLost> {
        self.wire.command(&["RESET"]);
        self.login.queue(&mut self.wire);
        self.wire.command(&["CLIENT", "INFO"]);
        let undone = self.reply().await.map_err(because)?;
        if !matches!(&undone, Token::Text(text) if **text == *b"RESET") {
            return Err(SessionLost::because(format!(
                "RESET was answered by {}",
                shown(&undone)
            )));
        }
        let login = self.login.taken(&mut self.wire).await;
        login.map_err(|refused| SessionLost::because(refused.0.message))?;
        let proof = read_whole(&mut self.wire).await?;
        let (Token::Text(info) | Token::Verbatim(info)) = &proof else {
            return Err(SessionLost::because(format!(
                "CLIENT INFO was answered by {}",
                shown(&proof)
            )));
        };
        if !self.wire.is_at_rest() {
            return Err(SessionLost::because(
                "something was left behind in the connection",
            ));
        }
        self.check(&String::from_utf8_lossy(info))
    }

    /// Whether CLIENT INFO says what it says of a new session. Fields that a server does not have it cannot have left.
    fn check(&self, info: &str) -> Result<(), SessionLost> {
        let database = self.server.database.to_string();
        let wanted = [
            ("db", database.as_str(), true),
            ("name", &self.server.client_name, true),
            ("flags", "N", true),
            ("sub", "0", true),
            ("psub", "0", true),
            ("ssub", "0", false),
            ("multi", "-1", true),
            ("watch", "0", false),
            ("user", &self.server.user, true),
            ("redir", "-1", true),
            ("resp", "3", false),
            ("lib-name", "", false),
            ("lib-ver", "", false),
            ("capa", "", false),
        ];
        // RESP3 has the format of the text before it.
        let fields = info.strip_prefix("txt:").unwrap_or(info).trim_end().split(' ');
        let fields: Vec<_> = fields.filter_map(|field| field.split_once('=')).collect();
        for (name, value, required) in wanted {
            let found = fields
                .iter()
                .find(|(field, _)| *field == name)
                .map(|(_, value)| *value);
            if found.is_none() && required || found.is_some_and(|found| found != value) {
                return Err(SessionLost::because(format!(
                    "something was left behind that a reset does not remove: {name}={}",
                    found.unwrap_or("?")
                )));
            }
        }
        Ok(())
    }
}

fn size(token: &Token) -> usize {
    match token {
        Token::Text(text)
        | Token::Verbatim(text)
        | Token::Error(text)
        | Token::Double(text)
        | Token::Big(text) => text.len() + 4,
        Token::Null | Token::Bool(_) | Token::Int(_) | Token::Large(_) | Token::Open(..) => 4,
    }
}

fn because(error: crate::backend::CallError) -> SessionLost {
    SessionLost::because(error.to_string())
}

/// An answer's beginning, for people.
fn shown(token: &Token) -> String {
    match token {
        Token::Error(text) | Token::Text(text) => {
            let some = text.get(..text.len().min(80)).unwrap_or_default();
            format!("`{}`", String::from_utf8_lossy(some))
        }
        _ => "something else".to_owned(),
    }
}
