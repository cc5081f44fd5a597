//! PgBouncer, in session and in transaction mode.

use std::{
    io::ErrorKind,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command, Stdio},
};

use crate::{FEW, MANY};

/// A running PgBouncer with the databases `session` and `transaction`. Killed when dropped.
pub struct PgBouncer {
    child: Child,
    pub port: u16,
    _folder: tempfile::TempDir,
}

impl PgBouncer {
    pub fn start(server: u16) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let database = format!("host=127.0.0.1 port={server} dbname=bench user=sublet");
        let config = format!(
            "[databases]\nsession = {database} pool_mode=session pool_size={MANY}\n\
             transaction = {database} pool_mode=transaction pool_size={FEW}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             max_client_conn = 1000\nlogfile =\n"
        );
        let file = folder.path().join("pgbouncer.ini");
        std::fs::write(&file, config).expect("its configuration");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).expect("readable");
        let mut command = Command::new("pgbouncer");
        command.arg("-q").arg(&file);
        if std::env::var("USER").is_ok_and(|user| user == "root") || is_root() {
            // It refuses to run as root.
            command.args(["-u", "nobody"]);
        }
        let child = command.stderr(Stdio::inherit()).spawn();
        let child = child.unwrap_or_else(|error| match error.kind() {
            ErrorKind::NotFound => panic!("there is no pgbouncer: `make bench-postgres` installs it"),
            _ => panic!("pgbouncer: {error}"),
        });
        let mut bouncer = Self {
            child,
            port,
            _folder: folder,
        };
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = bouncer.child.try_wait().expect("its state");
            assert!(ended.is_none(), "pgbouncer has ended: {ended:?}");
            std::thread::yield_now();
        }
        bouncer
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0)
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
