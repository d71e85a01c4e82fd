"""HEAR, the Holistic Evaluation of Audio Representations, as one pipeline from corpora to scores."""

from __future__ import annotations

__version__ = "0.1.0"
# Functions and types of heareval.api, imported when first used: importing heareval itself does nothing.
_API = (
    *(
        "prepare",
        "evaluate",
        "embed",
        "predict",
        "validate",
        "compare",
        "report",
        "results",
        "plan",
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
    *("Places", "RunSettings", "HearevalError", "RunError"),
)


def __getattr__(name: str) -> object:
    """Return a name of heareval.api, or `wrap`, which models import in their own environment."""
    if name in (*_API, "wrap"):
        import importlib

        module = "heareval.embeddings.adapters.wrapping" if name == "wrap" else "heareval.api"
        return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_API, "wrap"})
