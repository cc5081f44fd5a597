//! Rows on their way to a caller, in frames.

use std::sync::Arc;

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::{DataRowBody, RowDescriptionBody};

use super::value::{self, Type};
use crate::{
    backend::{Event, Sink, SinkClosed},
    proto,
};

/// A frame holds so many rows, or so many bytes, at most.
const FRAME_ROWS: usize = 256;
const FRAME_BYTES: usize = 64 * 1024;

/// What a statement returns.
pub(super) type Columns = Arc<[Column]>;

/// One column of what a statement returns.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) shown: proto::Column,
    pub(super) kind: Type,
}

/// Reads a description.
pub(super) fn columns(body: &RowDescriptionBody) -> Option<Columns> {
    let column = |field: postgres_protocol::message::backend::Field<'_>| {
        Ok(Column {
            shown: value::column(field.name(), field.type_oid(), None),
            kind: Type::of(field.type_oid()),
        })
    };
    let columns: Vec<Column> = body.fields().map(column).collect().ok()?;
    Some(columns.into())
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
    columns: Columns,
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
            columns: Arc::from([]),
            told: true,
            rows: Vec::new(),
            bytes: 0,
            count: 0,
        }
    }

    /// Rows of these columns follow.
    pub(super) async fn begin(&mut self, columns: Columns) -> Result<(), SinkClosed> {
        self.flush().await?;
        (self.columns, self.told) = (columns, false);
        Ok(())
    }

    /// One row. A frame that is full goes.
    pub(super) async fn add(&mut self, body: &DataRowBody) -> Result<(), SinkClosed> {
        self.count += 1;
        match self.shape {
            Shape::None => return Ok(()),
            Shape::Typed => self.rows.push(self.typed(body)),
            Shape::Json => {
                let row = value::json_row(&self.columns, cells(body));
                return self.sink.send(Event::Json(row)).await;
            }
        }
        self.bytes += body.buffer().len();
        if self.rows.len() >= FRAME_ROWS || self.bytes >= FRAME_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    /// Whether rows wait for their frame to be full.
    pub(super) fn is_waiting(&self) -> bool {
        !self.rows.is_empty() && self.sink.streams()
    }

    /// Sends what there is: the columns too, if they have not been told.
    pub(super) async fn flush(&mut self) -> Result<(), SinkClosed> {
        let tell = !self.told && self.shape == Shape::Typed;
        self.told = true;
        if !tell && self.rows.is_empty() {
            return Ok(());
        }
        let columns = if tell {
            self.columns.iter().map(|column| column.shown.clone()).collect()
        } else {
            Vec::new()
        };
        self.bytes = 0;
        let rows = std::mem::take(&mut self.rows);
        let affected = 0;
        let part = proto::Rows {
            columns,
            rows,
            affected,
        };
        self.sink.send(Event::Rows(part)).await
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

    fn typed(&self, body: &DataRowBody) -> proto::Row {
        let values = self.columns.iter().zip(cells(body));
        proto::Row {
            values: values.map(|(column, cell)| value::decode(column.kind, cell)).collect(),
        }
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
