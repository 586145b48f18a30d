{{- define "weir.labels" -}}
app.kubernetes.io/name: weir
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "weir.selector" -}}
app.kubernetes.io/name: weir
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "weir.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $node := dict "name" "node" "state_dir" "/var/lib/weir" "run_dir" "/run/weir" "user" "nonroot" "drain_s" (int .Values.node.drainSeconds) "pins" (printf "%s/weir" .Values.host.bpffs) -}}
{{- $_ := set $config "version" 1 -}}
{{- $_ := set $config "node" (merge $node $config.node) -}}
{{- $_ := set $config "policies" (merge (dict "directory" "/etc/weir/policies") ($config.policies | default dict)) -}}
{{- if .Values.kubernetes.follow -}}
{{- $_ := set $config "kubernetes" (dict "server" .Values.kubernetes.server "cgroup_root" .Values.kubernetes.cgroupRoot "kubelet_dir" "/var/lib/kubelet" "ca_file" "/run/secrets/weir-api/ca.crt" "token_file" "/run/secrets/weir-api/token") -}}
{{- end -}}
{{- $_ := set $config "admin" (dict "http" (printf "127.0.0.1:%d" (int .Values.admin.port))) -}}
{{- with .Values.console -}}
{{- if .enabled -}}
{{- $secrets := "/etc/weir/secrets" -}}
{{- $console := dict "listen" (printf "node:%d" (int .port)) "client" (dict "id" .clientId "secret_file" (printf "%s/%s/client-secret" $secrets .clientSecret)) "tls" (dict "certificate_file" (printf "%s/%s/tls.crt" $secrets .tlsSecret) "key_file" (printf "%s/%s/tls.key" $secrets .tlsSecret)) -}}
{{- if .url -}}{{- $_ := set $console "url" .url -}}{{- end -}}
{{- if .auditors -}}{{- $_ := set $console "auditors" .auditors -}}{{- end -}}
{{- if .administrators -}}{{- $_ := set $console "administrators" .administrators -}}{{- end -}}
{{- if .reviewerRoles -}}{{- $_ := set $console "reviewer_roles" .reviewerRoles -}}{{- end -}}
{{- $_ := set $config "console" (merge $console ($config.console | default dict)) -}}
{{- end -}}
{{- end -}}
{{ toYaml $config }}
{{- end }}

{{- /* By which one file names each node's own address. */ -}}
{{- define "weir.address" -}}
{{- if .Values.console.enabled -}}
- name: WEIR_NODE_ADDRESS
  valueFrom: { fieldRef: { fieldPath: status.hostIP } }
{{- end }}
{{- end }}

{{- /* Names of Secrets, a line each. */ -}}
{{- define "weir.secrets" -}}
{{- $names := .Values.secrets -}}
{{- if .Values.console.enabled -}}
{{- $names = concat $names (list .Values.console.clientSecret .Values.console.tlsSecret) -}}
{{- end -}}
{{- $names | uniq | toJson -}}
{{- end }}

{{- /* What both pods are. */ -}}
{{- define "weir.pod" -}}
serviceAccountName: {{ .Release.Name }}
automountServiceAccountToken: false
# The host's network: listeners and upstreams are made inside each workload's namespace, and the
# node reaches Entra and the store as the host does.
hostNetwork: true
dnsPolicy: ClusterFirstWithHostNet
# The host's processes: evidence of an agent (/proc/PID/exe, argv, parents) and its namespace; and
# whoever comes to the admin socket is known by its process.
hostPID: true
priorityClassName: system-node-critical
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* A broken configuration stops the roll-out before anything is replaced. */ -}}
{{- define "weir.check" -}}
- name: check
  image: "{{ .Values.image.repository }}:{{ .Values.image.tag }}"
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args: [check, --config, /etc/weir/config/weir.yaml]
  {{- with include "weir.address" . }}
  env: {{- . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsUser: 0
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities: { drop: [ALL] }
    seccompProfile: { type: RuntimeDefault }
  volumeMounts:
    - { name: config, mountPath: /etc/weir/config, readOnly: true }
    - { name: policies, mountPath: /etc/weir/policies, readOnly: true }
{{- end }}

{{- /* The sockets between the two are on the host, so that either is replaced without the other. */ -}}
{{- define "weir.volumes" -}}
- name: config
  configMap: { name: {{ .Release.Name }}-config }
- name: policies
  configMap: { name: {{ .Release.Name }}-policies }
- name: state
  hostPath: { path: {{ .Values.host.stateDir }}, type: DirectoryOrCreate }
- name: run
  hostPath: { path: /run/weir, type: DirectoryOrCreate }
{{- end }}
