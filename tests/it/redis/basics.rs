//! Commands and their answers.

use serde_json::json;

use super::Stage;
use crate::support::calls::*;

#[tokio::test]
async fn commands_run_on_one_connection_and_leave_it_clean() {
    let mut stage = Stage::with(1).await;
    assert_eq!(stage.run("SET k v").await.unwrap(), "OK");
    assert_eq!(stage.run("GET k").await.unwrap(), "v");
    assert_eq!(stage.run("INCR n").await.unwrap(), 1);
    assert_eq!(stage.run("GET none").await.unwrap(), json!(null));
    assert_eq!(stage.admin.run("GET k").await, "v");
    let lease = lease(&mut stage.broker, "cache").await;
    assert!(lease.lease.unwrap().reused);
    let id = stage.run_on(&lease.lease_token, "CLIENT ID").await.unwrap();
    release(&mut stage.broker, &lease.lease_token).await;
    assert_eq!(stage.run("CLIENT ID").await.unwrap(), id);
    assert_eq!(stats(&stage.app.address, "cache").await.resetting_sessions, 0);
}
