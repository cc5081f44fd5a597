//! Server reflection, v1 and v1alpha: with it grpcurl needs no protos, and prints error details as JSON.

use tonic::service::RoutesBuilder;
use tonic_reflection::server::{Builder, Error};

use crate::proto;

/// Adds both versions, which describe every service of the broker and google.rpc's error details.
///
/// # Errors
/// When a descriptor cannot be read, which is a defect of the build.
pub fn add(routes: &mut RoutesBuilder) -> Result<(), Error> {
    routes.add_service(described().build_v1()?);
    routes.add_service(described().build_v1alpha()?);
    Ok(())
}

fn described() -> Builder<'static> {
    Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
