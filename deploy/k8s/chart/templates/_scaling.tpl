{{/*
How fast a service may grow and shrink. A gateway that goes sends everybody on it
elsewhere, so one goes per drain and a minute of rest; growing is cheap and urgent. Takes
(name, values of the service).
*/}}
{{- define "chatmesh.behavior" -}}
{{- $name := index . 0 -}}
{{- $own := index . 1 -}}
{{- $grace := include "chatmesh.grace" (list $name $own) | int -}}
scaleUp:
  stabilizationWindowSeconds: {{ ternary 15 30 (eq $name "gateway") }}
  selectPolicy: Max
  policies:
    - {type: Percent, value: 50, periodSeconds: 60}
    - {type: Pods, value: 2, periodSeconds: 60}
scaleDown:
  stabilizationWindowSeconds: {{ ternary 600 300 (eq $name "gateway") }}
  selectPolicy: Min
  policies:
    - {type: Pods, value: 1, periodSeconds: {{ min 1800 (add $grace 60) }}}
{{- end -}}

{{/* What prometheus-adapter calls the depth of a service's queues. Takes the name. */}}
{{- define "chatmesh.waitingMetric" -}}
chatmesh_{{ . }}_waiting
{{- end -}}

{{/* First word of every queue. */}}
{{- define "chatmesh.prefix" -}}
{{- default "chatmesh" .Values.config.prefix -}}
{{- end -}}

{{/* Connections per replica at which another one comes. */}}
{{- define "chatmesh.connectionsTarget" -}}
{{- div (mul (int .Values.gateway.connectionsMax) (int .Values.gateway.autoscaling.connectionsPercent)) 100 -}}
{{- end -}}
