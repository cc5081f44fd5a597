//! Standard output: the answer, and nothing else.

use std::io::{self, IsTerminal as _, Write as _};

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
            open: false,
            half: Vec::new(),
        }
    }

    /// A part of a text, at once.
    pub(super) async fn text(&mut self, text: &str, bar: &Bar) -> Result<(), Ended> {
        if text.is_empty() {
            return Ok(());
        }
        if self.terminal {
            // Its line would be torn.
            bar.end();
        }
        self.open = !text.ends_with('\n');
        self.write(text, bar).await
    }

    /// A line of its own.
    pub(super) async fn line(&mut self, line: &str, bar: &Bar) -> Result<(), Ended> {
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
            return self.pour(bytes).await;
        }
        self.half.extend_from_slice(bytes);
        let (text, rest) = readable(&self.half).ok_or_else(|| Exit::usage(BINARY))?;
        self.half = rest;
        self.text(&text, bar).await
    }

    /// Ends the last line.
    pub(super) async fn end(&mut self, bar: &Bar) -> Result<(), Ended> {
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
