"""A user's own model: a vision transformer of `torch.nn.TransformerEncoder` layers, which normalize after each branch."""

import torch
from torch import Tensor, nn


class PostNormVit(nn.Module):
    """The architecture of shared/data's `vit_cifar10_postnorm_d128_l6_h8`; images `[N, 3, 32, 32]`, logits `[N, 10]`."""

    def __init__(self, width: int = 128, depth: int = 6, heads: int = 8, hidden: int = 256, patch: int = 4) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, patch)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, (32 // patch) ** 2 + 1, width))
        layer = nn.TransformerEncoderLayer(width, heads, hidden, dropout=0.0, batch_first=True)
        self.transformer = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.mlp_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 10))

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        patches = self.patch_embed["proj"](images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], 1) + self.pos_embed
        logits: Tensor = self.mlp_head(self.transformer(tokens)[:, 0])
        return logits


def postnorm_vit() -> PostNormVit:
    """The model with its weights to be loaded."""
    return PostNormVit()
