//! `sublet health`: asks a running broker over gRPC, as any client would.

use std::{net::SocketAddr, time::Duration};

use tonic::transport::Endpoint;

use super::{
    cli::Question,
    exit::{Exit, chain},
};
use crate::grpc::ask_health;

/// Time to connect, and time for the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks, and gives a line to print if the answer is that it serves.
pub(super) fn ask(question: &Question) -> Result<String, Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Exit::internal("cannot start", error))?;
    runtime.block_on(asked(question))
}

async fn asked(Question { address, service }: &Question) -> Result<String, Exit> {
    let address = reachable(address);
    let what = if service.is_empty() { "the broker" } else { service };
    let channel = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| Exit::usage(format!("`{address}` is not an address: write HOST:PORT")))?
        .connect_timeout(PATIENCE)
        .timeout(PATIENCE)
        .connect()
        .await
        .map_err(|error| Exit::unwell(format!("nobody answers at {address}: {}", chain(&error))))?;
    let serving = ask_health(channel, service)
        .await
        .map_err(|status| Exit::unwell(format!("{what} at {address}: {}", status.message())))?;
    if serving {
        Ok(format!("{what} at {address} is serving\n"))
    } else {
        Err(Exit::unwell(format!("{what} at {address} is not serving")))
    }
}

/// The address to dial: a broker that listens on every address is asked on loopback.
pub(super) fn reachable(address: &str) -> String {
    match address.parse::<SocketAddr>() {
        Ok(mut address) if address.ip().is_unspecified() => {
            let loopback = if address.is_ipv4() { "127.0.0.1" } else { "::1" };
            address.set_ip(loopback.parse().unwrap_or_else(|_| address.ip()));
            address.to_string()
        }
        _ => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_on_every_address_is_asked_on_loopback() {
        assert_eq!(reachable("0.0.0.0:7"), "127.0.0.1:7");
        assert_eq!(reachable("[::]:7"), "[::1]:7");
        assert_eq!(reachable("broker.example:7"), "broker.example:7");
    }

    #[test]
    fn nobody_there_is_told_in_a_line_and_the_exit_code() {
        let question = Question {
            // Port 9 of loopback (discard) is served by nobody.
            address: "127.0.0.1:9".to_owned(),
            service: String::new(),
        };
        assert_eq!(ask(&question).unwrap_err().code(), 1);
    }
}
