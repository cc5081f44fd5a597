//! A broker in this process, on a free port, over a fresh SQLite store.

use std::{path::PathBuf, sync::Arc, time::Duration};

use sublet::{
    app::{Application, Exit},
    clock::Clock,
    config::Config,
};
use tempfile::TempDir;
use tokio::{sync::Notify, task::JoinHandle};

/// A running broker. Dropped, everything is cut at once.
pub struct App {
    pub address: String,
    stop: Arc<Notify>,
    running: JoinHandle<Result<(), Exit>>,
    data: Option<TempDir>,
}

impl App {
    /// A broker over a store of its own.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// A broker with a changed configuration.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut app = Self::over(data.path().to_owned(), change).await;
        app.data = Some(data);
        app
    }

    /// A broker over the SQLite store in a folder.
    pub async fn over(data_dir: PathBuf, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.grpc.listen.set_port(0);
        config.store.data_dir = data_dir;
        config.grace = Duration::from_secs(30);
        change(&mut config);
        let application = Application::build(config, Clock::real()).await.unwrap();
        let address = application.address().to_string();
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let running = tokio::spawn(async move {
            application
                .run_until_stopped(async move { stopped.notified().await }, std::future::pending())
                .await
        });
        let app = Self {
            address,
            stop,
            running,
            data: None,
        };
        super::calls::serving(&app.address).await;
        app
    }

    /// Begins the drain, and leaves it to go on.
    pub fn begin_stop(&self) {
        self.stop.notify_one();
    }

    /// Waits for the end of the drain.
    pub async fn stopped(self) {
        self.running.await.unwrap().unwrap();
    }

    /// Stops the broker, and waits for its end.
    pub async fn stop(self) {
        self.begin_stop();
        self.stopped().await;
    }
}
