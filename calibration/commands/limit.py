"""Fit the limit anew from more good parts, without training, and write it as a signed file of its own.

onbelt limit bottle.onbelt
onbelt limit bottle.onbelt --good pictures/ --out bottle.limit --approved-by "A. Miller"
onbelt limit bottle.onbelt --journal journal.db --parts 01JD8Q7ZK3...:200-1400 --out bottle.limit --approved-by "A. Miller"
onbelt limit bottle.onbelt --good pictures/ --bad dents/ scratches/ --report what-if/

Without parts it says what the limit in force promises and how many good parts another promise takes. With pictures the engine
that would run here judges them; with a journal their scores are taken as they were judged on the line. You vouch that ALL the
parts named are good, those that were rejected too. A report says what other limits would do: false rejects against misses (with
--bad), which good parts set the limit, and what more good parts would give; it changes nothing. Exit status: 0 ok, 1 fault,
2 usage, 3 bundle or limit do not verify.
"""

import argparse
import json
import re
import sys
import time
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from calibration.limit import parts_needed
from calibration.parts import GoodParts, list_pictures, score_journal, score_pictures
from calibration.refit import Refit, RefitRequest, refit
from calibration.rules import parse_rule, shares
from calibration.study import PAGE, Study, write_study
from edge.bundle.manifest import MAX_RULES, Limit
from edge.bundle.reader import Bundle, open_bundle
from edge.bundle.signing import TrustStore, key_id, load_private
from edge.clock import SystemClock
from edge.commands._bundle import add_bundle_arguments, trust_from
from edge.engine import open_engine
from edge.engine.proof import replay_golden
from edge.errors import ConfigError, EngineError, LimitError
from edge.journal.reader import Reader
from edge.limits.apply import model_hash, with_limit
from edge.limits.audit import read_record
from edge.limits.file import SignedLimit, read_limit, write_limit
from edge.wire.codec import to_builtins

_PARTS = re.compile(r"([0-9A-HJKMNP-TV-Z]{26}):(\d{1,18})-(\d{1,18})")
_PROGRESS_EVERY_S = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add_bundle_arguments(parser)
    parser.add_argument("--good", nargs="+", type=Path, metavar="PATH", help="pictures of good parts, or folders of them")
    parser.add_argument("--journal", type=Path, metavar="FILE", help="take scores from this journal instead of pictures")
    parser.add_argument("--parts", metavar="BOOT:FIRST-LAST", help="with --journal: which parts, as their verdicts name them")
    parser.add_argument(
        "--masters", nargs="+", default=[], metavar="ID", help="with --journal: numbers of master parts, which are left out"
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="write what other limits would do, as index.html and whatif.json in this folder",
    )
    parser.add_argument(
        "--bad", nargs="+", type=Path, metavar="PATH", help="with --report: pictures of bad parts; a folder's name is their kind"
    )
    parser.add_argument(
        "--record",
        type=Path,
        metavar="FILE",
        help="check a station's record of limits (beside its journal, .limits) and print it",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the limit file to write; replaced as a whole, its version counted on"
    )
    parser.add_argument(
        "--false-reject", type=_share, metavar="SHARE", help="share of good parts you accept to be rejected (default: as before)"
    )
    parser.add_argument("--confidence", type=_share, default=0.95, metavar="P", help="confidence of it (default %(default)s)")
    parser.add_argument(
        "--also",
        nargs="+",
        default=[],
        metavar="RULE",
        help="further limits for a cause or a place, NAME=st|ae|global or NAME=st|ae@X,Y,W,H in fractions of the picture; "
        "all share the promise, which takes more good parts",
    )
    parser.add_argument("--pool", action="store_true", help="add the scores of the limit in force; refused when the parts differ")
    parser.add_argument(
        "--accept-missed", action="store_true", help="write the limit also when golden pictures of bad parts pass under it"
    )
    parser.add_argument("--approved-by", metavar="NAME", help="who vouches that the parts are good; signed with the limit")
    parser.add_argument("--note", default="", metavar="TEXT", help="why, for whoever audits it (at most 200 characters)")
    parser.add_argument(
        "--key", type=Path, metavar="FILE", help="private key to sign with (default: ~/.config/onbelt/signing.key)"
    )


def run(args: argparse.Namespace) -> int:
    """Fit, sign and write, or say what is in force."""
    if args.record is not None:
        _print_record(args)
        return 0
    trust = trust_from(args)
    bundle = open_bundle(args.bundle, trust)
    in_force = None if args.limit is None else read_limit(args.limit, trust)
    current = bundle if in_force is None else with_limit(bundle, in_force)
    false_reject = args.false_reject or current.manifest.limit.false_reject
    if all(given is None for given in (args.good, args.journal, args.report, args.out, args.bad)):
        _say_in_force(args, current, in_force, false_reject)
        return 0
    if args.bad is not None and args.report is None:
        raise ConfigError("--bad: expected --report beside it; a limit is never fitted on bad parts")
    key = None if args.report is not None and args.out is None else _key_after_checks(args)
    counted = 0 if key is None else _counted(args.out, current, trust, key)
    parts = _score(args, current) if args.good is not None or args.journal is not None else None
    if args.report is not None:
        study = Study(current, parts, tuple(args.bad or ()), false_reject, args.confidence)
        lines = write_study(study, args.report, lambda: open_engine(current, args.engine, args.threads), _Progress())
        print(json.dumps({"report": str(args.report)}) if args.json else "\n".join([*lines, f"{args.report / PAGE}: written"]))
    if key is None or parts is None:
        return 0
    request = RefitRequest(
        false_reject,
        args.confidence,
        args.pool,
        args.accept_missed,
        args.approved_by,
        args.note,
        SystemClock().utc_us(),
        tuple(map(parse_rule, args.also)),
        counted,
    )
    result = refit(bundle, in_force, parts, request)
    signed = write_limit(args.out, result.form, key)
    _report(args, result, signed)
    return 0


def _key_after_checks(args: argparse.Namespace) -> Ed25519PrivateKey:
    """Whatever can be wrong is said before an hour of judging."""
    names = [parse_rule(text).name for text in args.also]
    if len(names) > MAX_RULES or len(set(names)) != len(names):
        raise ConfigError(f"--also: expected at most {MAX_RULES} rules with names of their own, got {', '.join(names)}")
    if args.good is None and args.journal is None:
        raise ConfigError("--out: expected --good or --journal beside it, the good parts to fit the limit on")
    if args.out is None:
        raise ConfigError("--out: expected the limit file to write, such as bottle.limit; to look only, give --report DIR")
    if args.good is not None and args.journal is not None:
        raise ConfigError("expected --good or --journal, got both: a limit rests on one kind")
    if (args.journal is None) != (args.parts is None):
        raise ConfigError("--journal and --parts: expected both or none")
    if not args.out.absolute().parent.is_dir() or args.out.is_dir():
        raise ConfigError(f"--out: expected a file in a folder that exists, got {args.out}")
    if not args.approved_by:
        raise ConfigError("--approved-by: expected the name of who vouches that these parts are good")
    return load_private(args.key or Path.home() / ".config" / "onbelt" / "signing.key")


def _counted(out: Path, current: Bundle, trust: TrustStore, key: Ed25519PrivateKey) -> int:
    """Version of this model's limit that is about to be replaced; 0 for none, or one of another model."""
    if not out.exists():
        return 0
    own = key.public_key()  # whoever signs with it again need not have it among the trusted keys
    try:
        form = read_limit(out, replace(trust, keys={**trust.keys, key_id(own): own})).form
    except LimitError as exc:
        raise ConfigError(
            f"--out: {exc}; limits count their versions, and this file does not tell its own: name another file, or move it away"
        ) from exc
    return form.version if form.model == model_hash(current) else 0


def _score(args: argparse.Namespace, current: Bundle) -> GoodParts:
    if args.journal is not None:
        match = _PARTS.fullmatch(args.parts)
        if match is None:
            raise ConfigError(f"--parts: expected BOOT:FIRST-LAST such as 01JD8Q7ZK3...:200-1400, got {args.parts!r}")
        with Reader(args.journal) as reader:
            return score_journal(reader, current, match[1], int(match[2]), int(match[3]), frozenset(args.masters))
    pictures = list_pictures(args.good)
    with open_engine(current, args.engine, args.threads) as engine:
        wrong = [one.picture for one in replay_golden(current, engine) if not one.holds]
        if wrong:
            raise EngineError(
                f"{args.bundle}: {engine.name} does not give the scores it must on {', '.join(wrong[:4])}: a limit fitted "
                "with it would mean nothing; run onbelt check"
            )
        return score_pictures(pictures, engine, _Progress(), tuple(map(parse_rule, args.also)))


class _Progress:
    """A line on standard error every two seconds."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last >= _PROGRESS_EVERY_S or done == total:
            self._last = now
            print(f"judged {done} of {total}", file=sys.stderr, flush=True)


def _say_in_force(args: argparse.Namespace, current: Bundle, in_force: SignedLimit | None, false_reject: float) -> None:
    limit = current.manifest.limit
    needed = parts_needed(false_reject, args.confidence)
    if args.json:
        found = {"raw": limit.raw, "kind": limit.kind, "false_reject": limit.false_reject, "confidence": limit.confidence}
        version = None if in_force is None else in_force.form.version
        print(json.dumps({"limit": {**found, "n": limit.n}, "version": version, "needed": needed}))
        return
    where = "the bundle's own" if in_force is None else f"version {in_force.form.version}, by {in_force.form.approved_by}"
    print(f"limit in force  {limit.raw:.6g} ({where})")
    print(f"it promises     {promise(limit)}")
    print(f"good parts that a guarantee of {false_reject:.3%} at {args.confidence:.0%} takes: {needed}")


def _print_record(args: argparse.Namespace) -> None:
    """Every change of limit of a station, oldest first, after the whole chain has been checked."""
    if not args.record.exists():
        raise ConfigError(f"--record: no such file {args.record}; it lies beside the station's journal and ends in .limits")
    record = read_record(args.record)
    if args.json:
        print(json.dumps({"changes": [to_builtins(change) for change in record.changes], "head": record.head}))
        return
    for one in record.changes:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(one.at_us // 1_000_000))
        whose = f"version {one.version}, by {one.approved_by}" if one.version else "the bundle's own"
        print(f"{one.n}. {at} UTC  {one.limit[:23]}  {one.raw:.6g}  {one.kind}  {whose}  key {one.key[:12]}  {one.note}".rstrip())
    print(f"{len(record.changes)} changes, the chain holds, head {record.head}")


def promise(limit: Limit) -> str:
    """What a limit promises, in words."""
    if limit.kind == "guarantee":
        return f"at most {limit.false_reject:.3%} of good parts rejected, confidence {limit.confidence:.0%}, from {limit.n} parts"
    return f"nothing: an estimate that aims at {limit.false_reject:.3%} false rejects, from {limit.n} parts"


def _report(args: argparse.Namespace, result: Refit, signed: SignedLimit) -> None:
    form, fitted, source = result.form, result.fitted, result.form.source
    needed = parts_needed(*shares(fitted.false_reject, args.confidence, len(args.also)))
    if args.json:
        print(
            json.dumps(
                {
                    "out": str(signed.path),
                    "sha256": signed.sha256,
                    "key": signed.key_id,
                    "version": form.version,
                    "model": form.model,
                    "limit": fitted.value,
                    "before": result.before.raw,
                    "kind": fitted.kind.value,
                    "promise": fitted.promise(),
                    "false_reject": fitted.false_reject,
                    "confidence": fitted.confidence,
                    "n": fitted.n,
                    "needed": needed,
                    "rank": fitted.rank,
                    "interval": list(fitted.interval),
                    "carried": fitted.carried,
                    "alike_p": result.alike,
                    "rules": {rule.name: rule.limit for rule in form.limit.rules},
                    "lets_pass": form.lets_pass,
                    "new": source.new,
                    "pooled": source.pooled,
                    "repeated": source.repeated,
                    "invalid": source.invalid,
                }
            )
        )
        return
    print(f"{signed.path}: limit {fitted.value:.6g} (before {result.before.raw:.6g})")
    print(f"  {fitted.promise()}")
    if fitted.rank == 0:
        low, high = fitted.interval
        print(f"  90 % interval of the estimate: {low:.6g} to {high:.6g}; a guarantee takes {needed} good parts")
    print(
        f"  {source.new} parts judged, {source.pooled} pooled, {source.repeated} repeated and {source.invalid} unusable left out"
    )
    for rule in form.limit.rules:
        where = f" in {rule.box}" if rule.box else ""
        print(f"  {rule.name}: {rule.branch}{where} at most {rule.limit:.6g}, {rule.false_reject:.3%} of the promise")
    if result.alike < 0.01:
        print(f"  these parts do not score like those of the limit before (p = {result.alike:.2g}): the line has changed since")
    if form.lets_pass:
        print(f"  golden pictures of bad parts that now pass, as accepted: {', '.join(form.lets_pass)}")


def _share(text: str) -> float:
    """A share between 0 and 1, both excluded."""
    number = float(text)
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got {text}")
    return number
