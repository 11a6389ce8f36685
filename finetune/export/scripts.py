"""The scripts of a bundle, in plain sh: check, install without a network, serve."""

VERIFY = """#!/bin/sh
# Every file is the one that was bundled, none is missing and none was added.
set -eu
cd "$(dirname "$0")"
if command -v sha256sum >/dev/null; then check="sha256sum"; else check="shasum -a 256"; fi
$check --check --quiet SHA256SUMS
find . -type f ! -path './.venv/*' ! -path './.sllm/*' ! -name '*.pyc' ! -name SHA256SUMS \\
  | LC_ALL=C sort > "${TMPDIR:-/tmp}/bundle-found.$$"
cut -c 67- SHA256SUMS | LC_ALL=C sort > "${TMPDIR:-/tmp}/bundle-listed.$$"
added=$(LC_ALL=C comm -23 "${TMPDIR:-/tmp}/bundle-found.$$" "${TMPDIR:-/tmp}/bundle-listed.$$")
rm -f "${TMPDIR:-/tmp}/bundle-found.$$" "${TMPDIR:-/tmp}/bundle-listed.$$"
if [ -n "$added" ]; then
  echo "These files are not in SHA256SUMS:" >&2
  echo "$added" >&2
  exit 1
fi
echo "All files are as they were bundled."
"""

INSTALL = """#!/bin/sh
# An environment in .venv from wheels/ alone: no network, no compiler.
set -eu
cd "$(dirname "$0")"
./verify.sh
if [ ! -d wheels ]; then
  echo "This bundle has no wheels; make it with --wheels, or name a Python that has" \\
    "sllm-provider[local,server] in BUNDLE_PYTHON and run serve.sh." >&2
  exit 1
fi
"${PYTHON:-python3}" -m venv .venv
.venv/bin/python -m pip --disable-pip-version-check --isolated install --no-index \\
  --find-links wheels --constraint wheels/constraints.txt 'sllm-provider[local,server]'
echo "Installed. Run ./serve.sh"
"""

SERVE = """#!/bin/sh
# Serves models/ and adapters/ with the settings in .env; arguments go to `sllm serve`.
set -eu
cd "$(dirname "$0")"
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 LITELLM_LOCAL_MODEL_COST_MAP=True
exec "${BUNDLE_PYTHON:-.venv/bin/python}" -m provider.cli serve --env-file .env "$@"
"""

README = """A model, its adapters and the software that serves them, for a machine without network.

  ./verify.sh     checks every file against SHA256SUMS
  ./install.sh    checks, then makes .venv from wheels/ (PYTHON=python3.11 names another Python)
  ./serve.sh      serves at http://127.0.0.1:8000/v1; its arguments are those of `sllm serve`

.env holds the settings and LICENCES the licence of each part. The folder may be moved; .venv may
not: run install.sh where the folder stays.
"""
