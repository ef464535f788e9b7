"""Rows of trainings that go on where they stopped, and the tables made of them."""

import json
from pathlib import Path

from benchmarks import detectors, lgfdr, lgfdr_latency
from benchmarks.resumable import made_when, run_missing


def rows_of(asked, image):
    def run(data, what, seed, rows):
        asked.append((data.name, what, seed))
        return [{"data": data.name, "method": what, "size": 128, "seed": seed, "image": image}]

    return run


def test_what_is_in_the_file_is_not_run_again_and_other_sides_are(tmp_path):
    asked: list[tuple[str, str, int]] = []
    results = tmp_path / "rows.jsonl"
    wanted = [(Path("data/nut"), "first", 0), (Path("data/nut"), "first", 1)]
    assert len(run_missing(results, wanted[:1], "method", rows_of(asked, 0.912345678), 128)) == 1
    assert len(run_missing(results, wanted, "method", rows_of(asked, 0.5), 128)) == 2
    assert asked == [("nut", "first", 0), ("nut", "first", 1)]
    run_missing(results, wanted, "method", rows_of(asked, 0.5), 256)
    assert len(asked) == 4
    written = [json.loads(line) for line in results.read_text().splitlines()]
    assert [row["image"] for row in written] == [0.91235, 0.5, 0.5, 0.5]
    assert made_when(written).startswith(written[0]["date"])
    assert written[0]["machine"] in made_when(written)


def test_days_and_machines_are_told_once_each():
    rows = [{"date": day, "machine": machine} for day, machine in (("2026-01-03", "B"), ("2026-01-01", "A"), ("2026-01-01", "B"))]
    assert made_when(rows) == "2026-01-01 to 2026-01-03, A; B"


def test_the_detectors_table_keeps_sides_apart_and_tells_the_spread_over_seeds():
    plain = {"data": "nut", "method": "lgfdr", "steps": 600, "wall_s": 120}
    rows = [{**plain, "size": size, "image": image} for size, image in ((128, 0.9), (128, 0.94), (192, 0.95))]
    _, _, small, large = detectors.table(rows).splitlines()
    assert small.startswith("| nut | lgfdr | 128 | 2 | 0.920 ±0.020 | - |")
    assert large.startswith("|  | lgfdr | 192 | 1 | 0.950 | - |")
    assert large.endswith("| 600 | 2 min |")


def test_the_variants_table_has_a_line_a_variant_and_side():
    plain = dict.fromkeys(lgfdr.COLUMNS)
    rows = [
        {**plain, "data": "nut", "variant": variant, "size": size, "image": image}
        for variant, size, image in (("full", 128, 0.9), ("full", 256, 0.96), ("SE gate", 128, 0.8))
    ]
    lines = lgfdr.table(rows, {("full", 128): 13.04}).splitlines()
    assert lines[0] == "### nut"
    assert lines[4:7] == [
        "| full | 128 | 1 | 0.900 | 13.0 |",
        "| full | 256 | 1 | 0.960 | - |",
        "| SE gate | 128 | 1 | 0.800 | - |",
    ]


def test_the_committed_rows_can_be_read():
    for path, label in (
        (detectors.DOCS / "bench" / "detectors.jsonl", "method"),
        (lgfdr.DOCS / "bench" / "lgfdr.jsonl", "variant"),
    ):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        keys = [(row["data"], row[label], row["size"], row["seed"]) for row in rows]
        assert len(keys) == len(set(keys)) > 0
        assert made_when(rows)


def test_rows_of_another_setting_have_a_label_and_are_trained_beside_the_plain_ones(tmp_path, monkeypatch):
    asked = []

    def run_detector(args, data, model, seed):
        asked.append((model, args.label, args.knob))
        return [
            {
                "data": data.name,
                "method": f"{model}, {args.label}",
                "size": 128,
                "seed": seed,
                "image": 0.9,
                "steps": 4,
                "wall_s": 0,
            }
        ]

    monkeypatch.setattr(detectors, "run_detector", run_detector)
    monkeypatch.setattr(detectors, "run_baselines", lambda data, size: [])
    words = [
        "nut",
        "--out",
        str(tmp_path),
        "--results",
        str(tmp_path / "rows.jsonl"),
        "--detectors",
        "efficientad-s",
        "--seeds",
        "0",
    ]
    labelled = [*words, "--label", "few parts as they are", "--knob", "least_parts=0"]
    for _ in range(2):
        assert detectors.main(labelled) == 0
    assert asked == [("efficientad-s", "few parts as they are", ["least_parts=0"])]


def test_variants_of_the_training_alone_share_the_whole_detectors_milliseconds(tmp_path, monkeypatch):
    timed = lgfdr_latency.configurations(128)
    assert {"full", "local only", "SE gate", "without the discriminator", "one cell of each map"} <= timed.keys()
    assert not {"no noise", "noise 3", "no cosine", "AdamW alone", "336 parts at least"} & timed.keys()
    file = tmp_path / "ms.json"
    told = {"date": "2026-01-01", "machine": "M", "backend": "openvino", "threads": 1, "size": 128, "frames": 8}
    file.write_text(json.dumps({**told, "ms": {"full": 10.0, "local only": 7.0, "efficientad-s": 20.0}}))
    monkeypatch.setattr(lgfdr, "LATENCY", file)
    found, said = lgfdr.latencies()
    assert (found["local only", 128], found["no noise", 128]) == (7.0, 10.0)
    assert "M, medians of 8 frames" in said
    assert said.endswith("beside them efficientad-s 20.0.")
