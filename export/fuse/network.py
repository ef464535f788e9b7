"""All passes in order: a trained detector becomes the fused network the graph is written from."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from export.fuse.difference import difference, embed_padded_kernel
from export.fuse.head import Head, pooled_head
from export.fuse.layers import Array, Conv, array, read_conv, read_convs
from export.fuse.maps import MapScale, fold_map
from export.fuse.normalization import affine_of_pixels, fold_normalization
from export.fuse.statistics import fold_teacher_statistics
from export.fuse.subspace import keep_directions
from training.networks.autoencoder import decoder_sides
from training.networks.detector import QUIET_Z
from training.networks.normalize import IMAGENET_MEAN, IMAGENET_STD
from training.networks.pdn import TEACHER_CHANNELS

if TYPE_CHECKING:
    from training.networks.detector import Detector


@dataclass(frozen=True, slots=True)
class FusedAutoencoder:
    """The auto-encoder up to its last hidden map (64 channels, n x n).

    Attributes:
        pixel_scale, pixel_offset: (3,): its padded first convolution needs normalized pixels.
        encoder: five strided convolutions and the one that covers everything.
        decoder: (side, convolution): resize to side x side, then convolve with ReLU.
        last_hidden: after the resize to n x n.
    """

    pixel_scale: Array
    pixel_offset: Array
    encoder: tuple[Conv, ...]
    decoder: tuple[tuple[int, Conv], ...]
    last_hidden: Conv


@dataclass(frozen=True, slots=True)
class FusedNetwork:
    """What runs on the box, still in float64.

    Attributes:
        size: side of the input, pixels. cells: side of the maps.
        teacher, student: trunks, up to the hidden map before the last convolution.
        st: teacher minus student over [h_T; h_S]. ae: auto-encoder minus student over [padded h_A; h_S], when `ae_fused`;
            else `ae` is the auto-encoder's own output convolution and `student_ae` the student's second half.
        map_st, map_ae: normalization by cell and by quantiles.
        fusion: (7,) constants in the order of `training.networks.detector.Fusion`.
        quiet_z: z-score up to which a branch is silent.
    """

    size: int
    cells: int
    teacher: tuple[Conv, ...]
    student: tuple[Conv, ...]
    autoencoder: FusedAutoencoder
    st: Conv
    ae: Conv
    student_ae: Conv | None
    map_st: MapScale
    map_ae: MapScale
    head: Head
    fusion: Array
    quiet_z: float


def fuse(detector: "Detector") -> FusedNetwork:
    """Apply every exact pass to a trained detector.

    Raises:
        ValueError: a pass does not apply; its message says why.
    """
    mean, std = np.asarray(IMAGENET_MEAN, np.float64), np.asarray(IMAGENET_STD, np.float64)
    *teacher, teacher_last = read_convs(detector.teacher.layers)
    *student, student_last = read_convs(detector.student.layers)
    teacher[0] = fold_normalization(teacher[0], mean, std)
    student[0] = fold_normalization(student[0], mean, std)
    teacher_last = fold_teacher_statistics(teacher_last, array(detector.teacher_mean), array(detector.teacher_std))
    student_st = student_last.outputs(0, TEACHER_CHANNELS)
    student_ae = student_last.outputs(TEACHER_CHANNELS, 2 * TEACHER_CHANNELS)
    output = read_conv(detector.autoencoder.output)
    # The medium network ends in a 1x1 convolution: there the padded 3x3 kernel has no unpadded twin of the student's shape.
    ae_fused = student_ae.weight.shape[2:] == (4, 4)
    scale, offset = affine_of_pixels(mean, std)
    autoencoder = FusedAutoencoder(
        scale,
        offset,
        tuple(read_convs(detector.autoencoder.encoder)),
        tuple(
            (side, replace(read_conv(conv), relu=True))
            for side, conv in zip(decoder_sides(detector.size), detector.autoencoder.decoder, strict=True)
        ),
        replace(read_conv(detector.autoencoder.last_hidden), relu=True),
    )
    branch = detector.head_input.value
    basis_st, basis_ae = array(detector.basis_st), array(detector.basis_ae)
    ae = difference(embed_padded_kernel(output), student_ae) if ae_fused else output
    head_z = array(detector.head_z)
    return FusedNetwork(
        size=detector.size,
        cells=detector.side,
        teacher=tuple(teacher),
        student=tuple(student),
        autoencoder=autoencoder,
        st=keep_directions(difference(teacher_last, student_st), basis_st),
        ae=keep_directions(ae, basis_ae),
        student_ae=None if ae_fused else keep_directions(student_ae, basis_ae),
        map_st=fold_map(array(detector.cell_st), array(detector.q_st), TEACHER_CHANNELS),
        map_ae=fold_map(array(detector.cell_ae), array(detector.q_ae), TEACHER_CHANNELS),
        head=pooled_head(
            branch,
            teacher_last if branch == "teacher" else student_st,
            array(detector.head_mean),
            array(detector.head_precision),
            float(head_z[0]),
            float(head_z[1]),
        ),
        fusion=array(detector.fusion),
        quiet_z=QUIET_Z,
    )
