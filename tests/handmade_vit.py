"""A Vision Transformer as somebody writes one by hand: it tells nothing of its input, its classes or its pre-processing."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH, HEADS, PATCH, SIDE = 32, 2, 4, 16


class Block(nn.Module):
    """Attention and MLP, with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.fc1, self.fc2 = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        heads = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, HEADS, WIDTH // HEADS)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, WIDTH)
        x = x + self.drop(self.proj(mixed))
        out: Tensor = x + self.drop(self.fc2(functional.gelu(self.fc1(self.norm2(x)))))
        return out


class HandmadeViT(nn.Module):
    """Images [B, 3, 16, 16] to logits [B, 10]."""

    def __init__(self) -> None:
        super().__init__()
        random: Any = torch.random
        random.manual_seed(0)
        tokens = (SIDE // PATCH) ** 2
        self.embed = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.cls = nn.Parameter(torch.randn(1, 1, WIDTH) * 0.1)
        self.pos = nn.Parameter(torch.randn(1, tokens + 1, WIDTH) * 0.1)
        self.blocks = nn.Sequential(Block(), Block())
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.embed(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(images.shape[0], -1, -1), patches], 1) + self.pos
        out: Tensor = self.head(self.norm(self.blocks(x))[:, 0])
        return out
