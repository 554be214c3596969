{{/* What every pod of this chart has: who it runs as, where it writes, what it is told. */}}

{{- define "batchmill.pod" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
automountServiceAccountToken: {{ .Values.serviceAccount.automountToken }}
{{- with .Values.serviceAccount.name }}
serviceAccountName: {{ . }}
{{- end }}
# The variables of services would be read as settings.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile:
    type: RuntimeDefault
{{- end }}

{{- define "batchmill.container" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  privileged: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{- define "batchmill.database" -}}
- name: BATCHMILL_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ required "secrets.database.name: name the Secret that holds the database's URL" .Values.secrets.database.name }}
      key: {{ .Values.secrets.database.key }}
{{- end }}

{{- define "batchmill.environment" -}}
{{- $seconds := .seconds }}
{{- with .chart }}
env:
  - name: BATCHMILL_DRAIN_TIME
    value: {{ printf "%ds" (int $seconds) }}
  - name: BATCHMILL_CONFIG
    value: /etc/batchmill/batchmill.toml
  - name: BATCHMILL_STORAGE_URL
    value: {{ required "storageUrl: name the object store, such as s3://bucket" .Values.storageUrl | quote }}
  {{- include "batchmill.database" . | nindent 2 }}
  {{- with .Values.secrets.engine }}
  {{- if .name }}
  - name: BATCHMILL_ENGINE_KEY
    valueFrom:
      secretKeyRef:
        name: {{ .name }}
        key: {{ .key }}
  {{- end }}
  {{- end }}
  {{- with .Values.secrets.webhook }}
  {{- if .name }}
  - name: BATCHMILL_WEBHOOK_SECRET
    valueFrom:
      secretKeyRef:
        name: {{ .name }}
        key: {{ .key }}
  {{- end }}
  {{- end }}
  {{- include "batchmill.own" . | nindent 2 }}
{{- with .Values.secrets.storage.name }}
envFrom:
  - secretRef:
      name: {{ . }}
{{- end }}
volumeMounts:
  - name: config
    mountPath: /etc/batchmill
    readOnly: true
  {{- include "batchmill.mounts" . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Variables of the values' own, for every container. */}}
{{- define "batchmill.own" -}}
{{- range $name, $value := .Values.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- define "batchmill.mounts" -}}
- name: data
  mountPath: /data
- name: tmp
  mountPath: /tmp
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "batchmill.scratch" -}}
- name: data
  emptyDir:
    sizeLimit: {{ .Values.scratchSize }}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "batchmill.volumes" -}}
volumes:
  - name: config
    configMap:
      name: {{ include "batchmill.name" . }}
  {{- include "batchmill.scratch" . | nindent 2 }}
{{- end }}

{{/* Pods of one kind on different machines where that can be. */}}
{{- define "batchmill.placement" -}}
{{- with .own.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .own.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .own.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "batchmill.selector" .chart | nindent 8 }}
        app.kubernetes.io/component: {{ .component }}
{{- end }}
