"""Normalizations: functions, layers with statistics of their own, and those written by hand."""

from tests.fuzz.writer import NoFit, Writer


def _last(w: Writer, ranks: range = range(1, 5)) -> tuple[str, list[int]]:
    """A value and some of its last sizes, all known."""
    x = w.floats(ranks)
    count = w.rng.randint(1, min(2, w.tensor().dim()))
    if set(range(w.tensor().dim() - count, w.tensor().dim())) - set(w.fixed()):
        raise NoFit
    return x, list(w.tensor().shape[-count:])


def _channels(w: Writer, ranks: range) -> tuple[str, int]:
    x = w.floats(ranks)
    if 1 not in w.fixed():
        raise NoFit
    return x, w.tensor().shape[1]


def layer_norm(w: Writer) -> str:
    """With and without weight and bias."""
    x, shape = _last(w)
    weight, bias = (w.either("None", w.weight(*shape)) for _ in range(2))
    return f"F.layer_norm({x}, {shape}, {weight}, {bias}, eps={w.either('1e-05', '1e-06', '0.1')})"


def layer_norm_layer(w: Writer) -> str:
    """`nn.LayerNorm` with any of its options."""
    x, shape = _last(w)
    options = w.either("", ", eps=1e-06", ", bias=False", ", elementwise_affine=False")
    return f"{w.make(f'nn.LayerNorm({shape}{options})', 'm')}({x})"


def rms_norm(w: Writer) -> str:
    """With and without a weight, and with the type's own eps."""
    x, shape = _last(w)
    weight, eps = w.either("None", w.weight(*shape)), w.either("None", "1e-06")
    return f"F.rms_norm({x}, {shape}, {weight}, eps={eps})"


def layer_norm_by_hand(w: Writer) -> str:
    """As fuse-layer-norm finds it, and nearly so."""
    x, (*_, size) = _last(w)
    mean = f"{x}.mean(-1, keepdim=True)"
    if w.rng.random() < 0.4:
        mean = f"{x}.mean({w.dim()}, keepdim=True)"
    var = w.either(f"{x}.var(-1, keepdim=True, unbiased=False)", f"({x} - {mean}).pow(2).mean(-1, keepdim=True)")
    normed = w.either(f"({x} - {mean}) / torch.sqrt({var} + 1e-05)", f"({x} - {mean}) * torch.rsqrt({var} + 1e-05)")
    return f"{normed} * {w.weight(size)} + {w.weight(size)}"


def batch_norm(w: Writer) -> str:
    """With running statistics that are not those of a new layer."""
    x, size = _channels(w, range(2, 5))
    parts = [w.weight(size), f"{w.weight(size)}.abs() + 0.5", *(w.either("None", w.weight(size)) for _ in range(2))]
    return f"F.batch_norm({x}, {', '.join(parts)}, False, 0.1, {w.either('1e-05', '0.001')})"


def batch_norm_layer(w: Writer) -> str:
    """`nn.BatchNorm` of each rank."""
    x, size = _channels(w, range(2, 5))
    rank = {2: "1d", 3: "1d", 4: "2d"}[w.tensor().dim()]
    options = w.either("", ", affine=False")
    return f"{w.make(f'nn.BatchNorm{rank}({size}{options})', 'm')}({x})"


def group_norm(w: Writer) -> str:
    """With any number of groups."""
    x, size = _channels(w, range(3, 5))
    groups = w.rng.choice([n for n in range(1, size + 1) if size % n == 0])
    weight = w.either("None", w.weight(size))
    return f"F.group_norm({x}, {groups}, {weight}, {w.either('None', w.weight(size)) if weight != 'None' else 'None'})"


NORMS = (
    layer_norm,
    layer_norm,
    layer_norm_layer,
    layer_norm_by_hand,
    rms_norm,
    batch_norm,
    batch_norm_layer,
    group_norm,
    "F.instance_norm({tokens})",
    "F.normalize({l}, dim={dim})",
    "F.normalize({l}, p={p:1|2|3}, dim={dim}, eps=1e-06)",
    "{l} / ({l}.norm(dim={dim}, keepdim=True) + 1e-06)",
    "{l} * torch.rsqrt({l}.pow(2).mean(-1, keepdim=True) + 1e-06)",
    "({l} - {l}.mean({dim}, True)) / ({l}.std({dim}, keepdim=True) + 0.1)",
)
