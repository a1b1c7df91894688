"""The front door as somebody outside of the tree uses it: a script that imports vitgraph and torch, and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
import torch
import vitgraph
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2, self.drop = nn.Linear(width, 4 * width), nn.Linear(4 * width, width), nn.Dropout(0.1)

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(b, n, 3, 2, d // 2).permute(2, 0, 3, 1, 4)
        x = x + self.drop(self.proj((((q @ k.transpose(-1, -2)) * (d // 2) ** -0.5).softmax(-1) @ v).transpose(1, 2).reshape(b, n, d)))
        return x + self.drop(self.fc2(functional.gelu(self.fc1(self.norm2(x)))))


class ViT(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.embed, self.cls = nn.Conv2d(3, width, 4, 4), nn.Parameter(torch.zeros(1, 1, width))
        self.pos = nn.Parameter(torch.randn(1, 65, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, images):
        x = self.embed(images).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls.expand(x.shape[0], -1, -1), x), 1) + self.pos
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


torch.manual_seed(0)
cifar = vitgraph.open_images(sys.argv[1], vitgraph.Preprocessing(image_size=(32, 32), resize=(32, 32)), limit=128)
pixels, labels = next(iter(cifar.batches(128)))
loader = DataLoader(TensorDataset(pixels, labels), batch_size=32)

model = ViT().train()
state = {name: value.clone() for name, value in model.state_dict().items()}
q = vitgraph.quantize(model, loader)

optimizer = torch.optim.SGD(q.parameters(), lr=0.05)
before = functional.cross_entropy(q(pixels), labels)
before.backward()
optimizer.step()
after = functional.cross_entropy(q(pixels), labels)
assert after < before, (before, after)

report = vitgraph.compile_model(q, target="a100", out="out", evaluate_data=loader)
assert report.violations == [], report.violations
assert report.engine is None or report.engine["linears"] == {"planned_int8": 8, "int8": 8, "fallback": []}, report.engine
assert report.accuracy.images == 128 and report.accuracy.agreement > 95, report.accuracy

at_once = vitgraph.compile_model(model, target="a100", recipe="fp16", out="out2", calibration_data=loader)
assert at_once.model.input == [1, 3, 32, 32]

assert all(module.training for module in model.modules()), "the model is not in training mode any more"
assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
print("loss", float(before), float(after))
"""


@pytest.mark.slow
def test_a_hand_written_model_and_a_loader_of_cifar_images(data: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "mine.py", str(data / "cifar10" / "test5000.zip")],
        cwd=tmp_path, check=False, capture_output=True, text=True, timeout=1200, env={**os.environ, "VITGRAPH_LOG": "info"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("loss ")
    assert "pass 'quantize'" in done.stderr
    assert (tmp_path / "out" / "model.onnx").is_file()
