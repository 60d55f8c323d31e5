{{/* Names and labels. */}}

{{- define "chatmesh.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "chatmesh.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "chatmesh.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "chatmesh.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What an object is selected by; never changes between versions. Takes (root, component). */}}
{{- define "chatmesh.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "chatmesh.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Takes (root, component). */}}
{{- define "chatmesh.labels" -}}
{{- $root := index . 0 -}}
{{ include "chatmesh.selector" . }}
app.kubernetes.io/part-of: chatmesh
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Takes (root, component). */}}
{{- define "chatmesh.image" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $image := $root.Values.image -}}
{{- $name := printf "%s/%s" $image.repository $component -}}
{{- if $image.registry -}}{{- $name = printf "%s/%s" $image.registry $name -}}{{- end -}}
{{- with index $image.digests $component -}}
{{- printf "%s@%s" $name . -}}
{{- else -}}
{{- printf "%s:%s" $name (default $root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/*
What differs between the services. `drain` is the variable that takes the drain window,
`secrets` are optional variables by their key in the Secret, `waiting` are the queues
whose depth says that replicas are missing, `scratch` is a place to write to, `home` is
where programs that it starts keep theirs, `agents` wants the agents file, `beside` names
the service whose settings and tables it shares, and without which there is none of it.
Without `hosts` the command is told by flags where to listen and how long to drain.
*/}}
{{- define "chatmesh.facts" -}}
gateway:
  http: 9001
  traffic: 8001
  hosts: [CHATMESH_GATEWAY_HOST, CHATMESH_GATEWAY_HTTP_HOST]
  drain: CHATMESH_GATEWAY_DRAIN_WINDOW_S
  database: false
  secrets:
    CHATMESH_GATEWAY_TOKENS_HMAC_SECRETS: tokenSecrets
    CHATMESH_GATEWAY_API_KEYS: gatewayApiKeys
history:
  http: 9010
  hosts: [CHATMESH_HISTORY_HOST]
  drain: CHATMESH_HISTORY_DRAIN_S
  database: true
  migrate: CHATMESH_HISTORY_MIGRATE_AT_START
  secrets:
    CHATMESH_HISTORY_API_KEYS: historyApiKeys
  waiting: history.commands.[0-9]+
presence:
  http: 9020
  hosts: [CHATMESH_PRESENCE_HOST]
  drain: CHATMESH_PRESENCE_DRAIN_S
  database: true
  migrate: CHATMESH_PRESENCE_MIGRATE_AT_START
  secrets:
    CHATMESH_PRESENCE_API_KEYS: presenceApiKeys
  waiting: presence.reports.[0-9]+
agent:
  http: 9030
  hosts: [CHATMESH_AGENT_HOST]
  drain: CHATMESH_AGENT_PARK_S
  agents: true
  database: true
  migrate: CHATMESH_AGENT_MIGRATE_AT_START
  secrets:
    CHATMESH_AGENT_API_KEYS: agentApiKeys
    CHATMESH_AGENT_MODEL_KEYS: agentModelKeys
  waiting: agent.messages
# The worker of the built-in tools holds no secret but the broker's address.
tools:
  http: 9060
  image: agent
  command: [python, -m, chatmesh.agent.tools.worker]
  scratch: true
  hosts: []
  database: false
  secrets: {}
# Nor does the gateway to MCP servers, but for what extraEnv gives it.
mcp:
  http: 9060
  image: agent
  command: [python, -m, chatmesh.agent.tools.mcp]
  files: [/etc/chatmesh-mcp/servers.yaml]
  scratch: true
  home: /tmp
  hosts: []
  database: false
  secrets: {}
# Opens no service API and asks no model, so it holds the keys of neither.
reaper:
  http: 9030
  image: agent
  command: [python, -m, chatmesh.agent.reaper]
  beside: agent
  agents: true
  hosts: [CHATMESH_AGENT_HOST]
  database: true
  migrate: CHATMESH_AGENT_MIGRATE_AT_START
  secrets: {}
{{- end -}}

{{/* The services that this release has, as a YAML map of names to facts. */}}
{{- define "chatmesh.services" -}}
{{- range $name, $facts := include "chatmesh.facts" . | fromYaml -}}
{{- $beside := index $.Values (default $name $facts.beside) -}}
{{- if and (dig "enabled" true (index $.Values $name)) (dig "enabled" true $beside) }}
{{ $name }}: {{ toJson $facts }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The Service with a service's HTTP port. Takes (root, name, facts). */}}
{{- define "chatmesh.httpService" -}}
{{- $name := printf "%s-%s" (include "chatmesh.fullname" (index . 0)) (index . 1) -}}
{{- ternary (printf "%s-http" $name) $name (hasKey (index . 2) "traffic") -}}
{{- end -}}

{{/* By which monitors know that Service from one with the traffic port only. */}}
{{- define "chatmesh.scraped" -}}
chatmesh-metrics: "true"
{{- end -}}

{{/* Seconds from the deletion of a pod to its end. Takes (name, values of the service). */}}
{{- define "chatmesh.grace" -}}
{{- $name := index . 0 -}}
{{- $own := index . 1 -}}
{{- $least := add (default 0 $own.drain.preStopSeconds) (default 0 $own.drain.windowSeconds) $own.drain.marginSeconds -}}
{{- if kindIs "invalid" $own.terminationGracePeriodSeconds -}}
{{- $least -}}
{{- else if lt (int $own.terminationGracePeriodSeconds) (int $least) -}}
{{- fail (printf "%s.terminationGracePeriodSeconds is %d; preStop, drain window and margin take %d: replicas would be killed while they drain" $name (int $own.terminationGracePeriodSeconds) $least) -}}
{{- else -}}
{{- int $own.terminationGracePeriodSeconds -}}
{{- end -}}
{{- end -}}

{{/* Where the broker's URL stands. */}}
{{- define "chatmesh.amqp" -}}
{{- if .Values.rabbitmq.cluster.enabled -}}
name: {{ include "chatmesh.fullname" . }}-rabbitmq-default-user
key: connection_string
{{- else -}}
name: {{ required "secrets.existingSecret names the Secret that holds amqp-url and database-url" .Values.secrets.existingSecret }}
key: {{ .Values.secrets.keys.amqpUrl }}
{{- end -}}
{{- end -}}

{{/* Where the database's URL stands. */}}
{{- define "chatmesh.database" -}}
{{- if .Values.postgresql.cluster.enabled -}}
name: {{ include "chatmesh.fullname" . }}-postgresql-app
key: uri
{{- else -}}
name: {{ required "secrets.existingSecret names the Secret that holds amqp-url and database-url" .Values.secrets.existingSecret }}
key: {{ .Values.secrets.keys.databaseUrl }}
{{- end -}}
{{- end -}}
