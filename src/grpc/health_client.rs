//! The other side of the health service: what `sublet health` asks.

use tonic::{Status, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// Asks whether `service` is serving; empty for the broker itself. Dropping the future cancels the question.
///
/// # Errors
/// What the other side answered instead, or why it could not be asked.
pub async fn ask_health(channel: Channel, service: &str) -> Result<bool, Status> {
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let answer = HealthClient::new(channel).check(request).await?;
    Ok(answer.into_inner().status() == ServingStatus::Serving)
}
