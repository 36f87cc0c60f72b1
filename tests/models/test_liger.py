"""Fused kernels: what can be said of them without a CUDA device."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from lapwing.core.errors import UserError
from lapwing.models.liger import apply_liger


def on_cuda(model_type):
    """What of a model on a CUDA device is looked at before anything runs there."""
    weight = SimpleNamespace(device=torch.device("cuda"))
    return SimpleNamespace(parameters=lambda: iter([weight]), config=SimpleNamespace(model_type=model_type))


@pytest.fixture
def package(monkeypatch):
    """A package with the names that ours is written against, which notes what it is asked for."""
    asked = []
    names = ("liger_kernel", "liger_kernel.transformers", "liger_kernel.transformers.monkey_patch")
    modules = {name: ModuleType(name) for name in names}
    apply = lambda **settings: asked.append(settings)  # noqa: E731
    modules[names[1]]._apply_liger_kernel_to_instance = apply
    modules[names[2]].MODEL_TYPE_TO_APPLY_LIGER_FN = {"qwen2": None}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return asked


def test_a_model_on_the_cpu_is_refused(make_model):
    # Fails when the kernels, which need CUDA, are put in and break at the first forward pass.
    model = make_model()
    forward = model.base_model.norm.forward
    with pytest.raises(UserError, match=r"model\.liger needs a CUDA device, but the model is on 'cpu'"):
        apply_liger(model)
    assert model.base_model.norm.forward == forward


def test_a_missing_package_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "liger_kernel", None)
    with pytest.raises(UserError, match=r'pip install "lapwing\[liger\]"'):
        apply_liger(on_cuda("qwen2"))


def test_an_architecture_without_kernels_is_refused(package):
    # Fails when the package is asked anyway: it says nothing and does nothing.
    with pytest.raises(UserError, match="no kernels for models of type 'mamba'"):
        apply_liger(on_cuda("mamba"))
    assert package == []


def test_the_cross_entropy_is_left_alone(package):
    # Fails when the package replaces the model's forward, as it does unless told otherwise.
    model = on_cuda("qwen2")
    apply_liger(model)
    assert package == [{"model": model, "cross_entropy": False, "fused_linear_cross_entropy": False}]
