"""A stage whose code changed must say whether its output may differ."""

from __future__ import annotations

import json
import sys

import pytest

from tests import stages


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="the digest of code is that of Python 3.11's parser"
)
@pytest.mark.parametrize("stage", stages.STAGES)
def test_changed_code_has_been_considered(stage: str) -> None:
    recorded, now = json.loads(stages.RECORD.read_text())[stage], stages.current()[stage]
    assert recorded == now, (
        f"the code of stage {stage!r} changed: if its output may differ, raise its VERSION and name it in "
        "CHANGELOG.md; then record it with `python -m tests.stages`"
    )
