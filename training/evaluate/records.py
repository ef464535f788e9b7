"""The figures as plain records, under the names the command line promises."""

from typing import Any

from training.evaluate.figures import LIMITS, Evaluation, Figures


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """The figures under the names the command line promises; numbers, strings, lists and None only."""
    first = evaluation.all
    return {
        "model": evaluation.model,
        "engine": evaluation.engine,
        "data": evaluation.data,
        "data_sha256": evaluation.data_sha256,
        "images": len(evaluation.judged),
        "good": evaluation.good,
        **_figures_json(first),
        "image_auroc_mean": evaluation.mean_auroc,
        "baseline_image_auroc": evaluation.baseline_auroc,
        "untrained_image_auroc": evaluation.untrained,
        "by_type": {name: _figures_json(figures) for name, figures in evaluation.by_type.items()},
        "by_defect": {name: _figures_json(figures) for name, figures in evaluation.by_defect.items()},
        "limit": {
            "raw": evaluation.limit.raw,
            "kind": evaluation.limit.kind,
            "n": evaluation.limit.n,
            "false_reject": evaluation.limit.false_reject,
            "confidence": evaluation.limit.confidence,
        },
        "false_rejects": evaluation.false_rejects,
        "false_reject_rate": evaluation.false_reject_rate,
        "false_reject_interval": list(evaluation.false_reject_interval),
        "cause": None
        if evaluation.causes is None
        else {"n": evaluation.causes.n, "accuracy": evaluation.causes.accuracy, "table": evaluation.causes.table},
        "seconds_per_picture": evaluation.seconds,
        "leaked": [str(item.path) for item in evaluation.leaked],
        "provenance": evaluation.provenance,
        "warnings": list(evaluation.warnings),
    }


def pictures_json(evaluation: Evaluation) -> list[dict[str, Any]]:
    """One row a picture, in the order judged: what spreadsheets and second opinions start from."""
    return [
        {
            "picture": str(one.item.path),
            "type": one.item.type,
            "verdict": one.judgement.verdict,
            "score": one.judgement.cal,
            "p": one.judgement.p,
            "st": one.judgement.st,
            "ae": one.judgement.ae,
            "global": one.judgement.global_,
            "cause": one.judgement.cause,
        }
        for one in evaluation.judged
    ]


def _figures_json(figures: Figures) -> dict[str, Any]:
    pixels = figures.pixels
    return {
        "bad": figures.bad,
        "image_auroc": figures.auroc,
        "image_auroc_interval": None if figures.interval is None else list(figures.interval),
        "branches": figures.branches,
        "missed": figures.missed,
        "miss_rate": figures.miss_rate,
        "miss_interval": list(figures.miss_interval),
        "pixel_images": 0 if pixels is None else pixels.pictures,
        "pixel_auroc": None if pixels is None else pixels.auroc,
        "pixel_ap": None if pixels is None else pixels.ap,
        **{f"au_pro_{limit:g}": None if pixels is None else pixels.au_pro[limit] for limit in LIMITS},
        **{f"au_spro_{limit:g}": None if pixels is None else pixels.au_spro[limit] for limit in LIMITS},
    }
