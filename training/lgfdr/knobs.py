"""Every number and switch of an LGFDR run, stored with the run as its recipe."""

from __future__ import annotations

import msgspec

from training.knobs import refuse_unless
from training.lgfdr.plans import plan_named

TOWERS = ("both", "local", "global")
GATES = ("srh", "mean", "se", "eca", "simam")
"""How two reconstructions become one: the selective head, their mean, or a plain attention gate on their sum."""
MAPS = ("discriminator", "fused", "towers")
WEIGHED_ERRORS = ("square", "root")
NEW_WEIGHED_ERROR = "root"
"""What a discriminator weighs. Of new runs the second: on the same networks it has 0 to 3 points more of pixel AP than the first
on three sets, 2 less on a fourth, whose masks are boxes (docs/lgfdr.md)."""
NEW_LOUDEST_ST, NEW_LOUDEST_AE = 2, 8
"""Cells whose mean is a map's score, of new runs. Over eight sets and three seeds 2 and 8 instead of 1 and 1 change the image
AUROC by -.1 points on commutator and by 0 to +1.5 on the others; of 150 logical and 150 structural defects of the harness 33 and
25 more are found at the limit (`docs/adr/0017-the-loudest-cells-not-the-loudest.md`)."""
TOKENS = 8
"""A side of the picture in tokens. At 192 px 12 a side left more (.52 of the tray's features; 8 a side .48)."""
MOST_LOUDEST = 64
MUON_RATE = 0.01
"""Of new runs (`docs/adr/0015-the-global-tower-learns-by-muon.md`)."""


class LgfdrKnobs(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="lgfdr", tag_field="recipe"):
    """The detector's switches and its recipe.

    Attributes:
        backbone: Name of the pretrained features; see `training.lgfdr.plans`.
        towers: "both", "local" or "global".
        gate: One of `GATES`; without both towers nothing is fused.
        maps: What map_st shows: "fused" the error of the fused reconstruction (the paper's score), "discriminator" the same
            weighed by how much it looks like damage (`training.lgfdr.discriminator`), "towers" the error of the local tower.
            map_ae always shows the error of the global tower.
        weighed_error: What the discriminator weighs: "square" the mean square, smoothed by `smooth_cells`, "root" the root of the
            mean square, each cell's own. Runs that do not name it were fitted with the square; new ones get the root.
        pooled_head: Whether the pooled features' distance (PUAD's head, as in the other detectors) counts in the score: off,
            since it lowered the tray's AUROC from .987 to .979 (logical) and from .920 to .896 (structural).
        local_width: Channels of the local tower's bottleneck.
        local_depth: 3 x 3 convolutions in it.
        token_width: Channels of a token of the global tower.
        token_layers: Transformer layers.
        token_heads: Heads of their attention.
        token_cells: Side of the square of feature cells that becomes one token; it divides size / 4. New runs get an eighth of
            that, so that a picture of any side is `TOKENS` tokens a side.
        token_blind: How far around itself, in tokens, a token is not shown what it is to rebuild: 0 its own cells only, -1
            nothing is hidden (plain self-attention).
        smooth_cells: Side of the mean filter over the cells of mean squares, odd; 1 leaves them as they are.
        loudest_st: st is the mean of so many cells of map_st, the loudest; 1 is the map's maximum.
        loudest_ae: The same of map_ae, whose cells of one token are odd together. Runs that name neither take both maxima; new
            ones get `NEW_LOUDEST_ST` and `NEW_LOUDEST_AE`.
        noise: Alpha: the feature noise's deviation is alpha |f| / C at a cell with features f; 0 adds none.
        least_parts: Parts to learn from, at least: fewer are shown again, a little moved and under other light
            (`training.few_parts`). Runs that do not name it learnt from their parts as they are; new ones get `ENOUGH_PARTS`.
        damage_share: Part of the pictures whose features are those of a painted part, while the target stays that of the
            part itself; 0 never.
        damage_versions: Painted versions of each picture with stored features; the last pictures have fewer where `store_mib`
            does not hold all.
        damage_pictures: Painted pictures in all, at least: few parts have more versions each.
        cosine: Weight of 1 - cosine beside the mean square.
        steps: Steps of the towers.
        batch: Pictures a step.
        rate: Peak learning rate of AdamW on the towers.
        muon_rate: Peak length of Muon's steps (`training.muon`) on the global tower's hidden matrices, as a share of their norm;
            0 leaves them to AdamW. Runs that do not name it were trained so; new ones get `MUON_RATE`.
        discriminator_steps: Steps of the discriminator after them; three quarters of its pictures are painted.
        discriminator_width: Its hidden channels.
        discriminator_rate: Peak learning rate of AdamW on it.
        discriminator_decay: AdamW's weight decay on it.
        weight_decay: AdamW's.
        warmup: Part of the steps over which the rate grows.
        final_rate: What the cosine ends at, as a part of the peak.
        mean_decay: Decay a step of the exponential mean of the weights.
        clip_norm: Largest norm of a gradient.
        store_mib: Most memory for stored features; those of the unpainted pictures are stored in any case.
    """

    backbone: str = "efficientnet-lite2"
    towers: str = "both"
    gate: str = "srh"
    maps: str = "discriminator"
    weighed_error: str = "square"
    pooled_head: bool = False
    local_width: int = 96
    local_depth: int = 2
    token_width: int = 192
    token_layers: int = 2
    token_heads: int = 4
    token_cells: int = 4
    token_blind: int = 1
    smooth_cells: int = 3
    loudest_st: int = 1
    loudest_ae: int = 1
    noise: float = 12.0
    least_parts: int = 0
    damage_share: float = 0.5
    damage_versions: int = 2
    damage_pictures: int = 1200
    cosine: float = 1.0
    steps: int = 600
    batch: int = 8
    rate: float = 2e-3
    muon_rate: float = 0.0
    weight_decay: float = 1e-4
    discriminator_steps: int = 800
    discriminator_width: int = 64
    discriminator_rate: float = 3e-3
    discriminator_decay: float = 1e-2
    warmup: float = 0.05
    final_rate: float = 0.01
    mean_decay: float = 0.99
    clip_norm: float = 1.0
    store_mib: int = 2048

    @property
    def has_local(self) -> bool:
        """Whether there is a local tower."""
        return self.towers != "global"

    @property
    def has_global(self) -> bool:
        """Whether there is a global tower."""
        return self.towers != "local"

    @property
    def has_gate(self) -> bool:
        """Whether two reconstructions are fused by something that is learnt or computed."""
        return self.towers == "both" and self.gate != "mean"

    @property
    def has_discriminator(self) -> bool:
        """Whether a discriminator weighs map_st."""
        return self.maps == "discriminator"

    @property
    def has_structural(self) -> bool:
        """Whether there is a map_st: without a local tower only with a discriminator."""
        return self.has_local or self.has_discriminator

    @property
    def paints(self) -> bool:
        """Whether anything learns from painted damage."""
        return self.damage_share > 0 or self.has_discriminator

    @property
    def all_steps(self) -> int:
        """Steps of the towers, and of the discriminator where there is one."""
        return self.steps + (self.discriminator_steps if self.has_discriminator else 0)


def check_knobs(knobs: LgfdrKnobs, size: int) -> LgfdrKnobs:
    """Refuses what cannot be built or trained.

    Args:
        knobs: As asked for.
        size: Side of the picture in pixels.

    Raises:
        RecipeError: The first value that is out of its range, with what was expected.
        BackboneError: Nothing is known by the backbone's name.
    """
    plan_named(knobs.backbone)
    grid = size // 4
    rules = (
        (knobs.towers in TOWERS, "towers", f"one of {', '.join(TOWERS)}"),
        (knobs.gate in GATES, "gate", f"one of {', '.join(GATES)}"),
        (
            knobs.towers == "both" or knobs.gate == GATES[0],
            "gate", f"none with one tower alone (towers={knobs.towers}), where nothing is fused",
        ),
        (knobs.maps in MAPS, "maps", f"one of {', '.join(MAPS)}"),
        (knobs.weighed_error in WEIGHED_ERRORS, "weighed_error", f"one of {', '.join(WEIGHED_ERRORS)}"),
        (1 <= knobs.local_width <= 1024, "local_width", "from 1 to 1024"),
        (1 <= knobs.local_depth <= 8, "local_depth", "from 1 to 8"),
        (1 <= knobs.token_layers <= 8, "token_layers", "from 1 to 8"),
        (knobs.token_heads >= 1, "token_heads", "at least 1"),
        (
            1 <= knobs.token_width <= 1024 and knobs.token_width % max(1, knobs.token_heads) == 0,
            "token_width", f"from 1 to 1024, a multiple of token_heads ({knobs.token_heads})",
        ),
        (2 <= knobs.token_cells <= grid // 2 and grid % knobs.token_cells == 0, "token_cells", f"a divisor of {grid}, 2 or more"),
        (
            knobs.token_cells < 1 or -1 <= knobs.token_blind <= grid // knobs.token_cells // 2 - 1,
            "token_blind", "from -1 to less than half the tokens a side",
        ),
        (1 <= knobs.smooth_cells <= 9 and knobs.smooth_cells % 2 == 1, "smooth_cells", "odd, from 1 to 9"),
        (1 <= knobs.loudest_st <= MOST_LOUDEST, "loudest_st", f"from 1 to {MOST_LOUDEST}"),
        (1 <= knobs.loudest_ae <= MOST_LOUDEST, "loudest_ae", f"from 1 to {MOST_LOUDEST}"),
        (0 <= knobs.noise <= 1000, "noise", "from 0 to 1000"),
        (0 <= knobs.least_parts <= 10_000, "least_parts", "from 0 to 10,000"),
        (0 <= knobs.damage_share <= 1, "damage_share", "from 0 to 1"),
        (0 <= knobs.damage_versions <= 64, "damage_versions", "from 0 to 64"),
        (0 <= knobs.damage_pictures <= 100_000, "damage_pictures", "from 0 to 100,000"),
        (
            not knobs.has_discriminator or knobs.damage_versions + knobs.damage_pictures > 0,
            "damage_versions", "at least 1, or damage_pictures, for the discriminator to learn from (or maps=fused)",
        ),
        (knobs.cosine >= 0, "cosine", "at least 0"),
        (knobs.weight_decay >= 0, "weight_decay", "at least 0"),
        (knobs.clip_norm > 0, "clip_norm", "above 0"),
        (knobs.store_mib >= 1, "store_mib", "at least 1"),
        (knobs.steps >= 1, "steps", "at least 1"),
        (knobs.batch >= 1, "batch", "at least 1"),
        (knobs.rate > 0, "rate", "above 0"),
        (0 <= knobs.muon_rate <= 1, "muon_rate", "from 0 to 1"),
        (knobs.discriminator_steps >= 1, "discriminator_steps", "at least 1 (maps=fused does without)"),
        (1 <= knobs.discriminator_width <= 1024, "discriminator_width", "from 1 to 1024"),
        (knobs.discriminator_rate > 0, "discriminator_rate", "above 0"),
        (knobs.discriminator_decay >= 0, "discriminator_decay", "at least 0"),
        (0 <= knobs.warmup <= 1 and 0 <= knobs.final_rate <= 1, "warmup and final_rate", "each from 0 to 1"),
        (0 <= knobs.mean_decay < 1, "mean_decay", "from 0 to below 1"),
    )  # fmt: skip
    refuse_unless(knobs, rules)
    return knobs
