//! Governed sets, what is exempt, lists of egress, names and Services.

use std::path::Path;

use super::{GOOD, problems};
use crate::config::{Members, parse, warnings};

const KUBERNETES: &str = "
kubernetes:
  server: https://10.96.0.1:6443
  ca_file: ca.pem
  token_file: token
  node: node-1
";

fn with(changes: &[(&str, &str)], more: &str) -> String {
    let mut text = GOOD.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    format!("{text}{more}")
}

fn expect(text: &str, expected: &[&str]) {
    let found = problems(text);
    for one in expected {
        assert!(
            found.iter().any(|problem| problem.starts_with(one)),
            "{one} not in {found:#?}"
        );
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

const OWN: &str = "cgroup: /agents/analyst";

#[test]
fn a_workload_is_a_cgroup_a_unit_or_pods() {
    let roots = (
        "governed: /agents",
        "governed: [/agents, /system.slice/agent.service]",
    );
    let config = |own: &str| {
        let text = with(&[roots, (OWN, own)], KUBERNETES);
        parse(&text, Path::new("/etc/weir")).unwrap()
    };
    let unit = config("unit: agent.service");
    let path = "/system.slice/agent.service".to_owned();
    assert_eq!(unit.workloads[0].members, Members::Cgroup(path));
    let pods = config("pods: { namespace: agents, labels: { app: a }, service_account: a }");
    let Members::Pods(selector) = &pods.workloads[0].members else {
        panic!("pods were configured");
    };
    assert_eq!(selector.labels["app"], "a");
    let kubernetes = pods.kubernetes.unwrap();
    assert_eq!(
        (kubernetes.host.as_str(), kubernetes.port),
        ("10.96.0.1", 6443)
    );
}

#[test]
fn every_problem_of_a_set_is_said() {
    let one = |own: &str, expected: &[&str]| expect(&with(&[(OWN, own)], KUBERNETES), expected);
    one(
        "netns: /run/netns/a",
        &["workloads[0]: needs exactly one of"],
    );
    one(
        "cgroup: /agents/a\n    unit: a.service",
        &["workloads[0]: needs exactly one of"],
    );
    one("unit: agent", &["workloads[0].unit: must be a unit"]);
    one(
        "unit: agent.service",
        &["workloads[0].unit: must lie below node.governed"],
    );
    one(
        "pods: { labels: { app: 3 }, colour: red }",
        &[
            "workloads[0].pods.namespace: is required",
            "workloads[0].pods.labels.app: expected text",
            "workloads[0].pods.colour: unknown name",
            "workloads[0].pods.namespace: must be a name of Kubernetes",
        ],
    );
    let without = with(&[(OWN, "pods: { namespace: agents }")], "");
    expect(&without, &["kubernetes: is required"]);
}

const RUNTIMES: &str = "runtimes: [{ name: docker, socket: /run/docker.sock }]\n";

#[test]
fn containers_are_named_by_runtime_name_image_and_labels() {
    let one =
        |own: &str, more: &str, expected: &[&str]| expect(&with(&[(OWN, own)], more), expected);
    for own in [
        "container: { name: agent }",
        "container: { image: \"agent:1\" }",
        "container: { runtime: docker, labels: { app: agent } }",
    ] {
        one(own, RUNTIMES, &[]);
    }
    let named = with(&[(OWN, "container: { name: agent }")], RUNTIMES);
    let config = parse(&named, Path::new("/etc/weir")).unwrap();
    assert_eq!(config.runtimes[0].parents, ["/agents"]);
    one(
        "container: { name: /agent }",
        RUNTIMES,
        &["workloads[0].container.name: is agent without"],
    );
    one(
        "container: {}",
        RUNTIMES,
        &["workloads[0].container: needs a name"],
    );
    one(
        "container: { runtime: podman, name: a, colour: red }",
        RUNTIMES,
        &[
            "workloads[0].container.colour: unknown name",
            "workloads[0].container.runtime: is not one of runtimes",
        ],
    );
    one("container: { name: a }", "", &["runtimes: is required"]);
    let exempt = "exempt: { containers: [{ labels: { app: monitor } }] }\n";
    expect(&with(&[], exempt), &["runtimes: is required"]);
    expect(&with(&[], &format!("{exempt}{RUNTIMES}")), &[]);
    expect(
        &with(
            &[],
            "runtimes: [{ name: a, socket: docker.sock }, { name: a, socket: /s, cgroup_parents: [/agents/web, /docker] }]\n",
        ),
        &[
            "runtimes[0].socket: must be the path",
            "runtimes[1].name: is another runtime's too",
            "runtimes[1].cgroup_parents[1]: must lie below node.governed",
        ],
    );
}

#[test]
fn roots_and_exempt_cgroups_lie_where_they_can() {
    let roots = |roots: &str, expected: &[&str]| {
        expect(&with(&[("governed: /agents", roots)], ""), expected);
    };
    roots("governed: [/agents, /kubepods.slice]", &[]);
    roots("governed: []", &["workloads[0].cgroup: must lie below"]);
    roots(
        "governed: [/agents, /agents/a, /weir]",
        &[
            "node.governed[1]: lies in another",
            "node.cgroup: must not lie",
        ],
    );
    let exempt = |cgroups: &str, expected: &[&str]| {
        expect(
            &with(&[], &format!("exempt: {{ cgroups: {cgroups} }}\n")),
            expected,
        );
    };
    exempt("[/agents/monitor]", &[]);
    exempt("[/agents/analyst]", &["exempt.cgroups[0]: is a workload's"]);
    exempt(
        "[/other, /agents, /agents//x]",
        &[
            "exempt.cgroups[0]: does not lie below",
            "exempt.cgroups[1]: does not lie below",
            "exempt.cgroups[2]: must be a path",
        ],
    );
}

#[test]
fn a_list_of_egress_is_checked_whole() {
    let list = |egress: &str, expected: &[&str]| {
        let own = format!("{OWN}\n    {egress}");
        expect(&with(&[(OWN, &own)], ""), expected);
    };
    list("egress: listed", &[]);
    list(
        "egress: listed\n    allow: [{ hosts: [10.0.0.53, \"fd77::/64\"], ports: [53] }, { names: [pypi.org] }]",
        &[],
    );
    list(
        "egress: closed",
        &["workloads[0].egress: must be open or listed"],
    );
    list(
        "allow: [{ hosts: [10.0.0.53] }]",
        &["workloads[0].allow: belongs to egress: listed"],
    );
    list(
        "egress: listed\n    allow: [{}, { hosts: [10.0.0.1/8], ports: [0] }, { names: [\"*.org\", A.org] }]",
        &[
            "workloads[0].allow[0]: needs hosts or names",
            "workloads[0].allow[1].ports[0]: must be from 1",
            "workloads[0].allow[1].hosts[0]: '10.0.0.1/8' has bits",
            "workloads[0].allow[2].names[0]: must be a name of DNS",
            "workloads[0].allow[2].names[1]: must be a name of DNS",
        ],
    );
}

const HOSTS: &str = "match: { hosts: [\"10.77.0.10\", \"fd77::/64\"], ports: [5432] }";

#[test]
fn targets_are_found_by_name_and_by_service() {
    let to = |to: &str, more: &str| with(&[(HOSTS, to)], more);
    let named = to("match: { names: [db.example.com], ports: [5432] }", "");
    let config = parse(&named, Path::new("/etc/weir")).unwrap();
    assert!(config.targets[0].matching.is_found());
    let warned = warnings(&config);
    assert!(
        warned[0].starts_with("target demo is found by DNS name"),
        "{warned:?}"
    );
    assert!(warned[0].contains("analyst"), "{warned:?}");
    let own = format!("{OWN}\n    egress: listed");
    let listed = named.replace(OWN, &own);
    let config = parse(&listed, Path::new("/etc/weir")).unwrap();
    assert_eq!(warnings(&config), Vec::<String>::new());

    let service = "match: { services: [{ namespace: shop, name: db }] }";
    expect(&to(service, KUBERNETES), &[]);
    expect(&to(service, ""), &["kubernetes: is required"]);
    expect(
        &to("match: { ports: [1] }", ""),
        &["targets[0].match: needs at least one"],
    );
    expect(
        &to(
            "match: { names: [DB], services: [{ namespace: Shop }] }",
            KUBERNETES,
        ),
        &[
            "targets[0].match.names[0]: must be a name of DNS",
            "targets[0].match.services[0].namespace: must be a name of Kubernetes",
            "targets[0].match.services[0].name: is required",
            "targets[0].match.services[0].name: must be a name of Kubernetes",
        ],
    );
}

#[test]
fn the_cluster_and_dns_are_checked() {
    let more = |more: &str, expected: &[&str]| expect(&with(&[], more), expected);
    for server in [
        "http://10.0.0.1",
        "https://10.0.0.1/api",
        "10.0.0.1:6443",
        "https://",
    ] {
        let text = KUBERNETES.replace("https://10.96.0.1:6443", server);
        more(&text, &["kubernetes.server: must be https://host:port"]);
    }
    more(
        &KUBERNETES.replace("node: node-1", "node: Node/1\n  cgroup_root: kubelet"),
        &[
            "kubernetes.cgroup_root: must be a path",
            "kubernetes.node: must be a name",
        ],
    );
    more(
        "dns: { servers: [10.0.0.53, \"[fd77::53]:5353\"], keep_s: 60 }\n",
        &[],
    );
    more(
        "dns: { servers: [ns.example], keep_s: 0 }\n",
        &[
            "dns.servers[0]: must be an address",
            "dns.keep_s: must be from 1",
        ],
    );
}
