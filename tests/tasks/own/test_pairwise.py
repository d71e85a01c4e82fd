"""Pairwise tasks of users: tables of pairs, triplets and queries, and what their authors read."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from heareval import files
from heareval.errors import HearevalError
from heareval.formats.task_folder import read_task_folder
from heareval.predictions.metrics import METRICS
from heareval.spec import RatedPair, Ratings, Retrieval, SamePair, SamePairs, TaskSpec, Triplet, Triplets
from heareval.tasks.own import new as own_new
from heareval.tasks.own import task as own
from heareval.workflow.jobs import CorpusRequest, find_jobs
from tests.commands import command
from tests.tasks.own.birds import write_sound


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """A folder with ten sounds, 0.wav to 9.wav."""
    for number in range(10):
        write_sound(tmp_path / f"{number}.wav", 200.0 + 100 * number)
    return tmp_path


def load(folder: Path, key: str, table: str, *lines: str) -> TaskSpec:
    """Write a table and the TOML file of its task, and load it."""
    (folder / "rows.csv").write_text(table)
    (folder / "near.toml").write_text("\n".join(['name = "near"', f'{key} = "rows.csv"', *lines]))
    return own.load_task(folder / "near.toml")


FORMS = {
    "pairs a,b,score\n0.wav,1.wav,0.5\n0.wav,2.wav,3": Ratings(
        (RatedPair("0", "1", 0.5), RatedPair("0", "2", 3))
    ),
    "pairs a,b,score,group\n0.wav,1.wav,1,ann\n1.wav,0.wav,2,bob\n2.wav,0.wav,3,bob": Ratings(
        (RatedPair("0", "1", 1, "ann"), RatedPair("1", "0", 2, "bob"), RatedPair("2", "0", 3, "bob"))
    ),
    "pairs a,b,same\n0.wav,1.wav,yes\n0.wav,2.wav,0\n3.wav,1.wav,TRUE": SamePairs(
        (SamePair("0", "1", True), SamePair("0", "2", False), SamePair("3", "1", True))
    ),
    'triplets \ufeffanchor;positive;negative\r\n"0.wav";./1.wav;2.wav\r\n': Triplets(
        (Triplet("0", "1", "2"),)
    ),
    "queries path,label,role\n0.wav,hum,query\n1.wav,hum,Gallery\n2.wav,hiss,both": Retrieval(
        "label", role="role"
    ),
    "queries path,label,role,group\n0.wav,hum,query,ann\n1.wav,hum,both,\n2.wav,hiss,both,bob": Retrieval(
        "label", role="role", unit="group"
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_four_forms(sounds: Path, form: str) -> None:
    key, _, table = form.partition(" ")
    task = load(sounds, key, table)
    assert task.read_relation is not None
    assert task.read_relation({}, "full") == FORMS[form]
    assert (task.embedding_type, task.prediction_type, task.splits.names) == ("scene", "pairwise", ("test",))
    assert {METRICS[name].kind for name in task.metrics} == {"pairwise"}
    recordings = list(task.read_recordings({}, "full"))
    assert {each.split for each in recordings} == {"test"}
    assert own.get_sounds(task) is not None
    assert find_jobs(CorpusRequest((str(sounds / "near.toml"),)))[0].folder == "near-v1-full"
    if isinstance(FORMS[form], Retrieval):
        assert recordings[1].attributes["label"] == "hum"
        assert not FORMS[form].unit or [each.attributes["group"] for each in recordings] == [
            "ann",
            "1",
            "bob",
        ]


BAD_TABLES = {
    "pairs a,b\n0.wav,1.wav": "got neither score nor same, expected a column score, or a column same",
    "pairs a,b,score,same\n0.wav,1.wav,1,1": "got score and same, expected",
    "pairs a,b,same,group\n0.wav,1.wav,1,x": "got a column group.* Groups belong to scores",
    "pairs ": "rows.csv: got an empty file, expected a first line that names the columns a, b",
    "pairs \ufeff\n\n": "rows.csv: got an empty file",
    "pairs 0.wav,1.wav,1": "got the columns 0.wav, 1.wav, 1, expected a, b. The first line names",
    "pairs a|b|score\n0.wav|1.wav|1": "got the columns a|b|score, expected a, b. .*semicolons or tabs",
    "pairs anchor,positive,negative\n0.wav,1.wav,2.wav": "expected a, b. Such a table .* as --triplets",
    "triplets a,b,same\n0.wav,1.wav,1": "got the columns a, b, same, expected anchor.* as --pairs",
    "queries a,b,score\n0.wav,1.wav,1": "got the columns a, b, score, expected path.* as --pairs",
    "pairs path,label\n0.wav,hum": "got the columns path, label, expected a, b. Such a table .* as --table",
    "triplets path,label,role\n0.wav,hum,query": "expected anchor, positive, negative.* as --queries",
    "table path,label,role\n0.wav,hum,query": "got the columns path, label, role, .* as --queries",
    "table a,b,score\n0.wav,1.wav,1": "got the columns a, b, score, expected path, label.* as --pairs",
    "pairs a,c,score\n0.wav,1.wav,1": "unknown column of .*rows.csv: got 'c'",
    "pairs a,score\n0.wav,1": "got no column b, expected a, b",
    "pairs a,b,score": "rows.csv: got no rows, expected rows of a, b, score",
    "pairs a,b,score\n0.wav,0.wav,1": "line 2: got 0.wav twice, expected different sounds as a and b. Corr",
    "pairs a,b,score\n0.wav,./0.wav,1": "line 2: got 0.wav twice",
    "pairs a,b,score\n0.wav,1.wav,nan": "line 2: score: got nan, expected a number",
    "pairs a,b,score\n0.wav,1.wav,1e999": "line 2: score: got 1e999, expected a number",
    "pairs a,b,score\n0.wav,1.wav,1_0": "line 2: score: got '1_0', expected a number",
    "pairs a,b,score\n0.wav,1.wav,-1": "score: got -1, expected .* higher means more different. Turn similar",
    "pairs a;b;score\n0.wav;1.wav;0,5": "score: got '0,5', expected a number such as 0.25",
    "pairs a,b,score\n0.wav,1.wav,": "line 2: score: got an empty cell",
    "pairs a,b,score\n0.wav,1.wav,1\n1.wav,0.wav,2": "line 3: got 1.wav and 0.wav again, .* line 2",
    "pairs a,b,score\n0.wav,1.wav,1\n2.wav,3.wav,2": "got no sound with two different scores",
    "pairs a,b,same\n0.wav,1.wav,maybe": "line 2: same: got 'maybe', expected 1 or 0, true or false",
    "pairs a,b,same\n0.wav,1.wav,1": "same: got only pairs that are the same, expected pairs of both kinds",
    "pairs a,b,same\n0.wav,1.wav,1\n0.wav,1.wav,0": "line 3: got .* again.* Remove one of the rows",
    "triplets anchor,positive\n0.wav,1.wav": "got no column negative",
    "triplets anchor,positive,negative\n0.wav,1.wav,1.wav": "line 2: got 1.wav twice",
    "triplets anchor,positive,negative\n0.wav,0.wav,1.wav": "sounds as anchor, positive and negative. C",
    "triplets anchor,positive,negative\n0.wav,1.wav,none.wav": "line 2: sound .*none.wav: got no such file",
    "triplets anchor,positive,negative\n0.wav,1.wav,\x1b[2J": r"sound .*\\x1b\[2J: got no such file",
    "triplets anchor,positive,negative\n0.wav,1.wav,fifo.wav": "fifo.wav: got a FIFO",
    "queries path,label,role\n0.wav,hum,q": "line 2: role: got 'q', expected query, gallery or both",
    "queries path,label,role\n0.wav,a,query\n0.wav,a,gallery": "line 3: got 0.wav again.* has the role both",
    "queries path,label,role\n0.wav,a,query\n1.wav,b,query": "got no sound with the role gallery or both",
    "queries path,label,role\n0.wav,a,gallery": "got no sound with the role query or both",
    "queries path,label,role\n0.wav,a,both\n1.wav,a,both": "label: got only a, expected two or more labels",
    "queries path,label,role\n0.wav,a,both\n1.wav,b,both": "got no query with another sound of its label",
}


@pytest.mark.parametrize("table", BAD_TABLES)
def test_bad_tables(sounds: Path, table: str) -> None:
    os.mkfifo(sounds / "fifo.wav")
    key, _, text = table.partition(" ")
    with pytest.raises(HearevalError) as error:
        load(sounds, key, text)
    assert "\n" not in str(error.value)
    error.match(BAD_TABLES[table])


TRIPLETS = "anchor,positive,negative\n" + "".join(f"{i}.wav,{i + 1}.wav,{i + 3}.wav\n" for i in range(7))


@pytest.mark.parametrize("line", ["folds = 3", 'kind = "multiclass"', 'table = "rows.csv"'])
def test_keys_that_pairwise_tasks_lack(sounds: Path, line: str) -> None:
    with pytest.raises(
        HearevalError, match=r"got (folds|kind) with triplets|got table and triplets, expected"
    ):
        load(sounds, "triplets", TRIPLETS, line)


def test_metrics_fit_the_relation(sounds: Path) -> None:
    load(sounds, "triplets", TRIPLETS, 'metrics = ["mrr"]')
    with pytest.raises(HearevalError, match=r"unknown metric in .*: got 'mrr', expected one of triplet_acc"):
        find_jobs(CorpusRequest((str(sounds / "near.toml"),)))


def test_other_own_tasks_keep_their_digest() -> None:
    """Recorded before there were pairwise tasks."""
    settings = own.OwnTaskSettings(
        "birds", table="clips.csv", clip_duration_s=0.5, folds=5, metrics=("top1_acc",)
    )
    values = own.list_identifying_settings(settings)
    assert files.fingerprint("own", own.VERSION, settings=values, sounds="0" * 64) == "d600be20481c127e"


def test_content_follows_the_table(sounds: Path) -> None:
    before = load(sounds, "triplets", TRIPLETS).content
    assert load(sounds, "triplets", TRIPLETS).content == before
    assert load(sounds, "triplets", TRIPLETS + "9.wav,8.wav,0.wav\n").content != before


def test_new_doubts(sounds: Path) -> None:
    shutil.copy(sounds / "0.wav", sounds / "copy.wav")
    rows = "0.wav,1.wav,2.wav\n0.wav,1.wav,2.wav\n0.wav,2.wav,1.wav\ncopy.wav,1.wav,2.wav\n"
    (sounds / "rows.csv").write_text("anchor,positive,negative\n" + rows)
    lines = own_new.new_task({"name": "near", "triplets": "rows.csv"}, sounds / "near.toml")
    assert lines[:4] == [
        "note: 1 triplet is listed several times, such as 0.wav, 1.wav, 2.wav; every row counts",
        "note: 1 triplet is listed with positive and negative swapped as well, such as 0.wav, 1.wav, 2.wav; "
        "no model can score more than 0.7500",
        f"note: 1 sound has copies under other names, such as {sounds}/0.wav and {sounds}/copy.wav; the "
        "distance between such clips is 0",
        "note: 4 sounds: with fewer than 16 sounds, scores have no confidence interval",
    ]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("0.wav,1.wav,2.wav\n1.wav,2.wav,0.wav\n", "each sound is in 2 of them"),
        ("0.wav,1.wav,2.wav\n0.wav,1.wav,3.wav\n", "each sound is in 1 to 2 of them, 1.5 on average"),
    ],
)
def test_how_often_sounds_are_listed(sounds: Path, rows: str, expected: str) -> None:
    (sounds / "rows.csv").write_text("anchor,positive,negative\n" + rows)
    assert expected in own_new.new_task({"name": "near", "triplets": "rows.csv"}, sounds / "near.toml")


def test_prepare_accepts_what_is_new(sounds: Path) -> None:
    """Of each relation, with paths as people have them; the files of `prepare` hold the same relation."""
    odd = "odd dir #1/ü, 100%.wav"
    (sounds / odd).parent.mkdir()
    shutil.copy(sounds / "9.wav", sounds / odd)
    relations = {}
    forms = {type(relation): form for form, relation in FORMS.items()}
    for number, form in enumerate(forms.values()):
        key, _, table = form.partition(" ")
        (sounds / f"{number}.csv").write_text(
            table.replace("./1.wav", "1.wav").replace("1.wav", f'"{odd}"').replace("2.wav", f"{sounds}/2.wav")
        )
        own_new.new_task({"name": f"form{number}", key: f"{number}.csv"}, sounds / f"form{number}.toml")
        relations[f"form{number}"] = own.load_task(sounds / f"form{number}.toml").read_relation
    done = command(
        sounds, "heareval", "prepare", *(f"{name}.toml" for name in relations), "--sample-rate", "16000"
    )
    assert done.returncode == 0, done.stderr
    for name, read in relations.items():
        folder = sounds / "tasks" / f"{name}-v1-full"
        assert read is not None
        assert read_task_folder(folder).relation == read({}, "full")


def test_a_task_without_usable_triplets_is_not_published(sounds: Path) -> None:
    (sounds / "bad.wav").write_bytes(b"RIFFxxxxWAVE")
    (sounds / "rows.csv").write_text("anchor,positive,negative\n0.wav,1.wav,bad.wav\n")
    command(sounds, "heareval", "tasks", "new", "near", "--triplets", "rows.csv")
    done = command(sounds, "heareval", "prepare", "near.toml", "--on-bad-audio", "skip")
    assert done.returncode != 0
    assert "clips with usable audio: triplets: got none, expected at least one" in done.stderr
    assert not list(sounds.glob("tasks/near-*"))
