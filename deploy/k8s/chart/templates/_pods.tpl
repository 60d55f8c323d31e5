{{/* What every pod and container of ours has. */}}

{{- define "chatmesh.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "chatmesh.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
privileged: false
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/*
Startup: the process answers at all, however long imports take on a busy node. Readiness:
it does its work, seen by its own checks. Liveness: its loop turns; slow to judge,
because a restart costs every connection.
*/}}
{{- define "chatmesh.probes" -}}
startupProbe:
  httpGet: {path: /livez, port: http}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 60
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 3
  timeoutSeconds: 2
  failureThreshold: 2
livenessProbe:
  httpGet: {path: /livez, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}

{{/* Variables of one service. Takes (root, name, facts). */}}
{{- define "chatmesh.env" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $facts := index . 2 -}}
{{- $own := index $root.Values $name -}}
- name: CHATMESH_CONFIG
  value: /etc/chatmesh/chatmesh.yaml
- name: CHATMESH_AMQP_URL
  valueFrom:
    secretKeyRef:
      {{- include "chatmesh.amqp" $root | nindent 6 }}
{{- if $facts.database }}
- name: CHATMESH_DATABASE_URL
  valueFrom:
    secretKeyRef:
      {{- include "chatmesh.database" $root | nindent 6 }}
{{- end }}
{{- range $facts.hosts }}
- name: {{ . }}
  value: {{ $root.Values.listenAddress | quote }}
{{- end }}
{{- with $facts.drain }}
- name: {{ . }}
  value: {{ $own.drain.windowSeconds | quote }}
{{- end }}
{{- with $facts.migrate }}
- name: {{ . }}
  value: {{ eq $root.Values.migrations.mode "start" | quote }}
{{- end }}
{{- if eq $name "gateway" }}
- name: CHATMESH_GATEWAY_NAME
  valueFrom:
    fieldRef: {fieldPath: metadata.name}
- name: CHATMESH_GATEWAY_CONNECTIONS_MAX
  value: {{ int $own.connectionsMax | quote }}
{{- end }}
{{- if and $facts.agents $root.Values.agent.agents }}
- name: CHATMESH_AGENT_AGENTS_FILE
  value: /etc/chatmesh-agents/agents.yaml
{{- end }}
{{- with $facts.home }}
- name: HOME
  value: {{ . }}
{{- end }}
{{- if $root.Values.secrets.existingSecret }}
{{- range $variable, $key := $facts.secrets }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef:
      name: {{ $root.Values.secrets.existingSecret }}
      key: {{ index $root.Values.secrets.keys $key }}
      optional: true
{{- end }}
{{- end }}
{{- with $own.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
