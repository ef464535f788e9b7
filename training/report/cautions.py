"""What weakens the figures of an evaluation, said before they are."""

from training.evaluate import Evaluation

_NEAR_BASELINE = 0.02  # of AUROC: below this a model adds nothing to averages of colour that few parts could show


def cautions(evaluation: Evaluation) -> list[tuple[str, str]]:
    """What a reader must know before believing the figures: heading and sentence."""
    found = []
    if evaluation.leaked:
        found.append(
            (
                "The model has seen some of these pictures.",
                f"Also among the training or validation pictures: {len(evaluation.leaked)} of {len(evaluation.judged)} test "
                f"pictures, such as {evaluation.leaked[0].path.name}; the figures flatter the model.",
            )
        )
    area, floor = evaluation.all.auroc, evaluation.baseline_auroc
    if area is not None and floor is not None and floor >= area - _NEAR_BASELINE:
        found.append(
            (
                "Averages of colour do as well.",
                f"They reach AUROC {floor:.3f} on these pictures, the model {area:.3f}: either these defects change the part's "
                "overall colour, or good test parts were pictured unlike the training parts.",
            )
        )
    if evaluation.limit.kind != "guarantee":
        found.append(
            (
                "The limit promises nothing.",
                f"It is an {evaluation.limit.kind} from {evaluation.limit.n} good parts; read it as a starting point."
                if evaluation.limit.kind == "estimate"
                else f"For lack of one it is the {evaluation.limit.kind} of {evaluation.limit.n} parts; onbelt export fits one.",
            )
        )
    found += [("The model's own record warns:", warning) for warning in evaluation.warnings]
    return found
