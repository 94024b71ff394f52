#!/bin/sh
# Creates the namespace and its search attributes, and ends when the server accepts queries on them; run again, it changes nothing.
# The temporal client reads TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE by itself.
set -eu

: "${TEMPORAL_ADDRESS:?}" "${TEMPORAL_NAMESPACE:?}" "${NAMESPACE_RETENTION:?}"
MAX_TRIES=30
PAUSE_SECONDS=2

retry() {
  tries=1
  until "$@"; do
    if [ "$tries" -ge "$MAX_TRIES" ]; then
      echo "gave up after $tries tries: $*" >&2
      exit 1
    fi
    tries=$((tries + 1))
    sleep "$PAUSE_SECONDS"
  done
}

server_serves() {
  temporal operator cluster health >/dev/null
}

ensure_namespace() {
  temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1 ||
    temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention "$NAMESPACE_RETENTION"
}

# Changes nothing if it exists with this type, fails if it has another. One per call: of several names the client takes the first.
ensure_attribute() {
  temporal operator search-attribute create --name "$1" --type "$2"
}

# A workflow that sets an attribute before every part of the server knows it would fail: wait for the caches.
attributes_are_known() {
  temporal workflow count >/dev/null --query \
    "CroupierLane = 0 AND CroupierBatchNumber = 0 AND CroupierBatchStatus = 'none' AND CroupierBatchId = 'none' \
     AND CroupierLaneState = 'none'"
}

retry server_serves
retry ensure_namespace
retry ensure_attribute CroupierLane Int
retry ensure_attribute CroupierBatchNumber Int
retry ensure_attribute CroupierBatchStatus Keyword
retry ensure_attribute CroupierBatchId Keyword
retry ensure_attribute CroupierLaneState Keyword
retry attributes_are_known
echo "namespace $TEMPORAL_NAMESPACE is ready"
