//! From the spawn of `sublet serve`, over a fresh SQLite store, until health says that it serves; and its size then.

use std::time::{Duration, Instant};

use crate::{Effort, broker::Broker, goal, memory::resident};

pub async fn measure(effort: &Effort) {
    let mut took = Vec::new();
    for _ in 0..effort.starts {
        let begun = Instant::now();
        let broker = Broker::start().await;
        took.push(begun.elapsed());
        drop(broker);
    }
    took.sort_unstable();
    let (median, last) = (took[took.len() / 2], took[took.len() - 1]);
    goal(
        "start to serving < 0.2 s",
        &format!(
            "{:.0} ms, median of {}; the longest {:.0} ms",
            millis(median),
            took.len(),
            millis(last)
        ),
        median < Duration::from_millis(200),
    );
    let broker = Broker::start().await;
    tokio::time::sleep(effort.idle).await;
    let idle = resident(broker.id()) as f64 / 1e6;
    goal("idle RSS < 30 MB", &format!("{idle:.1} MB"), idle < 30.0);
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
