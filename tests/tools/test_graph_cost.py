"""`vitgraph inspect --cost`: the reference numbers of seven models to the last digit, and what it refuses."""

import json
from pathlib import Path

import pytest

from tests.tools.conftest import Cli
from vitgraph.cost.measured_files import shipped

# model: parameters M, block linears % of them, MACs G, of attention G, uniform 2:4 and 1:4 (G and times fewer),
# size over FP32 with block linears packed and the rest FP16 (INT8, INT4), bit operations (everything 8 bits; rest FP32)
SEVEN = {
    "deit_tiny_patch16_224": ("5.717", 92.8, "1.254", 0.179, "0.73 G (1.72x)", "0.47 G (2.67x)", "5.53x", "9.23x", "27.4", "5.2"),
    "deit_small_patch16_224": ("22.051", 96.3, "4.599", 0.358, "2.51 G (1.83x)", "1.46 G (3.15x)", "5.92x", "10.67x", "29.3", "8.4"),
    "deit_base_patch16_224": ("86.568", 98.1, "17.564", 0.715, "9.20 G (1.91x)", "5.01 G (3.50x)", "6.14x", "11.62x", "30.6", "13.0"),
    "deit_base_patch16_384": ("86.859", 97.8, "55.484", 6.137, "30.98 G (1.79x)", "18.73 G (2.96x)", "6.10x", "11.43x", None, None),
    "swin_tiny_patch4_window7_224": ("28.288", 91.5, "4.491", 0.140, "2.41 G (1.86x)", "1.37 G (3.28x)", "6.00x", "10.99x", "29.8", "9.8"),
    "swin_small_patch4_window7_224": ("49.606", 95.0, "8.741", 0.229, "4.58 G (1.91x)", "2.50 G (3.50x)", "6.14x", "11.61x", "30.5", "12.9"),
    "swin_base_patch4_window7_224": ("87.768", 95.4, "15.431", 0.305, "8.03 G (1.92x)", "4.33 G (3.56x)", "6.20x", "11.88x", "30.7", "14.1"),
}  # fmt: skip
ELSA = {"deit_base_patch16_224": ("17.57", "6.06"), "swin_base_patch4_window7_224": ("15.44", "5.32")}
"""Dense FLOPs as ELSA counts, and a 2.9th of them."""


def row(text: str, start: str) -> str:
    """The line of a table that begins with these words."""
    (line,) = [line.strip() for line in text.splitlines() if line.strip().startswith(start)]
    return line


QUICK = ("deit_tiny_patch16_224", "swin_tiny_patch4_window7_224")


@pytest.mark.parametrize(
    "model", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SEVEN]
)
def test_reference_numbers_to_the_last_digit(cli: Cli, model: str) -> None:
    parameters, linear, macs, attention, half, quarter, int8, int4, bits, bits_rest = SEVEN[model]
    text = cli("inspect", model, "--cost").out
    assert f"{parameters} M" in row(text, "parameters")
    assert f"{macs} G" in row(text, "multiply-accumulates")
    assert float(row(text, "attention").split()[-1]) == attention
    assert half in row(text, "2:4")
    assert quarter in row(text, "1:4")
    assert row(text, "size, every parameter").split()[-2:] == ["6.40x", "12.80x"]
    assert row(text, "size, block linears").split()[-2:] == [int8, int4]
    shares = [float(row(text, role).split()[-2]) for role in ("qkv", "proj", "fc1", "fc2")]
    assert sum(shares) == pytest.approx(linear, abs=0.15)
    if bits is not None and bits_rest is not None:
        assert float(row(text, "bit operations, all products").split()[-2][:-1]) == pytest.approx(
            float(bits), abs=0.051
        )
        assert float(row(text, "bit operations, all but").split()[-2][:-1]) == pytest.approx(
            float(bits_rest), abs=0.051
        )
    if model in ELSA:
        flops = float(row(text, "elsa").split()[1])
        assert (f"{flops:.2f}", f"{flops / 2.9:.2f}") == ELSA[model]


def test_weights_that_were_not_loaded_have_no_known_zeros(cli: Cli) -> None:
    unloaded = cli("inspect", "digits-vit", "--cost", "--json").json
    assert unloaded["weights"] == "not loaded, shapes only"
    assert unloaded["nonzero_parameters"] is None
    assert unloaded["nonzero_why"] == "the weights were not loaded"
    loaded = cli("inspect", "digits-vit", "--cost", "--json", "--weights", "random").json
    assert loaded["nonzero_parameters"] == loaded["parameters"] == unloaded["parameters"]
    assert "nonzero_why" not in loaded
    assert loaded["macs"] == unloaded["macs"]


def test_zeros_of_a_saved_program_are_counted(cli: Cli) -> None:
    steps = "canonicalize,fold-constants,fuse-attention,nm-mask{n=2 m=4},materialize"
    assert cli("opt", "digits-vit", "--pipeline", steps, "-o", "masked").status == 0
    data = cli("inspect", "masked", "--cost", "--json").json
    block = sum(data["roles"][role]["macs"] for role in ("qkv", "proj", "fc1", "fc2"))
    assert data["nonzero_macs"] == data["macs"] - block // 2


def test_a_compilation_shows_its_reports_cost(cli: Cli) -> None:
    assert cli("compile", "digits-vit", "--target", "h200", "--recipe", "int8", "--weights", "random",
               "--pipeline", "canonicalize,fuse-attention,nm-mask,quantize,materialize",
               "--calibration-data", "random", "--calibration-images", "4", "-o", "out").status == 0  # fmt: skip
    data = cli("inspect", "out", "--cost", "--json").json
    assert data["weight_bytes"]["stored"] < 0.7 * data["weight_bytes"]["unpacked"]
    assert data["weight_bytes"]["unpacked"] < 0.5 * data["weight_bytes"]["dense_fp32"]
    assert "bit operations" in cli("inspect", "out", "--cost").out
    assert data["counted_by"]["lpvit"]["counts"]
    assert data["estimated_ms"]["h200"] > 0
    assert list(cli("inspect", "out", "--cost", "--json", "--target", "h200").json["estimated_ms"]) == ["h200"]
    assert "estimated, not measured" in cli("inspect", "out", "--cost").out


def test_what_it_does_not_count(cli: Cli) -> None:
    assert cli("inspect", "digits-vit", "--cost", "--node", "fc1").status == 2
    Path("engine.json").write_bytes(b"{}")
    assert "--cost counts a model" in cli("inspect", "engine.json", "--cost").err


def test_estimates_stand_beside_the_counts_and_say_so(cli: Cli) -> None:
    data = cli("inspect", "digits-vit", "--cost", "--json", "--target", "a100", "--target", "cpu", "--batch", "8").json
    assert "batch 8" in data["estimated_by"]
    assert data["estimated_ms"]["cpu"] is None
    assert data["estimated_why"] == {"cpu": "depend on the processor; vitgraph bench measures them"}
    assert 0 < data["estimated_ms_if"]["int8"]["a100"] < data["estimated_ms"]["a100"]
    text = cli("inspect", "digits-vit", "--cost", "--target", "a100").out
    assert "estimated, not measured" in text
    assert row(text, "a100").split()[1:3] == [
        f"{cli('inspect', 'digits-vit', '--cost', '--json').json['estimated_ms']['a100']:.3g}",
        "ms",
    ]
    assert "h200" not in text


def test_estimates_are_for_the_batch_that_a_program_has(cli: Cli) -> None:
    assert (
        cli("opt", "digits-vit", "--batch", "4", "--pipeline", "canonicalize,fuse-attention", "-o", "four").status == 0
    )
    saved = cli("inspect", "four", "--cost", "--json").json
    assert "batch 4" in saved["estimated_by"]
    ranged = cli("inspect", "digits-vit", "--batch", "1:4:8", "--cost", "--json").json
    assert ranged["estimated_by"] == saved["estimated_by"]
    assert (
        ranged["estimated_ms"]["a100"] > cli("inspect", "digits-vit", "--cost", "--json").json["estimated_ms"]["a100"]
    )


@pytest.mark.slow
def test_measured_products_take_the_place_of_estimates_and_say_so(cli: Cli) -> None:
    plain, replaced = (
        cli("inspect", "deit_tiny_patch16_224", "--cost", "--json", "--batch", "128", *words).json
        for words in ((), ("--measured", "h200"))
    )
    assert plain["estimated_ms_if"]["fp16"]["a100"] == replaced["estimated_ms_if"]["fp16"]["a100"]
    for form in ("fp16", "int8", "int8 2:4"):
        assert plain["estimated_ms_if"][form]["h200"] != replaced["estimated_ms_if"][form]["h200"]
        assert replaced["measured_if"][form] == "48 of 50"
    assert replaced["measured"]["measured"] == 0, "as it is it computes in FP32"
    assert "measured" not in plain
    text = cli(
        "inspect", "deit_tiny_patch16_224", "--cost", "--batch", "128", "--measured", "h200", "--target", "h200"
    ).out
    assert row(text, "h200 ").endswith("with measured products")
    assert (
        "products measured on NVIDIA H200 in place of estimates: 0 of 50 as it is, 48 of 50 were the program all fp16"
        in text
    )


def test_measured_products_of_a_compilation(cli: Cli) -> None:
    """Its own sizes told in a file: its estimate follows."""
    assert (
        cli("compile", "digits-vit", "--target", "h200", "--recipe", "fp16", "--weights", "random", "-o", "out").status
        == 0
    )
    content = json.loads(shipped().to_json())
    rows = dict.fromkeys((37, n, k) for n, k in ((192, 64), (64, 64), (256, 64), (64, 256)))
    times = [{**content["products"][0]["times"][0], "us": 1000.0}]
    content["products"] = [{"rows": m, "n": n, "k": k, "used": [], "times": times} for m, n, k in rows]
    Path("m.json").write_text(json.dumps(content))
    before = cli("inspect", "out", "--cost", "--json", "--target", "h200").json
    found = cli("inspect", "out", "--cost", "--json", "--target", "h200", "--measured", "m.json").json
    assert found["measured"]["measured_ms"] == found["measured"]["measured"] * 1.0
    assert found["measured"]["measured"] >= 4
    assert found["estimated_ms"]["h200"] > before["estimated_ms"]["h200"] + 3.9
    assert found["macs"] == before["macs"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["digits-vit", "--measured", "h200"], "--measured: belongs to --cost"),
        (["digits-vit", "--cost", "--measured", "h200", "--target", "a100"], "was measured on NVIDIA H200"),
        (
            ["digits-vit", "--cost", "--measured", "h200", "--target", "h100"],
            "was measured on NVIDIA H200, which is not h100",
        ),
        (["digits-vit", "--target", "a100"], "--target: belongs to --cost"),
        (["--published"], "--published: belongs to --cost"),
        (["--cost"], "--cost wants a MODEL to count, or --published"),
        ([], "inspect wants a MODEL"),
        (["--cost", "--published", "digits-vit"], "leave out MODEL and --target"),
        (["--cost", "--published", "--target", "a100"], "leave out MODEL and --target"),
        (["digits-vit", "--cost", "--target", "a10"], "unknown target 'a10'"),
    ],
)
def test_options_that_do_not_go_together(cli: Cli, arguments: list[str], why: str) -> None:
    ran = cli("inspect", *arguments)
    assert ran.status == 2
    assert why in ran.err


@pytest.mark.slow
def test_every_published_figure_beside_the_models(cli: Cli) -> None:
    text = cli("inspect", "--cost", "--published").out
    assert row(text, "bert-base@384 batch 32, time of fp16 over fp16 2:4").split()[-4:] == [
        "1.21",
        "1.22",
        "+1%",
        "fitted",
    ]
    assert "that hardware's rates are not published" in row(text, "DeiT-B 3.93x on dedicated hardware")
    assert row(text, "efficientvit_b1 batch 1 fp16, ms").split()[-3] == "1.48"
    assert row(text, "fitted ").split()[1:4] == ["22", "4%", "40%"]
    assert row(text, "held ").split()[1:4] == ["61", "13%", "52%"]
    assert row(text, "assumed ").split()[1:4] == ["10", "7%", "95%"]
    assert row(text, "counted ").split()[1:4] == ["18", "0%", "1%"]
    assert row(text, "measured ").split()[1:4] == ["320", "21%", "131%"]
    assert row(text, "fp8 ").split() == ["fp8", "64", "51%", "+114%"]
