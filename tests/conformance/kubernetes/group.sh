#!/usr/bin/env bash
# One group of the Kubernetes source's `test/cmd` suite, against a server that runs already.
#
# WEIR_API        its address
# WEIR_KUBECONFIG a kubeconfig for it, as text
# WEIR_BIN        folder of kubectl
# WEIR_SUITE      the source; its scripts read WEIR_API and WEIR_API_CA
set -o errexit -o nounset -o pipefail

GROUP=$1
cd "$WEIR_SUITE"
# The suite finds plugins by relative paths, which Go has refused to run since 1.19.
export GODEBUG=execerrdot=0
export TERM=${TERM:-dumb} KUBE_TEMP KUBE_JUNIT_REPORT_DIR HOME TMPDIR WEIR_API_CA
KUBE_TEMP=$(mktemp -d)
trap 'rm -rf "$KUBE_TEMP"' EXIT
KUBE_JUNIT_REPORT_DIR=$KUBE_TEMP/junit
HOME=$KUBE_TEMP/home
TMPDIR=$KUBE_TEMP
# A group reads it by this name, which is the one that the suite's own server would give it.
WEIR_API_CA=$KUBE_TEMP/apiserver.crt
unset KUBECONFIG
mkdir -p "$HOME/.kube"
printf '%s' "$WEIR_KUBECONFIG" > "$HOME/.kube/config"

source hack/lib/init.sh
source hack/lib/test.sh
KUBE_OUTPUT_HOSTBIN=$WEIR_BIN
source test/cmd/legacy-script.sh
kube::util::ensure-gnu-sed

of_config() { kubectl config view --raw --minify -o jsonpath="{$1}"; }
CONTEXT=test
of_config '.clusters[0].cluster.certificate-authority-data' | base64 -d > "$WEIR_API_CA"
if [[ ! -s $WEIR_API_CA ]]; then
  cat "$(of_config '.clusters[0].cluster.certificate-authority')" > "$WEIR_API_CA"
fi
kubectl config set-context "$CONTEXT" \
  --cluster="$(of_config '.clusters[0].name')" --user="$(of_config '.users[0].name')"
kubectl config use-context "$CONTEXT"

# runTests sets everything up and then runs the groups that WHAT names, by this name.
run_conformance_tests() {
  set -o errexit -o nounset
  # Some groups go on in the namespace of the group before.
  create_and_use_new_namespace
  "$GROUP"
}
export SUPPORTED_RESOURCES=("*")
WHAT=conformance
runTests
