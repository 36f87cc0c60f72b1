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


PER_EPISODE = {"group_of_episode", "success", "return_of_episode"}


def tensors(seed=0):
    """All that a loss may ask for: three episodes of two steps of two tokens, two of the episodes in one group."""
    generator = torch.Generator().manual_seed(seed)

    def draw(size=TOKENS):
        return torch.randn(size, generator=generator, dtype=torch.float64)

    return {
        "logprob": -draw().abs(),
        "behavior_logprob": -draw().abs(),
        "sampler_logprob": -draw().abs(),
        "reference_logprob": -draw().abs(),
        "advantage": draw(),
        "token_entropy": draw().abs(),
        "step_of_token": torch.arange(TOKENS) // 2,
        "episode_of_token": torch.arange(TOKENS) // 4,
        "group_of_episode": torch.tensor([4, 4, 9]),
        "success": torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64),
        "return_of_episode": torch.tensor([1.5, -0.5, 1.0], dtype=torch.float64),
    }


def arguments(name, seed=0):
    """What the method asks for without a default: tensors, 2 for a setting, and the state that it begins with."""
    known = tensors(seed)
    parameters = inspect.signature(resolve("losses", name)).parameters.values()
    required = [p for p in parameters if p.default is p.empty]
    settings = {p.name: p.annotation(2) for p in required if p.name not in known and p.name != "state"}
    chosen = {p.name: known[p.name] for p in required if p.name in known} | settings
    if any(p.name == "state" for p in required):
        chosen["state"] = module(name).initial_state(**settings)
    for trained in ("logprob", "token_entropy"):
        if trained in chosen:
            chosen[trained].requires_grad_()
    return chosen


def at_tokens(given, keep):
    """The arguments of some tokens; what is told of episodes stays that of the whole batch."""
    return {
        key: value[keep] if isinstance(value, torch.Tensor) and key not in PER_EPISODE else value
        for key, value in given.items()
    }


def in_single_precision(given):
    """Without gradient."""
    return {
        key: value.detach().float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for key, value in given.items()
    }


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
    gradients = [given[key].grad for key in ("logprob", "token_entropy") if key in given]
    assert gradients
    assert all(torch.isfinite(gradient).all() and gradient.abs().sum() > 0 for gradient in gradients)


@every_method
def test_the_precision_of_the_model_is_kept(name):
    assert resolve("losses", name)(**in_single_precision(arguments(name))).dtype == torch.float32


@every_method
def test_enormous_ratios_have_finite_losses_and_gradients(name):
    # Half of the tokens became impossible since they were played, the others were impossible before.
    given = in_single_precision(arguments(name))
    far = torch.where(torch.arange(TOKENS) % 2 == 0, -800.0, 0.0)
    for key in given:
        if key.endswith("logprob"):
            given[key] = far.clone() if key == "logprob" else -800.0 - far
    for key in ("logprob", "token_entropy"):
        if key in given:
            given[key].requires_grad_()
    loss = resolve("losses", name)(**given)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert all(torch.isfinite(given[key].grad).all() for key in ("logprob", "token_entropy") if key in given)


@every_method
def test_no_tokens_have_no_loss(name):
    given = at_tokens(arguments(name), slice(0, 0))
    assert resolve("losses", name)(**given).shape == (0,)


@every_method
def test_the_inputs_stay_as_they_are(name):
    given = arguments(name)
    before = {key: value.detach().clone() for key, value in given.items() if isinstance(value, torch.Tensor)}
    resolve("losses", name)(**given)
    assert all(torch.equal(given[key], before[key]) for key in before)


@every_method
def test_it_hears_of_reply_tokens_and_episodes_only(name):
    # What the policy read has no log-probability: no column lies over the tokens of contexts, so that none can enter
    # a loss, whatever stands there.
    assert {column.axis for column in COLUMNS.values()} == {"E", "N", "K"}
    parameters = inspect.signature(resolve("losses", name)).parameters.values()
    taken = {p.name for p in parameters if "Tensor" in str(p.annotation)}
    assert taken <= set(tensors())


@every_method
def test_what_it_says_of_a_token_needs_no_other_minibatch(name):
    # Minibatches hold whole episodes, and whole groups where the module says so.
    split = getattr(module(name), "SPLIT", "episode")
    assert split in ("episode", "group")
    assert split == "episode" or not module(name).MERGEABLE
    given = arguments(name)
    parts = [slice(0, 8), slice(8, 12)] if split == "group" else [slice(0, 4), slice(4, 8), slice(8, 12)]
    alone = [resolve("losses", name)(**at_tokens(given, part)) for part in parts]
    torch.testing.assert_close(torch.cat(alone), resolve("losses", name)(**given))


@every_method
def test_a_mergeable_loss_of_a_token_depends_on_that_token_only(name):
    if not module(name).MERGEABLE:
        return  # By its own word its tokens belong together.
    given = arguments(name)
    loss = resolve("losses", name)(**given)
    alone = [resolve("losses", name)(**at_tokens(given, slice(k, k + 1))) for k in range(TOKENS)]
    torch.testing.assert_close(torch.cat(alone), loss)


@every_method
@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_a_silent_loss_grows_in_proportion_to_the_advantage(name, scale):
    if not getattr(module(name), "SILENT", False):
        return
    given = arguments(name)
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
