//! etcd, kube-apiserver and kube-controller-manager in the lab's database namespace.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::build::Built;
use crate::lab::daemon::{self, Plan};
use crate::lab::model::Lab;
use crate::lab::secret::{random_word, write_private};
use crate::lab::{agents, names, weir};
use crate::{place, run, say};

/// Beside the lab's own test API server; `tests/conformance/kubernetes/target.yaml` has it, too.
const PORT: u16 = 6444;
/// The suite has this token in its scripts. It reaches the server in direct runs only: Weir drops
/// whatever credential an agent sends.
const ADMIN: &str = "admin-token";
const READY_WITHIN: Duration = Duration::from_secs(120);

/// As in the source's `hack/make-rules/test-cmd.sh`, but for the authorization: there everybody may
/// do everything.
const APISERVER: [&str; 9] = [
    "--authorization-mode=RBAC",
    "--feature-gates=ServerSideApply=true",
    "--enable-admission-plugins=LimitRanger,ResourceQuota",
    "--disable-admission-plugins=ServiceAccount,PersistentVolumeLabel,DefaultStorageClass,\
     DefaultTolerationSeconds,MutatingAdmissionWebhook,ValidatingAdmissionWebhook,\
     StorageObjectInUseProtection",
    "--etcd-servers=http://127.0.0.1:2379",
    "--runtime-config=api/v1",
    "--service-account-issuer=https://kubernetes.default.svc",
    "--service-cluster-ip-range=10.0.0.0/24",
    "--service-account-lookup=true",
];

/// The server that the suite was written for.
pub(super) struct Server {
    pub(super) url: String,
    /// Of somebody who may do everything, straight at the server.
    pub(super) kubeconfig: String,
}

/// The lab's configuration with one more target; its path.
pub(super) fn configuration() -> Result<PathBuf> {
    let lab = fs::read_to_string(place::root().join("deploy/lab/weir.yaml"));
    let lab = lab.context("the lab's configuration")?;
    let target = fs::read_to_string(super::folder().join("target.yaml")).context("the target")?;
    let (before, after) = lab
        .split_once("\npolicies:\n")
        .context("the lab's configuration has no policies")?;
    let folder = place::target().join("conformance");
    fs::create_dir_all(&folder).context("a folder for the configuration")?;
    let path = folder.join("weir.yaml");
    fs::write(&path, format!("{before}\n{target}\npolicies:\n{after}"))
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// Starts all three and gives the agents their roles.
pub(super) fn start(lab: &mut Lab, built: &Built) -> Result<Server> {
    let step = say::step("kube-apiserver 1.20.2");
    let parts = Parts {
        folder: lab.state_dir.join("conformance"),
        bin: &built.bin,
        address: lab.database.addresses.v4.to_string(),
    };
    fs::create_dir_all(&parts.folder).context("the server's folder")?;
    let weir_token = random_word()?;
    write_private(
        &lab.secrets().join("conformance-token"),
        weir_token.as_bytes(),
    )?;
    let people = format!("{ADMIN},admin,,\"system:masters\"\n{weir_token},weir,,\n");
    write_private(&parts.folder.join("tokens.csv"), people.as_bytes())?;
    let key = parts.folder.join("accounts.key");
    run::quiet(Command::new("openssl").args(["genrsa", "-out"]).arg(key))?;
    parts.start(lab, "etcd", parts.etcd(lab))?;
    parts.start(lab, "kube-apiserver", parts.apiserver())?;
    let server = Server {
        url: format!("https://{}:{PORT}", parts.address),
        kubeconfig: parts.kubeconfig(lab)?,
    };
    parts.start(lab, "kube-controller-manager", parts.manager())?;
    parts.apply_roles(lab)?;
    step.done(&server.url);
    Ok(server)
}

struct Parts<'a> {
    folder: PathBuf,
    bin: &'a Path,
    address: String,
}

impl Parts<'_> {
    fn file(&self, option: &str, name: &str) -> String {
        format!("--{option}={}", self.folder.join(name).display())
    }

    fn etcd(&self, lab: &Lab) -> Vec<String> {
        vec![
            // In memory: nothing of it is to last.
            format!("--data-dir={}", lab.run_dir.join("etcd").display()),
            "--listen-client-urls=http://127.0.0.1:2379".to_owned(),
            "--advertise-client-urls=http://127.0.0.1:2379".to_owned(),
            "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
        ]
    }

    fn apiserver(&self) -> Vec<String> {
        let mut arguments = APISERVER.map(str::to_owned).to_vec();
        arguments.extend([
            format!("--bind-address={}", self.address),
            format!("--secure-port={PORT}"),
            format!("--cert-dir={}", self.folder.display()),
            self.file("token-auth-file", "tokens.csv"),
            self.file("service-account-key-file", "accounts.key"),
            self.file("service-account-signing-key-file", "accounts.key"),
        ]);
        arguments
    }

    fn manager(&self) -> Vec<String> {
        vec![
            self.file("kubeconfig", "admin.kubeconfig"),
            self.file("cert-dir", "manager"),
        ]
    }

    fn start(&self, lab: &mut Lab, name: &str, arguments: Vec<String>) -> Result<()> {
        let log = lab.log(name);
        let mut command = vec![
            "nsenter".to_owned(),
            format!("--net={}", lab.database.netns.display()),
            self.bin.join(name).display().to_string(),
        ];
        command.extend(arguments);
        let process = daemon::start(&Plan {
            command,
            envs: BTreeMap::new(),
            cgroup: lab.cgroup_path(agents::PARTS),
            log: &log,
            folder: PathBuf::from("/"),
        })?;
        lab.processes.insert(name.to_owned(), process);
        lab.save()
    }

    /// Waits for the server, which makes its certificate when it starts.
    fn kubeconfig(&self, lab: &Lab) -> Result<String> {
        let certificate = self.folder.join("apiserver.crt");
        let text = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "direct", "cluster": {
                "server": format!("https://{}:{PORT}", self.address),
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
            let log = fs::read_to_string(lab.log("kube-apiserver")).unwrap_or_default();
            bail!("{error}\n{}", run::tail(&log));
        }
        Ok(text)
    }

    fn kubectl(&self, lab: &Lab) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", lab.database.netns.display()))
            .arg(self.bin.join("kubectl"))
            .arg(self.file("kubeconfig", "admin.kubeconfig"))
            .stdin(Stdio::null());
        command
    }

    fn apply_roles(&self, lab: &Lab) -> Result<()> {
        let file = self.folder.join("roles.yaml");
        let from = super::folder().join("roles.yaml");
        weir::copy_with_names(&from, &file, &names::names(lab))?;
        run::quiet(self.kubectl(lab).args(["apply", "--filename"]).arg(&file))
    }
}
