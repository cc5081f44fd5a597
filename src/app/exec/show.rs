//! What comes of each event: the answer on standard output, files in their folder, everything else beside.

use std::time::Duration;

use tonic_types::Status;

use super::{
    super::exit::Exit,
    asked::ExecFlags,
    bar::Bar,
    ended::Ended,
    files::{Files, Taken},
    out::Out,
    reflected,
    told::{self, Told},
    values::{self, Table},
};
use crate::proto::{Event, ExecuteInfo, Head, Result as Answer, event, result::Output};

/// Shows a call.
#[derive(Debug)]
pub(super) struct Show {
    bar: Bar,
    out: Out,
    files: Files,
    table: Table,
    json: bool,
    verbose: bool,
    /// JSON is what a box tells of a prompt.
    tells: bool,
    usage: Option<String>,
    answer: Option<Answer>,
}

impl Show {
    pub(super) fn new(flags: &ExecFlags) -> Result<Self, Exit> {
        Ok(Self {
            files: Files::new(flags)?,
            bar: Bar::new(!flags.json),
            out: Out::new(),
            table: Table::default(),
            json: flags.json,
            verbose: flags.verbose,
            tells: told::tells(&flags.operation),
            usage: None,
            answer: None,
        })
    }

    /// Shows an event.
    pub(super) async fn event(&mut self, event: event::Event) -> Result<(), Ended> {
        if self.json {
            return self
                .reflected("sublet.v1.Event", &Event { event: Some(event) }, None)
                .await;
        }
        match event {
            event::Event::Accepted(info) => self.bar.accepted(&info.endpoint),
            event::Event::Data(bytes) => self.bytes(&bytes).await?,
            event::Event::Rows(rows) => self.rows(rows).await?,
            event::Event::Progress(progress) => self.progress(progress).await?,
            event::Event::Usage(usage) => self.usage = Some(values::object(usage)),
            event::Event::End(answer) => self.answer(answer).await?,
            event::Event::Text(text) => self.out.text(&text, &self.bar).await?,
            event::Event::Head(head) => self.head(&head),
            event::Event::JsonText(json) => match told::read(&json).filter(|_| self.tells) {
                Some(told) => {
                    self.files.telling();
                    self.told(told, &json).await?;
                }
                None => self.out.json(&json, &self.bar).await?,
            },
        }
        Ok(())
    }

    /// Shows an error of the broker's, if that is for programs.
    pub(super) async fn failed(&mut self, status: &Status) -> Result<(), Ended> {
        if self.json {
            self.reflected("google.rpc.Status", status, Some("error")).await?;
        }
        Ok(())
    }

    /// Something beside the answer.
    pub(super) fn tell(&self, what: &str) {
        self.bar.tell(what);
    }

    /// The call has ended early: what is told of it must not be on the answer's last line, nor under the bar.
    pub(super) fn broken_off(&mut self) {
        self.bar.end();
        self.out.broken_off();
    }

    /// The answer has ended well.
    pub(super) async fn end(&mut self) -> Result<(), Ended> {
        let taken = self.files.end()?;
        self.saved(taken).await?;
        self.out.end(&self.bar).await?;
        self.bar.end();
        if self.verbose {
            self.summary();
        }
        match self.files.counts() {
            (0, 0) if self.files.wanted() => self.bar.tell("there was nothing to save"),
            (_, 0) => {}
            (_, unsaved) if self.files.wanted() => {
                return Err(Exit::unwell(format!("not saved: {unsaved} of the files")).into());
            }
            _ => self.bar.tell("files came that are not saved: give --save DIR"),
        }
        Ok(())
    }

    async fn reflected<M: prost::Message>(
        &mut self,
        name: &str,
        message: &M,
        within: Option<&str>,
    ) -> Result<(), Ended> {
        let json = reflected::json(name, message).ok_or_else(|| {
            Exit::internal(
                "cannot write an event as JSON",
                format!("no {name} as it is known"),
            )
        })?;
        let json = match within {
            Some(member) => format!("{{\"{member}\":{json}}}"),
            None => json,
        };
        self.out.json(&json, &self.bar).await
    }

    async fn bytes(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        match self.files.take(bytes, &self.bar)? {
            Taken::Answer => self.out.bytes(bytes, &self.bar).await,
            taken @ (Taken::Kept | Taken::Saved(_)) => self.saved(taken).await,
        }
    }

    async fn saved(&mut self, taken: Taken) -> Result<(), Ended> {
        let Taken::Saved(path) = taken else {
            return Ok(());
        };
        match self.out.news(&path.display().to_string(), &self.bar).await {
            // The files are what was asked for, whether or not their paths are read.
            Err(Ended::Unread) => Ok(()),
            told => told,
        }
    }

    async fn rows(&mut self, rows: crate::proto::Rows) -> Result<(), Ended> {
        let lines = self.table.lines(rows);
        if lines.is_empty() {
            return Ok(());
        }
        // A part at once: there may be very many rows.
        self.out.line(&lines.join("\n"), &self.bar).await
    }

    /// What is no progress is news: on standard output if it is what was asked for.
    async fn progress(&mut self, progress: prost_types::Struct) -> Result<(), Ended> {
        if self.bar.progress(&progress) {
            return Ok(());
        }
        let heard = progress.fields.contains_key("notification");
        let news = values::object(progress);
        if heard {
            return self.out.line(&news, &self.bar).await;
        }
        self.bar.tell(&news);
        Ok(())
    }

    async fn answer(&mut self, mut answer: Answer) -> Result<(), Ended> {
        // An HTTP answer that came as a whole has no head.
        if let Some(content_type) = answer.attributes.get("header.content-type") {
            self.files.typed(content_type);
        }
        let status = answer.attributes.get("status");
        if let Some(status) = status
            .and_then(|status| status.parse().ok())
            .filter(|status| is_ill(*status))
        {
            self.bar.tell(&format!("status {status}"));
        }
        match answer.output.take() {
            None => {}
            Some(Output::Json(value)) => {
                let json = values::any(value).to_string();
                self.out.line(&json, &self.bar).await?;
            }
            Some(Output::JsonText(json)) => self.out.json(&json, &self.bar).await?,
            Some(Output::Rows(rows)) => self.rows(rows).await?,
            Some(Output::Body(bytes)) => self.bytes(&bytes).await?,
        }
        self.answer = Some(answer);
        Ok(())
    }

    fn head(&mut self, head: &Head) {
        let header = |name: &str| head.headers.iter().find(|header| header.name == name);
        if let Some(header) = header("content-type") {
            self.files.typed(&header.value);
        }
        if self.verbose || is_ill(head.status) {
            self.bar.tell(&format!("status {}", head.status));
        }
        if self.verbose {
            for header in &head.headers {
                self.bar.tell(&format!("{}: {}", header.name, header.value));
            }
        }
    }

    async fn told(&mut self, told: Told, json: &str) -> Result<(), Ended> {
        match told {
            Told::Queued(0) => self.bar.say("next in the box's queue"),
            Told::Queued(before) => self.bar.say(&format!("in the box's queue, {before} before it")),
            Told::Started => self.bar.say("started"),
            Told::Node(node, class) => self.bar.node(&node, class.as_deref()),
            Told::Preview => self.files.pass_over(),
            Told::Output(output) => self.files.announce(output),
            Told::OutputEnd(size) => {
                let taken = self.files.complete(size, &self.bar)?;
                self.saved(taken).await?;
            }
            Told::Notice(notice) => self.bar.tell(&notice),
            Told::Detached => self.out.json(json, &self.bar).await?,
            // Who wants files is told their paths.
            Told::Done if self.files.counts().0 > 0 => {}
            Told::Done => self.out.json(json, &self.bar).await?,
            Told::Nothing => {}
        }
        Ok(())
    }

    /// How it went, on standard error.
    fn summary(&self) {
        let answer = self.answer.clone().unwrap_or_default();
        if let Some(info) = &answer.info {
            self.bar.tell(&went(info));
        }
        let mut attributes: Vec<_> = answer.attributes.into_iter().collect();
        attributes.sort();
        for (name, value) in attributes {
            self.bar.tell(&format!("{name}: {value}"));
        }
        if let Some(usage) = &self.usage {
            self.bar.tell(&format!("usage: {usage}"));
        }
    }
}

/// Whether an HTTP status says anything but that all is well. An answer it is nevertheless.
fn is_ill(status: i32) -> bool {
    (100..1000).contains(&status) && !(200..300).contains(&status)
}

fn went(info: &ExecuteInfo) -> String {
    let span = |span: Option<prost_types::Duration>| {
        let span = span.and_then(|span| Duration::try_from(span).ok());
        format!("{:.1?}", span.unwrap_or_default())
    };
    let ExecuteInfo {
        session_id, endpoint, ..
    } = info;
    let (waited, elapsed) = (span(info.waited), span(info.elapsed));
    format!("{endpoint}, session {session_id}: waited {waited}, took {elapsed}")
}
