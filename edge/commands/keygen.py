"""Make a key pair: one that signs bundles or limits, of an operator, of a publisher, or of a journal's anchors.

onbelt keygen signing.key
onbelt export RUN DATA --out bottle.onbelt --key signing.key

Writes the private key to OUT (readable by its owner only) and the public one to OUT.pub. What the key may do is decided by where
OUT.pub goes: into /etc/onbelt/trusted on every box that shall trust models signed with it, /etc/onbelt/trusted/limits for limits
alone, /etc/onbelt/operators for desired states; a publisher's goes to onbelt repo add-key. One key for one of these. Keep OUT off
the boxes, except the one that signs a journal's anchors. Existing files are never overwritten.
"""

import argparse
import json
from pathlib import Path

from edge.bundle.signing import generate_key, public_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("out", type=Path, metavar="OUT", help="file for the private key; the public one goes to OUT.pub")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(args: argparse.Namespace) -> int:
    """Write the pair and say where it is."""
    identity = generate_key(args.out)
    public = public_path(args.out)
    if args.json:
        print(json.dumps({"key": identity, "private": str(args.out), "public": str(public)}))
    else:
        print(f"key     {identity}")
        print(f"private {args.out} (mode 600: keep it to yourself)")
        print(f"public  {public} (for models: copy it to /etc/onbelt/trusted on each box; onbelt keygen -h has the others)")
    return 0
