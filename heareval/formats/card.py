"""A card: what a submission is, what it scored, and what it predicted for every test clip.

A card is a folder `NAME/REVISION/`. `card.json` describes the model and lists the results. Every task has a
folder with the scores file and the predictions file of each protocol, under the names that they have in an
embeddings folder.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from heareval import files, layout
from heareval.errors import CONTROLS, HearevalError
from heareval.formats.digests import FileDigest, digest_file, find_changes, parse_digests
from heareval.formats.fields import REQUIRED, Fields, read_fields, shorten
from heareval.formats.names import is_inside
from heareval.formats.scores import Scores

CARD = "card.json"
# Raised when a reader of the previous version would misunderstand the file.
SCHEMA_VERSION = 1
TRAINED_ON_EVALUATION_DATA = ("yes", "no", "unknown")
# Results repositories live on code forges, which refuse or discourage larger files.
MAX_FILE_BYTES = 10_000_000
MAX_CARD_BYTES = 1_000_000
MAX_RESULTS = 500
# Letters that a name, a longer text and a reason may have, and texts that a list may have.
MAX_NAME, MAX_TEXT, MAX_LIST = 100, 5000, 100
# Notes on a result that a page shows, of each kind.
MAX_NOTES = 1000
MAX_NUMBER = 10**15
# Unicode's categories of what is invisible, reverses text or ends a line, beside what controls a terminal.
INVISIBLE = ("Cf", "Zl", "Zp")
# Probabilities of two lengths; whether each frame is above the threshold, as 0 and 1; and the distances of
# pairwise tasks.
FLOAT16, FLOAT32, DECISIONS, DISTANCES = "float16", "float32", "decisions", "distances"
STORED_AS = (FLOAT16, FLOAT32, DECISIONS, DISTANCES)
CHECK_HINT = "Make the card again with `heareval card`."


@dataclass(frozen=True)
class ModelFacts:
    """What is known about a model; "" , None and () mean unknown.

    The keys of card.json have the names of the attributes.

    Args:
        name: name of the model.
        revision: which version of it: a tag, a commit, a digest of the weights.
        release_date: YYYY-MM-DD.
        parameters: number of parameters.
        scene_embedding_size: number of dimensions of its scene embeddings.
        timestamp_embedding_size: number of dimensions of its timestamp embeddings.
        sample_rate: in Hz.
        code_licence: SPDX identifier.
        weights_licence: SPDX identifier.
        has_open_weights: whether anybody can download the weights.
        pretraining_data: names of the data sets.
        trained_on_evaluation_data: "yes", "no" or "unknown".
        url: where the model can be found.
        reference: the paper: a URL or a DOI.
        description: one paragraph.
        adapted_from: names of the models that it was made from.
        team: who submits it.
        authors: who made it.
        contacts: how to reach them, such as names on a code forge.
        citation: BibTeX, or a reference in words.
    """

    name: str
    revision: str
    release_date: str = ""
    parameters: int | None = None
    scene_embedding_size: int | None = None
    timestamp_embedding_size: int | None = None
    sample_rate: int | None = None
    code_licence: str = ""
    weights_licence: str = ""
    has_open_weights: bool | None = None
    pretraining_data: tuple[str, ...] = ()
    trained_on_evaluation_data: str = "unknown"
    url: str = ""
    reference: str = ""
    description: str = ""
    adapted_from: tuple[str, ...] = ()
    team: str = ""
    authors: tuple[str, ...] = ()
    contacts: tuple[str, ...] = ()
    citation: str = ""


@dataclass(frozen=True)
class Cost:
    """What a result took; None is unknown.

    Args:
        device: `cpu`, `cuda`, or the name of the GPU that computed the embeddings.
        embedding_s: seconds that computed the embeddings.
        prediction_s: seconds that trained and tested the predictors.
        memory_bytes: largest memory of the process that computed the embeddings, without that of a GPU.
        joules: energy, where the machine tells.
    """

    device: str = ""
    embedding_s: float | None = None
    prediction_s: float | None = None
    memory_bytes: int | None = None
    joules: float | None = None


@dataclass(frozen=True)
class CardResult:
    """One result of a card.

    Args:
        task_folder: name of the task's folder, such as `esc50-v2.0.0-full`.
        protocol: recorded name of the protocol.
        references: digest of the clips, labels and relations that the predictions were compared with.
        lower_is_better: which of the metrics are better when lower.
        stored_as: how the predictions are stored: one of `STORED_AS`.
        cost: what it took.
        scores: the scores, with the models that were tested, without the rest of the grid.
    """

    task_folder: str
    protocol: str
    references: str
    lower_is_better: tuple[str, ...]
    stored_as: str
    cost: Cost
    scores: Scores


@dataclass(frozen=True)
class Card:
    """A card as it lies on disk.

    Args:
        folder: its folder.
        model: what is known about the model.
        results: by task and protocol, sorted.
        missing: the reason for each task of the benchmark without a result, by name of the task.
        sha256: digest of card.json, which names the digests of all other files.
    """

    folder: Path
    model: ModelFacts
    results: tuple[CardResult, ...]
    missing: Mapping[str, str] = field(default_factory=dict)
    sha256: str = ""

    @property
    def fingerprint(self) -> str:
        """Return the beginning of the digest, for people; somebody could make two cards that share it."""
        return self.sha256[: files.FINGERPRINT_DIGITS]


# --------------------------------------------------------------------------- facts

# Facts that may have more than one line.
_LONG = ("description", "citation")
_READERS: Mapping[str, Callable[[Fields, str, Any], Any]] = {
    "str": Fields.text,
    "int | None": Fields.integer,
    "float | None": Fields.number,
    "bool | None": Fields.flag,
    "tuple[str, ...]": Fields.texts,
}


def parse_facts(fields: Fields, known: Mapping[str, Any] | None = None) -> ModelFacts:
    """Return the facts about a model in a JSON object or a TOML file.

    Args:
        fields: the object. Its keys are the names of the facts.
        known: facts that hold where the object says nothing.

    Raises:
        HearevalError: a key is unknown, or a value is wrong, too long or not what it should be.
    """
    names = [each.name for each in dataclasses.fields(ModelFacts)]
    for name in fields:
        if name not in names:
            raise fields.unknown_name(f"fact in {fields.where}", name, names)
    values = {
        each.name: _READERS[str(each.type)](fields, each.name, _find_default(each, known or {}))
        for each in dataclasses.fields(ModelFacts)
    }
    for key in ("name", "revision"):
        # Two names that look the same must not be two models.
        values[key] = unicodedata.normalize("NFC", values[key])
    facts = ModelFacts(**values)
    _check_facts(fields, facts)
    return facts


def _find_default(fact: dataclasses.Field[Any], known: Mapping[str, Any]) -> Any:
    default = REQUIRED if fact.default is dataclasses.MISSING else fact.default
    return known.get(fact.name, default)


def _check_facts(fields: Fields, facts: ModelFacts) -> None:
    for name, value in asdict(facts).items():
        texts = value if isinstance(value, tuple) else (value,) if isinstance(value, str) else ()
        if len(texts) > MAX_LIST:
            raise fields.error(name, f"{len(texts)} texts", f"{MAX_LIST} at most")
        for text in texts:
            longest = MAX_TEXT if name in _LONG else MAX_NAME if name in ("name", "revision") else 1000
            check_text(fields, name, text, longest, has_lines=name in _LONG)
        if isinstance(value, int) and not isinstance(value, bool) and not 0 < value <= MAX_NUMBER:
            raise fields.error(name, shorten(value), f"a number from 1 to {MAX_NUMBER}")
    for name in ("name", "revision"):
        if not name_folder(getattr(facts, name)):
            raise fields.error(name, shorten(getattr(facts, name)), "a name with letters or digits")
    if facts.trained_on_evaluation_data not in TRAINED_ON_EVALUATION_DATA:
        expected = ", ".join(TRAINED_ON_EVALUATION_DATA)
        raise fields.error(
            "trained_on_evaluation_data", shorten(facts.trained_on_evaluation_data), f"one of {expected}"
        )
    if facts.url and not re.match("https?://", facts.url):
        raise fields.error("url", shorten(facts.url), "an address that begins with https:// or http://")
    if facts.release_date and not _is_date(facts.release_date):
        raise fields.error("release_date", shorten(facts.release_date), "YYYY-MM-DD")


def _is_date(text: str) -> bool:
    try:
        return datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def check_text(fields: Fields, key: str, text: str, longest: int, *, has_lines: bool = False) -> None:
    """Raise HearevalError if a text is too long, or has characters that control, hide or reverse text.

    Args:
        fields: the object that has the text.
        longest: number of letters that it may have.
        has_lines: whether it may have several lines.
    """
    if len(text) > longest:
        raise fields.error(key, f"{len(text)} letters", f"{longest} at most")
    controls = CONTROLS.findall(text) + ([] if has_lines else re.findall("[\n\t]", text))
    found = [*controls, *(letter for letter in text if unicodedata.category(letter) in INVISIBLE)]
    if found:
        expected = "text without control characters and invisible ones"
        raise fields.error(key, f"the character {found[0]!a}", expected)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise fields.error(key, shorten(text), "text that UTF-8 can encode") from None


def name_folder(name: str) -> str:
    """Return the name of the folder of a model or a revision, "" if the name has no letters and digits.

    >>> name_folder("facebook/wav2vec2 base"), name_folder("..")
    ('facebook_wav2vec2_base', '')
    """
    text = re.sub(r"[^\w.+-]+", "_", unicodedata.normalize("NFC", name)).lstrip(".-")
    return text if re.search(r"[^\W_]", text) and len(text.encode()) <= 200 else ""


# --------------------------------------------------------------------------- writing


def write_card(
    folder: Path, model: ModelFacts, results: Sequence[CardResult], missing: Mapping[str, str]
) -> None:
    """Write card.json into a folder that has the files of all results.

    Args:
        results: what the card lists.
        missing: the reason for each task without a result.
    """
    names = [f"{name}/{file}" for name, file in _list_result_files(results)]
    digests = {name: dataclasses.replace(digest_file(folder / name), mtime_ns=None) for name in sorted(names)}
    values = {
        "schema_version": SCHEMA_VERSION,
        "model": asdict(model),
        "missing": dict(sorted(missing.items())),
        "results": [_result_to_json(result) for result in _sort_results(results)],
        "files": {name: {"sha256": each.sha256, "bytes": each.bytes} for name, each in digests.items()},
    }
    files.write_json(folder / CARD, values)


def _sort_results(results: Sequence[CardResult]) -> list[CardResult]:
    return sorted(results, key=lambda each: (each.task_folder, each.protocol))


def _list_result_files(results: Sequence[CardResult]) -> Iterator[tuple[str, str]]:
    for result in results:
        yield result.task_folder, layout.scores(result.protocol)
        yield result.task_folder, layout.predictions(result.protocol)


def _result_to_json(result: CardResult) -> dict[str, Any]:
    values = {each.name: getattr(result, each.name) for each in dataclasses.fields(result)}
    del values["scores"]
    return {**values, "lower_is_better": list(result.lower_is_better), "cost": asdict(result.cost)}


# --------------------------------------------------------------------------- reading


def find_cards(folder: Path, *, allows_none: bool = False) -> list[Path]:
    """Return the folders of the cards in a folder: itself, those of a model's revisions, or of all models.

    Args:
        allows_none: whether the folder may have no card; it must exist.

    Raises:
        HearevalError: there is none.
    """
    found = [
        path.parent for pattern in ("", "*/", "*/*/") for path in sorted(folder.glob(f"{pattern}{CARD}"))
    ]
    found = [each for each in found if not each.name.startswith(".")]
    if not found and not (allows_none and folder.is_dir()):
        raise HearevalError(
            f"{folder}",
            got=f"no {CARD} in it" if folder.is_dir() else "no such folder",
            expected="a card, NAME/REVISION, or a folder of cards",
            remedy="Make one with `heareval card`.",
        )
    return found


def read_card(folder: Path) -> Card:
    """Return a card, with everything checked that needs no references.

    Every file is known by its size and must be listed; scores files also by their digest. Predictions are not
    read: `heareval.predictions.card_checks` does.

    Raises:
        HearevalError: a file is missing, not listed, too large, a link, or not what it should be.

    >>> read_card(Path("cards/my_model/v1")).model.name  # doctest: +SKIP
    'my_model'
    """
    folder = folder.absolute()
    found = _list_files(folder)
    if CARD not in found:
        raise HearevalError(f"{folder}", got=f"no {CARD}", expected="a card", remedy=CHECK_HINT)
    fields = read_fields(folder / CARD, remedy=CHECK_HINT)
    version = fields.integer("schema_version")
    if version != SCHEMA_VERSION:
        remedy = "Update heareval." if version > SCHEMA_VERSION else CHECK_HINT
        raise fields.error("schema_version", shorten(version), str(SCHEMA_VERSION), remedy)
    model = parse_facts(fields.object("model"))
    _check_folder_names(folder, model)
    digests = _parse_files(fields)
    _check_files(folder, found, digests)
    if (count := len(fields.objects("results"))) > MAX_RESULTS:
        raise fields.error("results", f"{count} results", f"{MAX_RESULTS} at most")
    results = tuple(_read_result(folder, each) for each in fields.objects("results"))
    _check_listed(fields, results, digests)
    missing = {name: _read_reason(fields, name) for name in fields.object("missing", {})}
    return Card(folder, model, results, missing, files.file_checksum(folder / CARD, "sha256"))


def _list_files(folder: Path) -> dict[str, int]:
    """Return the size of every file of a card by its name; links and whatever is no file are refused."""
    if not folder.is_dir():
        raise HearevalError(f"card {folder}", got="no such folder", expected="a card", remedy=CHECK_HINT)
    found: dict[str, int] = {}
    for inside in (folder, *(each for each in sorted(folder.iterdir()) if _is_real_folder(each))):
        for path in sorted(inside.iterdir()):
            name = path.relative_to(folder).as_posix()
            if path.is_symlink():
                raise _refuse_file(folder, name, "a link", "a file")
            if _is_real_folder(path) and inside == folder:
                continue
            if not path.is_file():
                raise _refuse_file(folder, name, "a folder" if path.is_dir() else "no regular file", "a file")
            found[name] = path.stat().st_size
            largest = MAX_CARD_BYTES if name == CARD else MAX_FILE_BYTES
            if found[name] > largest:
                raise _refuse_file(folder, name, f"{found[name]:,} bytes", f"{largest:,} at most")
            if len(found) > 2 * MAX_RESULTS + 1:
                raise HearevalError(
                    f"card {folder}", got="more files", expected=f"those of {MAX_RESULTS} results at most"
                )
    return found


def _is_real_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _refuse_file(folder: Path, name: str, got: str, expected: str) -> HearevalError:
    return HearevalError(f"{shorten(name)[1:-1]} in card {folder}", got=got, expected=expected)


def _check_folder_names(folder: Path, model: ModelFacts) -> None:
    expected = f"{name_folder(model.name)}/{name_folder(model.revision)}"
    if (got := f"{folder.parent.name}/{folder.name}") != expected:
        raise HearevalError(
            f"card {folder}",
            got=f"folders named {got}",
            expected=f"{expected}, as the model and its revision are called",
            remedy="Rename the folders.",
        )


def _parse_files(fields: Fields) -> dict[str, FileDigest]:
    listed = fields.object("files")
    for name in listed:
        if not is_inside(name):
            raise listed.error(shorten(name), "a path that leaves the card", "names of files in the card")
    return parse_digests(listed)


def _check_files(folder: Path, found: Mapping[str, int], digests: Mapping[str, FileDigest]) -> None:
    for name in found:
        if name != CARD and name not in digests:
            raise _refuse_file(folder, name, "a file that the card does not list", "only files of results")
    # Predictions are read, and compared with their digest, when they are scored.
    changes = [
        *find_changes(folder, {name: each for name, each in digests.items() if name not in found}),
        *(
            f"{name}: other size"
            for name, size in found.items()
            if name != CARD and digests[name].bytes != size
        ),
        *find_changes(folder, {name: each for name, each in digests.items() if name.endswith(".json")}),
    ]
    if changes:
        raise HearevalError(
            f"card {folder}", got=changes[0], expected=f"the files that {CARD} lists", remedy=CHECK_HINT
        )


def _read_result(folder: Path, fields: Fields) -> CardResult:
    task_folder, protocol = fields.text("task_folder"), fields.text("protocol")
    for key, name in (("task_folder", task_folder), ("protocol", protocol)):
        # Sites have pages of these names.
        if not re.fullmatch("[A-Za-z0-9_][A-Za-z0-9_.-]{0,149}", name):
            raise fields.error(key, shorten(name), "a name of letters, digits, dots, hyphens and underscores")
    if layout.find_limit(protocol):
        raise fields.error("protocol", f"{protocol}, scores of a few clips", "scores of all clips")
    path = folder / task_folder / layout.scores(protocol)
    if not path.is_file():
        raise fields.error("task_folder", shorten(task_folder), f"a folder with {path.name}")
    from heareval.formats.results_folder import read_scores

    scores = read_scores(path)
    _check_names(fields, path, task_folder, protocol, scores)
    cost = fields.object("cost", {})
    return CardResult(
        task_folder=task_folder,
        protocol=protocol,
        references=_read_digest(fields, "references"),
        lower_is_better=fields.texts("lower_is_better", ()),
        stored_as=fields.one_of("stored_as", STORED_AS),
        cost=_parse_cost(cost),
        scores=scores,
    )


def _read_digest(fields: Fields, key: str) -> str:
    digest = fields.text(key)
    if not re.fullmatch(f"[0-9a-f]{{{files.FINGERPRINT_DIGITS}}}", digest):
        raise fields.error(key, shorten(digest), f"{files.FINGERPRINT_DIGITS} hex digits")
    return digest


def _check_names(fields: Fields, path: Path, task_folder: str, protocol: str, scores: Scores) -> None:
    if scores.protocol != protocol:
        raise HearevalError(f"{path}: protocol", got=shorten(scores.protocol), expected=protocol)
    named = f"{scores.task}-{scores.version}-{scores.mode}"
    if named != task_folder:
        raise fields.error("task_folder", task_folder, f"{shorten(named)[1:-1]}, as the scores say")
    several = (scores.problems, scores.scores, scores.versions, scores.unusual_embedding)
    if (count := max(map(len, several))) > MAX_NOTES:
        raise HearevalError(f"{path}", got=f"{count} notes or versions", expected=f"{MAX_NOTES} at most")
    for text in (*scores.problems, *scores.scores, *_list_texts(scores), scores.fingerprint):
        check_text(fields, f"text of {path.name}", text, MAX_TEXT, has_lines=True)


def _list_texts(scores: Scores) -> Iterator[str]:
    for mapping in (scores.versions, scores.unusual_embedding):
        for key, value in mapping.items():
            yield from (key, str(value))


def _parse_cost(fields: Fields) -> Cost:
    values = {
        each.name: _READERS[str(each.type)](fields, each.name, each.default)
        for each in dataclasses.fields(Cost)
    }
    for name, value in values.items():
        if isinstance(value, str):
            check_text(fields, name, value, MAX_NAME)
        elif value is not None and not 0 <= value <= MAX_NUMBER:
            raise fields.error(name, shorten(value), f"a number from 0 to {MAX_NUMBER}")
    return Cost(**values)


def _read_reason(fields: Fields, name: str) -> str:
    missing = fields.object("missing")
    check_text(missing, "name of a task", name, MAX_NAME)
    reason = missing.text(name)
    if not reason.strip():
        raise missing.error(name, "''", "a reason")
    check_text(missing, name, reason, MAX_NAME * 10)
    return reason


def _check_listed(fields: Fields, results: Sequence[CardResult], digests: Mapping[str, FileDigest]) -> None:
    """Raise HearevalError unless the results are sorted, each once, and have just the listed files."""
    names = [(each.task_folder, each.protocol) for each in results]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise fields.error("results", f"{twice[0]} with {twice[1]} twice", "each once")
    if not results:
        raise fields.error("results", "none", "at least one")
    if names != sorted(names):
        raise fields.error("results", "another order", "results sorted by task_folder and protocol")
    needed = {f"{folder}/{file}" for folder, file in _list_result_files(results)}
    for name in sorted(needed - digests.keys()):
        raise fields.error("files", f"no {name}", "the scores and the predictions of every result")
    for name in sorted(digests.keys() - needed):
        raise fields.error("files", shorten(name), "only the files of the results")
    for result in results:
        name = f"{result.task_folder}/{layout.predictions(result.protocol)}"
        if digests[name] != result.scores.predictions:
            raise fields.error("files", f"a digest of {name}", "the one that the scores name")
