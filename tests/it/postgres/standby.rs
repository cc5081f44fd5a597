//! A server that takes no writes.

use serde_json::json;

use super::Stage;
use crate::support::{
    calls::*,
    postgres::{Database, Server},
};

#[tokio::test]
async fn session_of_a_standby_is_reset_and_used_again() {
    let server = Server::start();
    let database = Database::fresh_on(&server).await;
    server.stop();
    server.start_as_standby();
    let mut stage = Stage::over(database, 1, |_| {}).await;
    let seen = "select pg_is_in_recovery() as standby, current_setting('work_mem') as memory";
    for _ in 0..3 {
        let wanted = json!([{ "standby": true, "memory": "4MB" }]);
        assert_eq!(stage.rows(seen).await, wanted);
        let token = lease(&mut stage.broker, "db").await.lease_token;
        for set in [
            "work_mem = '77kB'",
            "default_transaction_isolation = 'repeatable read'",
        ] {
            let set = json!({ "sql": format!("set {set}") });
            stage.on(&token, "execute", set).await.unwrap();
        }
        release(&mut stage.broker, &token).await;
    }
    assert_eq!(stats(&stage.app.address, "db").await.sessions_created, 1);
}
