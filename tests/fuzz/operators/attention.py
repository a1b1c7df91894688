"""Attention: as one operator with every mask, written by hand, linear, and softmaxes by themselves."""

from tests.fuzz.writer import NoFit, Writer

SCALES = ("", ", scale=0.3", ", scale=1.0")


def _projected(w: Writer, ranks: list[int]) -> tuple[str, str, str]:
    """q, k and v: the same value, others that fit it, or projections of it."""
    q = w.floats(ranks, lambda t: t.dim() >= 2)
    like = w.tensor()
    if like.dim() - 1 not in w.fixed():
        raise NoFit
    size = like.shape[-1]
    k, v = (
        w.either(
            q,
            w.value(lambda t: t.dtype == like.dtype and t.shape == like.shape),
            f"{w.make(f'nn.Linear({size}, {size})', 'm')}({q})",
        )
        for _ in range(2)
    )
    if w.rng.random() < 0.15 and like.dim() - 2 in w.fixed():  # over one key
        return q, f"{k}[..., :1, :]", f"{v}[..., :1, :]"
    return q, k, v


def _mask(w: Writer, q: str, k: str) -> str:
    """Of one to four dimensions, truth values or numbers; rows of a boolean one may be empty."""
    like = w.tensor(q)
    if like.dim() - 2 not in w.fixed(q):
        raise NoFit
    tokens = like.shape[-2]
    keys = 1 if ":1, :]" in k else tokens
    heads = like.shape[-3] if like.dim() > 2 and like.dim() - 3 in w.fixed(q) else 1
    shape = w.rng.choice(
        ([tokens, keys], [1, keys], [keys], [heads, tokens, keys], [1, heads, tokens, keys], [1, 1, 1, keys])
    )
    shape = shape if len(shape) <= like.dim() else [tokens, keys]
    if w.rng.random() < 0.5:
        return w.buffer(f"torch.rand({shape}) > {w.either('0.3', '0.6')}")
    return w.either(
        w.weight(*shape), w.buffer(f"torch.zeros([{shape}]).masked_fill(torch.rand({shape}) > 0.7, -100.0)")
    )


def fused(w: Writer) -> str:
    """`scaled_dot_product_attention` with and without a mask, causal, with a scale."""
    q, k, v = _projected(w, [2, 3, 4])
    masked = w.rng.random() < 0.6
    mask = f", attn_mask={_mask(w, q, k)}" if masked else w.either("", ", is_causal=True")
    return f"F.scaled_dot_product_attention({q}, {k}, {v}{mask}{w.rng.choice(SCALES)})"


def heads(w: Writer) -> str:
    """One projection to q, k and v of several heads, as ViTs write it."""
    x = w.floats([3])
    if not {1, 2} <= set(w.fixed()) or w.tensor().shape[2] % 2:
        raise NoFit
    tokens, width = w.tensor().shape[1:]
    qkv = f"{w.make(f'nn.Linear({width}, {3 * width})', 'm')}({x})"
    parts = f"{qkv}.reshape(-1, {tokens}, 3, 2, {width // 2}).permute(2, 0, 3, 1, 4)"
    return f"_, _, _ = {w.either(parts, f'{parts}.unbind(0)', f'{parts}.chunk(3)')}"


def by_hand(w: Writer) -> str:
    """softmax(scale q kᵀ + bias) v, in several spellings."""
    q, k, v = _projected(w, [2, 3, 4])
    scores = w.either(f"{q} @ {k}.mT", f"torch.matmul({q}, {k}.transpose(-2, -1))", f"({q} * 0.4) @ ({k} * 0.7).mT")
    scores = w.either(scores, f"{scores} * 0.35", f"{scores} / 3", f"0.35 * ({scores})")
    if w.rng.random() < 0.5:
        scores = f"({scores}) + {_mask(w, q, k)}"
    elif w.rng.random() < 0.3:
        scores = f"({scores}).masked_fill({w.buffer(_mask_text(w, q, k))}, {w.either('-1e9', '-100.0', '-1e4')})"
    weights = w.either(
        f"({scores}).softmax(-1)", f"F.softmax({scores}, dim=-1)", f"torch.softmax({scores}, {w.tensor(q).dim() - 1})"
    )
    return w.either(f"{weights} @ {v}", f"torch.matmul({weights}, {v})", f"{weights} @ {v} * 0.5", weights)


def _mask_text(w: Writer, q: str, k: str) -> str:
    if w.tensor(q).dim() - 2 not in w.fixed(q):
        raise NoFit
    tokens = w.tensor(q).shape[-2]
    return f"torch.rand({[tokens, 1 if ':1, :]' in k else tokens]}) > 0.6"


def linear_attention(w: Writer) -> str:
    """(φ(q) φ(k)ᵀ) v, and the order in which it is cheap."""
    q, k, v = _projected(w, [3, 4])
    act = w.either("F.relu({})", "F.elu({}) + 1", "F.hardswish({})", "F.softplus({})", "F.gelu({})")
    a, b = act.format(q), act.format(k)
    return w.either(f"(({a}) @ ({b}).mT) @ {v}", f"({a}) @ (({b}).mT @ {v})", f"(({a}) @ ({b}).mT) / 5 @ {v}")


def layer(w: Writer) -> str:
    """`nn.MultiheadAttention`."""
    x = w.floats([3])
    if 2 not in w.fixed() or w.tensor().shape[2] % 2:
        raise NoFit
    attention = w.make(f"nn.MultiheadAttention({w.tensor().shape[2]}, 2, batch_first=True)", "m")
    return f"{attention}({x}, {x}, {x}, need_weights={w.either('False', 'True')})[0]"


ATTENTION = (
    fused,
    fused,
    fused,
    heads,
    by_hand,
    by_hand,
    by_hand,
    linear_attention,
    layer,
    "F.softmax({l}, {dim})",
    "{l}.softmax({dim})",
    "F.log_softmax({l}, {dim})",
    "F.softmin({l}, {dim})",
    "F.softmax({l} * {n}, {dim})",
    "F.softmax({l}[..., :1], -1) * {l}",
    "F.softmax({l}, {dim}) * {l}",
)
