"""A stage whose code changed must say whether its output may differ."""

from __future__ import annotations

import functools
import json

import pytest

from tests import stages

current = functools.cache(stages.current)


@pytest.mark.parametrize("stage", stages.STAGES)
def test_changed_code_has_been_considered(stage: str) -> None:
    recorded, now = json.loads(stages.RECORD.read_text())[stage], current()[stage]
    before, after = recorded["modules"], now["modules"]
    assert isinstance(after, dict)
    changed = sorted(name for name in before | after if before.get(name) != after.get(name))
    assert recorded == now, (
        f"the code of stage {stage!r} changed in {', '.join(changed) or 'its VERSION'}: if its output may "
        "differ, raise its VERSION and name it in CHANGELOG.md; then record it with `python -m tests.stages`"
    )


def test_every_module_is_part_of_a_stage_or_says_why_not() -> None:
    staged = {name for stage in stages.STAGES for name in stages.stage_modules(stage)}
    exempt = {*stages.WITHOUT_STAGE, *stages.WITHOUT_INFLUENCE} - {"heareval"}
    modules = [name for name in stages.MODULES if stages.is_within(name, stages.STAGED)]
    assert [name for name in modules if name in staged and stages.is_within(name, exempt)] == []
    assert [name for name in modules if name not in staged and not stages.is_within(name, exempt)] == []


@pytest.mark.parametrize("table", [stages.WITHOUT_STAGE, stages.WITHOUT_INFLUENCE])
def test_exemptions_name_modules_that_exist(table: dict[str, str]) -> None:
    assert [name for name in table if name not in stages.MODULES] == []


@pytest.mark.parametrize(
    ("stage", "module"),
    [
        ("predict", "predictions.learners.knn"),
        ("predict", "predictions.learners.linear"),
        ("predict", "predictions.metrics.event"),
        ("clips", "tasks.midi"),
        ("audio", "tasks.decode"),
        ("extract", "archives.unpack.rar"),
        ("embed", "embeddings.journal"),
    ],
)
def test_what_is_only_imported_is_part_of_a_stage(stage: str, module: str) -> None:
    assert f"heareval.{module}" in stages.stage_modules(stage)
