#!/usr/bin/env bash
# What an agent says to a cluster on an ordinary day, and what it must not see.
#
# Variables as for group.sh. exec, attach and port-forward need a kubelet, which is not here.
set -o errexit -o nounset -o pipefail

PATH=$WEIR_BIN:$PATH
KUBECONFIG=$(mktemp)
export KUBECONFIG
trap 'rm -f "$KUBECONFIG"' EXIT
printf '%s' "$WEIR_KUBECONFIG" > "$KUBECONFIG"
CANARY=canary-4d1c-value

# shows WORD COMMAND…: the command works and prints the word.
shows() {
  local word=$1 said
  shift
  said=$("$@" 2>&1) || { echo "FAILED: $*: $said"; exit 1; }
  grep -qF -- "$word" <<< "$said" || { echo "FAILED: $* does not say '$word': $said"; exit 1; }
  echo "ok: $*"
}

# hides COMMAND…: the command works and shows nothing of the Secret.
hides() {
  local said
  said=$("$@" 2>&1) || { echo "FAILED: $*: $said"; exit 1; }
  if grep -qF -e "$CANARY" -e "$(base64 <<< "$CANARY" | cut -c1-20)" <<< "$said"; then
    echo "FAILED: $* shows the Secret"; exit 1
  fi
  echo "ok: $* (masked)"
}

# refused WORD COMMAND…: the command fails and says why.
refused() {
  local word=$1 said
  shift
  if said=$("$@" 2>&1); then echo "FAILED: $* was not refused: $said"; exit 1; fi
  grep -qF -- "$word" <<< "$said" || { echo "FAILED: $* does not say '$word': $said"; exit 1; }
  echo "ok: $* (refused)"
}

pod='{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","labels":{"app":"web"}},
"spec":{"containers":[{"name":"web","image":"registry.k8s.io/pause"}]}}'
file=$(mktemp)

shows 'Server Version' kubectl version
shows deployments kubectl api-resources
shows yes kubectl auth can-i delete pods
shows '*.*' kubectl auth can-i --list
kubectl create namespace talk
kubectl config set-context --current --namespace talk
echo "$pod" > "$file"
shows created kubectl apply -f "$file"
shows unchanged kubectl apply -f "$file"
shows serverside-applied kubectl apply --server-side --force-conflicts -f "$file"
shows app=web kubectl get pods --show-labels
shows 'app: web' kubectl get pod web -o yaml
shows web kubectl describe pod web
shows patched kubectl patch pod web -p '{"metadata":{"labels":{"tier":"front"}}}'
shows patched kubectl patch pod web --type json -p '[{"op":"add","path":"/metadata/labels/x","value":"y"}]'
shows labeled kubectl label pod web colour=blue
shows created kubectl create deployment front --image registry.k8s.io/pause
shows REVISION kubectl rollout history deployment front
shows scaled kubectl scale deployment front --replicas 2
shows created kubectl create configmap settings --from-literal a=b
shows 'secret/key created' kubectl create secret generic key --from-literal value="$CANARY"
hides kubectl get secret key -o yaml
hides kubectl get secrets -o json
hides kubectl describe secret key
hides kubectl get secret key -o 'jsonpath={.data.value}'
hides kubectl get --raw /api/v1/namespaces/talk/secrets/key
shows web timeout 10 bash -c 'kubectl get pods --watch --request-timeout 2s || true'
shows 'force deleted' kubectl delete pod web --grace-period 0 --force
refused 'impersonation' kubectl --as root get pods
refused 'no policy permits it' kubectl create --raw /api/v1/namespaces/talk/serviceaccounts/default/token -f <(
  echo '{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{}}')
shows deleted kubectl delete namespace talk --wait=false
echo 'everything as it should be'
