"""HEAR, the Holistic Evaluation of Audio Representations, as one pipeline from corpora to scores."""

from __future__ import annotations

__version__ = "0.1.0"
# Functions and types of heareval.api, imported when first used: importing heareval itself does nothing.
_API = (
    *(
        "embed",
        "predict",
        "plan",
        "plan_evaluation",
        "verify",
        "clean",
        "make_card",
        "check_cards",
        "export_cards",
        "parity",
        "status",
        "changes_since",
        "own_changes",
    ),
    *("run_demo", "CorpusRequest", "EvaluationRequest", "SubmissionArgs", "EmbeddingFormat", "Protocol"),
    *("Places", "RunSettings", "Machine", "HearevalError", "RunError"),
)
# Those of heareval.scripting, which take what heareval.api takes, and shorter forms.
_SCRIPTING = ("prepare", "evaluate", "validate", "compare", "report", "results", "Results")
# Name -> its module. Models import `wrap` in their own environment.
_MODULES = {
    **dict.fromkeys(_API, "heareval.api"),
    **dict.fromkeys(_SCRIPTING, "heareval.scripting"),
    "wrap": "heareval.embeddings.adapters.wrapping",
}


def __getattr__(name: str) -> object:
    """Return a name of one of these modules."""
    if name in _MODULES:
        import importlib

        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
