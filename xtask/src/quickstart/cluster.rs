//! The same for the cluster, with plain kubectl.

use anyhow::Result;

use super::held;
use super::scene::Scene;
use crate::say;

/// The seeded Secret's value, and the same in base64.
const SECRET: [&str; 2] = ["canary-7f3a-secret", "Y2FuYXJ5LTdmM2Etc2VjcmV0"];

/// One allowed, one masked, one refused, one held action.
pub(super) fn show_cluster(scene: &mut Scene<'_>) -> Result<()> {
    say::heading("5. The same with plain kubectl: allowed, masked, refused, held");
    let said = scene.run("analyst", &["kubectl", "-n", "shop", "get", "pods"])?;
    scene.expect("the analyst lists pods", said.out.contains("web-0"));
    let get = [
        "kubectl",
        "-n",
        "shop",
        "get",
        "secret",
        "db-credentials",
        "-o",
        "jsonpath={.data}",
    ];
    let said = scene.run("analyst", &get)?;
    let leaked = SECRET.iter().any(|secret| said.has(secret));
    scene.expect(
        "a Secret's values come back masked",
        said.has("password") && !leaked,
    );
    let said = scene.run("analyst", &["kubectl", "get", "secrets", "-A"])?;
    scene.expect(
        "Secrets of all namespaces are refused, naming the rule",
        said.code != 0 && said.has("Forbidden") && said.has("weir:no-permit"),
    );
    held_delete(scene)
}

fn held_delete(scene: &mut Scene<'_>) -> Result<()> {
    let delete = [
        "kubectl",
        "-n",
        "shop",
        "delete",
        "pod",
        "web-1",
        "--wait=false",
    ];
    let said = held::approve(scene, &delete, "pods/web-1")?;
    scene.expect(
        "the operator's delete waits, and runs after the approval",
        said.code == 0 && said.has("deleted"),
    );
    Ok(())
}
