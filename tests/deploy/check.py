"""Renders and checks what deploy/ ships: the Helm chart by Helm's own engine, systemd units by
systemd-analyze, YAML by a parser. Prints `ok NAME` per check; exits 1 when one fails."""

import copy
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import helm_python as helm
import yaml

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"
CHART = DEPLOY / "helm" / "weir"
SAMPLE = {
    "config": {
        "workloads": [{"name": "analyst", "cgroup": "/kubepods.slice/agents/analyst"}],
        "targets": [{"name": "orders", "protocol": "postgres"}],
    },
    "policies": {"10-read.cedar": "// read\npermit (principal, action, resource);\n"},
    "secrets": ["weir-credentials"],
    "nodeSelector": {"weir/agents": "true"},
}
failed = []


def check(name):
    def run(action):
        try:
            action()
            print("ok", name)
        except Exception as error:  # each failure is reported, none hides the others
            failed.append(name)
            print("FAILED", name, "-", type(error).__name__, error)
        return action

    return run


def render(values):
    """Kind → list of parsed objects."""
    with helm.Chart.load(str(CHART)) as chart:
        manifests = chart.render(values, name="weir", namespace="weir-system")
    objects = {}
    for text in manifests.values():
        for item in yaml.safe_load_all(text):
            if item:
                objects.setdefault(item["kind"], []).append(item)
    return objects


def pods(values):
    """Component → its pod's specification."""
    sets = {d["metadata"]["labels"]["app.kubernetes.io/component"]: d for d in render(values)["DaemonSet"]}
    return {name: d["spec"]["template"]["spec"] for name, d in sets.items()}


def refused(change):
    values = copy.deepcopy(SAMPLE)
    change(values)
    try:
        with helm.Chart.load(str(CHART)) as chart:
            chart.validate_schema(values)
    except helm.HelmError:
        return
    raise AssertionError("the schema accepts it")


@check("helm lint")
def _():
    assert helm.lint(str(CHART))["errors"] == []


@check("the chart renders with its defaults")
def _():
    assert set(render({})) >= {"DaemonSet", "ConfigMap", "ServiceAccount", "ClusterRole"}


@check("the chart renders with workloads, policies and secrets")
def _():
    objects = render(SAMPLE)
    for pod in pods(SAMPLE).values():
        assert pod["nodeSelector"] == {"weir/agents": "true"}
    assert any(v["name"] == "secret-weir-credentials" for v in pods(SAMPLE)["node"]["volumes"])
    policies = next(c for c in objects["ConfigMap"] if c["metadata"]["name"].endswith("policies"))
    assert policies["data"]["10-read.cedar"].startswith("// read")


@check("weir.yaml in the ConfigMap is complete YAML")
def _():
    for values in ({}, SAMPLE):
        config = next(c for c in render(values)["ConfigMap"] if "weir.yaml" in c["data"])
        parsed = yaml.safe_load(config["data"]["weir.yaml"])
        assert parsed["version"] == 1 and parsed["node"]["state_dir"] == "/var/lib/weir"
        assert parsed["policies"]["directory"] == "/etc/weir/policies"
        assert parsed["identity"]["authority"].startswith("https://")


@check("containers have least privilege")
def _():
    allowed = {
        "check": set(),
        "broker": {"BPF", "PERFMON", "NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH",
                   "DAC_OVERRIDE", "SYS_RESOURCE", "CHOWN", "FOWNER", "SETUID", "SETGID", "KILL"},
        "node": {"SETUID", "SETGID", "SETPCAP", "DAC_READ_SEARCH"},
    }
    for container in [c for p in pods(SAMPLE).values() for c in p["initContainers"] + p["containers"]]:
        context = container["securityContext"]
        name = container["name"]
        assert not context.get("privileged"), name
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["readOnlyRootFilesystem"] is True, name
        assert context["capabilities"]["drop"] == ["ALL"], name
        assert set(context["capabilities"].get("add", [])) == allowed[name], name


@check("only the broker sees bpffs, cgroups and namespaces; only the node sees secrets")
def _():
    both = pods(SAMPLE)
    mounts = {name: {m["name"] for m in p["containers"][0]["volumeMounts"]} for name, p in both.items()}
    assert {"bpffs", "cgroup", "netns"} <= mounts["broker"]
    assert not {"bpffs", "cgroup", "netns"} & mounts["node"]
    assert "secret-weir-credentials" in mounts["node"]
    assert "secret-weir-credentials" not in mounts["broker"]
    for name, pod in both.items():
        assert len(pod["containers"]) == 1, name
        assert mounts[name] <= {v["name"] for v in pod["volumes"]}, name
        used = {m["name"] for c in pod["initContainers"] + pod["containers"] for m in c["volumeMounts"]}
        assert used == {v["name"] for v in pod["volumes"]}, name


@check("an upgrade starts the new node beside the old one, and ends no session that drains")
def _():
    values = copy.deepcopy(SAMPLE)
    values["node"] = {"drainSeconds": 900}
    sets = {d["metadata"]["labels"]["app.kubernetes.io/component"]: d["spec"] for d in render(values)["DaemonSet"]}
    assert set(sets) == {"broker", "node"}
    for name, spec in sets.items():
        wanted = spec["selector"]["matchLabels"]
        assert wanted["app.kubernetes.io/component"] == name
        assert wanted.items() <= spec["template"]["metadata"]["labels"].items(), name
    node = sets["node"]
    assert node["updateStrategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    pod = node["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > 900
    config = next(c for c in render(values)["ConfigMap"] if "weir.yaml" in c["data"])
    assert yaml.safe_load(config["data"]["weir.yaml"])["node"]["drain_s"] == 900
    container = pod["containers"][0]
    # Two pods share a port of the host: neither may claim it, nor be judged by who answers there.
    assert "ports" not in container
    file = container["args"][container["args"].index("--ready-file") + 1]
    assert container["readinessProbe"]["exec"]["command"][1:] == ["ready", "--file", file]
    assert "--stay" in container["args"]
    volume = next(m["name"] for m in container["volumeMounts"] if file.startswith(m["mountPath"] + "/"))
    assert "emptyDir" in next(v for v in pod["volumes"] if v["name"] == volume), "each pod has its own"
    for name in ("broker", "node"):
        volumes = sets[name]["template"]["spec"]["volumes"]
        assert next(v for v in volumes if v["name"] == "run")["hostPath"]["path"] == "/run/weir", name


@check("the broker sees the kubelet's tokens and runtimes' sockets only when it is asked to")
def _():
    names = {v["name"] for v in pods(SAMPLE)["broker"]["volumes"]}
    assert not any(name == "kubelet" or name.startswith("runtime") for name in names)
    values = copy.deepcopy(SAMPLE)
    values["kubernetes"] = {"follow": True, "kubeletTokens": True}
    values["host"] = {"runtimeDirs": ["/run/docker"]}
    both = pods(values)
    mounts = {m["name"]: m for m in both["broker"]["containers"][0]["volumeMounts"]}
    assert mounts["kubelet"]["readOnly"] and mounts["kubelet"]["mountPropagation"] == "HostToContainer"
    assert mounts["runtime-run-docker"]["mountPath"] == "/run/docker"
    assert not {"kubelet", "runtime-run-docker"} & {v["name"] for v in both["node"]["volumes"]}


@check("a console is at each node's own address, and its secrets are the node's alone")
def _():
    def of(values):
        config = next(c for c in render(values)["ConfigMap"] if "weir.yaml" in c["data"])
        return yaml.safe_load(config["data"]["weir.yaml"]), pods(values)

    config, both = of(SAMPLE)
    assert "console" not in config
    assert not any("env" in c for p in both.values() for c in p["initContainers"] + p["containers"])
    values = copy.deepcopy(SAMPLE)
    values["console"] = {"enabled": True, "clientId": "00000000-0000-4000-8000-000000000009",
                         "url": "https://weir.example", "auditors": {"audit": "Weir.Auditor"}}
    config, both = of(values)
    console = config["console"]
    assert console["listen"] == "node:8443" and console["url"] == "https://weir.example"
    assert console["auditors"] == {"audit": "Weir.Auditor"} and "administrators" not in console
    for container in [c for p in both.values() for c in p["initContainers"] + p["containers"]]:
        names = {e["name"]: e["valueFrom"]["fieldRef"]["fieldPath"] for e in container["env"]}
        assert names == {"WEIR_NODE_ADDRESS": "status.hostIP"}, container["name"]
    mounts = {m["mountPath"] for m in both["node"]["containers"][0]["volumeMounts"]}
    for file in (console["client"]["secret_file"], *console["tls"].values()):
        assert str(pathlib.PurePosixPath(file).parent) in mounts, file
    assert not any(v["name"].startswith("secret-") for v in both["broker"]["volumes"])
    values["console"]["clientId"] = ""
    refused(lambda sample: sample.update(console=values["console"]))


@check("RBAC reads pods, service accounts, Services and their endpoints, and nothing else")
def _():
    rules = render({})["ClusterRole"][0]["rules"]
    verbs = ["get", "list", "watch"]
    assert rules == [
        {"apiGroups": [""], "resources": ["pods", "services", "serviceaccounts"], "verbs": verbs},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": verbs},
    ]


@check("only a node that follows pods has a token of the API, and it knows its own name")
def _():
    def node(values):
        objects = render(values)
        pod = pods(values)["node"]
        node = pod["containers"][0]
        text = next(c for c in objects["ConfigMap"] if "weir.yaml" in c["data"])["data"]["weir.yaml"]
        return pod, node, yaml.safe_load(text)

    pod, container, config = node(SAMPLE)
    assert "kubernetes" not in config and "securityContext" not in pod
    assert "api" not in {v["name"] for v in pod["volumes"]}
    values = copy.deepcopy(SAMPLE)
    values["kubernetes"] = {"follow": True}
    pod, container, config = node(values)
    folder = next(m for m in container["volumeMounts"] if m["name"] == "api")["mountPath"]
    assert config["kubernetes"]["token_file"] == folder + "/token"
    assert container["env"][0]["valueFrom"]["fieldRef"]["fieldPath"] == "spec.nodeName"
    assert "api" not in {v["name"] for v in pods(values)["broker"]["volumes"]}


@check("values.schema.json refuses plain http, the tag latest, unknown names, bad policies")
def _():
    refused(lambda v: v["config"].update(identity={"authority": "http://127.0.0.1", "tenants": ["x"], "audience": "a", "required_role": "r"}))
    refused(lambda v: v.update(image={"repository": "weir", "tag": "latest"}))
    refused(lambda v: v.update(replicas=3))
    refused(lambda v: v.update(policies={"notes.txt": "x"}))
    refused(lambda v: v.update(admin={"port": 0}))


@check("deploy/config and deploy/lab are YAML without duplicate keys")
def _():
    class Strict(yaml.SafeLoader):
        pass

    def mapping(loader, node):
        keys = [loader.construct_object(key) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"duplicate keys {keys}"
        return loader.construct_mapping(node, deep=True)

    Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    for name in ("config/weir.yaml", "lab/weir.yaml"):
        text = (DEPLOY / name).read_text()
        if name.startswith("lab"):
            for part in sorted({p.split("}")[0] for p in text.split("${")[1:]}):
                text = text.replace("${" + part + "}", "7")
        parsed = yaml.load(text, Loader=Strict)
        assert parsed["version"] == 1, name
        assert set(parsed) <= {"version", "node", "identity", "workloads", "targets", "policies",
                               "exempt", "kubernetes", "runtimes", "dns", "masking", "record", "approvals",
                               "admin", "console"}, name


ALERTS = DEPLOY / "alerts" / "weir.yaml"


def promtool(*arguments, **options):
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@check("alerts are rules that Prometheus takes")
def _():
    assert "SUCCESS" in promtool("check", "rules", str(ALERTS))


@check("each alert fires when it should and not when it should not")
def _():
    tests = (pathlib.Path(__file__).parent / "alerts_test.yaml").read_text()
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "tests.yaml"
        file.write_text(tests.replace("[RULES]", "[" + str(ALERTS) + "]"))
        promtool("test", "rules", str(file))
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    cases = [case for test in yaml.safe_load(tests)["tests"] for case in test["alert_rule_test"]]
    for rule in rules:
        own = [bool(case["exp_alerts"]) for case in cases if case["alertname"] == rule["alert"]]
        assert set(own) == {True, False}, rule["alert"]


def registered(where, expression):
    """Every metric in it is one that the code registers."""
    code = DEPLOY.parent / "userspace"
    sources = [path.read_text() for path in code.rglob("src/**/*.rs")]
    names = set(re.findall(r"\bweir_\w+", expression))
    assert names or "up{" in expression, where
    for name in names:
        assert any('"' + name + '"' in source for source in sources), name


@check("every metric of an alert is one that the code registers")
def _():
    for group in yaml.safe_load(ALERTS.read_text())["groups"]:
        for rule in group["rules"]:
            registered(rule["alert"], rule["expr"])


@check("dashboards: whole, and their PromQL asks for what the code registers")
def _():
    files = sorted((DEPLOY / "dashboards").glob("*.json"))
    assert [file.name for file in files] == ["weir-nodes.json", "weir-record.json"], files
    expressions = []
    for file in files:
        dashboard = json.loads(file.read_text())
        ids = [panel["id"] for panel in dashboard["panels"]]
        assert len(ids) == len(set(ids)) and dashboard["uid"] == file.stem, file
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                # The record's queries run against the real schema: userspace/store/tests/dashboards.rs
                assert ("expr" in target) != ("rawSql" in target), panel["title"]
                expressions += [(panel["title"], target["expr"])] if "expr" in target else []
    for where, expression in expressions:
        registered(where, expression)
    rules = {"groups": [{"name": "dashboards", "rules": [
        {"record": f"dashboard:{number}", "expr": expression} for number, (_where, expression) in enumerate(expressions)]}]}
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "rules.yaml"
        file.write_text(yaml.safe_dump(rules))
        assert "SUCCESS" in promtool("check", "rules", str(file))


@check("systemd units")
def _():
    assert shutil.which("systemd-analyze"), "no systemd-analyze on this machine"
    with tempfile.TemporaryDirectory() as folder:
        units = []
        for unit in sorted((DEPLOY / "systemd").glob("*.service")):
            # The binary is not installed here; everything else of the unit is checked as it is.
            copy_of = pathlib.Path(folder) / unit.name
            copy_of.write_text(unit.read_text().replace("/usr/bin/weir", "/bin/true"))
            units.append(str(copy_of))
        assert len(units) == 2
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=one", *units],
                              capture_output=True, text=True,
                              env={**os.environ, "SYSTEMD_UNIT_PATH": folder + ":"})
        wrong = [line for line in done.stderr.splitlines() if "weir-" in line]
        assert done.returncode == 0 and not wrong, done.stderr


@check("a node outlives a restart of the broker")
def _():
    unit = (DEPLOY / "systemd" / "weir-node@.service").read_text()
    settings = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and line[0] != "#")
    assert settings["Wants"] == "weir-broker.service", settings
    bound = {"Requires", "Requisite", "BindsTo", "PartOf", "PropagatesStopTo", "StopPropagatedFrom"}
    assert not bound & settings.keys(), settings
    broker = (DEPLOY / "systemd" / "weir-broker.service").read_text()
    assert "RuntimeDirectoryPreserve=yes" in broker and "PropagatesStopTo" not in broker


sys.exit(1 if failed else 0)
