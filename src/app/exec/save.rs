//! Files of an answer, saved in a folder: never outside it, never over another file unless that is wanted, and there
//! under their name only when they are whole.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::super::exit::Exit;

/// Bytes of a file's name, at most: what most file systems take.
const LONGEST_NAME: usize = 255;
/// Bytes of a name's ending, at most: what is longer is a part of the name.
const LONGEST_ENDING: usize = 32;
/// Files of one name, at most.
const MOST_OF_A_NAME: usize = 10_000;

/// Where files are saved.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    overwrite: bool,
    /// Names that files of this answer have.
    given: HashSet<String>,
}

impl Folder {
    /// A folder that is made when there is something to be put into it.
    pub(super) fn open(path: &Path, overwrite: bool) -> Result<Self, Exit> {
        let there = path.ancestors().find_map(|part| fs::metadata(part).ok());
        if there.is_some_and(|there| !there.is_dir()) {
            let error = io::Error::from(io::ErrorKind::NotADirectory);
            let what = format!("cannot save in {}", path.display());
            return Err(Exit::unavailable(what, error));
        }
        Ok(Self {
            path: path.to_owned(),
            overwrite,
            given: HashSet::new(),
        })
    }

    /// Begins a file that [`own_name`] has let through.
    pub(super) fn begin(&self, name: &str) -> io::Result<Saving> {
        fs::create_dir_all(&self.path).map_err(|error| {
            let folder = self.path.display();
            io::Error::new(error.kind(), format!("cannot make the folder {folder}: {error}"))
        })?;
        let path = self.path.join(format!(".sublet-{}.part", Uuid::new_v4()));
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Saving {
            file,
            path,
            name: name.to_owned(),
            written: 0,
        })
    }

    /// Gives a whole file its name, or the next one that is free; no two files of an answer have the same. Returns
    /// its path.
    pub(super) fn finish(&mut self, saving: Saving) -> io::Result<PathBuf> {
        for number in 0..MOST_OF_A_NAME {
            let name = numbered(&saving.name, number);
            if self.given.contains(&name) {
                continue;
            }
            let path = self.path.join(&name);
            let placed = if self.overwrite {
                fs::rename(&saving.path, &path)
            } else {
                link(&saving.path, &path)
            };
            match placed {
                Ok(()) => {
                    self.given.insert(name);
                    return Ok(path);
                }
                Err(error) if !self.overwrite && error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::from(io::ErrorKind::AlreadyExists))
    }
}

/// Gives a file a second name, which nothing may have: it is never seen there before it is whole.
fn link(part: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(part, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => replace_empty(part, path),
        linked => linked,
    }
}

/// The same where the file system has no links: an empty file keeps the name until the whole one takes its place.
fn replace_empty(part: &Path, path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).open(path)?;
    fs::rename(part, path).inspect_err(|_| {
        fs::remove_file(path).ok();
    })
}

/// `name.png`, `name (1).png`, ..., shortened if that makes it too long.
fn numbered(name: &str, number: usize) -> String {
    if number == 0 {
        return name.to_owned();
    }
    let at = name.rfind('.').filter(|at| name.len() - at <= LONGEST_ENDING);
    let (stem, ending) = name.split_at(at.unwrap_or(name.len()));
    let tail = format!(" ({number}){ending}");
    let room = LONGEST_NAME.saturating_sub(tail.len());
    let (stem, _) = stem.split_at(stem.floor_char_boundary(room));
    format!("{stem}{tail}")
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
        // A whole one has another name by now, and keeps that.
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

    fn saved(folder: &mut Folder, name: &str, bytes: &[u8]) -> String {
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
        let path = place.path().join("new/one");
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("a.tar.gz"), "mine").unwrap();
        let mut folder = Folder::open(&path, false).unwrap();
        let made: Vec<_> = ["x", "y"]
            .map(|text| saved(&mut folder, "a.tar.gz", text.as_bytes()))
            .into();
        assert_eq!(made, ["a.tar (1).gz", "a.tar (2).gz"]);
        assert_eq!(saved(&mut folder, "plain", b""), "plain");
        assert_eq!(saved(&mut folder, "plain", b""), "plain (1)");
        assert_eq!(fs::read(folder.path.join("a.tar.gz")).unwrap(), b"mine");
        assert_eq!(fs::read(folder.path.join("a.tar (2).gz")).unwrap(), b"y");
    }

    #[test]
    fn overwriting_takes_the_place_of_a_link_and_not_of_what_it_leads_to() {
        let place = tempfile::tempdir().unwrap();
        let elsewhere = place.path().join("elsewhere");
        fs::write(&elsewhere, "theirs").unwrap();
        let mut folder = Folder::open(&place.path().join("out"), true).unwrap();
        fs::create_dir(&folder.path).unwrap();
        std::os::unix::fs::symlink(&elsewhere, folder.path.join("a.png")).unwrap();
        assert_eq!(saved(&mut folder, "a.png", b"mine"), "a.png");
        assert_eq!(fs::read(&elsewhere).unwrap(), b"theirs");
        assert_eq!(fs::read(folder.path.join("a.png")).unwrap(), b"mine");
    }

    #[test]
    fn no_file_of_an_answer_takes_the_place_of_another_one_of_it() {
        let place = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let mut folder = Folder::open(place.path(), true).unwrap();
            assert_eq!(saved(&mut folder, "a.png", b"day"), "a.png");
            assert_eq!(saved(&mut folder, "a.png", b"night"), "a (1).png");
        }
        assert_eq!(names(place.path()), ["a (1).png", "a.png"]);
        assert_eq!(fs::read(place.path().join("a.png")).unwrap(), b"day");
    }

    #[test]
    fn a_file_that_cannot_have_its_name_leaves_none() {
        let place = tempfile::tempdir().unwrap();
        let mut folder = Folder::open(place.path(), false).unwrap();
        let saving = folder.begin("a.png").unwrap();
        fs::remove_file(&saving.path).unwrap();
        assert!(folder.finish(saving).is_err());
        assert_eq!(names(place.path()), [""; 0]);
    }

    #[test]
    fn where_there_are_no_links_nothing_is_replaced_either() {
        let place = tempfile::tempdir().unwrap();
        let (part, path) = (place.path().join("part"), place.path().join("a.png"));
        fs::write(&part, "whole").unwrap();
        replace_empty(&part, &path).unwrap();
        fs::write(&part, "other").unwrap();
        let taken = replace_empty(&part, &path).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"whole");
    }

    #[test]
    fn a_name_stays_short_enough_with_its_number() {
        let place = tempfile::tempdir().unwrap();
        let mut folder = Folder::open(place.path(), false).unwrap();
        let long = format!("a{}.png", "é".repeat(125));
        assert_eq!((long.len(), saved(&mut folder, &long, b"x")), (255, long.clone()));
        let second = saved(&mut folder, &long, b"y");
        assert!(second.len() <= 255 && second.ends_with("é (1).png"), "{second}");
        assert_eq!(
            numbered(&"x".repeat(255), 12),
            format!("{} (12)", "x".repeat(250))
        );
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
