#!/bin/sh
# The steps of the image: build.sh PYTHON SOURCE TARGET makes the environment TARGET with the gateway in it.
# Needs a package index for what requirements.lock pins; the gateway itself is built from SOURCE and asked of no index.
set -eu

python=$1 source=$2 target=$3
"$python" -m venv --copies "$target"
pip() { "$target/bin/python" -m pip --disable-pip-version-check --no-cache-dir "$@"; }
pip install --quiet --require-hashes --only-binary :all: -r "$source/requirements.lock"
pip install --quiet --no-index --no-deps --no-build-isolation "$source"
"$target/bin/python" -m compileall -q "$target/lib"
# pip has done its work; what is not there cannot be used against anybody.
pip uninstall --quiet --yes pip
chmod -R a+rX,go-w "$target"
