//! The `sublet` program as a process, which can be signalled and killed.

use std::{path::Path, process::Stdio};

use tokio::process::{Child, Command};

/// A broker as a process. Killed when dropped.
pub struct Process {
    pub address: String,
    child: Child,
}

impl Process {
    /// Starts `sublet serve` on a free port, and waits until it serves.
    pub async fn serve(data_dir: &Path, database_url: Option<&str>) -> Self {
        Self::serve_with(data_dir, database_url, &[]).await
    }

    /// With variables in its environment.
    pub async fn serve_with(data_dir: &Path, database_url: Option<&str>, variables: &[(&str, &str)]) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(env!("CARGO_BIN_EXE_sublet"));
        command
            .args(["serve", "--listen", &address, "--log-filter", "warn"])
            .arg("--data-dir")
            .arg(data_dir)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if let Some(url) = database_url {
            command.env("SUBLET_DATABASE_URL", url);
        }
        let mut child = command.spawn().unwrap();
        tokio::select! {
            () = super::calls::serving(&address) => {}
            ended = child.wait() => panic!("the broker ended at once: {ended:?}"),
        }
        Self { address, child }
    }

    /// kill -9, and waits until it is gone.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// The most memory that it has had so far, in KiB.
    pub fn peak_memory(&self) -> u64 {
        let id = self.child.id().expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        let id = self.child.id().expect("it runs").to_string();
        let status = std::process::Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Waits for its end, and returns its exit code.
    pub async fn exit_code(mut self) -> Option<i32> {
        self.child.wait().await.unwrap().code()
    }
}
