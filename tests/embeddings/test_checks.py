"""Every check of `heareval validate` against a zoo of broken submissions, in this process."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from heareval.embeddings.advice import ADVICE  # noqa: E402
from heareval.embeddings.inside.checks import long_audio  # noqa: E402
from heareval.embeddings.inside.checks.long_audio import extrapolate  # noqa: E402
from heareval.embeddings.inside.checks.table import CHECKS  # noqa: E402
from tests.embeddings.checking import findings_of, noticed, run  # noqa: E402
from tests.embeddings.zoo import GOOD, ZOO  # noqa: E402

BASELINE = "heareval.embeddings.baseline"


def weights(folder: Path) -> str:
    """Write weights of the good submission; return the path."""
    torch.save({"scale": torch.ones(8)}, folder / "weights.pt")
    return str(folder / "weights.pt")


def test_the_zoo_has_a_model_for_each_check() -> None:
    assert {broken.check for broken in ZOO.values()} == set(CHECKS)


def test_every_check_has_its_advice() -> None:
    assert list(ADVICE) == list(CHECKS)
    for name, check in CHECKS.items():
        assert set(check.needs) <= set(list(CHECKS)[: list(CHECKS).index(name)])


@pytest.mark.parametrize("name", ZOO)
def test_a_broken_model_is_caught_by_the_check_for_it(name: str, folder: Path) -> None:
    broken = ZOO[name]
    model = weights(folder) if broken.check == "weights" else ""
    # On a busy machine every model is slow.
    speed = 100.0 if broken.check == "speed" else 1.0
    findings = findings_of(folder, broken.source, model, speed=speed)
    assert noticed(findings) == {broken.check: broken.result}, findings
    assert list(findings) == list(CHECKS)


def test_a_good_model_passes_everything(folder: Path) -> None:
    findings = findings_of(folder, GOOD, weights(folder))
    assert {finding["result"] for finding in findings.values()} == {"ok"}, findings


def test_the_baseline_passes_everything() -> None:
    findings = run(module=BASELINE)
    assert {finding["result"] for finding in findings.values()} == {"ok"}, findings


def test_weights_that_are_missing_or_others(folder: Path) -> None:
    missing = findings_of(folder, GOOD, str(folder / "none.pt"))
    assert noticed(missing) == {"weights": "failed"}
    assert missing["speed"]["measured"] == "needs long audio"
    torch.save({"scale": torch.ones(9)}, folder / "other.pt")
    other = findings_of(folder, GOOD, str(folder / "other.pt"))
    assert noticed(other) == {"weights": "failed"}
    assert "size mismatch" in other["weights"]["measured"] or "RuntimeError" in other["weights"]["measured"]


def test_an_exception_is_reported_with_its_place(folder: Path) -> None:
    findings = findings_of(folder, ZOO["load_fails"].source)
    assert findings["model"]["measured"].startswith("OSError: no cloud (line ")


@pytest.mark.parametrize("hop_s", [0.01, 0.025, 0.05])
@pytest.mark.parametrize("off_ms", [0.0, -20.0, 40.0, 120.0])
def test_centring_measures_how_far_off_the_stamps_are(
    hop_s: float, off_ms: float, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hop = round(hop_s * 16000)
    source = GOOD.replace("unfold(1, 800, 800)", f"unfold(1, 800, {hop})")
    source = source.replace("* 50.0 + min(25.0, length / 32)", f"* {hop_s * 1000} + 25.0 + {off_ms}")
    monkeypatch.setattr("heareval.embeddings.inside.checks.run.CHECKS", {"centring": CHECKS["centring"]})
    measured = findings_of(folder, source)["centring"]["measured"]
    assert float(measured.split()[0]) == pytest.approx(off_ms, abs=4 if hop_s < 0.05 else 8)


@pytest.mark.parametrize("power", [1, 2])
def test_time_and_memory_of_longer_audio_are_extrapolated(power: int) -> None:
    taken = {length: 3.0 + 1e-4 * length**power for length in (10.0, 60.0, 300.0)}
    expected = extrapolate(taken, 1200.0)
    true = 3.0 + 1e-4 * 1200.0**power
    assert true * 0.99 <= expected < 3 * true


def test_audio_is_as_long_as_time_allows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the model's sleep advances the clock, so the load of the machine does not matter."""
    clock = [0.0]
    # Not that of the module time, which other threads of the tests use.
    advancing = SimpleNamespace(
        perf_counter=lambda: clock[0], sleep=lambda seconds: clock.append(clock.pop() + seconds)
    )
    monkeypatch.setattr(long_audio, "time", advancing)
    wait = (
        f"\n    if length > 5 * 16000: from {long_audio.__name__} import time; "
        "time.sleep(length / 16000 * 0.004)"
    )
    source = GOOD.replace("    length = audio.shape[1]", "    length = audio.shape[1]" + wait)
    findings = findings_of(folder, source, long_s=1200.0, long_budget_s=1.2)
    assert findings["long audio"]["result"] == "ok"
    assert findings["long audio"]["measured"] == "60 s in 0.48 s; 300 s would take about 2.4 s"


def test_long_audio_that_fails_is_reported_with_its_length(folder: Path) -> None:
    findings = findings_of(folder, ZOO["no_minute"].source)
    assert findings["long audio"]["measured"] == "ValueError: too long (line 18 of in_the_zoo.py), at 60 s"
    assert {findings[name]["result"] for name in ("drift", "memory", "speed")} == {"not run"}


def test_longer_audio_is_not_tried_without_enough_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks = iter([1e9, 2e9, 3.5e9, 15.5e9])
    monkeypatch.setattr(long_audio, "peak_bytes", lambda framework: next(peaks))
    monkeypatch.setattr(long_audio, "free_bytes", lambda framework: 10e9)
    findings = findings_of(folder, GOOD, long_s=300.0, memory_bytes=16e9)
    assert findings["long audio"]["measured"].endswith("; 300 s would take 11 GiB more than there is")
    assert findings["memory"]["result"] == "ok"
    assert findings["memory"]["measured"] == "14 GiB of the process at 300 s, extrapolated from 3.3 at 60 s"
