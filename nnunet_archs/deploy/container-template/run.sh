#!/usr/bin/env bash
# Run the image on test/input as grand-challenge does: no network, nothing writable but /output and /tmp.
# Give `--gpus all` for a GPU.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

rm -rf test/model test/output
mkdir -p test/model test/output
chmod o+rwx test/output
tar -xzf model.tar.gz -C test/model
docker run --rm --platform=linux/amd64 --network none --read-only "$@" \
    --volume "$PWD/test/input":/input:ro \
    --volume "$PWD/test/output":/output \
    --volume "$PWD/test/model":/opt/ml/model:ro \
    --tmpfs /tmp \
    {{ name }}
find test/output -type f
