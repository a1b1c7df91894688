"""`compile_model` as a torch user calls it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vitgraph.compile.compiler import compile_model
from vitgraph.compile.report import Report
from vitgraph.digits import build_digits_vit
from vitgraph.errors import InputError
from vitgraph.frontend.capture import capture_model
from vitgraph.frontend.models import load_model
from vitgraph.images.preprocess import PreprocessingOptions
from vitgraph.ir.batch import Batch
from vitgraph.ir.program_file import save
from vitgraph.passes import pipeline
from vitgraph.targets.target import get_target

SIZE = PreprocessingOptions(image_size=(24, 24))
QUICK = "canonicalize,fold-constants,fuse-attention,quantize,materialize"


def compiled(model: Any, out: Any, **more: Any) -> Report:
    """For a target that no builder here serves: as far as ONNX."""
    given: dict[str, Any] = {
        "target": "orin-agx",
        "recipe": "int8",
        "pipeline": QUICK,
        "calibration_data": "digits:train",
    }
    return compile_model(model, out=out, calibration_images=4, **{**given, **more})


@pytest.mark.slow
def test_each_form_of_an_argument_comes_to_the_same(tmp_path: Path) -> None:
    plain = compiled("digits-vit", tmp_path / "a", batch="2")
    forms = compiled(
        "digits-vit", str(tmp_path / "b"), batch=2, pipeline=pipeline(QUICK), target=get_target("orin-agx"), recipe=Path("int8"),
        weights="pretrained",
    )  # fmt: skip
    assert (tmp_path / "a/model.onnx").read_bytes() == (tmp_path / "b/model.onnx").read_bytes()
    assert plain.batch == forms.batch == "2"
    assert plain.pipeline == forms.pipeline == QUICK


@pytest.mark.parametrize(
    ("argument", "value"),
    [("out", 3), ("batch", (8, 1)), ("pipeline", ["canonicalize"]), ("target", None), ("recipe", 8)],
)
def test_a_bad_value_is_told_by_its_name(argument: str, value: Any, tmp_path: Path) -> None:
    given: dict[str, Any] = {"out": tmp_path / "out", argument: value}
    with pytest.raises(InputError, match=rf"{argument}=.*give "):
        compiled("digits-vit", **given)
    assert list(tmp_path.iterdir()) == []


class Kept:
    """A module as a training loop leaves it, with all that a compilation has to leave alone."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.module = build_digits_vit().to(dtype).train()
        self.frozen = next(child for child in self.module.children() if any(True for _ in child.parameters()))
        self.frozen.eval().requires_grad_(False)
        self.called = 0
        self.frozen.register_forward_hook(self._count)
        self.state = {name: tensor.clone() for name, tensor in self.module.state_dict(keep_vars=False).items()}
        self.seen = dict(self._look())

    def _count(self, *_: Any) -> None:
        self.called += 1

    def _look(self) -> Iterator[tuple[str, Any]]:
        named: Any = self.module.named_modules
        modules: dict[str, nn.Module] = dict(named())
        for name, module in modules.items():
            yield f"{name} training", module.training
            yield f"{name} hooks", [len(vars(module)[kind]) for kind in ("_forward_hooks", "_forward_pre_hooks")]
        for name, parameter in self.module.named_parameters():
            facts = (parameter.requires_grad, parameter.dtype, parameter.device, parameter.data_ptr(), parameter.grad)
            yield name, (id(parameter), *facts)
        yield "buffers", [(name, id(buffer)) for name, buffer in self.module.named_buffers()]

    def changes(self) -> list[str]:
        """What is another than before."""
        found = [name for name, tensor in self.module.state_dict().items() if not torch.equal(tensor, self.state[name])]
        return found + [name for name, fact in self._look() if self.seen.get(name) != fact]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("recipe", ["sparse-int8", "int8-best"])
def test_the_callers_module_stays_as_it_was(dtype: torch.dtype, recipe: str, tmp_path: Path) -> None:
    kept = Kept(dtype)
    compiled(kept.module, tmp_path / "out", recipe=recipe, pipeline=None, preprocessing=SIZE)
    assert kept.changes() == []


def test_the_callers_module_stays_as_it_was_when_something_fails(tmp_path: Path) -> None:
    kept = Kept(torch.float32)
    with pytest.raises(InputError, match="fc9"):
        compiled(kept.module, tmp_path / "out", pipeline="canonicalize,nm-mask{only=[fc9]}", preprocessing=SIZE)
    assert kept.changes() == []
    assert list(tmp_path.iterdir()) == []


def test_a_changed_module_is_noticed() -> None:
    kept = Kept(torch.float32)
    next(kept.frozen.parameters()).requires_grad_(True)
    next(kept.module.parameters()).data.add_(1.0)
    kept.frozen.train()
    assert {"cls_token", "patch_embed training", "patch_embed.proj.weight"} <= set(kept.changes())


@pytest.mark.slow
def test_a_program_comes_to_what_its_model_comes_to(tmp_path: Path) -> None:
    program = capture_model(load_model("digits-vit"), Batch(2, 2, 2))
    save(program, tmp_path / "digits.safetensors")
    reports = [
        compiled("digits-vit", tmp_path / "model", batch=2, evaluate_data="digits:test", evaluate_images=10),
        compiled(program, tmp_path / "program", evaluate_data="digits:test", evaluate_images=10),
        compiled(tmp_path / "digits.safetensors", tmp_path / "file", evaluate_data="digits:test", evaluate_images=10),
    ]
    files = {(tmp_path / name / "model.onnx").read_bytes() for name in ("model", "program", "file")}
    assert len(files) == 1
    assert reports[0].accuracy == reports[1].accuracy == reports[2].accuracy
    assert reports[2].model.source == reports[0].model.source
    assert "compiled from the saved program" in reports[2].model.notes[-1]
    assert program.form == "captured"
    assert program.ledger == []


@pytest.mark.slow
def test_a_canonical_program_goes_on_where_it_was(tmp_path: Path) -> None:
    masked = pipeline("canonicalize,fold-constants,fuse-attention,nm-mask{n=2 m=4 only=[fc1]}").run(
        capture_model(load_model("digits-vit"))
    )
    report = compiled(masked, tmp_path / "out", pipeline="quantize,materialize,legalize")
    assert [entry["name"] for entry in report.passes][-4:] == ["nm-mask", "quantize", "materialize", "legalize"]
    assert report.violations == []
    with pytest.raises(InputError, match="quantize has run on the program already"):
        compiled(tmp_path / "out", tmp_path / "again", pipeline=None)
    with pytest.raises(InputError, match=r"is quantized already, and recipe int8 .* starts from FP32"):
        compiled(tmp_path / "out", tmp_path / "again")
