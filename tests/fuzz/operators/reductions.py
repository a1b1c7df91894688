"""Reductions along one dimension, several or all; and what looks for the largest, among distinct numbers: ties may go either way."""

from tests.fuzz.writer import NoFit, Writer


def topk(w: Writer) -> str:
    """The largest or smallest few."""
    x = w.distinct(range(1, 5))
    dim = w.dim(among=w.fixed())
    k = w.rng.randint(1, w.tensor().shape[dim])
    return f"_, _ = torch.topk({x}, {k}, {dim}{w.either('', ', largest=False', ', True, True')})"


def pooled_to(w: Writer) -> str:
    """Adaptive pooling of a line."""
    x = w.floats([2, 3])
    if w.tensor().dim() - 1 not in w.fixed():
        raise NoFit
    return f"F.adaptive_{w.either('avg', 'max')}_pool1d({x}, {w.rng.randint(1, 3)})"


REDUCTIONS = (
    "{l}.{f:mean|sum|amax|amin|logsumexp}({dim})",
    "{l}.{f:mean|sum|amax|amin}({dims}, keepdim={flag})",
    "{l}.{f:mean|sum|max|min|prod|std|var}()",
    "{l}.{f:mean|sum|prod}({dim}, {flag})",
    "torch.{f:var|std}({l}, {dims}, unbiased={flag}, keepdim={flag2})",
    "torch.{f:var|std}({l}, {dim}, correction={k:0|1|2}, keepdim={flag})",
    "_, _ = torch.{f:var_mean|std_mean}({l}, {dim}, correction={k:0|1})",
    "_, _ = {distinct}.{f:max|min|sort}({dim})",
    "{l}.{f:max|min}({dim}).values",
    "{distinct}.{f:argmax|argmin}({dim})",
    "{distinct}.{f:argmax|argmin}({dim}, keepdim={flag})",
    "{distinct}.argmax()",
    "torch.cumsum({l}, {dim})",
    "{distinct}.argsort({dim})",
    "{l}.norm(dim={dim}, keepdim={flag})",
    "{l}.norm(p={p:1|2|3|float('inf')}, dim={dims}, keepdim={flag})",
    "torch.linalg.vector_norm({l}, {p:1|2|0.5|float('inf')|float('-inf')|0}, {dim})",
    "{x}.norm()",
    "{x}.numel() * {x}.mean()",
    "{l}.aminmax(dim={dim})[0]",
    topk,
    pooled_to,
)
