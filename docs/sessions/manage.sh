#!/usr/bin/env bash
# From images to an exported network with manage.py alone; a worker must be running (`make run`, or `manage.py run_huey`).
# Run in the folder of CV Studio: bash docs/sessions/manage.sh [PYTHON [FOLDER]]
set -euo pipefail
python=${1:-.venv/bin/python}
folder=${2:-.}
studio() { "$python" manage.py "$@"; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# 1. A dataset: drawn scenes here; `studio import_dataset FOLDER --name pets` takes your own images.
studio demo --name "Session scenes" --images 160 --size 48
studio datasets list

# 2. A configuration: a commented template, edited.
studio train config --task classification --model mobilenet_v3_small > "$work/run.yaml"
sed -i -e 's/^epochs: .*/epochs: 2/' -e 's/^image_size: .*/image_size: 32/' -e 's/^batch_size: .*/batch_size: 16/' "$work/run.yaml"

# 3. A run: created, started, watched to its end. --wait makes the exit code say how it ended.
run=$(studio train create "from the shell" --dataset "Session scenes" --file "$work/run.yaml" --json |
  "$python" -c 'import json, sys; print(json.load(sys.stdin)["id"])')
studio train start "$run" --wait
studio train logs "$run" | tail -n 5
studio train metrics "$run" --split val --name top1
studio train evaluation "$run" | head -n 4

# 4. One more epoch: the finished run goes on from its last checkpoint.
studio train epochs "$run" 3 --wait
studio train show "$run" | head -n 20

# 5. Its best checkpoint into the library, and out again as an ONNX model that needs no PyTorch.
studio weights save "$run" --name "from the shell" --note "Made with manage.py."
studio weights export "from the shell" --format onnx --out "$folder/export.zip"
