"""What every loss of pairs in `preferences/` promises, found by listing the folder."""

import importlib
import inspect

import pytest
import torch

from lapwing.core.columns import COLUMNS
from lapwing.core.pair_batch import PAIR_TENSORS
from lapwing.core.registry import describe, names, resolve
from lapwing.preferences._adapter import over_tokens, tensors_of_tokens

every_method = pytest.mark.parametrize("name", names("preferences"))
PAIRS = 5


def module(name):
    return importlib.import_module(f"lapwing.preferences.{name}")


def arguments(name, seed=0):
    """All tensors that the method takes; those of the trained policy have a gradient."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for key in inspect.signature(resolve("preferences", name)).parameters:
        if key not in PAIR_TENSORS:
            continue
        drawn = torch.randn(PAIRS, generator=generator, dtype=torch.float64)
        found[key] = -3.0 * drawn.abs() if key.endswith(("logprob", "reference")) else drawn
        if key.endswith("length"):
            found[key] = drawn.abs().ceil() + 1.0
        if key.endswith(("logprob", "divergence")):
            found[key].requires_grad_()
    return found


@every_method
def test_the_module_says_what_the_method_is(name):
    assert set(module(name).NEEDS) <= set(COLUMNS)
    assert describe("preferences", name).needs == module(name).NEEDS
    assert set(module(name).NEEDS) <= set(tensors_of_tokens(resolve("preferences", name), {}))


@every_method
def test_all_parameters_are_keywords_and_settings_have_defaults(name):
    parameters = inspect.signature(resolve("preferences", name)).parameters.values()
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters)
    assert all(p.default is not p.empty for p in parameters if p.name not in PAIR_TENSORS)
    assert {"chosen_logprob"} <= {p.name for p in parameters}


@every_method
def test_there_is_one_finite_number_per_pair_with_a_finite_gradient(name):
    given = arguments(name)
    loss = resolve("preferences", name)(**given)
    assert loss.shape == (PAIRS,)
    assert loss.dtype == torch.float64
    assert torch.isfinite(loss).all()
    loss.sum().backward()
    gradients = [tensor.grad for tensor in given.values() if tensor.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() and gradient.abs().sum() > 0 for gradient in gradients)


@every_method
def test_the_loss_of_a_pair_depends_on_that_pair_only(name):
    given = {key: tensor.detach() for key, tensor in arguments(name).items()}
    loss = resolve("preferences", name)
    alone = [loss(**{key: tensor[p : p + 1] for key, tensor in given.items()}) for p in range(PAIRS)]
    torch.testing.assert_close(torch.cat(alone), loss(**given))
    assert loss(**{key: tensor[:0] for key, tensor in given.items()}).shape == (0,)


@every_method
def test_the_precision_of_the_model_is_kept(name):
    given = {key: tensor.detach().float() for key, tensor in arguments(name).items()}
    assert resolve("preferences", name)(**given).dtype == torch.float32


@every_method
def test_the_inputs_stay_as_they_are(name):
    given = arguments(name)
    before = {key: tensor.detach().clone() for key, tensor in given.items()}
    resolve("preferences", name)(**given)
    assert all(torch.equal(given[key], before[key]) for key in given)


@every_method
def test_it_prefers_the_chosen(name):
    # A step against the gradient makes the chosen more likely, or the rejected less.
    given = arguments(name)
    if "margin" in given:
        given["margin"] = given["margin"].abs()
    settings = {"beta": 0.0} if "chosen_divergence" in given else {}
    resolve("preferences", name)(**given, **settings).sum().backward()
    assert (given["chosen_logprob"].grad < 0.0).all()
    if "rejected_logprob" in given:
        assert (given["rejected_logprob"].grad > 0.0).all()


@every_method
def test_the_log_probabilities_of_contexts_and_of_the_sampler_are_not_asked_for(name):
    # What is not asked for cannot change the loss.
    wanted = set(tensors_of_tokens(resolve("preferences", name), {}))
    columns = {"reference_logprob", "episode_of_token", "chosen", "rejected", "pair_weight", "pair_margin", "weight"}
    assert wanted <= columns


@every_method
def test_a_stage_without_pairs_has_a_loss_of_0(name):
    loss = over_tokens(resolve("preferences", name))
    none = torch.zeros(0, dtype=torch.int64)
    known = {
        "logprob": torch.full((3,), -1.0, requires_grad=True),
        "reference_logprob": torch.full((3,), -1.0),
        "episode_of_token": torch.tensor([0, 0, 1]),
        "chosen": none,
        "rejected": none,
        "pair_weight": torch.zeros(0),
        "pair_margin": torch.zeros(0),
        "weight": torch.ones(3),
    }
    found = loss(**{key: known[key] for key in inspect.signature(loss).parameters})
    found.sum().backward()
    assert not found.any()
    assert not known["logprob"].grad.any()


@every_method
def test_unknown_settings_are_refused(name):
    with pytest.raises(TypeError, match="no_such_setting"):
        resolve("preferences", name)(**arguments(name), no_such_setting=1)


@every_method
def test_it_is_documented_and_tested(name, assert_documented, assert_tested):
    assert_documented(resolve("preferences", name))
    assert "\nProvenance: " in (resolve("preferences", name).__doc__ or "").replace("\n    ", "\n")
    assert_tested("preferences", name)
