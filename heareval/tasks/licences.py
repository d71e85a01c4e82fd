"""The licences of the corpora, which corpus each task is made from, and the text of LICENSE.txt.

They are not part of the corpus modules: the code of these is part of the fingerprint of finished tasks.

An entry names a licence only if it is certain. Wherever it is not, the entry says `unknown`, and why.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from heareval.formats.licence import UNKNOWN, Licence
from heareval.spec import TaskSpec

DEMO_MODE = "demo"
LINE_LENGTH = 100
# What LICENSE.txt says of the files beside the sounds.
LABELLED = "The JSON and CSV files were written from the labels of the corpus."
RELATED = (
    "The JSON files were written from the file names and tables of the corpus. They describe the clips, and "
    "relations.json says which clips are compared, with the judgements of listeners if the corpus has any."
)

_CC_BY_3 = ("CC-BY-3.0", "Creative Commons Attribution 3.0")
_CC_BY_4 = ("CC-BY-4.0", "Creative Commons Attribution 4.0")
_NOT_STATED = (UNKNOWN, "no licence is stated")
_NOT_CONFIRMED = (UNKNOWN, "not known to heareval")
_SEE_PUBLISHER = "See the publisher's page for the licence."

CORPORA: Mapping[str, Licence] = {
    "beehive_states": Licence(
        *_NOT_CONFIRMED,
        "https://zenodo.org/record/2667806",
        "I. Nolasco, A. Terenzi, S. Cecchi, S. Orcioni, H. L. Bear and E. Benetos, Audio-based "
        "identification of beehive states, ICASSP 2019.",
        note=_SEE_PUBLISHER,
    ),
    "beijing_opera": Licence(
        *_NOT_CONFIRMED,
        "https://zenodo.org/record/1285212",
        "M. Tian, A. Srinivasamurthy, M. Sandler and X. Serra, A study of instrument-wise onset detection in "
        "Beijing opera percussion ensembles, ICASSP 2014.",
        note=_SEE_PUBLISHER,
    ),
    "coughvid": Licence(
        *_CC_BY_4,
        "https://zenodo.org/record/4498364",
        "L. Orlandic, T. Teijeiro and D. Atienza, The COUGHVID crowdsourcing dataset, a corpus for the study "
        "of large-scale cough analysis algorithms, Scientific Data 8, 2021.",
    ),
    "crema_d": Licence(
        "ODbL-1.0",
        "Open Data Commons Open Database License 1.0",
        "https://github.com/CheyneyComputerScience/CREMA-D",
        "H. Cao, D. G. Cooper, M. K. Keutmann, R. C. Gur, A. Nenkova and R. Verma, CREMA-D: Crowd-sourced "
        "Emotional Multimodal Actors Dataset, IEEE Transactions on Affective Computing 5, 2014.",
    ),
    "dcase2016_task2": Licence(
        *_NOT_CONFIRMED,
        "https://archive.org/details/dcase2016_task2_train_dev",
        "A. Mesaros, T. Heittola, E. Benetos, P. Foster, M. Lagrange, T. Virtanen and M. D. Plumbley, "
        "Detection and Classification of Acoustic Scenes and Events: Outcome of the DCASE 2016 Challenge, "
        "IEEE/ACM Transactions on Audio, Speech, and Language Processing 26, 2018.",
        note=_SEE_PUBLISHER,
    ),
    "esc50": Licence(
        "CC-BY-NC-3.0",
        "Creative Commons Attribution-NonCommercial 3.0",
        "https://github.com/karoldvl/ESC-50",
        "K. J. Piczak, ESC: Dataset for Environmental Sound Classification, ACM Multimedia 2015.",
        note="The recordings are from Freesound; the publisher's page names the author of each.",
    ),
    "fsd50k": Licence(
        *_CC_BY_4,
        "https://zenodo.org/record/4060432",
        "E. Fonseca, X. Favory, J. Pons, F. Font and X. Serra, FSD50K: An Open Dataset of Human-Labeled "
        "Sound Events, IEEE/ACM Transactions on Audio, Speech, and Language Processing 30, 2022.",
        note="This is the licence of the collection. Each clip has one of its own, which the metadata of the "
        "corpus names; some do not allow commercial use.",
    ),
    "fsdd": Licence(
        "CC-BY-SA-4.0",
        "Creative Commons Attribution-ShareAlike 4.0",
        "https://github.com/Jakobovski/free-spoken-digit-dataset",
        "Z. Jackson et al., Free Spoken Digit Dataset v1.0.9.",
    ),
    "gtzan": Licence(
        *_NOT_STATED,
        "https://huggingface.co/datasets/marsyas/gtzan",
        "G. Tzanetakis and P. Cook, Musical genre classification of audio signals, IEEE Transactions on "
        "Speech and Audio Processing 10, 2002.",
        note="The rights in the music lie with others than the authors of the corpus.",
    ),
    "gtzan_music_speech": Licence(
        *_NOT_STATED,
        "http://opihi.cs.uvic.ca/sound/music_speech.tar.gz",
        "G. Tzanetakis, GTZAN Music/Speech Collection, 1999.",
        note="The rights in the recordings may lie with others than the author of the corpus.",
    ),
    "gunshot_triangulation": Licence(
        *_NOT_CONFIRMED,
        "https://zenodo.org/record/3997406",
        "S. Cooper and S. Shaw, Gunshots recorded in an open field using iPod Touch devices, 2020.",
        note=_SEE_PUBLISHER,
    ),
    "libricount": Licence(
        *_CC_BY_4,
        "https://zenodo.org/record/1216072",
        "F.-R. Stöter, S. Chakrabarty, B. Edler and E. A. P. Habets, Classification vs. Regression in "
        "Supervised Learning for Single Channel Speaker Count Estimation, ICASSP 2018.",
    ),
    "maestro": Licence(
        "CC-BY-NC-SA-4.0",
        "Creative Commons Attribution-NonCommercial-ShareAlike 4.0",
        "https://magenta.tensorflow.org/datasets/maestro",
        "C. Hawthorne, A. Stasyuk, A. Roberts, I. Simon, C.-Z. A. Huang, S. Dieleman, E. Elsen, J. Engel "
        "and D. Eck, Enabling Factorized Piano Music Modeling and Generation with the MAESTRO "
        "Dataset, ICLR 2019.",
    ),
    "mridangam": Licence(
        *_CC_BY_3,
        "https://zenodo.org/record/4068196",
        "A. Anantapadmanabhan, A. Bellur and H. A. Murthy, Modal analysis and transcription of strokes of "
        "the mridangam using non-negative matrix factorization, ICASSP 2013.",
    ),
    "nsynth": Licence(
        *_CC_BY_4,
        "https://magenta.tensorflow.org/datasets/nsynth",
        "J. Engel, C. Resnick, A. Roberts, S. Dieleman, M. Norouzi, D. Eck and K. Simonyan, Neural Audio "
        "Synthesis of Musical Notes with WaveNet Autoencoders, ICML 2017.",
    ),
    "speech_commands": Licence(
        *_CC_BY_4,
        "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
        "P. Warden, Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition, arXiv:1804.03209, "
        "2018.",
    ),
    "timbre_metrics": Licence(
        *_NOT_STATED,
        "https://github.com/tiianhk/timbremetrics",
        "H. Tian, S. Lattner and C. Saitis, Assessing the Alignment of Audio Representations with Timbre "
        "Similarity Ratings, ISMIR 2025.",
        may_be_packed=False,
        note="Sounds and ratings of 21 listening experiments by different authors. Whoever evaluates a model "
        "fetches them from the publisher.",
    ),
    "vocal_imitation": Licence(
        *_CC_BY_4,
        "https://zenodo.org/record/1340763",
        "B. Kim, M. Ghei, B. Pardo and Z. Duan, Vocal Imitation Set: a dataset of vocally imitated sound "
        "events using the AudioSet ontology, DCASE Workshop 2018.",
    ),
    "vox_lingua": Licence(
        *_CC_BY_4,
        "http://bark.phon.ioc.ee/voxlingua107/",
        "J. Valk and T. Alumäe, VoxLingua107: a Dataset for Spoken Language Recognition, IEEE SLT 2021.",
        note="The copyright of each video stays with its owner.",
    ),
}
# Task -> its corpus, a key of CORPORA.
CORPUS_OF: Mapping[str, str] = {
    "beehive_states_fold0": "beehive_states",
    "beehive_states_fold1": "beehive_states",
    "beijing_opera": "beijing_opera",
    "coughvid": "coughvid",
    "dcase2016_task2": "dcase2016_task2",
    "esc50": "esc50",
    "esc50_retrieval": "esc50",
    "fsd50k": "fsd50k",
    "gunshot_triangulation": "gunshot_triangulation",
    "libricount": "libricount",
    "maestro": "maestro",
    "mridangam_stroke": "mridangam",
    "mridangam_stroke_retrieval": "mridangam",
    "mridangam_tonic": "mridangam",
    "nsynth_pitch": "nsynth",
    "nsynth_pitch_kfold": "nsynth",
    "nsynth_pitch_retrieval": "nsynth",
    "speech_commands": "speech_commands",
    "spoken_digit": "fsdd",
    "spoken_digit_abx": "fsdd",
    "tfds_crema_d": "crema_d",
    "tfds_crema_d_same_emotion": "crema_d",
    "tfds_crema_d_same_speaker": "crema_d",
    "tfds_gtzan": "gtzan",
    "tfds_gtzan_music_speech": "gtzan_music_speech",
    "timbre_similarity": "timbre_metrics",
    "vocal_imitation": "vocal_imitation",
    "vocal_imitation_retrieval": "vocal_imitation",
    "vocal_imitation_retrieval_fine": "vocal_imitation",
    "vox_lingua_top10": "vox_lingua",
}
OWN = Licence(
    UNKNOWN,
    "as the author of the task decides",
    "",
    "",
    note="The sounds are a user's own, not published ones.",
)
DEMO = Licence(
    "Apache-2.0",
    "Apache License 2.0, as heareval itself",
    "",
    "",
    note="The sounds are synthetic: heareval made them. No sound of the corpus is among them.",
)


def find_licence(task: TaskSpec, mode: str) -> Licence:
    """Return the licence of the sounds of a task in a mode.

    >>> from heareval.tasks.registry import find_task
    >>> find_licence(find_task("esc50"), "full").spdx
    'CC-BY-NC-3.0'
    """
    from heareval.tasks.own.task import get_sounds

    if get_sounds(task):
        return OWN
    return DEMO if mode == DEMO_MODE else CORPORA[CORPUS_OF[task.name]]


def compose_license_text(task: TaskSpec, mode: str) -> str:
    """Return the text of LICENSE.txt for a task: its licence, what to cite, and how the clips were made."""
    licence, seconds = find_licence(task, mode), task.duration_s(mode)
    spdx = licence.spdx
    length = "cut or padded with zeros to" if seconds else "left at its own length"
    paragraphs = [
        f"The sounds of {task.folder(mode)}",
        f"Licence: {licence.name}",
        f"SPDX: {spdx}" + ("" if spdx == UNKNOWN else f" (https://spdx.org/licenses/{spdx}.html)"),
        licence.url and f"Published at: {licence.url}",
        licence.citation and f"Please cite: {licence.citation}",
        licence.note,
        "What heareval changed: a clip is a recording, or a section of one. It was mixed to one channel of "
        f"16-bit samples, {f'{length} {seconds:g} s' if seconds else length}, and resampled to the rate that "
        f"its folder is named after. {RELATED if task.is_pairwise else LABELLED}",
    ]
    # URLs stay whole.
    wrap = textwrap.TextWrapper(LINE_LENGTH, break_long_words=False, break_on_hyphens=False)
    return "\n\n".join(wrap.fill(each) for each in paragraphs if each) + "\n"
