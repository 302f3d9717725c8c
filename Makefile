PYTHON ?= python3.11
RUN := .venv/bin/python
READY := .venv/ready

# Where `make small` finds the training songs and leaves its work.
DATA ?= ../shared/data
BUILD ?= build

.PHONY: test demo lint small clean

demo: $(READY)
	$(RUN) inference_instruct_pix2pix.py --model_id checkpoints/small --seed 0 --base_save_path outputs --name demo --overwrite \
	  --audio "$$($(RUN) -c 'from riffusion.stems import example_song; print(example_song().path)')" \
	  --without_stem vocals --prompt "add a soft female vocal, long held notes"

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

# The shipped small model, from songs to checkpoint: about two hours on two cores.
small: $(READY)
	for split in train valid; do for corpus in leadsheets everythingisfree; do \
	  $(RUN) preprocess_musdb.py --root_data_dir $(DATA)/$$corpus/$$split --output_dir $(BUILD)/pairs/$$split/$$corpus \
	    --prompt_filepath $(DATA)/$$corpus/tracks.tsv $$([ $$split = train ] && echo --pitch_augment) \
	    --stems vocals --tasks add --pairs_per_clip 1 --subset_prob 0 || exit; \
	done; done
	test -f $(BUILD)/small-base/small_base.json || \
	  $(RUN) checkpoints/small_base.py --train_data_dir $(BUILD)/pairs/train --output_dir $(BUILD)/small-base
	$(RUN) train_instruct_pix2pix.py \
	  --pretrained_model_name_or_path $(BUILD)/small-base --train_data_dir $(BUILD)/pairs --output_dir $(BUILD)/small \
	  --resume_from_checkpoint latest --seed 0 --train_text_encoder --use_ema --max_train_samples 2400 \
	  --max_train_steps 2200 --train_batch_size 8 --learning_rate 4e-4 --lr_scheduler cosine --lr_warmup_steps 200 \
	  --checkpointing_steps 400 --checkpoints_total_limit 2 --save_precision fp16
	cd $(BUILD)/small && cp -r model_index.json riffusion.json scheduler text_encoder tokenizer unet vae \
	  $(CURDIR)/checkpoints/small

clean:
	rm -rf .venv outputs $(BUILD)
