"""Train a detector from pictures of good parts.

onbelt train data/bottle --model dfsc-efficientad-s --out runs/bottle --size 128
onbelt train data/bottle --model efficientad-s --out runs/tiny --size 128 --steps 4
onbelt train data/bottle --model lgfdr --out runs/bottle-lgfdr --size 128 --knob gate=mean --knob noise=10
onbelt train data/bottle --model dfsc-efficientad-s --out runs/noisy --size 128 --knob autoencoder_noise=6
"""

from __future__ import annotations

import argparse
from pathlib import Path

MODEL_NAMES = ("efficientad-s", "efficientad-m", "dfsc-efficientad-s", "dfsc-efficientad-m", "lgfdr")


def _size(text: str) -> int:
    value = int(text)
    if value % 32 or not 128 <= value <= 512:
        raise argparse.ArgumentTypeError(f"expected a multiple of 32 from 128 to 512, got {value}")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {value}")
    return value


SHIPPED_TEACHER = Path(__file__).resolve().parents[1] / "data" / "teacher-pdn-s.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("data", type=Path, metavar="DATA", help="data set (train/good, ...) or a folder of good pictures")
    parser.add_argument("--model", choices=MODEL_NAMES, required=True, help="what to train")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run; must not hold a finished run")
    parser.add_argument(
        "--teacher",
        type=Path,
        default=SHIPPED_TEACHER,
        metavar="FILE",
        help="teacher file, from `onbelt distill`, or a state dict in nelson1425's or anomalib's layout "
        "(default: the PDN-S that ships; see docs/teacher.md)",
    )
    parser.add_argument(
        "--weights", type=Path, metavar="FILE",
        help="lgfdr: a ResNet's state dict, torchvision's or timm's, whose features are rebuilt (default: EfficientNet-Lite2)",
    )  # fmt: skip
    parser.add_argument(
        "--size", type=_size, default=256, help="side of the picture in pixels (default: %(default)s, the paper's)"
    )
    parser.add_argument(
        "--recipe", choices=("fast", "paper"), default="fast",
        help="fast: minutes on a CPU; paper: Algorithm 1, 70000 steps (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--steps", type=_positive, help="steps; in the fast recipe the student's (default: the recipe's own)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything drawn (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="torch device, e.g. cpu or cuda (default: %(default)s)")
    parser.add_argument("--threads", type=_positive, help="CPU threads (default: torch's own choice)")
    parser.add_argument(
        "--natural",
        type=Path,
        metavar="DIR",
        help="photographs of anything: they fill painted damage, in the paper's recipe they feed the penalty "
        "(default: generated pictures)",
    )
    parser.add_argument(
        "--head", choices=("off", "teacher", "student"), default="off",
        help="what the global head pools; off leaves it out of the score, measured to be better (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in RUN")
    parser.add_argument("--json", action="store_true", help="print the run's record as JSON")
    dfsc = parser.add_argument_group("DFSC", "knobs of the constraint; only for models named dfsc-*")
    dfsc.add_argument("--dfsc-weight", type=float, help="lambda; 0 turns it off")
    dfsc.add_argument("--dfsc-quantile", type=float, help="part of the differences that count as similar, 0 to 1")
    dfsc.add_argument("--dfsc-margin", type=float, help="margin, as a multiple of tau unless --dfsc-absolute")
    dfsc.add_argument("--dfsc-absolute", action="store_true", help="the margin is a squared difference, not a multiple of tau")
    dfsc.add_argument("--dfsc-by-position", action="store_true", help="split grid positions instead of single elements")
    dfsc.add_argument("--dfsc-margin-most", type=float, help="largest margin, as a squared difference")
    dfsc.add_argument("--dfsc-all-elements", action="store_true", help="novel elements count in the auto-encoder's loss, too")
    dfsc.add_argument("--dfsc-start", type=float, help="part of the auto-encoder's steps before the constraint begins, 0 to 1")
    dfsc.add_argument("--dfsc-ramp", type=float, help="part of the steps over which lambda then grows to its value, 0 to 1")
    parser.add_argument(
        "--knob",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a knob of the recipe, may be given more than once; fast: autoencoder_steps=800, autoencoder_noise=0, "
        "damage_share=0.8 and others (training/recipe.py); lgfdr: towers=both|local|global, gate=srh|mean|se|eca|simam, "
        "maps=discriminator|fused|towers, noise=12 and others (docs/lgfdr.md)",
    )


def run(args: argparse.Namespace) -> int:
    """Trains and returns the exit status; errors and interruptions are raised for the command line to tell."""
    import msgspec
    import torch

    from training.datasets import open_dataset
    from training.device import device_of
    from training.errors import RecipeError
    from training.families import Sources
    from training.lgfdr.pretrained import backbone_in
    from training.loop import TrainRequest, train
    from training.losses import DfscKnobs
    from training.recipe import LGFDR, make_config

    if args.threads:
        torch.set_num_threads(args.threads)
    asked = {
        "weight": args.dfsc_weight, "quantile": args.dfsc_quantile, "margin": args.dfsc_margin,
        "margin_of_tau": False if args.dfsc_absolute else None, "by_position": True if args.dfsc_by_position else None,
        "margin_most": args.dfsc_margin_most, "similar_only": False if args.dfsc_all_elements else None,
        "start": args.dfsc_start, "ramp": args.dfsc_ramp,
    }  # fmt: skip
    chosen = {name: value for name, value in asked.items() if value is not None}
    if chosen and not args.model.startswith("dfsc-"):
        raise RecipeError(f"--dfsc-* options act on models named dfsc-*; got --model {args.model}")
    if args.model == LGFDR and args.head != "off":
        raise RecipeError(f"--head acts on EfficientAD's models; got --model {LGFDR}: its own is --knob pooled_head=true")
    if args.model == LGFDR and args.teacher != SHIPPED_TEACHER:
        raise RecipeError(f"--model {LGFDR} has no teacher: expected no --teacher, got {args.teacher}")
    if args.model != LGFDR and args.weights is not None:
        raise RecipeError(f"--weights names a backbone's file, which {LGFDR} has; got --model {args.model}: its own is --teacher")
    backbone = [] if args.weights is None else [f"backbone={backbone_in(args.weights)}"]
    dfsc = msgspec.structs.replace(DfscKnobs(), **chosen)
    changes = [*backbone, *args.knob]
    config = make_config(
        args.model, size=args.size, seed=args.seed, recipe=args.recipe, steps=args.steps, dfsc=dfsc, changes=changes,
    )  # fmt: skip
    if args.head != "off":
        config = msgspec.structs.replace(config, head_input=args.head, head_weight=1.0)
    request = TrainRequest(
        open_dataset(args.data, args.seed),
        config,
        Sources(args.teacher, args.weights),
        args.out,
        args.natural,
        device_of(args.device),
        resume=args.resume,
    )
    finished = train(request)
    if args.json:
        print(msgspec.json.encode(finished.record).decode())
    else:
        print(f"{args.out}: {args.model} at {args.size} px, {finished.record.steps} steps in {finished.record.wall_s:.0f} s")
        for warning in finished.record.warnings:
            print(f"warning: {warning}")
    return 0
