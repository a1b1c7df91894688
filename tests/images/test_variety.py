"""Images of one colour and equal ones are noticed; ordinary ones pass in silence."""

import logging

import pytest
import torch

from vitgraph.errors import InputError
from vitgraph.images.data_sources import open_data
from vitgraph.images.image_set import open_images
from vitgraph.images.preprocess import Preprocessing
from vitgraph.images.variety import check_variety

PLAN = Preprocessing(image_size=(4, 4), resize=(4, 4))
MIXED = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def plain(count: int) -> torch.Tensor:
    return torch.arange(float(count))[:, None, None, None].expand(count, 3, 4, 4)


def told(images: torch.Tensor, caplog: pytest.LogCaptureFixture) -> str:
    caplog.clear()
    with caplog.at_level(logging.WARNING, "vitgraph"):
        check_variety(open_data(images, PLAN))
    return caplog.text


def test_all_of_one_colour_each_is_refused() -> None:
    with pytest.raises(InputError, match=r"all 5 that were looked at are of one colour throughout \(0, 1, 2, …\)"):
        check_variety(open_data(plain(5), PLAN))
    with pytest.raises(InputError, match="the only one is of one colour"):
        check_variety(open_data(plain(1), PLAN))


def test_most_of_one_colour_and_equal_ones_are_told(caplog: pytest.LogCaptureFixture) -> None:
    assert "5 of 9 that were looked at have one colour" in told(torch.cat([plain(5), MIXED[:4]]), caplog)
    assert "all 3 that were looked at are equal" in told(MIXED[:1].expand(3, 3, 4, 4), caplog)


def test_others_pass_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    assert told(MIXED, caplog) == told(MIXED[:1], caplog) == told(torch.cat([plain(4), MIXED[:4]]), caplog) == ""
    check_variety(open_images("random", PLAN))
    check_variety(open_images("digits:test", Preprocessing(image_size=(8, 8), resize=(8, 8), mean=(0.5,), std=(0.5,))))
