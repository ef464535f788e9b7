"""The daemon's stages one by one: whatever goes wrong in one becomes an `invalid` with its reason, and an alarm."""

import threading

import pytest

from edge.bundle.reader import open_bundle
from edge.camera.folder import FolderCamera
from edge.daemon.stages.figures import Facts, Figures
from edge.daemon.stages.inference import FAULT_AFTER, Inference
from edge.daemon.stages.intake import Intake
from edge.daemon.stages.ledger import Answers, Ledger
from edge.daemon.stages.parts import NS_PER_MS, Outcome, Shot, Ticket
from edge.daemon.stages.selfcheck import SelfCheck
from edge.daemon.state.phase import Phase, Station
from edge.daemon.watch import Watch
from edge.errors import CameraError, EngineError
from edge.judge import Judge
from edge.queues import Backlog, Newest
from tests.support.bundles import bad_frame, good_frame, make_tiny_bundle, png
from tests.support.stages import make_capture
from tests.support.station import HandClock, NumpyEngine, ScriptedCamera, frame, ticket


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    path, trust, _ = make_tiny_bundle(tmp_path_factory.mktemp("bundle"))
    return open_bundle(path, trust)


class Cell:
    """Camera and engine stages around fakes, without threads."""

    def __init__(self, bundle, script=(), **engine):
        self.clock = HandClock()
        self.station = Station(self.clock)
        self.ledger = Ledger()
        self.outbox = Backlog[Outcome](64)
        self.shots = Newest[Shot](1)
        self.camera = ScriptedCamera(script)
        answers = Answers(self.ledger, self.outbox, self.clock)
        self.capture = make_capture(self.camera, self.clock, self.station, answers, shots=self.shots)
        self.engine = NumpyEngine(self.clock, **engine)
        self.built = 0
        self.unbuildable: EngineError | None = None
        self.facts = Facts()
        self.inference = Inference(
            bundle,
            self.build,
            Judge(bundle.manifest),
            self.shots,
            answers,
            self.ledger,
            self.station,
            self.clock,
            self.facts,
            budget_ms=1000.0,
            check_valid_ms=100_000.0,
            keep_warm_s=1.0,
            stuck_ms=5000.0,
        )
        self.stop = threading.Event()

    def build(self):
        self.built += 1
        if self.unbuildable is not None:
            raise self.unbuildable
        return self.engine

    def ticket(self):
        return self.ledger.open(lambda seq: ticket(seq, self.clock.now_ns))

    def grab(self):
        self.clock.forward(33)
        return self.capture.step(self.ticket())

    def ready(self):
        self.inference._prepare(self.stop)
        assert self.station.armed
        return self

    def pause(self, ms=1000, *, idle=True):
        self.clock.forward(ms)
        self.inference._pause(idle=idle, stop=self.stop)

    def judge(self, pixels=None, **options):
        return self.inference.step(Shot(self.ticket(), frame(1, self.clock.now_ns, pixels=pixels, **options)))


def fresh(number, **options):
    return lambda trigger: frame(number, trigger.mono_ns, **options)


# --- capture ------------------------------------------------------------------------------------------------------------


def test_a_good_frame_becomes_a_shot(bundle):
    cell = Cell(bundle, [fresh(1)])
    shot = cell.grab()
    assert isinstance(shot, Shot)
    assert cell.capture.state == "online"


@pytest.mark.parametrize(
    ("entry", "reason", "state"),
    [
        (CameraError("cable pulled"), "camera", "offline"),
        (fresh(1, seed=9), "frozen", "frozen"),
        (fresh(2, seed=1), "frozen", "frozen"),
        (fresh(2, complete=False), "incomplete", "degraded"),
        (lambda trigger: frame(2, trigger.mono_ns - 50 * NS_PER_MS), "stale", "degraded"),
    ],
)
def test_a_bad_frame_is_an_invalid_with_its_reason(bundle, entry, reason, state):
    cell = Cell(bundle, [fresh(1), entry])
    cell.grab()
    outcome = cell.grab()
    assert isinstance(outcome, Outcome)
    assert outcome.reason == reason
    assert cell.capture.state == state
    assert [one.severity for one in cell.station.snapshot().conditions] == ["warning"]


def test_three_bad_frames_are_a_fault_and_three_good_ones_mend_it(bundle):
    cell = Cell(bundle, [CameraError("gone")] * 4 + [fresh(n) for n in range(4)])
    severities = []
    for _ in range(8):
        cell.grab()
        severities.append([one.severity for one in cell.station.snapshot().conditions])
    assert severities == [["warning"], ["warning"], ["fault"], ["fault"], ["fault"], ["fault"], [], []]
    assert cell.capture.state == "online"


def test_a_dead_camera_is_opened_again_once_a_second(bundle):
    cell = Cell(bundle, [CameraError("gone")] * 100)
    for _ in range(60):  # two seconds at 30 parts/s
        cell.grab()
    assert 2 <= cell.camera.opened <= 3
    assert cell.camera.closed == cell.camera.opened


def test_a_part_whose_time_is_up_is_not_photographed(bundle):
    cell = Cell(bundle, [fresh(1)])
    late = cell.ticket()
    cell.clock.forward(360)
    assert cell.capture.step(late) == Outcome(late, "late", done_ns=cell.clock.now_ns)
    assert len(cell.camera.script) == 1


# --- inference ----------------------------------------------------------------------------------------------------------


def test_start_replays_golden_frames_measures_and_arms(bundle):
    cell = Cell(bundle).ready()
    assert cell.station.phase is Phase.RUNNING
    assert cell.engine.calls == 3 + 5 + 20
    assert cell.facts.engine == "numpy"
    assert cell.facts.infer_p99_ms is not None
    assert cell.station.snapshot().check.frames == 3


def test_good_and_bad_parts(bundle):
    cell = Cell(bundle).ready()
    good = cell.judge(good_frame(seed=3))
    assert (good.reason, good.judgement.verdict) == ("", "pass")
    assert good.infer_ms == pytest.approx(5.0)
    bad = cell.judge(bad_frame("logical"))
    assert (bad.judgement.verdict, bad.judgement.cause) == ("reject", "logical")
    assert bad.size_px == (64, 64)


def test_a_larger_frame_is_fitted(bundle):
    assert Cell(bundle).ready().judge(good_frame(200)).judgement.verdict == "pass"


def test_an_unfit_frame_is_invalid_and_not_an_engine_fault(bundle):
    cell = Cell(bundle).ready()
    assert cell.judge(good_frame()[:8]).reason == "frame-unfit"
    assert [one.code for one in cell.station.snapshot().conditions] == ["frame-unfit"]
    cell.judge(good_frame())
    assert cell.station.snapshot().conditions == ()


def test_a_part_answered_meanwhile_costs_no_engine_time(bundle):
    cell = Cell(bundle).ready()
    part = cell.ticket()
    cell.ledger.claim(part.seq)
    calls = cell.engine.calls
    assert cell.inference.step(Shot(part, frame(1))) is None
    assert cell.engine.calls == calls
    assert cell.inference.skipped == 1


def test_engine_errors_are_invalid_then_a_fault_then_a_new_engine(bundle):
    cell = Cell(bundle).ready()
    cell.engine.fail_with = EngineError("device lost")
    for number in range(FAULT_AFTER):
        assert cell.judge().reason == "engine"
        assert cell.station.phase is (Phase.FAULT if number == FAULT_AFTER - 1 else Phase.DEGRADED)
    cell.engine.fail_with = None
    cell.pause(5000)
    assert cell.built == 2
    assert cell.engine.closed == 1
    assert cell.station.phase is Phase.RUNNING


def test_an_engine_that_cannot_be_built_is_a_fault_and_tried_again_less_and_less_often(bundle):
    cell = Cell(bundle)
    cell.unbuildable = EngineError("no library")
    cell.inference._prepare(cell.stop)
    assert cell.station.phase is Phase.FAULT
    assert cell.judge().reason == "engine"
    tries = []
    for second in range(60):
        before = cell.built
        cell.pause(1000)
        tries += [second] * (cell.built - before)
    assert len(tries) < 8
    cell.unbuildable = None
    cell.pause(60_000)
    assert cell.station.armed


def test_wrong_golden_scores_never_arm(bundle):
    cell = Cell(bundle)
    cell.engine.offset = 0.01
    cell.inference._prepare(cell.stop)
    assert cell.station.phase is Phase.FAULT
    assert not cell.station.armed
    (condition,) = cell.station.snapshot().conditions
    assert condition.code == "golden"
    assert "expected raw" in condition.text


def test_scores_that_go_wrong_in_service_disarm_in_the_next_pause(bundle):
    cell = Cell(bundle).ready()
    cell.engine.offset = 0.01
    cell.pause()
    assert cell.station.snapshot().armed is False
    assert cell.station.snapshot().check is None
    cell.engine.offset = 0.0
    cell.pause(5000)
    assert cell.station.armed, "proved from the beginning again"


def test_a_golden_frame_that_gives_no_scores_disarms_and_earns_no_token(bundle):
    cell = Cell(bundle).ready()
    proof = cell.station.snapshot().check
    cell.engine.fail_with = EngineError("device lost")
    cell.pause()
    cell.engine.fail_with = None
    assert cell.station.snapshot().armed is False
    assert cell.station.snapshot().check is None
    assert {"golden", "engine"} == {condition.code for condition in cell.station.snapshot().conditions}
    assert cell.judge().reason == ""  # good parts between do not hide it
    assert cell.station.snapshot().armed is False
    cell.pause(5000)
    assert cell.station.armed, "proved from the beginning again"
    assert cell.station.snapshot().check != proof


def test_a_token_needs_every_golden_frame_in_a_row(bundle):
    clock = HandClock()
    engine = NumpyEngine(clock)
    selfcheck = SelfCheck(bundle, engine, clock)
    for number in range(3 * len(bundle.golden)):
        engine.fail_with = EngineError("device lost") if number % len(bundle.golden) == 1 else None
        if engine.fail_with is None:
            assert selfcheck.one().holds
        else:
            with pytest.raises(EngineError):
                selfcheck.one()
        assert not selfcheck.complete


def test_an_engine_slower_than_its_budget_never_arms(bundle, monkeypatch):
    cell = Cell(bundle)
    cell.inference._budget_ms = 0.0001
    cell.inference._prepare(cell.stop)
    assert not cell.station.armed
    assert [one.code for one in cell.station.snapshot().conditions] == ["budget"]
    cell.inference._budget_ms = 1000.0
    cell.pause(5000)
    assert cell.station.armed
    assert cell.station.snapshot().conditions == ()


def test_pauses_keep_warm_with_golden_frames_and_renew_the_token_from_half_its_life(bundle):
    cell = Cell(bundle).ready()
    first = cell.station.snapshot().check.token
    calls = cell.engine.calls
    for _ in range(10):
        cell.pause(1000)
    assert cell.engine.calls == calls + 10
    assert cell.station.snapshot().check.token == first
    cell.pause(41_000)
    for _ in range(3):
        cell.pause(1000)
    assert cell.station.snapshot().check.token != first
    assert cell.station.check_left_ms() > 90_000


def test_a_busy_line_without_pauses_renews_between_parts_when_it_must(bundle):
    cell = Cell(bundle).ready()
    first = cell.station.snapshot().check.token
    for _ in range(89):
        cell.pause(1000, idle=False)
    assert cell.station.snapshot().check.token == first
    for _ in range(8):
        cell.pause(1000, idle=False)
    assert cell.station.snapshot().check.token != first
    assert cell.station.armed


def test_a_clock_step_asks_for_a_new_check_at_once(bundle):
    cell = Cell(bundle).ready()
    first = cell.station.snapshot().check.token
    cell.clock.stepped_us += 5_000_000
    cell.inference.recheck.set()
    for _ in range(3):
        cell.pause(10, idle=False)
    assert cell.station.snapshot().check.token != first
    assert not cell.inference.recheck.is_set()


# --- watch --------------------------------------------------------------------------------------------------------------


class Silent:
    name = "silent"
    refused = 0


def test_watch_warns_of_what_nobody_sees_part_by_part(bundle):
    cell, figures, trigger = Cell(bundle).ready(), Figures(), Silent()
    intake = Intake(
        cell.ledger, cell.inference._answers, Newest[Ticket](2), cell.clock, valid_ms=400, give_up_ms=360, shared_clock=True
    )
    watch = Watch(cell.station, intake, trigger, cell.capture, figures, cell.clock, budget_ms=10.0)  # type: ignore[arg-type]
    codes = lambda: [one.code for one in cell.station.snapshot().conditions]  # noqa: E731
    watch.look()
    assert codes() == []
    intake.counts.missed += 1
    cell.capture.displaced += 1
    watch.look()
    assert codes() == ["trigger", "overrun"]
    for _ in range(199):
        figures.infer_ms.add(50.0)
    watch.look()
    assert "slow" not in codes(), "too few to say"
    figures.infer_ms.add(50.0)
    cell.clock.forward(20_000)
    trigger.refused += 1
    watch.look()
    assert codes() == ["trigger", "overrun", "slow"]
    assert cell.station.armed, "warnings all"
    cell.clock.forward(15_000)
    watch.look()
    assert codes() == ["trigger", "slow"]
    for _ in range(4096):
        figures.infer_ms.add(5.0)
    cell.clock.forward(20_000)
    watch.look()
    assert codes() == []


# --- folder camera --------------------------------------------------------------------------------------------------------


def test_folder_camera_gives_pictures_in_order_and_loops(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(png(good_frame(seed=number)))
    (tmp_path / "notes.txt").write_text("no picture")
    with FolderCamera(tmp_path) as camera:
        camera.start()
        frames = [camera.grab(ticket().trigger, 1.0) for _ in range(4)]
    assert [one.frame_id for one in frames] == [1, 2, 3, 4]
    assert (frames[3].pixels == good_frame(seed=0)).all()
    assert not frames[0].pixels.flags.writeable


def test_folder_camera_says_what_is_missing(tmp_path):
    with pytest.raises(CameraError, match="expected a folder"):
        FolderCamera(tmp_path / "none").start()
    with pytest.raises(CameraError, match="found none"):
        FolderCamera(tmp_path).start()
    (tmp_path / "1.png").write_bytes(b"no png")
    camera = FolderCamera(tmp_path, loop=False)
    with pytest.raises(CameraError, match="not started"):
        camera.grab(ticket().trigger, 1.0)
    camera.start()
    with pytest.raises(CameraError, match="not a readable picture"):
        camera.grab(ticket().trigger, 1.0)
    with pytest.raises(CameraError, match="used up"):
        camera.grab(ticket().trigger, 1.0)
    camera.interrupt()
    with pytest.raises(CameraError, match="interrupted"):
        camera.grab(ticket().trigger, 1.0)
