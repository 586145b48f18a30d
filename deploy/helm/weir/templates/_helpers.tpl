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
{{- $node := dict "name" "node" "state_dir" "/var/lib/weir" "run_dir" "/run/weir" "user" "nonroot" "pins" (printf "%s/weir" .Values.host.bpffs) -}}
{{- $_ := set $config "version" 1 -}}
{{- $_ := set $config "node" (merge $node $config.node) -}}
{{- $_ := set $config "policies" (merge (dict "directory" "/etc/weir/policies") ($config.policies | default dict)) -}}
{{- if .Values.kubernetes.follow -}}
{{- $_ := set $config "kubernetes" (dict "server" .Values.kubernetes.server "cgroup_root" .Values.kubernetes.cgroupRoot "ca_file" "/run/secrets/weir-api/ca.crt" "token_file" "/run/secrets/weir-api/token") -}}
{{- end -}}
{{- $_ := set $config "admin" (dict "http" (printf "127.0.0.1:%d" (int .Values.admin.port))) -}}
{{ toYaml $config }}
{{- end }}
