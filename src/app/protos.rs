//! `sublet proto export`: the protos from which clients are generated, kept in the program itself.

use std::{fs, io, path::Path};

macro_rules! protos {
    ($($path:literal),* $(,)?) => {
        /// Each proto: its path below the import root, and its text.
        pub(super) const PROTOS: &[(&str, &str)] =
            &[$(($path, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/proto/", $path)))),*];
    };
}

protos![
    "google/rpc/error_details.proto",
    "google/rpc/status.proto",
    "sublet/plugin/v1/driver_service.proto",
    "sublet/v1/backend.proto",
    "sublet/v1/broker_service.proto",
    "sublet/v1/operation.proto",
    "sublet/v1/pool.proto",
    "sublet/v1/pool_service.proto",
    "sublet/v1/stats_service.proto",
];

/// Writes them below `dir`, over older ones.
///
/// # Errors
/// When a folder or file cannot be written.
pub(super) fn export(dir: &Path) -> io::Result<()> {
    for (path, text) in PROTOS {
        let file = dir.join(path);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(file, text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn exported_protos_compile_by_themselves() {
        let dir = tempfile::tempdir().unwrap();
        export(dir.path()).unwrap();
        let set = protox::compile(PROTOS.iter().map(|(path, _)| path), [dir.path()]).unwrap();
        let services: usize = set.file.iter().map(|file| file.service.len()).sum();
        assert_eq!(services, 4);
    }

    #[test]
    fn every_proto_of_the_project_is_exported() {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("proto");
        let mut folders = vec![root.clone()];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|kind| kind == "proto") {
                    found.push(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        found.sort();
        assert_eq!(
            found,
            PROTOS
                .iter()
                .map(|(path, _)| (*path).to_owned())
                .collect::<Vec<_>>()
        );
    }
}
