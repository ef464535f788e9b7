"""Evidence: frames by hash in a bounded ring; altered ones are found out, and nothing but its own files is touched."""

import os
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from msgspec import structs
from PIL import Image

from edge.daemon.stages.compose import compose
from edge.daemon.stages.recorder import WAITING, Recorder
from edge.daemon.state.phase import Station
from edge.daemon.talk.evidence import evidence_teller
from edge.errors import EvidenceError
from edge.journal import evidence
from edge.journal.evidence import EvidenceStore, frame_path, map_path, pixels_hash, read_frame
from edge.journal.png import encode_png
from edge.wire import station as wire
from edge.wire.topics import Topics
from tests.support.desk import WHO, judgement, moment, outcome
from tests.support.rig import until
from tests.support.station import HandClock, RecordingConnection

MB = 2**20


def picture(seed, side=32):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def put(store, seed, anomaly_map=None):
    pixels = picture(seed)
    digest = pixels_hash(pixels)
    assert store.put(digest, pixels, anomaly_map)
    return digest


@settings(max_examples=50, deadline=None)
@given(
    pixels=st.one_of(
        hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))),
        hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40))),
    )
)
def test_any_picture_is_read_back_by_an_independent_decoder(tmp_path_factory, pixels):
    path = tmp_path_factory.mktemp("p") / "p.png"
    path.write_bytes(encode_png(pixels))
    with Image.open(path) as opened:
        opened.load()
        assert (np.asarray(opened) == pixels).all()


@pytest.mark.parametrize("wrong", [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4), np.uint16), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_8_bit_picture_is_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        encode_png(wrong)


def test_the_shape_is_part_of_the_name():
    flat = np.arange(48, dtype=np.uint8)
    assert pixels_hash(flat.reshape(2, 8, 3)) != pixels_hash(flat.reshape(4, 4, 3))
    assert pixels_hash(picture(1)) == pixels_hash(picture(1)[:, ::-1][:, ::-1]), "the layout in memory is not"


def test_frame_and_map_are_kept_and_read_back(tmp_path):
    store = EvidenceStore(tmp_path / "e", MB, 0)
    digest = put(store, 1, np.array([[0.0, 1.0], [2.0, 9.0]], np.float32))
    assert (read_frame(tmp_path / "e", digest) == picture(1)).all()
    with Image.open(map_path(tmp_path / "e", digest)) as gray:
        assert np.asarray(gray).tolist() == [[0, evidence.LIMIT_GRAY], [200, 255]]
    assert store.bytes == sum(file.stat().st_size for file in (tmp_path / "e").iterdir())


def test_an_altered_frame_is_not_the_one_that_was_judged(tmp_path):
    store = EvidenceStore(tmp_path, MB, 0)
    digest = put(store, 1)
    frame_path(tmp_path, digest).write_bytes(encode_png(picture(2)))
    with pytest.raises(EvidenceError, match="altered or torn"):
        read_frame(tmp_path, digest)
    frame_path(tmp_path, digest).write_bytes(encode_png(picture(1))[:-40])
    with pytest.raises(EvidenceError, match="not a readable picture"):
        read_frame(tmp_path, digest)
    frame_path(tmp_path, digest).unlink()
    with pytest.raises(EvidenceError, match="not kept any more") as gone:
        read_frame(tmp_path, digest)
    assert gone.value.gone


@pytest.mark.parametrize("digest", ["", "sha256:../../etc/passwd", "sha256:" + "g" * 32, "sha256:" + "0" * 32 + "\n"])
def test_only_a_hash_becomes_a_path(tmp_path, digest):
    with pytest.raises(EvidenceError, match="32 hex digits"):
        read_frame(tmp_path, digest)


def test_the_ring_is_bounded_and_the_oldest_go_first(tmp_path):
    size = len(encode_png(picture(0)))
    store = EvidenceStore(tmp_path, 5 * size + size // 2, 0)
    digests = [put(store, seed) for seed in range(12)]
    kept = [frame_path(tmp_path, digest).exists() for digest in digests]
    assert kept == [False] * 7 + [True] * 5
    assert store.shed == 7
    assert store.bytes <= 5.5 * size


def test_the_same_picture_again_takes_no_more_room_and_is_young_again(tmp_path):
    size = len(encode_png(picture(0)))
    store = EvidenceStore(tmp_path, 3 * size + size // 2, 0)
    first, second = put(store, 1), put(store, 2)
    put(store, 1)
    assert (len(store), store.bytes) == (2, sum(file.stat().st_size for file in tmp_path.iterdir()))
    put(store, 3)
    put(store, 4)
    assert frame_path(tmp_path, first).exists()
    assert not frame_path(tmp_path, second).exists()


def test_a_new_start_finds_what_is_there_and_clears_what_was_cut_off(tmp_path):
    store = EvidenceStore(tmp_path, MB, 0)
    digests = [put(store, seed, np.zeros((2, 2), np.float32)) for seed in range(4)]
    for age, digest in enumerate(digests):
        for path in (frame_path(tmp_path, digest), map_path(tmp_path, digest)):
            os.utime(path, ns=(10**9 * age, 10**9 * age))
    (tmp_path / "0.part").write_bytes(b"half")
    (tmp_path / "notes.txt").write_bytes(b"somebody else's")
    again = EvidenceStore(tmp_path, store.bytes - 1, 0)
    assert len(again) == 3
    assert not frame_path(tmp_path, digests[0]).exists()
    assert not map_path(tmp_path, digests[0]).exists()
    assert not (tmp_path / "0.part").exists()
    assert (tmp_path / "notes.txt").exists()


def test_a_disk_that_fills_sheds_evidence_then_keeps_none(tmp_path, monkeypatch):
    size = len(encode_png(picture(0)))
    store = EvidenceStore(tmp_path, MB, 10 * size)
    for seed in range(4):
        put(store, seed)

    class Disk:
        f_frsize = 1

        @property
        def f_bavail(self):
            return 13 * size - store.bytes  # a neighbour leaves so much; what we remove comes free

    monkeypatch.setattr("edge.journal.evidence.os.statvfs", lambda _: Disk())
    put(store, 9)
    assert store.bytes <= 3 * size
    monkeypatch.setattr(Disk, "f_bavail", 0)
    assert not store.put(pixels_hash(picture(5)), picture(5), None)
    assert (len(store), list(tmp_path.iterdir())) == (0, [])


def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    store = EvidenceStore(tmp_path, MB, 0)

    def refuse(self, target):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(type(tmp_path), "replace", refuse)
    with pytest.raises(EvidenceError, match="cannot write evidence"):
        store.put(pixels_hash(picture(1)), picture(1), None)
    assert (store.bytes, list(tmp_path.iterdir())) == (0, [])


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EvidenceError, match=r"set evidence\.path"):
        EvidenceStore(tmp_path / "file" / "e", MB, 0)


def test_evidence_that_is_lost_warns_and_does_not_disarm(tmp_path):
    station = Station(HandClock())
    recorder = Recorder(EvidenceStore(tmp_path, 10, 0), station, 1)
    recorder.step(pixels_hash(picture(1)), picture(1), None)
    (condition,) = (one for one in station.snapshot().conditions if one.code == "evidence")
    assert condition.severity == "warning"
    assert recorder.lost == 1
    assert WAITING == 4


def kept_while_it_runs(recorder, *parts):
    """The recorder's thread with these parts to write."""
    finish = threading.Event()
    thread = threading.Thread(target=recorder.run, args=(finish,))
    thread.start()
    for verdict, one in parts:
        recorder.keep(verdict, one)
    until(lambda: recorder.kept + recorder.lost >= len(parts))
    finish.set()
    thread.join(5)


def test_each_kept_part_is_told_on_its_topic_by_hash_and_never_as_a_picture(tmp_path):
    names, rest = Topics("plant", "hall", "line3", "st2"), RecordingConnection()
    recorder = Recorder(EvidenceStore(tmp_path, MB, 0), Station(HandClock()), 1)
    recorder.on_kept = evidence_teller(names, rest, tmp_path)
    parts = [outcome(1, judgement("reject", 1.7, "logical"), part_id="SN-1"), outcome(2, reason="frozen")]
    made = [compose(one, WHO, moment()) for one in parts]
    made = [structs.replace(verdict, ev=recorder.reference(verdict, one)) for verdict, one in zip(made, parts, strict=True)]
    kept_while_it_runs(recorder, *zip(made, parts, strict=True))
    assert {one.topic for one in rest.sent} == {"onbelt/v1/plant/hall/line3/st2/evidence"}
    told = [wire.EVIDENCE.decode(one.payload) for one in rest.sent]
    assert [(one.seq, one.part, one.verdict, one.map) for one in told] == [
        (1, "SN-1", "reject", True),
        (2, "1002", "invalid", False),
    ]
    for one, verdict in zip(told, made, strict=True):
        assert verdict.ev is not None
        assert (one.boot, one.sha256, one.url) == (verdict.boot, verdict.ev.sha256, verdict.ev.url)
        assert one.size == frame_path(tmp_path, one.sha256).stat().st_size


def test_what_could_not_be_kept_is_not_told(tmp_path):
    rest = RecordingConnection()
    recorder = Recorder(EvidenceStore(tmp_path, 10, 0), Station(HandClock()), 1)
    recorder.on_kept = evidence_teller(Topics("plant", "hall", "line3", "st2"), rest, tmp_path)
    part = outcome(1, reason="frozen")
    verdict = compose(part, WHO, moment())
    kept_while_it_runs(recorder, (structs.replace(verdict, ev=recorder.reference(verdict, part)), part))
    assert recorder.lost == 1
    assert rest.sent == []
