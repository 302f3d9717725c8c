#!/usr/bin/env bash
# All that only a GPU can tell, on any CUDA box, in less than 25 minutes:
#
#     benchmarks/gpu.sh PAIRS OUT
#
# PAIRS is a folder of preprocess_musdb.py's with pairs to train on and held-out ones (train/, and valid/ or test/ beside
# it); OUT gets figures.md, figures.json and what each row printed. A row that fails is named, and the next one is taken.
# BASE is the model whose training is timed (default: random weights of Stable Diffusion 1.5's size). GPU_SH_TINY=1 takes
# the smallest settings and needs no GPU: it proves that every row's command works, and its figures mean nothing.
set -uo pipefail
[ $# -eq 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
cd "$(dirname "$0")/.." || exit 2
pairs="$(realpath "$1")"
mkdir -p "$2"
out="$(realpath "$2")"
python="${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || command -v python3)}"
small=checkpoints/small
tiny="${GPU_SH_TINY:-}"
rm -f "$out/rows.tsv"

row() { # NAME SECONDS COMMAND...: one row, for at most so long
  local name="$1" limit="$2" started=$SECONDS code=0
  echo "== $name: ${*:3}"
  timeout "$limit" "${@:3}" > "$out/$name.log" 2>&1 || code=$?
  printf '%s\t%s\t%s\n' "$name" $((SECONDS - started)) "$code" >> "$out/rows.tsv"
  [ "$code" -eq 0 ] || { echo "failed with $code: $out/$name.log"; tail -n 3 "$out/$name.log"; }
}

speed() { # NAME PRECISION BATCHES FLAG...: pairs a second of the reference and of ours with these flags
  local name="$1" precision="$2" batches="$3" flags=()
  [ $# -eq 3 ] || flags=(--flags "${@:4}")
  # shellcheck disable=SC2086  # several batch sizes
  row "$name" 400 "$python" benchmarks/train.py --train_data_dir "$pairs/train" --model "$base" --measure speed \
    --json "$out/$name.json" $size --precisions "$precision" --batch_sizes $batches "${flags[@]}"
}

memory="$(nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits 2> /dev/null | head -n 1)"
large=$((${memory:-0} / 1100)) # a pair takes about 1 GB in bf16, twice as much in fp32
[ "$large" -gt 4 ] || large=8
size="--pairs 64 --epochs 10 --steps 40 --workers 4" batches="4 $large" half="4 $((large / 2))" steps=200 images=16 rounds=3
[ -z "$tiny" ] || { size="--pairs 2 --epochs 1 --steps 1" batches=1 half=1 steps=1 images=1 rounds=1; export TORCHDYNAMO_DISABLE=1; }

row tests 300 "$python" -m pytest -q -m gpu --no-header -p no:cacheprovider
base="${BASE:-}"
if [ -z "$base" ]; then
  base="$out/base"
  row base 300 "$python" benchmarks/real_size.py "$base"
fi
speed fp32 no "$half" --allow_tf32
speed bf16 bf16 "$batches"
speed compile bf16 "$batches" --compile
speed lora bf16 "${batches%% *}" --lora_rank 16
speed checkpointing bf16 "$batches" --gradient_checkpointing
speed adam8bit bf16 "${batches%% *}" --use_8bit_adam
speed xformers bf16 "${batches%% *}" --enable_xformers_memory_efficient_attention
measure=gpu; [ -z "$tiny" ] || measure=batches
row inference 400 "$python" benchmarks/inference.py --model_id "${MODEL:-$small}" --dataset_id "$pairs" --measure "$measure" \
  --batch_sizes 1 "$images" --repeats "$rounds" --json "$out/inference.json"
processes=(--pretrained_model_name_or_path "${MODEL:-$small}" --train_data_dir "$pairs" --output_dir "$out/two" \
  --report_to none --max_train_samples 16 --max_train_steps "$steps" --train_batch_size 2 --num_validation_images 0)
row two-processes 300 "$python" -m torch.distributed.run --nproc_per_node 2 benchmarks/over_gloo.py "${processes[@]}"
row finetune 400 "$python" train_instruct_pix2pix.py --pretrained_model_name_or_path "${MODEL:-$small}" \
  --train_data_dir "$pairs" --output_dir "$out/finetuned" --report_to none --seed 0 --train_text_encoder --use_ema \
  --max_train_steps "$steps" --train_batch_size 8 --learning_rate 1e-4 --lr_warmup_steps 10 --validation_steps "$steps"
[ -n "${BASE:-}" ] || rm -rf "$out/base"
exec "$python" benchmarks/gpu_report.py "$out"
