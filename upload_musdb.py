"""Turn a folder of pairs into a dataset: on the Hugging Face Hub, or as local Parquet files.

python upload_musdb.py --data_root /data/musdb18-pix2pix/train
python upload_musdb.py --data_root /data/musdb18-pix2pix/train --output_dir /data/musdb18-pix2pix-parquet
"""

import argparse
from pathlib import Path

import datasets
from datasets.table import embed_table_storage

from riffusion import hub, report
from riffusion.dataset import load_splits, require_columns
from riffusion.errors import UserError
from riffusion.runtime import run_script

COLUMNS = ("original_image", "original_prompt", "edit_prompt", "edited_prompt", "edited_image")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data_root", type=Path, required=True, help="folder that preprocess_musdb.py wrote")
    add("--num_samples_to_use", type=int, help="only the first pairs of each split (default: all)")
    add("--repo_id", default="musdb18-spec-pix2pix", help="dataset on the Hub, under your own name unless it has one")
    add("--private", action="store_true", help="make the dataset on the Hub private")
    add("--output_dir", type=Path, help="write Parquet files here instead of uploading")
    args = parser.parse_args(argv)
    if args.num_samples_to_use is not None and args.num_samples_to_use < 1:
        parser.error("--num_samples_to_use must be at least 1")
    return args


def main(args: argparse.Namespace) -> int:
    splits = load_splits(str(args.data_root.absolute()))
    for name, split in splits.items():
        require_columns(split, COLUMNS)
        if args.num_samples_to_use is not None:
            splits[name] = split.select(range(min(args.num_samples_to_use, len(split))))
    print(report.table([{"split": name, "pairs": len(split)} for name, split in splits.items()]))
    if args.output_dir is not None:
        write_parquet(splits, args.output_dir)
    else:
        push_to_hub(splits, args)
    return 0


def write_parquet(splits: datasets.DatasetDict, folder: Path) -> None:
    """One SPLIT.parquet a split, pictures inside, whole or not at all."""
    report.make_folder(folder)
    for name, split in splits.items():
        part = folder / f"{name}.parquet.part"
        embedded = split.with_format("arrow").map(embed_table_storage, batched=True, batch_size=100)
        embedded.with_format(None).to_parquet(part)
        part.replace(folder / f"{name}.parquet")
    print(f"wrote {folder}")


def push_to_hub(splits: datasets.DatasetDict, args: argparse.Namespace) -> None:
    """Upload all splits. Raises UserError if nobody is logged in or the Hub can't be reached."""
    hub.go_offline_without_network()
    try:
        commit = splits.push_to_hub(args.repo_id, private=args.private or None)
    except hub.HUB_ERRORS as error:
        raise UserError(
            f"can't upload to {args.repo_id!r} ({type(error).__name__}): log in with `hf auth login` and check the "
            "network, or pass --output_dir to write local Parquet files; the pairs are untouched"
        ) from error
    print(f"uploaded to {commit.repo_url}")


if __name__ == "__main__":
    run_script(main, parse_args())
