#!/bin/sh
# Build the worker image and say how large it is; see README.md beside this file.
set -eu
usage="usage: build.sh [slim|full] [--tag TAG] [--base IMAGE] [--snapshot] [-- OPTION OF docker build …]"
fail() { echo "error: $1" >&2; echo "  $2" >&2; exit 1; }

variant=full tag="" base="" snapshot=""
while [ $# -gt 0 ]; do
    case "$1" in
        slim | full) variant=$1 ;;
        --tag) shift; tag=${1:?"--tag needs a name"} ;;
        --base) shift; base=${1:?"--base needs an image"} ;;
        --snapshot) snapshot=1 ;;
        --) shift; break ;;
        -h | --help) echo "$usage"; exit ;;
        *) fail "$1 is no option of build.sh" "$usage" ;;
    esac
    shift
done
: "${tag:=outpost-worker:$variant}"

# The package lies around this folder where it is installed, in src beside it in a checkout.
here=$(cd "$(dirname "$0")" && pwd)
for package in "$here/.." "$here/../src/outpost" ""; do
    if [ -f "$package/transports/archive.py" ]; then break; fi
done
[ -n "$package" ] || fail "the package outpost is not where build.sh looks for it" \
    "Run it from a checkout, or from the folder worker_image of the installed package."
docker version >/dev/null 2>&1 || fail "no Docker Engine answers" \
    "Start one, or name one: DOCKER_HOST=ssh://USER@HOST $0"

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cd "$here"
: "${base:=$(sed -n 's/^ARG BASE=//p' Dockerfile)}"
cp Dockerfile enter runner requirements*.txt package*.json "$context"
mkdir -p "$context/outpost/transports"
cp "$package/__init__.py" "$context/outpost"
cp "$package/transports/__init__.py" "$package/transports/archive.py" "$context/outpost/transports"
cp -R "$package/runner" "$package/wire" "$context/outpost"
find "$context" -name __pycache__ -prune -exec rm -rf {} +
# Who built it with which umask must not show.
chmod -R u=rwX,go=rX "$context"
chmod a+x "$context/enter" "$context/runner"

version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$package/__init__.py")
revision=unknown
if [ -e "$here/../.git" ]; then revision=$(git -C "$here" rev-parse HEAD); fi
docker build --quiet --target "$variant" --tag "$tag" \
    --build-arg "BASE=$base" --build-arg "SNAPSHOT=$snapshot" \
    --label "org.opencontainers.image.base.name=$base" \
    --label "org.opencontainers.image.version=$version" \
    --label "org.opencontainers.image.revision=$revision" "$@" "$context" >/dev/null

echo "$tag: $(docker image inspect --format '{{.Size}}' "$tag" | awk '{ printf "%.1f MB", $1 / 1e6 }')"
# Each layer with the instruction that made it; the base's own are not named.
docker history --no-trunc --format '{{.Size}}	{{.CreatedBy}}' "$tag" | awk -F '\t' '
    $1 == "0B" { next }
    { gsub(/ +/, " ", $2); gsub(/\/bin\/sh -c #\(nop\) |(file|dir|multi):[0-9a-f]+ in /, "", $2) }
    { sub(/^(RUN )?(\|[0-9]+ .*)?\/bin\/sh -c /, "RUN ", $2); printf "%10s  %.90s\n", $1, $2 }'
