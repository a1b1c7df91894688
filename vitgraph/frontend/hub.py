"""Pretrained weights from the makers' hubs: fetched once by timm or torchvision, and a clear word where they can't be."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress

from torch import nn

from vitgraph.errors import blamed

_PATIENCE = 3.0  # seconds to wait for a hub to answer before only the local cache is asked


def fetch(create: Callable[[], nn.Module], name: str) -> nn.Module:
    """Make a pretrained model; raise an error that names the way round where its weights can't be had.

    Without a network the Hugging Face client retries for most of a minute; a hub that can't be reached at all is
    noticed first, and then only what was fetched before is used.
    """
    from huggingface_hub import constants

    was_offline = constants.HF_HUB_OFFLINE
    quiet = logging.getLogger("huggingface_hub")
    level = quiet.level
    try:
        constants.HF_HUB_OFFLINE = was_offline or not _reaches(constants.ENDPOINT)
        quiet.setLevel(logging.ERROR)
        return create()
    except (OSError, RuntimeError, ValueError) as error:  # no network, no such weights, a hub's refusal, a bad hash
        raise blamed(error)(
            f"model {name!r}: pretrained weights can't be had ({_first_line(error)}); give them with --weights FILE, "
            "or use --weights random"
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = was_offline
        quiet.setLevel(level)


def _reaches(endpoint: str) -> bool:
    """Whether the endpoint's host answers; a proxy is taken at its word, since only it could tell."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    scheme, _, rest = endpoint.partition("://")
    host, _, port = rest.partition("/")[0].partition(":")
    with suppress(OSError), socket.create_connection((host, int(port or (80 if scheme == "http" else 443))), _PATIENCE):
        return True
    return False


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
