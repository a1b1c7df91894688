"""Products with weights and of two values, in every spelling: linear, matmul, addmm, einsum, convolutions along a line, embeddings."""

import torch

from tests.fuzz.writer import NoFit, Writer


def _features(w: Writer, ranks: range = range(1, 6)) -> tuple[str, int]:
    """A value, and its last size, which is known."""
    x = w.floats(ranks)
    if w.tensor().dim() - 1 not in w.fixed():
        raise NoFit
    return x, w.tensor().shape[-1]


def _width(w: Writer) -> int:
    return w.rng.choice((1, 3, 4, 6, 8))


def linear(w: Writer) -> str:
    """With and without a bias; now and then a weight that is computed."""
    x, size = _features(w)
    out = _width(w)
    weight = w.weight(out, size)
    weight = w.either(weight, weight, f"{weight} * {w.either('2', w.weight(out, 1))}", f"{w.weight(size, out)}.t()")
    return f"F.linear({x}, {weight}, {w.either('None', w.weight(out))})"


def linear_layer(w: Writer) -> str:
    """`nn.Linear`; the same layer again, where one fits."""
    x, size = _features(w)
    known = [name for name, code in w.draft.weights.items() if code.startswith(f"nn.Linear({size}, ")]
    layer = f"self.{w.rng.choice(known)}" if known and w.rng.random() < 0.3 else ""
    options = w.either("", ", bias=False")
    return f"{layer or w.make(f'nn.Linear({size}, {_width(w)}{options})', 'm')}({x})"


def scaled_linear(w: Writer) -> str:
    """A layer, a scale and a residual: what fold-layer-scale looks for."""
    x, size = _features(w, range(2, 5))
    layer = w.make(f"nn.Linear({size}, {size})", "m")
    return f"{x} + {layer}({x}) * {w.either(w.weight(size), w.weight(1), '0.5')}"


def weight_product(w: Writer) -> str:
    """A product with a weight on either side."""
    x, size = _features(w)
    out = _width(w)
    right = w.either(w.weight(size, out), f"{w.weight(out, size)}.t()", f"{w.weight(out, size)}.T", w.weight(size))
    if w.rng.random() < 0.3 and w.tensor().dim() >= 2 and w.tensor().dim() - 2 in w.fixed():
        return f"{w.weight(out, w.tensor().shape[-2])} @ {x}"
    return w.either(f"{x} @ {right}", f"torch.matmul({x}, {right})")


def value_product(w: Writer) -> str:
    """Of a value with itself or another, transposed."""
    x = w.floats(range(2, 5))
    like = w.tensor()
    y = w.value(lambda t: t.dtype == like.dtype and t.dim() >= 2 and t.shape[-1] == like.shape[-1])
    turned = w.either(f"{y}.mT", f"{y}.transpose(-2, -1)", f"{y}.swapaxes(-1, -2)")
    return w.either(f"{x} @ {turned}", f"torch.matmul({turned}, {x})")


def addmm(w: Writer) -> str:
    """`addmm` with alpha and beta, the bias of any shape that broadcasts."""
    x, size = _features(w, range(2, 3))
    out, rows = _width(w), w.tensor().shape[0]
    bias = w.either(w.weight(out), w.weight(1, out), w.weight(rows, 1) if 0 in w.fixed() else w.weight(1), w.weight(1))
    weight = w.either(w.weight(size, out), f"{w.weight(out, size)}.t()")
    factors = w.either("", f", beta={w.number()}", f", alpha={w.number()}", f", beta={w.number()}, alpha={w.number()}")
    return f"torch.addmm({bias}, {x}, {weight}{factors})"


def baddbmm(w: Writer) -> str:
    """Batched products with alpha and beta."""
    x, _ = _features(w, range(3, 4))
    factors = w.either("", f", beta={w.number()}", f", alpha={w.number()}", f", beta={w.number()}, alpha={w.number()}")
    tokens = w.tensor().shape[1]
    return f"torch.baddbmm({w.either(w.weight(1), w.weight(tokens if 1 in w.fixed() else 1))}, {x}, {x}.mT{factors})"


EINSUMS = {
    3: (
        "bnc,bmc->bnm",
        "bnc,bnd->bcd",
        "bnc,bnc->bn",
        "bnc->bcn",
        "bnc->b",
        "bnc,bmc->nm",
        "bij,bkj",
        "...nc,...mc->...nm",
    ),
    4: ("bhnd,bhmd->bhnm", "bnhd,bmhd->bhnm", "bhnm,bhmd->bhnd", "bhnm,bmhd->bnhd", "bchw->bhwc", "bhnd,bhnd->bhn"),
    2: ("ij,kj->ik", "ij,ij->i", "ij->ji", "ij,ij->", "i...,i...->i"),
}


def einsum(w: Writer) -> str:
    """Of a value with itself and others; what does not fit is dropped."""
    x = w.floats(range(2, 5))
    formula = w.rng.choice(EINSUMS[w.tensor().dim()])
    others = [w.floats([w.tensor().dim()]) for _ in range(formula.count(","))]
    return f"torch.einsum({formula!r}, {', '.join([x, *others])})"


def einsum_with_weight(w: Writer) -> str:
    """A linear map by name of its dimensions."""
    x, size = _features(w, range(2, 5))
    out, letters = _width(w), "abc"[: w.tensor().dim() - 1]
    return w.either(
        f"torch.einsum('{letters}d,ed->{letters}e', {x}, {w.weight(out, size)})",
        f"torch.einsum('{letters}d,de->{letters}e', {x}, {w.weight(size, out)})",
        f"torch.einsum('ed,{letters}d->{letters}e', {w.weight(out, size)}, {x})",
        f"torch.einsum('{letters}d,d->{letters}', {x}, {w.weight(size)})",
        f"torch.einsum('...d,hde->...he', {x}, {w.weight(2, size, out)})",
    )


def conv1d(w: Writer) -> str:
    """With any stride, padding, dilation and groups."""
    x = w.floats([3])
    if 1 not in w.fixed():
        raise NoFit
    size, groups = w.tensor().shape[1], 1
    if w.rng.random() < 0.3:
        groups = size
    kernel = w.rng.randint(1, 3)
    out = groups * w.rng.randint(1, 2) if groups > 1 else _width(w)
    options = (
        f"stride={w.rng.randint(1, 2)}, padding={w.rng.randint(0, 2)}, dilation={w.rng.randint(1, 2)}, groups={groups}"
    )
    options = w.either(options, f"padding='same', groups={groups}", f"groups={groups}")
    return f"F.conv1d({x}, {w.weight(out, size // groups, kernel)}, {w.either('None', w.weight(out))}, {options})"


def embedding(w: Writer) -> str:
    """Rows of a table by number."""
    indices = w.value(lambda t: t.dtype in _INDICES and bool((t >= 0).all()) and bool((t < 5).all()) and t.dim() < 4)
    return f"F.embedding({indices}, {w.make(f'nn.Parameter(torch.randn(5, {_width(w)}))')})"


_INDICES = (torch.int64, torch.int32)


def outer(w: Writer) -> str:
    """Products without a sum, and with all of it."""
    x, size = _features(w, range(1, 2))
    return w.either(
        f"torch.outer({x}, {w.weight(size)})", f"torch.dot({x}, {w.weight(size)})", f"{x}.unsqueeze(1) * {x}"
    )


PRODUCTS = (
    linear,
    linear,
    linear_layer,
    scaled_linear,
    weight_product,
    value_product,
    value_product,
    addmm,
    addmm,
    baddbmm,
    einsum,
    einsum_with_weight,
    conv1d,
    embedding,
    outer,
    "torch.bmm({tokens}, {tokens}.mT)",
    "torch.mm({row}, {row}.t())",
    "torch.inner({row}, {row})",
    "torch.tensordot({tokens}, {tokens}, dims=([1, 2], [1, 2]))",
)
