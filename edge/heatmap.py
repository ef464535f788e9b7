"""A picture with its anomaly map laid over it and its regions boxed, for people."""

import numpy as np
from PIL import Image, ImageDraw

from edge.anomaly_map import to_picture
from edge.judge import Judgement
from edge.preprocess import Frame8

# In units of the limit: nothing is drawn below half of it, and twice the limit is as red as it gets.
_FIRST, _FULL = 0.5, 2.0
_OPACITY = 0.65
_BOX = (255, 32, 32)


def overlay(frame: Frame8, judgement: Judgement) -> Image.Image:
    """Draw one judged picture.

    Args:
        frame: (H, W, 3) uint8 RGB, the picture as it came.
        judgement: what was found in it.

    Returns:
        An RGB picture of the same size: yellow where the map nears its limit, red where it is far above.
    """
    height, width = frame.shape[:2]
    heat = np.clip((to_picture(judgement.anomaly_map, height, width) - _FIRST) / (_FULL - _FIRST), 0.0, 1.0)[:, :, None]
    colour = np.concatenate([np.full_like(heat, 255.0), 255.0 * (1.0 - heat), np.zeros_like(heat)], axis=2)
    alpha = _OPACITY * np.sqrt(heat)  # so that what is just above half the limit is already seen
    picture = Image.fromarray((frame * (1.0 - alpha) + colour * alpha + 0.5).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    thickness = max(1, min(height, width) // 200)
    for region in judgement.regions:
        left, top = region.x * width, region.y * height
        right, bottom = left + region.w * width - 1, top + region.h * height - 1
        draw.rectangle((left, top, right, bottom), outline=_BOX, width=thickness)
    return picture
