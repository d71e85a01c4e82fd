"""`heareval leaderboard`, as its users type it, on a card of real results."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree
from pathlib import Path

import html5lib
import pytest

from heareval.leaderboard.published import read_published
from tests.commands import command, only_line
from tests.predictions.test_cards import (
    SCENE,
    claim_protocol,
    edit_json,
    list_files_again,
    write_submission,
)

CARD = "cards/mine/v1"
PAGE = "site/models/mine-v1.html"
PUBLISHED = len(read_published())
ABOUT = 'name = "mine"\nrevision = "v1"\nurl = "https://example.org/mine"\nparameters = 5000000\n'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the card of a submission, and task folders."""
    root = tmp_path_factory.mktemp("leaderboard")
    write_submission(root)
    (root / "about.toml").write_text(ABOUT)
    words = ("card", "mine", "--about", "about.toml", "--missing-others", "a test")
    done = command(root, "heareval", *words)
    assert (done.returncode, done.stdout) == (0, f"{CARD}\n"), done.stderr
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "root")
    return tmp_path / "root"


def read_origins(root: Path, site: str = "site") -> set[str]:
    tables = json.loads((root / site / "board.json").read_text())["tables"]
    return {row["origin"] for table in tables for row in table["rows"]}


def test_cards_are_recomputed_and_shown(root: Path) -> None:
    done = command(root, "heareval", "leaderboard", "cards", "--date", "2026-01-02")
    counts = f"1 card recomputed, 0 as submitted, 0 refused, {PUBLISHED} published rows"
    assert (done.returncode, done.stdout) == (0, f"site/index.html: {counts}\n"), done.stderr
    assert read_origins(root) == {"recomputed", "published, not recomputed"}
    assert (root / "site" / "models" / "crepe-hear-leaderboard-2023.html").exists()
    page = (root / "site" / "models" / "mine-v1.html").read_text()
    assert 'href="https://example.org/mine"' in page
    for form in ("eval-results.yaml", "every-eval-ever.json"):
        assert form in page
    task = (root / "site" / "tasks" / f"{SCENE}.html").read_text()
    # What the corpus says, its licence and its citation.
    assert "fifty classes" in task
    assert "CC-BY-NC-3.0" in task
    assert "Piczak" in task
    index = (root / "site" / "index.html").read_text()
    assert "figures/" in index
    assert 'href="board.csv"' in index


def test_the_site_is_the_same_again_wherever_it_is_made(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "elsewhere")
    sites = []
    for folder in (root, tmp_path / "elsewhere"):
        done = command(folder, "heareval", "leaderboard", "cards", "--out", "a/site", "--no-published")
        assert done.returncode == 0, done.stderr
        files = (path for path in (folder / "a" / "site").rglob("*") if path.is_file())
        sites.append({str(path.relative_to(folder)): path.read_bytes() for path in files})
    assert sites[0] == sites[1]
    assert not any(str(root).encode() in content for content in sites[0].values())


def test_a_card_with_a_wrong_score_is_left_out(root: Path) -> None:
    scores = next((root / CARD).rglob("*predicted-scores.json"))
    scores.write_text(scores.read_text().replace("0.", "1.", 1))
    done = command(root, "heareval", "leaderboard", "cards", "--no-published")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("refused: ")
    assert "0 cards recomputed, 0 as submitted, 1 refused, 0 published rows" in done.stdout
    index = (root / "site" / "index.html").read_text()
    assert "The scores of these cards could not be confirmed" in index
    assert "mine/v1" in index
    assert str(root) not in index
    assert "models/" not in index


def test_cards_without_references_are_as_submitted(root: Path) -> None:
    shutil.rmtree(root / "tasks" / SCENE)
    done = command(root, "heareval", "leaderboard", "cards", "--no-published")
    assert done.returncode == 0
    assert done.stderr.startswith("not checked: mine/v1: references of esc50")
    assert read_origins(root) == {"as submitted, not recomputed"}
    done = command(root, "heareval", "leaderboard", "cards", "--no-published", "--no-check")
    assert (done.returncode, done.stderr) == (0, "")
    assert read_origins(root) == {"as submitted, not recomputed"}


def test_a_card_that_passed_is_checked_again_only_if_something_changed(root: Path) -> None:
    words = ("heareval", "leaderboard", "cards", "--no-published", "--checked", "passed.json")
    assert command(root, *words).returncode == 0
    assert len(json.loads((root / "passed.json").read_text())["cards"]) == 1
    # Only a check reads the predictions, so a card without readable ones shows whether there was one.
    for path in (root / CARD).rglob("*predictions.npz"):
        path.write_bytes(bytes(path.stat().st_size))
    done = command(root, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert read_origins(root) == {"recomputed"}
    # Of other labels than those that it was checked against.
    metadata = root / "tasks" / SCENE / "task_metadata.json"
    labels = next(each for each in sorted((root / "tasks" / SCENE).glob("*.json")) if each != metadata)
    clips = json.loads(labels.read_text())
    clips.pop(next(iter(clips)))
    labels.write_text(json.dumps(clips))
    done = command(root, *words)
    assert done.returncode == 1
    assert "refused" in done.stderr


def test_a_ledger_of_another_version_counts_for_nothing(root: Path) -> None:
    words = ("heareval", "leaderboard", "cards", "--no-published", "--checked", "passed.json")
    assert command(root, *words).returncode == 0
    ledger = json.loads((root / "passed.json").read_text())
    (root / "passed.json").write_text(json.dumps({**ledger, "heareval": "0.0.1"}))
    for path in (root / CARD).rglob("*predictions.npz"):
        path.write_bytes(bytes(path.stat().st_size))
    assert command(root, *words).returncode == 1
    (root / "passed.json").write_text("[]")
    assert "passed.json" in only_line(command(root, *words))


def test_a_card_without_a_score_for_the_row_of_2021_is_shown(root: Path) -> None:
    """Small tasks and other corpora have the protocol of 2021, but no column there."""
    claim_protocol(root / CARD, "hear2021")
    scores = root / CARD / SCENE / "test.predicted-scores.json"
    edit_json(scores, lambda values: values.update(is_the_published_corpus=False))
    list_files_again(root / CARD)
    done = command(root, "heareval", "leaderboard", "cards", "--no-published", "--no-check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "models/mine-v1.html" in (root / "site" / "index.html").read_text()
    assert not list(root.glob("site/models/*.csv"))


def test_figures_of_reports_are_drawn_once(root: Path) -> None:
    words = ("heareval", "leaderboard", "cards", "--no-published", "--checked", "passed.json", "--figures")
    done = command(root, *words)
    assert (done.returncode, done.stderr) == (0, "")
    page = html5lib.parse((root / PAGE).read_text(), namespaceHTMLElements=False)
    images = [dict(image.items()) for image in page.iter("img")]
    # The figures of `heareval report`, but for those of validation.
    assert [Path(image["src"]).stem for image in images] == [
        "classes",
        *("labels", "confusion"),
        *("labels", "timeline-1", "timeline-2", "timeline-3"),
    ]
    for image in images:
        assert "model mine protocol" in image["alt"]
        drawn = (root / PAGE).parent / image["src"]
        size = xml.etree.ElementTree.parse(drawn).getroot()
        # A point is 4/3 pixels.
        for side in ("width", "height"):
            assert float(size.get(side, "").removesuffix("pt")) * 4 / 3 == pytest.approx(
                float(image[side]), abs=1
            )
    assert "#figures-" in (root / "site" / "tasks" / f"{SCENE}.html").read_text()
    first = {path: path.read_bytes() for path in (root / "site").rglob("*") if path.is_file()}
    # Only drawing reads the predictions, so a card without readable ones shows what is drawn again.
    for path in (root / CARD).rglob("*predictions.npz"):
        path.write_bytes(bytes(path.stat().st_size))
    done = command(root, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert {path: path.read_bytes() for path in (root / "site").rglob("*") if path.is_file()} == first
    shutil.rmtree(root / "passed.json.figures")
    done = command(root, *words)
    assert done.returncode == 1
    assert done.stderr.startswith("refused: mine/v1/")
    assert done.stderr.count("\n") == 1
    assert not (root / PAGE).exists()


def test_figures_need_a_check_and_leave_nothing_else(root: Path) -> None:
    line = only_line(command(root, "heareval", "leaderboard", "cards", "--figures", "--no-check"))
    assert "Leave out --figures or --no-check" in line
    before = {path.name for path in root.iterdir()}
    done = command(root, "heareval", "leaderboard", "cards", "--no-published", "--figures")
    assert done.returncode == 0, done.stderr
    assert "<img" in (root / PAGE).read_text()
    assert {path.name for path in root.iterdir()} == {*before, "site", ".site.lock"}


@pytest.mark.slow
def test_damaged_figures_are_drawn_again(root: Path) -> None:
    words = ("heareval", "leaderboard", "cards", "--no-published", "--checked", "passed.json", "--figures")
    assert command(root, *words).returncode == 0
    page = (root / PAGE).read_text()
    lists = sorted((root / "passed.json.figures").glob("*/figures.json"))
    contents = [path.read_bytes() for path in lists]
    lists[0].write_bytes(contents[0].replace(b'"name": "', b'"name": "../'))
    lists[1].write_bytes(contents[1][:-20])
    next(lists[2].parent.glob("*.svg")).unlink()
    done = command(root, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert (root / PAGE).read_text() == page
    assert [path.read_bytes() for path in lists] == contents


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "thesis.tex").touch()
    line = only_line(command(tmp_path, "heareval", "leaderboard"))
    assert "files that heareval did not make" in line
    done = command(tmp_path, "heareval", "leaderboard", "nothing", "--out", "other")
    assert "no such folder" in only_line(done)
    done = command(tmp_path, "heareval", "leaderboard", "site", "--out", "other")
    assert "no card.json in it" in only_line(done)
    done = command(tmp_path, "heareval", "leaderboard", "nothing", "--allow-none", "--out", "other")
    assert "no such folder" in only_line(done)
    assert [path.name for path in (tmp_path / "site").iterdir()] == ["thesis.tex"]
    assert not (tmp_path / "other").exists()


def test_help_names_both_ways(tmp_path: Path) -> None:
    short = command(tmp_path, "heareval", "leaderboard", "--help").stdout
    assert "is short for" in short
    assert "--checked FILE" in command(tmp_path, "heareval", "leaderboard", "build", "--help").stdout
