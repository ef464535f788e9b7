"""Keep the update repository: keys, models, channels; plain files any static HTTPS server can serve.

onbelt repo init /srv/onbelt --keys keys --root-keys 3 --threshold 2
onbelt repo add-key /srv/onbelt plant1/bottle publisher.key.pub --keys keys
onbelt repo publish /srv/onbelt bottle-7.onbelt --site plant1 --channel canary --keys keys
onbelt repo promote /srv/onbelt plant1/bottle 7 stable --keys keys
onbelt repo withdraw /srv/onbelt plant1/bottle 6 --keys keys
onbelt repo snapshot-cron /srv/onbelt --keys keys
onbelt repo carry /srv/onbelt --mqtt broker:1883 --base onbelt/repo
onbelt repo status /srv/onbelt

Boxes verify everything (The Update Framework), so the server needs no trust. A downgrade is a channel that is given an older
version. See docs/guides/update.md.
"""

import argparse
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from edge.commands._broker import add_broker_arguments, broker_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, help="what to do")

    def action(name: str, text: str, *, keys: bool = True) -> argparse.ArgumentParser:
        one = actions.add_parser(name, help=text, description=text)
        one.add_argument("repository", type=Path, metavar="REPO", help="the repository's folder: what is served")
        if keys:
            one.add_argument(
                "--keys",
                type=Path,
                action="append",
                default=[],
                metavar="DIR",
                help="folder of private keys (*.key); may be given more than once",
            )
        one.add_argument("--json", action="store_true", help="print one JSON object instead of text")
        return one

    init = action("init", "make a repository and its keys", keys=False)
    init.add_argument("--keys", type=Path, required=True, metavar="DIR", help="folder for the new private keys")
    init.add_argument("--root-keys", type=int, default=3, metavar="N", help="root keys to make (default: %(default)s)")
    init.add_argument(
        "--threshold", type=int, default=2, metavar="N", help="root keys that must sign together (default: %(default)s)"
    )
    add = action("add-key", "let a key sign for a role; with --remove: rotate")
    add.add_argument("role", metavar="ROLE", help="root, targets, snapshot, timestamp, or SITE/PRODUCT (made when it is new)")
    add.add_argument("public", type=Path, metavar="KEY.pub", help="the public key, made with onbelt keygen")
    add.add_argument("--remove", default="", metavar="ID", help="id, or its beginning, of the key that loses the role")
    action("sign", "add the keys at hand to a root that waits for signatures")
    publish = action("publish", "add a model")
    publish.add_argument("bundle", type=Path, metavar="BUNDLE", help="the signed model file, NAME.onbelt")
    publish.add_argument("--site", required=True, metavar="SITE", help="whose boxes may fetch it")
    publish.add_argument("--channel", default="", metavar="NAME", help="channel that holds it from now on (default: none)")
    publish.add_argument("--trust", type=Path, action="append", metavar="DIR", help="folder of keys bundles are signed with")
    promote = action("promote", "let a channel hold a version, newer or older")
    withdraw = action("withdraw", "take a model off the list")
    for one in (promote, withdraw):
        one.add_argument("what", metavar="SITE/PRODUCT", help="whose models")
        one.add_argument("version", type=int, metavar="VERSION", help="version of the model")
    promote.add_argument("channel", metavar="CHANNEL", help="the channel, such as canary or stable")
    for one in (publish, promote):
        one.add_argument(
            "--minimum", type=int, default=0, metavar="N", help="lowest version boxes of the channel may run from now on"
        )
    cron = action("snapshot-cron", "renew the timestamp, and the snapshot when half its life is over; run it every few hours")
    cron.add_argument("--force", action="store_true", help="renew the snapshot as well")
    carry = action("carry", "bring a broker up to date for boxes that have no other way: retained chunks", keys=False)
    carry.add_argument(
        "--base", required=True, metavar="TOPIC", help="topic of the repository on the broker, such as onbelt/repo"
    )
    add_broker_arguments(carry)
    action("status", "keys, models, channels, and when what expires", keys=False)


def run(args: argparse.Namespace) -> int:
    """Do one action and say what is in force now."""
    from export.repository.store import RepositoryFolder

    done = _ACTIONS[args.action](RepositoryFolder(args.repository), args)
    print(json.dumps(done) if args.json else _text(done))
    return 0


def _init(repository: Any, args: argparse.Namespace) -> dict[str, Any]:
    from export.repository.roles import init

    paths = init(repository, args.keys, root_keys=args.root_keys, threshold=args.threshold)
    return {
        "made": str(args.repository),
        "root": str(repository.metadata / "1.root.json"),
        "keys": [str(path) for path in paths],
        "next": [
            "move each root-N.key to a stick of its own and put the sticks in different places",
            "move targets.key off this machine; it is needed to add products and their keys",
            f"copy {repository.metadata / '1.root.json'} to /etc/onbelt/root.json on each box",
        ],
    }


def _add_key(repository: Any, args: argparse.Namespace) -> dict[str, Any]:
    from export.repository.keyring import Keyring, public_key
    from export.repository.roles import add_key

    signing = add_key(repository, args.role, args.public, Keyring(args.keys), remove=args.remove)
    return {"role": args.role, "key": public_key(args.public).keyid, **_signing(signing)}


def _sign(repository: Any, args: argparse.Namespace) -> dict[str, Any]:
    from export.repository.keyring import Keyring
    from export.repository.roles import sign_root

    return _signing(sign_root(repository, Keyring(args.keys)))


def _signing(signing: Any) -> dict[str, Any]:
    if signing is None:
        return {"in_force": True}
    if signing.published:
        return {"root": signing.version, "in_force": True}
    old, new = signing.missing
    return {
        "root": signing.version,
        "in_force": False,
        "missing": {"of_the_old_root_keys": old, "of_the_new_root_keys": new},
        "next": ["bring the other root keys: onbelt repo sign REPO --keys STICK"],
    }


def _publish(repository: Any, args: argparse.Namespace) -> dict[str, Any]:
    from dataclasses import asdict

    from edge.bundle.signing import TrustStore, default_trust
    from export.repository.keyring import Keyring
    from export.repository.models import publish

    trust = TrustStore.from_folders(args.trust) if args.trust else default_trust()
    done = publish(repository, args.bundle, args.site, trust, Keyring(args.keys), channel=args.channel, minimum=args.minimum)
    return {**asdict(done), "channel": args.channel or None}


def _promote(repository: Any, args: argparse.Namespace) -> dict[str, Any]:
    import msgspec

    from export.repository.keyring import Keyring
    from export.repository.models import promote

    site, product = _what(args.what)
    document = promote(repository, site, product, args.version, args.channel, Keyring(args.keys), minimum=args.minimum)
    plain: dict[str, Any] = msgspec.to_builtins(document)
    return plain


def _withdraw(repository: Any, args: argparse.Namespace) -> dict[str, Any]:
    from export.repository.keyring import Keyring
    from export.repository.models import withdraw

    site, product = _what(args.what)
    withdraw(repository, site, product, args.version, Keyring(args.keys))
    return {"withdrawn": f"{args.what} {args.version}", "note": "boxes that run it keep running it until they are given another"}


def _cron(repository: Any, args: argparse.Namespace) -> dict[str, Any]:
    from export.repository.keyring import Keyring
    from export.repository.store import LIFETIME

    with repository.locked():
        left = repository.snapshot().signed.expires - datetime.now(timezone.utc)
        both = args.force or left < LIFETIME["snapshot"] / 2
        repository.renew(Keyring(args.keys), snapshot=both)
        return {
            "timestamp": repository.timestamp().signed.version,
            "snapshot": repository.snapshot().signed.version,
            "expires": repository.timestamp().signed.expires.isoformat(),
        }


def _status(repository: Any, _args: argparse.Namespace) -> dict[str, Any]:
    from export.repository.models import channels, models

    now = datetime.now(timezone.utc)
    root = repository.root().signed
    parts = [("root", root), ("targets", repository.targets_of().signed), ("snapshot", repository.snapshot().signed)]
    parts.append(("timestamp", repository.timestamp().signed))
    roles = {}
    for name in repository.delegated():
        signed = repository.targets_of(name).signed
        parts.append((name, signed))
        site, _, product = name.partition("~")
        roles[f"{site}/{product}"] = {
            "models": [{"path": path, "bytes": target.length} for path, target in models(signed).items()],
            "channels": {one.channel: one.version for one in channels(repository, signed, site, product)},
            "keys": [keyid[:12] for keyid in repository.role(name).keyids],
        }
    soon = [name for name, signed in parts if signed.expires - now < timedelta(hours=12)]
    return {
        "repository": str(repository.folder),
        "root_threshold": f"{root.roles['root'].threshold} of {len(root.roles['root'].keyids)}",
        "versions": {name: signed.version for name, signed in parts},
        "expires": {name: signed.expires.isoformat() for name, signed in parts},
        "expires_within_12_h": soon,
        "products": roles,
    }


def _what(text: str) -> tuple[str, str]:
    from edge.errors import ConfigError

    site, _, product = text.partition("/")
    if not site or not product or "/" in product:
        raise ConfigError(f"expected SITE/PRODUCT, got {text!r}")
    return site, product


def _text(value: Any, indent: str = "") -> str:
    """A nested record as indented lines."""
    lines = []
    for key, inner in value.items():
        if isinstance(inner, dict):
            lines += [f"{indent}{key}:", _text(inner, indent + "  ")] if inner else [f"{indent}{key}: none"]
        elif isinstance(inner, list):
            lines.append(f"{indent}{key}:" + ("" if inner else " none"))
            lines += [
                f"{indent}  - {' '.join(f'{k}={v}' for k, v in item.items()) if isinstance(item, dict) else item}"
                for item in inner
            ]
        else:
            lines.append(f"{indent}{key}: {inner}")
    return "\n".join(lines)


def _carry(repository: Any, args: argparse.Namespace) -> dict[str, Any]:
    from dataclasses import asdict

    from edge.clock import SystemClock
    from export.repository.carry import carry

    return {"base": args.base, **asdict(carry(repository, broker_of(args), args.base, SystemClock()))}


_ACTIONS = {
    "init": _init,
    "add-key": _add_key,
    "sign": _sign,
    "publish": _publish,
    "promote": _promote,
    "withdraw": _withdraw,
    "snapshot-cron": _cron,
    "carry": _carry,
    "status": _status,
}
