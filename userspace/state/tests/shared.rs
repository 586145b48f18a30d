//! Two nodes over one PostgreSQL: approvals, grants and news are shared, and survive restarts of
//! either side.

#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use weir_model::ident::{ApprovalId, RevokedKind, SessionId};
use weir_state::{
    ApprovalState, Decision, GrantAsk, GrantScope, NewApproval, Reviewer, Revocation, ServerHost,
    ServerPlace, Standing, State, StateStore, TimeoutAction,
};

const SECOND: i64 = 1_000_000;

/// A cluster of its own, reached by a socket file.
struct Server {
    process: Option<Child>,
    directory: PathBuf,
    ids: (u32, u32),
}

fn binaries() -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is installed")
        .map(|entry| entry.unwrap().path().join("bin"))
        .filter(|path| path.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().expect("PostgreSQL is installed")
}

fn id_of(kind: &str) -> u32 {
    let output = Command::new("id")
        .args([kind, "postgres"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

impl Server {
    fn start(name: &str) -> Self {
        let ids = (id_of("-u"), id_of("-g"));
        let directory =
            std::env::temp_dir().join(format!("weir-state-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::os::unix::fs::chown(&directory, Some(ids.0), Some(ids.1)).unwrap();
        let made = Command::new(binaries().join("initdb"))
            .args(["-U", "weir", "-A", "trust", "-E", "UTF8", "--no-sync", "-D"])
            .arg(directory.join("data"))
            .current_dir(&directory)
            .uid(ids.0)
            .gid(ids.1)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success());
        let mut server = Self {
            process: None,
            directory,
            ids,
        };
        server.up();
        server
    }

    /// Starts, and waits until it answers.
    fn up(&mut self) {
        let process = Command::new(binaries().join("postgres"))
            .arg("-D")
            .arg(self.directory.join("data"))
            .arg("-k")
            .arg(&self.directory)
            .args(["-c", "listen_addresses=", "-c", "fsync=off"])
            .current_dir(&self.directory)
            .uid(self.ids.0)
            .gid(self.ids.1)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.process = Some(process);
        for _attempt in 0..600 {
            let ready = Command::new(binaries().join("pg_isready"))
                .arg("-q")
                .arg("-h")
                .arg(&self.directory)
                .status()
                .unwrap();
            if ready.success() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the server does not start");
    }

    fn down(&mut self) {
        if let Some(mut process) = self.process.take() {
            // As a crash, but of its children too: an orphan would answer for a while.
            let pid = process.id().to_string();
            let told = Command::new("kill").args(["-QUIT", &pid]).status();
            assert!(told.unwrap().success());
            process.wait().unwrap();
        }
        let _absent = std::fs::remove_file(self.directory.join("data/postmaster.pid"));
    }

    fn place(&self) -> ServerPlace {
        ServerPlace {
            host: ServerHost::Socket(self.directory.join(".s.PGSQL.5432")),
            database: "postgres".into(),
            user: "weir".into(),
            password: None,
        }
    }

    async fn node(&self) -> State {
        let (place, news) = (self.place(), tokio::runtime::Handle::current());
        let opened = tokio::task::spawn_blocking(move || State::open_server(place, &news));
        opened.await.unwrap().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.down();
        let _absent = std::fs::remove_dir_all(&self.directory);
    }
}

fn asked(session: u128) -> NewApproval {
    let now = weir_clock::now().wall_us;
    NewApproval {
        created_us: now,
        expires_us: now + 600 * SECOND,
        session: SessionId(session),
        seq: 1,
        tenant: "t".into(),
        principal: "agent".into(),
        application: "app".into(),
        on_behalf_of: String::new(),
        workload: "operator".into(),
        target: "demo".into(),
        database: "shop".into(),
        statement: "delete from orders where note = 'ü?1'".into(),
        parameters: String::new(),
        accesses: vec!["delete Table:demo/shop/public/orders".into()],
        process: "psql (pid 4)".into(),
        rules: vec!["writes".into()],
        groups: vec!["dba".into()],
        reason: "rows go".into(),
        approvals: 1,
        escalate_us: 0,
        escalate_groups: Vec::new(),
        at_timeout: TimeoutAction::Deny,
        // Greater than a signed number holds.
        shape: u64::MAX - 5,
        exact: true,
        effect: None,
    }
}

fn reviewer() -> Reviewer {
    Reviewer {
        tenant: "t".into(),
        oid: "rev".into(),
        name: "rev".into(),
        groups: vec!["dba".into()],
    }
}

fn approves(grant: Option<GrantAsk>) -> Decision {
    Decision {
        approve: true,
        reviewer: reviewer(),
        justification: "ticket 4711".into(),
        grant,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_on_one_node_wakes_the_waiter_on_another() {
    let server = Server::start("news");
    let (first, second) = (server.node().await, server.node().await);
    let id = first.create(asked(1)).await.unwrap();
    assert_eq!(
        second.get(id).await.unwrap().unwrap().new.statement,
        asked(1).statement
    );
    let waiter = tokio::spawn({
        let first = first.clone();
        async move { first.decided(id).await }
    });
    let grant = GrantAsk {
        scope: GrantScope::Shape,
        for_s: 3600,
    };
    second
        .decide(id, approves(Some(grant)), weir_clock::now())
        .await
        .unwrap();
    assert_eq!(
        waiter.await.unwrap().unwrap().state,
        ApprovalState::Approved
    );

    // The grant counts on both; revoked on one, it is over on the other.
    for node in [&first, &second] {
        let standing = node.standing(asked(2)).await.unwrap();
        assert!(
            matches!(standing, Some(Standing::Grant { .. })),
            "{standing:?}"
        );
    }
    let follower = tokio::spawn({
        let first = first.clone();
        async move { first.grant_over(id).await }
    });
    second
        .revoke_grant(id, reviewer(), "wrong table".into())
        .await
        .unwrap();
    follower.await.unwrap().unwrap();
    assert_eq!(first.standing(asked(3)).await.unwrap(), None);

    // The kill list is one as well.
    let entry = Revocation {
        kind: RevokedKind::Principal,
        value: "agent".into(),
        by: "rev".into(),
        reason: "runs wild".into(),
        at_us: 1,
    };
    first.revoke(entry.clone()).await.unwrap();
    assert_eq!(second.revocations().await.unwrap(), [entry]);
}

#[tokio::test(flavor = "multi_thread")]
async fn held_requests_survive_restarts_of_the_server() {
    let mut server = Server::start("restart");
    let node = server.node().await;
    let id = node.create(asked(1)).await.unwrap();
    server.down();
    // Nothing can be held while it is gone: the request is refused, not let through.
    assert!(node.create(asked(2)).await.is_err());
    assert!(node.standing(asked(2)).await.is_err());
    server.up();
    let waiter = tokio::spawn({
        let node = node.clone();
        async move { node.decided(id).await }
    });
    node.decide(id, approves(None), weir_clock::now())
        .await
        .unwrap();
    assert_eq!(
        waiter.await.unwrap().unwrap().state,
        ApprovalState::Approved
    );
}

#[test]
fn two_nodes_use_a_decision_once() {
    let server = Server::start("once");
    let mut stores: Vec<StateStore> = (0..4)
        .map(|_| StateStore::open_server(server.place()).unwrap())
        .collect();
    let mut made = stores.pop().unwrap();
    let id = made.create(&asked(1)).unwrap();
    made.decide(id, &approves(None), weir_clock::now()).unwrap();
    // The node that asked is gone, and its agent asks again everywhere at the same time.
    drop(made);
    let start = Arc::new(std::sync::Barrier::new(stores.len()));
    let threads: Vec<_> = stores
        .into_iter()
        .map(|mut store| {
            let start = Arc::clone(&start);
            std::thread::spawn(move || {
                start.wait();
                let waiting: BTreeSet<ApprovalId> = BTreeSet::new();
                store
                    .standing(&asked(2), &waiting, weir_clock::now())
                    .unwrap()
            })
        })
        .collect();
    let found: Vec<_> = threads.into_iter().map(|one| one.join().unwrap()).collect();
    let used = found.iter().flatten().count();
    assert_eq!(used, 1, "{found:?}");
}
