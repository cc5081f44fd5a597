//! Compiles the protos with protox (no protoc needed) and keeps their descriptors, comments included, for reflection.

use std::{env, error::Error, fs, path::PathBuf};

use protox::Compiler;

const PROTOS: [&str; 6] = [
    "sublet/v1/backend.proto",
    "sublet/v1/broker_service.proto",
    "sublet/v1/operation.proto",
    "sublet/v1/pool.proto",
    "sublet/v1/pool_service.proto",
    "sublet/v1/stats_service.proto",
];

/// What drivers serve and the broker asks for: it is no service of the broker, so reflection does not list it.
const DRIVER: &str = "sublet/plugin/v1/driver_service.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    // sqlx embeds the folder when the crate is built, and does not see a new file by itself.
    println!("cargo:rerun-if-changed=migrations");
    let mut compiler = Compiler::new(["proto"])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(PROTOS)?
        .open_file("google/rpc/error_details.proto")?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    let mut set = compiler.file_descriptor_set();
    set.file.retain(|file| !file.package().starts_with("google.rpc"));
    tonic_prost_build::configure()
        .bytes(".sublet.v1")
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        .compile_fds(set)?;
    // The broker has a client of its own, beneath which the fence is; the server is for tests.
    let mut compiler = Compiler::new(["proto"])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_file(DRIVER)?;
    tonic_prost_build::configure()
        .bytes(".sublet.plugin.v1")
        .build_client(false)
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
