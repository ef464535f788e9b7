"""Distil a teacher: a small network that imitates a large one on 33 px patches.

onbelt distill --backbone efficientnet-lite2 photographs/ --out teacher.safetensors
onbelt distill --backbone efficientnet-lite2 --out t.safetensors --steps 2 --batch 2 --textures 16
torchrun --nproc-per-node 4 --no-python onbelt distill photographs/ --device cuda --batch 64 --out teacher.safetensors
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("images", nargs="*", type=Path, help="photographs: files or folders (none: generated pictures alone)")
    parser.add_argument("--backbone", default="efficientnet-lite2", help="network to imitate (default: %(default)s)")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE",
        help="the network's weights, for --backbone resnet: a state dict of torchvision's or timm's, e.g. WideResNet-101-2",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="teacher file to write, .safetensors")
    parser.add_argument("--model", choices=("pdn-s", "pdn-m"), default="pdn-s", help="teacher's size (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=1000, help="steps in all (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="pictures a step (default: %(default)s)")
    parser.add_argument("--size", type=int, default=128, help="side of a picture in pixels (default: %(default)s)")
    parser.add_argument(
        "--textures", type=int, default=256, help="generated pictures in the pool; 0 for none (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of everything drawn (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="torch device, e.g. cpu or cuda (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves it to torch (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint beside --out")
    parser.add_argument("--json", action="store_true", help="print the teacher's record as JSON")


def run(args: argparse.Namespace) -> int:
    """Distils and returns the exit status; errors and interruptions are raised for the command line to tell."""
    import msgspec
    import torch

    from training.errors import RecipeError
    from training.networks.pdn import PdnSize
    from training.recipe import MOST_SEED
    from training.teacher.distill import distill
    from training.teacher.distillation import DistillConfig
    from training.workers import joined

    if args.steps < 1 or args.batch < 1 or args.textures < 0 or args.size % 32 or not 64 <= args.size <= 512:
        raise RecipeError(
            "expected --steps and --batch of at least 1, --textures of at least 0 and --size a multiple of 32 from 64 to 512; "
            f"got {args.steps}, {args.batch}, {args.textures}, {args.size}"
        )
    if not 0 <= args.seed < MOST_SEED or args.threads < 0:
        raise RecipeError(
            f"expected --seed from 0 to {MOST_SEED - 1} and --threads of at least 0, got {args.seed} and {args.threads}"
        )
    if args.threads:
        torch.set_num_threads(args.threads)
    config = DistillConfig(
        backbone=args.backbone, weights=args.weights, model=PdnSize(args.model), steps=args.steps,
        batch=args.batch, size=args.size, seed=args.seed, textures=args.textures,
    )  # fmt: skip
    with joined(args.device) as (workers, device):
        info = distill(config, args.images, args.out, device, resume=args.resume, workers=workers)
    if not workers.leads:
        return 0
    if args.json:
        print(msgspec.json.encode(info).decode())
    else:
        print(f"{args.out}: {info.model}, {info.steps} steps, held-out error {info.held_out_loss:.3f} of the variance")
    return 0
