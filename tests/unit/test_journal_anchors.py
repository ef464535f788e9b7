"""Anchors of the journal: what a chain alone cannot show is caught, and what is forged is refused."""

import json
import sqlite3
import threading

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.bundle.signing import generate_key, load_private, load_public
from edge.cli import main
from edge.clock import SystemClock
from edge.daemon.stages.anchoring import WAITING, Anchoring
from edge.daemon.state.phase import Station
from edge.errors import ChainError, JournalError
from edge.journal import anchors as module
from edge.journal.anchors import Anchors, append_anchor, make_anchor
from edge.journal.chain import verify_chain
from edge.journal.reader import Reader
from edge.journal.store import Journal
from edge.wire.verdict import payload_hash
from tests.support.journals import BOOT, chain, payload

KEY = Ed25519PrivateKey.generate()


class Site:
    """A journal that grows, its anchors, and whoever hears `audit`."""

    def __init__(self, folder):
        self.path = folder / "journal.db"
        self.journal = Journal(self.path, "st2", 2**24)
        self.heard: list[bytes] = []
        self.connected = True
        self.state = Station(SystemClock())
        self.anchoring = Anchoring(self.path, "st2", BOOT, KEY, 60.0, self.publish, self.state, SystemClock())

    def publish(self, line: bytes) -> bool:
        if self.connected:
            self.heard.append(line)
        return self.connected

    def parts(self, count: int) -> None:
        self.journal.append(chain(self.journal, self.journal.last_n + 1, count))

    def verify(self, lines=None, key=KEY):
        anchors = Anchors(self.heard if lines is None else lines, [key.public_key()], "anchors")
        with Reader(self.path) as reader:
            return verify_chain(reader, anchors=anchors)


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    made.parts(10)
    made.anchoring.step()
    made.parts(10)
    made.anchoring.step()
    made.parts(3)
    yield made
    made.journal.close()


def rewrite(path, from_n: int, upto_n: int | None = None) -> None:
    """Whoever can write the file: other verdicts from this row on, every hash after them made anew; or an end cut off."""
    with sqlite3.connect(path) as db:
        if upto_n is not None:
            for table in ("verdict", "outbox"):
                db.execute(f"DELETE FROM {table} WHERE n > ?", (upto_n,))
            return
        before = db.execute("SELECT payload FROM verdict WHERE n = ?", (from_n - 1,)).fetchone()
        prev = payload_hash(bytes(before[0]))
        last = db.execute("SELECT max(n) FROM verdict").fetchone()[0]
        for n in range(from_n, last + 1):
            made = payload(n, prev).replace(b'"lost"', b'"late"')
            db.execute("UPDATE verdict SET payload = ? WHERE n = ?", (made, n))
            prev = payload_hash(made)


def test_anchors_of_an_untouched_journal_hold(site):
    report = site.verify().anchors
    assert (report.held, report.older, report.newest_n, report.after) == (2, 0, 20, 3)
    assert site.anchoring.path.read_bytes().splitlines() == site.heard


def test_the_head_is_signed_only_where_it_has_moved(site):
    site.anchoring.step()
    site.anchoring.step()
    assert len(site.heard) == 3


def test_an_end_that_was_cut_off_is_a_valid_chain_and_is_found(site):
    site.journal.close()
    rewrite(site.path, 0, upto_n=15)
    with Reader(site.path) as reader:
        assert verify_chain(reader).rows == 15
    with pytest.raises(ChainError, match="row 20 was anchored, the journal ends at row 15: its end was cut off"):
        site.verify()


def test_a_chain_made_anew_is_a_valid_chain_and_is_found(site):
    site.journal.close()
    rewrite(site.path, 8)
    with Reader(site.path) as reader:
        assert verify_chain(reader).rows == 23
    with pytest.raises(ChainError, match=r"the anchor of row 10 says .* was written anew after it was anchored"):
        site.verify()


def test_a_journal_that_was_cut_and_went_on_is_found(site):
    site.journal.close()
    rewrite(site.path, 0, upto_n=15)
    site.journal = Journal(site.path, "st2", 2**24)
    site.journal.append(chain(site.journal, 1, 30, boot=BOOT[:-1] + "1"))
    with pytest.raises(ChainError, match="the anchor of row 20 says"):
        site.verify()


def test_rows_behind_the_newest_anchor_are_proved_by_the_chain_only(site):
    """Said in the report, not hidden: `after` counts them."""
    site.journal.close()
    rewrite(site.path, 22)
    assert site.verify().anchors.after == 3


def test_anchors_of_rows_no_longer_held_are_counted(site):
    with sqlite3.connect(site.path) as db:
        head = payload_hash(bytes(db.execute("SELECT payload FROM verdict WHERE n = 12").fetchone()[0]))
        db.execute("DELETE FROM verdict WHERE n <= 12")
        db.execute("UPDATE meta SET value = ? WHERE key = 'root'", (head,))
    report = site.verify().anchors
    assert (report.held, report.older) == (1, 1)


def test_anchors_of_another_journal_prove_nothing(site, tmp_path):
    with pytest.raises(ChainError, match="no anchor is of a row of this journal"):
        site.verify([])
    other = tmp_path / "other"
    other.mkdir()
    line = make_anchor("st9", BOOT, 10, payload_hash(b"x"), 1, KEY)
    with pytest.raises(ChainError, match="of st9"):
        site.verify([line])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda line: line.replace(b'"n":20', b'"n":10'), "line 2: its signature .* does not hold"),
        (lambda line: line.replace(b'"n":20', b'"n": 20'), "line 2: its signature .* does not hold"),
        (lambda line: line[:-10], "line 2: is no anchor"),
        (
            lambda _: make_anchor("st2", BOOT, 20, payload_hash(b"x"), 1, Ed25519PrivateKey.generate()),
            "signed by key .* or forged",
        ),
        (lambda line: line.replace(b"onbelt.anchor/1", b"onbelt.anchor/2"), "line 2: is no anchor .*onbelt.anchor/2"),
        (lambda line: line[:-1] + b',"sig":"' + b"0" * 128 + b'"}', "line 2: is no anchor|does not hold"),
    ],
)
def test_a_forged_or_altered_anchor_is_refused(site, spoil, words):
    with pytest.raises(ChainError, match=words):
        site.verify([site.heard[0], spoil(site.heard[1])])


def test_without_a_broker_anchors_wait_and_the_file_has_them(site):
    site.connected = False
    before = len(site.heard)
    for _ in range(3):
        site.parts(1)
        site.anchoring.step()
    assert len(site.heard) == before
    assert len(site.anchoring.path.read_bytes().splitlines()) == before + 3
    site.connected = True
    site.anchoring.step()
    assert site.anchoring.path.read_bytes().splitlines() == site.heard
    site.connected = False
    for _ in range(WAITING + 5):
        site.parts(1)
        site.anchoring.step()
    assert len(site.anchoring._waiting) == WAITING


def test_the_end_of_the_run_is_anchored(site):
    stop = threading.Event()
    stop.set()
    site.anchoring.run(stop)
    assert site.verify().anchors.after == 0


def test_anchors_that_cannot_be_written_raise_a_warning_and_go_on(site, monkeypatch):
    def full(_path, _line):
        raise JournalError("disk full")

    monkeypatch.setattr("edge.daemon.stages.anchoring.append_anchor", full)
    site.parts(1)
    site.anchoring.step()
    assert [one.code for one in site.state.snapshot().conditions if one.code == "anchor"]
    monkeypatch.undo()
    site.anchoring.step()
    assert not [one for one in site.state.snapshot().conditions if one.code == "anchor"]
    assert site.verify().anchors.newest_n == site.journal.last_n


def test_the_file_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 1000)
    path = tmp_path / "a.anchors"
    for number in range(100):
        append_anchor(path, b"%040d" % number)
        assert path.stat().st_size <= 1000
    lines = path.read_bytes().splitlines()
    assert lines[-1] == b"%040d" % 99
    assert len(lines) >= 12


def test_the_command_proves_the_end(site, tmp_path, capsys):
    key = tmp_path / "anchor.key"
    generate_key(key)
    site.anchoring._key = load_private(key)
    site.anchoring.path.unlink()
    site.parts(1)
    site.anchoring.step()
    site.journal.close()
    verify = ["journal", "verify", str(site.path), "--anchors", str(site.anchoring.path)]
    assert main([*verify, "--anchor-key", f"{key}.pub", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["anchors"] == {"held": 1, "older": 0, "newest_n": 24, "after": 0}
    assert main([*verify, "--anchor-key", f"{key}.pub"]) == 0
    assert "anchors: 1 hold, the newest of row 24; 0 rows behind it" in capsys.readouterr().out
    assert main(verify) == 2
    rewrite(site.path, 0, upto_n=20)
    assert main([*verify, "--anchor-key", f"{key}.pub"]) == 3
    assert "its end was cut off" in capsys.readouterr().err
    assert load_public(tmp_path / "anchor.key.pub")
