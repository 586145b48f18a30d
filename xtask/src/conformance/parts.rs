//! The processes of one server: how each is started, and when it is ready.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::build::Built;
use super::cluster::Instance;
use crate::lab::daemon::{self, Plan};
use crate::lab::model::Lab;
use crate::lab::{agents, names, weir};
use crate::run;

/// The suite has this token in its scripts. It reaches the server in direct runs only: Weir drops
/// whatever credential an agent sends.
pub(super) const ADMIN: &str = "admin-token";
const READY_WITHIN: Duration = Duration::from_secs(120);

/// As in the source's `hack/make-rules/test-cmd.sh`.
const APISERVER: [&str; 7] = [
    "--feature-gates=ServerSideApply=true",
    "--enable-admission-plugins=LimitRanger,ResourceQuota",
    "--disable-admission-plugins=ServiceAccount,PersistentVolumeLabel,DefaultStorageClass,\
     DefaultTolerationSeconds,MutatingAdmissionWebhook,ValidatingAdmissionWebhook,\
     StorageObjectInUseProtection",
    "--runtime-config=api/v1",
    "--service-account-issuer=https://kubernetes.default.svc",
    "--service-cluster-ip-range=10.0.0.0/24",
    "--service-account-lookup=true",
];

/// One server's own folder, ports and binaries.
pub(super) struct Parts<'a> {
    pub(super) folder: PathBuf,
    pub(super) built: &'a Built,
    pub(super) instance: Instance,
    pub(super) address: String,
}

impl Parts<'_> {
    pub(super) fn url(&self) -> String {
        format!("https://{}:{}", self.address, self.instance.port)
    }

    fn file(&self, option: &str, name: &str) -> String {
        format!("--{option}={}", self.folder.join(name).display())
    }

    pub(super) fn etcd(&self, lab: &Lab) -> Vec<String> {
        let loopback = |port: u16| format!("http://127.0.0.1:{port}");
        let clients = loopback(self.instance.etcd_port);
        let data = lab.run_dir.join(format!("{}-etcd", self.instance.name));
        vec![
            // In memory: nothing of it is to last.
            format!("--data-dir={}", data.display()),
            format!("--listen-client-urls={clients}"),
            format!("--advertise-client-urls={clients}"),
            format!(
                "--listen-peer-urls={}",
                loopback(self.instance.etcd_port + 1)
            ),
        ]
    }

    pub(super) fn apiserver(&self) -> Vec<String> {
        let client_ca = self.built.suite.join("hack/testdata/ca.crt");
        let mut arguments = APISERVER.map(str::to_owned).to_vec();
        arguments.extend([
            format!("--bind-address={}", self.address),
            format!("--secure-port={}", self.instance.port),
            format!("--authorization-mode={}", self.instance.authorization),
            format!(
                "--etcd-servers=http://127.0.0.1:{}",
                self.instance.etcd_port
            ),
            format!("--client-ca-file={}", client_ca.display()),
            format!("--cert-dir={}", self.folder.display()),
            self.file("token-auth-file", "tokens.csv"),
            self.file("service-account-key-file", "accounts.key"),
            self.file("service-account-signing-key-file", "accounts.key"),
        ]);
        arguments
    }

    pub(super) fn manager(&self) -> Vec<String> {
        vec![
            self.file("kubeconfig", "admin.kubeconfig"),
            self.file("cert-dir", "manager"),
            format!("--secure-port={}", self.instance.manager_port),
            "--port=0".to_owned(),
        ]
    }

    pub(super) fn start(&self, lab: &mut Lab, name: &str, arguments: Vec<String>) -> Result<()> {
        let process = format!("{}-{name}", self.instance.name);
        let log = lab.log(&process);
        let mut command = vec![
            "nsenter".to_owned(),
            format!("--net={}", lab.database.netns.display()),
            self.built.bin.join(name).display().to_string(),
        ];
        command.extend(arguments);
        let started = daemon::start(&Plan {
            command,
            envs: BTreeMap::new(),
            cgroup: lab.cgroup_path(agents::PARTS),
            log: &log,
            folder: PathBuf::from("/"),
        })?;
        lab.processes.insert(process, started);
        lab.save()
    }

    /// Waits for the server, which makes its certificate when it starts.
    pub(super) fn kubeconfig(&self, lab: &Lab) -> Result<String> {
        let certificate = self.folder.join("apiserver.crt");
        let text = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "direct", "cluster": {
                "server": self.url(),
                "certificate-authority": certificate,
            }}],
            "users": [{ "name": "admin", "user": { "token": ADMIN }}],
            "contexts": [{ "name": "direct", "context": { "cluster": "direct", "user": "admin" }}],
            "current-context": "direct",
        })
        .to_string();
        fs::write(self.folder.join("admin.kubeconfig"), &text).context("the kubeconfig")?;
        let ready = || {
            let asked = self.kubectl(lab).args(["get", "--raw", "/readyz"]).output();
            asked.is_ok_and(|output| output.status.success())
        };
        if let Err(error) = daemon::wait_until("the API server is ready", READY_WITHIN, ready) {
            let log = lab.log(&format!("{}-kube-apiserver", self.instance.name));
            let log = fs::read_to_string(log).unwrap_or_default();
            bail!("{error}\n{}", run::tail(&log));
        }
        Ok(text)
    }

    fn kubectl(&self, lab: &Lab) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", lab.database.netns.display()))
            .arg(self.built.bin.join("kubectl"))
            .arg(self.file("kubeconfig", "admin.kubeconfig"))
            .stdin(Stdio::null());
        command
    }

    pub(super) fn apply_roles(&self, lab: &Lab) -> Result<()> {
        let file = self.folder.join("roles.yaml");
        let from = super::folder().join("roles.yaml");
        weir::copy_with_names(&from, &file, &names::names(lab))?;
        run::quiet(self.kubectl(lab).args(["apply", "--filename"]).arg(&file))
    }
}
