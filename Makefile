# Every target covers all Go modules of the repository.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := test

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME ?= 10s
TIMEOUT ?= 10m

MODULES := $(patsubst %/go.mod,%,$(sort $(shell find . -name node_modules -prune -o -name go.mod -print)))

# $(call each,COMMAND) runs COMMAND in every module, all of them even if one
# fails, and fails if one did.
each = $(call in,$(MODULES),$(1))

# The same without bench: not all of the systems it measures build everywhere.
portable = $(call in,$(filter-out ./bench,$(MODULES)),$(1))

define in
@status=0; \
for module in $(1); do \
	echo "--- $$module: $(2)"; \
	(cd "$$module" && $(2)) || status=1; \
done; \
exit $$status
endef

.PHONY: test
test: ## all tests in random order, with the race detector (which other systems in bench cannot stand: theirs without it as well)
	$(call each,go test -race -shuffle=on -timeout $(TIMEOUT) ./...)
	$(call in,./bench,go test -shuffle=on -timeout $(TIMEOUT) ./...)

.PHONY: allocs
allocs: ## the tests that count allocations, which the race detector would disturb
	$(call each,go test -run ^TestAlloc -timeout $(TIMEOUT) ./...)

.PHONY: lint
lint: gofmt ## gofmt, go vet, staticcheck, go mod tidy
	$(call each,go vet ./...)
	$(call each,go run $(STATICCHECK) ./...)
	$(call each,go mod tidy -diff)

.PHONY: gofmt
gofmt:
	@echo "--- gofmt -l"
	@unformatted=$$(find . -name node_modules -prune -o -name '*.go' -print0 | xargs -0 gofmt -l); \
	if [[ -n $$unformatted ]]; then echo "not formatted:"; echo "$$unformatted"; exit 1; fi

.PHONY: build-matrix
build-matrix: ## builds and vets, tests included, for other systems
	$(call portable,GOOS=linux GOARCH=386 CGO_ENABLED=0 go vet ./...)
	$(call portable,GOOS=linux GOARCH=386 CGO_ENABLED=0 go build -o /dev/null ./...)
	$(call portable,GOOS=windows GOARCH=amd64 CGO_ENABLED=0 go vet ./...)
	$(call portable,GOOS=windows GOARCH=amd64 CGO_ENABLED=0 go build -o /dev/null ./...)
	$(call portable,GOOS=darwin GOARCH=arm64 CGO_ENABLED=0 go build -o /dev/null ./...)

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME, one after the other
	@for module in $(MODULES); do \
		cd "$(CURDIR)/$$module"; \
		dirs=$$(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}' ./...); \
		for dir in $$dirs; do \
			cd "$$dir"; \
			for target in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' *_test.go | sort); do \
				echo "--- $${dir#$(CURDIR)/}: $$target for $(FUZZTIME)"; \
				"$(CURDIR)/.ci/fuzz" "$$target" $(FUZZTIME); \
			done; \
		done; \
	done

.PHONY: benchmarks
benchmarks: ## every benchmark once, to see that it runs
	$(call each,go test -run '^$$' -bench . -benchtime 1x -timeout $(TIMEOUT) ./...)

SOAK ?= 1h

.PHONY: soak
soak: ## commands in a storm for SOAK: a server that goes up and down, every command accounted for, nothing that grows
	go test -run '^TestSoak$$' -soak=$(SOAK) -timeout=0 -v ./extension/command

.PHONY: bench
bench: ## measure against other systems, write bench/RESULTS.md and bench/charts: about 20 minutes; BENCHFLAGS="-rounds 5" for more
	cd bench && go run . -write $(BENCHFLAGS)

.PHONY: bench-quick
bench-quick: ## a short look at the most important ones, printed only: under two minutes
	cd bench && go run . -quick $(BENCHFLAGS)

.PHONY: bench-compare
bench-compare: ## the benchmarks of the root module at revision BASE and now, beside each other: BASE=HEAD~1 [BENCH=regexp] [COUNT=6] [BENCHTIME=300ms]
	@bench/compare "$(BASE)"

.PHONY: help
help: ## this list
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/p' Makefile | expand -t 16
