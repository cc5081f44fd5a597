//! Which bytes of an answer belong to which file.

use std::{io, path::PathBuf};

use super::{
    super::exit::Exit,
    asked::ExecFlags,
    bar::Bar,
    ended::Ended,
    save::{Folder, Saving, ending, own_name},
    told::Output,
};

/// What became of a part of bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is the answer's own, and nobody wants it saved.
    Answer,
    /// It is a part of a file, or nobody's.
    Kept,
    /// It was a file's last part. The file's path.
    Saved(PathBuf),
}

/// Files as they come.
#[derive(Debug)]
pub(super) struct Files {
    folder: Option<Folder>,
    /// What a file without a name is called.
    nameless: String,
    behind: Behind,
    saved: usize,
    unsaved: usize,
}

/// Whose the next bytes are.
#[derive(Debug)]
enum Behind {
    /// The answer's own.
    Answer,
    /// Nobody's that is known: those that come are counted, so that nothing vanishes without a word.
    Nobody,
    /// Passed over: a preview's, or of a file that is counted already.
    Passed,
    /// A file's, if there are any.
    Announced(Output),
    /// A file's, which has begun.
    File(Saving, Last),
}

/// How a file's last part is known.
#[derive(Clone, Copy, Debug)]
enum Last {
    /// An event says so.
    Told,
    /// By the number of bytes.
    At(u64),
    /// By the answer's end.
    Answer,
}

impl Files {
    pub(super) fn new(flags: &ExecFlags) -> Result<Self, Exit> {
        let folder = flags.save.as_deref();
        let folder = folder.map(|path| Folder::open(path, flags.overwrite));
        Ok(Self {
            folder: folder.transpose()?,
            nameless: own_name(&flags.operation).unwrap_or("answer").to_owned(),
            behind: Behind::Answer,
            saved: 0,
            unsaved: 0,
        })
    }

    /// Whether files are wanted.
    pub(super) const fn wanted(&self) -> bool {
        self.folder.is_some()
    }

    /// How many were saved, and how many came and were not.
    pub(super) const fn counts(&self) -> (usize, usize) {
        (self.saved, self.unsaved)
    }

    /// The type of the answer's own bytes.
    pub(super) fn typed(&mut self, content_type: &str) {
        self.nameless.push_str(ending(content_type));
    }

    /// A box tells of a prompt: bytes are a file's, or a preview's, and each is announced.
    pub(super) fn telling(&mut self) {
        if matches!(self.behind, Behind::Answer) {
            self.behind = Behind::Nobody;
        }
    }

    /// The bytes that follow are nobody's.
    pub(super) fn pass_over(&mut self) {
        self.turn_to(Behind::Passed);
    }

    /// The bytes that follow, if some do, are this file's.
    pub(super) fn announce(&mut self, output: Output) {
        self.turn_to(Behind::Announced(output));
    }

    /// A file that has not come to its end is not saved.
    fn turn_to(&mut self, behind: Behind) {
        if matches!(self.behind, Behind::File(..)) {
            self.unsaved += 1;
        }
        self.behind = behind;
    }

    /// A part of bytes.
    pub(super) fn take(&mut self, bytes: &[u8], bar: &Bar) -> Result<Taken, Ended> {
        self.behind = match std::mem::replace(&mut self.behind, Behind::Nobody) {
            Behind::Announced(output) => self.begin(&output, bar)?,
            Behind::Answer => match &self.folder {
                Some(folder) => {
                    let name = &self.nameless;
                    Behind::File(
                        folder.begin(name).map_err(|error| cannot(name, error))?,
                        Last::Answer,
                    )
                }
                None => Behind::Answer,
            },
            Behind::Nobody => {
                self.unsaved += 1;
                Behind::Passed
            }
            begun @ (Behind::Passed | Behind::File(..)) => begun,
        };
        match &mut self.behind {
            Behind::Answer => Ok(Taken::Answer),
            Behind::Nobody | Behind::Passed | Behind::Announced(_) => Ok(Taken::Kept),
            Behind::File(saving, last) => {
                saving
                    .write(bytes)
                    .map_err(|error| cannot(saving.name(), error))?;
                match *last {
                    Last::At(size) if saving.written() >= size => self.finish(Some(size)),
                    Last::At(_) | Last::Told | Last::Answer => Ok(Taken::Kept),
                }
            }
        }
    }

    /// A file's bytes begin; or it is not to be saved.
    fn begin(&mut self, output: &Output, bar: &Bar) -> Result<Behind, Ended> {
        let Some(folder) = &self.folder else {
            self.unsaved += 1;
            return Ok(Behind::Passed);
        };
        let (name, last) = match (&output.filename, output.bytes) {
            (Some(given), _) => match own_name(given) {
                Ok(name) => (name.to_owned(), Last::Told),
                Err(why) => {
                    bar.tell(&format!("{given:?} is not saved: {why}"));
                    self.unsaved += 1;
                    return Ok(Behind::Passed);
                }
            },
            (None, Some(size)) => (
                format!("{}{}", self.nameless, ending(&output.content_type)),
                Last::At(size),
            ),
            (None, None) => {
                bar.tell("a file is not saved: neither its name nor its size is told");
                self.unsaved += 1;
                return Ok(Behind::Passed);
            }
        };
        bar.say(&format!("receiving {name}"));
        let saving = folder.begin(&name).map_err(|error| cannot(&name, error))?;
        Ok(Behind::File(saving, last))
    }

    /// All of a file has come; it has so many bytes, if that is known.
    pub(super) fn complete(&mut self, size: Option<u64>, bar: &Bar) -> Result<Taken, Ended> {
        // One without any bytes.
        if matches!(self.behind, Behind::Announced(_)) {
            self.take(&[], bar)?;
        }
        match self.behind {
            Behind::File(_, Last::Told) => self.finish(size),
            Behind::File(..) | Behind::Answer | Behind::Nobody | Behind::Passed | Behind::Announced(_) => {
                Ok(Taken::Kept)
            }
        }
    }

    /// The answer has ended.
    pub(super) fn end(&mut self) -> Result<Taken, Ended> {
        match self.behind {
            Behind::File(_, Last::Answer) => self.finish(None),
            Behind::File(..) => self.finish(Some(u64::MAX)),
            Behind::Answer | Behind::Nobody | Behind::Passed | Behind::Announced(_) => Ok(Taken::Kept),
        }
    }

    fn finish(&mut self, size: Option<u64>) -> Result<Taken, Ended> {
        let Behind::File(saving, _) = std::mem::replace(&mut self.behind, Behind::Nobody) else {
            return Ok(Taken::Kept);
        };
        let (Some(folder), name) = (&mut self.folder, saving.name().to_owned()) else {
            return Ok(Taken::Kept);
        };
        if size.is_some_and(|size| size != saving.written()) {
            let error = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(cannot(&name, error).into());
        }
        let path = folder.finish(saving).map_err(|error| cannot(&name, error))?;
        self.saved += 1;
        Ok(Taken::Saved(path))
    }
}

fn cannot(name: &str, error: io::Error) -> Exit {
    Exit::unavailable(format!("cannot save {name:?}"), error)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: ExecFlags,
    }

    fn files(operation: &str, folder: Option<&Path>) -> Files {
        let mut line = vec!["sublet", "--pool", "a", operation];
        if let Some(folder) = folder {
            line.extend(["--save", folder.to_str().unwrap()]);
        }
        Files::new(&Line::parse_from(line).flags).unwrap()
    }

    fn output(filename: Option<&str>, bytes: Option<u64>) -> Output {
        Output {
            filename: filename.map(str::to_owned),
            content_type: "image/png".to_owned(),
            bytes,
        }
    }

    #[test]
    fn a_file_is_what_comes_between_its_announcement_and_its_end() {
        let (place, bar) = (tempfile::tempdir().unwrap(), Bar::new(false));
        let mut files = files("queue_prompt", Some(place.path()));
        // One that is only named.
        files.announce(output(Some("elsewhere.png"), None));
        files.pass_over();
        assert_eq!(files.take(b"a preview", &bar).unwrap(), Taken::Kept);
        files.announce(output(Some("day/a.png"), None));
        files.take(b"ab", &bar).unwrap();
        files.take(b"c", &bar).unwrap();
        let path = place.path().join("a.png");
        assert_eq!(files.complete(Some(3), &bar).unwrap(), Taken::Saved(path.clone()));
        assert_eq!(fs::read(path).unwrap(), b"abc");
        // One without a file ends by its size.
        files.announce(output(None, Some(2)));
        files.take(b"x", &bar).unwrap();
        let path = place.path().join("queue_prompt.png");
        assert_eq!(files.take(b"y", &bar).unwrap(), Taken::Saved(path));
        assert_eq!(files.end().unwrap(), Taken::Kept);
        assert_eq!(files.counts(), (2, 0));
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_that_is_not_whole_is_not_saved() {
        let (place, bar) = (tempfile::tempdir().unwrap(), Bar::new(false));
        let mut cut = files("queue_prompt", Some(place.path()));
        cut.announce(output(Some("a.png"), None));
        cut.take(b"ab", &bar).unwrap();
        assert!(matches!(cut.complete(Some(3), &bar), Err(Ended::Here(exit)) if exit.code() == 69));
        let mut cut = files("queue_prompt", Some(place.path()));
        cut.announce(output(Some("a.png"), None));
        cut.take(b"ab", &bar).unwrap();
        assert!(cut.end().is_err());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_whose_name_leads_elsewhere_is_passed_over() {
        let (place, bar) = (tempfile::tempdir().unwrap(), Bar::new(false));
        let inner = place.path().join("inner");
        let mut files = files("queue_prompt", Some(&inner));
        files.announce(output(Some("../a.png"), None));
        assert_eq!(files.take(b"abc", &bar).unwrap(), Taken::Kept);
        assert_eq!(files.complete(Some(3), &bar).unwrap(), Taken::Kept);
        assert_eq!(files.counts(), (0, 1));
        assert!(!inner.exists(), "nothing had to be put into it");
        assert!(!place.path().join("a.png").exists());
    }

    #[test]
    fn an_operations_name_alone_makes_its_bytes_nobodys() {
        let (place, bar) = (tempfile::tempdir().unwrap(), Bar::new(false));
        for operation in ["fetch", "wait", "queue_prompt"] {
            assert_eq!(files(operation, None).take(b"ab", &bar).unwrap(), Taken::Answer);
            let mut kept = files(operation, Some(place.path()));
            kept.take(b"ab", &bar).unwrap();
            assert_eq!(kept.end().unwrap(), Taken::Saved(place.path().join(operation)));
        }
    }

    #[test]
    fn bytes_that_nobody_announced_are_counted() {
        let bar = Bar::new(false);
        let mut files = files("fetch", None);
        files.telling();
        files.pass_over();
        files.take(b"preview", &bar).unwrap();
        assert_eq!(files.counts(), (0, 0));
        files.announce(output(Some("a.png"), None));
        files.complete(Some(0), &bar).unwrap();
        assert_eq!(files.counts(), (0, 1));
        files.behind = Behind::Nobody;
        for part in [b"a", b"b"] {
            assert_eq!(files.take(part, &bar).unwrap(), Taken::Kept);
        }
        assert_eq!(files.counts(), (0, 2), "once for all of them");
    }

    #[test]
    fn a_file_whose_end_is_never_told_is_counted() {
        let (place, bar) = (tempfile::tempdir().unwrap(), Bar::new(false));
        let mut files = files("queue_prompt", Some(place.path()));
        files.announce(output(Some("a.png"), None));
        files.take(b"ab", &bar).unwrap();
        files.announce(output(Some("b.png"), None));
        files.take(b"ab", &bar).unwrap();
        files.pass_over();
        assert_eq!(files.counts(), (0, 2));
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_cannot_be_one_is_told_at_once() {
        let place = tempfile::NamedTempFile::new().unwrap();
        let line = [
            "sublet",
            "--pool",
            "a",
            "view",
            "--save",
            place.path().to_str().unwrap(),
        ];
        let refused = Files::new(&Line::parse_from(line).flags).unwrap_err();
        assert_eq!(refused.code(), 69);
    }

    #[test]
    fn bytes_without_a_name_are_saved_under_the_operations() {
        let (place, bar) = (tempfile::tempdir().unwrap(), Bar::new(false));
        let mut named = files("view", Some(place.path()));
        named.typed("image/webp; q=1");
        named.take(b"ab", &bar).unwrap();
        assert_eq!(named.end().unwrap(), Taken::Saved(place.path().join("view.webp")));
        let mut unsaved = files("view", None);
        assert_eq!(unsaved.take(b"ab", &bar).unwrap(), Taken::Answer);
        assert_eq!(unsaved.end().unwrap(), Taken::Kept);
    }
}
