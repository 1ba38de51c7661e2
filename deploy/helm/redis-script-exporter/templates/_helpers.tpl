{{- define "redis-script-exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "redis-script-exporter.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- $name := include "redis-script-exporter.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "redis-script-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "redis-script-exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "redis-script-exporter.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "redis-script-exporter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "redis-script-exporter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "redis-script-exporter.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "redis-script-exporter.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- define "redis-script-exporter.isDeployment" -}}
{{- if eq .Values.mode "deployment" }}true{{ end }}
{{- end }}

{{- define "redis-script-exporter.scheme" -}}
{{- ternary "https" "http" .Values.web.tls }}
{{- end }}

{{- define "redis-script-exporter.host" -}}
{{- printf "%s.%s.svc:%v" (include "redis-script-exporter.fullname" .) .Release.Namespace .Values.service.port }}
{{- end }}

{{- /* Probes. /-/ready needs the password of web.yml, and a client certificate may be required: the healthcheck does neither. */}}
{{- define "redis-script-exporter.probes" -}}
{{- if .Values.web.existingSecret }}
livenessProbe:
  exec:
    command: [redis-script-exporter, healthcheck]
  periodSeconds: 10
  timeoutSeconds: 3
readinessProbe:
  exec:
    command: [redis-script-exporter, healthcheck]
  periodSeconds: 5
  timeoutSeconds: 3
{{- else }}
livenessProbe:
  httpGet:
    path: /-/healthy
    port: metrics
  periodSeconds: 10
readinessProbe:
  httpGet:
    path: /-/ready
    port: metrics
  periodSeconds: 5
{{- end }}
{{- end }}

{{- define "redis-script-exporter.notifies" -}}
{{- if or .Values.alertmanager.urls .Values.alertmanager.existingSecret }}true{{ end }}
{{- end }}

{{- define "redis-script-exporter.guardFlags" -}}
{{- with .Values.guard }}
{{- if and (not .killAfter) (or .user .scriptsOnly .scriptsNever (eq .mode "kill")) }}
{{- fail "guard.killAfter is empty: without it there is no guard" }}
{{- end }}
{{- if and .user (not .existingSecret) }}
{{- fail "guard.user needs guard.existingSecret, with the key password" }}
{{- end }}
{{- if .killAfter }}
- --guard.kill-after={{ .killAfter }}
- --guard.mode={{ .mode }}
{{- range .scriptsOnly }}
- {{ printf "--guard.scripts-only=%s" . | quote }}
{{- end }}
{{- range .scriptsNever }}
- {{ printf "--guard.scripts-never=%s" . | quote }}
{{- end }}
- --guard.unknown={{ .unknown }}
- --guard.functions={{ .functions }}
- --guard.max-kills={{ .maxKills }}
- --guard.per={{ .per }}
{{- with .user }}
- {{ printf "--guard.user=%s" . | quote }}
{{- end }}
{{- if .existingSecret }}
- --guard.password-file=/etc/redis-script-exporter/guard/password
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "redis-script-exporter.alertmanagerFlags" -}}
{{- if include "redis-script-exporter.notifies" . }}
{{- with .Values.alertmanager }}
{{- range .urls }}
- {{ printf "--alertmanager.url=%s" . | quote }}
{{- end }}
{{- if .existingSecret }}
- --alertmanager.config.file=/etc/redis-script-exporter/alertmanager/alertmanager.yml
{{- end }}
{{- range .labels }}
- {{ printf "--alertmanager.label=%s" . | quote }}
{{- end }}
- --alertmanager.resend-delay={{ .resendDelay }}
{{- end }}
{{- else if .Values.alertmanager.labels }}
{{- fail "alertmanager.labels needs alertmanager.urls or alertmanager.existingSecret" }}
{{- end }}
{{- end }}

{{- define "redis-script-exporter.flags" -}}
{{- if .Values.existingScriptsConfigMap }}
- --script.dir=/etc/redis-script-exporter/scripts
{{- end }}
{{- with .Values.web.externalUrl }}
- {{ printf "--web.external-url=%s" . | quote }}
{{- end }}
{{- if .Values.web.enableLifecycle }}
- --web.enable-lifecycle
{{- end }}
{{- if .Values.web.showKeys }}
- --web.show-keys
{{- end }}
{{- if .Values.web.showSource }}
- --web.show-source
{{- end }}
{{- if .Values.web.hideClients }}
- --web.hide-clients
{{- end }}
{{- include "redis-script-exporter.guardFlags" . }}
{{- include "redis-script-exporter.alertmanagerFlags" . }}
- --log.level={{ .Values.log.level }}
- --log.format={{ .Values.log.format }}
{{- with .Values.extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "redis-script-exporter.env" -}}
{{- if .Values.web.existingSecret }}
- name: REDIS_SCRIPT_EXPORTER_WEB_CONFIG_FILE
  value: /etc/redis-script-exporter/web/web.yml
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Mounts of secrets and sources, alike in both modes. */}}
{{- define "redis-script-exporter.mounts" -}}
{{- if .Values.existingSecret }}
- name: secrets
  mountPath: /etc/redis-script-exporter/secrets
  readOnly: true
{{- end }}
{{- if .Values.existingTlsSecret }}
- name: tls
  mountPath: /etc/redis-script-exporter/tls
  readOnly: true
{{- end }}
{{- if .Values.web.existingSecret }}
- name: web
  mountPath: /etc/redis-script-exporter/web
  readOnly: true
{{- end }}
{{- if .Values.guard.existingSecret }}
- name: guard
  mountPath: /etc/redis-script-exporter/guard
  readOnly: true
{{- end }}
{{- if .Values.alertmanager.existingSecret }}
- name: alertmanager
  mountPath: /etc/redis-script-exporter/alertmanager
  readOnly: true
{{- end }}
{{- if .Values.existingScriptsConfigMap }}
- name: scripts
  mountPath: /etc/redis-script-exporter/scripts
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "redis-script-exporter.volumes" -}}
{{- if .Values.existingSecret }}
- name: secrets
  secret:
    secretName: {{ .Values.existingSecret }}
    defaultMode: 0440
{{- end }}
{{- if .Values.existingTlsSecret }}
- name: tls
  secret:
    secretName: {{ .Values.existingTlsSecret }}
    defaultMode: 0440
{{- end }}
{{- if .Values.web.existingSecret }}
- name: web
  secret:
    secretName: {{ .Values.web.existingSecret }}
    defaultMode: 0440
{{- end }}
{{- if .Values.guard.existingSecret }}
- name: guard
  secret:
    secretName: {{ .Values.guard.existingSecret }}
    defaultMode: 0440
{{- end }}
{{- if .Values.alertmanager.existingSecret }}
- name: alertmanager
  secret:
    secretName: {{ .Values.alertmanager.existingSecret }}
    defaultMode: 0440
{{- end }}
{{- if .Values.existingScriptsConfigMap }}
- name: scripts
  configMap:
    name: {{ .Values.existingScriptsConfigMap }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /*
Container for the pod of a server, for charts that have this one as a dependency:
  {{- include "redis-script-exporter.sidecar" (index .Subcharts "redis-script-exporter") | nindent 8 }}
The pod needs the volumes sidecar.logVolume and sidecar.stateVolume, and those of "redis-script-exporter.volumes".
*/}}
{{- define "redis-script-exporter.sidecar" -}}
- name: script-exporter
  image: {{ include "redis-script-exporter.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args:
    - --redis.addr={{ .Values.sidecar.addr }}
    {{- if .Values.sidecar.logFile }}
    - --redis.log-file={{ .Values.sidecar.logFile }}
    {{- end }}
    {{- if .Values.sidecar.stateVolume }}
    - --state.file=/state/state
    {{- end }}
    {{- include "redis-script-exporter.flags" . | trim | nindent 4 }}
  {{- with include "redis-script-exporter.env" . }}
  env:
    {{- . | trim | nindent 4 }}
  {{- end }}
  ports:
    - name: metrics
      containerPort: 10379
  {{- include "redis-script-exporter.probes" . | trim | nindent 2 }}
  resources:
    {{- toYaml .Values.resources | nindent 4 }}
  securityContext:
    {{- toYaml .Values.securityContext | nindent 4 }}
  volumeMounts:
    {{- if .Values.sidecar.logFile }}
    - name: {{ .Values.sidecar.logVolume }}
      mountPath: {{ dir .Values.sidecar.logFile }}
      readOnly: true
    {{- end }}
    {{- if .Values.sidecar.stateVolume }}
    - name: {{ .Values.sidecar.stateVolume }}
      mountPath: /state
    {{- end }}
    {{- with include "redis-script-exporter.mounts" . }}
    {{- . | trim | nindent 4 }}
    {{- end }}
{{- end }}

{{- /* What ServiceMonitor and PodMonitor have in common. Arguments: root, monitor. */}}
{{- define "redis-script-exporter.endpoint" -}}
port: metrics
interval: {{ .monitor.interval }}
scrapeTimeout: {{ .monitor.scrapeTimeout }}
scheme: {{ include "redis-script-exporter.scheme" .root }}
{{- with .monitor.tlsConfig }}
tlsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .monitor.basicAuth }}
basicAuth:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .monitor.relabelings }}
relabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .monitor.metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* The pod of `helm test` must not be selected by the Service. */}}
{{- define "redis-script-exporter.testLabels" -}}
{{- include "redis-script-exporter.labels" . | replace (printf "app.kubernetes.io/name: %s" (include "redis-script-exporter.name" .)) (printf "app.kubernetes.io/name: %s-test" (include "redis-script-exporter.name" .)) }}
{{- end }}
