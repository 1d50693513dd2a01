# One command each; "make help" lists them. CONTRIBUTING.md says when to use which.

SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c

# The product is one static binary; only the race detector needs cgo.
export CGO_ENABLED ?= 0
# Builds never change go.mod: versions are pinned by hand. The version is stamped
# from git below, so that the go command needs no git.
GOFLAGS += -mod=readonly -buildvcs=false
export GOFLAGS

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
TOOLS   := .tools/bin
REPORT  := $(TOOLS)/testreport -C . -C tools --
# In CI nothing comes from the test cache: what a test finds on the machine
# (root, kernel, programs) is not part of the cache's key.
FRESH    := $(if $(filter true,$(CI)),-count=1)
FUZZTIME ?= 30s
# What make bench measures: names of workloads (bin/bench -list), empty = all.
WORKLOADS ?=
ROUNDS    ?= 5
# Rooms with goroutines of their own: these run under the race detector.
GOROUTINE_ROOMS := event stats stats/page store apply auth control api helper pki health resolve demo \
	proxy proxy/loop proxy/tlsio proxy/transport proxy/upstream proxy/persist proxy/accesslog
RACE := $(addprefix ./,$(sort $(dir $(wildcard $(GOROUTINE_ROOMS:%=internal/%/*_test.go)))))

.DEFAULT_GOAL := help
.PHONY: help deps build run test test-long check bench bench-rooms fuzz licenses

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

deps: ## install what building and testing need (Debian packages as root, Go tools into .tools)
	tools/deps.sh install

build: ## bin/sluis: one static binary with its version
	go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/sluis ./cmd/sluis

run: build ## build, then try it: an appliance on loopback with a temporary state, without root
	bin/sluis demo

test: ## the gate: deps if something is missing, check, all tests
	tools/deps.sh test
	@$(MAKE) --no-print-directory check $(TOOLS)/testreport
	$(REPORT) $(FRESH) ./...

test-long: ## what the gate has no time for: long tests, race detector, 20 s per fuzz target
	tools/deps.sh test
	@$(MAKE) --no-print-directory check $(TOOLS)/testreport
	SLUIS_LONG=1 $(REPORT) -count=1 -timeout 40m ./...
	CGO_ENABLED=1 $(TOOLS)/testreport -- -race -count=1 -timeout 20m $(RACE)
	tools/fuzz.sh 20s

check: $(TOOLS)/gofumpt $(TOOLS)/staticcheck ## gofumpt, vet, staticcheck, floor plan
	@unformatted=$$($(TOOLS)/gofumpt -l .); \
	if [ -n "$$unformatted" ]; then echo "run $(TOOLS)/gofumpt -w on:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go -C tools vet ./...
	$(TOOLS)/staticcheck ./...
	cd tools && ../$(TOOLS)/staticcheck ./...
	go test .

bench: build ## measure beside HAProxy, nginx and Go's proxy; make bench WORKLOADS='plain-* tls-256' ROUNDS=5
	tools/deps.sh bench
	go build -trimpath -o bin/bench ./bench
	bin/bench -sluis bin/sluis -rounds '$(ROUNDS)' -workloads '$(WORKLOADS)'

bench-rooms: ## benchmarks of the rooms, with allocations
	go test -run '^$$' -bench . -benchmem ./internal/...

fuzz: ## each fuzz target for FUZZTIME (30s); make fuzz FUZZTIME=5m
	tools/fuzz.sh $(FUZZTIME)

licenses: ## collect the licence texts of all linked modules into cmd/sluis/licenses
	go -C tools build -o ../$(TOOLS)/licenses ./licenses
	$(TOOLS)/licenses

$(TOOLS)/testreport: $(wildcard tools/testreport/*.go) tools/go.mod
	go -C tools build -o ../$@ ./testreport

$(TOOLS)/gofumpt $(TOOLS)/staticcheck:
	tools/deps.sh tools
