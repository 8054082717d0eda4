# Shared by the scripts here; sourced, not run.

# The top of the checkout.
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Whatever takes long to make and is not part of the project. Never in git.
cache=$top/.test-cache

# Runs a command as root: directly, or through sudo.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "needs root or sudo: $*"
    fi
}

say() { printf '%s\n' "$*" >&2; }

die() {
    say "error: $*"
    exit 1
}
