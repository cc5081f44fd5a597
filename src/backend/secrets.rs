//! Secrets are named in definitions and read at each dial, from the broker's environment or from files below one
//! folder. Their values appear nowhere else.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use super::DialError;
use crate::{
    error::Faults,
    proto::{SecretRef, secret_ref::Source},
};

/// What an environment variable's name must begin with, so that no definition can read the broker's other variables.
pub const ENV_PREFIX: &str = "SUBLET_SECRET_";

/// A secret, or a file of certificates, is at most this large: a definition must not make the broker read a disk.
const MAX_BYTES: u64 = 1024 * 1024;

/// Where secrets are read from. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Secrets {
    root: Arc<Path>,
    variables: Variables,
}

#[derive(Clone)]
enum Variables {
    OfProcess,
    Given(Arc<BTreeMap<String, String>>),
}

/// A secret's value, which shows itself only to who asks.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secrets {
    /// Files below `root`, and the process's environment. `root` need not exist as long as no file is asked for.
    #[must_use]
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into().into(),
            variables: Variables::OfProcess,
        }
    }

    /// Files below `root`, and `variables` instead of the environment: for tests.
    #[must_use]
    pub fn with_variables(root: impl Into<PathBuf>, variables: BTreeMap<String, String>) -> Self {
        Self {
            root: root.into().into(),
            variables: Variables::Given(Arc::new(variables)),
        }
    }

    /// Reads a secret. It reads files, so call it where blocking is allowed.
    ///
    /// # Errors
    /// A permanent fault that names the reference, never the value.
    pub fn read(&self, reference: &SecretRef) -> Result<Secret, DialError> {
        match &reference.source {
            Some(Source::Env(name)) => self
                .variable(name)
                .map(|value| Secret(value.into_bytes()))
                .ok_or_else(|| {
                    DialError::permanent(format!("the broker's environment has no variable {name}"))
                }),
            Some(Source::File(path)) => self.read_file(path).map(|bytes| Secret(without_newline(bytes))),
            None => Err(DialError::permanent(
                "a secret names neither env nor file".to_owned(),
            )),
        }
    }

    /// Reads a file below the root whole. It blocks.
    ///
    /// # Errors
    /// A permanent fault that names the path.
    pub fn read_file(&self, path: &str) -> Result<Vec<u8>, DialError> {
        self.open(path).map_err(|error| {
            DialError::permanent(format!(
                "the file `{path}` of the secrets folder cannot be read: {error}"
            ))
        })
    }

    fn variable(&self, name: &str) -> Option<String> {
        if !name.starts_with(ENV_PREFIX) {
            return None;
        }
        match &self.variables {
            Variables::OfProcess => std::env::var(name).ok(),
            Variables::Given(variables) => variables.get(name).cloned(),
        }
    }

    /// Links are resolved first and the result is what is opened, so that no link leads out of the root.
    fn open(&self, path: &str) -> io::Result<Vec<u8>> {
        if let Some(fault) = path_fault(path) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, fault));
        }
        let root = self.root.canonicalize()?;
        let file = root.join(path).canonicalize()?;
        if !file.starts_with(&root) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "a link leads out of the folder",
            ));
        }
        let found = fs::metadata(&file)?;
        if !found.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
        }
        if found.len() > MAX_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is larger than 1 MiB",
            ));
        }
        fs::read(file)
    }
}

impl Secret {
    /// The value. Keep it out of everything that can be printed.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redacted")
    }
}

/// What people call a reference: `env SUBLET_SECRET_KEY`, `file api/key`.
#[must_use]
pub fn name_of(reference: &SecretRef) -> String {
    match &reference.source {
        Some(Source::Env(name)) => format!("env {name}"),
        Some(Source::File(path)) => format!("file {path}"),
        None => "no source".to_owned(),
    }
}

/// Adds what is wrong with a reference, below the present path.
pub fn check(reference: &SecretRef, faults: &mut Faults) {
    match &reference.source {
        Some(Source::Env(name)) => check_variable(name, faults),
        Some(Source::File(path)) => check_path("file", path, faults),
        None => faults.add("", "must name where the secret is kept: `env` or `file`"),
    }
}

/// Adds what is wrong with a path below the secrets folder.
pub fn check_path(field: &str, path: &str, faults: &mut Faults) {
    if let Some(fault) = path_fault(path) {
        faults.add(field, fault);
    }
}

fn check_variable(name: &str, faults: &mut Faults) {
    let rest = name.strip_prefix(ENV_PREFIX).unwrap_or_default();
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if rest.is_empty() || !rest.chars().all(legal) {
        faults.add(
            "env",
            format!(
                "must be {ENV_PREFIX} followed by letters, digits and underscores: no other variable is read"
            ),
        );
    }
}

fn path_fault(path: &str) -> Option<&'static str> {
    let plain = |part| matches!(part, Component::Normal(_));
    if path.is_empty() {
        Some("must be a path below the secrets folder")
    } else if path.contains('\0') || !Path::new(path).components().all(plain) {
        Some("must be relative to the secrets folder, without `.` and `..`")
    } else {
        None
    }
}

fn without_newline(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> SecretRef {
        SecretRef {
            source: Some(Source::Env(name.to_owned())),
        }
    }

    fn file(path: &str) -> SecretRef {
        SecretRef {
            source: Some(Source::File(path.to_owned())),
        }
    }

    fn faults_of(reference: &SecretRef) -> Vec<String> {
        let mut faults = Faults::below("key");
        check(reference, &mut faults);
        faults.list().iter().map(|fault| fault.field.clone()).collect()
    }

    fn secrets(root: &Path) -> Secrets {
        let variables = [("SUBLET_SECRET_KEY", "canary"), ("PATH", "canary")];
        Secrets::with_variables(root, variables.map(|(k, v)| (k.to_owned(), v.to_owned())).into())
    }

    #[test]
    fn only_variables_behind_the_prefix_are_legal() {
        assert!(faults_of(&env("SUBLET_SECRET_KEY")).is_empty());
        for name in [
            "PATH",
            "SUBLET_SECRET_",
            "SUBLET_DATABASE_URL",
            "SUBLET_SECRET_A B",
            "",
        ] {
            assert_eq!(faults_of(&env(name)), ["key.env"], "{name}");
        }
        assert_eq!(faults_of(&SecretRef { source: None }), ["key"]);
    }

    #[test]
    fn only_paths_that_stay_below_the_folder_are_legal() {
        assert!(faults_of(&file("api/key")).is_empty());
        for path in ["", "/etc/passwd", "../key", "api/../../key", "./key", "a\0b"] {
            assert_eq!(faults_of(&file(path)), ["key.file"], "{path}");
        }
    }

    #[test]
    fn a_variable_is_read_only_behind_the_prefix() {
        let secrets = secrets(Path::new("/nowhere"));
        assert_eq!(
            secrets.read(&env("SUBLET_SECRET_KEY")).unwrap().reveal(),
            b"canary"
        );
        assert!(secrets.read(&env("PATH")).is_err());
    }

    #[test]
    fn a_file_is_read_without_its_trailing_newline() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("api")).unwrap();
        fs::write(root.path().join("api/key"), "s3cret\r\n").unwrap();
        let secret = secrets(root.path()).read(&file("api/key")).unwrap();
        assert_eq!(secret.reveal(), b"s3cret");
    }

    #[test]
    fn a_link_inside_the_folder_is_followed_and_one_that_leads_out_is_not() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("key"), "stolen").unwrap();
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("real"), "mine").unwrap();
        std::os::unix::fs::symlink(root.path().join("real"), root.path().join("inside")).unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("out")).unwrap();
        let secrets = secrets(root.path());
        assert_eq!(secrets.read(&file("inside")).unwrap().reveal(), b"mine");
        let error = secrets.read(&file("out/key")).unwrap_err();
        assert!(error.message.contains("leads out"), "{error}");
    }

    #[test]
    fn a_missing_secret_is_permanent_and_named_but_never_shown() {
        let root = tempfile::tempdir().unwrap();
        let secrets = secrets(root.path());
        for (reference, name) in [
            (env("SUBLET_SECRET_GONE"), "SUBLET_SECRET_GONE"),
            (file("gone"), "gone"),
        ] {
            let error = secrets.read(&reference).unwrap_err();
            assert_eq!(error.kind, crate::backend::DialErrorKind::Permanent);
            assert!(error.message.contains(name), "{error}");
        }
        let shown = format!("{secrets:?} {:?}", secrets.read(&env("SUBLET_SECRET_KEY")));
        assert!(!shown.contains("canary"), "{shown}");
    }
}
