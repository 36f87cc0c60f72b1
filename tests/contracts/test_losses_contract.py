"""What every method in `losses/` promises, found by listing the folder."""

import importlib
import inspect

import pytest
import torch

from lapwing.core.columns import COLUMNS
from lapwing.core.registry import describe, names, resolve

every_method = pytest.mark.parametrize("name", names("losses"))
TOKENS = 12


def module(name):
    return importlib.import_module(f"lapwing.losses.{name}")


def arguments(name, seed=0):
    """Tensors for all that the method asks for without a default."""
    generator = torch.Generator().manual_seed(seed)

    def draw(size=TOKENS):
        return torch.randn(size, generator=generator, dtype=torch.float64)

    known = {
        "logprob": -draw().abs(),
        "behavior_logprob": -draw().abs(),
        "sampler_logprob": -draw().abs(),
        "reference_logprob": -draw().abs(),
        "advantage": draw(),
        "token_entropy": draw().abs(),
        "step_of_token": torch.arange(TOKENS) // 2,
        "episode_of_token": torch.arange(TOKENS) // 4,
        "group_of_episode": torch.tensor([0, 0, 1]),
        "success": torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64),
    }
    parameters = inspect.signature(resolve("losses", name)).parameters.values()
    chosen = {p.name: known[p.name] for p in parameters if p.default is p.empty}
    for trained in ("logprob", "token_entropy"):
        if trained in chosen:
            chosen[trained].requires_grad_()
    return chosen


@every_method
def test_the_module_says_what_the_method_is(name):
    assert isinstance(module(name).MERGEABLE, bool)
    assert set(module(name).NEEDS) <= set(COLUMNS)
    assert set(module(name).NEEDS) <= set(inspect.signature(resolve("losses", name)).parameters)
    assert describe("losses", name).needs == module(name).NEEDS


@every_method
def test_all_parameters_are_keywords(name):
    parameters = inspect.signature(resolve("losses", name)).parameters.values()
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters)


@every_method
def test_there_is_one_finite_number_per_token_with_a_finite_gradient(name):
    given = arguments(name)
    loss = resolve("losses", name)(**given)
    assert loss.shape == (TOKENS,)
    assert loss.dtype == torch.float64
    assert torch.isfinite(loss).all()
    loss.sum().backward()
    gradients = [tensor.grad for tensor in given.values() if tensor.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() and gradient.abs().sum() > 0 for gradient in gradients)


@every_method
def test_the_precision_of_the_model_is_kept(name):
    given = {k: v.detach().float() if v.is_floating_point() else v for k, v in arguments(name).items()}
    assert resolve("losses", name)(**given).dtype == torch.float32


@every_method
def test_the_inputs_stay_as_they_are(name):
    given = arguments(name)
    before = {key: tensor.detach().clone() for key, tensor in given.items()}
    resolve("losses", name)(**given)
    assert all(torch.equal(given[key], before[key]) for key in given)


@every_method
def test_a_mergeable_loss_of_a_token_depends_on_that_token_only(name):
    if not module(name).MERGEABLE:
        return  # By its own word its tokens belong together.
    given = arguments(name)
    loss = resolve("losses", name)(**given)
    assert all(tensor.shape == (TOKENS,) for tensor in given.values())
    alone = [
        resolve("losses", name)(**{key: tensor[k : k + 1] for key, tensor in given.items()}) for k in range(TOKENS)
    ]
    torch.testing.assert_close(torch.cat(alone), loss)


@every_method
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_a_mergeable_policy_loss_grows_in_proportion_to_the_advantage(name, scale):
    # Identical pairs are trained once with their advantages summed by sign, which needs ℓ(cA) = cℓ(A) for c > 0.
    given = arguments(name)
    if "advantage" not in given or not module(name).MERGEABLE:
        return
    scaled = resolve("losses", name)(**{**given, "advantage": scale * given["advantage"]})
    torch.testing.assert_close(scaled, scale * resolve("losses", name)(**given))


@every_method
def test_a_silent_loss_has_neither_value_nor_gradient_where_the_advantage_is_0(name):
    # Such steps do not go through the model.
    if not getattr(module(name), "SILENT", False):
        return
    assert module(name).MERGEABLE
    given = arguments(name)
    logprob = given["logprob"].detach().clone().requires_grad_()
    loss = resolve("losses", name)(**{**given, "logprob": logprob, "advantage": torch.zeros(TOKENS)})
    loss.sum().backward()
    assert not loss.any()
    assert not logprob.grad.any()


@every_method
def test_unknown_settings_are_refused(name):
    with pytest.raises(TypeError, match="no_such_setting"):
        resolve("losses", name)(**arguments(name), no_such_setting=1)


@every_method
def test_it_is_documented_and_tested(name, assert_documented, assert_tested):
    assert_documented(resolve("losses", name))
    assert_tested("losses", name)
