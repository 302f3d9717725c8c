PYTHON ?= python3.11
RUN := .venv/bin/python
READY := .venv/ready

# Where `make small` finds the training songs and leaves its work.
DATA ?= ../shared/data
BUILD ?= build
GUITARS ?=
AUTOENCODER_STEPS ?= 2400
STEPS ?= 3762
COOLING_STEPS ?= 2400
VOICE_STEPS ?= 1900
NOISY_STEPS ?= 2900

.PHONY: test demo lint small clean

# What the demo asks for: a part, left out of the backing, and the instruction that brings another one in.
DEMO_vocals := add a soft female vocal, long held notes
DEMO_bass := add a bass line
DEMO_drums := add a busy drum beat

demo: $(READY)
	@song="$$($(RUN) -c 'from riffusion.stems import example_song; print(example_song().path)')" && \
	$(foreach part,vocals bass drums,$(RUN) inference_instruct_pix2pix.py --model_id checkpoints/small --seed 0 --overwrite \
	  --base_save_path outputs --name demo-$(part) --audio "$$song" --without_stem $(part) --prompt "$(DEMO_$(part))" && ) true

test: $(READY)
	$(RUN) -m pytest -q -n 2

lint: $(READY)
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy

$(READY): requirements.txt
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

# The shipped small model, from songs to checkpoint: about six hours on two cores. Killed at any time, it goes on where it
# was. GUITARS may name a folder with train/ and valid/ in it, of folders a song with guitar.ogg and other.ogg.
REKEY := $(RUN) checkpoints/rekey_songs.py --root_data_dir $(DATA)/leadsheets/train
PREPROCESS := $(RUN) preprocess_musdb.py
TRAIN := $(RUN) train_instruct_pix2pix.py --seed 0 --resume_from_checkpoint latest --train_text_encoder --use_ema \
  --train_batch_size 8 --checkpointing_steps 250 --checkpoints_total_limit 2 --report_to none
ON_ALL := --train_data_dir $(BUILD)/pairs --latents_dir $(BUILD)/latents --max_train_samples 9000
ON_VOICES := --train_data_dir $(BUILD)/voices --latents_dir $(BUILD)/latents-voices --max_train_samples 4400

small: $(READY)
	$(REKEY) --output_dir $(BUILD)/songs/leadsheets/train
	for split in train valid; do augment=$$([ $$split = train ] && echo --pitch_augment); \
	  for corpus in everythingisfree leadsheets; do \
	    songs=$(BUILD)/songs/$$corpus/$$split; test -d $$songs || songs=$(DATA)/$$corpus/$$split; \
	    songs="--root_data_dir $$songs --prompt_filepath $(DATA)/$$corpus/tracks.tsv"; \
	    pairs=$(BUILD)/pairs/$$split/$$corpus; \
	    $(PREPROCESS) $$songs --output_dir $$pairs/all $$augment --tasks add remove extract --pairs_per_clip 2 && \
	    $(PREPROCESS) $$songs --output_dir $$pairs/keep --tasks keep --pairs_per_clip 1 && \
	    $(PREPROCESS) $$songs --output_dir $$pairs/vocals $$augment --stems vocals --tasks add --pairs_per_clip 1 || exit; \
	    test $$split = valid || $(PREPROCESS) $$songs --output_dir $(BUILD)/voices/train/$$corpus --pairs_per_clip 3 || exit; \
	  done; \
	  test -z "$(GUITARS)" || $(PREPROCESS) --root_data_dir $(GUITARS)/$$split --output_dir $(BUILD)/pairs/$$split/guitars \
	    $$augment --stems guitar --tasks add --pairs_per_clip 1 || exit; \
	done
	for register in low high; do \
	  $(REKEY) --register $$register --output_dir $(BUILD)/songs/$$register/train && \
	  $(PREPROCESS) --root_data_dir $(BUILD)/songs/$$register/train --output_dir $(BUILD)/voices/train/$$register \
	    --stems vocals --tasks add --pairs_per_clip 2 --say_prob 0.8 || exit; \
	done
	test -z "$(GUITARS)" || $(PREPROCESS) --root_data_dir $(GUITARS)/train --output_dir $(BUILD)/voices/train/guitars \
	  --stems guitar --tasks add --pairs_per_clip 1
	test -f $(BUILD)/small-base/small_base.json || \
	  $(RUN) checkpoints/small_base.py --train_data_dir $(BUILD)/pairs/train --output_dir $(BUILD)/small-base \
	  --autoencoder_steps $(AUTOENCODER_STEPS)
	$(TRAIN) $(ON_ALL) --pretrained_model_name_or_path $(BUILD)/small-base --output_dir $(BUILD)/small-hot \
	  --max_train_steps $(STEPS) --learning_rate 4e-4 --lr_scheduler constant_with_warmup --lr_warmup_steps 200
	$(TRAIN) $(ON_ALL) --pretrained_model_name_or_path $(BUILD)/small-hot --output_dir $(BUILD)/small-cool \
	  --max_train_steps $(COOLING_STEPS) --learning_rate 4e-4 --lr_scheduler linear --lr_warmup_steps 50
	$(TRAIN) $(ON_VOICES) --pretrained_model_name_or_path $(BUILD)/small-cool --output_dir $(BUILD)/small-voices \
	  --max_train_steps $(VOICE_STEPS) --learning_rate 3e-4 --lr_scheduler linear --lr_warmup_steps 50
	$(TRAIN) $(ON_VOICES) --pretrained_model_name_or_path $(BUILD)/small-voices --output_dir $(BUILD)/small \
	  --max_train_steps $(NOISY_STEPS) --learning_rate 4e-4 --lr_scheduler linear --lr_warmup_steps 50 --timestep_shift 4 \
	  --save_precision fp16
	cd $(BUILD)/small && cp -r model_index.json riffusion.json scheduler text_encoder tokenizer unet vae \
	  $(CURDIR)/checkpoints/small

clean:
	rm -rf .venv outputs $(BUILD)
