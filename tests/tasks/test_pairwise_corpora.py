"""Tasks that are scored by distances: their clips, the relations of these, what they share with others."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from heareval.errors import HearevalError
from heareval.formats.labels import LabeledClip
from heareval.layout import Places
from heareval.predictions.metrics.retrieval import RETRIEVAL_METRICS
from heareval.predictions.relations import PreparedRelation, prepare_relation
from heareval.spec import Abx, Archives, RatedPair, Ratings, Recording, Retrieval, SameDifferent, TaskSpec
from heareval.tasks.corpora import timbre_similarity
from heareval.tasks.licences import find_licence
from heareval.tasks.metadata import select_clips
from heareval.tasks.registry import all_tasks, find_task
from heareval.tasks.splits import subsample
from heareval.workflow.corpus import FetchListed, TaskJob, reader_digest
from tests.conftest import ArchivesOf

PAIRWISE = [task for task in all_tasks().values() if task.is_pairwise]
RELATIONS = {
    "esc50_retrieval": Retrieval(relevant="label", differ=("fold",), unit="source"),
    "mridangam_stroke_retrieval": Retrieval(relevant="stroke", differ=("fold",)),
    "nsynth_pitch_retrieval": Retrieval(relevant="pitch", differ=("instrument",), unit="instrument"),
    "spoken_digit_abx": Abx(category="digit", speaker="speaker"),
    "tfds_crema_d_same_emotion": SameDifferent(same="emotion", differ=("speaker",), unit="speaker"),
    "tfds_crema_d_same_speaker": SameDifferent(same="speaker", differ=("sentence",), unit="speaker"),
    "vocal_imitation_retrieval": Retrieval(relevant="reference", role="role", unit="participant"),
    "vocal_imitation_retrieval_fine": Retrieval(
        relevant="reference", within=("class",), role="role", average="class", unit="participant"
    ),
}


@pytest.fixture(params=PAIRWISE, ids=lambda task: task.name)
def task(request: pytest.FixtureRequest) -> TaskSpec:
    return request.param


def read(task: TaskSpec, archives_of: ArchivesOf, mode: str = "") -> list[Recording]:
    mode = mode or task.default_mode
    return list(task.read_recordings(archives_of(task, mode), mode))


def test_clips_have_attributes_and_no_labels(task: TaskSpec, archives_of: ArchivesOf) -> None:
    assert task.splits_of(task.default_mode).names == ("test",)
    for mode in task.modes:
        clips = read(task, archives_of, mode)
        assert len({clip.clip_id for clip in clips}) == len(clips) > 0
        assert {(clip.split, clip.labels) for clip in clips} == {("test", ())}
        (keys,) = {tuple(clip.attributes) for clip in clips}
        assert all(isinstance(value, str) for clip in clips for value in clip.attributes.values())
        relation = task.read_relation(archives_of(task, mode), mode)
        if isinstance(relation, Retrieval):
            used = (relation.relevant, *relation.differ, *relation.within, relation.role, relation.average)
            used = (*used, relation.unit)
        elif isinstance(relation, SameDifferent):
            used = (relation.same, *relation.differ, relation.unit)
        else:
            used = (
                (relation.unit,) if isinstance(relation, Ratings) else (relation.category, relation.speaker)
            )
        assert set(used) - {""} <= set(keys)


@pytest.mark.parametrize("name", RELATIONS)
def test_relations(name: str, archives_of: ArchivesOf) -> None:
    task = find_task(name)
    mode = task.default_mode
    assert task.read_relation(archives_of(task, mode), mode) == RELATIONS[name]


@pytest.mark.parametrize("name", RELATIONS)
def test_clips_are_those_of_the_other_task(name: str, archives_of: ArchivesOf) -> None:
    """Same source, same name, same length: the files are the same bytes, and nothing is fetched twice."""
    task = find_task(name)
    base = find_task(task.clips_of)
    for mode in task.modes:
        theirs = {clip.clip_id: clip for clip in read(base, archives_of, mode)}
        shared = [clip for clip in read(task, archives_of, mode) if clip.clip_id in theirs]
        assert shared
        for clip in shared:
            other = theirs[clip.clip_id]
            assert (clip.path, clip.start_frame, clip.frames, clip.floor) == (
                *(other.path, other.start_frame, other.frames, other.floor),
            )
        assert task.duration_s(mode) == base.duration_s(mode)
        assert task.version == base.version
        assert set(task.modes[mode].downloads) <= set(base.modes[mode].downloads)


def test_every_clip_is_shared_where_nothing_is_added(archives_of: ArchivesOf) -> None:
    for name in RELATIONS.keys() - {"vocal_imitation_retrieval", "vocal_imitation_retrieval_fine"}:
        task = find_task(name)
        base = read(find_task(task.clips_of), archives_of, task.default_mode)
        expected = {clip.clip_id for clip in base if "nsynth" not in name or clip.split == "test"}
        assert {clip.clip_id for clip in read(task, archives_of)} == expected


@pytest.mark.parametrize(("task_name", "mode"), [("esc50", "full"), ("mridangam_stroke", "full")])
def test_folds_are_those_of_the_published_task(task_name: str, mode: str, archives_of: ArchivesOf) -> None:
    base = find_task(task_name)
    published = select_clips(base, mode, read(base, archives_of, mode)).clips
    clips = read(find_task(f"{task_name}_retrieval"), archives_of, mode)
    assert {c.clip_id: c.attributes["fold"] for c in clips} == {c.clip_id: c.split for c in published}


def test_modes_of_nsynth_keep_the_test_clips_of_the_base_task(tmp_path: Path) -> None:
    task, base = find_task("nsynth_pitch_retrieval"), find_task("nsynth_pitch")
    assert list(task.modes) == ["5h", "50h", "small"]
    names = [f"keyboard_{n % 7:03}-{21 + n % 88:03}-{n:03}" for n in range(1200)]
    notes = {name: {"note_str": name, "pitch": 21 + n % 88} for n, name in enumerate(names)}
    (tmp_path / "nsynth-test").mkdir()
    (tmp_path / "nsynth-test" / "examples.json").write_text(json.dumps(notes))
    recordings = {mode: task.read_recordings({"test": tmp_path}, mode) for mode in ("5h", "50h")}
    kept = {
        mode: {clip.clip_id for clip in select_clips(task, mode, each, lambda _: True).clips}
        for mode, each in recordings.items()
    }
    assert kept["5h"] == subsample(names, "test", int(base.modes["5h"].limit_s("test") / 4))  # type: ignore[operator,index]
    assert (len(kept["5h"]), kept["50h"]) == (500, set(names))
    for mode in task.modes.values():
        assert [download.split for download in mode.downloads] == ["test"]


def test_imitations_find_their_reference(archives_of: ArchivesOf) -> None:
    clips = read(find_task("vocal_imitation_retrieval"), archives_of)
    queries, gallery = ([c for c in clips if c.attributes["role"] == role] for role in ("query", "gallery"))
    assert (len(queries), len(gallery)) == (42, 6)
    assert {c.attributes["reference"] for c in queries} == {c.path.name for c in gallery}
    assert {c.attributes["participant"] for c in queries} == {str(1000 + n) for n in range(11)}


def test_classes_without_other_recordings_are_left_out(archives_of: ArchivesOf) -> None:
    clips = read(find_task("vocal_imitation_retrieval_fine"), archives_of)
    counts = Counter((clip.attributes["class"], clip.attributes["role"]) for clip in clips)
    assert counts == {
        key: count
        for number in ("002", "013", "094", "120", "210")
        for key, count in (((number, "query"), 7), ((number, "gallery"), 4))
    }
    gallery = [clip.attributes["reference"] for clip in clips if clip.attributes["role"] == "gallery"]
    assert len(set(gallery)) == len(gallery)


def prepare_queries(task: TaskSpec, archives: Archives) -> PreparedRelation:
    clips = [
        LabeledClip(f"{clip.clip_id}.wav", attributes=clip.attributes)
        for clip in task.read_recordings(archives, "full")
    ]
    clips.sort(key=lambda clip: clip.name)
    return prepare_relation(task.read_relation(archives, "full"), clips)


def test_every_query_of_esc50_finds_32_clips_in_four_folds(tmp_path: Path) -> None:
    """The whole corpus has 50 classes with eight clips in each of five folds."""
    rows = [
        f"{fold}-{take}{category:02d}{fold}-A-{category}.wav,{fold},{category},class {category}"
        for fold in range(1, 6)
        for category in range(50)
        for take in range(8)
    ]
    folder = tmp_path / "ESC-50-master" / "meta"
    folder.mkdir(parents=True)
    (folder / "esc50.csv").write_text("\n".join(["filename,fold,target,category", *rows]) + "\n")
    prepared = prepare_queries(find_task("esc50_retrieval"), {"all_folds": tmp_path})
    (of_p1,) = set(prepared.reference.chance[RETRIEVAL_METRICS.index("precision_at_1")])
    assert prepared.reference.chance.shape[1] == 2000
    assert of_p1 == pytest.approx(32 / 1600)
    assert prepared.problems == ()


def test_chance_of_all_302_references(tmp_path: Path) -> None:
    """Class 239 has no other recording: its queries are in the task of all references only."""
    folder = tmp_path / "VocalImitationSet"
    rows = ["\t".join(("imitation_filename", "participant_id", "reference_filename", "included"))]
    for number in range(302):
        reference = f"{number:03d}Sound.wav"
        rows.append(f"{number:05d}_{reference}\t{number % 40}\t{reference}\t1")
        names = [f"vocal_imitations/included/{number:05d}_{reference}"]
        names.append(f"original_recordings/reference/{reference}")
        if number != 239:
            names += [f"original_recordings/non_reference/{number:03d}Other_{n}.wav" for n in range(9)]
        for path in (folder / name for name in names):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (folder / "vocal_imitations.txt").write_text("\n".join(rows) + "\n")
    mrr = RETRIEVAL_METRICS.index("mrr")
    all_references, fine = (
        prepare_queries(find_task(name), {"train": tmp_path}).reference.chance[mrr]
        for name in ("vocal_imitation_retrieval", "vocal_imitation_retrieval_fine")
    )
    assert (len(all_references), len(fine)) == (302, 301)
    assert set(all_references.round(4)) == {0.0208}
    (of_ten,) = set(fine)
    assert of_ten == pytest.approx(sum(1 / rank for rank in range(1, 11)) / 10)


def test_counts_of_timbre(archives_of: ArchivesOf) -> None:
    task = timbre_similarity.TASK
    clips = read(task, archives_of)
    relation = task.read_relation(archives_of(task, "full"), "full")
    assert len(clips) == 334
    assert len({clip.attributes["sound"] for clip in clips}) == 240
    assert len(relation.pairs) == 2614
    sizes = Counter(clip.attributes["set"] for clip in clips)
    assert len(sizes) == 21
    assert Counter(pair.group for pair in relation.pairs) == {k: n * (n - 1) // 2 for k, n in sizes.items()}
    assert all(clip.path.exists() for clip in clips)


def test_ratings_are_the_upper_triangle_in_the_order_of_names(archives_of: ArchivesOf) -> None:
    archives = archives_of(timbre_similarity.TASK, "full")
    pairs = timbre_similarity.read_relation(archives, "full").pairs
    rows = (archives["Grey1977"] / "Grey1977_dissimilarity_matrix.txt").read_text().splitlines()
    names = sorted(c.clip_id for c in read(timbre_similarity.TASK, archives_of) if "Grey1977_" in c.clip_id)
    of_set = [pair for pair in pairs if pair.group == "Grey1977"]
    assert of_set[0] == RatedPair(names[0], names[1], float(rows[0].split()[1]), "Grey1977")
    assert of_set[-1] == RatedPair(names[14], names[15], float(rows[14].split()[15]), "Grey1977")


def test_a_matrix_of_another_size_is_refused(archives_of: ArchivesOf, tmp_path: Path) -> None:
    (tmp_path / "Barthet2010_dissimilarity_matrix.txt").write_text("0 1\n0 0\n")
    archives = {**archives_of(timbre_similarity.TASK, "full"), "Barthet2010": tmp_path}
    with pytest.raises(HearevalError, match=r"got 2 rows of \[2\] numbers, expected 15 rows of 15 numbers"):
        timbre_similarity.read_relation(archives, "full")


def test_files_of_timbre_have_one_content_per_name() -> None:
    """They are fetched to one folder, and mirrors are searched for their names."""
    downloads = list(timbre_similarity.listed_files({}))
    assert len({download.file_name for download in downloads}) == len(downloads) == 259
    manifest = [line.split("  ") for line in timbre_similarity.MANIFEST.read_text().splitlines()]
    found = {(path.rsplit("/", 1)[-1], checksum) for checksum, path in manifest if path.endswith(".aiff")}
    assert found == {(download.file_name, download.checksum) for download in downloads}
    assert "01_Piano.G#4.aiff" in {download.file_name for download in downloads}
    assert not [download.url for download in downloads if "#" in download.url]


def test_timbre_is_never_packed() -> None:
    assert not find_licence(timbre_similarity.TASK, "full").may_be_packed


def test_single_files_are_fetched_once_for_three_tasks(tmp_path: Path) -> None:
    places = Places(*(str(tmp_path / name) for name in ("work", "tasks", "tars")))
    names = ("tfds_crema_d", "tfds_crema_d_same_emotion", "tfds_crema_d_same_speaker")
    assert len({FetchListed(places, job=TaskJob(name, "full")).folder for name in names}) == 1


def test_the_digest_of_a_reader_covers_the_reader_that_it_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    task = find_task("esc50_retrieval")
    before = reader_digest(task)
    source = "heareval.workflow.corpus._reader_source"
    monkeypatch.setattr(source, lambda each: "x = 1" if each.name == "esc50" else "y = 2")
    one = reader_digest(task)
    monkeypatch.setattr(source, lambda each: "x = 3" if each.name == "esc50" else "y = 2")
    assert len({before, one, reader_digest(task)}) == 3
