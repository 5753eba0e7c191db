# The two commands of the README, and a few more. Everything they write lies in target/ and data/.
SHELL := /bin/bash
CARGO ?= cargo
BIN := target/release
DEMO_DATA ?= data/demo
TEST_ARGS ?=

.PHONY: demo test bench crash check clean

demo: ## A town, two boxes, a cloud, two receivers. DEMO_SECONDS=40 plays a script and counts.
	@scripts/need build
	$(CARGO) build --release --locked -p antuo-cloud -p antuo-gateway -p antuo-sim
	@exec $(BIN)/antuo-sim demo --bin-dir $(BIN) --data $(DEMO_DATA) $(if $(DEMO_SECONDS),--seconds $(DEMO_SECONDS))

test: check ## Everything CI runs.
	@scripts/need test
	$(CARGO) build --locked --workspace --bins
	$(CARGO) test --locked --workspace $(TEST_ARGS)

check:
	@scripts/need build
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

bench: ## Prints the table of figures.
	@scripts/need build
	$(CARGO) build --release --locked -p antuo-cloud -p antuo-gateway -p antuo-sim
	$(CARGO) run --release --locked -p antuo-tests --bin bench

crash: ## kill -9 of box, cloud and receiver, ROUNDS times (default 20); the last line is one JSON object.
	@scripts/need test
	$(CARGO) build --locked --workspace --bins
	@rm -f target/crash.json
	@status=0; \
	ANTUO_CRASH_ROUNDS=$(or $(ROUNDS),20) ANTUO_CRASH_REPORT=$(CURDIR)/target/crash.json \
	  $(CARGO) test --locked -p antuo-tests --test crash -- --nocapture || status=$$?; \
	cat target/crash.json 2>/dev/null || echo '{"rounds":0,"lost":null,"doubled":null}'; \
	exit $$status

clean:
	$(CARGO) clean
	rm -rf data
