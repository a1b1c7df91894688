"""The trainable form: it computes what the program does, gradients flow, masks and scales hold, and what it exports is what it is."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitgraph.api import quantize, sparsify
from vitgraph.frontend.capture import capture
from vitgraph.frontend.from_digits import PREPROCESSING
from vitgraph.images.image_set import open_images
from vitgraph.ir.calls import MaskCall
from vitgraph.ir.dialect import attention, fake_quantize, mask
from vitgraph.ir.mask_patterns import lost
from vitgraph.ir.program import Program
from vitgraph.ir.verify import verify
from vitgraph.passes import pipeline
from vitgraph.training.feature_sites import choose_sites, depth_of_names, find_blocks
from vitgraph.training.settings import Compression, Optimization
from vitgraph.training.student import Student
from vitgraph.training.trainable_graph import LOGARITHM, attend, masked_straight_through, observe_range


@pytest.fixture(scope="module")
def sparse() -> Program:
    return sparsify("digits-vit")


@pytest.fixture(scope="module")
def quantized(sparse: Program) -> Program:
    passes = "balance-attention,smooth-quant,equalize-outputs,quantize{outputs=true}"
    return quantize(sparse, "digits:train", passes, target=None, images=16)


def images(count: int = 8) -> tuple[Tensor, Tensor]:
    pixels, labels = next(open_images("digits:train", PREPROCESSING, limit=count).batches(count))
    assert labels is not None
    return pixels, labels


def trained(student: Student, steps: int, lr: float = 1e-2, **checks: Any) -> list[float]:
    """The losses of some steps of AdamW on a few digits."""
    optimizer = torch.optim.AdamW(student.parameter_groups(Optimization(lr=lr)), lr=lr)
    pixels, labels = images()
    losses = list[float]()
    for _ in range(steps):
        loss = nn.functional.cross_entropy(student(pixels)[0], labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()  # pyright: ignore[reportUnknownMemberType]
        student.after_step()
        losses.append(loss.item())
    return losses


def test_it_computes_what_the_program_does(quantized: Program) -> None:
    pixels, _ = images()
    logits, taps = Student(quantized, Compression())(pixels)
    assert taps == []
    assert torch.equal(logits, quantized.run(pixels))
    assert torch.equal(Student(quantized, Compression()).export().run(pixels), quantized.run(pixels))


@pytest.mark.parametrize("bias", [False, True])
def test_attention_in_fused_kernels_is_the_same(bias: bool) -> None:
    """To rounding, with its gradients; without a bias, and with one that learns."""
    random = torch.Generator().manual_seed(0)
    tensors = [torch.randn(2, 3, 17, 8, generator=random, requires_grad=True) for _ in range(3)]
    if bias:
        tensors.append(torch.randn(3, 17, 17, generator=random, requires_grad=True))
    q, k, v = tensors[:3]
    table = tensors[3] if bias else None
    plain, fused = attention(q, k, v, table, 0.3), attend(q, k, v, table, 0.3)
    assert torch.allclose(plain, fused, atol=1e-5)
    weight = torch.randn(plain.shape, generator=random)
    slopes = [torch.autograd.grad((each * weight).sum(), tensors) for each in (plain, fused)]
    for first, second in zip(*slopes, strict=True):
        assert torch.allclose(first, second, atol=1e-4)


def test_attentions_without_rounding_are_fused(sparse: Program, quantized: Program) -> None:
    for program, wanted in ((sparse, [0, 4]), (quantized, [4, 0])):
        nodes: Any = Student(program, Compression()).graph_module.graph.nodes
        assert [sum(node.target is each for node in nodes) for each in (attention, attend)] == wanted


def test_taps_are_the_values_of_nodes(quantized: Program) -> None:
    sites = find_blocks(quantized)
    _, taps = Student(quantized, Compression(), [site.node for site in sites])(images(4)[0])
    assert [tuple(tap.shape[1:]) for tap in taps] == [site.shape for site in sites]


def test_every_weight_and_scale_learns(quantized: Program) -> None:
    student = Student(quantized, Compression())
    before = {name: value.detach().clone() for name, value in student.graph_module.named_parameters()}
    trained(student, 1)
    still = {name for name, value in student.graph_module.named_parameters() if torch.equal(value, before[name])}
    assert not still
    assert sum(name.endswith(LOGARITHM) for name in before) == len(scales_of(quantized))


def scales_of(program: Program) -> set[str]:
    return {name for name in program.tensors() if name.endswith("scale")}


def test_the_program_it_was_made_of_stays(quantized: Program) -> None:
    before = {name: value.detach().clone() for name, value in quantized.tensors().items()}
    trained(Student(quantized, Compression()), 2)
    assert all(torch.equal(value, before[name]) for name, value in quantized.tensors().items())


@pytest.mark.parametrize("scales", ["learnt", "observed", "fixed"])
def test_masks_and_scales_hold_at_every_step(quantized: Program, scales: Any) -> None:
    student = Student(quantized, Compression(scales=scales, scale_lr=0.1))
    for _ in range(12):
        trained(student, 1)
        program = student.export()
        assert list(lost(program)) == []
        assert verify(program) == {}
        for node in program.calls(mask):
            weight, keep = (program.tensor(str(each.target)) for each in node.args)  # type: ignore[union-attr]
            assert not weight[~keep].any()
            assert weight[keep].any()
    program = student.export()
    moved = [name for name in scales_of(quantized) if not torch.equal(program.tensor(name), quantized.tensor(name))]
    assert bool(moved) == (scales != "fixed")


@pytest.mark.slow
@pytest.mark.parametrize("rechosen", [0, 100])
def test_two_hundred_steps_hold_masks_and_scales(quantized: Program, rechosen: int) -> None:
    """After every step: exactly two of each four kept, by the mask that was last chosen; the others zero; scales positive and finite."""
    student = Student(quantized, Compression(scale_lr=0.05))
    optimizer = torch.optim.AdamW(student.parameter_groups(Optimization(lr=3e-3)), lr=3e-3)
    pixels, labels = images(32)
    program = student.export()
    for step in range(200):
        student.rechoose_masks(step < rechosen)
        if step < rechosen:
            student.choose_masks()
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(student(pixels)[0], labels))
        optimizer.step()  # pyright: ignore[reportUnknownMemberType]
        student.after_step()
        program = student.export()
        for node in program.calls(mask):
            call = MaskCall(node)
            weight, keep = program.tensor(str(call.weight.target)), program.tensor(str(call.keep.target))
            assert bool((keep.reshape(len(keep), -1, 4).sum(-1) == 2).all()), step
            assert not weight[~keep].any(), step
        for name in scales_of(program):
            scale = program.tensor(name)
            assert bool((scale.isfinite() & (scale > 0)).all()), (step, name)
    moved = [name for name in scales_of(quantized) if not torch.equal(program.tensor(name), quantized.tensor(name))]
    assert len(moved) == len(scales_of(quantized))


def test_a_dense_weight_would_be_seen(quantized: Program) -> None:
    student = Student(quantized, Compression())
    program = student.export()
    node = program.calls(mask)[0]
    program.tensor(str(node.args[1].target)).fill_(True)  # type: ignore[union-attr]
    with torch.no_grad():
        program.tensor(str(node.args[0].target)).fill_(1.0)  # type: ignore[union-attr]
    assert len(list(lost(program))) == 1


def test_training_lowers_the_loss_and_the_export_has_it(quantized: Program) -> None:
    student = Student(quantized, Compression())
    losses = trained(student, 30, lr=3e-3)
    assert losses[-1] < losses[0] / 2
    pixels, labels = images()
    exported = nn.functional.cross_entropy(student.export().run(pixels), labels)
    assert float(exported) < losses[0] / 2


def test_a_scale_gets_the_gradient_of_lsq() -> None:
    x = torch.tensor([0.3, -1.2, 500.0, -500.0], requires_grad=True)
    scale = torch.tensor(0.5, requires_grad=True)
    torch.autograd.backward(fake_quantize(x, scale, None).sum())
    steps = x.detach() / 0.5
    wanted = (steps.round() - steps)[:2].sum() + 127 - 128
    assert scale.grad is not None
    assert float(scale.grad) == pytest.approx(float(wanted), rel=1e-5)
    assert x.grad is not None
    assert torch.equal(x.grad, torch.tensor([1.0, 1, 0, 0]))


@pytest.mark.parametrize(("shape", "scale", "axis"), [((4, 6), (4,), 0), ((4, 6), (4, 2), 1), ((2, 3, 4, 5), (3,), 1)])
def test_a_scale_of_many_numbers_gets_a_gradient_each(
    shape: tuple[int, ...], scale: tuple[int, ...], axis: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    x, s = torch.randn(shape, generator=generator), torch.rand(scale, generator=generator) * 0.05 + 0.01
    learnt = s.clone().requires_grad_()
    torch.autograd.backward(fake_quantize(x, learnt, axis).square().sum())
    assert learnt.grad is not None
    assert learnt.grad.shape == s.shape
    one = torch.zeros_like(s)
    one.view(-1)[-1] = 1  # the last number's gradient, alone: that of what it rounds
    alone = s.clone().requires_grad_()
    torch.autograd.backward((fake_quantize(x, alone * one + s * (1 - one), axis)).square().sum())
    assert alone.grad is not None
    assert torch.allclose(alone.grad, learnt.grad * one)


def test_re_chosen_masks_follow_the_weights(sparse: Program) -> None:
    student = Student(sparse, Compression(rechoose_until=1.0))
    student.rechoose_masks(True)
    keeps = {name: value.clone() for name, value in student.graph_module.named_buffers() if value.dtype == torch.bool}
    for _ in range(5):
        trained(student, 2, lr=0.05)
        student.choose_masks()
        assert list(lost(student.export())) == []
    changed = [
        name
        for name, value in student.graph_module.named_buffers()
        if name in keeps and not torch.equal(value, keeps[name])
    ]
    assert changed
    student.rechoose_masks(False)
    student.after_step()
    held = {name: value.clone() for name, value in student.graph_module.named_buffers() if name in keeps}
    trained(student, 2, lr=0.05)
    assert all(torch.equal(value, held[name]) for name, value in student.graph_module.named_buffers() if name in held)


def test_straight_through_masks_give_every_weight_a_gradient() -> None:
    weight, keep = torch.tensor([1.0, -2.0], requires_grad=True), torch.tensor([True, False])
    torch.autograd.backward(masked_straight_through(weight, keep, 0.1).sum())
    assert weight.grad is not None
    assert torch.allclose(weight.grad, torch.tensor([1.0, 1.0 - 0.2]))


def test_an_observed_scale_is_the_largest_value() -> None:
    scale = torch.ones(3)
    observe_range(torch.tensor([[1.0, -2.0], [0.0, 0.5], [4.0, 1.0]]), scale, 0, 127.0, 1.0)
    assert torch.allclose(scale, torch.tensor([2 / 127, 0.5 / 127, 4 / 127]))


class Hybrid(nn.Module):
    """A batch norm, and a weight that two places read."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).flatten(2).mT
        x = x + self.fc(nn.functional.gelu(self.fc(x)))
        logits: Tensor = self.head(x.mean(1))
        return logits


def hybrid() -> Program:
    random: Any = torch.random
    with random.fork_rng():
        random.manual_seed(0)
        module = Hybrid().eval()
    return pipeline("canonicalize,nm-mask{only=[fc]}").run(
        capture(module, torch.zeros(2, 3, 16, 16), dynamic_batch=True)
    )


def test_batch_norms_train_and_shared_weights_stay_one() -> None:
    program = hybrid()
    names = [name for name, _ in program.named_parameters()]
    student = Student(program, Compression())
    batch = torch.randn(4, 3, 16, 16) * 3 + 1
    before = student.graph_module.get_buffer("norm.running_mean").clone()
    student(batch)
    assert not torch.equal(student.graph_module.get_buffer("norm.running_mean"), before)
    exported = student.export()
    assert torch.equal(exported.tensor("norm.running_mean"), student.graph_module.get_buffer("norm.running_mean"))
    assert [name for name, _ in exported.named_parameters()] == names
    assert names.count("fc.weight") == 1


def test_branches_are_skipped_by_chance_and_only_while_training(sparse: Program) -> None:
    pixels, _ = images(4)
    student = Student(sparse, Compression(), drop_path=0.9)
    assert not torch.equal(student(pixels)[0], student(pixels)[0])
    assert torch.equal(student.export().run(pixels), sparse.run(pixels))


def test_blocks_are_found_and_the_last_third_chosen(sparse: Program) -> None:
    paths = [block.path for block in find_blocks(sparse)]
    assert paths == [f"blocks.{number}" for number in range(len(paths))]
    assert [site.path for site in choose_sites(sparse)] == paths[-(len(paths) // 3 or 1) :]
    assert [site.path for site in choose_sites(sparse, ["blocks.0"])] == ["blocks.0"]


def test_depth_counts_from_the_output(sparse: Program) -> None:
    depth, blocks = depth_of_names(sparse), len(find_blocks(sparse))
    assert depth("head.weight") == 0
    assert depth(f"blocks.{blocks - 1}.mlp.fc1.weight") == 1
    assert depth("blocks.0.mlp.fc1.weight") == blocks
    assert depth("pos_embed") == blocks + 1


def test_the_export_can_be_saved_and_read(quantized: Program, tmp_path: Path) -> None:
    from vitgraph.ir.program_file import load, save

    student = Student(quantized, Compression())
    trained(student, 2)
    save(student.export(), tmp_path / "program.safetensors")
    pixels, _ = images(4)
    assert torch.equal(load(tmp_path / "program.safetensors").run(pixels), student.export().run(pixels))
