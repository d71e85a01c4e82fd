"""The names of heareval, with their types: heareval/__init__.py imports them when they are first used."""

from heareval.api import CorpusRequest as CorpusRequest
from heareval.api import EmbeddingFormat as EmbeddingFormat
from heareval.api import EvaluationRequest as EvaluationRequest
from heareval.api import HearevalError as HearevalError
from heareval.api import Machine as Machine
from heareval.api import Places as Places
from heareval.api import Protocol as Protocol
from heareval.api import RunError as RunError
from heareval.api import RunSettings as RunSettings
from heareval.api import SubmissionArgs as SubmissionArgs
from heareval.api import changes_since as changes_since
from heareval.api import check_cards as check_cards
from heareval.api import clean as clean
from heareval.api import embed as embed
from heareval.api import export_cards as export_cards
from heareval.api import make_card as make_card
from heareval.api import own_changes as own_changes
from heareval.api import parity as parity
from heareval.api import plan as plan
from heareval.api import plan_evaluation as plan_evaluation
from heareval.api import predict as predict
from heareval.api import run_demo as run_demo
from heareval.api import status as status
from heareval.api import verify as verify
from heareval.embeddings.adapters.wrapping import wrap as wrap
from heareval.scripting import Results as Results
from heareval.scripting import compare as compare
from heareval.scripting import evaluate as evaluate
from heareval.scripting import prepare as prepare
from heareval.scripting import report as report
from heareval.scripting import results as results
from heareval.scripting import validate as validate

__version__: str
