#!/usr/bin/env bash
# Installs what building and testing Sluis need, and only what is missing:
#
#   tools/deps.sh install   everything; fails if a program cannot be installed (make deps)
#   tools/deps.sh test      the same, but outside CI a missing program is only a
#                           warning: the tests that need it skip and say so (make test)
#   tools/deps.sh bench     as test, with the programs that make bench compares with
#   tools/deps.sh tools     the Go tools only, which need no root
#
# To add a program, add a line to "programs" (how to see that it is there, the
# Debian package that brings it); to add a Go tool, a line to "go_tools".
set -euo pipefail
cd "$(dirname "$0")/.."

# A program's name, or the path of a file, and its Debian package.
programs="
openssl                              openssl
mount                                mount
nsenter                              util-linux
gcc                                  gcc
/usr/include/stdio.h                 libc6-dev
/etc/ssl/certs/ca-certificates.crt   ca-certificates
haproxy                              haproxy
"

# Further ones, for make bench alone.
bench_programs="
nginx                                nginx-light
"

# A Go command and its exact version.
go_tools="
mvdan.cc/gofumpt                    v0.12.0
honnef.co/go/tools/cmd/staticcheck  v0.8.2
"

bin=$PWD/.tools/bin

missing_packages() {
	local have package
	while read -r have package; do
		[ -n "$have" ] || continue
		case $have in
		/*) [ -e "$have" ] || echo "$package" ;;
		*) PATH=$PATH:/usr/sbin:/sbin command -v "$have" >/dev/null || echo "$package" ;;
		esac
	done <<<"$programs"
}

# Tries a command three times: package mirrors and locks have bad moments.
persist() {
	local try
	for try in 1 2 3; do
		"$@" && return
		[ "$try" = 3 ] || { echo "deps: '$*' failed, trying again" >&2; sleep $((try * 5)); }
	done
	return 1
}

# Installs the Debian packages given; returns 1 with advice if it cannot.
install_packages() {
	local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
	if ! command -v apt-get >/dev/null; then
		echo "deps: this is no Debian; install what these Debian packages bring: $*" >&2
		return 1
	fi
	if [ "$(id -u)" != 0 ]; then
		echo "deps: installing packages needs root. Run, then try again:" >&2
		echo "    sudo apt-get update && sudo apt-get install --no-install-recommends $*" >&2
		return 1
	fi
	persist "${apt[@]}" update && persist "${apt[@]}" install --no-install-recommends "$@"
}

check_go() {
	local have want
	want=$(sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' go.mod)
	if ! command -v go >/dev/null; then
		echo "deps: Go $want or newer is needed, and no 'go' is in PATH: see https://go.dev/doc/install" >&2
		return 1
	fi
	have=$(go env GOVERSION)
	have=${have#go}
	if [ "$(printf '%s\n%s\n' "$want" "$have" | sort -V | head -n 1)" != "$want" ]; then
		echo "deps: Go $want or newer is needed, this is $have: see https://go.dev/doc/install" >&2
		return 1
	fi
}

# True if the tool is there in this version, built by the Go in use: staticcheck
# cannot read what a newer Go than its own compiles.
tool_is_current() {
	local info
	info=$(go version -m "$bin/${1##*/}" 2>/dev/null) || return 1
	[[ $info == *": $(go env GOVERSION)"* ]] &&
		grep -qE "^[[:space:]]+path[[:space:]]+$1\$" <<<"$info" &&
		grep -qE "^[[:space:]]+mod[[:space:]]+[^[:space:]]+[[:space:]]+$2([[:space:]]|\$)" <<<"$info"
}

install_go_tools() {
	local path version
	while read -r path version; do
		[ -n "$path" ] || continue
		tool_is_current "$path" "$version" && continue
		echo "deps: go install $path@$version"
		# GOFLAGS holds flags for our own module.
		persist env GOFLAGS= CGO_ENABLED=0 GOBIN="$bin" go install "$path@$version"
	done <<<"$go_tools"
}

how=${1:-install}
case $how in
install | test | tools) ;;
bench) programs+=$bench_programs ;;
*)
	echo "usage: tools/deps.sh install|test|bench|tools" >&2
	exit 2
	;;
esac

check_go
if [ "$how" != tools ]; then
	mapfile -t packages < <(missing_packages)
	if [ ${#packages[@]} -gt 0 ] && ! install_packages "${packages[@]}"; then
		if [ "$how" = install ] || [ "${CI:-}" = true ]; then
			exit 1
		fi
		echo "deps: going on without ${packages[*]}: tests that need it will skip" >&2
	fi
fi
install_go_tools
