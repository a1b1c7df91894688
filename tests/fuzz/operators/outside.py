"""Operators that the dialect lacks: each has to be refused by its name. One that has come in goes to its family."""

OUTSIDE = (
    "torch.rot90({m})",
    "torch.diag_embed({l})",
    "torch.meshgrid({line}, {line}, indexing='ij')[0]",
    "torch.diff({l}, dim={dim})",
    "torch.median({l}, {dim}).values",
    "torch.dist({x}, {t})",
    "F.channel_shuffle({image}, 2)",
    "F.local_response_norm({image}, 2)",
    "torch.true_divide({x}, {n})",
    "torch.fmax({x}, {t})",
    "torch.atan2({x}, {t})",
    "torch.hypot({x}, {t})",
    "torch.logaddexp({x}, {t})",
    "{x}.{f:atan|sinh|erfc}()",
    "torch.{f:cumprod|logcumsumexp}({l}, {dim})",
    "_, _ = {l}.{f:cummax|cummin}({dim})",
    "torch.addbmm({c}, {tokens}, {tokens}.mT, beta={n})",
    "F.interpolate({image}, scale_factor=2, mode={m:'nearest-exact'|'bilinear'}, antialias={f:False|True})",
)
