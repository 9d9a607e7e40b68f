#!/bin/sh
# Which Kubernetes pods are not well, and why.
# looop: interval=60s timeout=45s trust=untrusted env=KUBECONFIG,HTTPS_PROXY,NO_PROXY
#
# Needs: kubectl, jq, and a kubeconfig (KUBECONFIG, else ~/.kube/config).
# Wakes the loop: a pod that falls ill, recovers, or is ill in another way. Restarts and messages are detail.
# Untrusted, because messages come from what runs there.

# setting: the namespace; nothing means all of them
NAMESPACE=''
# setting: the context of the kubeconfig; nothing means the present one
CONTEXT=''
# setting: seconds that a new pod has to get ready
GRACE='180'

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

for tool in kubectl jq; do
    command -v "$tool" >/dev/null || fail "$tool is not installed"
done

# The raw answer of one request: kubectl then need not find out first what else the server knows, nor write a cache.
path=/api/v1/pods
[ -z "$NAMESPACE" ] || path=/api/v1/namespaces/$NAMESPACE/pods
set -- get --raw "$path?limit=1000" --request-timeout=30s
[ -z "$CONTEXT" ] || set -- "$@" --context="$CONTEXT"
# In a file of at most 32 MB.
answer=$(mktemp) || fail "no temporary file can be made"
trap 'rm -f "$answer"' EXIT
trap 'exit 1' INT TERM
(
    ulimit -f 65536
    kubectl "$@" >"$answer"
) || fail "kubectl could not list the pods"

# A pod that crashes again and again is now waiting, now running: that it is not ready and has ended badly is steady, and
# so is one word for an image that cannot be had. The detail gives way where the reading would be large.
reading=$(jq -c --argjson grace "$GRACE" '
    def text($n): tostring | .[0:$n] | gsub("\\p{Cc}"; " ");
    def fit: until((tojson | utf8bytelength) <= 8000 or .detail.items == []; .detail.items |= .[:-1]);
    def containers: (.status.initContainerStatuses // []) + (.status.containerStatuses // []);
    def waits: [containers[].state.waiting.reason // empty];
    def illness:
        if .status.phase == "Succeeded" or .metadata.deletionTimestamp then null
        elif .status.phase == "Failed" then "failed"
        elif any(.status.conditions[]?; .type == "Ready" and .status == "True") then null
        elif any(waits[]; test("Image")) then "image"
        elif any(containers[]; (.lastState.terminated.exitCode // .state.terminated.exitCode // 0) != 0) then "crashing"
        elif now - ((.metadata.creationTimestamp | fromdateiso8601?) // 0) < $grace then null
        elif .status.phase == "Pending" then "pending"
        else "not ready" end;
    if (.items | type) != "array" then error("no list of pods") else . end
    | .metadata.remainingItemCount as $more | .items | length as $pods
    | map({
        pod: ("\(.metadata.namespace)/\(.metadata.name)" | text(70)), illness: illness,
        phase: (.status.phase | text(20)), restarts: ([containers[].restartCount] | add // 0),
        since: (.metadata.creationTimestamp | text(30)), node: (.spec.nodeName // "" | text(60)),
        says: ((.status.message // ([containers[].state.waiting.message // empty][0])
            // ([.status.conditions[]? | select(.status == "False") | .message // empty][0]) // "") | text(200))
    }) | map(select(.illness)) | sort_by(.pod)
    | {
        signal: { ill: length, pods: (.[:25] | map({ key: .pod, value: .illness }) | from_entries) },
        detail: { pods: $pods, not_looked_at: ($more // 0), items: .[:20] }
    } | fit' "$answer") || fail "what kubectl printed is no list of pods"
[ -n "$reading" ] || fail "kubectl printed nothing"

printf '%s\n' "$reading"
