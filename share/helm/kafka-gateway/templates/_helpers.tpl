{{- define "kafka-gateway.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "kafka-gateway.selector" -}}
app.kubernetes.io/name: kafka-gateway
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "kafka-gateway.labels" -}}
{{ include "kafka-gateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "kafka-gateway.properties" -}}
{{- $scheme := ternary "https" "http" .Values.tls -}}
listeners={{ $scheme }}://0.0.0.0:8082
admin.listeners=http://0.0.0.0:8083
{{- if .Values.insecure }}
listeners.insecure=true
{{- end }}
{{- range $name, $value := .Values.config }}
{{ $name }}={{ $value }}
{{- end }}
{{- end -}}
