"""The dual tower: what a cell's neighbourhood says of it, and what the whole picture says of it.

Stated by the paper: one tower rebuilds local, one global features. Our reading: the local tower is a convolutional bottleneck,
fewer channels than the features and a few 3 x 3 convolutions, so it sees 4 px times its depth around a cell; the global tower
cuts the grid into tokens, lets every token attend to all others, and unfolds each token into its cells again. No batch
normalization anywhere: what a tower says of a picture depends on no other picture.

A tower that may look at what it rebuilds learns to copy it, and then a wrong piece is rebuilt as well as a right one. So by
default a token is rebuilt from its place alone and from tokens that lie farther away than `token_blind` (after the neighbour mask
of UniAD, You et al., NeurIPS 2022, there against copying within layers; here nothing of the token itself ever enters).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

GLOBAL_WIDTH = 48
"""Channels of the grid a token is unfolded into: 48 x 16 cells hold what 192 numbers of a token carry."""


HIDDEN = -1e4
"""Added to a logit it leaves nothing of the weight, and fits half precision."""


class LocalTower(nn.Module):
    """A convolutional bottleneck.

    Args:
        channels: Of the features.
        width: Of the bottleneck.
        depth: Its 3 x 3 convolutions.
    """

    def __init__(self, channels: int, width: int, depth: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, width, 1)
        self.hidden = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth))
        self.output = nn.Conv2d(width, channels, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, C, g, g) features -> (N, C, g, g) rebuilt."""
        h = functional.relu(self.squeeze(features))
        for conv in self.hidden:
            h = functional.relu(conv(h))
        out: torch.Tensor = self.output(h)
        return out


class TokenLayer(nn.Module):
    """One transformer layer, normalized before its two halves (Vaswani et al., 2017; the order is that of GPT-2).

    Tokens attend to each other, or to a memory, where a mask hides what a token must not see.

    Args:
        width: Of a token.
        heads: Of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.mixed = nn.Linear(width, width)
        self.before_mlp = nn.LayerNorm(width)
        self.wide = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)

    def forward(
        self, tokens: torch.Tensor, memory: torch.Tensor | None = None, hidden: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Takes tokens one layer further.

        Args:
            tokens: (N, T, E).
            memory: (N, T, E), normalized: what is attended to; None for the tokens themselves.
            hidden: (T, T) added to the attention's logits: `HIDDEN` where row must not see column; None hides nothing.

        Returns:
            (N, T, E).
        """
        count, length, width = tokens.shape
        each = width // self.heads
        normed = self.before_attention(tokens)
        query = self.query(normed).view(count, length, self.heads, each).transpose(1, 2)
        pairs = self.key_value(normed if memory is None else memory).view(count, length, 2, self.heads, each)
        key, value = pairs.permute(2, 0, 3, 1, 4)
        logits = query @ key.transpose(-1, -2) * each**-0.5
        weights = torch.softmax(logits if hidden is None else logits + hidden, dim=-1)
        tokens = tokens + self.mixed((weights @ value).transpose(1, 2).reshape(count, length, width))
        out: torch.Tensor = tokens + self.narrow(functional.relu(self.wide(self.before_mlp(tokens))))
        return out


class GlobalTower(nn.Module):
    """Tokens over the whole grid and back.

    Args:
        channels: Of the features.
        grid: Cells per side of the features.
        width: Of a token.
        layers: Transformer layers.
        heads: Of their attention.
        cells: Side of the square of cells a token stands for; divides `grid`.
        blind: A token is not shown the tokens up to this far from it, itself among them; -1 shows all.
    """

    hidden_pairs: torch.Tensor

    def __init__(self, channels: int, grid: int, width: int, layers: int, heads: int, cells: int, blind: int) -> None:
        super().__init__()
        self.cells, self.blind = cells, blind
        self.embed = nn.Conv2d(channels, width, cells, stride=cells)
        self.position = nn.Parameter(0.02 * torch.randn((grid // cells) ** 2, width))
        self.layers = nn.ModuleList(TokenLayer(width, heads) for _ in range(layers))
        self.memory_norm = nn.LayerNorm(width) if blind >= 0 else None
        self.register_buffer("hidden_pairs", hidden_pairs(grid // cells, blind), persistent=False)
        self.last_norm = nn.LayerNorm(width)
        self.unfold = nn.Conv2d(width, GLOBAL_WIDTH * cells**2, 1)
        self.hidden = nn.Conv2d(GLOBAL_WIDTH, GLOBAL_WIDTH, 3, padding=1)
        self.output = nn.Conv2d(GLOBAL_WIDTH, channels, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(N, C, g, g) features -> (N, C, g, g) rebuilt."""
        embedded = self.embed(features)
        tokens = embedded.flatten(2).transpose(1, 2) + self.position
        if self.memory_norm is not None:
            memory, tokens = self.memory_norm(tokens), self.position.expand(len(features), -1, -1)
            for layer in self.layers:
                tokens = layer(tokens, memory, self.hidden_pairs)
        else:
            for layer in self.layers:
                tokens = layer(tokens)
        laid = self.last_norm(tokens).transpose(1, 2).reshape(embedded.shape)
        h = functional.relu(functional.pixel_shuffle(self.unfold(laid), self.cells))
        out: torch.Tensor = self.output(functional.relu(self.hidden(h)))
        return out

    def hidden_matrices(self) -> list[torch.Tensor]:
        """The weights between features and output: from grid to tokens, the tokens' own, and from tokens to grid."""
        linear = [module.weight for module in self.modules() if isinstance(module, nn.Linear)]
        return [self.embed.weight, *linear, self.unfold.weight, self.hidden.weight]


def hidden_pairs(side: int, blind: int) -> torch.Tensor:
    """(side^2, side^2) float32: `HIDDEN` for pairs of tokens at most `blind` rows and columns apart, else 0."""
    at = torch.arange(side)
    near = (at[:, None] - at[None, :]).abs() <= blind
    return HIDDEN * (near[:, None, :, None] & near[None, :, None, :]).reshape(side**2, side**2).to(torch.float32)


def initialize_towers(network: nn.Module) -> None:
    """He's scale for convolutions, the outputs at a tenth: a unit signal inside, and a start near the mean features, 0."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
            if name.endswith("output"):
                with torch.no_grad():
                    module.weight *= 0.1
