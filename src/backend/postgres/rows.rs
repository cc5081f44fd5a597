//! Rows on their way to a caller, in frames.

use std::sync::Arc;

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::{DataRowBody, Field, RowDescriptionBody};
use prost::Message as _;

use super::value::{self, JsonRows, Type};
use crate::{
    backend::{Event, Sink, SinkClosed},
    proto,
};

/// A frame holds so many rows, or so many bytes, at most; a larger row has one of its own.
const FRAME_ROWS: usize = 256;
const FRAME_BYTES: usize = 64 * 1024;
/// One row, at most: what a message holds, less room for the rest of it.
const MAX_ROW: usize = (4 << 20) - (64 << 10);

/// What is too large then.
pub(super) const ONE_ROW: &str = "one row of the answer is";
const TOO_LARGE: SinkClosed = SinkClosed::PartTooLarge {
    what: ONE_ROW,
    limit: MAX_ROW,
};

/// What a statement returns.
pub(super) type Columns = Arc<Described>;

/// The columns of what a statement returns.
#[derive(Debug)]
pub(super) struct Described {
    shown: Vec<proto::Column>,
    types: Vec<Type>,
    json: JsonRows,
    /// Bytes of `shown` in a message.
    size: usize,
}

impl Described {
    /// A row as a JSON object.
    pub(super) fn json(&self, body: &DataRowBody) -> String {
        self.json.row(cells(body))
    }

    /// A row of typed values.
    fn typed(&self, body: &DataRowBody) -> proto::Row {
        let values = self.types.iter().zip(cells(body));
        proto::Row {
            values: values.map(|(kind, cell)| value::decode(*kind, cell)).collect(),
        }
    }
}

/// Reads a description.
pub(super) fn columns(body: &RowDescriptionBody) -> Option<Columns> {
    let column = |field: Field<'_>| {
        Ok((
            value::column(field.name(), field.type_oid(), None),
            Type::of(field.type_oid()),
        ))
    };
    let columns: Vec<(proto::Column, Type)> = body.fields().map(column).collect().ok()?;
    let named: Vec<_> = columns
        .iter()
        .map(|(shown, kind)| (shown.name.as_str(), *kind))
        .collect();
    let json = JsonRows::of(&named);
    let (shown, types): (Vec<proto::Column>, _) = columns.into_iter().unzip();
    let size = shown.iter().map(|column| column.encoded_len() + 5).sum();
    Some(Arc::new(Described {
        shown,
        types,
        json,
        size,
    }))
}

/// How rows are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Shape {
    /// Typed values.
    #[default]
    Typed,
    /// Each row as a JSON object.
    Json,
    /// None at all.
    None,
}

/// Collects rows into frames, and sends them.
#[derive(Debug)]
pub(super) struct Frames<'a> {
    sink: &'a mut Sink,
    shape: Shape,
    columns: Option<Columns>,
    /// Whether the columns have been told.
    told: bool,
    rows: Vec<proto::Row>,
    bytes: usize,
    /// Rows seen.
    count: u64,
}

impl<'a> Frames<'a> {
    pub(super) fn new(sink: &'a mut Sink, shape: Shape) -> Self {
        Self {
            sink,
            shape,
            columns: None,
            told: true,
            rows: Vec::new(),
            bytes: 0,
            count: 0,
        }
    }

    /// Rows of these columns follow.
    pub(super) fn begin(&mut self, columns: Columns) {
        (self.columns, self.told) = (Some(columns), false);
    }

    /// No more rows of this statement, which changed so many.
    pub(super) async fn end(&mut self, affected: i64) -> Result<(), SinkClosed> {
        if affected == 0 || self.shape == Shape::Json {
            return self.flush().await;
        }
        let mut part = self.part();
        part.affected = affected;
        self.sink.send(Event::Rows(part)).await
    }

    /// One row. A frame that is full goes.
    pub(super) async fn add(&mut self, body: &DataRowBody) -> Result<(), SinkClosed> {
        self.count += 1;
        let Some(columns) = self.columns.clone() else {
            return Ok(());
        };
        match self.shape {
            Shape::None => Ok(()),
            Shape::Typed => self.add_typed(columns.typed(body)).await,
            Shape::Json => {
                let row = columns.json(body);
                if row.len() > MAX_ROW {
                    return Err(TOO_LARGE);
                }
                self.sink.send(Event::Json(row)).await
            }
        }
    }

    async fn add_typed(&mut self, row: proto::Row) -> Result<(), SinkClosed> {
        // What goes with the row in a frame: its tag and length.
        let size = row.encoded_len() + 5;
        if size > MAX_ROW {
            return Err(TOO_LARGE);
        }
        if self.bytes + size > FRAME_BYTES - self.head() {
            self.flush().await?;
        }
        self.rows.push(row);
        self.bytes += size;
        if self.rows.len() >= FRAME_ROWS {
            self.flush().await?;
        }
        Ok(())
    }

    /// Bytes of a frame that its columns take, if they have not been told, and the count of what was changed.
    fn head(&self) -> usize {
        let untold = self.columns.as_ref().filter(|_| !self.told);
        let columns = untold.map_or(0, |columns| columns.size);
        (columns + 16).min(FRAME_BYTES)
    }

    /// Whether rows wait for their frame to be full.
    pub(super) fn is_waiting(&self) -> bool {
        !self.rows.is_empty() && self.sink.streams()
    }

    /// Sends what there is: the columns too, if they have not been told.
    pub(super) async fn flush(&mut self) -> Result<(), SinkClosed> {
        let tell = !self.told && self.shape == Shape::Typed;
        if !tell && self.rows.is_empty() {
            return Ok(());
        }
        let part = self.part();
        self.sink.send(Event::Rows(part)).await
    }

    fn part(&mut self) -> proto::Rows {
        let tell = !self.told && self.shape == Shape::Typed;
        let columns = self.columns.as_ref().filter(|_| tell);
        let columns = columns.map(|columns| columns.shown.clone()).unwrap_or_default();
        (self.told, self.bytes) = (true, 0);
        proto::Rows {
            columns,
            rows: std::mem::take(&mut self.rows),
            affected: 0,
        }
    }

    /// Another kind of event, in its place between the rows.
    pub(super) async fn beside(&mut self, event: Event) -> Result<(), SinkClosed> {
        self.flush().await?;
        self.sink.send(event).await
    }

    pub(super) const fn streams(&self) -> bool {
        self.sink.streams()
    }

    /// JSON rows were asked for, and there are none.
    pub(super) fn is_empty_json(&self) -> bool {
        self.shape == Shape::Json && self.count == 0 && !self.sink.streams()
    }
}

/// A row's cells in their order. A row that breaks off has no more.
fn cells(body: &DataRowBody) -> impl Iterator<Item = Option<&[u8]>> {
    let mut ranges = body.ranges();
    std::iter::from_fn(move || {
        let range = ranges.next().ok().flatten()?;
        Some(range.and_then(|range| body.buffer().get(range)))
    })
}
