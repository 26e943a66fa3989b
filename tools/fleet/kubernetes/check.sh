#!/bin/sh
# Checks the manifests against the schema of the Kubernetes API. Exits with 77 if the validator is not installed:
# pip install kubernetes-validate
set -eu

if ! command -v kubernetes-validate > /dev/null; then
    echo "skipped: kubernetes-validate is not installed (pip install kubernetes-validate)" >&2
    exit 77
fi
cd "$(dirname "$0")"
exec kubernetes-validate --strict ./*.yaml
