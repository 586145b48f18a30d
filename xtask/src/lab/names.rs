//! The names of a lab: what `lab env` prints and `--config` files may use.

use std::collections::BTreeMap;

use super::agents;
use super::model::Lab;

/// The names that configuration and policies may use as `${NAME}`.
pub(crate) fn names(lab: &Lab) -> BTreeMap<String, String> {
    let mut names = places(lab);
    names.extend(ssh_host(lab));
    names.extend(services(lab));
    names.into_iter().collect()
}

fn places(lab: &Lab) -> Vec<(String, String)> {
    let mut names: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: String| names.push((name.to_owned(), value));
    add("LAB_NAME", lab.name.clone());
    add("LAB_STATE_DIR", lab.state_dir.display().to_string());
    add("LAB_RUN_DIR", lab.run_dir.display().to_string());
    add("LAB_PINS", lab.pins.display().to_string());
    add(
        "LAB_CGROUP_ENFORCER",
        format!("{}/{}", lab.cgroup, agents::ENFORCER),
    );
    add(
        "LAB_CGROUP_GOVERNED",
        format!("{}/{}", lab.cgroup, agents::GOVERNED),
    );
    add("LAB_HOST_V4", lab.host.v4.to_string());
    add("LAB_HOST_V6", lab.host.v6.to_string());
    add("LAB_OUTSIDE_V4", lab.outside.addresses.v4.to_string());
    add("LAB_OUTSIDE_V6", lab.outside.addresses.v6.to_string());
    add("LAB_OUTSIDE_NETNS", lab.outside.netns.display().to_string());
    add("LAB_SECRETS", lab.secrets().display().to_string());
    add("LAB_DB_V4", lab.database.addresses.v4.to_string());
    add("LAB_DB_V6", lab.database.addresses.v6.to_string());
    add("LAB_DB_PORT", lab.database.port.to_string());
    add("LAB_DB_NAME", lab.database.name.clone());
    add("LAB_DB_USER", lab.database.user.clone());
    add(
        "LAB_DB_PASSWORD_FILE",
        lab.database.password_file.display().to_string(),
    );
    add("LAB_DB_CA_FILE", lab.database.ca_file.display().to_string());
    let upstream = if lab.database.tls {
        let ca = lab.database.ca_file.display();
        format!("{{ tls: require, ca_file: \"{ca}\", server_name: db.demo.internal }}")
    } else {
        "{ tls: disable }".to_owned()
    };
    add("LAB_DB_UPSTREAM", upstream);
    add(
        "LAB_DB_SOCKET_DIR",
        lab.database.socket_dir.display().to_string(),
    );
    add("LAB_CLUSTER_SERVER", lab.cluster.server.clone());
    add("LAB_CLUSTER_PORT", lab.cluster.port.to_string());
    add(
        "LAB_CLUSTER_TOKEN_FILE",
        lab.cluster.token_file.display().to_string(),
    );
    add(
        "LAB_CLUSTER_CA_FILE",
        lab.cluster.ca_file.display().to_string(),
    );
    add("LAB_CLUSTER_LOG", lab.cluster.log.display().to_string());
    for (agent, made) in &lab.agents {
        let upper = agent.to_uppercase();
        add(&format!("LAB_{upper}_V4"), made.addresses.v4.to_string());
        add(&format!("LAB_{upper}_V6"), made.addresses.v6.to_string());
        add(&format!("LAB_{upper}_CGROUP"), made.cgroup.clone());
        add(
            &format!("LAB_{upper}_NETNS"),
            made.netns.display().to_string(),
        );
        add(
            &format!("LAB_{upper}_TOKEN_FILE"),
            made.token_file.display().to_string(),
        );
        add(&format!("LAB_{upper}_CLIENT_ID"), made.client_id.clone());
    }
    names
}

fn ssh_host(lab: &Lab) -> Vec<(String, String)> {
    let mut names: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: String| names.push((name.to_owned(), value));
    let host = &lab.ssh_host;
    add("LAB_HOST_NAME", host.name.clone());
    add("LAB_HOST_PORT", host.port.to_string());
    add("LAB_HOST_ACCOUNT", host.account.clone());
    add("LAB_HOST_HOME", host.home.display().to_string());
    add("LAB_HOST_KEYS_FILE", host.keys_file.display().to_string());
    add("LAB_HOST_KEY_FILE", host.key_file.display().to_string());
    add("LAB_HOST_LOG", host.log.display().to_string());
    names
}

fn services(lab: &Lab) -> Vec<(String, String)> {
    let mut names: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: String| names.push((name.to_owned(), value));
    if let Some(entra) = &lab.entra {
        add("LAB_AUTHORITY", entra.origin.clone());
        add("LAB_TENANT", entra.tenant.clone());
        add("LAB_AUDIENCE", entra.audience.clone());
        add("LAB_REQUIRED_ROLE", entra.required_role.clone());
        add("LAB_REVIEWER_CLIENT_ID", entra.reviewer_client_id.clone());
        add("LAB_REVIEWER_SCOPE", entra.reviewer_scope.clone());
        for (group, id) in &entra.groups {
            add(&format!("LAB_GROUP_{}", group.to_uppercase()), id.clone());
        }
    }
    if let Some(store) = &lab.store {
        add("LAB_CLICKHOUSE_URL", store.url.clone());
        add(
            "LAB_WRITER_TOKEN_FILE",
            store.writer_token_file.display().to_string(),
        );
        add(
            "LAB_READER_TOKEN_FILE",
            store.reader_token_file.display().to_string(),
        );
        add(
            "LAB_MIGRATOR_TOKEN_FILE",
            store.migrator_token_file.display().to_string(),
        );
    }
    if let Some(console) = &lab.console {
        add("LAB_CONSOLE_URL", console.url.clone());
        add("LAB_CONSOLE_LISTEN", console.listen.clone());
        add("LAB_CONSOLE_TLS", console.tls.clone());
        add("LAB_CONSOLE_CLIENT_ID", console.client_id.clone());
    }
    if let Some(weir) = &lab.weir {
        add("LAB_WEIR_BINARY", weir.binary.display().to_string());
        add("LAB_CONFIG", weir.config.display().to_string());
        add("LAB_POLICIES", weir.policies.display().to_string());
        add("LAB_WEIR_STATE_DIR", weir.state_dir.display().to_string());
        add("LAB_WEIR_RUN_DIR", weir.run_dir.display().to_string());
        add("LAB_ADMIN_SOCKET", weir.admin_socket.display().to_string());
        add("LAB_ADMIN_HTTP", weir.admin_http.clone());
        add("LAB_SPOOL", weir.spool.display().to_string());
    }
    names
}
