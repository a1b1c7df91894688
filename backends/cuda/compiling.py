"""Compilation of every kernel for a GPU that need not be there, by Triton's own compiler."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from vitgraph.errors import CheckFailed, InputError

if TYPE_CHECKING:
    from vitgraph.backends.cuda.kernels.variants import Variant

SHARED_MEMORY = {80: 163 * 1024, 86: 99 * 1024, 89: 99 * 1024, 90: 227 * 1024}
"""Bytes that a thread block may take, by compute capability (CUDA C++ Programming Guide, technical specifications)."""


@dataclass(frozen=True)
class CompiledKernel:
    """What one variant of a kernel became."""

    name: str
    capability: int
    shared_memory: int
    """Bytes a thread block."""
    registers: int
    """A thread; 255 at most."""
    stack: int
    """Bytes a thread that did not fit into registers."""
    size: int
    """Bytes of the machine code (cubin)."""
    instruction: str | None
    """The matrix instruction of PTX that its products are made of, as `mma.sync.aligned.m16n8k32.row.col.satfinite.s32.s8.s8.s32`."""


def compile_kernels(capability: int) -> list[CompiledKernel]:
    """Every kernel for compute capability `capability` (80 is sm_80).

    `InputError` for a capability that is not in `SHARED_MEMORY`, and where there is no Triton that compiles; `CheckFailed`
    names the kernel that does not compile, or takes more shared memory than there is.
    """
    if capability not in SHARED_MEMORY:
        raise InputError(f"capability {capability}: kernels are made for {', '.join(map(str, SHARED_MEMORY))}")
    if find_spec("triton") is None:
        raise InputError("Triton is not installed; it comes with torch for CUDA, or by pip install triton")
    if import_module("triton").knobs.runtime.interpret:
        raise InputError("TRITON_INTERPRET is set: kernels are interpreted and can't be compiled; unset it")
    from vitgraph.backends.cuda.kernels.variants import variants

    return [compile_variant(variant, capability) for variant in variants(SHARED_MEMORY[capability])]


def compile_variant(variant: Variant, capability: int) -> CompiledKernel:
    """One variant; `CheckFailed` where it does not compile or takes too much shared memory."""
    from vitgraph.backends.cuda.triton_language import WITHOUT_FUSION

    compiler: Any = import_module("triton.compiler")
    target: Any = import_module("triton.backends.compiler").GPUTarget("cuda", capability, 32)
    source = compiler.ASTSource(variant.kernel, variant.signature(), variant.constexprs(), variant.attributes())
    what = f"kernel {variant.name} for sm_{capability}"
    try:
        made = compiler.compile(source, target=target, options={**variant.options, **WITHOUT_FUSION})
    except Exception as error:  # Triton, LLVM and ptxas have no common exception
        raise CheckFailed(f"{what} does not compile: {error}") from error
    if made.metadata.shared > SHARED_MEMORY[capability]:
        raise CheckFailed(
            f"{what} takes {made.metadata.shared} bytes of shared memory; a block has {SHARED_MEMORY[capability]}"
        )
    cubin, product = made.asm["cubin"], re.search(r"(?:wgmma\.mma_async|mma\.sync)[\w.]+", made.asm["ptx"])
    registers, stack = _resources(cubin)
    instruction = product[0] if product else None
    return CompiledKernel(variant.name, capability, made.metadata.shared, registers, stack, len(cubin), instruction)


def _resources(cubin: bytes) -> tuple[int, int]:
    """Registers and bytes of stack of a thread, read by the `cuobjdump` that Triton brings."""
    tool = import_module("triton").knobs.nvidia.cuobjdump.path
    with TemporaryDirectory() as folder:
        file = Path(folder, "kernel.cubin")
        file.write_bytes(cubin)
        told = subprocess.run([tool, "--dump-resource-usage", file], check=True, capture_output=True, text=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", told)
    if not found:
        raise CheckFailed(f"cuobjdump tells no registers: {told.strip()[:200]}")
    return int(found[1]), int(found[2])
