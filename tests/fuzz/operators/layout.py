"""What gives the same elements in another shape or order, parts of them, or several values as one."""

import torch
from torch import Tensor

from tests.fuzz.writer import NoFit, Writer


def _sizes(w: Writer) -> list[str]:
    return [w.size(dim) for dim in range(w.tensor().dim())]


def merge(w: Writer) -> str:
    """Two neighbours into one."""
    x = w.floats(range(2, 6))
    dim = w.rng.randrange(w.tensor().dim() - 1)
    sizes = _sizes(w)
    merged = [*sizes[:dim], w.either("-1", f"{sizes[dim]} * {sizes[dim + 1]}"), *sizes[dim + 2 :]]
    text = ", ".join(merged)
    return w.either(
        f"{x}.flatten({dim}, {dim + 1})", f"{x}.reshape({text})", f"{x}.view({text})", f"torch.reshape({x}, [{text}])"
    )


def split_dim(w: Writer) -> str:
    """One into two."""
    x = w.floats(range(1, 5))
    dim = w.dim(among=w.fixed()) % w.tensor().dim()
    size = w.tensor().shape[dim]
    first = w.rng.choice([n for n in range(1, size + 1) if size % n == 0])
    sizes = _sizes(w)
    parts = w.either(f"{first}, {size // first}", f"{first}, -1")
    text = ", ".join([*sizes[:dim], parts, *sizes[dim + 1 :]])
    return w.either(f"{x}.unflatten({dim}, ({parts}))", f"{x}.reshape({text})", f"{x}.contiguous().view({text})")


def permute(w: Writer) -> str:
    """Any order."""
    x = w.floats(range(1, 6))
    order = w.rng.sample(range(w.tensor().dim()), w.tensor().dim())
    order = [dim - len(order) if w.rng.random() < 0.3 else dim for dim in order]
    return w.either(f"{x}.permute({', '.join(map(str, order))})", f"torch.permute({x}, {order})")


def move(w: Writer) -> str:
    """Several dimensions to several places."""
    x = w.floats(range(2, 6))
    rank = w.tensor().dim()
    count = w.rng.randint(1, rank)
    starts, ends = (w.rng.sample(range(rank), count) for _ in range(2))
    return f"torch.movedim({x}, {starts}, {ends})"


def squeeze(w: Writer) -> str:
    """Dimensions of size 1."""
    x = w.floats(range(1, 6), lambda t: 1 in t.shape)
    ones = [dim for dim in w.fixed() if w.tensor().shape[dim] == 1]
    return w.either(f"{x}.squeeze({w.dim(among=ones)})", f"{x}.squeeze({ones})", f"{x}.squeeze({w.dim()})")


def expand(w: Writer) -> str:
    """Dimensions of size 1 to more, and new ones in front."""
    x = w.floats(range(5))
    sizes = [
        str(w.rng.choice((2, 3))) if size == 1 and dim in w.fixed() else "-1"
        for dim, size in enumerate(w.tensor().shape)
    ]
    front = ["2"] * w.rng.randint(0, 1)
    return f"{x}.expand({', '.join([*front, *sizes]) or '3'})"


def cut(w: Writer) -> str:
    """A slice with start, end and step, from either end."""
    x = w.floats(range(1, 6))
    dim, rank = w.rng.choice(w.fixed() or [0]), w.tensor().dim()
    start, end = (w.either("", "0", "1", "-1", "-2", "2", "100", "-100") for _ in range(2))
    one = f"{start}:{end}{w.either('', ':2', ':3', ':1')}"
    if w.rng.random() < 0.4:
        return f"{x}[..., {one}]"
    return f"{x}[{', '.join([':'] * dim + [one] + [':'] * w.rng.randint(0, rank - dim - 1))}]"


def pick(w: Writer) -> str:
    """By number, by list, by a tensor of numbers, by None."""
    x = w.floats(range(1, 5))
    dim = w.dim(among=w.fixed())
    size = w.tensor().shape[dim]
    indices = [w.rng.randrange(-size, size) for _ in range(w.rng.randint(1, 3))]
    front = [number % size for number in indices]
    many = w.buffer(f"torch.tensor({front})")
    before = ":, " * (dim % w.tensor().dim())
    return w.either(
        f"{x}.select({dim}, {indices[0]})",
        f"{x}[{before}{indices[0]}]",
        f"{x}[{before}None]",
        f"{x}[..., None, :]",
        f"{x}[{before}{indices}]",
        f"{x}[{before}{many}]",
        f"{x}.index_select({dim}, {many})",
        f"{x}.narrow({dim}, {front[0]}, 1)",
        f"{x}.index_fill({dim}, {many}, {w.number()})",
        f"{x}.index_add({dim}, {many}, {x}.index_select({dim}, {many}))",
        f"torch.roll({x}, {w.rng.randint(-5, 5)}, {dim})",
        f"torch.flip({x}, [{dim}])",
    )


def gather(w: Writer) -> str:
    """By a tensor of numbers of the same rank."""
    x = w.floats(range(1, 5))
    dim = w.dim(among=w.fixed())
    if len(w.fixed()) < w.tensor().dim():
        raise NoFit
    shape = [w.rng.randint(1, size) for size in w.tensor().shape]
    return f"torch.gather({x}, {dim}, {w.buffer(f'torch.randint(0, {w.tensor().shape[dim]}, {shape})')})"


def pieces(w: Writer) -> str:
    """Splits of every kind, all pieces with a name."""
    x = w.floats(range(1, 5), lambda t: max(t.shape) > 1)
    dim = w.dim(among=[dim for dim in w.fixed() if w.tensor().shape[dim] > 1])
    size = w.tensor().shape[dim]
    first = w.rng.randint(1, size - 1)
    texts = {
        f"{x}.chunk(2, {dim})": len(torch.chunk(w.tensor(), 2, dim)),
        f"{x}.split({first}, dim={dim})": -(-size // first),
        f"torch.split({x}, [{first}, {size - first}], {dim})": 2,
        f"{x}.unbind({dim})": size,
        f"torch.tensor_split({x}, 2, {dim})": 2,
        f"torch.tensor_split({x}, [{first}], dim={dim})": 2,
    }
    text = w.rng.choice(list(texts))
    if texts[text] > 6:
        raise NoFit
    return f"{', '.join(['_'] * texts[text])}{',' if texts[text] == 1 else ''} = {text}"


def join(w: Writer) -> str:
    """`cat` and `stack` of values and weights."""
    x = w.floats(range(1, 5))
    like = w.tensor()
    dim = w.dim(among=w.fixed())

    def fits(other: Tensor) -> bool:
        apart = [a != b for a, b in zip(other.shape, like.shape, strict=False)]
        return other.dim() == like.dim() and other.dtype == like.dtype and not any(apart[: dim % like.dim()])

    others = [w.value(fits) for _ in range(w.rng.randint(0, 2))]
    return w.either(
        f"torch.cat([{', '.join([x, *others])}], {dim})", f"torch.stack([{', '.join([x, *others])}], dim={dim})"
    )


def token(w: Writer) -> str:
    """A class token in front of tokens."""
    x = w.floats([3])
    if 2 not in w.fixed():
        raise NoFit
    row = w.weight(1, 1, w.tensor().shape[2])
    return f"torch.cat([{row}.expand({w.size(0)}, -1, -1), {x}], dim=1)"


def pad(w: Writer) -> str:
    """By constants, by reflection, by the edge; negative padding cuts."""
    x = w.floats(range(1, 5))
    count = w.rng.randint(1, min(2, w.tensor().dim()))
    pads = [w.rng.choice((0, 1, 2, -1)) for _ in range(2 * count)]
    mode = w.either("", "", ", value=1.5", ", value=-1", ", mode='reflect'", ", mode='replicate'", ", mode='circular'")
    return f"F.pad({x}, {pads}{mode})"


def windows(w: Writer) -> str:
    """Windows along a line."""
    x = w.floats(range(1, 4))
    dim = w.dim(among=w.fixed())
    return f"{x}.unfold({dim}, {w.rng.randint(1, min(3, w.tensor().shape[dim]))}, {w.rng.randint(1, 2)})"


LAYOUT = (
    merge,
    merge,
    split_dim,
    split_dim,
    permute,
    move,
    squeeze,
    expand,
    cut,
    cut,
    pick,
    pick,
    gather,
    pieces,
    pieces,
    join,
    token,
    pad,
    windows,
    "{m}.transpose({dim}, {dim2})",
    "{m}.{f:mT|swapaxes(0, 1)|swapdims(-1, 0)}",
    "{row}.{f:t()|T}",
    "{x}.unsqueeze({a:0|-1})",
    "{x}.flatten()",
    "{m}.flatten(1)",
    "{l}.repeat({a:2|1|3}, {ones})",
    "torch.tile({l}, ({a:1|2},))",
    "{l}.repeat_interleave({k:1|2}, dim={dim})",
    "{x}.expand_as({t})",
    "torch.broadcast_to({t}, {x}.shape)",
    "torch.{f:tril|triu}({m}, {k:0|-1|1})",
    "{m}.diagonal({a:0|1}, -2, -1)",
    "torch.slice_scatter({l}, {n} * {l}[..., :1], dim=-1, start=0, end=1)",
    "torch.select_scatter({l}, {l}[..., 0] * 2, -1, {a:0|-1})",
    "torch.roll({m}, ({a:1|-1}, {b:2|-2}), ({dim}, {dim2}))",
    "torch.flip({m}, {dims})",
    "{x}.view_as({t})",
    "torch.squeeze({x}.unsqueeze(-1), -1)",
)
