"""What reports say about pairwise tasks: parts and hardest cases, each worked out again by a plain loop."""

import functools
import itertools
import json

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score

from heareval.commands import main
from heareval.formats.relations import write_relation
from heareval.layout import Places
from heareval.predictions.breakdowns import same_different
from heareval.predictions.report import make_report, write_reports
from heareval.predictions.stored import read_stored
from heareval.spec import Abx, RatedPair, Ratings, Triplet, Triplets
from tests.predictions.test_pairwise import IDS, PAIRS, RELATIONS, evaluate, write_pairwise_task


def _write(folder):
    """Return a report that was written, and the names of its figures."""
    (written,) = write_reports(folder, (), Places(), out=None, clips=())
    figures = {path.stem for path in written.glob("*.png")}
    assert {path.name for path in written.iterdir()} == {
        "report.json",
        *(f"{name}.{suffix}" for name in figures for suffix in ("png", "svg")),
    }
    return json.loads((written / "report.json").read_text()), figures


def _report(folder, places=None):
    """Return a report without drawing its figures."""
    return json.loads(json.dumps(make_report(read_stored(folder, "pairwise-l1"), places or Places()).values))


def _score(tmp_path, name, **options):
    folder = write_pairwise_task(tmp_path, name, **options)
    evaluate(folder)
    return folder


def _distances(folder):
    """Return the L1 distance of two clips, named by their ids, as a function."""
    rows = {
        clip.removesuffix(".wav"): row
        for row, clip in enumerate(json.loads((folder / "test.json").read_text()))
    }
    array = np.load(folder / "test.npy").astype(np.float64)
    return lambda a, b: float(np.abs(array[rows[a]] - array[rows[b]]).sum())


def _id(clip):
    return clip["clip"].removesuffix(".wav")


# --------------------------------------------------------------------------- retrieval


def _rank_by_hand(distance, query):
    """Return MAP@R, the reciprocal rank, and the nearest right and wrong clip, among other speakers."""
    others = [clip for clip in IDS if clip[3] != query[3]]
    ranked = sorted(others, key=lambda clip: distance(query, clip))
    hits = [clip[0] == query[0] for clip in ranked]
    r = sum(hits)
    precisions = [sum(hits[: i + 1]) / (i + 1) for i in range(r) if hits[i]]
    return (
        sum(precisions) / r,
        1 / (hits.index(True) + 1),
        ranked[hits.index(True)],
        ranked[hits.index(False)],
    )


def test_classes_and_hardest_queries(tmp_path):
    folder = _score(tmp_path, "retrieval", noise=1.0)
    report, drawn = _write(folder)
    distance = _distances(folder)
    by_hand = {query: _rank_by_hand(distance, query) for query in IDS}
    assert report["relation"] == "retrieval"
    assert report["left_out"] == []
    parts = report["tables"]["classes"]["parts"]
    assert [(part["class"], part["queries"]) for part in parts] == [("0", 20), ("1", 20), ("2", 20)]
    for part in parts:
        mine = [by_hand[query] for query in IDS if query[0] == part["class"]]
        assert part["map_at_r"] == pytest.approx(np.mean([each[0] for each in mine]))
        assert part["mrr"] == pytest.approx(np.mean([each[1] for each in mine]))
        # 15 of the 45 clips of other speakers say the digit.
        assert part["chance"]["precision_at_1"] == pytest.approx(1 / 3)
    # The task's first metric is MRR.
    cases = report["hardest"]["queries"]["cases"]
    assert len(cases) == 20
    worst = sorted(each[1] for each in by_hand.values())[:20]
    assert [case["mrr"] for case in cases] == pytest.approx(worst)
    for case in cases:
        query = _id(case["query"])
        average, reciprocal, right, wrong = by_hand[query]
        assert (case["map_at_r"], case["mrr"]) == pytest.approx((average, reciprocal))
        assert (_id(case["nearest_right"]), _id(case["nearest_wrong"])) == (right, wrong)
        assert case["distance_of_nearest_right"] == pytest.approx(distance(query, right))
        assert case["distance_of_nearest_wrong"] == pytest.approx(distance(query, wrong))
        assert case["query"]["attributes"]["digit"] == query[0]
    assert drawn == {"classes"}


def test_sounds_of_cases_that_are_there(tmp_path):
    folder = write_pairwise_task(tmp_path, "retrieval")
    manifest = {"fingerprint": "0123456789abcdef", "arrays": [], "submission": {"sample_rate": 16000}}
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))
    evaluate(folder)
    query = _report(folder)["hardest"]["queries"]["cases"][0]["query"]
    sound = tmp_path / "tasks" / "retrieval" / "16000" / "test" / query["clip"]
    sound.parent.mkdir(parents=True)
    sound.touch()
    case = _report(folder, Places(tasks=str(tmp_path / "tasks")))["hardest"]["queries"]["cases"][0]
    assert (case["query"]["sound"], case["nearest_wrong"]["sound"]) == (str(sound), None)


# --------------------------------------------------------------------------- ABX


def _list_triples():
    """Return all triples whose a and x say one digit, of two speakers, and whose b is of the speaker of a."""
    return [
        (a, b, x)
        for a in IDS
        for b in IDS
        for x in IDS
        if a[0] == x[0] != b[0] and a[:4] != x[:4] and a[3] == b[3] != x[3]
    ]


def test_errors_of_digits_and_speakers_and_the_hardest_triples(tmp_path):
    folder = write_pairwise_task(tmp_path, "abx", noise=1.0)
    # No clip is left to chance.
    write_relation(folder, Abx("digit", "speaker", 5, 5, 5))
    evaluate(folder)
    distance = functools.cache(_distances(folder))
    report, drawn = _write(folder)
    triples = _list_triples()
    wrong = {each: distance(each[0], each[2]) > distance(each[1], each[2]) for each in triples}
    digits = report["tables"]["categories"]["parts"]
    speakers = report["tables"]["speakers"]["parts"]
    assert (len(digits), len(speakers)) == (6, 12)
    # All cells have equally many triples, so means of means are plain means.
    for part in digits:
        mine = [
            wrong[each] for each in triples if (each[0][0], each[1][0]) == (part["category"], part["other"])
        ]
        assert part["triples"] == len(mine) == 1500
        assert part["abx_error"] == pytest.approx(np.mean(mine))
    for part in speakers:
        names = part["speaker_ab"][-1], part["speaker_x"][-1]
        mine = [wrong[each] for each in triples if (each[0][3], each[2][3]) == names]
        assert part["abx_error"] == pytest.approx(np.mean(mine))
    worst = {}
    for a, b, x in triples:
        excess = distance(a, x) - distance(b, x)
        worst[x] = max(worst.get(x, (-np.inf,)), (excess, a, b, x))
    expected = sorted((each for each in worst.values() if each[0] >= 0), reverse=True)[:20]
    cases = report["hardest"]["triples"]["cases"]
    assert [(_id(case["a"]), _id(case["b"]), _id(case["x"])) for case in cases] == [
        each[1:] for each in expected
    ]
    for case, (excess, *_) in zip(cases, expected, strict=True):
        assert case["distance_of_a"] - case["distance_of_b"] == pytest.approx(excess)
    assert drawn == {"confusion", "speakers"}


def test_triples_that_do_not_fail_are_not_listed(tmp_path):
    folder = write_pairwise_task(tmp_path, "abx")
    digits = [[int(clip[0])] for clip in json.loads((folder / "test.json").read_text())]
    np.save(folder / "test.npy", np.array(digits, dtype=np.float32))
    evaluate(folder)
    report = _report(folder)
    assert report["hardest"]["triples"]["cases"] == []
    assert {part["abx_error"] for part in report["tables"]["categories"]["parts"]} == {0.0}


# --------------------------------------------------------------------------- ratings


def _rank_share(values, value):
    """Return the average rank of a value as a share: 0 for the smallest of all, 1 for the largest."""
    below, equal = sum(each < value for each in values), sum(each == value for each in values)
    return (below + (equal - 1) / 2) / (len(values) - 1)


def test_sets_of_ratings_and_their_hardest_pairs(tmp_path):
    """The two sets have scales of their own."""
    folder = write_pairwise_task(tmp_path, "ratings", noise=1.0)
    rng = np.random.default_rng(4)
    sets = {"a": IDS[:12], "b": IDS[20:60:4]}
    pairs = [
        RatedPair(first, second, float(rng.integers(0, 9)) * (1 if name == "a" else 100), name)
        for name, clips in sets.items()
        for n, first in enumerate(clips)
        for second in clips[:n]
    ]
    write_relation(folder, Ratings(tuple(pairs)))
    evaluate(folder)
    distance = functools.cache(_distances(folder))
    report, drawn = _write(folder)
    cases = report["hardest"]["pairs"]["cases"]
    for part, (name, clips) in zip(report["tables"]["sets"]["parts"], sets.items(), strict=True):
        mine = {frozenset((pair.first, pair.second)): pair.rating for pair in pairs if pair.group == name}
        rhos = [
            spearmanr(
                [mine[frozenset((anchor, other))] for other in clips if other != anchor],
                [distance(anchor, other) for other in clips if other != anchor],
            ).statistic
            for anchor in clips
        ]
        assert (part["set"], part["pairs"]) == (name, len(mine))
        assert part["spearman"] == pytest.approx(np.mean(rhos))
        measured = {pair: distance(*sorted(pair)) for pair in mine}
        differences = {
            pair: abs(_rank_share(mine.values(), mine[pair]) - _rank_share(measured.values(), measured[pair]))
            for pair in mine
        }
        hardest = [case for case in cases if case["set"] == name]
        found = [differences[frozenset((_id(case["first"]), _id(case["second"])))] for case in hardest]
        assert found == pytest.approx(sorted(differences.values(), reverse=True)[:10])
        for case in hardest:
            pair = frozenset((_id(case["first"]), _id(case["second"])))
            assert (case["rating"], case["distance"]) == pytest.approx((mine[pair], measured[pair]))
            assert case["rank_by_rating"] == pytest.approx(_rank_share(mine.values(), mine[pair]))
            assert case["rank_by_distance"] == pytest.approx(_rank_share(measured.values(), measured[pair]))
    assert drawn == {"distances", "sets"}


def test_ratings_have_a_report_without_embeddings(tmp_path):
    folder = _score(tmp_path, "ratings")
    before = _report(folder)
    (folder / "test.npy").unlink()
    report = _report(folder)
    assert (report["left_out"], report["hardest"]) == ([], before["hardest"])


# --------------------------------------------------------------------------- same or different


def _check_hardest(cases, pairs, distance):
    """Check the lists of hardest pairs by all pairs: (first, second, whether they are the same)."""
    for key, is_same, sign in (("same_pairs", True, -1), ("different_pairs", False, 1)):
        mine = sorted((sign * distance(a, b), a, b) for a, b, each in pairs if each == is_same)[:20]
        found = [(_id(case["first"]), _id(case["second"])) for case in cases[key]["cases"]]
        assert found == [(a, b) for _, a, b in mine]
        expected = [sign * each for each, *_ in mine]
        assert [case["distance"] for case in cases[key]["cases"]] == pytest.approx(expected)


def _check_classes(report, pairs, distance, tolerance):
    """Check the classes of digits by all pairs: (first, second, whether they are the same)."""
    parts = report["tables"]["classes"]["parts"]
    assert [part["class"] for part in parts] == ["0", "1", "2"]
    for part in parts:
        mine = [each for each in pairs if part["class"] in (each[0][0], each[1][0])]
        is_same = [each[2] for each in mine]
        scores = [-distance(a, b) for a, b, _ in mine]
        assert (part["same_pairs"], part["different_pairs"]) == (sum(is_same), len(mine) - sum(is_same))
        assert part["pair_auc"] == pytest.approx(roc_auc_score(is_same, scores), abs=tolerance)
        assert part["pair_ap"] == pytest.approx(average_precision_score(is_same, scores), abs=tolerance)
        assert part["chance"]["pair_ap"] == pytest.approx(np.mean(is_same))


def test_classes_of_all_pairs_and_the_hardest(tmp_path):
    folder = _score(tmp_path, "same_different", noise=1.0)
    report, drawn = _write(folder)
    distance = functools.cache(_distances(folder))
    pairs = [(a, b, a[0] == b[0]) for a, b in itertools.combinations(sorted(IDS), 2) if a[3] != b[3]]
    _check_classes(report, pairs, distance, 1e-9)
    _check_hardest(report["hardest"], pairs, distance)
    assert drawn == {"classes"}


def test_many_pairs_are_counted_block_by_block(tmp_path):
    """600 clips have more pairs than are listed, and clips are too many for one block."""
    folder = write_pairwise_task(tmp_path, "same_different")
    clips = sorted(f"{n % 3}_s{n // 3 % 4}_{n}" for n in range(600))
    digits = np.array([int(clip[0]) for clip in clips])
    x = np.random.default_rng(2).normal(size=(600, 8)) + 0.7 * np.eye(8)[digits]
    np.save(folder / "test.npy", x.astype(np.float32))
    attributes = {f"{clip}.wav": {"digit": clip[0], "speaker": clip[2:4]} for clip in clips}
    (folder / "test.json").write_text(json.dumps(attributes))
    evaluate(folder)
    report = _report(folder)
    array = np.load(folder / "test.npy").astype(np.float64)
    matrix, place = cdist(array, array, "cityblock"), {clip: n for n, clip in enumerate(clips)}

    def distance(a, b):
        return matrix[place[a], place[b]]

    pairs = [(a, b, a[0] == b[0]) for a, b in itertools.combinations(clips, 2) if a[3] != b[3]]
    assert len(pairs) > same_different.LISTED_PAIRS
    _check_classes(report, pairs, distance, 0.001)
    _check_hardest(report["hardest"], pairs, distance)


def test_of_equally_distant_pairs_the_names_decide(tmp_path):
    folder = write_pairwise_task(tmp_path, "same_different")
    np.save(folder / "test.npy", np.ones((len(IDS), 8), np.float32))
    evaluate(folder)
    report = _report(folder)
    pairs = [(a, b, a[0] == b[0]) for a, b in itertools.combinations(sorted(IDS), 2) if a[3] != b[3]]
    _check_hardest(report["hardest"], pairs, lambda a, b: 0.0)


def test_the_hardest_listed_pairs(tmp_path):
    folder = _score(tmp_path, "same_pairs", noise=1.0)
    before, drawn = _write(folder)
    pairs = [(pair.first, pair.second, pair.is_same) for pair in PAIRS]
    assert drawn == set()
    _check_hardest(before["hardest"], pairs, _distances(folder))
    # Their distances are stored.
    (folder / "test.npy").unlink()
    report = _report(folder)
    assert (report["left_out"], report["hardest"]) == ([], before["hardest"])


# --------------------------------------------------------------------------- triplets


def test_anchors_and_the_hardest_triplets(tmp_path):
    folder = write_pairwise_task(tmp_path, "triplets", noise=1.0)
    rng = np.random.default_rng(1)
    triplets = [tuple(rng.choice(IDS, 3, replace=False)) for _ in range(100)]
    write_relation(folder, Triplets(tuple(Triplet(*map(str, each)) for each in triplets)))
    evaluate(folder)
    report, drawn = _write(folder)
    distance = _distances(folder)
    excess = [distance(a, p) - distance(a, n) for a, p, n in triplets]
    parts = report["tables"]["anchors"]["parts"]
    assert [part["anchor"] for part in parts] == sorted({f"{a}.wav" for a, *_ in triplets})
    for part in parts:
        mine = [
            each < 0 for each, (a, *_) in zip(excess, triplets, strict=True) if f"{a}.wav" == part["anchor"]
        ]
        assert (part["triplets"], part["triplet_acc"]) == (len(mine), pytest.approx(np.mean(mine)))
    ranked = sorted(range(100), key=lambda row: -excess[row])[:20]
    cases = report["hardest"]["triplets"]["cases"]
    found = [tuple(_id(case[role]) for role in ("anchor", "positive", "negative")) for case in cases]
    assert found == [triplets[row] for row in ranked]
    for case, row in zip(cases, ranked, strict=True):
        assert case["distance_of_positive"] - case["distance_of_negative"] == pytest.approx(excess[row])
    assert drawn == {"anchors"}


def test_triplets_that_do_not_fail_are_not_listed_and_need_no_embeddings(tmp_path):
    folder = write_pairwise_task(tmp_path, "triplets")
    array = np.zeros((len(IDS), 8), dtype=np.float32)
    array[:, 0] = np.arange(len(IDS))
    np.save(folder / "test.npy", array)
    right, tie = Triplet("0_s0_0", "0_s0_1", "0_s0_2"), Triplet("0_s0_2", "0_s0_0", "0_s0_4")
    write_relation(folder, Triplets((tie, right, tie)))
    evaluate(folder)
    (folder / "test.npy").unlink()
    # A tie is no success. Two listeners listed it.
    (case,) = _report(folder)["hardest"]["triplets"]["cases"]
    assert (_id(case["anchor"]), case["listed"]) == ("0_s0_2", 2)
    assert (case["distance_of_positive"], case["distance_of_negative"]) == (2, 2)


# --------------------------------------------------------------------------- embeddings

# Relation -> tables and cases that need the embeddings.
NEEDING = {
    "retrieval": ((), ("queries",)),
    "abx": ((), ("triples",)),
    "same_different": (("classes",), ("same_pairs", "different_pairs")),
}


@pytest.mark.parametrize("name", NEEDING)
def test_lost_and_changed_embeddings_are_told(name, tmp_path):
    folder = _score(tmp_path, name, noise=1.0)
    before = _report(folder)
    tables, cases = NEEDING[name]
    kept = {key: value for key, value in before["tables"].items() if key not in tables}
    array = np.load(folder / "test.npy")
    for told in ("no such file", "embeddings that have not changed since they were scored"):
        if told == "no such file":
            (folder / "test.npy").unlink()
        else:
            np.save(folder / "test.npy", np.roll(array, 9, axis=0))
        report = _report(folder)
        assert told in report["left_out"][0]
        assert report["tables"] == kept
        assert not set(cases) & set(report["hardest"])
        assert report["scores"] == before["scores"]


def test_the_command_tells_what_reports_lack(tmp_path):
    folder = _score(tmp_path, "abx")
    run = CliRunner().invoke(main, ["report", str(folder)])
    written = folder / "report-pairwise-l1"
    assert (run.exit_code, run.stderr) == (0, "")
    place, finding = run.stdout.splitlines()
    assert place == str(written)
    hardest = _report(folder)["hardest"]["triples"]["cases"][0]
    clips = ", ".join(f"{role} {hardest[role]['clip']}" for role in ("a", "b", "x"))
    assert finding.startswith(f"  hardest of the triples: {clips} (distance_of_a ")
    (folder / "test.npy").unlink()
    run = CliRunner().invoke(main, ["report", str(folder)])
    assert (run.exit_code, run.stdout) == (0, f"{written}\n")
    assert run.stderr.startswith(
        f"note: {written}: the hardest triples are left out: {folder / 'test.npy'}: got no"
    )
    assert len(run.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", RELATIONS)
def test_constant_embeddings_have_a_report(name, tmp_path):
    folder = write_pairwise_task(tmp_path, name)
    np.save(folder / "test.npy", np.ones((len(IDS), 8), np.float32))
    evaluate(folder)
    report = _report(folder)
    assert report["left_out"] == []
