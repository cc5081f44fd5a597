//! Files of an answer, saved in a folder: never outside it, never over another file unless that is wanted, and there
//! under their name only when they are whole.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::super::exit::Exit;

/// Bytes of a file's name, at most: what most file systems take.
const LONGEST_NAME: usize = 255;
/// Files of one name, at most.
const MOST_OF_A_NAME: usize = 10_000;

/// Where files are saved.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    overwrite: bool,
}

impl Folder {
    /// Makes the folder if it is missing.
    pub(super) fn open(path: &Path, overwrite: bool) -> Result<Self, Exit> {
        let path = path.to_owned();
        match fs::create_dir_all(&path) {
            Ok(()) => Ok(Self { path, overwrite }),
            Err(error) => Err(Exit::unavailable(
                format!("cannot make the folder {}", path.display()),
                error,
            )),
        }
    }

    /// Begins a file that [`own_name`] has let through.
    pub(super) fn begin(&self, name: &str) -> io::Result<Saving> {
        let path = self.path.join(format!(".sublet-{}.part", Uuid::new_v4()));
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Saving {
            file,
            path,
            name: name.to_owned(),
            written: 0,
        })
    }

    /// Gives a whole file its name, or the next one that is free. Returns its path.
    pub(super) fn finish(&self, saving: Saving) -> io::Result<PathBuf> {
        let path = if self.overwrite {
            self.path.join(&saving.name)
        } else {
            self.free(&saving.name)?
        };
        fs::rename(&saving.path, &path)?;
        Ok(path)
    }

    /// Makes an empty file under a name that nothing had, for the whole one to take its place.
    fn free(&self, name: &str) -> io::Result<PathBuf> {
        for number in 0..MOST_OF_A_NAME {
            let path = self.path.join(numbered(name, number));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(_empty) => return Ok(path),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::from(io::ErrorKind::AlreadyExists))
    }
}

/// `name.png`, `name (1).png`, ...
fn numbered(name: &str, number: usize) -> String {
    match (number, name.rsplit_once('.')) {
        (0, _) => name.to_owned(),
        (_, Some((stem, kind))) => format!("{stem} ({number}).{kind}"),
        (_, None) => format!("{name} ({number})"),
    }
}

/// A file that is not whole yet. Dropped, it is gone.
#[derive(Debug)]
pub(super) struct Saving {
    file: File,
    path: PathBuf,
    name: String,
    written: u64,
}

impl Saving {
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.written = self
            .written
            .saturating_add(bytes.len().try_into().unwrap_or(u64::MAX));
        Ok(())
    }

    /// Bytes so far.
    pub(super) const fn written(&self) -> u64 {
        self.written
    }

    /// What it is to be called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Saving {
    fn drop(&mut self) {
        // A whole one has another name by now.
        fs::remove_file(&self.path).ok();
    }
}

/// The name under which a file may be saved, folders left out; or why there is none: whoever sent it may mean harm.
pub(super) fn own_name(given: &str) -> Result<&str, &'static str> {
    let drive = given.as_bytes().get(1) == Some(&b':');
    if given.starts_with(['/', '\\']) || drive || given.split(['/', '\\']).any(|part| part == "..") {
        return Err("its name leads out of the folder");
    }
    let name = given.rsplit(['/', '\\']).next().unwrap_or_default();
    if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
        return Err("its name is none for a file");
    }
    if name.starts_with('.') {
        return Err("its name is a hidden file's");
    }
    Ok(name)
}

/// What a file's name ends with, by the type of what is in it.
pub(super) fn ending(content_type: &str) -> &'static str {
    match content_type.split(';').next().unwrap_or_default().trim() {
        "application/json" => ".json",
        "audio/flac" => ".flac",
        "audio/mpeg" => ".mp3",
        "audio/wav" | "audio/x-wav" => ".wav",
        "image/gif" => ".gif",
        "image/jpeg" => ".jpg",
        "image/png" => ".png",
        "image/webp" => ".webp",
        "text/html" => ".html",
        "text/plain" => ".txt",
        "video/mp4" => ".mp4",
        "video/webm" => ".webm",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(folder: &Folder, name: &str, bytes: &[u8]) -> String {
        let mut saving = folder.begin(name).unwrap();
        saving.write(bytes).unwrap();
        let path = folder.finish(saving).unwrap();
        path.file_name().unwrap().to_str().unwrap().to_owned()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_never_takes_another_ones_place() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(&place.path().join("new/one"), false).unwrap();
        fs::write(folder.path.join("a.tar.gz"), "mine").unwrap();
        let made: Vec<_> = ["x", "y"]
            .map(|text| saved(&folder, "a.tar.gz", text.as_bytes()))
            .into();
        assert_eq!(made, ["a.tar (1).gz", "a.tar (2).gz"]);
        assert_eq!(saved(&folder, "plain", b""), "plain");
        assert_eq!(saved(&folder, "plain", b""), "plain (1)");
        assert_eq!(fs::read(folder.path.join("a.tar.gz")).unwrap(), b"mine");
        assert_eq!(fs::read(folder.path.join("a.tar (2).gz")).unwrap(), b"y");
    }

    #[test]
    fn overwriting_takes_the_place_of_a_link_and_not_of_what_it_leads_to() {
        let place = tempfile::tempdir().unwrap();
        let elsewhere = place.path().join("elsewhere");
        fs::write(&elsewhere, "theirs").unwrap();
        let folder = Folder::open(&place.path().join("out"), true).unwrap();
        std::os::unix::fs::symlink(&elsewhere, folder.path.join("a.png")).unwrap();
        assert_eq!(saved(&folder, "a.png", b"mine"), "a.png");
        assert_eq!(fs::read(&elsewhere).unwrap(), b"theirs");
        assert_eq!(fs::read(folder.path.join("a.png")).unwrap(), b"mine");
    }

    #[test]
    fn what_does_not_become_whole_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(place.path(), false).unwrap();
        let mut saving = folder.begin("a.png").unwrap();
        saving.write(b"half").unwrap();
        assert_eq!(saving.written(), 4);
        let there = names(place.path());
        assert!(there.len() == 1 && there[0].starts_with(".sublet-"), "{there:?}");
        drop(saving);
        assert_eq!(names(place.path()), [""; 0]);
    }

    #[test]
    fn only_the_last_part_of_a_name_counts_and_none_leads_elsewhere() {
        assert_eq!(own_name("a b.png"), Ok("a b.png"));
        assert_eq!(own_name("day/one/a.png"), Ok("a.png"));
        assert_eq!(own_name("day\\a.png"), Ok("a.png"));
        assert_eq!(own_name("a..png"), Ok("a..png"));
        let long = "x".repeat(256);
        for bad in [
            "",
            "/",
            "a/",
            "..",
            "../a.png",
            "a/../b",
            "a\\..\\b",
            "/etc/passwd",
            "\\\\host\\a",
            "C:\\a.png",
            "C:a.png",
            "a\0.png",
            "a\n.png",
            "\x1b[2J",
            ".",
            ".bashrc",
            "a/.ssh",
            &long,
        ] {
            assert!(own_name(bad).is_err(), "{bad:?}");
        }
    }
}
