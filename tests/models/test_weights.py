"""Every way weights come in, and one sentence for every file that does not fit."""

import argparse
import json
import pickle
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgevit.errors import InputError
from edgevit.images import Preprocess
from edgevit.models import checkpoint, download, efficientvit, fitting, names, registry, weights
from tests.models.test_names import KEYS, authors_state

M0 = "efficientvit_m0"
TABLE = "blocks3.3.mixer.m.attn.attention_biases"
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """M0 at 64 px with 10 classes, every norm and bias table random."""
    return weights.load(M0, "random", image_size=64, classes=10)[0]


@pytest.fixture
def state(model: nn.Module) -> State:
    return dict(model.state_dict())


def saved(path: Path, content: object) -> str:
    torch.save(content, path)
    return str(path)


@torch.no_grad()
def answers(model: nn.Module, image_size: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    logits: Tensor = model(torch.rand(2, 3, image_size, image_size, generator=generator))
    return logits


# What loads


@pytest.mark.parametrize("name", KEYS)
def test_official_layout_at_224(name: str, tmp_path: Path) -> None:
    """The authors' dict, with index buffers, arguments and 1x1 kernels as matrices, loads strictly and exactly."""
    original = registry.build(name, 224, 1000)
    flat = {
        key: value.flatten(1) if value.shape[2:] == (1, 1) else value for key, value in authors_state(original).items()
    }
    path = saved(tmp_path / "a.pth", {"model": flat, "args": argparse.Namespace(lr=1e-3), "epoch": 299})
    loaded, described = weights.load(name, path)
    assert not loaded.training
    assert described.notes == ()
    for key, value in original.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key


@pytest.mark.parametrize("wrap", ["model", "state_dict", None])
@pytest.mark.parametrize("form", [authors_state, lambda model: names.to_timm(model.state_dict())])
def test_wrapped_and_bare_in_both_grammars(model: nn.Module, tmp_path: Path, wrap: str | None, form: object) -> None:
    assert callable(form)
    path = saved(tmp_path / "a.pt", {wrap: form(model)} if wrap else form(model))
    loaded, described = weights.load(M0, path)
    assert torch.equal(answers(loaded), answers(model))
    assert (described.source, described.licence, described.class_names) == (path, "not stated", None)
    assert described.preprocess == Preprocess.imagenet(64)


def test_foreign_safetensors(state: State, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(names.to_timm(state), path, {"format": "pt", "model": "whatever"})
    loaded, described = weights.load(M0, str(path))
    assert torch.equal(loaded.state_dict()["head.l.weight"], state["head.l.weight"])
    assert described.preprocess == Preprocess.imagenet(64)
    assert described.sha256 == checkpoint.read(path).sha256


def test_half_precision_becomes_float32(state: State, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", {k: v.half() if v.is_floating_point() else v for k, v in state.items()})
    loaded = weights.load(M0, path)[0].state_dict()
    assert loaded["head.l.weight"].dtype == torch.float32
    assert torch.equal(loaded["head.l.weight"], state["head.l.weight"].half().float())
    assert loaded["head.bn.num_batches_tracked"].dtype == torch.int64


def test_saved_weights_come_back_with_what_they_say(model: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    preprocess = Preprocess(64, 64, "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    classes = [f"class {i}" for i in range(10)]
    weights.save(
        path,
        model,
        {
            "model": M0,
            "image_size": "64",
            "licence": "MIT",
            "class_names": json.dumps(classes),
            "preprocess": json.dumps(asdict(preprocess)),
        },
    )
    assert list(tmp_path.iterdir()) == [path]
    assert {value.dtype for value in load_file(path).values()} == {torch.float16, torch.int64}
    loaded, described = weights.load(M0, str(path))
    assert described.preprocess == preprocess
    assert described.class_names == tuple(classes)
    assert described.licence == "MIT"
    torch.testing.assert_close(answers(loaded), answers(model), rtol=0.05, atol=0.05 * answers(model).abs().max())
    larger = weights.load(M0, str(path), image_size=128)[1].preprocess
    assert (larger.resize, larger.crop, larger.interpolation, larger.mean) == (128, 128, "bilinear", preprocess.mean)
    assert weights.load(M0, str(path), classes=3)[1].class_names is None


def test_bundled(model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "assets", lambda: tmp_path)
    assert not weights.bundled_available(M0)
    with pytest.raises(InputError, match=r"take --weights official \(https://.*m0.pth\), --weights PATH, or .* random"):
        weights.load(M0, "bundled")
    weights.save(tmp_path / f"{M0}-fashion-mnist.safetensors", model, {"model": M0, "licence": "Apache-2.0"})
    assert weights.bundled_available(M0)
    _, described = weights.load(M0, "bundled")
    assert (described.source, described.licence) == ("bundled", "Apache-2.0")


def test_official_comes_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEVIT_CACHE", str(tmp_path))
    saved(tmp_path / "efficientvit_m0.pth", {"model": registry.build(M0, 224, 1000).state_dict()})
    _, described = weights.load(M0, "official")
    assert (described.source, described.licence) == ("official", "MIT")
    assert described.preprocess == Preprocess.imagenet(224)


def test_official_is_fetched_from_the_registrys_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def fetch(url: str, cache_dir: Path, **expected: object) -> Path:
        asked.append((url, expected["expected_sha256"]))
        raise InputError("offline")

    monkeypatch.setattr(download, "fetch", fetch)
    with pytest.raises(InputError, match="offline"):
        weights.load(M0, "official")
    assert asked == [(registry.entry(M0).official_url, registry.entry(M0).official_sha256)]


# Random weights


def test_random_is_seeded_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, described = weights.load(M0, "random", image_size=64, classes=10, seed=3)
    assert torch.equal(torch.rand(1), expected)
    second = weights.load(M0, "random", image_size=64, classes=10, seed=3)[0]
    other = weights.load(M0, "random", image_size=64, classes=10, seed=4)[0]
    assert torch.equal(answers(first), answers(second))
    assert not torch.equal(answers(first), answers(other))
    assert (described.source, described.sha256, described.licence) == ("random", None, "none (random weights)")
    assert "seed 3" in described.notes[0]


def test_randomised_model_is_not_degenerate(model: nn.Module) -> None:
    logits = answers(model)
    assert logits.std() > 0.1
    assert (logits[0] - logits[1]).std() > 0.1 * logits.std()
    for key, value in model.state_dict().items():
        if key.endswith(("bn.weight", "bn.bias", "running_mean", "running_var")) or efficientvit.is_sized(key):
            assert value.numel() == 1 or value.std() > 0, key
    assert all(norm.momentum == 0.1 for norm in model.modules() if isinstance(norm, nn.BatchNorm2d))


def test_random_defaults_are_the_published_sizes() -> None:
    model, described = weights.load(M0, "random")
    assert (model.image_size, model.classes) == (224, 1000)
    assert described.preprocess == Preprocess.imagenet(224)


@pytest.mark.parametrize(("image_size", "classes"), [(0, 10), (100, 10), (64, 0)])
def test_sizes_that_cannot_be_built(image_size: int, classes: int) -> None:
    with pytest.raises(InputError):
        weights.load(M0, "random", image_size=image_size, classes=classes)


# Other sizes and class counts


def test_image_size_and_classes_come_from_the_file(tmp_path: Path) -> None:
    for size in (96, 352):  # 384 has the windows of 352
        path = saved(tmp_path / "a.pth", efficientvit.build(M0, size, 7).state_dict())
        loaded, described = weights.load(M0, path)
        assert (loaded.image_size, loaded.classes) == (size, 7)
        assert described.notes == (
            f"image size not stated: {size} px is the smallest that the attention bias tables fit",
        )
    # 256 has the windows of 224
    loaded, described = weights.load(M0, saved(tmp_path / "a.pth", efficientvit.build(M0, 256, 7).state_dict()))
    assert (loaded.image_size, described.notes) == (224, ())


def test_bias_tables_are_resized_head_by_head(state: State, tmp_path: Path) -> None:
    side = 4  # the window of stage 1 at 64 px; 7 at 224
    key = "blocks1.0.mixer.m.attn.attention_biases"
    rows = torch.arange(side).float().repeat_interleave(side)  # head 0 depends on the row alone, head 1 on the column
    state[key] = torch.stack([rows, rows.reshape(side, side).T.flatten(), torch.full((16,), 3.0), torch.zeros(16)])
    loaded, described = weights.load(M0, saved(tmp_path / "a.pth", state), image_size=224)
    assert described.notes == ("attention bias tables resized for 224 px",)
    table = loaded.state_dict()[key].reshape(4, 7, 7)
    torch.testing.assert_close(table[0], table[0, :, :1].expand(7, 7))
    torch.testing.assert_close(table[1], table[0].T)
    assert (table[0, :, 0].diff() > 0).all()
    torch.testing.assert_close(table[2], torch.full((7, 7), 3.0))
    torch.testing.assert_close(table[3], torch.zeros(7, 7))
    assert loaded.image_size == 224


def test_same_windows_need_no_resizing(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", efficientvit.build(M0, 224, 10).state_dict())
    assert weights.load(M0, path, image_size=256)[1].notes == ()


def test_other_class_count_gets_a_seeded_head(state: State, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", state)
    loaded, described = weights.load(M0, path, image_size=64, classes=3, seed=1)
    head = loaded.state_dict()["head.l.weight"]
    assert described.notes == ("head rows dropped: 10 -> 3 classes, the head is freshly initialised",)
    assert head.shape == (3, 192)
    assert head.std() > 0
    assert torch.equal(head, weights.load(M0, path, classes=3, seed=1)[0].state_dict()["head.l.weight"])
    assert not torch.equal(head, weights.load(M0, path, classes=3, seed=2)[0].state_dict()["head.l.weight"])
    assert torch.equal(loaded.state_dict()["head.bn.weight"], state["head.bn.weight"])
    assert weights.load(M0, path, image_size=64, classes=10)[1].notes == ()


# What is refused


def refused(name: str, path: str | Path, **asked: float) -> str:
    with pytest.raises(InputError) as error:
        weights.load(name, str(path), **asked)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_no_such_file(tmp_path: Path) -> None:
    assert "there is no weights file" in refused(M0, tmp_path / "a.pth")
    assert "is a folder" in refused(M0, tmp_path)
    (tmp_path / "a.txt").touch()
    assert "take .pth, .pt, .bin or .safetensors" in refused(M0, tmp_path / "a.txt")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kept", [0, 3, 100, 0.5, 0.999])
def test_truncated(state: State, tmp_path: Path, suffix: str, kept: float) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if kept < 1 else int(kept)])
    message = refused(M0, path)
    assert str(path) in message
    assert re.search("empty|truncated|corrupt", message)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_not_weights_at_all(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"<html>not found</html>" * 10)
    assert "corrupt" in refused(M0, path)


class Code:
    """Unpickling this would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickle_with_code_is_not_run(state: State, tmp_path: Path, zipped: bool) -> None:
    path, witness = tmp_path / "a.pth", tmp_path / "witness"
    content = {"model": state, "code": Code(witness)}
    if zipped:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps({"code": Code(witness)}))
    assert "pickle with code in it" in refused(M0, path)
    assert not witness.exists()


@pytest.mark.parametrize("content", [{}, [1, 2], {"epoch": 3}, {"model": {"lr": 0.1}}])
def test_no_state_dict(tmp_path: Path, content: object) -> None:
    assert "holds no state dict" in refused(M0, saved(tmp_path / "a.pth", content))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(state: State, tmp_path: Path, value: float) -> None:
    state[TABLE] = state[TABLE].clone()
    state[TABLE][1, 0] = value
    assert refused(M0, saved(tmp_path / "a.pth", state)).startswith(f"{TABLE} in ")


def test_keys_and_shapes_that_do_not_fit(state: State, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    del state["head.bn.weight"]
    state["head.l.bias"] = torch.zeros(4)
    state["extra"] = torch.zeros(2, 3)
    assert refused(M0, saved(path, state)) == (
        f"{path} does not fit {M0}: head.bn.weight [192] is missing, "
        "head.l.bias is [4] instead of [10], extra [2, 3] is not in the model"
    )
    state["another"] = state["third"] = torch.zeros(1)
    assert refused(M0, saved(path, state)).endswith("extra [2, 3] is not in the model, and 2 more differ")


def test_bias_table_of_a_wrong_shape(state: State, tmp_path: Path) -> None:
    state[TABLE] = torch.zeros(4, 3)
    assert f"{TABLE} is [4, 3] instead of [4, 1]" in refused(M0, saved(tmp_path / "a.pth", state), image_size=64)
    state[TABLE] = torch.zeros(2, 1)
    assert f"{TABLE} is [2, 1] instead of [4, 1]" in refused(M0, saved(tmp_path / "a.pth", state), image_size=64)


@pytest.mark.parametrize("grammar", [dict, names.to_timm])
def test_weights_of_another_size_of_the_family(tmp_path: Path, grammar: object) -> None:
    assert callable(grammar)
    path = saved(tmp_path / "a.pth", grammar(efficientvit.build("efficientvit_m3", 96, 5).state_dict()))
    assert "what looks like efficientvit_m3: name that model instead" in refused(M0, path)


def test_file_that_says_it_is_another_model(model: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    weights.save(path, model, {"model": "efficientvit_m5"})
    assert "holds weights of efficientvit_m5, not of efficientvit_m0" in refused(M0, path)


def test_distilled_head(state: State, tmp_path: Path) -> None:
    state |= {key.replace("head.", "head_dist."): value for key, value in state.items() if key.startswith("head.")}
    assert "distilled head" in refused(M0, saved(tmp_path / "a.pth", state))


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"format": "edgevit-weights-2"}, "update edgevit"),
        ({"image_size": "wide"}, "damaged metadata"),
        ({"class_names": "["}, "damaged metadata"),
        ({"preprocess": "{}"}, "damaged metadata"),
        ({"preprocess": json.dumps(asdict(Preprocess(64, 64, "nearest")))}, "damaged metadata"),
        ({"class_names": '["a", "b"]'}, "names 2 classes, but its head has 10"),
    ],
)
def test_metadata_that_is_wrong(model: nn.Module, tmp_path: Path, metadata: dict[str, str], reason: str) -> None:
    path = tmp_path / "a.safetensors"
    weights.save(path, model, metadata)
    assert reason in refused(M0, path)


def test_save_refuses_what_it_cannot_keep(tmp_path: Path) -> None:
    model = efficientvit.build(M0, 64, 10)
    with pytest.raises(InputError, match="there is no folder"):
        weights.save(tmp_path / "none" / "a.safetensors", model, {})
    with torch.no_grad():
        model.head.l.weight[0, 0] = 1e6
    with pytest.raises(InputError, match=r"head\.l\.weight holds values that float16 cannot"):
        weights.save(tmp_path / "a.safetensors", model, {})
    assert list(tmp_path.iterdir()) == []


def test_failed_save_leaves_the_old_file(model: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:4])
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.safetensors"
    path.write_bytes(b"old")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="No space left"):
        weights.save(path, model, {})
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_equal_weights_make_equal_files(tmp_path: Path) -> None:
    model = fitting.seeded(M0, 64, 3, seed=0)
    metadata = {f"key{i}": str(i) for i in range(12)}
    for name in ("a", "b"):
        weights.save(tmp_path / name, model, dict(sorted(metadata.items(), reverse=name == "b")))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert set(load_file(tmp_path / "a")) == set(model.state_dict())
