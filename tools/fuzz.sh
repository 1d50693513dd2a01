#!/usr/bin/env bash
# Runs every fuzz target of the module, one after another, for the time given:
#
#   tools/fuzz.sh 30s
#
# All targets run even if one fails; the exit code is 1 if any did. What Go finds
# it writes to the package's testdata/fuzz: commit that file with the mend.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:?usage: tools/fuzz.sh DURATION}

# The go command sometimes calls the end of the time itself a failure, on a busy
# machine: no input is then named or written down.
endedLate() { grep -q '^    context deadline exceeded$' "$1" && ! grep -q 'Failing input' "$1"; }

passed=0 failed=()
while IFS=: read -r file target; do
	echo "== $target in $(dirname "$file")"
	log=$(mktemp)
	if go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "./$(dirname "$file")" | tee "$log" || endedLate "$log"; then
		passed=$((passed + 1))
	else
		failed+=("$target in $(dirname "$file")")
	fi
	rm -f "$log"
done < <(find internal cmd test -name '*_test.go' -exec grep -HoE '^func Fuzz[A-Za-z0-9_]*' {} + | sed 's/:func /:/' | sort)

if [ ${#failed[@]} -gt 0 ]; then
	printf 'failed: %s\n' "${failed[@]}"
fi
echo "fuzz: $passed passed, ${#failed[@]} failed"
[ ${#failed[@]} -eq 0 ]
