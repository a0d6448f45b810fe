# shellcheck shell=bash
# What the tests in Python share: their environment and the programs under test. Sourced; sets `root` and `python`, and
# exports TRESTLE_BIN_DIR (default: target/debug).

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export PYTHONDONTWRITEBYTECODE=1
export TRESTLE_BIN_DIR=${TRESTLE_BIN_DIR:-$root/target/debug}
venv=$root/target/foreign-venv
# shellcheck disable=SC2034 # for whoever sources this
python=$venv/bin/python
program=$(basename "$0")

if ! python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "$program: needs Python 3.11 or later with venv; on Debian or Ubuntu: apt install python3 python3-venv" >&2
    exit 69
fi
for name in trestle-forwarder trestle-edge; do
    if [[ ! -x $TRESTLE_BIN_DIR/$name ]]; then
        echo "$program: no $name in $TRESTLE_BIN_DIR; build it: cargo build -p $name" >&2
        exit 69
    fi
done

# The stamp is written last: a venv whose installation was cut short is made anew.
requirements=$root/tests/foreign/requirements.txt
if ! cmp -s "$requirements" "$venv/requirements.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
    cp "$requirements" "$venv/requirements.txt"
fi
