"""Turn a folder of pairs into a dataset: Parquet files and a card, on the Hugging Face Hub or in a local folder.

    python upload_musdb.py --data_root /data/musdb18-pix2pix/train
    python upload_musdb.py --data_root /data/musdb18-pix2pix/train --output_dir /data/musdb18-pix2pix-parquet

The files are always written to a local folder first, which is kept and takes as much space as the pairs. The same
command resumes an interrupted one, in writing and in uploading. README.md, the card, is written once: add a licence or
your own words there and run it again.
"""

import argparse
from pathlib import Path

from riffusion.util.flags import Help, at_least
from riffusion.util.runtime import run_script, telling_what_is_kept

REPO_ID = "musdb18-spec-pix2pix"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags of a command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=Help)
    add = parser.add_argument
    add("--data_root", type=Path, required=True, help="folder that preprocess_musdb.py wrote")
    add(
        "--num_samples_to_use",
        type=at_least(1),
        help="only the first pairs, this many in all: first the train split's, then the next split's (default: all)",
    )
    add(
        "--output_dir",
        type=Path,
        help="folder for the Parquet files; with it nothing is uploaded, unless --repo_id is given too "
        "(default: DATA_ROOT-parquet, and upload it)",
    )
    add("--repo_id", help=f"dataset on the Hub, under your own name unless it has one (default: {REPO_ID})")
    add(
        "--private", action="store_true", help="make the dataset on the Hub private; refused if it exists and is public"
    )
    add("--revision", help="branch on the Hub, created if it is missing (default: the main one)")
    args = parser.parse_args(argv)
    if args.output_dir is not None and args.repo_id is None and (args.private or args.revision):
        parser.error("with --output_dir nothing is uploaded: --private and --revision need --repo_id")
    return args


def main(args: argparse.Namespace) -> int:
    """Publish; returns the exit code."""
    from riffusion.pairs import dataset_check, parquet
    from riffusion.util import hub, tables

    if args.output_dir is None or args.repo_id is not None:
        hub.check_name(args.repo_id or REPO_ID)
    data_root = args.data_root.resolve()
    folder = args.output_dir or data_root.with_name(f"{data_root.name}-parquet")
    splits = parquet.first_pairs(dataset_check.open_pairs(str(data_root), texts=parquet.TEXTS), args.num_samples_to_use)
    print(tables.table([{"split": name, "pairs": len(split)} for name, split in splits.items()]))
    with telling_what_is_kept(
        lambda: f"{tables.counted(len(list(folder.glob('data/*.parquet'))), 'file')} kept; the same command goes on"
    ):
        parquet.write_dataset(splits, folder, data_root)
    if args.output_dir is None or args.repo_id is not None:
        url = hub.upload_folder(
            folder,
            args.repo_id or REPO_ID,
            "dataset",
            private=args.private,
            revision=args.revision,
            ignore=[parquet.SOURCE_FILE],
            replace=["data/*"],
        )
        print(f"uploaded {folder} to {url}")
    return 0


if __name__ == "__main__":
    run_script(main, parse_args())
