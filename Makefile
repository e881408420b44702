# Futago. `make demo` and `make test` do all the set-up on a fresh Debian
# machine with Go and make.
SHELL := /bin/bash
GO ?= go
export CGO_ENABLED ?= 0
export GOTOOLCHAIN ?= local
BIN := bin
LINT := $(BIN)/golangci-lint
LINT_VERSION := v2.15.0
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X github.com/futago/futago/version.Build=$(VERSION)

.PHONY: help build demo test check fmt vet lint arch race short bench deps fuzz clean main-test

help: ## what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

build: ## bin/futago, one static binary
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/futago ./cmd/futago

demo: build ## two managers, a witness and sample traps on loopback
	$(BIN)/futago demo

deps: ## the Debian packages that the tests use
	@integration/deps.sh

test: deps build ## everything that proves this tree, bounded for CI
	integration/test.sh

check: fmt vet lint race ## format, vet, lint, race tests with the architecture test

fmt: $(LINT)
	@out=$$($(LINT) fmt --diff ./... ); if [ -n "$$out" ]; then echo "$$out"; exit 1; fi

vet:
	$(GO) vet ./...

lint: $(LINT) ## golangci-lint with the rules of this house
	$(LINT) run ./...

$(LINT):
	GOBIN=$(CURDIR)/$(BIN) CGO_ENABLED=0 $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)

race: ## the tests under the race detector
	CGO_ENABLED=1 $(GO) test -race -timeout 20m ./...

short: ## the quick tests only
	$(GO) test -short ./...

main-test: build ## traps under faults: SEEDS=n FIRST=seed SECONDS=s JOBS=n
	FUTAGO_BIN=$(CURDIR)/$(BIN)/futago $(GO) test ./integration -count=1 -timeout 0 -run TestTrapsUnderFaults -v \
		-parallel $(or $(JOBS),2) -seeds $(or $(SEEDS),1) -first $(or $(FIRST),1) -seconds $(or $(SECONDS),60)

bench: build ## the numbers of docs/benchmarks.md
	integration/bench.sh

fuzz: ## each fuzz target for FUZZTIME (default 20s)
	integration/fuzz.sh $(or $(FUZZTIME),20s)

clean:
	rm -rf $(BIN) build
