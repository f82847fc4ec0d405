{{- define "payproxy.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "payproxy.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: proxy
{{- end }}

{{- define "payproxy.labels" -}}
{{ include "payproxy.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "payproxy.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest }}{{ $image.repository }}@{{ $image.digest }}{{ else }}{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{/* The rules of the pod security standard "restricted". */}}
{{- define "payproxy.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.userId }}
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
{{- end }}
# "Always" would give the group access to every file of the volume at each start, payproxy's own keys included, and
# payproxy refuses a key that the group may write.
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "payproxy.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Whether the address in .listen is one that other pods reach: "true" or "". */}}
{{- define "payproxy.onNetwork" -}}
{{- if and .listen (not (hasPrefix "unix:" .listen)) (not (regexMatch "^(127\\.|localhost:|[^:]*\\.localhost:|\\[::1\\])" .listen)) }}true{{ end }}
{{- end }}

{{/* What the templates need of payproxy.toml, as JSON; stops with words where the configuration can't run in a pod. */}}
{{- define "payproxy.settings" -}}
{{- $values := .Values }}
{{- if not (trim $values.config) }}{{ fail "config: is empty; pass the text of your payproxy.toml: --set-file config=payproxy.toml" }}{{ end }}
{{- $toml := fromToml $values.config }}
{{- if hasKey $toml "Error" }}{{ fail (printf "config: not TOML: %s" $toml.Error) }}{{ end }}
{{- $listen := dig "server" "listen" "127.0.0.1:8080" $toml }}
{{- if not (include "payproxy.onNetwork" (dict "listen" $listen)) }}{{ fail (printf "config: server.listen is %q, which no other pod reaches; write listen = \"0.0.0.0:8443\"" $listen) }}{{ end }}
{{- $workers := dig "server" "workers" 1 $toml }}
{{- if eq (int $workers) 0 }}{{ fail "config: server.workers = 0 means one per core of the node, not of the pod's share; write a number" }}{{ end }}
{{- $admin := dig "admin" "listen" "127.0.0.1:9901" $toml }}
{{- $adminPort := ternary (regexFind "[0-9]+$" $admin) "" (eq "true" (include "payproxy.onNetwork" (dict "listen" $admin))) }}
{{- if and $values.serviceMonitor.enabled (not $adminPort) }}{{ fail "serviceMonitor: Prometheus does not reach admin.listen; write listen = \"0.0.0.0:9901\" and console = false in [admin]" }}{{ end }}
{{- $mount := $values.persistence.mountPath }}
{{- $directory := dig "data_directory" (printf "%s/data" $mount) $toml }}
{{- if not (hasPrefix (printf "%s/" $mount) (printf "%s/" $directory)) }}{{ fail (printf "config: data_directory %q is not on the volume; leave it out, or write a folder in %s (persistence.mountPath)" $directory $mount) }}{{ end }}
{{- $file := dig "request_log" "file" "" $toml }}
{{- $writable := list $mount }}
{{- range $values.extraVolumeMounts }}{{ $writable = append $writable .mountPath }}{{ end }}
{{- $kept := not $file }}
{{- range $writable }}{{ if hasPrefix (printf "%s/" .) $file }}{{ $kept = true }}{{ end }}{{ end }}
{{- if not $kept }}{{ fail (printf "config: request_log.file %q is on the read-only file system; leave it out (stdout has the records), or name a file on a volume" $file) }}{{ end }}
{{- $names := list }}
{{- range $values.extraEnv }}{{ $names = append $names .name }}{{ end }}
{{- $state := or (dig "state" "url" "" $toml) (dig "state" "url_file" "" $toml) (has "PAYPROXY_STATE__URL_FILE" $names) (has "PAYPROXY_STATE__URL" $names) }}
{{- $database := dig "request_log" "database" "sqlite:requests.db" $toml }}
{{- $postgres := or (dig "request_log" "database_file" "" $toml) (hasPrefix "postgres" $database) (has "PAYPROXY_REQUEST_LOG__DATABASE" $names) (has "PAYPROXY_REQUEST_LOG__DATABASE_FILE" $names) }}
{{- if or $values.autoscaling.enabled (gt (int $values.replicas) 1) }}
{{- if not $state }}{{ fail "config: several replicas need [state] with a Redis: without it each would have tokens, weights and retry pins of its own" }}{{ end }}
{{- if and (not $postgres) $database }}{{ fail "config: several replicas need a database that all write to (request_log.database_file), or database = \"\" with the records on stdout: SQLite would be one file a replica" }}{{ end }}
{{- if dig "instance" "" $toml }}{{ fail "config: several replicas need a name each; leave out instance: the pod's name is used" }}{{ end }}
{{- end }}
{{- if and $values.networkPolicy.enabled (or $state $postgres) (not $values.networkPolicy.egress) }}{{ fail "networkPolicy.egress: is empty, so the Redis or PostgreSQL of the configuration could not be reached; `payproxy export kubernetes` writes the rules" }}{{ end }}
{{- if and $values.autoscaling.enabled (gt (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas)) }}{{ fail "autoscaling: minReplicas is more than maxReplicas" }}{{ end }}
{{- $drain := ceil (dig "server" "exchange_timeout" 200 $toml) }}
{{- dict
  "port" (regexFind "[0-9]+$" $listen | int)
  "tls" (ternary true false (not (empty (dig "server" "certificate_file" "" $toml))))
  "adminPort" ($adminPort | int)
  "adminScheme" (ternary "HTTP" "HTTPS" (empty (dig "admin" "certificate_file" "" $toml)))
  "grace" (add $drain 30 (int $values.preStopSleepSeconds))
  "hosts" (dig "server" "hosts" list $toml)
  "environment" (dig "environment" "" $toml)
  | toJson }}
{{- end }}

{{/* Files by folder, as JSON: {"/etc/payproxy": [sources of a projected volume]}. */}}
{{- define "payproxy.files" -}}
{{- $folders := dict "/etc/payproxy" (list (dict "configMap" (dict "name" (include "payproxy.name" .) "items" (list (dict "key" "payproxy.toml" "path" "payproxy.toml"))))) }}
{{- range $kind, $list := dict "secret" .Values.secrets "configMap" .Values.configMaps }}
{{- range $list }}
{{- $folder := .mountPath | default "/etc/payproxy" }}
{{- $_ := set $folders $folder (append (get $folders $folder | default list) (dict $kind (pick . "name" "items"))) }}
{{- end }}
{{- end }}
{{- $folders | toJson }}
{{- end }}

{{- define "payproxy.probe" -}}
{{- $settings := .settings }}
{{- if $settings.adminPort }}
httpGet: {path: {{ .path }}, port: admin, scheme: {{ $settings.adminScheme }}}
{{- else }}
exec: {command: {{ .command | toJson }}}
{{- end }}
{{- end }}

{{- define "payproxy.volumeName" -}}
{{- if eq . "/etc/payproxy" }}config{{ else }}files-{{ sha256sum . | trunc 8 }}{{ end }}
{{- end }}

{{/* Changes with the Secrets of restartOnChange. Where Helm has no cluster (`helm template`, Argo CD), of their names. */}}
{{- define "payproxy.secretsChecksum" -}}
{{- $namespace := .Release.Namespace }}
{{- $seen := list }}
{{- range .Values.secrets }}
{{- if .restartOnChange }}
{{- $secret := lookup "v1" "Secret" $namespace .name }}
{{- $seen = append $seen (dict "name" .name "data" (dig "data" dict $secret)) }}
{{- end }}
{{- end }}
{{- $seen | toJson | sha256sum }}
{{- end }}

{{- define "payproxy.testLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{- end }}
