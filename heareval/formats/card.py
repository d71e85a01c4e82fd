"""A card: what a submission is, what it scored, and what it predicted for every test clip.

A card is a folder `NAME/REVISION/`. `card.json` describes the model and lists the results. Every task has a
folder with the scores file and the predictions file of each protocol, under the names that they have in an
embeddings folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from heareval.formats.scores import Scores

CARD = "card.json"
# Raised when a reader of the previous version would misunderstand the file.
SCHEMA_VERSION = 1
TRAINED_ON_EVALUATION_DATA = ("yes", "no", "unknown")


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
        memory_bytes: largest memory of the process that computed the embeddings.
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
        cost: what it took.
        scores: the scores, with the models that were tested, without the rest of the grid.
    """

    task_folder: str
    protocol: str
    references: str
    lower_is_better: tuple[str, ...]
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
        fingerprint: digest of everything in the folder.
    """

    folder: Path
    model: ModelFacts
    results: tuple[CardResult, ...]
    missing: Mapping[str, str] = field(default_factory=dict)
    fingerprint: str = ""
