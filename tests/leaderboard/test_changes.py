"""What a branch may change in the cards of a results repository, in real git repositories."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heareval.leaderboard.changes import (
    MAX_FILES,
    RemovalLog,
    find_faults,
    find_twins,
    find_unexplained,
    parse_removals,
)
from heareval.leaderboard.commits import FILE, LINK, StoredFile
from tests.commands import command, only_line
from tests.leaderboard.results_repository import CARD, add_card, commit, git, write_results
from tests.predictions.test_cards import SCENE, edit_json, list_files_again

CHECK = ("heareval", "leaderboard", "check-changes", "--tasks-dir", "references")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a submission and a results repository: main has its card, and a branch is checked out."""
    root = tmp_path_factory.mktemp("changes")
    repository = write_results(root)
    add_card(root)
    commit(repository, "a card")
    git(repository, "checkout", "--quiet", "-b", "branch")
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "root", symlinks=True)
    return tmp_path / "root"


@pytest.fixture
def repository(root: Path) -> Path:
    return root / "results"


def check(repository: Path, exit_code: int, *words: str) -> list[str]:
    """Check the branch against main, and return the lines."""
    done = command(repository, *CHECK, "--base", "main", *words)
    assert (done.returncode, done.stderr) == (exit_code, ""), done.stdout + done.stderr
    return done.stdout.splitlines()


def refuse(repository: Path) -> str:
    """Return the only reason for which the branch is refused."""
    first, *others = check(repository, 1)
    assert first.startswith("refused: ")
    (problem,) = (line.removeprefix("refused: ") for line in others if line.startswith("refused: "))
    return problem


def forge_score(card: Path) -> None:
    """Give another score to a card, in a way that contradicts nothing but its predictions."""

    def change(values: dict[str, Any]) -> None:
        values["scores"]["top1_acc"].update(score=0.9, folds={"test": 0.9})
        values["test"].update(test_score=0.9, test_top1_acc=0.9)

    (scores,) = (card / SCENE).glob("*scores.json")
    edit_json(scores, change)
    list_files_again(card)


# --------------------------------------------------------------------------- cards added and changed


def test_an_added_card_is_checked_and_its_row_is_shown(root: Path, repository: Path) -> None:
    add_card(root, "other")
    commit(repository)
    # What main has is not checked again, whatever is wrong with it.
    git(repository, "checkout", "--quiet", "main")
    next((repository / CARD).glob("*/*.npz")).write_bytes(b"")
    commit(repository)
    git(repository, "checkout", "--quiet", "branch")
    first, *lines = check(repository, 0)
    assert first == "ok: 1 cards added, 0 changed, 0 removed, 1 recomputed"
    assert any(line.startswith("other v1 with probe-linear: rank 1 of 2, mean ") for line in lines)
    assert any(line.startswith("  ESC-50 full: top1_acc ") for line in lines)
    assert any(line.startswith("  missing (a test): ") and " and 23 more" in line for line in lines)
    assert "  trained on evaluation data: no" in lines


def test_nothing_changed_is_ok(repository: Path) -> None:
    assert check(repository, 0) == ["ok: 0 cards added, 0 changed, 0 removed, 0 recomputed"]


def test_a_changed_score_is_refused(repository: Path) -> None:
    forge_score(repository / CARD)
    commit(repository)
    first, *problems = check(repository, 1)
    assert "0 recomputed" in first
    assert any("as computed from the stored predictions" in line for line in problems)
    assert any("'top1_acc': got 0.900000, expected" in line and "as in the base" in line for line in problems)


def test_right_scores_that_differ_from_earlier_ones_are_refused(repository: Path) -> None:
    """The card of the branch is right; the one of main, which was accepted, has another score."""
    git(repository, "checkout", "--quiet", "main")
    forge_score(repository / CARD)
    commit(repository)
    git(repository, "checkout", "--quiet", "-B", "branch", "main")
    git(repository, "checkout", "--quiet", "main~1", "--", CARD)
    commit(repository)
    problem = refuse(repository)
    assert problem.startswith(f"mine/v1: {SCENE} with probe-linear: 'top1_acc': got ")
    assert "expected 0.900000, as in the base. A model with other scores is another revision" in problem


def test_removed_results_are_refused_and_new_ones_are_not(root: Path, repository: Path) -> None:
    add_card(root, "mine", "--protocol", "probe-linear")
    commit(repository)
    problem = refuse(repository)
    assert "with pairwise-l1: got no such result any more" in problem
    git(repository, "branch", "--force", "main", "branch")
    add_card(root)
    commit(repository)
    assert check(repository, 0)[0] == "ok: 0 cards added, 1 changed, 0 removed, 1 recomputed"


def test_changed_facts_are_told(repository: Path) -> None:
    edit_json(
        repository / CARD / "card.json", lambda card: card["model"].update(trained_on_evaluation_data="yes")
    )
    commit(repository)
    assert f"{CARD} changes trained_on_evaluation_data: 'no' -> 'yes'" in check(repository, 0)


def test_an_earlier_card_that_cannot_be_read_is_named_without_our_folders(repository: Path) -> None:
    git(repository, "checkout", "--quiet", "-B", "branch")
    edit_json(repository / CARD / "card.json", lambda card: card.update(schema_version=0))
    commit(repository)
    git(repository, "branch", "--force", "main", "branch")
    git(repository, "checkout", "--quiet", "main~1", "--", CARD)
    commit(repository)
    problem = refuse(repository)
    assert problem.startswith(f"{CARD} in the base: got {CARD}/card.json: schema_version: got 0, expected 1.")


def test_cards_without_references_are_not_ok(root: Path, repository: Path) -> None:
    git(repository, "checkout", "--quiet", "main")
    shutil.rmtree(repository / "references" / SCENE)
    commit(repository)
    git(repository, "checkout", "--quiet", "-B", "branch", "main")
    add_card(root, "other")
    commit(repository)
    first, *lines = check(repository, 3)
    assert first == "not checked: 1 cards added, 0 changed, 0 removed, 0 recomputed"
    assert lines[0].startswith(f"not checked: references of {SCENE}: got no such folder")
    assert len(lines) == 1


# --------------------------------------------------------------------------- cards removed and renamed


def test_a_card_is_removed_only_with_a_reason(repository: Path) -> None:
    shutil.rmtree(repository / CARD)
    commit(repository)
    problem = refuse(repository)
    assert problem.startswith(f"{CARD}: got a card that is removed or renamed without a reason")
    assert "add a line 'mine/v1: reason' to cards/REMOVED.txt" in problem
    with open(repository / "cards" / "REMOVED.txt", "a") as stream:
        stream.write("mine/v1: trained on \x1b[31m\u202etest data\n")
    commit(repository)
    assert check(repository, 0) == [
        "ok: 0 cards added, 0 changed, 1 removed, 0 recomputed",
        f"{CARD} is removed: 'trained on \\x1b[31m\\u202etest data'",
    ]


def test_a_part_of_a_card_is_not_removed(repository: Path) -> None:
    shutil.rmtree(repository / CARD / SCENE)
    commit(repository)
    problem = refuse(repository)
    assert (
        f"got {SCENE}/test.probe-linear.predicted-scores.json: no such file, expected the files that"
        in problem
    )


def test_a_renamed_card_is_a_removed_and_a_new_one(root: Path, repository: Path) -> None:
    git(repository, "mv", "cards/mine", "cards/other")
    commit(repository)
    assert "removed or renamed without a reason" in refuse(repository)
    with open(repository / "cards" / "REMOVED.txt", "a") as stream:
        stream.write("mine/v1: it is called other now\n")
    commit(repository)
    # The folder has another name now, and the card in it the old one.
    assert "got folders named other/v1, expected mine/v1" in refuse(repository)
    shutil.rmtree(repository / "cards" / "other")
    add_card(root, "other")
    commit(repository)
    assert check(repository, 0)[0] == "ok: 1 cards added, 0 changed, 1 removed, 1 recomputed"


def test_names_that_differ_in_case_only_are_refused(root: Path, repository: Path) -> None:
    assert list(find_twins(["cards/mine/v2"], ["cards/mine/v1", "cards/mine/v2", "cards/my/V2"])) == []
    (revision,) = find_twins(["cards/mine/V1"], ["cards/mine/v1", "cards/mine/V1"])
    assert "got another card whose name differs in upper and lower case only, cards/mine/v1" in revision
    (model,) = find_twins(["cards/Mine/v2"], ["cards/mine/v1", "cards/Mine/v2"])
    assert model.startswith("cards/Mine/v2: got another card")
    add_card(root, "MINE")
    commit(repository)
    assert refuse(repository).startswith("cards/MINE/v1: got another card whose name differs in upper and")


def test_a_copy_under_another_revision_is_refused(repository: Path) -> None:
    shutil.copytree(repository / CARD, repository / "cards" / "mine" / "v2")
    commit(repository)
    assert "got folders named mine/v2, expected mine/v1" in refuse(repository)


def test_the_log_of_removals_only_grows() -> None:
    before = parse_removals(b"# a comment\na/1: wrong\nb/1: late\n")
    assert before == RemovalLog(("a/1: wrong", "b/1: late"), {"a/1": "wrong", "b/1": "late"})
    assert (
        list(find_unexplained(["cards/c/1"], before, parse_removals(b"a/1: wrong\nb/1: late\nc/1: x"))) == []
    )
    (lost,) = find_unexplained([], before, parse_removals(b"a/1: wrong"))
    assert "got no line 'b/1: late' any more" in lost
    (early,) = find_unexplained([], before, parse_removals(b"a/1: wrong\nb/1: late\nc/1: x"))
    assert "got a new line about 'c/1', expected cards that this branch removes" in early
    # A card that was added again needs a new reason.
    assert len(list(find_unexplained(["cards/a/1"], before, before))) == 1


@pytest.mark.parametrize("content", [b"mine/v1", b"mine/v1: ", b"mine: reason", b"\xff"])
def test_a_wrong_log_of_removals_is_named(repository: Path, content: bytes) -> None:
    (repository / "cards" / "REMOVED.txt").write_bytes(content)
    commit(repository)
    assert refuse(repository).startswith("cards/REMOVED.txt: got ")


# --------------------------------------------------------------------------- files


def _write_outside(repository: Path) -> None:
    (repository / "requirements.txt").write_text("evil\n")
    (repository / "references" / SCENE / "task_metadata.json").unlink()


def _write_big(repository: Path) -> None:
    next((repository / CARD).glob("*/*.npz")).write_bytes(bytes(11_000_000))


def _write_link(repository: Path) -> None:
    (path,) = (repository / CARD / SCENE).glob("*.npz")
    path.unlink()
    path.symlink_to("/etc/passwd")


def _link_model(repository: Path) -> None:
    (repository / "cards" / "other").symlink_to("mine")


def _make_executable(repository: Path) -> None:
    (repository / CARD / "card.json").chmod(0o755)


def _write_beside(repository: Path) -> None:
    shutil.copyfile(repository / CARD / "card.json", repository / "cards" / "mine" / "card.json")


def _nest_deeply(repository: Path) -> None:
    (repository / CARD / SCENE / "more").mkdir()
    (repository / CARD / SCENE / "more" / "file").touch()


def _add_submodule(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD").strip()
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{head},cards/other/v1/sub")
    git(repository, "commit", "--quiet", "--message", "a submodule")
    (repository / "cards" / "other" / "v1" / "sub").mkdir(parents=True)


def _write_hostile_name(repository: Path) -> None:
    (repository / "cards" / "a\n\x1b[31m\u202e: ok").write_text("")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            _write_outside,
            f"references/{SCENE}/task_metadata.json and 1 more: got a file that belongs to no card",
        ),
        (
            _write_beside,
            "cards/mine/card.json: got a file that belongs to no card, expected changes of cards/",
        ),
        (_nest_deeply, f"{CARD}/{SCENE}/more/file: got a file that belongs to no card"),
        (_write_hostile_name, r"cards/a\n\x1b[31m\u202e: ok: got a file that belongs to no card"),
        (_write_big, "got 11,000,000 bytes, expected 10,000,000 at most"),
        (_write_link, "got a link, expected a plain file"),
        (_link_model, "cards/other: got a file that belongs to no card"),
        (_make_executable, f"{CARD}/card.json: got an executable file, expected a plain file"),
        (_add_submodule, "cards/other/v1/sub: got a submodule, expected a plain file"),
    ],
)
def test_unusual_files_are_refused_unread(
    repository: Path, change: Callable[[Path], None], told: str
) -> None:
    change(repository)
    if change is not _add_submodule:
        commit(repository)
    lines = check(repository, 1, "--comment", "../comment.txt")
    assert lines[0] == "refused: 0 cards added, 0 changed, 0 removed, 0 recomputed"
    assert any(told in line for line in lines)
    comment = (repository.parent / "comment.txt").read_text(encoding="ascii")
    assert comment.splitlines() == lines


def test_a_branch_has_limits() -> None:
    one = StoredFile("cards/a/1/t/x.npz", FILE, "b", 10_000_000)
    assert list(find_faults([one] * 10)) == []
    (too_large,) = find_faults([one] * 11)
    assert "got 110,000,000 bytes, expected 100,000,000 at most" in too_large
    (too_many,) = find_faults([StoredFile("cards/a/1/t/x.npz", FILE, "b", 1)] * (MAX_FILES + 1))
    assert "got 1,001 changed files, expected 1,000 at most" in too_many
    (linked,) = find_faults([StoredFile("cards/REMOVED.txt", LINK, "b", 1)])
    assert "cards/REMOVED.txt: got a link" in linked


def test_a_model_called_like_the_log_is_no_card() -> None:
    (fault,) = find_faults([StoredFile("cards/REMOVED.txt/v1/card.json", FILE, "b", 1)])
    assert "a file that belongs to no card" in fault


# --------------------------------------------------------------------------- the base


def test_a_branch_behind_main_is_compared_with_the_merge_base(root: Path, repository: Path) -> None:
    add_card(root, "other")
    commit(repository)
    git(repository, "checkout", "--quiet", "main")
    add_card(root, "newer")
    (repository / "README.md").write_text("newer\n")
    shutil.rmtree(repository / CARD)
    commit(repository)
    git(repository, "checkout", "--quiet", "branch")
    # What only main has is not removed, what it removed is not added, and its other changes are not ours.
    assert check(repository, 0)[0] == "ok: 1 cards added, 0 changed, 0 removed, 1 recomputed"


def test_mistakes_are_one_line(repository: Path, tmp_path: Path) -> None:
    words = (*CHECK, "--base")
    assert "--base: got 'none', expected a branch or a commit" in only_line(
        command(repository, *words, "none")
    )
    assert "--base: got '--help', expected a branch" in only_line(command(repository, *words, "--help"))
    line = only_line(command(repository, *words, "main", PATH=str(tmp_path)))
    assert line == "error: git: got no such program, expected git. Install it."
    git(repository, "checkout", "--quiet", "--orphan", "unrelated")
    commit(repository)
    line = only_line(command(repository, *words, "main"))
    assert "got no commit that it shares with HEAD" in line
    (repository / CARD / "more").touch()
    line = only_line(command(repository, *words, "HEAD"))
    assert f"got 1 files that are not committed, such as '{CARD}/more'" in line
    (tmp_path / "none").mkdir()
    line = only_line(command(tmp_path / "none", *words, "main", GIT_CEILING_DIRECTORIES=str(tmp_path)))
    assert "not a git repository" in line


def test_it_works_in_a_folder_of_the_repository(root: Path, repository: Path) -> None:
    add_card(root, "other")
    commit(repository)
    words = ("heareval", "leaderboard", "check-changes", "--base", "main", "--tasks-dir", "../references")
    done = command(repository / "cards", *words)
    assert (done.returncode, done.stderr) == (0, "")
