//! Throw-away PostgreSQL servers: one for all tests of a process, others for tests that stop theirs.
//!
//! `SUBLET_TEST_POSTGRES_URL` names a server to share instead, by a user who may create databases; tests that stop a
//! server start one of their own all the same.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test support, of which no crate uses everything"
)]

use std::{
    env, fs,
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    ops::Range,
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    thread,
};

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::throwaway::{Kind, Throwaway};

const EXTERNAL: &str = "SUBLET_TEST_POSTGRES_URL";
const READY_TO_READ: &str = "database system is ready to accept read-only connections";

static POSTGRES: Kind = Kind {
    name: "postgres",
    script: r#"
signal=QUIT
prepare() { "$BIN/initdb" -D "$DIR/data" -U sublet -A trust -E UTF8 --no-locale --no-sync; }
start() { "$BIN/postgres" -D "$DIR/data" -F -p "$PORT" -k "$DIR" -c listen_addresses=127.0.0.1 \
    -c max_connections=200 -c shared_buffers=16MB $SETTINGS & pid=$!; }
standby() { touch "$DIR/data/standby.signal"; start; }
"#,
    ready: "database system is ready to accept connections",
    fails: |line| {
        // What is said to clients, who may come at any time, is no fault of the server's.
        let to_client = ["terminating connection", "the database system is"];
        line.contains("FATAL:") && !to_client.iter().any(|said| line.contains(said))
    },
    port_is_taken: |said| said.contains("could not bind") || said.contains("could not create any TCP"),
};

/// A database of its own, made for one test.
#[derive(Debug)]
pub struct Database {
    name: String,
    server: String,
    external: bool,
}

impl Database {
    /// A fresh, empty database on the server that all tests share.
    pub async fn fresh() -> Self {
        match env::var(EXTERNAL) {
            Ok(url) => Self::create(url, true).await,
            Err(_) => Self::create(Server::shared().url("postgres"), false).await,
        }
    }

    /// A fresh, empty database on `server`.
    pub async fn fresh_on(server: &Server) -> Self {
        Self::create(server.url("postgres"), false).await
    }

    async fn create(server: String, external: bool) -> Self {
        let name = format!("sublet_test_{}", uuid::Uuid::new_v4().simple());
        let mut connection = PgConnection::connect(&server)
            .await
            .expect("the test server answers");
        let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::raw_sql(create)
            .execute(&mut connection)
            .await
            .expect("a database can be made");
        Self {
            name,
            server,
            external,
        }
    }

    /// The database's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its URL.
    pub fn url(&self) -> String {
        let (base, query) = self
            .server
            .split_once('?')
            .map_or((self.server.as_str(), None), |(b, q)| (b, Some(q)));
        let authority = base.find("://").map_or(0, |at| at + 3);
        let end = base[authority..]
            .find('/')
            .map_or(base.len(), |at| authority + at);
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        format!("{}/{}{query}", &base[..end], self.name)
    }

    /// Its URL by way of another address, such as a proxy's.
    pub fn url_via(&self, address: SocketAddr) -> String {
        let url = self.url();
        let place = host_and_port(&url);
        format!("{}{address}{}", &url[..place.start], &url[place.end..])
    }

    /// The server's address.
    pub fn address(&self) -> SocketAddr {
        let place = &self.server[host_and_port(&self.server)];
        let port = place
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.ends_with(']'));
        let place = if port {
            place.to_owned()
        } else {
            format!("{place}:5432")
        };
        let found = place.to_socket_addrs().expect("the test server's name resolves");
        // A name may stand for addresses of which the server listens on one only.
        let mut reached = found.filter(|address| TcpStream::connect(address).is_ok());
        reached.next().expect("the test server can be reached")
    }

    /// A connection beside the store's, to look and to meddle.
    pub async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url())
            .await
            .expect("the test database answers")
    }
}

/// Where a URL has `host:port`.
fn host_and_port(url: &str) -> Range<usize> {
    let start = url.find("://").expect("a URL") + 3;
    let end = url[start..].find(['/', '?']).map_or(url.len(), |at| start + at);
    let start = url[start..end].rfind('@').map_or(start, |at| start + at + 1);
    start..end
}

/// A throw-away server takes its databases with it; another one is left as it was found.
impl Drop for Database {
    fn drop(&mut self) {
        if !self.external {
            return;
        }
        let (name, server) = (self.name.clone(), self.server.clone());
        let dropping = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let mut connection = PgConnection::connect(&server).await.unwrap();
                let drop = AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"));
                sqlx::raw_sql(drop).execute(&mut connection).await.unwrap();
            });
        });
        if dropping.join().is_err() {
            eprintln!("the test database {} is left behind", self.name);
        }
    }
}

/// A server of our own.
#[derive(Debug)]
pub struct Server(Throwaway);

impl Server {
    /// The one that all tests of this process share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts another one, which ends when it is dropped.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// As [`Server::start`], with settings of its own, such as `-c max_connections=400`.
    pub fn start_with(settings: &str) -> Self {
        let binaries = find_binaries();
        Self(Throwaway::start(&POSTGRES, |folder, _| {
            let mut command = as_allowed_user(folder);
            command.env("BIN", &binaries).env("SETTINGS", settings);
            command
        }))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// The URL of one of its databases.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://sublet@{}/{database}", self.address())
    }

    /// Stops it as a crash would, and returns when it is gone.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// Starts it again on the same port, and returns when it answers.
    pub fn start_again(&self) {
        self.0.start_again();
    }

    /// Starts it again as a standby, which takes no writes, and returns when it answers.
    pub fn start_as_standby(&self) {
        self.0.tell("standby", READY_TO_READ);
    }
}

/// The folder that has `initdb` and `postgres`.
pub fn find_binaries() -> PathBuf {
    let mut folders = Vec::new();
    if let Ok(said) = Command::new("pg_config").arg("--bindir").output() {
        folders.push(PathBuf::from(String::from_utf8_lossy(&said.stdout).trim()));
    }
    let mut versions: Vec<_> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    versions.sort_by_key(fs::DirEntry::file_name);
    folders.extend(versions.iter().rev().map(|version| version.path().join("bin")));
    folders.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let complete = |folder: &PathBuf| folder.join("initdb").is_file() && folder.join("postgres").is_file();
    folders.into_iter().find(complete).unwrap_or_else(|| {
        panic!(
            "these tests need PostgreSQL's initdb and postgres, and found none: install them (apt-get install \
             postgresql); with {EXTERNAL} only the tests that stop a server need them"
        )
    })
}

/// PostgreSQL refuses to run as root: then it runs as `postgres` or `nobody`, who gets the folder.
fn as_allowed_user(folder: &Path) -> Command {
    if fs::metadata(folder).unwrap().uid() != 0 {
        return Command::new("env");
    }
    let (user, uid, gid) = allowed_user();
    chown(folder, Some(uid), Some(gid)).unwrap();
    if runs("setpriv") {
        let mut command = Command::new("setpriv");
        command.args([
            format!("--reuid={uid}"),
            format!("--regid={gid}"),
            "--clear-groups".into(),
        ]);
        return command;
    }
    let mut command = Command::new("runuser");
    command.args(["-u", &user, "--"]);
    command
}

fn allowed_user() -> (String, u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let find = |name: &str| {
        users
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find_map(|fields| match fields[..] {
                [user, _, uid, gid, ..] if user == name => {
                    Some((user.to_owned(), uid.parse().unwrap(), gid.parse().unwrap()))
                }
                _ => None,
            })
    };
    find("postgres")
        .or_else(|| find("nobody"))
        .expect("a user `postgres` or `nobody`")
}

fn runs(program: &str) -> bool {
    let mut command = Command::new(program);
    command
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
