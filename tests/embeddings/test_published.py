"""Published models named in one word: what is asked for, from which commit, under which name, and run."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest

from heareval.embeddings import hub
from heareval.embeddings.describe import DescribeSettings, Description, describe_model, read_description
from heareval.embeddings.inside.submission import LoadedSubmission, load_submission
from heareval.embeddings.naming import name_submission
from heareval.embeddings.opening import fingerprint_submission
from heareval.embeddings.published import LIBRARIES, find_adapter_version, identify_options, pin_options
from heareval.embeddings.submission import Model
from heareval.embeddings.submission_config import SubmissionConfig, read_config
from heareval.errors import HearevalError
from tests.commands import command, only_line
from tests.embeddings.clips import write_task
from tests.embeddings.published import save_model
from tests.http_server import serving

COMMIT, OTHER = "0123456789abcdef" * 2 + "01234567", "fedcba98" * 5
NAME = "someone/my-encoder"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a model in it, and a hub that can't be reached."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")


def options_of(word: str, **given: object) -> dict[str, object]:
    options: dict[str, object] = json.loads(read_config(word, given).options)
    return options


# --------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("hf:facebook/wav2vec2-base-960h", {"name": "facebook/wav2vec2-base-960h", "revision": "main"}),
        ("hf:gpt2", {"name": "gpt2", "revision": "main"}),
        ("hf:a/b@v1.0#layer=7", {"name": "a/b", "revision": "v1.0", "layer": "7"}),
        ("hf:a/b@refs/pr/3#layer=mean", {"name": "a/b", "revision": "refs/pr/3", "layer": "mean"}),
        ("torchaudio:WAVLM_BASE_PLUS#layer=3", {"name": "WAVLM_BASE_PLUS", "layer": "3"}),
        ("s3prl:apc", {"name": "apc"}),
    ],
)
def test_a_word_names_a_model(word: str, expected: dict[str, str]) -> None:
    config = read_config(word, {})
    assert config.module == LIBRARIES[word.partition(":")[0]].module
    assert json.loads(config.options) == expected
    assert config.weights == ""


@pytest.mark.parametrize("word", ["hf:folder", "hf:./folder", "hf:folder#layer=1"])
def test_a_folder_is_the_weights(word: str, tmp_path: Path) -> None:
    assert read_config(word, {}).weights == str(tmp_path / "folder")
    assert options_of(word) == ({"layer": "1"} if "#" in word else {})


def test_a_layer_may_be_a_number_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('module = "hf:folder"\n[options]\nlayer = 0\n')
    assert read_config("mine.toml", {}).options == read_config("hf:folder#layer=0", {}).options


def test_a_folder_in_a_file_is_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "sub" / "model").mkdir(parents=True)
    (tmp_path / "sub" / "mine.toml").write_text(
        'module = "hf:./model"\nname = "mine"\n[options]\nlayer = "2"\n'
    )
    config = read_config("sub/mine.toml", {"device": "cpu"})
    assert (config.weights, config.name) == (str(tmp_path / "sub" / "model"), "mine")
    assert (config.options, config.device) == ('{"layer": "2"}', "cpu")


@pytest.mark.parametrize(
    ("word", "given", "expected"),
    [
        ("hf:", {}, r"got 'hf:', expected hf:NAME\[@REVISION\] or FOLDER\[#layer=NUMBER or #layer=mean\]"),
        ("hf:a/b/c", {}, "expected hf:NAME"),
        ("hf:a/b@", {}, "expected hf:NAME"),
        ("hf:a/b#layer=-1", {}, "expected hf:NAME"),
        ("hf:a/b#layers=1", {}, "expected hf:NAME"),
        ("hf:a/b#", {}, "expected hf:NAME"),
        ("s3prl:apc#layer=1", {}, "expected s3prl:NAME$"),
        ("torchaudio:no bundle", {}, "expected torchaudio:BUNDLE"),
        ("hf:./nowhere", {}, "got no such folder, expected a folder, or a name on the hub"),
        ("hf:./folder@main", {}, "got a folder with a revision, expected a folder alone"),
        ("hf:a/b", {"weights": "w.pt"}, "got weights w.pt, expected no --model: hf: says what is loaded"),
        ("hf:a/b", {"source": "mine==1"}, "got source mine==1, expected no --source"),
        ("xares:mine.py", {}, "expected xares:FILE.py:CLASS"),
        ("xares:mine.py:Net", {}, "got no file .*mine.py"),
        (
            "my_model",
            {"trust_remote_code": True},
            "--trust-remote-code: got my_model, expected a published model",
        ),
    ],
)
def test_a_wrong_word_is_one_line(word: str, given: dict[str, object], expected: str) -> None:
    with pytest.raises(HearevalError, match=expected):
        read_config(word, given)


def test_code_of_others_is_named_in_the_options() -> None:
    assert options_of("hf:a/b", trust_remote_code=True)["trust_remote_code"] is True
    assert "trust_remote_code" not in options_of("hf:a/b")


def test_an_environment_is_made_only_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert read_config("hf:a/b", {}).requirements == ("torch", "transformers")
    given = {"requirements": ("transformers==4.50", "soxr")}
    assert read_config("hf:a/b", given).requirements == ("torch", "transformers==4.50", "soxr")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert not read_config("hf:a/b", {}).needs_environment
    assert read_config("hf:a/b", {"python": "3.10"}).requirements == ("torch", "transformers")


# --------------------------------------------------------------------------- commits


def write_answer(folder: Path, revision: str, answer: str) -> None:
    place = folder / "api" / "models" / NAME / "revision" / revision
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(answer)


def write_cache(folder: Path, revision: str, commit: str) -> None:
    place = folder / "hub" / "hub" / "models--someone--my-encoder" / "refs" / revision
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(commit)


def test_the_hub_says_which_commit_a_revision_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_answer(tmp_path / "web", "main", json.dumps({"sha": COMMIT}))
    write_cache(tmp_path, "main", OTHER)
    with serving(tmp_path / "web") as (url, _):
        monkeypatch.setenv("HF_ENDPOINT", url)
        assert hub.find_commit(NAME, "main") == COMMIT
        with pytest.raises(
            HearevalError, match=r"my-encoder@v9: got HTTP 404 .*, expected a model and a revis"
        ):
            hub.find_commit(NAME, "v9")


def test_without_the_hub_the_commit_in_the_cache_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        HearevalError, match=r"can't be reached \(Connection refused\), and no such revision in .*hub"
    ):
        hub.find_commit(NAME, "main")
    write_cache(tmp_path, "main", COMMIT)
    assert hub.find_commit(NAME, "main") == COMMIT
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert hub.find_commit(NAME, "main") == COMMIT
    with pytest.raises(
        HearevalError,
        match=r"HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set, and no such revision in .* give a folder",
    ):
        hub.find_commit(NAME, "v2")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")
    with pytest.raises(HearevalError, match="HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set"):
        hub.find_commit(NAME, "v2")


@pytest.mark.parametrize("answer", ["no JSON", "{}", '{"sha": "short"}'])
def test_an_answer_without_a_commit_is_none(
    answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_answer(tmp_path / "web", "main", answer)
    with serving(tmp_path / "web") as (url, _):
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(HearevalError, match="the hub can't be reached"):
            hub.find_commit(NAME, "main")


def test_a_full_commit_needs_no_hub() -> None:
    options = read_config(f"hf:{NAME}@{COMMIT}", {}).options
    assert json.loads(pin_options(LIBRARIES["hf"].module, options))["revision"] == COMMIT
    # Nothing of another submission is pinned.
    assert pin_options("my_model", '{"name": "a"}') == '{"name": "a"}'


def test_a_moved_branch_is_another_submission(tmp_path: Path) -> None:
    fingerprints, names = set(), set()
    for commit in (COMMIT, OTHER):
        write_cache(tmp_path, "main", commit)
        config = read_config(f"hf:{NAME}#layer=7", {})
        options = pin_options(config.module, config.options)
        description = Description(tmp_path, 16000, False, {}, {})
        fingerprints.add(fingerprint_submission(description, "", options, ()))
        names.add(name_submission(Model(config.module, options=options), ""))
    assert len(fingerprints) == 2
    assert names == {"hf-someone-my-encoder-012345+layer7", "hf-someone-my-encoder-fedcba+layer7"}


def test_names_are_short_and_hold_what_differs() -> None:
    def name_of(word: str, **given: object) -> str:
        config: SubmissionConfig = read_config(word, given)
        return name_submission(Model(config.module, config.weights, config.options), "abcdef0123")

    assert name_of("hf:folder") == "hf-folder-abcdef"
    assert name_of("hf:folder#layer=mean") == "hf-folder-abcdef+layermean"
    assert name_of("torchaudio:HUBERT_BASE") == "torchaudio-HUBERT_BASE"
    assert re.fullmatch(r"hf-folder-abcdef\+[0-9a-f]{6}", name_of("hf:folder", options={"dtype": "bfloat16"}))


def test_the_place_of_a_file_is_no_part_of_a_submission() -> None:
    module = LIBRARIES["xares"].module
    options = {
        identify_options(module, json.dumps({"file": f"/{each}/net.py", "encoder": "E"})) for each in "ab"
    }
    assert options == {'{"encoder": "E", "file": "net.py"}'}
    assert identify_options("my_model", '{"file": "/a/b"}') == '{"file": "/a/b"}'


# --------------------------------------------------------------------------- run


@pytest.mark.slow
def test_a_description_of_another_adapter_is_made_again(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    model = Model(LIBRARIES["hf"].module, str(save_model("wav2vec2", tmp_path / "model")), device="cpu")
    # Files in the current folder are not taken for the library, for what it imports, or for us.
    for name in ("transformers", "safetensors", "huggingface", "heareval"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not this one')")

    settings = DescribeSettings("cpu")
    found = describe_model(
        model, "event", tmp_path / "cache", weights_sha256="", record=(), settings=settings
    )

    assert read_description(found.path) == found
    assert found.sample_rate == 16000
    assert {name.rpartition(".")[2] for name in found.versions if name.startswith("heareval.")} == {
        *("encoder", "huggingface", "layers", "raw_speech", "waves")
    }
    # Neither the version of heareval nor the code of adapters counts.
    assert "heareval" not in found.versions
    assert found.source_sha256 == {}
    facts = json.loads(found.facts)
    assert (facts["type"], facts["hop_ms"], facts["first_ms"]) == ("wav2vec2", 20.0, 12.5)
    written = json.loads(found.path.read_text())
    written["versions"]["heareval.embeddings.adapters.raw_speech"] = "0"
    found.path.write_text(json.dumps(written))
    assert read_description(found.path) is None


def test_versions_are_found_without_an_import() -> None:
    assert find_adapter_version("heareval.embeddings.adapters.raw_speech").isdecimal()
    assert find_adapter_version("heareval.embeddings.adapters.no_such") == ""


BY_HAND = """
import torch, transformers

class Model(torch.nn.Module):
    sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, 32, 32

def load_model(model_file_path):
    model = Model()
    model.net = transformers.Wav2Vec2Model.from_pretrained(model_file_path)
    return model

def get_timestamp_embeddings(audio, model):
    audio = audio - audio.mean(1, keepdim=True)
    audio = audio / torch.sqrt(audio.var(1, correction=0, keepdim=True) + 1e-7)
    frames = model.net(audio).last_hidden_state
    return frames, (12.5 + 20.0 * torch.arange(frames.shape[1])).expand(len(audio), -1)

def get_scene_embeddings(audio, model):
    return get_timestamp_embeddings(audio, model)[0].mean(1)
"""
WRAPPED = """
import heareval, transformers

def frames(net, waves):
    waves = (waves - waves.mean(1, keepdim=True)) / (waves.var(1, correction=0, keepdim=True) + 1e-7).sqrt()
    return net(waves).last_hidden_state

load = transformers.Wav2Vec2Model.from_pretrained
model = heareval.wrap(load=load, frames=frames, sample_rate=16000, hop_ms=20, first_ms=12.5)
"""


def load_here(**job: object) -> LoadedSubmission:
    described = {"file": "", "weights_path": "model", "options": {}, "device": "cpu", "precision": "float32"}
    return load_submission({**described, "embedding_type": "event", **job})


def test_a_model_by_hand_wrapped_and_by_its_name_gives_equal_embeddings(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    save_model("wav2vec2", tmp_path / "model")
    for name, source in (("by_hand", BY_HAND), ("wrapped", WRAPPED)):
        (tmp_path / f"{name}.py").write_text(source)
    found = [
        load_here(module=LIBRARIES["hf"].module),
        load_here(module="wrapped", file=str(tmp_path / "wrapped.py"), api_object="model"),
        load_here(module="by_hand", file=str(tmp_path / "by_hand.py")),
    ]
    audio = np.random.default_rng(0).normal(0, 0.1, (3, 12345)).astype(np.float32)
    for function in ("get_timestamp_embeddings", "get_scene_embeddings"):
        ours, *others = (
            each.framework.compute(function, getattr(each.module, function), audio, each.model)
            for each in found
        )
        for other in others:
            for array, expected in zip(ours, other, strict=True):
                np.testing.assert_allclose(array, expected, atol=1e-5)


def embed_here(folder: Path, word: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Run `heareval embed` in processes that import transformers themselves."""
    variables = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub"), "PYTHONUNBUFFERED": "1"}
    return command(folder, "heareval", "embed", word, "--device", "cpu", *more, **variables)


@pytest.mark.slow
def test_models_of_the_cache_are_embedded_like_any_other(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    write_cache(tmp_path, "main", COMMIT)
    snapshot = tmp_path / "hub" / "hub" / "models--someone--my-encoder" / "snapshots" / COMMIT
    save_model("hubert", snapshot)
    (snapshot / "README.md").write_text("---\nlicense: mit\n---\n")
    write_task(tmp_path / "tasks" / "t", {"train": [8000, 8000], "valid": [8000], "test": [8000]}, "event")
    done = embed_here(tmp_path, f"hf:{NAME}#layer=1")
    assert done.returncode == 0, done.stderr
    embeddings = tmp_path / "embeddings" / "hf-someone-my-encoder-012345+layer1" / "t"
    manifest = json.loads((embeddings / "MANIFEST.json").read_text())
    facts = json.loads(manifest["submission"]["facts"])
    assert (facts["revision"], facts["licence"], facts["type"]) == (COMMIT, "mit", "hubert")
    assert json.loads(manifest["submission"]["options"])["revision"] == COMMIT
    save_model("clap", tmp_path / "clap")
    line = only_line(embed_here(tmp_path, "hf:clap"))
    assert "ClapModel has scene embeddings only" in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ('{"model_type": "bert"}', "got a model of type bert, expected an audio encoder: audio-spectrogram-"),
        (
            '{"model_type": "x", "auto_map": {}}',
            "got a model of type x, which brings its own code.* use --trust-remote-code",
        ),
    ],
)
def test_what_is_no_encoder_is_one_line_for_users(config: str, expected: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    write_task(tmp_path / "tasks" / "t", {"train": [8000], "valid": [8000], "test": [8000]})
    (tmp_path / "folder" / "config.json").write_text(config)
    assert re.search(
        rf"error: hf:folder: hf:\S*folder: {expected}", only_line(embed_here(tmp_path, "hf:folder"))
    )


def test_a_hub_that_is_away_is_one_line_for_users(tmp_path: Path) -> None:
    write_task(tmp_path / "tasks" / "t", {"train": [8000], "valid": [8000], "test": [8000]})
    variables = {name: os.environ[name] for name in ("HF_ENDPOINT", "HF_HOME")}
    done = command(tmp_path, "heareval", "embed", f"hf:{NAME}", **variables)
    assert re.search(rf"error: hf:{NAME}@main: got the hub can't be reached", only_line(done))
