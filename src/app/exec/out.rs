//! Standard output: the answer, and nothing else.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write as _},
    os::{fd::AsFd, unix::fs::FileTypeExt as _},
};

use tokio::io::{AsyncWriteExt as _, Stdout};

use super::{
    super::exit::Exit,
    bar::{Bar, harmless},
    ended::Ended,
};

const BINARY: &str =
    "the answer is binary, which a terminal is spared: write `> FILE` behind the command, or --save DIR";

/// Standard output.
#[derive(Debug)]
pub(super) struct Out {
    pipe: Stdout,
    terminal: bool,
    /// What is written may be shown on the terminal that the bar is on, by another program, too, as with `| tee`.
    shown: bool,
    /// The last line of text has not ended.
    open: bool,
    /// The beginning of a character whose end is in the next part.
    half: Vec<u8>,
}

impl Out {
    pub(super) fn new() -> Self {
        Self {
            pipe: tokio::io::stdout(),
            terminal: io::stdout().is_terminal(),
            shown: shown(&io::stdout()),
            open: false,
            half: Vec::new(),
        }
    }

    /// A part of a text, at once.
    pub(super) async fn text(&mut self, text: &str, bar: &Bar) -> Result<(), Ended> {
        if text.is_empty() {
            return Ok(());
        }
        // Its line would be torn.
        self.clear(bar);
        self.open = !text.ends_with('\n');
        self.write(text, bar).await
    }

    /// A line of its own, of the answer's.
    pub(super) async fn line(&mut self, line: &str, bar: &Bar) -> Result<(), Ended> {
        if !self.terminal {
            self.clear(bar);
        }
        self.news(line, bar).await
    }

    /// A line of its own, before the answer's end: there is still something to wait for.
    pub(super) async fn news(&mut self, line: &str, bar: &Bar) -> Result<(), Ended> {
        let before = if self.open { "\n" } else { "" };
        self.open = false;
        self.write(&format!("{before}{line}\n"), bar).await
    }

    /// JSON, on a line of its own: line breaks in it are between its parts, and mean nothing.
    pub(super) async fn json(&mut self, json: &str, bar: &Bar) -> Result<(), Ended> {
        self.line(&json.replace(['\n', '\r'], " "), bar).await
    }

    /// A part of some bytes. A terminal gets them if they are text.
    pub(super) async fn bytes(&mut self, bytes: &[u8], bar: &Bar) -> Result<(), Ended> {
        if !self.terminal {
            self.clear(bar);
            return self.pour(bytes).await;
        }
        self.half.extend_from_slice(bytes);
        let (text, rest) = readable(&self.half).ok_or_else(|| Exit::unwell(BINARY))?;
        self.half = rest;
        self.text(&text, bar).await
    }

    /// Ends the last line.
    pub(super) async fn end(&mut self, bar: &Bar) -> Result<(), Ended> {
        // A character that was cut off.
        let half = std::mem::take(&mut self.half);
        self.text(&String::from_utf8_lossy(&half), bar).await?;
        if std::mem::take(&mut self.open) {
            self.write("\n", bar).await?;
        }
        Ok(())
    }

    /// What is told next on a terminal begins on a line of its own.
    pub(super) fn broken_off(&mut self) {
        if self.terminal && std::mem::take(&mut self.open) {
            // If it cannot be written to, there is nothing to keep apart.
            io::stdout().write_all(b"\n").ok();
        }
    }

    /// Takes the bar away if what follows may be on the same terminal.
    fn clear(&self, bar: &Bar) {
        if self.shown {
            bar.end();
        }
    }

    async fn write(&mut self, text: &str, bar: &Bar) -> Result<(), Ended> {
        if !self.terminal {
            return self.pour(text.as_bytes()).await;
        }
        // The bar may be on the same terminal, and must not be drawn in the middle.
        let written = bar.aside(|| {
            let mut out = io::stdout().lock();
            out.write_all(harmless(text).as_bytes())?;
            out.flush()
        });
        Ok(written?)
    }

    /// To a program or a file, which may take its time: signals are heard meanwhile.
    async fn pour(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        self.pipe.write_all(bytes).await?;
        Ok(self.pipe.flush().await?)
    }
}

/// Whether what is written there may be on a terminal: at once, or by a program that reads it.
fn shown(out: &impl AsFd) -> bool {
    let out = out.as_fd();
    let owned = out.try_clone_to_owned().map(File::from);
    let kind = owned.and_then(|file| file.metadata()).map(|of| of.file_type());
    out.is_terminal() || kind.is_ok_and(|kind| kind.is_fifo() || kind.is_socket())
}

/// Bytes as text, and what may be the beginning of a character; none if they are something else.
fn readable(bytes: &[u8]) -> Option<(String, Vec<u8>)> {
    let (text, rest) = match std::str::from_utf8(bytes) {
        Ok(text) => (text, &[][..]),
        Err(error) if error.error_len().is_none() => {
            let (text, rest) = bytes.split_at(error.valid_up_to());
            (std::str::from_utf8(text).ok()?, rest)
        }
        Err(_) => return None,
    };
    let plain = |c: char| !c.is_control() || "\n\r\t\x1b".contains(c);
    text.chars().all(plain).then(|| (text.to_owned(), rest.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(terminal: bool, shown: bool) -> Out {
        Out {
            terminal,
            shown,
            ..Out::new()
        }
    }

    #[test]
    fn what_a_program_reads_may_be_shown_and_what_a_file_keeps_is_not() {
        let (_reader, writer) = io::pipe().unwrap();
        assert!(shown(&writer));
        assert!(!shown(&tempfile::tempfile().unwrap()));
    }

    #[tokio::test]
    async fn the_bar_is_out_of_the_answers_way_wherever_that_is_shown() {
        for shown in [true, false] {
            let bar = Bar::new(false);
            out(false, shown).bytes(b"", &bar).await.unwrap();
            assert_eq!(bar.has_ended(), shown);
        }
    }

    #[tokio::test]
    async fn a_terminal_is_spared_what_is_binary_after_the_operation_has_run() {
        let spared = out(true, true).bytes(b"\x89PNG\0", &Bar::new(false)).await;
        assert!(matches!(spared, Err(Ended::Here(exit)) if exit.code() == 1));
    }

    #[tokio::test]
    async fn a_character_that_is_cut_off_is_shown_as_such() {
        let bar = Bar::new(false);
        let mut cut = out(true, true);
        cut.bytes(b"\xc3", &bar).await.unwrap();
        assert_eq!((cut.half.len(), bar.has_ended()), (1, false));
        cut.end(&bar).await.unwrap();
        assert_eq!((cut.half.len(), bar.has_ended()), (0, true));
    }

    #[test]
    fn text_is_readable_wherever_it_is_cut_and_images_are_not() {
        let text = "{\"é\": 1}\n".as_bytes();
        let (before, half) = readable(&text[..3]).unwrap();
        assert_eq!((before.as_str(), half.as_slice()), ("{\"", &b"\xc3"[..]));
        assert_eq!(readable(text).unwrap(), ("{\"é\": 1}\n".to_owned(), Vec::new()));
        assert_eq!(readable(b"\x89PNG\r\n"), None);
        assert_eq!(readable(b"a\0b"), None);
    }
}
