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


@pytest.mark.parametrize("module", [name for name in stages.MODULES if stages.is_within(name, stages.STAGED)])
def test_every_module_is_part_of_a_stage_or_says_why_not(module: str) -> None:
    staged = {name for stage in stages.STAGES for name in stages.stage_modules(stage)}
    exempt = {*stages.WITHOUT_STAGE, *stages.WITHOUT_INFLUENCE} - {"heareval"}
    assert (module in staged) != stages.is_within(module, exempt), (
        f"{module} is {'part of a stage and exempt' if module in staged else 'part of no stage'}"
    )


@pytest.mark.parametrize("table", [stages.WITHOUT_STAGE, stages.WITHOUT_INFLUENCE])
def test_exemptions_name_modules_that_exist(table: dict[str, str]) -> None:
    assert [name for name in table if name not in stages.MODULES] == []


@pytest.mark.parametrize(
    ("stage", "module"),
    [
        ("predict", "predictions.knn"),
        ("predict", "predictions.linear"),
        ("predict", "predictions.metrics.event"),
        ("clips", "tasks.midi"),
        ("audio", "tasks.decode"),
        ("extract", "archives.unpack.rar"),
        ("embed", "embeddings.journal"),
    ],
)
def test_what_is_only_imported_is_part_of_a_stage(stage: str, module: str) -> None:
    assert f"heareval.{module}" in stages.stage_modules(stage)


CODE = "def f(a, b=2):\n    return f\"{a}\" + 'x'\n"


@pytest.mark.parametrize(
    "same",
    [
        '"""A docstring."""\n\n\ndef f(a, b=2):  # a comment\n    """Another."""\n    return f"{a}" + "x"\n',
        "def f(\n    a,\n    b=2,\n):\n    return (\n        f'{a}'\n        + 'x'\n    )\n",
    ],
)
def test_layout_comments_and_docstrings_do_not_count(same: str) -> None:
    assert stages.code_digest(same) == stages.code_digest(CODE)


def test_the_digest_is_that_of_every_python() -> None:
    assert stages.code_digest(CODE) == "241e72d1204ac89a"


@pytest.mark.parametrize(
    "other", [CODE.replace("2", "3"), CODE.replace("'x'", "'y'"), CODE + "f = 1\n", CODE.replace("b", "c")]
)
def test_code_counts(other: str) -> None:
    assert stages.code_digest(other) != stages.code_digest(CODE)
