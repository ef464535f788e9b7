"""What the conformance suite of the TUF project asks about keys, delegations, targets; see test_tuf_metadata.py."""

import json
from collections.abc import Callable
from urllib.parse import quote

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import TargetFile

from tests.support.tuf_site import LATER, ROOT, SNAPSHOT, TARGETS, TIMESTAMP, in_days, live_in

# --- keys and thresholds --------------------------------------------------------------------------------------------------


def test_a_threshold_that_is_not_reached(site, client):
    site.signed[ROOT].roles[SNAPSHOT].threshold = 3
    for _ in range(2):
        site.add_key(SNAPSHOT)
    site.publish(ROOT, *LATER)
    assert client.refresh() == 0
    site.signers[SNAPSHOT].pop()
    site.publish(*LATER)
    assert client.refresh() == 1
    assert client.version(SNAPSHOT) == 2


def test_a_threshold_above_the_number_of_keys(site, client):
    for _ in range(4):
        site.add_key(SNAPSHOT)
    site.signed[ROOT].roles[SNAPSHOT].threshold = 6
    site.publish(ROOT, SNAPSHOT, TIMESTAMP)
    assert client.refresh() == 1
    assert (client.version(ROOT), client.version(SNAPSHOT)) == (2, 0)


def test_one_key_listed_many_times_counts_once(site, client):
    """Nine entries of one key id, and nine copies of its signature, against a threshold of six."""
    signer = site.add_key(SNAPSHOT)
    site.signed[ROOT].roles[SNAPSHOT].threshold = 6
    site.publish(ROOT, SNAPSHOT, TIMESTAMP)
    site.replace(ROOT, lambda document: document["signed"]["roles"]["snapshot"]["keyids"].extend([signer.public_key.keyid] * 8))

    def repeat(document):
        (mine,) = [one for one in document["signatures"] if one["keyid"] == signer.public_key.keyid]
        document["signatures"] += [mine] * 8

    site.replace(SNAPSHOT, repeat, sign=False)
    assert client.refresh() == 1
    assert client.version(SNAPSHOT) == 0


def test_a_signature_that_is_there_twice(site, client):
    site.replace(SNAPSHOT, lambda document: document["signatures"].append(document["signatures"][0]), sign=False)
    assert client.refresh() == 1
    assert client.version(SNAPSHOT) == 0


KINDS: dict[str, Callable[[], CryptoSigner]] = {
    "rsassa-pss-sha256": lambda: CryptoSigner.generate_rsa(size=2048),
    "rsa-pkcs1v15-sha256": lambda: CryptoSigner.generate_rsa(scheme="rsa-pkcs1v15-sha256", size=2048),
    "ecdsa-sha2-nistp256": CryptoSigner.generate_ecdsa,
    "ed25519": CryptoSigner.generate_ed25519,
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_keys(site, client, kind):
    """A good signature counts, one by another key of the same kind does not."""
    signer = site.add_key(ROOT, KINDS[kind]())
    site.signed[ROOT].roles[ROOT].threshold = 2
    site.publish(ROOT)
    assert client.refresh() == 0
    assert client.version(ROOT) == 2
    site.publish(ROOT)
    wrong = KINDS[kind]().sign(site.versions[ROOT][-1]).signature

    def forge(document):
        for one in document["signatures"]:
            if one["keyid"] == signer.public_key.keyid:
                one["sig"] = wrong

    site.replace(ROOT, forge, sign=False)
    assert client.refresh() == 1
    assert client.version(ROOT) == 2


@pytest.mark.parametrize("useless", ["ab" * 64, "", "no hex"])
def test_a_useless_signature_beside_enough_good_ones(site, client, useless):
    first = site.signers[TIMESTAMP][0].public_key.keyid
    site.add_key(TIMESTAMP)
    site.publish(ROOT, TIMESTAMP)

    def spoil(document):
        for one in document["signatures"]:
            if one["keyid"] == first:
                one["sig"] = useless

    site.replace(TIMESTAMP, spoil, sign=False)
    assert client.refresh() == 0
    assert client.version(TIMESTAMP) == 2


# Each root: (keys it names, its threshold, who signs it). The last one is taken or not.
ROOTS = {
    "1 of 1 rotated": ([([1], 1, [1]), ([2], 1, [2, 1]), ([2], 1, [2])], True),
    "1 of 1 rotated, others sign too": ([([1], 1, [3, 1, 4]), ([2], 1, [3, 2, 1, 4]), ([2], 1, [3, 2, 4])], True),
    "3 of 5 by any three": (
        [([0, 1, 2, 3, 4], 3, [0, 2, 4]), ([0, 1, 2, 3, 4], 3, [0, 4, 1]), ([0, 1, 2, 3, 4], 3, [0, 1, 3])],
        True,
    ),
    "3 of 5, one rotated": ([([0, 1, 2, 3, 4], 3, [0, 2, 4]), ([0, 1, 3, 4, 5], 3, [0, 4, 1])], True),
    "3 of 5, one rotated in two steps": (
        [([0, 1, 2, 3, 4], 3, [0, 2, 4]), ([0, 1, 3, 4, 5], 3, [0, 2, 4, 5]), ([0, 1, 3, 4, 5], 3, [0, 4, 5])],
        True,
    ),
    "3 of 5, all rotated in two steps": (
        [([0, 1, 2, 3, 4], 3, [0, 2, 4]), ([5, 6, 7, 8, 9], 3, [0, 2, 4, 5, 6, 7]), ([5, 6, 7, 8, 9], 3, [5, 6, 7])],
        True,
    ),
    "threshold raised, 1 to 2 of 3": ([([1, 2, 3], 1, [1]), ([1, 2, 3], 2, [1, 2])], True),
    "threshold lowered, 2 to 1 of 3": ([([1, 2, 3], 2, [1, 2]), ([1, 2, 3], 1, [1, 2]), ([1, 2, 3], 1, [1])], True),
    "one more key, 2 of 2": ([([1], 1, [1]), ([1, 2], 2, [1, 2])], True),
    "rotated without the old key": ([([1], 1, [1]), ([2], 1, [2, 3, 4])], False),
    "rotated without the new key": ([([1], 1, [1]), ([2], 1, [1, 3, 4])], False),
    "3 of 5 without three new ones": ([([0, 1, 2, 3, 4], 3, [0, 2, 4]), ([0, 1, 3, 4, 5], 3, [0, 2, 4])], False),
    "3 of 5 without three old ones": ([([0, 1, 2, 3, 4], 3, [0, 2, 4]), ([0, 1, 3, 4, 5], 3, [0, 4, 5])], False),
    "threshold raised, not reached": ([([1, 2, 3], 1, [1]), ([1, 2, 3], 2, [2])], False),
    "threshold lowered, old one not reached": ([([1, 2, 3], 2, [1, 2]), ([1, 2, 3], 1, [1])], False),
}


@pytest.mark.parametrize("case", ROOTS)
def test_chains_of_roots(site, client, case):
    roots, taken = ROOTS[case]
    signers = [CryptoSigner.generate_ed25519() for _ in range(10)]
    site.versions[ROOT].clear()
    for version, (keys, threshold, signs) in enumerate(roots, start=1):
        role = site.signed[ROOT].roles[ROOT]
        role.keyids.clear()
        role.threshold = threshold
        for key in keys:
            site.signed[ROOT].add_key(signers[key].public_key, ROOT)
        site.signers[ROOT] = [signers[one] for one in signs]
        site.signed[ROOT].version = version
        site.put(ROOT)
    client.init(site.versions[ROOT][0])
    assert client.refresh() == (0 if taken else 1)
    assert client.content(ROOT) == site.versions[ROOT][-1 if taken else -2]


ROTATIONS = {
    "rotated": ([2], 1, [2], True),
    "others sign too": ([1], 1, [3, 1, 4], True),
    "without the new key": ([2], 1, [1, 3, 4], False),
    "one signer is not named": ([0, 1, 3, 4, 5], 3, [0, 2, 4], False),
    "one signature is missing": ([0, 1, 3, 4, 5], 3, [0, 4], False),
    "0 2 4": ([0, 1, 2, 3, 4], 3, [0, 2, 4], True),
    "0 4 1": ([0, 1, 2, 3, 4], 3, [0, 4, 1], True),
    "0 1 3": ([0, 1, 2, 3, 4], 3, [0, 1, 3], True),
    "1 2 3": ([0, 1, 2, 3, 4], 3, [1, 2, 3], True),
    "2 3 4": ([0, 1, 2, 3, 4], 3, [2, 3, 4], True),
}


@pytest.mark.parametrize("role", [TIMESTAMP, SNAPSHOT, TARGETS])
@pytest.mark.parametrize("case", ROTATIONS)
def test_rotations_of_other_keys(site, client, case, role):
    keys, threshold, signs, taken = ROTATIONS[case]
    signers = [CryptoSigner.generate_ed25519() for _ in range(6)]
    entry = site.signed[ROOT].roles[role]
    entry.keyids.clear()
    entry.threshold = threshold
    for key in keys:
        site.signed[ROOT].add_key(signers[key].public_key, role)
    site.signers[role] = [signers[one] for one in signs]
    site.publish(ROOT, *LATER)
    assert client.refresh() == (0 if taken else 1)
    assert client.content(role) == (site.versions[role][-1] if taken else None)


# --- delegations ----------------------------------------------------------------------------------------------------------

T = TARGETS
GRAPHS: dict[str, tuple[list[tuple[str, ...]], str]] = {
    "one": ([(T, "A")], "A"),
    "two side by side": ([(T, "A"), (T, "B")], "AB"),
    "two levels": ([(T, "A"), (T, "B"), ("B", "C")], "ABC"),
    "depth first": ([(T, "A"), (T, "B"), ("A", "C"), ("A", "D")], "ACDB"),
    "three levels": ([(T, "A"), (T, "B"), ("A", "C"), ("C", "D")], "ACDB"),
    "terminating": ([(T, "A"), (T, "B"), ("A", "C", "terminating"), ("A", "D")], "AC"),
    "terminating with a descendant": ([(T, "A"), (T, "B"), ("A", "C", "terminating"), ("C", "D")], "ACD"),
    "other paths": ([(T, "A", "*.py"), (T, "B"), ("A", "C")], "B"),
    "other paths below": ([(T, "A"), (T, "B"), ("A", "C", "*.py"), ("C", "D")], "AB"),
    "in a circle": ([(T, "A"), (T, "B"), ("B", "C"), ("C", "D"), ("D", "B")], "ABCD"),
    "two ways": ([(T, "A"), (T, "B"), ("B", "C"), ("A", "C")], "ACB"),
    "two ways, one for other paths": ([(T, "A"), (T, "B"), ("B", "C"), ("A", "C", "*.py")], "ABC"),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_delegations_are_walked_in_order(site, client, case):
    edges, order = GRAPHS[case]
    for delegator, role, *more in edges:
        paths = ["*.py"] if more == ["*.py"] else ["*"]
        site.delegate(delegator, role, paths, terminating=more == ["terminating"])
    site.publish(*sorted({role for _, role, *_ in edges}), *LATER)
    assert client.download("missing") == 1
    assert site.asked[4:] == [(role, 1) for role in order]


@pytest.mark.parametrize(
    ("path", "found", "order"),
    [
        ("file", True, ""),
        ("README.md", True, "A"),
        ("releases/x/x_v1", True, "BC"),
        ("releases/y/y_v1.zip", True, "BD"),
        ("releases/z/z_v1.zip", False, "B"),
    ],
)
def test_a_target_is_found_where_every_step_allows_it(site, client, path, found, order):
    for delegator, role, paths in [
        (T, "A", ["*.doc", "*.md"]),
        (T, "B", ["releases/*/*"]),
        ("B", "C", ["releases/x/*"]),
        ("B", "D", ["releases/y/*.zip"]),
    ]:
        site.delegate(delegator, role, paths)
    listed = {"file": T, "README.md": "A", "releases/x/x_v1": "C", "releases/y/y_v1.zip": "D", "releases/z/z_v1.zip": "D"}
    for target, role in listed.items():
        site.add_target(target, target.encode(), role)
    site.publish("A", "B", "C", "D", *LATER)
    assert client.download(path) == (0 if found else 1)
    assert client.got() == ({path.encode()} if found else set())
    assert site.asked[4:] == [(role, 1) for role in order]


def test_a_cached_role_is_verified_by_whoever_delegates_to_it_now(site, client):
    """C is known by way of A. B names C too, with a key that never signed it: by way of B, C has nothing to say."""
    site.delegate(T, "A", ["a/*"])
    site.delegate(T, "B", ["b/*"])
    site.delegate("A", "C", ["a/*", "b/*"])
    site.delegate("B", "C", ["a/*", "b/*"])
    stranger = CryptoSigner.generate_ed25519()
    site.signed["B"].delegations.roles["C"].keyids.clear()
    site.signed["B"].add_key(stranger.public_key, "C")
    site.add_target("a/file", b"by way of A", "C")
    site.add_target("b/file", b"by way of B", "C")
    site.publish("A", "B", "C", *LATER)
    assert client.download("a/file") == 0
    assert client.download("b/file") == 1
    assert client.got() == {b"by way of A"}


@pytest.mark.parametrize("role", ["?", "#", "/delegated", "../delegated", "a b", "ä", "%2e%2e"])
def test_unusual_names_of_roles(site, client, role):
    """They become a part of a URL and of a file's name, and leave neither the server's folder nor the client's."""
    site.delegate(T, role)
    site.publish(role, *LATER)
    assert client.download("nothing") == 1
    assert (quote(role, ""), 1) in site.asked
    assert len(client.trusts()) == 5
    assert {path.parent for path in client.cache.rglob("*.json")} == {client.cache, client.cache / "root_history"}


def test_a_delegated_role_that_has_expired(site, client):
    site.delegate(T, "site", ["site/*"], expires=in_days(-1))
    site.add_target("site/file", b"content", "site")
    site.publish("site", *LATER)
    assert client.refresh() == 0
    assert client.download("site/file") == 1
    assert client.got() == set()
    assert "site" not in client.trusts()


@pytest.mark.parametrize("renewed", [False, True])
def test_a_delegated_role_that_expires_in_the_cache(site, client, monkeypatch, renewed):
    site.delegate(T, "site", ["site/*"], expires=in_days(7))
    site.add_target("site/first", b"first", "site")
    site.add_target("site/second", b"second", "site")
    site.publish("site", *LATER)
    assert client.download("site/first") == 0
    if renewed:
        site.signed["site"].expires = in_days(21)
        site.publish("site", SNAPSHOT, TIMESTAMP)
    live_in(monkeypatch, 18)
    assert client.download("site/second") == (0 if renewed else 1)
    assert client.got() == ({b"first", b"second"} if renewed else {b"first"})


# --- targets --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["file.txt", "path/to/a/file.txt"])
def test_a_target_is_downloaded_once_it_is_asked_for(site, client, path):
    site.add_target(path, b"content")
    site.publish(*LATER)
    assert client.refresh() == 0
    assert client.got() == set()
    assert client.download(path) == 0
    assert client.got() == {b"content"}


def test_a_target_that_is_there_is_not_fetched_again(site, client):
    site.add_target("file", b"content")
    site.publish(*LATER)
    assert [client.download("file") for _ in range(2)] == [0, 0]
    assert len(site.files) == 1


def test_substituted_targets(site, client):
    site.add_target("one", b"content of one")
    site.add_target("two", b"content of two")
    site.publish(*LATER)
    assert client.download("one") == 0
    site.targets = dict.fromkeys(site.targets, b"malicious")
    client.download("one")  # may rest on what it has
    assert client.download("two") == 1
    assert client.got() == {b"content of one"}


def test_a_target_that_changes_many_times(site, client):
    for turn in range(11):
        site.add_target("file", b"good %d" % turn)
        site.publish(*LATER)
        if turn % 5:
            continue  # the client sees every fifth version
        assert client.download("file") == 0
        assert client.got() == {b"good %d" % turn}
        site.targets["file"] = b"malicious %d" % turn
        site.publish(*LATER)
        client.download("file")
        assert client.got() == {b"good %d" % turn}


@pytest.mark.parametrize("hashes", [["sha256"], ["sha512"], ["sha256", "sha512"]])
def test_hash_algorithms(site, client, hashes):
    target = site.add_target("file", b"content", hashes=hashes)
    site.publish(*LATER)
    assert client.download("file") == 0
    assert client.got() == {b"content"}
    assert site.files in [[f"{one}.file"] for one in target.hashes.values()]


def test_an_unknown_hash_algorithm(site, client):
    target = TargetFile.from_data("file", b"content", ["sha512"])
    target.hashes = {"unknown": target.hashes["sha512"]}
    site.signed[TARGETS].targets["file"] = target
    site.targets["file"] = b"content"
    site.publish(*LATER)
    assert client.download("file") == 1
    assert client.got() == set()


def test_one_of_two_hashes_is_wrong(site, client):
    target = site.add_target("file", b"content", hashes=["sha256", "sha512"])
    site.publish(*LATER)
    site.replace(
        TARGETS, lambda document: document["signed"]["targets"]["file"]["hashes"].update(sha256=json.loads('"' + "ab" * 32 + '"'))
    )
    assert target.hashes["sha256"] != "ab" * 32
    assert client.download("file") == 1
    assert client.got() == set()
