#!/bin/bash
# Installs the kit that kit-source.txt names, and puts it on the path of the steps that follow.
set -euo pipefail
read -r source revision <"$(dirname "$0")/kit-source.txt"
environment=$RUNNER_TEMP/kit
python3 -m venv "$environment"
if [[ $source == *.whl ]]; then
    "$environment/bin/pip" install -q -- "$source"
else
    # With all of its history: a run is checked by the commit that made it.
    git clone -q -- "$source" "$RUNNER_TEMP/kit-source"
    git -C "$RUNNER_TEMP/kit-source" checkout -q --detach "${revision:-HEAD}" --
    "$environment/bin/pip" install -q -e "$RUNNER_TEMP/kit-source"
fi
echo "$environment/bin" >>"$GITHUB_PATH"
