//! Subscriptions on a server that answers as it is told to, for what a real one does only when it is unwell.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    task::JoinHandle,
    time::sleep,
};

use super::{peer::session, *};
use crate::{
    backend::{CallError, Completion, Sink},
    error::Executed,
};

/// Nothing takes so many seconds.
const LONG: u32 = 10_000;

/// A subscription to the channel `c`, sharded or not, up to its first message.
struct Subscribed {
    call: JoinHandle<(Result<Completion, CallError>, Box<dyn Session>)>,
    fence: Arc<Fence>,
    /// What the server says unasked.
    unasked: mpsc::UnboundedSender<&'static str>,
    pings: Arc<AtomicUsize>,
}

/// What a server in good health answers.
fn well(args: &[String]) -> String {
    let verb = args[0].to_ascii_lowercase();
    match verb.as_str() {
        "ping" => args.get(1).map_or("+PONG\r\n".to_owned(), |text| {
            format!("${}\r\n{text}\r\n", text.len())
        }),
        "reset" => "+RESET\r\n".to_owned(),
        "get" => "+own\r\n".to_owned(),
        _ => args[1..]
            .iter()
            .map(|channel| format!(">3\r\n+{verb}\r\n+{channel}\r\n:1\r\n"))
            .collect(),
    }
}

/// The same of a server that says with the last message that the shard has moved, and refuses what comes then.
fn moving(args: &[String]) -> String {
    match args[0].as_str() {
        "SSUBSCRIBE" => [&well(args), SHARD_MESSAGE, SHARD_END].concat(),
        "SUNSUBSCRIBE" => "-CLUSTERDOWN Hash slot not served\r\n".to_owned(),
        _ => well(args),
    }
}

impl Subscribed {
    /// On a server that gives these answers.
    async fn to(answers: impl FnMut(&[String]) -> String + Send + 'static) -> Self {
        Self::with("channels", answers).await
    }

    /// The same to a shard channel, which a server may end by itself.
    async fn to_shard(answers: impl FnMut(&[String]) -> String + Send + 'static) -> Self {
        Self::with("sharded", answers).await
    }

    async fn with(
        channels: &'static str,
        mut answers: impl FnMut(&[String]) -> String + Send + 'static,
    ) -> Self {
        let (mut session, mut peer, fence) = session().await;
        let (unasked, mut said) = mpsc::unbounded_channel::<&str>();
        let pings = Arc::new(AtomicUsize::new(0));
        let asked = Arc::clone(&pings);
        tokio::spawn(async move {
            let mut commands = Commands::default();
            loop {
                let answer = tokio::select! {
                    Some(said) = said.recv() => said.to_owned(),
                    command = commands.next(&mut peer) => match command {
                        Some(args) => {
                            asked.fetch_add(usize::from(args[0] == "PING"), SeqCst);
                            answers(&args)
                        }
                        None => return,
                    },
                };
                peer.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let call = tokio::spawn(async move {
            let mut sink = Sink::collect(1000);
            let subscribe = operation("subscribe", &json!({ channels: ["c"], "count": 1 }));
            let ended = session.execute(subscribe, &mut sink).await;
            (ended, session)
        });
        Self {
            call,
            fence,
            unasked,
            pings,
        }
    }

    fn says(&self, text: &'static str) {
        self.unasked.send(text).unwrap();
    }

    async fn end(self) -> (Result<Completion, CallError>, Box<dyn Session>) {
        // Paused time jumps although sockets are ready: many short waits, and not a long one.
        for _ in 0..LONG {
            if self.call.is_finished() {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
        assert!(self.call.is_finished(), "the call comes to an end");
        self.call.await.unwrap()
    }
}

const MESSAGE: &str = ">3\r\n+message\r\n+c\r\n+x\r\n";
const SHARD_MESSAGE: &str = ">3\r\n+smessage\r\n+c\r\n+x\r\n";
const SHARD_END: &str = ">3\r\n+sunsubscribe\r\n+c\r\n:0\r\n";

/// What the session says, command by command.
#[derive(Default)]
struct Commands {
    text: String,
    ready: VecDeque<Vec<String>>,
}

impl Commands {
    /// `None` at the end. May be dropped and called again.
    async fn next(&mut self, peer: &mut TcpStream) -> Option<Vec<String>> {
        loop {
            if let Some(command) = self.ready.pop_front() {
                return Some(command);
            }
            let mut read = Vec::new();
            if peer.read_buf(&mut read).await.ok()? == 0 {
                return None;
            }
            self.text.push_str(&String::from_utf8(read).unwrap());
            while self.take() {}
        }
    }

    fn take(&mut self) -> bool {
        let lines: Vec<_> = self.text.split_inclusive("\r\n").collect();
        let first = lines.first().and_then(|line| line.strip_prefix('*'));
        let Some(Ok(count)) = first.map(|count| count.trim_end().parse::<usize>()) else {
            return false;
        };
        let whole = 1 + 2 * count;
        if lines.len() < whole || !lines[whole - 1].ends_with('\n') {
            return false;
        }
        let args = lines[1..whole].iter().skip(1).step_by(2);
        self.ready
            .push_back(args.map(|arg| arg.trim_end().to_owned()).collect());
        self.text = lines[whole..].concat();
        true
    }
}

/// Whether an unmoved count would be taken for a stall.
fn is_at_rest(fence: &Fence) -> bool {
    fence.progress() != fence.progress()
}

#[tokio::test(start_paused = true)]
async fn silence_is_no_stall_while_the_server_answers_when_it_is_asked() {
    let subscribed = Subscribed::to(well).await;
    sleep(Duration::from_secs(95)).await;
    assert!(is_at_rest(&subscribed.fence));
    assert!(subscribed.pings.load(SeqCst) > 5, "it is asked again and again");
    subscribed.says(MESSAGE);
    let fence = Arc::clone(&subscribed.fence);
    let (ended, session) = subscribed.end().await;
    ended.unwrap();
    assert_eq!(session.cleanliness(), Cleanliness::Clean);
    assert!(!is_at_rest(&fence), "the next call's silence is a stall");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_any_more_is_asked_once_and_then_stalls() {
    let mut healthy = true;
    let subscribed = Subscribed::to(move |args| {
        // The subscription itself may be followed by a question.
        if args[0] == "PING" && !std::mem::take(&mut healthy) {
            return String::new();
        }
        well(args)
    })
    .await;
    sleep(Duration::from_secs(25)).await;
    let (asked, progress) = (subscribed.pings.load(SeqCst), subscribed.fence.progress());
    sleep(Duration::from_secs(100)).await;
    assert_eq!(subscribed.pings.load(SeqCst), asked);
    assert_eq!(subscribed.fence.progress(), progress);
    let fence = Arc::clone(&subscribed.fence);
    subscribed.call.abort();
    subscribed.call.await.unwrap_err();
    assert!(!is_at_rest(&fence), "the next call's silence is a stall");
}

#[tokio::test(start_paused = true)]
async fn a_user_who_may_not_ping_subscribes_all_the_same() {
    let subscribed = Subscribed::to(|args| match args[0].as_str() {
        "PING" => "-NOPERM this user has no permissions to run the 'ping' command\r\n".to_owned(),
        _ => well(args),
    })
    .await;
    sleep(Duration::from_secs(95)).await;
    subscribed.says(MESSAGE);
    let (ended, session) = subscribed.end().await;
    ended.unwrap();
    assert_eq!(
        session.cleanliness(),
        Cleanliness::Broken,
        "nothing marks the end"
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_busy_or_reads_its_data_ends_no_subscription() {
    for refusal in ["-BUSY a script runs\r\n", "-LOADING its data\r\n"] {
        let mut first = true;
        let subscribed = Subscribed::to(move |args| match args[0].as_str() {
            // The subscription itself may be followed by a question.
            "PING" if !std::mem::take(&mut first) => refusal.to_owned(),
            _ => well(args),
        })
        .await;
        sleep(Duration::from_secs(95)).await;
        subscribed.says(MESSAGE);
        subscribed.end().await.0.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_refused_like_everything_else_ends_at_once() {
    let subscribed = Subscribed::to(|_| "-BUSY a script runs\r\n".to_owned()).await;
    let (ended, _) = subscribed.end().await;
    let error = ended.unwrap_err();
    assert!(
        matches!(&error, CallError::Backend(error, Executed::No) if error.message.starts_with("BUSY")),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_the_server_ends_is_lost() {
    let subscribed = Subscribed::to(well).await;
    sleep(Duration::from_secs(15)).await;
    subscribed.says(">3\r\n+sunsubscribe\r\n+c\r\n:0\r\n");
    let (ended, session) = subscribed.end().await;
    let error = ended.unwrap_err();
    assert!(
        matches!(&error, CallError::Lost { message, .. } if message.contains("`c`")),
        "{error:?}"
    );
    assert_eq!(session.cleanliness(), Cleanliness::Broken);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_was_not_asked_for_yet_is_no_answer() {
    let subscribed = Subscribed::to_shard(moving).await;
    let (ended, session) = subscribed.end().await;
    ended.unwrap();
    assert_eq!(session.cleanliness(), Cleanliness::Broken);
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_subscription_is_left_to_a_call_that_is_never_sent() {
    let subscribed = Subscribed::to_shard(moving).await;
    let fence = Arc::clone(&subscribed.fence);
    let (ended, mut session) = subscribed.end().await;
    ended.unwrap();
    fence.shut();
    let mut sink = Sink::collect(1000);
    let get = operation("command", &json!({ "args": ["GET", "k"] }));
    session.execute(get, &mut sink).await.unwrap_err();
    fence.open(2);
    session.settle().await.unwrap_err();
    assert_eq!(session.cleanliness(), Cleanliness::Broken);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_behind_an_end_that_came_unasked_is_left_to_nobody() {
    let subscribed = Subscribed::to_shard(|args| match args[0].as_str() {
        // The slot moves before the command arrives, which is then refused.
        "PING" => format!("-CLUSTERDOWN Hash slot not served\r\n{}", well(args)),
        _ => well(args),
    })
    .await;
    subscribed.says(SHARD_MESSAGE);
    let (ended, session) = subscribed.end().await;
    ended.unwrap();
    assert_eq!(session.cleanliness(), Cleanliness::Broken);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_may_not_be_left_is_for_a_reset_to_end() {
    let subscribed = Subscribed::to(|args| match args[0].as_str() {
        "UNSUBSCRIBE" => "-NOPERM unsubscribe\r\n".to_owned(),
        _ => well(args),
    })
    .await;
    subscribed.says(MESSAGE);
    let (ended, session) = subscribed.end().await;
    ended.unwrap();
    assert_eq!(session.cleanliness(), Cleanliness::Dirty);
}

#[tokio::test(start_paused = true)]
async fn only_the_answer_to_its_own_question_marks_the_end_of_a_subscription() {
    for wrong in [
        "-MOVED 1 127.0.0.1:1\r\n",
        "+PONG\r\n",
        "$-1\r\n",
        ":1\r\n",
        ">3\r\n+unsubscribe\r\n+c\r\n:0\r\n",
        MESSAGE,
    ] {
        let subscribed = Subscribed::to(move |args| match args[0].as_str() {
            "PING" => format!("{wrong}{}", well(args)),
            _ => well(args),
        })
        .await;
        subscribed.says(MESSAGE);
        let (ended, session) = subscribed.end().await;
        ended.unwrap();
        assert_eq!(session.cleanliness(), Cleanliness::Broken, "{wrong:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_push_about_another_channel_answers_nothing() {
    let subscribed = Subscribed::to(|args| match args[0].as_str() {
        "UNSUBSCRIBE" => ">3\r\n+unsubscribe\r\n+another\r\n:0\r\n".to_owned(),
        _ => well(args),
    })
    .await;
    subscribed.says(MESSAGE);
    let (ended, session) = subscribed.end().await;
    ended.unwrap();
    assert_eq!(session.cleanliness(), Cleanliness::Broken);
}
