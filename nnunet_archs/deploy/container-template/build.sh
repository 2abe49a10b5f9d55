#!/usr/bin/env bash
# Build the image, and write it as IMAGE.tar.gz for the upload. Needs the network, once.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

docker build --platform=linux/amd64 --tag {{ name }} .
docker save {{ name }} | gzip -c > {{ name }}.tar.gz
echo "Upload $PWD/{{ name }}.tar.gz (the container image) and $PWD/model.tar.gz (the model)"
