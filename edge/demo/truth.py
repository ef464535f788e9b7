"""What the simulated belt knows of each part: the camera that draws it, and the truth without drawing."""

from edge.belt.scene import PRODUCTS
from edge.camera.belt import BeltCamera
from edge.errors import ConfigError


class Truth:
    """The truth about the parts of one belt; part `count` of the line is part `count` of the belt.

    Args:
        product: what runs. seed: which belt.

    Raises:
        ConfigError: the belt has no such product.
    """

    def __init__(self, product: str, seed: int) -> None:
        if product not in PRODUCTS:
            raise ConfigError(
                f"expected a product of the simulated belt ({', '.join(PRODUCTS)}), got {product!r}; "
                "name one with --product, or take a bundle made for one"
            )
        self.product = product
        self._belt = BeltCamera(product, seed)
        self._seed = seed

    def camera(self) -> BeltCamera:
        """A new camera over this belt."""
        return BeltCamera(self.product, self._seed)

    def defect(self, count: int) -> str:
        """Kind and name of the part's defect ("logical/cap_mismatch"), empty for a good part."""
        kind, defect = self._belt.truth(count)
        return f"{kind.value}/{defect}" if defect else ""

    def is_good(self, count: int) -> bool:
        """The part has no defect."""
        return not self.defect(count)
