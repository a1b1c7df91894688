"""Convolutions, pooling, resizing and patches: what takes `[N, channels, height, width]`."""

from tests.fuzz.writer import NoFit, Writer


def image(w: Writer, smallest: int = 1) -> tuple[str, list[int]]:
    """A value of four dimensions whose last three sizes are known."""
    x = w.floats([4], lambda t: min(t.shape[-2:]) >= smallest)
    if not {1, 2, 3} <= set(w.fixed()):
        raise NoFit
    return x, list(w.tensor().shape)


def _pair(w: Writer, low: int, high: int) -> str:
    one, two = w.rng.randint(low, high), w.rng.randint(low, high)
    return w.either(str(one), str((one, two)))


def conv2d(w: Writer) -> str:
    """With every option."""
    x, (_, channels, *_) = image(w)
    groups = w.rng.choice([n for n in (1, 1, 2, channels) if channels % n == 0])
    out = groups * w.rng.randint(1, 3)
    kernel = [w.rng.randint(1, 3), w.rng.randint(1, 3)]
    options = f"stride={_pair(w, 1, 2)}, padding={_pair(w, 0, 2)}, dilation={_pair(w, 1, 2)}"
    options = w.either(
        options, "padding='same'", "padding='valid'", f"padding='same', dilation={_pair(w, 1, 2)}", f"stride={kernel}"
    )
    weight, bias = w.weight(out, channels // groups, *kernel), w.either("None", w.weight(out))
    return f"F.conv2d({x}, {weight}, {bias}, {options}, groups={groups})"


def conv_layer(w: Writer) -> str:
    """`nn.Conv2d`, alone and with a batch norm after it."""
    x, (_, channels, *_) = image(w)
    out = w.rng.choice((2, 4))
    mode = w.either("", ", padding_mode='reflect'", ", padding_mode='replicate'", ", padding_mode='circular'")
    layer = f"nn.Conv2d({channels}, {out}, 3, padding=1{mode}, bias={w.either('True', 'False')})"
    norm = f"nn.BatchNorm2d({out})"
    return f"{w.make(w.either(layer, f'nn.Sequential({layer}, {norm})', f'nn.Sequential({layer}, {norm}, nn.ReLU())'), 'm')}({x})"


def conv_transpose(w: Writer) -> str:
    """Upwards."""
    x, (_, channels, *_) = image(w)
    groups = w.rng.choice([n for n in (1, 2) if channels % n == 0])
    kernel = [w.rng.randint(1, 3), w.rng.randint(1, 3)]
    options = f"stride={w.either('1', '2', '(2, 3)')}, padding={w.either('0', '0', '1')}, groups={groups}"
    options += w.either("", ", output_padding=1", ", dilation=2")
    bias = w.either("None", w.weight(2 * groups))
    return f"F.conv_transpose2d({x}, {w.weight(channels, 2, *kernel)}, {bias}, {options})"


def pool(w: Writer) -> str:
    """Maxima and averages of windows."""
    x, _ = image(w, 2)
    stride, ceil = w.either("", f", stride={_pair(w, 1, 3)}"), w.either("", ", ceil_mode=True")
    padding = w.either("", ", padding=1")
    if w.rng.random() < 0.5:
        return f"F.max_pool2d({x}, {_pair(w, 2, 3)}{stride}{padding}{ceil}{w.either('', ', dilation=2')})"
    rest = w.either("", ", count_include_pad=False", ", divisor_override=3")
    return f"F.avg_pool2d({x}, {_pair(w, 2, 3)}{stride}{padding}{ceil}{rest})"


def adaptive(w: Writer) -> str:
    """To a size."""
    x, _ = image(w)
    return (
        f"F.adaptive_{w.either('avg', 'max')}_pool2d({x}, {w.either('1', '2', '(1, 1)', '(2, 3)', '(None, 1)', '3')})"
    )


def resize(w: Writer) -> str:
    """Interpolation by factor and to a size."""
    x, _ = image(w)
    how = w.either("size=(5, 4)", "size=3", "scale_factor=2", "scale_factor=(2.0, 1.5)")
    mode = w.either("'nearest'", "'bilinear', align_corners=False", "'bilinear', align_corners=True", "'bicubic'")
    return f"F.interpolate({x}, {how}, mode={mode})"


def patches(w: Writer) -> str:
    """Unfold, and fold again."""
    x, (_, _, height, width) = image(w, 2)
    options = f"padding={_pair(w, 0, 1)}, stride={_pair(w, 1, 2)}"
    unfolded = f"F.unfold({x}, {_pair(w, 1, 2)}, {options})"
    return w.either(unfolded, f"F.fold(F.unfold({x}, 2, padding=1), ({height}, {width}), 2, padding=1)")


def grid(w: Writer) -> str:
    """Sampling at given places, outside ones among them."""
    x, _ = image(w)
    places = w.make("nn.Buffer(torch.randn(1, 3, 2, 2) * 0.7)", "c")
    options = (
        f"mode={w.either(repr('bilinear'), repr('nearest'))}, padding_mode={w.either(repr('zeros'), repr('border'))}"
    )
    return f"F.grid_sample({x}, {places}.expand({w.size(0)}, -1, -1, -1), {options}, align_corners={w.either('True', 'False')})"


def shuffle(w: Writer) -> str:
    """Pixels into channels and the other way."""
    x, _ = image(w)
    return f"F.pixel_{w.either('shuffle', 'unshuffle')}({x}, 2)"


def to_image(w: Writer) -> str:
    """Tokens as an image, as hierarchical ViTs do."""
    x = w.floats([3])
    if not {1, 2} <= set(w.fixed()):
        raise NoFit
    tokens, width = w.tensor().shape[1:]
    height = w.rng.choice([n for n in range(1, tokens + 1) if tokens % n == 0])
    return f"{x}.transpose(1, 2).reshape({w.size(0)}, {width}, {height}, {tokens // height})"


IMAGES = (
    conv2d,
    conv2d,
    conv_layer,
    conv_transpose,
    pool,
    pool,
    adaptive,
    resize,
    patches,
    grid,
    shuffle,
    to_image,
    "F.avg_pool1d({tokens}, {k:1|2|3}, {s:1|2}, {p:0|1}, {flag}, {flag2})",
    "F.max_pool1d({tokens}, {k:1|2}, {s:1|2})",
)
