//! `weir node`: reads secrets, joins the broker, gives privileges up, then serves.

use std::collections::HashMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use prometheus::Registry;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use weir_accept::OriginSource;
use weir_broker::client::{NodeLink, Welcome};
use weir_decide::PolicySet;
use weir_discover::ApiConfig;
use weir_identify::GraphConfig;
use weir_kernel::{Origins, Speakers};
use weir_mask::MaskKey;
use weir_model::flow::FlowOrigin;
use weir_record::anchor::{AnchorConfig, AnchorMetrics, Anchoring, Witness};
use weir_record::{Shipper, ShipperConfig, ShipperMetrics, SpoolConfig, SpoolDir, StoreAddress};
use weir_relay::{
    Intake, Metrics, Node, NodeParts, SNAPSHOT_VERSION, Settings, Workers, WorkloadBinding,
};
use weir_state::{ServerPlace, State};
use zeroize::Zeroizing;

use super::approvals;
use super::arguments::Arguments;
use super::discovery::{self, Cluster, Finder};
use super::follower::Follower;
use super::host::BrokerHost;
use super::identities;
use super::intake;
use super::ledger::Books;
use super::pods::PodBook;
use super::prepare::{self, StatePaths};
use super::pulse;
use super::serving::{Life, Serving, Shipping};
use super::targets::TargetSecrets;
use super::witness;
use crate::admin::{AdminState, PeerRule, serve_tcp, serve_unix};
use crate::config::{self, Config};
use crate::console::{self, ConsoleSecrets};
use crate::notifiers::{self, NotifierSecrets};
use crate::privileges::{self, Reach};
use crate::{output, policies};

/// Tables that are not right yet are looked at again.
const TABLES_EVERY: Duration = Duration::from_secs(2);
/// A broker that is just starting is waited for.
const BROKER_TRIES: u32 = 50;
const BROKER_TRY_EVERY: Duration = Duration::from_millis(200);

/// What only root can read, read before the drop.
struct Secrets {
    targets: TargetSecrets,
    mask_key: MaskKey,
    writer_token: Option<Zeroizing<String>>,
    reader_token: Option<Zeroizing<String>>,
    witness: Option<Witness>,
    workloads: HashMap<Arc<str>, WorkloadBinding>,
    graph: Option<GraphConfig>,
    /// Of the Kubernetes API, when pods or Services are asked for.
    cluster: Option<ApiConfig>,
    people: PeopleSecrets,
    /// When nodes share their approvals.
    state: Option<ServerPlace>,
    book: Arc<PodBook>,
}

/// Of what people see: console and notifiers.
struct PeopleSecrets {
    console: Option<ConsoleSecrets>,
    notifiers: NotifierSecrets,
}

impl Secrets {
    fn cluster(&mut self) -> Cluster {
        Cluster {
            api: self.cluster.take(),
            book: Arc::clone(&self.book),
        }
    }
}

/// What differs from one process to the next.
#[derive(Clone, Debug)]
pub(crate) struct NodeOptions {
    /// This node's name in the cluster, instead of the file's.
    pub(crate) kubernetes_node: Option<String>,
    pub(crate) ready_file: Option<PathBuf>,
    pub(crate) stay: bool,
}

/// Runs until a signal; exit 0 on a clean end.
pub(crate) fn run(path: &Path, options: &NodeOptions) -> Result<ExitCode> {
    super::start_logging();
    privileges::no_core_dumps()?;
    let mut config = output::load(path)?;
    let name = options.kubernetes_node.as_deref();
    if let (Some(kubernetes), Some(name)) = (&mut config.kubernetes, name) {
        let known = kubernetes.set_node(name);
        anyhow::ensure!(known, "{name} is no name of a node (WEIR_KUBERNETES_NODE)");
    }
    let paths = StatePaths::of(&config);
    let ready_file = match &options.ready_file {
        Some(path) => Some(
            std::fs::File::create(path).with_context(|| format!("making {}", path.display()))?,
        ),
        None => None,
    };
    let (link, welcome) = reach_broker(&config)?;
    let secrets = read_secrets(&config, &paths)?;
    let policies = policies::load(&config)?;
    privileges::drop_all(&config.node.user, &reach(&config, &paths))?;
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("weir-control")
        .enable_all()
        .build()
        .context("starting the control runtime")?;
    let parts = Parts {
        config,
        paths,
        secrets,
        policies,
        link: Arc::new(link),
        welcome,
    };
    let stay = options.stay;
    control.block_on(async move { serve(parts, Life::new(ready_file, stay)?).await })?;
    Ok(ExitCode::SUCCESS)
}

struct Parts {
    config: Config,
    paths: StatePaths,
    secrets: Secrets,
    policies: PolicySet,
    link: Arc<NodeLink>,
    welcome: Welcome,
}

fn reach_broker(config: &Config) -> Result<(NodeLink, Welcome)> {
    let path = config.node.run_dir.join("broker.sock");
    let mut tries = 0;
    loop {
        match NodeLink::connect(&path, SNAPSHOT_VERSION) {
            Ok(reached) => return Ok(reached),
            Err(error) if tries < BROKER_TRIES => {
                if tries == 0 {
                    tracing::info!(%error, path = %path.display(), "waiting for the broker");
                }
                tries += 1;
                std::thread::sleep(BROKER_TRY_EVERY);
            }
            Err(error) => {
                return Err(error).with_context(|| {
                    format!(
                        "no broker answers at {}: start weir broker first",
                        path.display()
                    )
                });
            }
        }
    }
}

/// Origins from the map that the broker passed.
struct KernelOrigins(Origins);

impl OriginSource for KernelOrigins {
    fn origin(&self, socket: BorrowedFd<'_>) -> std::io::Result<Option<FlowOrigin>> {
        self.0.lookup(socket)
    }
}

async fn serve(parts: Parts, mut life: Life) -> Result<()> {
    let Parts { config, paths, .. } = parts;
    let (link, mut secrets, mut welcome) = (parts.link, parts.secrets, parts.welcome);
    let registry = Registry::new();
    let spool = open_spool(&config, &paths)?;
    let state = approvals::open(secrets.state.take(), &paths, &config.node.name).await?;
    let identify = Arc::new(identities::identify_with(&config, secrets.graph.take())?);
    let (policy_sender, policy_receiver) = watch::channel(Arc::new(parts.policies));
    let made = secrets.targets.all(&config)?;
    let finder = Finder::new(&config, &made, secrets.cluster(), Arc::clone(&link))?;
    let node = Node::new(NodeParts {
        host: host(&config, &secrets, &link, welcome.speakers.take()),
        identify: Arc::clone(&identify),
        state: state.clone(),
        targets: weir_relay::Targets::new(made),
        workloads: std::mem::take(&mut secrets.workloads),
        policies: policy_receiver,
        mask_key: secrets.mask_key.clone(),
        patterns: config.patterns.clone(),
        metrics: Metrics::register(&registry).context("metrics")?,
        control: tokio::runtime::Handle::current(),
        settings: settings(&config, &secrets.mask_key),
    });
    keep_out(&node, &state).await?;
    secrets.targets.rotation().start(&identify, &link);
    let (workers, intake) = workers(&node, &spool)?;
    let (stop_shipper, shipping) = start_shipper(&config, &spool, &registry, &mut secrets)?;
    drop(tokio::spawn(policies::watch(config.clone(), policy_sender)));
    let (incoming, listeners) = intake::channel();
    let told = welcome.take_told();
    let (follower, heard) = Follower::new((&node, &intake), &registry, welcome.admin)?;
    let readiness = follower.readiness();
    follower.follow(&link, told, incoming)?;
    let origins = Arc::new(KernelOrigins(Origins::new(welcome.accepted_map)));
    let books = Books::open(&config, &paths.node_dir, &spool, &link, &registry)?;
    let accept = intake::accept_all(listeners, origins, intake.clone(), books.taken());
    let accepting = tokio::spawn(accept);
    let parts = (Arc::clone(&node), state, identify);
    let admin = AdminState::new(parts, registry, readiness, (config.clone(), &spool));
    let mut administration = start_admin(&config, heard.admin_sockets, &admin);
    administration.extend(start_console(&config, secrets.people, &admin, &paths)?);
    serve_from_now_on(&link).await?;
    finder.start();
    pulse::start(welcome.pulse)?;
    life.ready()?;
    output::line("READY");
    let serving = Serving {
        node,
        intake,
        workers,
        accepting,
        administration,
        shipping: (stop_shipper, shipping),
        books: books.keep(),
        changes: heard.changes,
        drain_s: config.node.drain_s,
        life,
    };
    serving.until_the_end().await
}

/// Who was revoked before this start stays out.
async fn keep_out(node: &Node, state: &State) -> Result<()> {
    let revoked = state.revocations().await;
    for entry in revoked.context("reading the kill list")? {
        node.revoke(entry.kind, &entry.value);
    }
    Ok(())
}

/// The broker as the relay sees it.
fn host(
    config: &Config,
    secrets: &Secrets,
    link: &Arc<NodeLink>,
    speakers: Option<OwnedFd>,
) -> Arc<BrokerHost> {
    Arc::new(BrokerHost::new(
        Arc::clone(link),
        Arguments::new(secrets.mask_key.clone(), config.patterns.clone()),
        speakers.map(Speakers::new),
    ))
}

/// New flows are ours once the broker says so; the heartbeat is, from then on.
async fn serve_from_now_on(link: &NodeLink) -> Result<()> {
    let (sender, receiver) = oneshot::channel();
    link.serving(move |outcome| {
        // We wait for it below.
        let _gone = sender.send(outcome);
    });
    receiver
        .await
        .context("the broker is gone")?
        .context("the broker does not let this node serve")
}

fn open_spool(config: &Config, paths: &StatePaths) -> Result<SpoolDir> {
    SpoolDir::open(SpoolConfig {
        directory: paths.spool.clone(),
        key_file: paths.node_key.clone(),
        limit_bytes: config.record.limit_bytes,
        durability: match config.record.durability {
            config::Durability::Process => weir_record::Durability::Process,
            config::Durability::PowerLoss => weir_record::Durability::PowerLoss,
        },
    })
    .context("opening the spool")
}

fn workers(node: &Arc<Node>, spool: &SpoolDir) -> Result<(Workers, Intake)> {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut lanes = Vec::with_capacity(count);
    for index in 0..count {
        let index = u32::try_from(index).context("too many processors")?;
        lanes.push(
            spool
                .lane(index, weir_clock::now())
                .context("opening a spool lane")?,
        );
    }
    Workers::start(node, lanes).context("starting the workers")
}

/// Shapes are keyed, so that nobody finds another statement of an approved shape's digest.
fn settings(config: &Config, key: &MaskKey) -> Settings {
    let seed = key.digest_text("weir: shape of statements", b"");
    Settings {
        cluster: config.node.cluster.clone(),
        node: config.node.name.clone(),
        rows_head: config.record.rows_head,
        hold_expires_s: config.approvals.expires_s,
        hold_in_transaction_s: config.approvals.in_transaction_s,
        shape_seed: seed
            .bytes()
            .fold(0, |seed, byte| seed.rotate_left(5) ^ u64::from(byte)),
    }
}

fn start_shipper(
    config: &Config,
    spool: &SpoolDir,
    registry: &Registry,
    secrets: &mut Secrets,
) -> Result<(watch::Sender<bool>, Option<Shipping>)> {
    let (sender, receiver) = watch::channel(false);
    let store = config.record.clickhouse.as_ref();
    let stores = store.map(|store| addresses(store, secrets.writer_token.as_ref()));
    let anchoring = Anchoring::new(
        AnchorConfig {
            node_name: config.node.name.clone(),
            every: Duration::from_secs(config.record.anchor_s),
            stores: stores.unwrap_or_default(),
            witness: secrets.witness.take(),
        },
        spool,
        AnchorMetrics::register(registry).context("metrics")?,
    );
    let anchoring = anchoring.run(receiver.clone());
    let Some(store) = store else {
        tracing::warn!("record.clickhouse is not configured: the record stays in the spool");
        return Ok((sender, Some(tokio::spawn(anchoring))));
    };
    let shipper = Shipper::new(
        ShipperConfig {
            stores: addresses(store, secrets.writer_token.take().as_ref()),
            node_name: config.node.name.clone(),
            rows_max: 50_000,
            age: Duration::from_secs(1),
            keep_bytes: config.record.limit_bytes / 2,
        },
        spool,
        ShipperMetrics::register(registry).context("metrics")?,
    );
    let readers = secrets.reader_token.take();
    let readers = readers.map(|token| addresses(store, Some(&token)));
    let mut stop = receiver.clone();
    let shipping = async move {
        // Nothing is shipped into tables that would not take it exactly once.
        tokio::select! {
            () = tables_are_right(readers) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        shipper.run(receiver).await;
    };
    let task = tokio::spawn(async move {
        tokio::join!(shipping, anchoring);
    });
    Ok((sender, Some(task)))
}

/// The store and its replicas, in the order in which they are asked.
fn addresses(store: &config::ClickHouse, token: Option<&Zeroizing<String>>) -> Vec<StoreAddress> {
    let urls = std::iter::once(&store.url).chain(&store.replicas);
    urls.map(|url| StoreAddress {
        url: url.clone(),
        database: store.database.clone(),
        token: token.cloned(),
    })
    .collect()
}

/// Returns once ClickHouse's tables are what the shipper needs, wherever they can be looked at; asks
/// again until they are.
async fn tables_are_right(readers: Option<Vec<StoreAddress>>) {
    let Some(readers) = readers else {
        tracing::warn!(
            "record.clickhouse.reader_token_file is not configured: its tables are not checked"
        );
        return;
    };
    let clients: Vec<_> = readers.iter().map(StoreAddress::client).collect();
    loop {
        match weir_record::tables::check_all(&clients).await {
            Ok(problems) if problems.is_empty() => return,
            Ok(problems) => {
                for problem in problems {
                    tracing::error!(
                        problem,
                        "ClickHouse's tables are not as needed: the record stays in the spool"
                    );
                }
            }
            Err(error) => tracing::warn!(%error, "ClickHouse's tables cannot be checked yet"),
        }
        tokio::time::sleep(TABLES_EVERY).await;
    }
}

fn start_admin(
    config: &Config,
    sockets: mpsc::Receiver<OwnedFd>,
    state: &Arc<AdminState>,
) -> Vec<AbortHandle> {
    let rule = PeerRule {
        governed: config.node.governed.clone(),
    };
    let unix = tokio::spawn(administer(sockets, rule, Arc::clone(state)));
    let mut tasks = vec![unix.abort_handle()];
    if let Some(addr) = config.admin_http {
        let tcp = serve_tcp(addr, Arc::clone(state));
        let task = tokio::spawn(async move {
            if let Err(error) = tcp.await {
                tracing::error!(%error, "admin.http is closed");
            }
        });
        tasks.push(task.abort_handle());
    }
    tasks
}

/// Serves the newest of the admin sockets: the path leads to that one.
async fn administer(mut sockets: mpsc::Receiver<OwnedFd>, rule: PeerRule, state: Arc<AdminState>) {
    // The one before it ends with the task that served it.
    let mut serving = JoinSet::new();
    while let Some(socket) = sockets.recv().await {
        let listener = std::os::unix::net::UnixListener::from(socket);
        let listener = listener
            .set_nonblocking(true)
            .and_then(|()| tokio::net::UnixListener::from_std(listener));
        let listener = match listener {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "the admin socket cannot be used");
                continue;
            }
        };
        serving.abort_all();
        let unix = serve_unix(listener, rule.clone(), Arc::clone(&state));
        serving.spawn(async move {
            if let Err(error) = unix.await {
                tracing::error!(%error, "the admin socket is closed");
            }
        });
    }
}

/// Console and notifiers, where they are configured.
fn start_console(
    config: &Config,
    secrets: PeopleSecrets,
    admin: &AdminState,
    paths: &StatePaths,
) -> Result<Vec<AbortHandle>> {
    let mut notifiers = secrets.notifiers;
    let hooks = console::hooks::router(std::mem::take(&mut notifiers.slack));
    let running = notifiers::Running {
        node: &admin.node,
        state: &admin.state,
        registry: &admin.metrics,
        folder: &paths.node_dir,
    };
    let mut tasks = notifiers::start(config, notifiers, &running)?;
    if let (Some(settings), Some(secrets)) = (&config.console, secrets.console) {
        let running = console::Running {
            node: Arc::clone(&admin.node),
            state: admin.state.clone(),
            identify: Arc::clone(&admin.identify),
            hooks,
        };
        tasks.push(console::start(config, settings, secrets, running));
    }
    Ok(tasks)
}

fn reach(config: &Config, paths: &StatePaths) -> Reach {
    let mut read_only: Vec<PathBuf> = ["/etc", "/proc", "/dev", "/usr", "/lib", "/lib64"]
        .iter()
        .map(PathBuf::from)
        .collect();
    read_only.push(config.policies.clone());
    if let Some(kubernetes) = &config.kubernetes {
        // The kubelet replaces the token by another file in this folder.
        read_only.extend(kubernetes.token_file.parent().map(Path::to_owned));
    }
    Reach {
        read_write: vec![paths.node_dir.clone()],
        read_only,
    }
}

fn read_secrets(config: &Config, paths: &StatePaths) -> Result<Secrets> {
    let key = std::fs::read(&config.mask_key_file)
        .with_context(|| format!("reading {}", config.mask_key_file.display()))?;
    let key: [u8; 32] = key
        .try_into()
        .map_err(|_| anyhow::anyhow!("masking.key_file must hold exactly 32 bytes"))?;
    let store = config.record.clickhouse.as_ref();
    let token = |file: Option<&PathBuf>, name: &'static str| match file {
        Some(file) => prepare::read_secret(file).context(name).map(Some),
        None => Ok(None),
    };
    let writer_token = token(
        store.and_then(|store| store.token_file.as_ref()),
        "record.clickhouse.token_file",
    )?;
    let reader_token = token(
        store.and_then(|store| store.reader_token_file.as_ref()),
        "record.clickhouse.reader_token_file",
    )?;
    let book = Arc::new(PodBook::default());
    Ok(Secrets {
        targets: TargetSecrets::read(config, paths)?,
        mask_key: MaskKey::new(key),
        writer_token,
        reader_token,
        witness: config
            .record
            .witness
            .as_ref()
            .map(witness::open)
            .transpose()?,
        workloads: identities::read(config, &book)?,
        graph: identities::graph(config)?,
        state: approvals::place(config)?,
        cluster: discovery::read_secrets(config)?,
        people: PeopleSecrets {
            console: ConsoleSecrets::read(config)?,
            notifiers: NotifierSecrets::read(config)?,
        },
        book,
    })
}
