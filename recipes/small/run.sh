#!/usr/bin/env bash
# The small model, from songs to a checkpoint in diffusers' layout:
#
#     recipes/small/run.sh SONGS BUILD [GUITARS]
#
# SONGS holds everythingisfree/{train,valid}, leadsheets/{train,valid} and dryvocals; BUILD is where everything goes, the
# model into BUILD/model. GUITARS is the folder of songs of Debian's fretsonfire-songs-sectoid and -muldjord. Killed at
# any time, it goes on where it was when it is started again.
set -euo pipefail
here="$(cd "$(dirname "$0")/../.." && pwd)"
songs="$(realpath "$1")"
mkdir -p "$2"
build="$(realpath "$2")"
guitars="${3:-}"
cd "$here"
python="${PYTHON:-.venv/bin/python}"

# Steps of each stage of training, and songs to mix; a try on little data sets these lower.
: "${AUTOENCODER_STEPS:=2400}" "${CROP_STEPS:=8000}" "${WHOLE_STEPS:=2400}" "${MIXED_SONGS:=25}"

# Songs that nobody recorded so. Each low and each high voice over the same backing teaches that the instruction decides
# the register; parts of different songs at once teach to take parts away (never to add them: what is added has to fit).
for register in low high; do
  $python recipes/small/move_voices.py --root_data_dir "$songs/leadsheets/train" --register $register \
    --output_dir "$build/songs/$register"
done
$python recipes/small/mix_songs.py --root_data_dir "$songs/leadsheets/train" --voices_dir "$songs/dryvocals" \
  --output_dir "$build/songs/mixed" --songs "$MIXED_SONGS"

# Lead guitars over a band, as folders of stems. Two songs are held out.
if [ -n "$guitars" ]; then
  for song in "$guitars"/*/*/; do
    name="$(basename "$song")"
    case "$name" in Feelings | armygeddon) split=valid ;; *) split=train ;; esac
    mkdir -p "$build/songs/guitars/$split/$name"
    ln -sfn "$song/guitar.ogg" "$build/songs/guitars/$split/$name/guitar.ogg"
    ln -sfn "$song/song.ogg" "$build/songs/guitars/$split/$name/other.ogg"
  done
fi

# Pairs. At every pitch a clip has a backing and a stem to add of its own, so that no part goes with one backing alone.
pairs() { # SONGS PAIRS FLAG...: pairs of a folder of songs, which may be missing
  test -d "$1" || return 0
  $python preprocess_musdb.py --root_data_dir "$1" --output_dir "$build/pairs/$2" --silence "${@:3}"
}
for split in train valid; do
  augment=(); [ $split = valid ] || augment=(--pitch_augment)
  for corpus in everythingisfree leadsheets; do
    labels=(--prompt_filepath "$songs/$corpus/tracks.tsv")
    pairs "$songs/$corpus/$split" $split/$corpus/add "${labels[@]}" "${augment[@]}" --tasks add --pairs_per_clip 1
    pairs "$songs/$corpus/$split" $split/$corpus/separate "${labels[@]}" --tasks remove extract --pairs_per_clip 2
    pairs "$songs/$corpus/$split" $split/$corpus/keep "${labels[@]}" --tasks keep --pairs_per_clip 1
  done
  pairs "$build/songs/guitars/$split" $split/guitars "${augment[@]}" --stems guitar --tasks add --pairs_per_clip 1
done
for register in low high; do
  pairs "$build/songs/$register" train/$register --stems vocals --tasks add --pairs_per_clip 1 --say_prob 0.8
done
pairs "$build/songs/mixed" train/mixed --tasks remove extract --pairs_per_clip 4

# Tokenizer, autoencoder, and a UNet and text encoder that know nothing yet.
test -f "$build/base/base_model.json" || $python recipes/small/base_model.py --train_data_dir "$build/pairs/train" \
  --output_dir "$build/base" --autoencoder_steps "$AUTOENCODER_STEPS"

# Half of the examples have more noise, where the part's notes and rhythm are decided; half have it evenly, so that its
# fine lines go on being learnt. First crops of half the pictures' width, twice the steps for the same work, at a constant
# rate; then whole pictures while the rate falls to nothing.
train() { # FROM TO STEPS FLAG...
  $python train_instruct_pix2pix.py --seed 0 --resume_from_checkpoint latest --train_text_encoder --use_ema \
    --train_batch_size 8 --checkpointing_steps 250 --checkpoints_total_limit 2 --report_to none \
    --timestep_shift 3.5 --timestep_shift_share 0.5 --stratified_timesteps --image_dropout_prob 0 \
    --train_data_dir "$build/pairs" --latents_dir "$build/latents" --pretrained_model_name_or_path "$build/$1" \
    --output_dir "$build/$2" --max_train_steps "$3" --learning_rate 5e-4 --lr_warmup_steps 50 "${@:4}"
}
train base crops "$CROP_STEPS" --crop_frames 256 --lr_scheduler constant_with_warmup
train crops model "$WHOLE_STEPS" --lr_scheduler linear --save_precision fp16
