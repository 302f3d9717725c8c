# The newest Python of these that runs and can make virtual environments.
PYTHON ?= $(shell for minor in 14 13 12 11; do python3.$$minor -c "import ensurepip" 2>/dev/null && \
  echo python3.$$minor && break; done)
RUN := .venv/bin/python
READY := .venv/ready

# Where `make small` finds the training songs and leaves its work.
DATA ?= ../shared/data
BUILD ?= build
GUITARS ?= $(wildcard /usr/share/games/fretsonfire/data/songs)

.PHONY: test slow demo lint small clean

# What the demo asks for: a part, left out of the backing, and the instruction that brings another one in.
DEMO_vocals := add a soft female vocal, long held notes
DEMO_bass := add a bass line
DEMO_drums := add a busy drum beat

demo: $(READY)
	@song="$$($(RUN) -c 'from riffusion.pairs.stems import example_song; print(example_song().path)')" && \
	$(foreach part,vocals bass drums,$(RUN) inference_instruct_pix2pix.py --model_id checkpoints/small --seed 0 --overwrite \
	  --base_save_path outputs --name demo-$(part) --audio "$$song" --without_stem $(part) --prompt "$(DEMO_$(part))" && ) true

test: $(READY)
	$(RUN) -m pytest -q -n 2 -m "not slow"

# Every measure of every benchmark once, with the smallest settings, and tests of whole processes.
slow: $(READY)
	$(RUN) -m pytest -q -n 2 -m slow

lint: $(READY)
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy

$(READY): requirements.txt requirements-dev.txt
	@test -n "$(PYTHON)" || { echo "error: no Python from 3.11 to 3.14 is here; name one: make PYTHON=/path/to/python"; exit 1; }
	@echo "installing torch and the other requirements into .venv; this takes some minutes"
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

# The small model, from songs to a checkpoint in $(BUILD)/model. Killed at any time, it goes on where it was.
small: $(READY)
	recipes/small/run.sh $(DATA) $(BUILD) $(GUITARS)

clean:
	rm -rf .venv outputs $(BUILD)
