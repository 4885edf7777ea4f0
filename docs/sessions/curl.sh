#!/usr/bin/env bash
# From images to an exported network with curl alone. A studio must be running (`make run`).
#
#   URL=http://127.0.0.1:8000 TOKEN=cvs_… bash docs/sessions/curl.sh images.zip [FOLDER]
#
# The token needs the scopes read and control; the page “API tokens” and `manage.py token create` make one.
# What is fetched is put into FOLDER. Any layout that the import page lists will do for the images.
set -euo pipefail
: "${URL:?Say where the studio is: URL=http://127.0.0.1:8000}" "${TOKEN:?Give a token: TOKEN=cvs_…}"
images=${1:?Name a zip with images}
folder=${2:-.}
name="curl-$(date +%s)-$$"

# Every request carries the token; a refusal ends the session and says why.
api() { curl --silent --show-error --fail-with-body --header "Authorization: Bearer $TOKEN" "$@"; }
send() { api --header "Content-Type: application/json" "$@"; }
# The first value of a field in an answer: enough JSON for a shell. A refusal is shown as it is.
field() {
  local answer
  answer=$(cat)
  case $answer in *urn:cvstudio:problem:*) echo "$answer" >&2 && return 1 ;; esac
  grep --only-matching "\"$1\": \"\?[^\",}]*" <<<"$answer" | head -n 1 | sed 's/.*: "\?//'
}
# Ask for $1 until its field $2 is $3; another of the words that follow ends the session.
wait_for() {
  for _ in $(seq 600); do
    now=$(api "$URL/api/v1/$1" | field "$2")
    [ "$now" != "$3" ] || return 0
    for bad in "${@:4}"; do [ "$now" != "$bad" ] || { echo "$1 is $now" >&2; return 1; }; done
    sleep 0.5
  done
  echo "$1 did not become $3" >&2
  return 1
}

# 1. A dataset: upload the zip as it is, see what was found in it, and have it imported so.
dataset=$(api --header "Content-Type: application/zip" --data-binary "@$images" \
  "$URL/api/v1/datasets/upload?name=$name" | field id)
wait_for "datasets/$dataset" status proposed refused
send --data '{"split": "stratified", "val_share": 0.25}' --output /dev/null "$URL/api/v1/datasets/$dataset/confirm"
wait_for "datasets/$dataset" status ready refused
echo "Dataset $dataset is ready."

# 2. A run. With the key, sending the same again would not make a second one.
run=$(send --header "Idempotency-Key: $name" --data @- "$URL/api/v1/training/" <<JSON | field id
{"name": "$name", "dataset": $dataset, "start": true,
 "config": {"task": "classification", "model": "mobilenet_v3_small", "epochs": 2, "image_size": 32, "batch_size": 8,
            "warmup_epochs": 0, "log_every_steps": 1, "cpu_threads": 1}}
JSON
)
echo "Run $run is queued."

# 3. Watch it: the event stream ends when the run does.
api --no-buffer "$URL/api/v1/training/$run/events?until_end=true" |
  sed --unbuffered --quiet 's/^data: .*"message": "\(.*\)", "data": .*/  \1/p'
wait_for "training/$run/status" status completed failed stopped
api "$URL/api/v1/training/$run/metrics?names=val/top1&max_points=100"
echo

# 4. Its best checkpoint, for torch.load.
api --output "$folder/best.pt" "$URL/api/v1/training/$run/checkpoints/best/download"
echo "Fetched the best checkpoint of run $run to $folder/best.pt."

# 5. Into the library, and out again as an ONNX model that needs no PyTorch.
weights=$(send --data "{\"name\": \"$name\", \"note\": \"Made with curl.\"}" "$URL/api/v1/training/$run/save" | field id)
wait_for "weights/$weights" state ready failed
job=$(send --data '{"formats": ["onnx"]}' "$URL/api/v1/weights/$weights/export" | field id)
wait_for "jobs/$job" state done failed cancelled
api --output "$folder/export.zip" "$URL/api/v1/jobs/$job/files/export.zip"
echo "Exported weights $weights to $folder/export.zip."
