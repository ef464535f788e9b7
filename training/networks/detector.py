"""The float reference of the fused graph: one uint8 frame in, scores and two small maps out.

The exporter fuses exactly this and every engine must give its numbers. The steps, for a frame I:

    T = (teacher(I) - teacher_mean) / teacher_std          S = student(I)          A = autoencoder(I)
    map_st = 0.1 (cell_st(|P_st (T - S[:384])|^2 / 384) - q_a) / (q_b - q_a)  st = max map_st
    map_ae = 0.1 (cell_ae(|P_ae (A - S[384:])|^2 / 384) - q_a) / (q_b - q_a)  ae = max map_ae
    P: the identity, or the directions in which the difference lies on good parts
    cell(m) = (m - cell_mean) / cell_scale, cell by cell: what is usual at this place on good parts
    global = (sqrt((v - mean)^T precision (v - mean)) - head_center) / head_scale,   v = spatial mean of the head's features
    raw = see `Fusion`

Source: EfficientAD (arXiv 2303.14535v3), Algorithm 2 and section 3.4; the global head is PUAD's (ICIP 2024). Our reading
differs from Algorithm 2 in three points. First, each cell is compared with what good parts show at that cell: where a rule leaves
things free (a compartment for spares), the auto-encoder is wrong on every good part, and one threshold for all cells drowns the
rest (measured on a tray at 128 px, 300 training parts, 50 of each kind to test: logical AUROC of map_ae alone .752 without, .960
with). With mean 0 and scale 1 it is the paper's map exactly. Second, the maxima are taken on the n x n map itself. The paper pads
it by four cells, enlarges it to the picture's side and takes the maximum there; a bilinear enlargement never exceeds the largest
cell by anything but the interpolation's loss, so the small map's maximum is the same measure at a fortieth of the memory traffic.
Third, a difference of 384 channels lies in few directions: kept are those that hold most of its square on good parts, and the
convolutions that give the difference shrink with them. Measured on the tray (128 px, 100 parts of each kind), all 384 -> 64 -> 16
directions: structural AUROC of map_st .990 -> .989 -> .989, logical AUROC of map_ae .988 -> .988 -> .986.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import torch
from torch import nn

from training.networks.autoencoder import Autoencoder
from training.networks.pdn import FULL_WIDTH, TEACHER_CHANNELS, Pdn, PdnSize, grid_side
from training.networks.scoring import ScoringNetwork

QUIET_Z = 3.0
"""A branch stays silent up to this z-score. Scales come from the middle of the good parts, whose tails are longer than a normal
law's, so a branch that has nothing to say still reaches 2 or 3 now and then. Measured on the tray's test set: logical AUROC .928
with 0, .941 with 2, .944 with 3, .948 with 6."""

SCALE_AT_QB = 0.1
"""A normalized map is 0 at q_a and this at q_b (paper, section 3.4)."""


class HeadInput(str, enum.Enum):
    """Which features the global head pools."""

    TEACHER = "teacher"
    STUDENT = "student"


@dataclass(frozen=True, slots=True)
class Fusion:
    """How three scores become the one a limit is set on.

    With z_st = (st - st_center) / st_scale and z_ae, z_global (already a z-score) alike:

        raw = st_weight * softplus(z_st - 3) + ae_weight * softplus(z_ae - 3) + global_weight * softplus(z_global - 3)

    Each term is small while its branch sees a good part and grows like z beyond, so a branch that has nothing to say adds
    little noise to one that has (a plain sum of z-scores, as in PUAD, lets a calm branch outvote an alarmed one). The weights
    make all terms equally large on good parts (`training.balance`). raw is always positive, as it must be, since the published
    score is raw / limit.
    """

    st_center: float = 0.0
    st_scale: float = 1.0
    st_weight: float = 1.0
    ae_center: float = 0.0
    ae_scale: float = 1.0
    ae_weight: float = 1.0
    global_weight: float = 1.0

    @property
    def uncounted(self) -> list[str]:
        """Branches that have no weight: "st", "ae", "global"."""
        weights = {"st": self.st_weight, "ae": self.ae_weight, "global": self.global_weight}
        return [name for name, weight in weights.items() if weight == 0]


class Detector(ScoringNetwork):
    """Teacher, student, auto-encoder, normalization and global head in one module.

    Every part is reachable by name for the exporter: `teacher`, `student`, `autoencoder`, the buffers `teacher_mean` and
    `teacher_std` (384), `basis_st` and `basis_ae` (k, 384: orthonormal rows, the directions kept), `cell_st` and `cell_ae`
    (2, n, n: mean and scale), `q_st` and `q_ae` (q_a, q_b), `head_mean` (384),
    `head_precision` (384, 384), `head_z` (center, scale), `fusion` (7 numbers in the order of `Fusion`'s fields).

    Args:
        pdn: Small or medium.
        size: Side of the picture in pixels.
        head_input: What the global head pools.
        map_directions: k, how many directions of a difference its map keeps; 384 keeps all.
        student_width: Part of the paper's hidden channels that the student has.

    Raises:
        ValueError: `map_directions` is not from 1 to 384, or `student_width` not as `Pdn` wants it.
    """

    family = "efficientad"

    teacher_mean: torch.Tensor
    teacher_std: torch.Tensor
    basis_st: torch.Tensor
    basis_ae: torch.Tensor
    cell_st: torch.Tensor
    cell_ae: torch.Tensor
    q_st: torch.Tensor
    q_ae: torch.Tensor
    head_z: torch.Tensor
    fusion: torch.Tensor

    def __init__(
        self,
        pdn: PdnSize,
        size: int,
        head_input: HeadInput = HeadInput.TEACHER,
        map_directions: int = TEACHER_CHANNELS,
        student_width: float = FULL_WIDTH,
    ) -> None:
        super().__init__()
        if not 1 <= map_directions <= TEACHER_CHANNELS:
            raise ValueError(f"expected from 1 to {TEACHER_CHANNELS} directions of a map, got {map_directions}")
        self.pdn = PdnSize(pdn)
        self.size = size
        self.head_input = HeadInput(head_input)
        self.teacher = Pdn(pdn, TEACHER_CHANNELS)
        self.student = Pdn(pdn, 2 * TEACHER_CHANNELS, width=student_width)
        self.autoencoder = Autoencoder(size)
        self.register_buffer("teacher_mean", torch.zeros(TEACHER_CHANNELS))
        self.register_buffer("teacher_std", torch.ones(TEACHER_CHANNELS))
        self.register_buffer("basis_st", torch.eye(TEACHER_CHANNELS)[:map_directions])
        self.register_buffer("basis_ae", torch.eye(TEACHER_CHANNELS)[:map_directions])
        plain = torch.stack([torch.zeros(self.side, self.side), torch.ones(self.side, self.side)])
        self.register_buffer("cell_st", plain)
        self.register_buffer("cell_ae", plain.clone())
        self.register_buffer("q_st", torch.tensor([0.0, 1.0]))
        self.register_buffer("q_ae", torch.tensor([0.0, 1.0]))
        self.register_buffer("head_mean", torch.zeros(TEACHER_CHANNELS))
        self.register_buffer("head_precision", torch.eye(TEACHER_CHANNELS))
        self.register_buffer("head_z", torch.tensor([0.0, 1.0]))
        self.register_buffer("fusion", torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0]))

    @property
    def side(self) -> int:
        """Cells per side of the maps."""
        return grid_side(self.size)

    def normalized_teacher(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) normalized pictures -> (N, 384, n, n): the teacher's vectors, every channel of mean 0 and deviation 1."""
        out: torch.Tensor = (self.teacher(x) - self.teacher_mean[:, None, None]) / self.teacher_std[:, None, None]
        return out

    def differences(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(N, 3, H, W) normalized pictures -> T - S, A - S and the features the head pools, each (N, 384, n, n)."""
        teacher, student, autoencoder = self.normalized_teacher(x), self.student(x), self.autoencoder(x)
        first, second = student[:, :TEACHER_CHANNELS], student[:, TEACHER_CHANNELS:]
        return teacher - first, autoencoder - second, teacher if self.head_input is HeadInput.TEACHER else first

    def maps(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Gives the two maps before their normalization, and the pooled features.

        Args:
            x: (N, 3, H, W) float32 normalized pictures.

        Returns:
            (N, n, n) teacher against student, (N, n, n) auto-encoder against student, (N, 384) spatial means.
        """
        apart_st, apart_ae, pooled = self.differences(x)
        return mean_square(apart_st, self.basis_st), mean_square(apart_ae, self.basis_ae), pooled.mean((2, 3))

    def scores(
        self, map_st: torch.Tensor, map_ae: torch.Tensor, pooled: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Normalizes and fuses what `maps` gave.

        Returns:
            (N, 4) float32 [raw, st, ae, global], and the normalized maps (N, n, n).
        """
        map_st = normalize_map(map_st, self.cell_st, self.q_st)
        map_ae = normalize_map(map_ae, self.cell_ae, self.q_ae)
        st, ae = map_st.amax((1, 2)), map_ae.amax((1, 2))
        z_global = (self.head_distance(pooled) - self.head_z[0]) / self.head_z[1]
        raw = fuse(st, ae, z_global, self.fusion)
        return torch.stack((raw, st, ae, z_global), dim=1), map_st, map_ae


def mean_square(apart: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """(N, 384, n, n) differences, (k, 384) orthonormal rows -> (N, n, n): square in the kept directions over 384."""
    if basis.shape[0] < TEACHER_CHANNELS:  # all directions: a rotation changes no square
        apart = torch.einsum("kc,nchw->nkhw", basis, apart)
    return apart.square().sum(1) / TEACHER_CHANNELS


def normalize_map(values: torch.Tensor, cell: torch.Tensor, quantiles: torch.Tensor) -> torch.Tensor:
    """Normalizes maps cell by cell, then by quantiles: (N, n, n), cell (2, n, n), quantiles (2,) -> (N, n, n)."""
    usual = (values - cell[0]) / cell[1]
    return SCALE_AT_QB * (usual - quantiles[0]) / (quantiles[1] - quantiles[0])


def fuse(st: torch.Tensor, ae: torch.Tensor, z_global: torch.Tensor, constants: torch.Tensor) -> torch.Tensor:
    """Fuses the branches as `Fusion` says; all scores (N,), constants (7,) in the order of `Fusion`'s fields."""
    z_st = (st - constants[0]) / constants[1]
    z_ae = (ae - constants[3]) / constants[4]
    soft = nn.functional.softplus
    terms = constants[2] * soft(z_st - QUIET_Z), constants[5] * soft(z_ae - QUIET_Z), constants[6] * soft(z_global - QUIET_Z)
    return terms[0] + terms[1] + terms[2]
